//! What an embedder writes: who may subscribe and publish, own routes, and what to do with messages from
//! subscribers.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::config::SlowPolicy;
use crate::cursor::Start;
use crate::topic::{Matcher, Topic};
use crate::transport::Transport;

/// The embedder's side of the engine. Shared by all shards; every call comes on the shard that holds the
/// connection, so nothing here may block. An engine with [`Open`] admits everybody.
pub trait App: Send + Sync + 'static {
    /// Says yes or no to a subscription, and may change what was asked for. Called for every subscription on
    /// every transport, for each poll, and for each `subscribe` of a WebSocket ([`Request::matchers`] then
    /// holds the new ones).
    fn subscribe(&self, request: &Request<'_>) -> impl Future<Output = Admission> {
        let admission = Admission::as_asked(request);
        async { admission }
    }

    /// Says yes or no to publishing to `topic`: by `POST`, before the body is read. A WebSocket may publish
    /// where its
    /// [`Grant::publish`] says so.
    fn publish(
        &self,
        request: &Request<'_>,
        topic: Option<&Topic>,
    ) -> impl Future<Output = Result<(), Refusal>> {
        let _ = (request, topic);
        async { Err(Refusal::new(403, "publishing is not open here")) }
    }

    /// Answers a request for any path but the resource itself ([`crate::Config::path`]). `None` leaves it to
    /// the engine, which knows `/health`, `/ready` and `/topics/T`, and answers 404 to the rest.
    fn request(&self, request: &Request<'_>) -> impl Future<Output = Option<Response>> {
        let _ = request;
        async { None }
    }

    /// A message came over a WebSocket that speaks raw (`stentor.v1` commands are answered by the engine).
    fn received(&self, subscriber: &mut Subscriber<'_>, message: Message<'_>) {
        let _ = (subscriber, message);
    }

    /// A subscription began: its response head is sent. Not called for polls.
    fn opened(&self, subscriber: &mut Subscriber<'_>) {
        let _ = subscriber;
    }

    /// A subscription that was opened is over.
    fn closed(&self, subscriber: &Subscriber<'_>) {
        let _ = subscriber;
    }
}

/// Admits every subscriber to whatever it asks for, and nobody as a publisher.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl App for Open {}

/// A request head as the engine read it, with what it makes of it.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method, as sent: `GET`, `POST`, …
    pub method: &'a str,
    /// The path, percent-decoded, without the query.
    pub path: &'a str,
    /// The query's parameters, decoded, in order.
    pub query: &'a [(String, String)],
    /// The header fields, in order; names as sent, values trimmed.
    pub headers: &'a [(String, String)],
    /// The other side of the connection.
    pub peer: SocketAddr,
    /// What a subscription asks for; empty for other requests.
    pub matchers: &'a [Matcher],
    /// The transport that a subscription asks for.
    pub transport: Option<Transport>,
    /// The body, where the route takes one ([`App::request`]).
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The value of the first header field called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The value of the first query parameter called `name`.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The token of `Authorization: Bearer` (RFC 6750 §2.1), if there is one.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// The answer to "may this subscribe?".
#[derive(Debug, Clone)]
pub enum Admission {
    /// Yes, to this.
    Admit(Box<Grant>),
    /// No.
    Refuse(Refusal),
}

/// What a subscriber is admitted to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Grant {
    /// What it hears; at least one, at most `limits.matchers`.
    pub matchers: Vec<Matcher>,
    /// Matchers of the topics that it may publish to over its WebSocket; none by default.
    pub publish: Vec<Matcher>,
    /// Where it begins, if not where it asked.
    pub start: Option<Start>,
    /// How long it may stay, in seconds, if not as long as the configuration says.
    pub max_age_seconds: Option<u32>,
    /// What happens when it is too slow, if not what the configuration says.
    pub slow_policy: Option<SlowPolicy>,
    /// Anything of the embedder's; comes back with each [`Subscriber`].
    pub data: Option<Arc<dyn Any + Send + Sync>>,
}

impl Admission {
    /// Admits the request to what it asks for.
    pub fn as_asked(request: &Request<'_>) -> Self {
        Self::to(request.matchers.to_vec())
    }

    /// Admits to `matchers`, whatever was asked for.
    pub fn to(matchers: Vec<Matcher>) -> Self {
        Self::Admit(Box::new(Grant {
            matchers,
            publish: Vec::new(),
            start: None,
            max_age_seconds: None,
            slow_policy: None,
            data: None,
        }))
    }

    /// Refuses with a status (401, 403, 404, 429, …) and a sentence that says why.
    pub fn refuse(status: u16, detail: impl Into<String>) -> Self {
        Self::Refuse(Refusal::new(status, detail))
    }

    /// Lets it publish, over its WebSocket, to what `matchers` name.
    #[must_use]
    pub fn publishing(mut self, matchers: Vec<Matcher>) -> Self {
        if let Self::Admit(grant) = &mut self {
            grant.publish = matchers;
        }
        self
    }

    /// Lets it begin somewhere else than it asked.
    #[must_use]
    pub fn starting(mut self, start: Start) -> Self {
        if let Self::Admit(grant) = &mut self {
            grant.start = Some(start);
        }
        self
    }

    /// Ends it after so many seconds, whatever the configuration says.
    #[must_use]
    pub fn for_seconds(mut self, seconds: u32) -> Self {
        if let Self::Admit(grant) = &mut self {
            grant.max_age_seconds = Some(seconds);
        }
        self
    }

    /// Says what happens when it is too slow, whatever the configuration says.
    #[must_use]
    pub fn when_slow(mut self, policy: SlowPolicy) -> Self {
        if let Self::Admit(grant) = &mut self {
            grant.slow_policy = Some(policy);
        }
        self
    }

    /// Keeps `data` with the subscriber.
    #[must_use]
    pub fn with_data(mut self, data: Arc<dyn Any + Send + Sync>) -> Self {
        if let Self::Admit(grant) = &mut self {
            grant.data = Some(data);
        }
        self
    }
}

/// A no, as `application/problem+json` (RFC 9457) or a close code tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The status code, 400 to 599.
    pub status: u16,
    /// A sentence that says why.
    pub detail: String,
    /// The field or parameter that is wrong.
    pub field: Option<String>,
    /// When to come back, in seconds.
    pub retry_after_seconds: Option<u32>,
    /// More header lines of the answer, such as `WWW-Authenticate`.
    pub headers: Vec<(String, String)>,
}

impl Refusal {
    /// A refusal with this status and sentence.
    ///
    /// # Panics
    /// If `status` is not 400 to 599.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        assert!((400..600).contains(&status), "a refusal has a status of 400 to 599, not {status}");
        Self { status, detail: detail.into(), field: None, retry_after_seconds: None, headers: Vec::new() }
    }

    /// Names the field or parameter that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// An answer of the embedder's own routes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines; `Content-Length`, `Date` and `Connection` are added by the engine.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A 200 with this media type and body.
    pub fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: vec![("Content-Type".into(), content_type.into())], body: body.into() }
    }

    /// The same with another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Names a subscription for as long as it lives; never given twice by one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriberId(pub(crate) u64);

/// A subscription, in a call of [`App`].
#[derive(Debug)]
pub struct Subscriber<'a> {
    pub(crate) id: SubscriberId,
    pub(crate) data: Option<&'a Arc<dyn Any + Send + Sync>>,
    pub(crate) transport: Transport,
    pub(crate) outbox: Vec<Reply>,
}

/// What [`App`] wants sent to one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Binary(Vec<u8>),
    Close { code: u16, reason: String },
}

impl Subscriber<'_> {
    /// Its name.
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// What [`Admission::with_data`] gave it.
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.data.and_then(|data| data.downcast_ref())
    }

    /// How it hears events.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Sends it a message of its own, outside all topics: a WebSocket message. Ignored on other transports.
    pub fn reply(&mut self, message: Message<'_>) {
        self.outbox.push(match message {
            Message::Text(text) => Reply::Text(text.into()),
            Message::Binary(bytes) => Reply::Binary(bytes.into()),
        });
    }

    /// Ends it, with a close code (RFC 6455 §7.4; 1000, 3000 to 4999) where it is a WebSocket.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.outbox.push(Reply::Close { code, reason: reason.into() });
    }
}

/// A message of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// [`App`] behind a pointer, so that the engine is compiled once.
pub(crate) trait AnyApp: Send + Sync {
    fn subscribe<'a>(&'a self, request: &'a Request<'a>) -> Boxed<'a, Admission>;
    fn publish<'a>(
        &'a self,
        request: &'a Request<'a>,
        topic: Option<&'a Topic>,
    ) -> Boxed<'a, Result<(), Refusal>>;
    fn request<'a>(&'a self, request: &'a Request<'a>) -> Boxed<'a, Option<Response>>;
    fn received(&self, subscriber: &mut Subscriber<'_>, message: Message<'_>);
    fn opened(&self, subscriber: &mut Subscriber<'_>);
    fn closed(&self, subscriber: &Subscriber<'_>);
}

impl<A: App> AnyApp for A {
    fn subscribe<'a>(&'a self, request: &'a Request<'a>) -> Boxed<'a, Admission> {
        Box::pin(App::subscribe(self, request))
    }

    fn publish<'a>(
        &'a self,
        request: &'a Request<'a>,
        topic: Option<&'a Topic>,
    ) -> Boxed<'a, Result<(), Refusal>> {
        Box::pin(App::publish(self, request, topic))
    }

    fn request<'a>(&'a self, request: &'a Request<'a>) -> Boxed<'a, Option<Response>> {
        Box::pin(App::request(self, request))
    }

    fn received(&self, subscriber: &mut Subscriber<'_>, message: Message<'_>) {
        App::received(self, subscriber, message);
    }

    fn opened(&self, subscriber: &mut Subscriber<'_>) {
        App::opened(self, subscriber);
    }

    fn closed(&self, subscriber: &Subscriber<'_>) {
        App::closed(self, subscriber);
    }
}
