//! The server's side of the engine: everyone may subscribe; who may publish is for the configuration to say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use stentor::{Admission, App, Matcher, Message, Refusal, Request, Response, Subscriber, Topic};

use crate::routes;
use crate::running::Running;
use crate::tokens::Tokens;

/// Who may publish.
#[derive(Debug)]
pub(crate) enum PublishRight {
    /// Everyone.
    Everyone,
    /// Who shows one of these.
    Tokens(Tokens),
}

impl PublishRight {
    fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let Self::Tokens(tokens) = self else { return Ok(()) };
        match request.bearer() {
            Some(guess) if tokens.contain(guess) => Ok(()),
            // RFC 6750 §3: no error code where no credentials were shown.
            None => Err(unauthorized(
                "publishing needs a token: `Authorization: Bearer TOKEN`",
                "Bearer realm=\"publish\"",
            )),
            Some(_) => Err(unauthorized(
                "the token is not one that may publish",
                "Bearer realm=\"publish\", error=\"invalid_token\"",
            )),
        }
    }
}

fn unauthorized(detail: &str, challenge: &str) -> Refusal {
    Refusal::new(401, detail).field("Authorization").header("WWW-Authenticate", challenge)
}

/// The server's [`App`]. Cheap to clone: all copies are one.
#[derive(Clone)]
pub(crate) struct ServerApp(Arc<Inner>);

struct Inner {
    publish: PublishRight,
    has_page: bool,
    /// What was sent over raw WebSockets: nothing here wants it.
    messages_dropped: AtomicU64,
    /// Set once the engine runs; weak, since the engine holds this.
    engine: OnceLock<Weak<dyn Running>>,
}

impl ServerApp {
    pub(crate) fn new(publish: PublishRight, has_page: bool) -> Self {
        let messages_dropped = AtomicU64::new(0);
        Self(Arc::new(Inner { publish, has_page, messages_dropped, engine: OnceLock::new() }))
    }

    /// Tells it of the engine that it is the app of. The first one stays.
    pub(crate) fn attach(&self, engine: &Arc<dyn Running>) {
        let _ = self.0.engine.set(Arc::downgrade(engine));
    }

    /// The engine, while it runs.
    pub(crate) fn engine(&self) -> Option<Arc<dyn Running>> {
        self.0.engine.get()?.upgrade()
    }

    /// Whether the live page is served.
    pub(crate) fn has_page(&self) -> bool {
        self.0.has_page
    }

    /// How many messages of raw WebSockets were dropped so far.
    pub(crate) fn messages_dropped(&self) -> u64 {
        self.0.messages_dropped.load(Ordering::Relaxed)
    }
}

impl App for ServerApp {
    async fn subscribe(&self, request: &Request<'_>) -> Admission {
        let admission = Admission::as_asked(request);
        let every_topic = Matcher::new("**").ok().filter(|_| self.0.publish.check(request).is_ok());
        admission.publishing(every_topic.into_iter().collect())
    }

    async fn publish(&self, request: &Request<'_>, _topic: Option<&Topic>) -> Result<(), Refusal> {
        self.0.publish.check(request)
    }

    async fn request(&self, request: &Request<'_>) -> Option<Response> {
        routes::answer(self, request)
    }

    fn received(&self, _subscriber: &mut Subscriber<'_>, _message: Message<'_>) {
        self.0.messages_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
