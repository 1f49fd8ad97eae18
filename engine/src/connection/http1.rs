//! One connection's requests, one after the other: heads in, answers out, and how the connection goes on.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use stentor_protocol::h1::query::{decode_path, parse_query};
use stentor_protocol::h1::request::decode_head;
use stentor_protocol::h1::{BodyDecoder, BodyFraming, HeadLimits, Version, head::FIELDS_MAX};

use super::answer::{Answer, Manner};
use super::cors::Standing;
use super::publish::{Bucket, path_problem};
use super::request::OwnedRequest;
use super::socket::{BODY_READ_BYTES, Read, Socket};
use super::{Context, Permit, asked};
use crate::error::{Problem, Refusable};
use crate::metrics::{Figures, Refused, StatusClass};

/// How long a new connection is waited for before it is parked like one that has no request.
const FIRST_BYTE: Duration = Duration::from_secs(1);

/// A publisher's connection waits at least so long for its next request: the next one often comes at once,
/// and parking in between costs more than the wait.
const PUBLISHER_WAIT: Duration = Duration::from_millis(50);

/// A connection while it is a task.
pub(super) struct Conversation {
    pub(super) context: Rc<Context>,
    pub(super) socket: Socket,
    pub(super) permit: Option<Permit>,
    /// Publishes that are still allowed; made with the first.
    pub(super) publishes: Option<Bucket>,
    pub(super) out: Vec<u8>,
    /// A refusal of the head that was read last has no body.
    pub(super) refuses_head: bool,
}

/// Bytes of an answer, counted while they are being sent.
struct Sending {
    context: Rc<Context>,
    bytes: usize,
}

impl Sending {
    fn new(context: &Rc<Context>, bytes: usize) -> Self {
        let sending = &context.local.sending;
        sending.set(sending.get() + bytes);
        Self { context: Rc::clone(context), bytes }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let sending = &self.context.local.sending;
        sending.set(sending.get() - self.bytes);
    }
}

/// A request whose head has come.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) request: OwnedRequest,
    /// The host and port that it was sent to.
    pub(super) authority: Option<String>,
    pub(super) is_http10: bool,
    pub(super) framing: BodyFraming,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
}

impl Incoming {
    pub(super) fn is_head(&self) -> bool {
        self.request.method == "HEAD"
    }

    pub(super) fn has_body(&self) -> bool {
        !matches!(self.framing, BodyFraming::None | BodyFraming::Length(0))
    }
}

/// How a connection goes on after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// With the next request.
    Request,
    /// Not at all.
    Close,
    /// As a subscriber; the request's `Subscription` is with the caller.
    Subscribe,
}

/// What came instead of a head.
#[derive(Debug)]
pub(super) enum NoHead {
    /// Nothing came: there is no request.
    Idle,
    /// The connection is over, without a word or in the middle of one.
    Over,
    /// A head that is none, or was too slow.
    Refused(Box<Problem>),
}

impl Conversation {
    pub(super) fn figures(&self) -> &Figures {
        self.context.metrics.shard(self.context.shard)
    }

    /// The next request, of the bytes that are there and those that come. Where there is not one byte yet, it
    /// is waited for at most `first_byte`.
    pub(super) async fn next_head(&mut self, first_byte: Duration) -> Result<Incoming, NoHead> {
        let config = self.context.config.clone();
        let limits = HeadLimits { bytes: config.limits.head_bytes, fields: FIELDS_MAX };
        let whole = Duration::from_secs(config.timing.head_seconds.into());
        let mut deadline = None;
        let mut tried = 0;
        self.socket.take_turn().await;
        loop {
            if self.is_worth_a_try(tried, limits.bytes) {
                tried = self.socket.buffer.len();
                match self.decode(&limits) {
                    Ok(Some(incoming)) => return Ok(incoming),
                    Ok(None) => {}
                    Err(problem) => return Err(NoHead::Refused(problem)),
                }
            }
            let now = Instant::now();
            let is_empty = self.socket.buffer.is_empty();
            // The whole head has so much time, however slowly it drips in.
            let until = match deadline {
                Some(deadline) => deadline,
                None if is_empty => now + first_byte,
                None => *deadline.insert(now + whole),
            };
            match self.socket.receive_head_until(until).await {
                Read::Data => {}
                Read::Elapsed if is_empty => return Err(NoHead::Idle),
                Read::Elapsed => {
                    let detail = format!("no whole request head within {} seconds", whole.as_secs());
                    let problem = Problem::new(408, Refused::Timeout, detail).field("head").closing();
                    return Err(NoHead::Refused(Box::new(problem)));
                }
                Read::End | Read::Broken => return Err(NoHead::Over),
            }
        }
    }

    /// Each try reads the buffer from its start, so a head that comes byte by byte is tried only where it may
    /// have become whole, or wrong in a way that is worth telling soon.
    fn is_worth_a_try(&self, tried: usize, limit: usize) -> bool {
        let buffer = &self.socket.buffer;
        let fresh = buffer.get(tried..).unwrap_or_default();
        !buffer.is_empty() && (tried == 0 || fresh.contains(&b'\n') || buffer.len() >= limit.min(2 * tried))
    }

    /// The head at the start of the buffer, which is taken out of it.
    fn decode(&mut self, limits: &HeadLimits) -> Refusable<Option<Incoming>> {
        let Some((head, used)) = decode_head(&self.socket.buffer, limits)? else { return Ok(None) };
        let (path, query) = head.target_path_and_query();
        let query = parse_query(query.unwrap_or_default());
        let path = decode_path(path);
        let peer = match &self.permit {
            Some(permit) => permit.peer(),
            None => ([0, 0, 0, 0], 0).into(),
        };
        let head_is_head = head.method == "HEAD";
        // The head is whole, so what is wrong with the target's encoding does not end the connection.
        let (fault, path, query) = match (path, query) {
            (Ok(path), Ok(query)) => (None, path, query),
            (Err(fault), _) => (Some(path_problem(fault)), "".into(), Vec::new()),
            (_, Err(error)) => (Some(error.into()), "".into(), Vec::new()),
        };
        let incoming = Incoming {
            request: OwnedRequest::new(&head, &path, query, peer),
            authority: head.authority().map(str::to_owned),
            is_http10: head.version == Version::Http10,
            framing: head.framing,
            keeps_alive: head.keeps_alive,
            expects_continue: head.expects_continue,
        };
        self.refuses_head = head_is_head;
        self.socket.buffer.drain(..used);
        match fault {
            Some(problem) => Err(Box::new(problem.closing())),
            None => Ok(Some(incoming)),
        }
    }

    /// Answers `incoming`; afterwards the connection goes on as it and the answer allow.
    pub(super) async fn answer(&mut self, incoming: &Incoming, answer: &Answer) -> Next {
        let lines = self.cors_lines(incoming);
        self.answer_with(incoming, answer, &lines).await
    }

    /// As [`Self::answer`], with these header lines.
    pub(super) async fn answer_with(&mut self, incoming: &Incoming, answer: &Answer, lines: &str) -> Next {
        let keeps_alive = self.keeps_alive(incoming);
        let manner = Manner {
            is_http10: incoming.is_http10,
            is_head: incoming.is_head(),
            keeps_alive,
            extra_head: lines,
        };
        self.out.clear();
        answer.encode(&manner, &mut self.out);
        self.send_out(answer.status, keeps_alive).await
    }

    /// Sends what `out` holds.
    pub(super) async fn send_out(&mut self, status: u16, keeps_alive: bool) -> Next {
        self.figures().responses(StatusClass::of(status)).add(1);
        let out = std::mem::take(&mut self.out);
        let sending = Sending::new(&self.context, out.len());
        let is_sent = self.socket.send_all(&out).await;
        drop(sending);
        // A small buffer serves the next answer, a large one does not stay.
        if out.capacity() <= BODY_READ_BYTES {
            self.out = out;
        }
        if is_sent && keeps_alive { Next::Request } else { Next::Close }
    }

    /// Whether a next request may follow `incoming` on this connection.
    pub(super) fn keeps_alive(&self, incoming: &Incoming) -> bool {
        incoming.keeps_alive && !self.context.is_draining() && self.permit.is_some()
    }

    pub(super) fn cors_lines(&self, incoming: &Incoming) -> Cow<'static, str> {
        let cors = &self.context.config.cors;
        Standing::of(cors, &incoming.request, incoming.authority.as_deref()).all_lines(cors)
    }

    /// Answers with a refusal. A body that is not read yet ends the connection, unless it is there whole and
    /// small.
    pub(super) async fn refuse(&mut self, incoming: &mut Incoming, problem: &Problem) -> Next {
        self.count(problem);
        if problem.must_close || !self.skip_body(incoming) {
            incoming.keeps_alive = false;
        }
        if problem.is_temporary() && self.is_event_source(incoming) {
            let retry_ms = self.context.retry_ms(problem.retry_after_seconds.unwrap_or(0));
            let mut answer = Answer::new(200)
                .field("Content-Type", "text/event-stream")
                .field("Cache-Control", "no-cache, no-transform");
            answer.body = format!("retry: {retry_ms}\n\n").into_bytes();
            return self.answer(incoming, &answer).await;
        }
        self.answer(incoming, &Answer::from(problem)).await
    }

    /// An `EventSource` gives up for ever on anything but 200, so it is told to come back later, unless it
    /// asks for the truth.
    fn is_event_source(&self, incoming: &Incoming) -> bool {
        let request = &incoming.request;
        matches!(&*request.method, "GET" | "HEAD")
            && request.path == self.context.config.path.0
            && asked::accepts_event_stream(request)
            && asked::param(request, "status") != Some("strict")
    }

    pub(super) fn count(&self, problem: &Problem) {
        self.figures().refusals(problem.reason).add(1);
        if let Some(kind) = problem.malformed {
            self.figures().malformed(kind).add(1);
        }
    }

    /// Takes the body of a request that is answered without it out of the buffer, if it is there whole.
    fn skip_body(&mut self, incoming: &mut Incoming) -> bool {
        let length = match std::mem::replace(&mut incoming.framing, BodyFraming::None) {
            BodyFraming::None => return true,
            // A client that waits for our leave may send the body or not: nobody can tell where the next
            // request begins.
            _ if incoming.expects_continue => return false,
            BodyFraming::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyFraming::Chunked => return false,
        };
        let is_there = self.socket.buffer.len() >= length;
        if is_there {
            self.socket.buffer.drain(..length);
        }
        is_there
    }

    /// Reads the body of `incoming`, at most `bytes_max` of data.
    ///
    /// # Errors
    /// A refusal, or `Break` if the connection is over.
    pub(super) async fn read_body(
        &mut self,
        incoming: &mut Incoming,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ControlFlow<(), Box<Problem>>> {
        let seconds = self.context.config.timing.body_seconds;
        let deadline = Instant::now() + Duration::from_secs(seconds.into());
        let framing = std::mem::replace(&mut incoming.framing, BodyFraming::None);
        let refuse = |incoming: &mut Incoming, problem: Box<Problem>| {
            incoming.keeps_alive = false;
            Err(ControlFlow::Continue(problem))
        };
        let mut body = match BodyDecoder::new(framing, bytes_max as u64) {
            Ok(body) => body,
            Err(error) => return refuse(incoming, error.into()),
        };
        // Who has sent some of it already does not wait (RFC 9110 §10.1.1).
        let waits = incoming.expects_continue && self.socket.buffer.is_empty();
        if waits && !self.socket.send_all(b"HTTP/1.1 100 Continue\r\n\r\n").await {
            return Err(ControlFlow::Break(()));
        }
        let mut data = Vec::new();
        loop {
            let used = match body.decode(&self.socket.buffer, &mut data) {
                Ok(used) => used,
                Err(error) => return refuse(incoming, error.into()),
            };
            self.socket.buffer.drain(..used);
            if body.is_done() {
                return Ok(data);
            }
            match self.socket.receive_until(deadline, BODY_READ_BYTES).await {
                Read::Data => {}
                Read::End | Read::Broken => return Err(ControlFlow::Break(())),
                Read::Elapsed => {
                    let detail = format!("no whole request body within {seconds} seconds");
                    let problem = Problem::new(408, Refused::Timeout, detail).field("body").closing();
                    return refuse(incoming, Box::new(problem));
                }
            }
        }
    }

    /// How long a connection that has no next request is kept as a task: a publisher's for a moment, and
    /// until its count of publishes may be forgotten, since a parked connection has none.
    pub(super) fn patience(&self) -> Duration {
        let Some(bucket) = &self.publishes else { return Duration::ZERO };
        bucket.full_at().saturating_duration_since(Instant::now()).max(PUBLISHER_WAIT)
    }

    pub(super) fn first_byte() -> Duration {
        FIRST_BYTE
    }
}
