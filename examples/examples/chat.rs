//! Chat rooms over WebSocket: what one says, all in the room hear.
//!
//! The lesson: [`App::received`] gets the messages of subscribers. It may answer the one who sent it, end its
//! connection, or publish to all with a [`Publisher`] of its own.
//!
//! ```sh
//! cargo run --package stentor-examples --example chat
//! ```
//!
//! Open <http://127.0.0.1:8080/> twice. Whoever only wants to listen needs no WebSocket:
//!
//! ```sh
//! curl -N 'http://127.0.0.1:8080/events?topic=chat/lobby&transport=sse'
//! ```

use std::error::Error;
use std::sync::{Arc, OnceLock};

use stentor::{Admission, App, Engine, Event, Message, Publisher, Refusal, Request, Response, Subscriber};

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Chat</title>
<ul id="said"></ul>
<form><input autofocus autocomplete="off" placeholder="/quit ends it"></form>
<script type="module">
const name = prompt("Your name?") ?? "";
const query = new URLSearchParams({ topic: "chat/lobby", name });
const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/events?${query}`);
const show = (text) => document.getElementById("said").append(
  Object.assign(document.createElement("li"), { textContent: text }));
socket.onmessage = ({ data }) => show(data);
socket.onclose = ({ code, reason }) => show(`closed: ${code} ${reason}`);
document.forms[0].onsubmit = (event) => {
  event.preventDefault();
  socket.send(event.target[0].value);
  event.target.reset();
};
</script>
</html>
"#;

struct Chat {
    /// The engine's, which there is only once the engine was started with this app.
    publisher: Arc<OnceLock<Publisher>>,
}

/// What is kept with the subscription of someone who may speak.
struct Speaker {
    name: String,
    room: String,
}

impl App for Chat {
    async fn subscribe(&self, request: &Request<'_>) -> Admission {
        let room = match request.matchers {
            [room] if room.as_str().starts_with("chat/") && !room.is_wildcard() => room.to_string(),
            _ => return refuse("topic", "topic is not one room, such as chat/lobby"),
        };
        let Some(name) = request.param("name") else { return Admission::as_asked(request) };
        if !(1..=32).contains(&name.chars().count()) {
            return refuse("name", "name has not 1 to 32 characters");
        }
        Admission::as_asked(request).with_data(Arc::new(Speaker { name: name.into(), room }))
    }

    fn received(&self, subscriber: &mut Subscriber<'_>, message: Message<'_>) {
        let Some(speaker) = subscriber.data::<Speaker>() else {
            return subscriber.close(4403, "who wants to speak needs a name");
        };
        match message {
            Message::Text("/quit") => subscriber.close(1000, "bye"),
            Message::Text(text) => {
                if let Err(error) = self.say(speaker, &format!("{}: {text}", speaker.name)) {
                    subscriber.reply(Message::Text(&format!("not said: {error}")));
                }
            }
            Message::Binary(_) => subscriber.reply(Message::Text("only text can be said here")),
        }
    }

    fn opened(&self, subscriber: &mut Subscriber<'_>) {
        self.announce(subscriber, "is here");
    }

    fn closed(&self, subscriber: &Subscriber<'_>) {
        self.announce(subscriber, "has left");
    }

    async fn request(&self, request: &Request<'_>) -> Option<Response> {
        (request.path == "/").then(|| Response::ok("text/html; charset=utf-8", PAGE))
    }
}

impl Chat {
    fn announce(&self, subscriber: &Subscriber<'_>, what: &str) {
        if let Some(speaker) = subscriber.data::<Speaker>()
            && let Err(error) = self.say(speaker, &format!("{} {what}", speaker.name))
        {
            eprintln!("{} {what}, which was not said: {error}", speaker.name);
        }
    }

    /// Publishes to the room. Does not wait, as nothing in an `App` may.
    fn say(&self, speaker: &Speaker, text: &str) -> Result<(), Box<dyn Error>> {
        let publisher = self.publisher.get().ok_or("the chat is about to begin")?;
        publisher.publish(Event::text(&speaker.room, text)?)?;
        Ok(())
    }
}

fn refuse(field: &str, detail: &str) -> Admission {
    Admission::Refuse(Refusal::new(400, detail).field(field))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let publisher = Arc::new(OnceLock::new());
    let engine =
        Engine::builder().listen(address.parse()?).start(Chat { publisher: Arc::clone(&publisher) })?;
    publisher.get_or_init(|| engine.publisher());
    println!("http://{}/", engine.local_addrs()[0]);
    // The engine serves until the process is ended.
    loop {
        std::thread::park();
    }
}
