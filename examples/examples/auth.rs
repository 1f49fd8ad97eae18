//! Who may hear what, and who may publish it: news that only editors write, and an inbox for each user.
//!
//! The lesson: [`App::subscribe`] and [`App::publish`] see the whole request head and decide. A subscription
//! may also be changed: whoever asks for `inbox` gets their own.
//!
//! ```sh
//! cargo run --package stentor-examples --example auth
//! curl -N 'http://127.0.0.1:8080/events?topic=news&topic=inbox&transport=sse&token=ada-secret'
//! curl -H 'Authorization: Bearer bob-secret' -d 'Hello Ada' 'http://127.0.0.1:8080/events?topic=inbox/ada'
//! ```

use std::error::Error;

use stentor::{Admission, App, Engine, Matcher, Refusal, Request, Topic};

/// A program of yours asks a database, or checks a signature. It may `await` that; it may not block.
const USERS: [User; 2] = [
    User { token: "ada-secret", name: "ada", is_editor: true },
    User { token: "bob-secret", name: "bob", is_editor: false },
];

struct User {
    token: &'static str,
    name: &'static str,
    is_editor: bool,
}

struct Auth;

impl App for Auth {
    async fn subscribe(&self, request: &Request<'_>) -> Admission {
        let user = match user(request) {
            Ok(user) => user,
            Err(refusal) => return Admission::Refuse(refusal),
        };
        match request.matchers.iter().map(|asked| user.hears(asked)).collect() {
            // `publishing` is for WebSockets, which publish without a request of their own.
            Ok(matchers) => Admission::to(matchers).publishing(user.publishes()),
            Err(refusal) => Admission::Refuse(refusal),
        }
    }

    async fn publish(&self, request: &Request<'_>, topic: Option<&Topic>) -> Result<(), Refusal> {
        let user = user(request)?;
        // A batch names its topics in its body, which is not read yet.
        let topic = topic.ok_or_else(|| Refusal::new(403, "batches are not taken here"))?;
        if user.publishes().iter().any(|matcher| matcher.matches(topic.as_str())) {
            Ok(())
        } else {
            Err(Refusal::new(403, format!("{} may not publish to {topic}", user.name)).field("topic"))
        }
    }
}

impl User {
    /// What this user hears who asks for `asked`.
    fn hears(&self, asked: &Matcher) -> Result<Matcher, Refusal> {
        match asked.as_str() {
            "news" => Ok(asked.clone()),
            "inbox" => Ok(self.inbox()),
            _ => Err(Refusal::new(403, format!("{} may not hear {asked}", self.name)).field("topic")),
        }
    }

    fn publishes(&self) -> Vec<Matcher> {
        let news = self.is_editor.then(|| matcher("news"));
        news.into_iter().chain([matcher("inbox/*")]).collect()
    }

    fn inbox(&self) -> Matcher {
        matcher(&format!("inbox/{}", self.name))
    }
}

/// The user whose token the request brings. Browsers cannot give `EventSource` and `WebSocket` a header, so a
/// parameter does as well; a cookie would be better, for it stands in no access log.
fn user(request: &Request<'_>) -> Result<&'static User, Refusal> {
    let Some(token) = request.bearer().or(request.param("token")) else {
        return Err(Refusal::new(401, "a token is needed").header("WWW-Authenticate", "Bearer"));
    };
    let known = USERS.iter().find(|user| user.token == token);
    known.ok_or_else(|| {
        Refusal::new(401, "nobody has this token")
            .header("WWW-Authenticate", r#"Bearer error="invalid_token""#)
    })
}

fn matcher(text: &str) -> Matcher {
    Matcher::new(text).expect("names of users are valid segments")
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let engine = Engine::builder().listen(address.parse()?).start(Auth)?;
    println!("http://{}/events", engine.local_addrs()[0]);
    // The engine serves until the process is ended.
    loop {
        std::thread::park();
    }
}
