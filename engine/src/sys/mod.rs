//! The operating system: parked sockets, the descriptor that wakes a shard, socket options and
//! limits. The only unsafe code of the engine is here, behind a safe face.
//!
//! # The loop of a shard
//! ```text
//! let sleeper = parked.sleeper(&eventfd)?;                // once
//! loop {
//!     while parked.harvest(max, &mut events) {            // true: more is waiting
//!         handle events; let other work have its turn;
//!     }
//!     handle the last events; take the channel; walk (send_batch); …
//!     if the last wait was over, eventfd.drain();
//!     store asleep = true; fence(SeqCst);
//!     if channel is empty && no unfinished work && !parked.has_work() {
//!         sleeper.wait().await;                           // a publisher's wake, a command, or a socket
//!     }
//!     store asleep = false;
//! }
//! ```
//! The descriptor is drained *before* the last look at what there is to do: what comes before the drain is
//! seen by the look, what comes after it leaves the descriptor readable. Who wakes the loop on its own thread
//! needs no descriptor: the wait goes on meanwhile, and nothing was drained then. A loop that has work left
//! and only wants to give the runtime's other tasks a turn calls `eventfd.wake()` and then waits, as above.
//! [`ParkedSet::harvest`] must be called at least once a second, for the waits of [`Closing::Graceful`].

mod allocator;
mod buffers;
#[cfg(test)]
pub(crate) mod counting;
mod epoll;
mod eventfd;
mod limits;
mod mixed;
mod parked;
mod ring;
mod runtime;
mod sockopt;
mod stream;
#[cfg(test)]
mod tests;
mod turn;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) use allocator::collect;
pub(crate) use buffers::Received;
pub(crate) use eventfd::{EventFd, Sleeper};
pub use limits::{
    DescriptorLimit, descriptor_limit, locked_memory_limit, raise_descriptor_limit,
    raise_locked_memory_limit, refuse_huge_pages,
};
pub(crate) use limits::{allowed_cpus, is_out_of_descriptors, pin_thread};
#[cfg(any(test, feature = "bench"))]
pub(crate) use runtime::block_on;
pub(crate) use runtime::{Runtime, spawn};
pub(crate) use sockopt::{SocketOptions, accept, listen, waiting};
pub(crate) use stream::Stream;

/// Names a parked socket, from [`ParkedSet::add`] until it is closed or taken back; then the name is given
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SocketId(pub(crate) u32);

/// How many sockets and buffers a [`ParkedSet`] has room for.
#[derive(Debug, Clone)]
pub(crate) struct ParkedOptions {
    /// What holds the sockets; [`Backend::available`] says what this kernel allows.
    pub backend: Backend,
    /// Sockets of one ring, at most [`TABLE_SOCKETS_MAX`] and the soft limit of descriptors, whichever is
    /// less. Rings are added as they fill.
    pub table_sockets: u32,
    /// Buffers that received bytes lie in until they are released; all sockets share them. At most 4,096.
    pub buffers: u16,
    /// Size of one of them.
    pub buffer_bytes: u32,
}

/// Most sockets of one ring: its table of armed polls has 256 buckets, and closing a socket searches one of
/// them.
pub(crate) const TABLE_SOCKETS_MAX: u32 = 16_384;

/// How long a graceful close waits for the peer's FIN.
const LINGER: Duration = Duration::from_secs(1);

/// How much it reads and drops meanwhile, in bytes.
const LINGER_BYTES_MAX: u64 = 64 * 1024;

impl Default for ParkedOptions {
    fn default() -> Self {
        Self { backend: Backend::Ring, table_sockets: TABLE_SOCKETS_MAX, buffers: 256, buffer_bytes: 4096 }
    }
}

/// What holds parked sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// io_uring, as direct descriptors: a parked socket uses no file descriptor. When no more rings can be
    /// made, the sockets that those there are have no place for are held by epoll beside them.
    Ring,
    /// epoll: a parked socket keeps its descriptor.
    Epoll,
}

/// One send of [`ParkedSet::send_batch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Send<'a> {
    pub socket: SocketId,
    /// Not empty, at most 1 GiB.
    pub bytes: &'a [u8],
}

/// What became of a send that did not take everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// The kernel took so many bytes, more than none and fewer than all.
    Short(usize),
    /// The kernel took nothing: its buffer is full.
    Full,
    /// The connection is broken: the error number of `send(2)`.
    Failed(i32),
}

/// How [`ParkedSet::close`] ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Says FIN, then reads and drops what still comes, up to 64 KiB or one second or the peer's FIN, so that
    /// no RST overtakes what was sent (RFC 9112 §9.6). Needs a spare file descriptor for a moment; without
    /// one it is [`Closing::Plain`].
    Graceful,
    /// Sends RST and drops what was not sent. Needs a spare file descriptor for a moment; without one it is
    /// [`Closing::Plain`].
    Abort,
    /// `close(2)`: FIN, or RST if something was not read.
    Plain,
}

/// Something happened to a parked socket.
#[derive(Debug)]
pub(crate) struct ParkedEvent {
    /// What [`ParkedSet::add`] was given.
    pub token: u64,
    pub kind: ParkedEventKind,
}

#[derive(Debug)]
pub(crate) enum ParkedEventKind {
    /// Something arrived, or there is room to send. This reports arrivals and not a level: remember
    /// `readable` until a receive answered [`ParkedEventKind::Drained`] or [`ParkedEventKind::End`].
    Ready(Readiness),
    /// A receive got bytes, at least one. More may lie in the socket.
    Received(Received),
    /// A receive found nothing: the next arrival is reported.
    Drained,
    /// A receive came to the peer's FIN: nothing will be received any more. All bytes before it were
    /// delivered.
    End,
    /// A receive failed with this error number, such as `ECONNRESET`: the connection is broken.
    Failed(i32),
}

/// What a poll reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Readiness {
    /// There is something to read: bytes, FIN or an error.
    pub readable: bool,
    /// There is room to send; reported only while [`ParkedSet::watch_writable`] is on.
    pub writable: bool,
    /// The peer has sent FIN; bytes that came before it may still have to be read.
    pub hung_up: bool,
    /// The connection is broken: reset, timed out, or closed on both sides.
    pub error: bool,
}

impl Readiness {
    /// From the mask of `poll(2)`, whose values epoll shares.
    fn of_poll(mask: i16) -> Self {
        Self {
            readable: mask & (libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0,
            writable: mask & libc::POLLOUT != 0,
            hung_up: mask & libc::POLLRDHUP != 0,
            error: mask & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0,
        }
    }
}

/// The parked sockets of one shard. Made and used on the shard's thread. When it is dropped the kernel closes
/// those that are left, a little later.
///
/// Every method that takes a [`SocketId`] panics if that socket is not parked: what the caller holds then
/// belongs to somebody else.
#[derive(Debug)]
pub(crate) struct ParkedSet {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Ring(Box<mixed::Mixed>),
    Epoll(Box<epoll::Epoll>),
}

/// Calls a method of whichever backend there is.
macro_rules! either {
    ($self:ident, $inner:ident => $call:expr) => {
        match &mut $self.inner {
            Inner::Ring($inner) => $call,
            Inner::Epoll($inner) => $call,
        }
    };
}

impl Backend {
    /// The ring where the kernel allows it, else epoll; with the reason why not the ring.
    pub fn available() -> (Self, Option<String>) {
        match probe() {
            Ok(()) => (Self::Ring, None),
            Err(reason) => (Self::Epoll, Some(reason)),
        }
    }
}

/// Whether io_uring has all that a [`Backend::Ring`] needs.
///
/// # Errors
/// A sentence that says what is missing.
pub(crate) fn probe() -> Result<(), String> {
    // On a thread of its own: the kernel takes a ring down later, and interrupts whatever system call the
    // thread that made it is in by then. That is not to be the embedder's.
    let probed = std::thread::Builder::new().name("probe".into()).spawn(ring::probe);
    let probed = probed.map_err(|error| format!("a thread cannot be made: {error}"))?;
    probed.join().unwrap_or_else(|_| Err("the probe panicked".into()))
}

/// Why there is no ring, by the error of a [`ParkedSet`] or a [`Runtime`] that was to have one.
pub(crate) fn why_no_ring(error: &io::Error) -> String {
    ring::why_not(error)
}

/// Makes a parked set and the runtime beside it.
///
/// # Errors
/// The system refuses a ring or its memory.
pub(crate) fn parked_and_runtime(
    eventfd: &EventFd,
    options: &ParkedOptions,
) -> io::Result<(ParkedSet, Runtime)> {
    limits::patiently(|| Ok((ParkedSet::new(eventfd, options)?, Runtime::new(options.backend)?)))
}

impl ParkedSet {
    /// Makes an empty set; whatever happens to its sockets wakes `eventfd`, or the [`Sleeper`] of this set.
    ///
    /// # Errors
    /// The system refuses a ring or its memory.
    pub fn new(eventfd: &EventFd, options: &ParkedOptions) -> io::Result<Self> {
        let inner = match options.backend {
            Backend::Ring => Inner::Ring(Box::new(mixed::Mixed::new(eventfd, options)?)),
            Backend::Epoll => Inner::Epoll(Box::new(epoll::Epoll::new(eventfd, options)?)),
        };
        Ok(Self { inner })
    }

    /// What a task of the shard's monoio runtime sleeps on.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn sleeper(&self, eventfd: &EventFd) -> io::Result<Sleeper> {
        match &self.inner {
            Inner::Ring(_) => eventfd.sleeper(),
            Inner::Epoll(epoll) => epoll.sleeper(),
        }
    }

    /// Parks a stream socket and watches it for arrivals and hang-ups: what is there already is reported too.
    /// Events carry `token`. The descriptor is closed (ring) or kept (epoll).
    ///
    /// # Errors
    /// No more room can be had: out of memory, or of descriptors for one more ring. The socket is closed
    /// then.
    pub fn add(&mut self, fd: OwnedFd, token: u64) -> io::Result<SocketId> {
        either!(self, inner => inner.add(fd, token))
    }

    /// Takes up to `max` connections, at most 64, that wait at `listener`, and parks them: without a
    /// descriptor, and under no token until [`ParkedSet::hand_on`] gives them one. Those that were taken are
    /// in `connections` also where the rest has failed. Answers false if it cannot: then [`accept`] them one
    /// by one. Never waits. As after [`ParkedSet::harvest`], nobody sleeps before [`ParkedSet::has_work`] was
    /// asked.
    ///
    /// # Errors
    /// As [`accept`].
    pub fn accept(
        &mut self,
        listener: &TcpListener,
        max: usize,
        connections: &mut Vec<(SocketId, SocketAddr)>,
    ) -> io::Result<bool> {
        match &mut self.inner {
            Inner::Ring(mixed) => mixed.accept(listener, max, connections),
            Inner::Epoll(_) => Ok(false),
        }
    }

    /// Sends to many sockets, without waiting for any. When it returns no send is under way, and `failed` has
    /// got one entry (the place in `sends` and what happened) for each that was not taken whole; the others
    /// were.
    ///
    /// One batch may name a socket once only.
    pub fn send_batch(&mut self, sends: &[Send<'_>], failed: &mut Vec<(usize, SendOutcome)>) {
        either!(self, inner => inner.send_batch(sends, failed));
    }

    /// Begins or stops to report [`Readiness::writable`]. After it was turned on there is a report when there
    /// is room to send, at once if there is already.
    pub fn watch_writable(&mut self, socket: SocketId, on: bool) {
        either!(self, inner => inner.watch_writable(socket, on));
    }

    /// Reads once, up to a buffer. The answer is one event: `Received`, `Drained`, `End` or `Failed`. It
    /// comes when a buffer is free; none is lost. At most one receive of a socket may be under way.
    pub fn receive(&mut self, socket: SocketId) {
        either!(self, inner => inner.receive(socket));
    }

    /// Unparks a socket: it is no longer watched, and what it has not read is still in it. No receive may be
    /// under way.
    ///
    /// # Errors
    /// The process is out of descriptors; the socket then stays parked.
    pub fn take_back(&mut self, socket: SocketId) -> io::Result<OwnedFd> {
        either!(self, inner => inner.take_back(socket))
    }

    /// Gives a parked socket another token, for its events from here on; what was reported under the earlier
    /// one may have been missed. Answers whether there may be something to read: then receive, as a new
    /// arrival may not be reported. No receive may be under way.
    pub fn hand_on(&mut self, socket: SocketId, token: u64) -> bool {
        either!(self, inner => inner.hand_on(socket, token))
    }

    /// Whether a receive may find something: false only where it is known that it finds nothing.
    pub fn may_be_readable(&mut self, socket: SocketId) -> bool {
        either!(self, inner => inner.may_be_readable(socket))
    }

    /// Ends the connection. No event of this socket comes after this call, also none that happened before.
    pub fn close(&mut self, socket: SocketId, how: Closing) {
        either!(self, inner => inner.close(socket, how));
    }

    /// Appends up to `max` events, and lets the system work that stands in line. Answers whether there may be
    /// more. Until [`ParkedSet::has_work`] is asked, what happens may signal nobody.
    pub fn harvest(&mut self, max: usize, events: &mut Vec<ParkedEvent>) -> bool {
        either!(self, inner => inner.harvest(max, events))
    }

    /// Gives back the memory that a storm took and nothing needs any more.
    pub fn give_back(&mut self) {
        either!(self, inner => inner.give_back());
    }

    /// Whether [`ParkedSet::harvest`] has something to do. Cheap; asked before going to sleep: what comes
    /// after it wakes the sleeper.
    pub fn has_work(&mut self) -> bool {
        either!(self, inner => inner.has_work())
    }

    /// The bytes of a receive.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        match &self.inner {
            Inner::Ring(mixed) => mixed.bytes(received),
            Inner::Epoll(epoll) => epoll.buffers.bytes(received),
        }
    }

    /// Gives the buffer of a receive back. Who keeps too many starves the receives of all sockets.
    pub fn release(&mut self, received: Received) {
        either!(self, inner => inner.release(received));
    }

    /// Sockets that are parked, those in a graceful close included.
    pub fn len(&self) -> usize {
        match &self.inner {
            Inner::Ring(mixed) => mixed.len(),
            Inner::Epoll(epoll) => epoll.len(),
        }
    }

    /// Rings that hold them; 0 with epoll.
    pub fn rings(&self) -> usize {
        match &self.inner {
            Inner::Ring(mixed) => mixed.rings(),
            Inner::Epoll(_) => 0,
        }
    }

    /// Those of [`ParkedSet::len`] that epoll holds, each with a descriptor of its own.
    pub fn by_epoll(&self) -> usize {
        match &self.inner {
            Inner::Ring(mixed) => mixed.by_epoll(),
            Inner::Epoll(epoll) => epoll.len(),
        }
    }
}
