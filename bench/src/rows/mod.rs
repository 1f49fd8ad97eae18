//! The rows of the table of figures: what is done to the engine and to its floor, one after the other, and
//! what is read off them.

mod connect;
mod fanout;
mod heartbeats;
mod idle;
mod interest;
mod million;
mod silent;
mod storm;
mod turns;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::clients::Plan;
use crate::figure::{Bar, Sample};
use crate::floor::{self, Kind};
use crate::target::{Target, Wire};
use crate::work::{Connected, Site};
use crate::{machine, network, stentor};

/// A row, or a few that are read off the same servers.
pub struct Row {
    /// What selects it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures once.
    pub run: fn(&Bench, &mut Samples<'_>) -> io::Result<()>,
}

/// All rows, in the order of the table.
pub const ROWS: [Row; 15] = [
    Row { name: "idle", about: "memory of a parked subscriber, ours and the kernel's", run: idle::run },
    Row { name: "fanout", about: "an event to 10,000, in order and joined", run: fanout::run },
    Row { name: "connect", about: "subscribing and upgrading", run: connect::run },
    Row {
        name: "handover",
        about: "from publish to one subscriber of a sleeping shard",
        run: turns::hand_over,
    },
    Row { name: "beside", about: "a topic of one beside four fan-outs to 250,000", run: turns::beside },
    Row { name: "heartbeats", about: "heartbeats of a million", run: heartbeats::run },
    Row { name: "million", about: "a million subscribers, who then vanish at once", run: million::run },
    Row { name: "topics", about: "a million topics of one subscriber each", run: interest::topics },
    Row { name: "hundred", about: "a hundred topics of 10,000 subscribers each", run: interest::hundred },
    Row { name: "wildcards", about: "five thousand matchers with wildcards", run: interest::wildcards },
    Row { name: "churn", about: "joining and leaving while publishing", run: storm::churn },
    Row { name: "storm", about: "all of 100,000 vanish and come back with their cursors", run: storm::small },
    Row { name: "storm-large", about: "the same with 500,000", run: storm::large },
    Row { name: "silent", about: "subscribers who never read", run: silent::run },
    Row { name: "epoll", about: "memory, fan-out and subscribing without io_uring", run: epoll },
];

/// Bytes of an event's data.
const BYTES: usize = 100;
/// What a subscriber takes of the machine, its own side and the server's, in bytes; for refusing in time.
const A_CONNECTION: u64 = 10_000;
/// Memory that is not counted on.
const MEMORY_BESIDE: u64 = 2 << 30;
/// Sockets that a server has beside those of its subscribers, and probes.
const SOCKETS_BESIDE: u64 = 500;
/// How long the kernel may take to let the sockets of a server go.
const GONE_MAX: Duration = Duration::from_secs(60);

/// How rows are run.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The binary `stentor`.
    pub program: PathBuf,
    /// A program that serves as a floor when it is asked; see [`floor::serve_if_asked`].
    pub floor_program: PathBuf,
    /// Most subscribers of a row.
    pub connections: usize,
    /// Whether everything takes a fifth of its time.
    pub is_quick: bool,
}

/// Where a row puts what it measures.
pub type Samples<'a> = dyn FnMut(Sample) + 'a;

impl Bench {
    /// `full`, or as many as are allowed.
    fn size(&self, full: usize) -> usize {
        full.min(self.connections)
    }

    /// As many seconds, or a fifth.
    fn time(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.is_quick { seconds / 5.0 } else { seconds })
    }

    /// The engine, as a user starts it, but for limits that a machine with a million clients of one address
    /// is over.
    fn engine(&self, wire: Wire, io_uring: bool, set: &[&str]) -> Target {
        let mut keys = vec!["limits.connections_per_address=4000000", "retention.topics=4000000"];
        keys.extend(set);
        stentor::target(&stentor::Options {
            program: self.program.clone(),
            wire,
            shards: 1,
            io_uring,
            set: keys.into_iter().map(str::to_owned).collect(),
        })
    }

    fn floor(&self, kind: Kind, wire: Wire) -> Target {
        floor::target(kind, wire, self.floor_program.clone())
    }

    /// Starts a server in a network of its own, with the subscribers of `plan`.
    fn open<'t>(&self, target: &'t Target, plan: &Plan) -> io::Result<(Site<'t>, Connected)> {
        let needed = plan.subscribers as u64 * A_CONNECTION + MEMORY_BESIDE;
        let free = machine::free_memory();
        if free < needed {
            let (free, needed) = (free >> 20, needed >> 20);
            let message = format!("{needed} MiB of memory are needed, {free} are free: see --connections");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        network::enter(plan.subscribers)?;
        Site::open_with(target, plan, BYTES)
    }
}

/// Ends a server and its subscribers, and waits until the kernel has let go of them: the next one must not
/// pay for that.
fn close(site: Site<'_>) -> io::Result<()> {
    site.close()?;
    sockets_are_gone(SOCKETS_BESIDE).map(|_| ())
}

/// Waits until at most `left` sockets are there; how long that took.
fn sockets_are_gone(left: u64) -> io::Result<Duration> {
    machine::sockets_are_gone(left, GONE_MAX)
}

/// A sample without a floor.
fn alone(what: impl Into<String>, unit: &'static str, engine: f64, bar: Bar) -> Sample {
    Sample { what: what.into(), unit, engine, floor: None, bar }
}

/// A sample beside its floor.
fn beside(what: impl Into<String>, unit: &'static str, engine: f64, floor: f64, bar: Bar) -> Sample {
    Sample { what: what.into(), unit, engine, floor: Some(floor), bar }
}

fn wire_name(wire: Wire) -> &'static str {
    match wire {
        Wire::Sse => "SSE",
        Wire::Stream => "stream",
        Wire::WebSocket => "WebSocket",
        Wire::MqttWebSocket => "MQTT",
        Wire::LongPoll => "long-poll",
    }
}

/// Connections that epoll can hold: each needs a descriptor, and RLIMIT_NOFILE is 20,000 in many places.
const EPOLL_CONNECTIONS: usize = 15_000;

/// The column of those whose kernel refuses io_uring.
fn epoll(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    idle::measure(bench, false, bench.size(EPOLL_CONNECTIONS), out)?;
    fanout::measure(bench, false, &[Wire::Sse, Wire::WebSocket], out)?;
    connect::measure(bench, false, out)
}

/// What distinguishes a line of the epoll column.
fn suffix(io_uring: bool) -> &'static str {
    if io_uring { "" } else { ", epoll" }
}
