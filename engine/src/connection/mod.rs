//! A connection in its task phase: from the accept, or from its next request, until it is parked or over.
//!
//! ```text
//! serve → http1 (heads, keep-alive) → routes → publish | subscribe | the embedder's own
//!                                                        └→ poll (answered here) | upgrade | `Park`
//! ```
//! Everything here runs as a task of one shard's runtime. What a parked connection does is the shard's.

mod admission;
mod answer;
mod asked;
mod cors;
mod deadlines;
mod http1;
mod poll;
mod publish;
mod request;
mod routes;
mod serve;
mod socket;
mod stream_heads;
mod subscribe;
mod upgrade;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use self::admission::{AdmissionError, Admissions, Permit, RawPermit};
pub(crate) use self::deadlines::Deadlines;
pub(crate) use self::request::OwnedRequest;
pub(crate) use self::serve::{begin, refuse};
use crate::app::{AnyApp, Grant};
use crate::config::Config;
use crate::cursor::{Cursor, Offset};
use crate::metrics::Metrics;
use crate::publish::Sequencer;
use crate::sys::{SendOutcome, SocketId};
use crate::topic::{Matcher, Topic};
use crate::transport::{Format, Framing, Transport};

/// What the tasks of one shard share.
pub(crate) struct Context {
    pub sequencer: Arc<Sequencer>,
    pub config: Arc<Config>,
    pub app: Arc<dyn AnyApp>,
    pub metrics: Arc<Metrics>,
    pub admissions: Arc<Admissions>,
    /// Set once, when the engine begins to drain: nothing new is let in.
    pub is_draining: Arc<AtomicBool>,
    pub shard: usize,
    pub park: Box<dyn Park>,
    /// What only the tasks touch.
    pub local: Local,
}

/// What the tasks of a shard share among themselves.
#[derive(Default)]
pub(crate) struct Local {
    deadlines: Deadlines,
    /// Connections that are being refused.
    refusing: Cell<usize>,
    /// Bytes of answers that are being sent.
    sending: Cell<usize>,
    /// How old cursors are.
    heads: RefCell<poll::Heads>,
    /// The heads of the streams that began in this second.
    stream_heads: RefCell<stream_heads::StreamHeads>,
    /// The state of the jitter; 0 before the first use.
    jitter: Cell<u64>,
}

impl Local {
    /// Has every wait of the shard's tasks be over at once, now and from here on: the time to drain is.
    pub(crate) fn end_waits(&self) {
        self.deadlines.end();
    }

    /// Good enough to spread things (xorshift64*).
    fn random(&self) -> u64 {
        let mut state = self.jitter.get();
        if state == 0 {
            state = RandomState::new().hash_one(0) | 1;
        }
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.jitter.set(state);
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

impl Context {
    /// Whether nothing new is let in any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Whether answers that peers do not read hold as much memory as half-sent events may.
    fn is_sending_too_much(&self) -> bool {
        let max = self.config.retention.all_bytes / 100 * usize::from(self.config.limits.half_sent_percent);
        self.local.sending.get() > max
    }

    /// A reconnection time, jittered so that those who were sent away together do not come back together; at
    /// least `seconds`.
    fn retry_ms(&self, seconds: u32) -> u32 {
        let timing = &self.config.timing;
        let least = timing.retry_ms_min.max(seconds.saturating_mul(1_000));
        let spread = timing.retry_ms_max.saturating_sub(timing.retry_ms_min);
        least.saturating_add((self.local.random() % (u64::from(spread) + 1)) as u32)
    }
}

/// A connection's socket as it goes from hand to hand.
pub(crate) enum Handle {
    /// A descriptor of its own.
    Open(OwnedFd),
    /// It is still parked, in no slot: most requests are answered without taking it back.
    Parked(Lent),
}

/// A parked socket that is in no slot while a request of it is served. Dropped, it is closed.
pub(crate) struct Lent {
    context: Rc<Context>,
    /// None once somebody else has it.
    socket: Option<SocketId>,
}

impl Lent {
    pub(crate) fn new(context: Rc<Context>, socket: SocketId) -> Self {
        Self { context, socket: Some(socket) }
    }

    /// The socket, for who puts it into a slot.
    pub(crate) fn into_socket(mut self) -> Option<SocketId> {
        self.socket.take()
    }

    /// Whether there may be something to receive.
    fn may_be_readable(&self) -> bool {
        self.socket.is_some_and(|socket| self.context.park.may_be_readable(socket))
    }

    /// Sends what fits at once; none if all of it did.
    fn send(&self, bytes: &[u8]) -> Option<SendOutcome> {
        self.socket.and_then(|socket| self.context.park.send(socket, bytes))
    }

    /// A descriptor instead.
    ///
    /// # Errors
    /// The process is out of descriptors; the connection is reset then.
    fn open(mut self) -> io::Result<OwnedFd> {
        let socket = self.socket.take().ok_or(io::ErrorKind::NotConnected)?;
        self.context.park.take_back(socket)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.context.park.close(socket);
        }
    }
}

/// The shard, as a task sees it. `subscribe` and `wait_for_request` take the connection away: the task ends.
pub(crate) trait Park {
    /// Parks a connection as a subscriber. The shard sends `subscription.head` with the first bytes.
    fn subscribe(&self, socket: Handle, permit: Permit, subscription: Box<Subscription>);

    /// Parks a connection that has no request. When bytes come, [`begin`] is called again; after
    /// `timing.idle_seconds` it is closed.
    fn wait_for_request(&self, socket: Handle, permit: Permit);

    /// See [`Lent::may_be_readable`].
    fn may_be_readable(&self, socket: SocketId) -> bool;

    /// See [`Lent::send`].
    fn send(&self, socket: SocketId, bytes: &[u8]) -> Option<SendOutcome>;

    /// See [`Lent::open`].
    fn take_back(&self, socket: SocketId) -> io::Result<OwnedFd>;

    /// Closes a socket that is in no slot.
    fn close(&self, socket: SocketId);

    /// Counts the subscribers of all shards whose matchers name `topic`.
    fn subscribers_of<'a>(&'a self, topic: &'a Topic) -> Pin<Box<dyn Future<Output = u64> + 'a>>;
}

/// Everything that the shard needs to know of a new subscriber.
pub(crate) struct Subscription {
    /// What it hears: sorted, none twice, 1 to `limits.matchers`; none at all only where `is_v1`, whose
    /// client subscribes by a command.
    pub matchers: Vec<Matcher>,
    pub transport: Transport,
    pub format: Format,
    pub framing: Framing,
    /// Header lines of a long poll's answer that differ between requests (CORS, `Vary`), each with its CRLF;
    /// without `Date`. Empty for other transports, whose head is in `head`.
    pub extra_head: Cow<'static, str>,
    /// Most events of a long poll's answer.
    pub limit: u16,
    /// Bytes that are to be sent before anything else: the response head (and the head of an iframe's
    /// document), or the 101. None for a long poll.
    pub head: Option<Rc<[u8]>>,
    /// Its place.
    pub after: Offset,
    /// What counts as told of gaps.
    pub told: Offset,
    /// The cursor asked for, where it is of another epoch: the gap from it comes before everything else.
    /// `head` has no `Stentor-Cursor` then.
    pub old: Option<Cursor>,
    /// How long a long poll is held.
    pub wait_seconds: u32,
    /// Whether the connection is kept after a long poll's answer.
    pub keeps_alive: bool,
    /// Whether the request was HTTP/1.0.
    pub is_http10: bool,
    /// What the embedder admits it to.
    pub grant: Grant,
    /// Whether it is a WebSocket that speaks `stentor.v1`.
    pub is_v1: bool,
    /// What was agreed on with a WebSocket that compresses; `framing` has the window of what we send.
    pub deflate: Option<stentor_protocol::ws::deflate::Params>,
    /// Bytes that came after the request head: the first frames of a WebSocket, or the next request.
    pub leftover: Vec<u8>,
    /// The request, for [`crate::App::subscribe`] of later commands; only where `is_v1`.
    pub request: Option<Box<OwnedRequest>>,
}

#[cfg(test)]
mod tests;
