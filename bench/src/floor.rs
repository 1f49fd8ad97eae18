//! Floors: the barest servers that do Stentor's work on the same sockets. What the engine costs is told as a
//! ratio to one of them, taken in the same run.
//!
//! Each has one thread and one topic. Subscribers connect to one port, send a request head, and get a fixed
//! one; payloads come as lines over one connection to the control port. All lines that are there when the
//! loop looks are framed once, joined, and sent to everybody in one send each, as the engine does.
//!
//! What the engine has and they have not: topics, a log, cursors, deadlines, admission, and answers to what
//! a subscriber says after its request. They are correct for all that: everybody gets every event, in order,
//! a slow reader too, and who hangs up is let go.

mod control;
mod head;
mod ring;
mod send;
mod tasks;
mod unsent;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::network;
use crate::target::{Publish, Subscribe, Target, Wire};

/// How a floor does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A loop around rings of io_uring: direct descriptors, an armed poll a connection, batches of sends.
    Ring,
    /// A loop around epoll, and one `send()` a subscriber.
    Send,
    /// A task of monoio for each connection, which writes each event itself.
    Monoio,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Ring, Self::Send, Self::Monoio];
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ring => "raw ring loop",
            Self::Send => "send() loop",
            Self::Monoio => "monoio tasks",
        })
    }
}

/// Every program of this crate has the allocator that Stentor's own has: floors live in all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The first argument of a program that is to be a floor.
const COMMAND: &str = "floor-serve";

/// Descriptors that a floor needs beside those of its connections.
const DESCRIPTORS_BESIDE: usize = 1_000;

/// Most that waits to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

#[derive(Debug, Clone, Parser)]
struct Options {
    /// How it is done.
    kind: Kind,
    /// The port of the subscribers.
    #[arg(long)]
    port: u16,
    /// The port of the publisher.
    #[arg(long)]
    control: u16,
    /// Speak RFC 6455, not Server-Sent Events.
    #[arg(long)]
    websocket: bool,
    /// One send an event, however many wait.
    #[arg(long)]
    each: bool,
    /// Send everybody a comment once in so many seconds (the ring alone).
    #[arg(long)]
    heartbeat: Option<u16>,
}

/// Makes this process a floor, for as long as it lives, if its first argument says so. Every program that
/// starts floors calls it first in `main`, so that it needs no other program.
pub fn serve_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(COMMAND)) {
        return;
    }
    let options = Options::parse_from(std::iter::once(OsString::from(COMMAND)).chain(arguments));
    raise_descriptor_limit();
    let served = match options.kind {
        Kind::Ring => ring::serve(&options),
        Kind::Send => send::serve(&options),
        Kind::Monoio => tasks::serve(&options),
    };
    let Err(error) = served;
    eprintln!("{COMMAND}: {error}");
    std::process::exit(1);
}

/// A floor as a server under test. `program` is one that calls [`serve_if_asked`]; see [`this_program`].
///
/// # Panics
/// A floor speaks Server-Sent Events and WebSocket only.
pub fn target(kind: Kind, wire: Wire, program: PathBuf) -> Target {
    assert!(matches!(wire, Wire::Sse | Wire::WebSocket), "floors speak SSE and WebSocket");
    let (port, control) = (network::PORTS, network::PORTS + 1);
    let name = kind.to_possible_value().expect("no kind is left out").get_name().to_owned();
    let mut arguments: Vec<OsString> = vec![COMMAND.into(), name.into()];
    arguments.extend(["--port".into(), port.to_string().into()]);
    arguments.extend(["--control".into(), control.to_string().into()]);
    if wire == Wire::WebSocket {
        arguments.push("--websocket".into());
    }
    Target {
        name: format!("{kind}, {}", if wire == Wire::Sse { "SSE" } else { "WebSocket" }),
        program,
        arguments,
        environment: Vec::new(),
        port,
        subscribe: Subscribe {
            wire,
            opening: Box::new(move |topic| vec![request(wire, topic)]),
            again: None,
        },
        publish: Publish::Lines { port: control },
        has_topics: false,
        connections_max: match kind {
            Kind::Ring => usize::MAX,
            Kind::Send | Kind::Monoio => descriptor_limit().saturating_sub(DESCRIPTORS_BESIDE),
        },
    }
}

/// The raw ring loop that sends each of its subscribers a comment once in `seconds`.
pub fn heartbeats(seconds: u16, program: PathBuf) -> Target {
    let mut target = target(Kind::Ring, Wire::Sse, program);
    target.arguments.extend(["--heartbeat".into(), seconds.to_string().into()]);
    target
}

/// The program that runs.
///
/// # Errors
/// The system does not say.
pub fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

fn request(wire: Wire, topic: &str) -> Vec<u8> {
    let fields = match wire {
        Wire::WebSocket => {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        }
        _ => "Accept: text/event-stream\r\n",
    };
    format!("GET /events?topic={topic} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n").into_bytes()
}

/// Listens on all addresses. `TCP_NODELAY` goes over to what is accepted.
fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let one: i32 = 1;
    // SAFETY: the kernel reads one `i32`, and the socket is open.
    let set = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const one).cast(),
            size_of_val(&one) as libc::socklen_t,
        )
    };
    // SAFETY: takes numbers only; a socket that listens takes the new length of its queue.
    if set != 0 || unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, which is ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit
}

/// How many descriptors a process may come to have.
fn descriptor_limit() -> usize {
    usize::try_from(limit().rlim_max).unwrap_or(usize::MAX)
}

fn raise_descriptor_limit() {
    let limit = libc::rlimit { rlim_cur: limit().rlim_max, ..limit() };
    // SAFETY: the kernel reads one `rlimit`. Where it refuses, the limit is as it was.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// What a floor answers: nothing but an error.
type Served = io::Result<Infallible>;
