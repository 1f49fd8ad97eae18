//! Which request is for whom: the one resource, the topics, the state of the process, or the embedder.

use std::ops::ControlFlow;

use serde::Serialize;
use stentor_protocol::h1::BodyFraming;

use super::Subscription;
use super::answer::Answer;
use super::cors::{self, Standing};
use super::http1::{Conversation, Incoming, Next};
use super::publish::{Bucket, Publishing};
use crate::app::{Admission, Response};
use crate::error::{Problem, Refusable};
use crate::metrics::Refused;
use crate::publish::Publisher;
use crate::topic::{Matcher, Topic};
use crate::transport::Transport;

/// Methods that exist (RFC 9110 §9, RFC 5789); what is none of them is not implemented rather than not
/// allowed.
const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What the one resource allows.
const RESOURCE_METHODS: &str = "GET, HEAD, POST, OPTIONS";
/// What the engine's other paths allow.
const READ_METHODS: &str = "GET, HEAD, OPTIONS";

const TOPICS: &str = "/topics/";

/// Bytes of a body that is read for the embedder's routes, before anybody was asked whether it may come.
const APP_BODY_BYTES_MAX: usize = 64 << 10;

/// The answer to `GET /topics/T`.
#[derive(Serialize)]
struct TopicState<'a> {
    topic: &'a str,
    subscribers: u64,
    /// The cursor of the oldest event that is retained.
    first: Option<String>,
    /// The cursor of the newest event, retained or not.
    last: Option<String>,
    /// Events that are retained.
    events: usize,
    /// What they count against the limits in bytes.
    bytes: usize,
}

/// What a request came to, with the subscription that it was for.
pub(super) type Routed = (Next, Option<Box<Subscription>>);

/// A refusal, or a connection that is over.
pub(super) type Failed = ControlFlow<(), Box<Problem>>;

impl Conversation {
    /// Serves one request.
    pub(super) async fn route(&mut self, incoming: &mut Incoming) -> Routed {
        match self.try_route(incoming).await {
            Ok(routed) => routed,
            Err(problem) => (self.refuse(incoming, &problem).await, None),
        }
    }

    async fn try_route(&mut self, incoming: &mut Incoming) -> Refusable<Routed> {
        if self.permit.as_ref().is_some_and(super::Permit::is_loopback) {
            cors::check_loopback_host(&self.context.config.cors, incoming.authority.as_deref())?;
        }
        let is_resource = incoming.request.path == self.context.config.path.0;
        let next = match &*incoming.request.method {
            "OPTIONS" if is_resource => self.options(incoming, RESOURCE_METHODS).await?,
            "OPTIONS" if incoming.request.path == "*" => self.options(incoming, RESOURCE_METHODS).await?,
            "GET" | "HEAD" if is_resource => return Ok(self.subscribe(incoming).await),
            "POST" if is_resource => match self.publish(incoming).await {
                Ok(answer) => self.answer(incoming, &answer).await,
                Err(Failed::Break(())) => Next::Close,
                Err(Failed::Continue(problem)) => return Err(problem),
            },
            method if is_resource => return Err(not_allowed(method, RESOURCE_METHODS)),
            "CONNECT" => return Err(not_allowed("CONNECT", READ_METHODS)),
            _ => self.other(incoming).await?,
        };
        Ok((next, None))
    }

    /// A plain question for what is allowed, or a browser's before it asks across origins (WHATWG Fetch,
    /// "CORS-preflight request").
    async fn options(&mut self, incoming: &mut Incoming, methods: &'static str) -> Refusable<Next> {
        self.check_no_body(incoming)?;
        let cors = self.context.config.cors.clone();
        let request = &incoming.request;
        let standing = Standing::of(&cors, request, incoming.authority.as_deref());
        let answer = Answer::new(204).field("Allow", methods);
        if request.header("access-control-request-method").is_none() {
            return Ok(self.answer(incoming, &answer).await);
        }
        standing.check("ask for anything here")?;
        let headers = request.header("access-control-request-headers");
        let lines = format!(
            "Vary: Origin, Access-Control-Request-Headers\r\n{}{}",
            standing.header_lines(&cors),
            standing.preflight_lines(methods, headers)
        );
        Ok(self.answer_with(incoming, &answer, &lines).await)
    }

    /// Publishes what the request brings.
    async fn publish(&mut self, incoming: &mut Incoming) -> Result<Answer, Failed> {
        let config = self.context.config.clone();
        let publishing = self.admit_publish(incoming).await.map_err(ControlFlow::Continue)?;
        let bytes_max = publishing.bytes_max(&config.limits);
        let body = match self.read_body(incoming, bytes_max).await {
            Err(Failed::Continue(problem)) if problem.status == 413 => {
                return Err(Failed::Continue(Box::new(problem.field(publishing.body_field()))));
            }
            body => body?,
        };
        if self.context.is_draining() {
            // Its subscribers may be gone already, and the log goes with the process.
            return Err(Failed::Continue(Box::new(Problem::draining())));
        }
        let publisher = Publisher::new(self.context.sequencer.clone());
        let answer = publishing.publish(body, &publisher, &config.limits);
        answer.map(Answer::json).map_err(ControlFlow::Continue)
    }

    /// Everything that is decided before the body is read.
    async fn admit_publish(&mut self, incoming: &Incoming) -> Refusable<Publishing> {
        let context = self.context.clone();
        let request = &incoming.request;
        Standing::of(&context.config.cors, request, incoming.authority.as_deref()).check("publish")?;
        if incoming.framing == BodyFraming::None {
            let detail = "Content-Length is missing; an event without data has one of 0";
            let problem = Problem::new(411, Refused::BadRequest, detail).field("Content-Length");
            return Err(Box::new(problem));
        }
        if context.is_draining() {
            return Err(Box::new(Problem::draining()));
        }
        let publishing = Publishing::read(request)?;
        self.check_publish_rate()?;
        context.app.publish(&request.with_body(&[]), publishing.topic()).await?;
        Ok(publishing)
    }

    fn check_publish_rate(&mut self) -> Refusable<()> {
        let now = std::time::Instant::now();
        let limit = self.context.config.limits.publishes_per_second;
        if self.publishes.get_or_insert_with(|| Bucket::new(limit, now)).take(now) {
            return Ok(());
        }
        let detail = format!("more than {limit} publishes a second on one connection");
        Err(Box::new(Problem::new(429, Refused::Rate, detail).limit(limit.into()).retry_after(1)))
    }

    /// A path that is not the resource's: the embedder's, and where it has no answer, one of ours.
    async fn other(&mut self, incoming: &mut Incoming) -> Refusable<Next> {
        if let Some(response) = self.ask_app(incoming).await? {
            return match response {
                ControlFlow::Break(()) => Ok(Next::Close),
                ControlFlow::Continue(response) => Ok(self.answer_with(incoming, &response.into(), "").await),
            };
        }
        let path = incoming.request.path.clone();
        let is_ours = path.starts_with(TOPICS) || path == "/health" || path == "/ready";
        match &*incoming.request.method {
            "OPTIONS" if is_ours => return self.options(incoming, READ_METHODS).await,
            "GET" | "HEAD" => {}
            method if is_ours => return Err(not_allowed(method, READ_METHODS)),
            method if !KNOWN.contains(&method) => return Err(not_allowed(method, READ_METHODS)),
            _ => {}
        }
        let answer = match path.strip_prefix(TOPICS) {
            Some(topic) => self.topic(incoming, topic).await?,
            None if path == "/health" => Answer::json("{\"status\":\"ok\"}\n"),
            None if path == "/ready" && self.context.is_draining() => {
                return Err(Box::new(Problem::draining()));
            }
            None if path == "/ready" => Answer::json("{\"status\":\"ready\"}\n"),
            None => {
                let detail = format!("nothing is at {path:?}");
                return Err(Box::new(Problem::new(404, Refused::NotFound, detail).field("path")));
            }
        };
        Ok(self.answer(incoming, &answer).await)
    }

    /// What the embedder answers, if anything; `Break` if the connection is over before it could be asked.
    async fn ask_app(&mut self, incoming: &mut Incoming) -> Refusable<Option<ControlFlow<(), Response>>> {
        if matches!(&*incoming.request.method, "GET" | "HEAD") {
            self.check_no_body(incoming)?;
        }
        let bytes_max = self.context.config.limits.event_bytes.min(APP_BODY_BYTES_MAX);
        let body = match self.read_body(incoming, bytes_max).await {
            Ok(body) => body,
            Err(Failed::Break(())) => return Ok(Some(ControlFlow::Break(()))),
            Err(Failed::Continue(problem)) => return Err(problem),
        };
        let app = self.context.app.clone();
        Ok(app.request(&incoming.request.with_body(&body)).await.map(ControlFlow::Continue))
    }

    /// Who hears a topic, and what the log has of it: for whoever may subscribe to it.
    async fn topic(&mut self, incoming: &Incoming, topic: &str) -> Refusable<Answer> {
        let topic = Topic::new(topic)?;
        let context = self.context.clone();
        let matchers = [Matcher::from(topic.clone())];
        let request = incoming.request.subscribing(&matchers, Transport::Poll);
        if let Admission::Refuse(refusal) = context.app.subscribe(&request).await {
            return Err(refusal.into());
        }
        let subscribers = context.park.subscribers_of(&topic).await;
        let info = context.sequencer.topic(topic.as_str());
        let cursor = |offset| context.sequencer.cursor(offset).to_string();
        let state = TopicState {
            topic: topic.as_str(),
            subscribers,
            first: info.and_then(|info| info.first).map(cursor),
            last: info.map(|info| cursor(info.last)),
            events: info.map_or(0, |info| info.events),
            bytes: info.map_or(0, |info| info.bytes),
        };
        let mut body = serde_json::to_vec(&state).expect("strings and numbers are always JSON");
        body.push(b'\n');
        Ok(Answer::json(body))
    }

    /// A body that nobody asked for may be the start of another request, for another recipient on the way.
    pub(super) fn check_no_body(&self, incoming: &Incoming) -> Refusable<()> {
        if !incoming.has_body() {
            return Ok(());
        }
        let detail = format!("a body does not go with {} here", incoming.request.method);
        let field = match incoming.framing {
            BodyFraming::Chunked => "Transfer-Encoding",
            _ => "Content-Length",
        };
        Err(Box::new(Problem::parameter(field, detail).closing()))
    }
}

fn not_allowed(method: &str, allowed: &'static str) -> Box<Problem> {
    if KNOWN.contains(&method) {
        let detail = format!("method {method} is not allowed here; {allowed} are");
        return Box::new(Problem::new(405, Refused::Method, detail).field("method").header("Allow", allowed));
    }
    let detail = format!("method {method:?} is not implemented");
    Box::new(Problem::new(501, Refused::Unsupported, detail).field("method"))
}
