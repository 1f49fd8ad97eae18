//! The flows of the ghosts, between the packet rings and whoever speaks over them.

use std::io;
use std::net::Ipv4Addr;

use super::impair::{Impairments, Path};
use super::link::Pair;
use super::rings::Rings;
use super::segment::End;
use super::tcp::{Counts, Heard, Tcp};
use crate::machine;

/// Packets that are taken before the answers to them are sent.
const ROUND: usize = 256;

/// What a flow has brought.
#[derive(Debug)]
pub enum News<'a> {
    /// It is open.
    Open,
    /// These bytes came.
    Bytes(&'a [u8]),
    /// These bytes came, and nothing more will.
    End(&'a [u8]),
    /// The server has reset it, or never answered.
    Reset,
}

/// Flows to one server, each known by its number.
pub struct Wires {
    rings: Rings,
    tcp: Tcp,
    /// To the ghosts and from them; none if packets pass as they are.
    paths: Option<(Path, Path)>,
}

/// Options of [`Wires`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Port of the server.
    pub port: u16,
    /// Flows.
    pub count: usize,
    /// Bytes of the receive ring. A burst to all flows must fit: about 240 bytes each.
    pub ring_bytes: usize,
    /// How long an acknowledgement waits for something to go with, in milliseconds; 0 for not at all.
    pub delayed_ack_ms: u32,
    /// What the network does.
    pub impairments: Impairments,
}

impl Wires {
    /// Flows over `pair`, all closed.
    ///
    /// # Errors
    /// No packet ring may be had.
    pub fn new(pair: &Pair, server: Ipv4Addr, options: &Options) -> io::Result<Self> {
        let server = End { address: server, port: options.port };
        let impairments = options.impairments;
        Ok(Self {
            rings: Rings::new(pair, options.ring_bytes)?,
            tcp: Tcp::new(server, options.count, options.delayed_ack_ms, now_ms()),
            paths: (!impairments.is_none()).then(|| (Path::new(impairments, 3), Path::new(impairments, 5))),
        })
    }

    /// Opens a flow.
    pub fn open(&mut self, flow: u32) {
        self.tcp.open(flow);
    }

    /// Sends bytes, at most 400, over an open flow.
    pub fn send(&mut self, flow: u32, bytes: &[u8]) {
        self.tcp.send(flow, bytes);
    }

    /// Ends a flow with RST.
    pub fn reset(&mut self, flow: u32) {
        self.tcp.reset(flow);
    }

    /// Ends a flow with FIN.
    pub fn finish(&mut self, flow: u32) {
        self.tcp.finish(flow);
    }

    /// The flow says nothing more, and hears nothing more.
    pub fn vanish(&mut self, flow: u32) {
        self.tcp.vanish(flow);
    }

    /// The flow takes nothing more.
    pub fn deafen(&mut self, flow: u32) {
        self.tcp.deafen(flow);
    }

    /// Handles packets that have come, and sends what is due. `hear` gets the news of each flow; what it
    /// answers is sent over that flow, nothing if it is empty. Answers how many packets came; does not wait.
    pub fn turn(&mut self, mut hear: impl FnMut(u32, News<'_>) -> Vec<u8>) -> usize {
        let now_ms = now_ms();
        let Self { rings, tcp, paths } = self;
        for flow in tcp.tick(now_ms) {
            hear(flow, News::Reset);
        }
        let mut take = |tcp: &mut Tcp, packet: &[u8]| {
            let Some((flow, heard)) = tcp.packet(packet) else { return };
            let (news, is_to_answer) = match heard {
                Heard::Open => (News::Open, true),
                Heard::Bytes(bytes) => (News::Bytes(bytes), true),
                Heard::End(bytes) => (News::End(bytes), false),
                Heard::Reset => (News::Reset, false),
            };
            let answer = hear(flow, news);
            match (is_to_answer, answer.is_empty()) {
                (true, true) => tcp.acknowledge(flow),
                (true, false) => tcp.send(flow, &answer),
                (false, _) => {}
            }
        };
        let count = match paths {
            None => rings.receive(ROUND, |packet| take(tcp, packet)),
            Some((path, _)) => {
                let count = rings.receive(ROUND, |packet| path.enter(now_ms, packet));
                while let Some(packet) = path.leave(now_ms) {
                    take(tcp, &packet);
                }
                count
            }
        };
        match paths {
            None => tcp.flush(|packet| rings.send(packet)),
            Some((_, path)) => {
                tcp.flush(|packet| path.enter(now_ms, packet));
                while let Some(packet) = path.leave(now_ms) {
                    rings.send(&packet);
                }
            }
        }
        rings.flush();
        count
    }

    /// Waits for packets, as long as nothing of our own is due.
    pub fn wait(&mut self) {
        let is_timed =
            self.tcp.is_timed() || self.paths.as_ref().is_some_and(|(a, b)| !a.is_empty() || !b.is_empty());
        self.rings.wait(if is_timed { 1 } else { 5 });
    }

    /// What the flows have seen.
    pub fn counts(&self) -> Counts {
        self.tcp.counts
    }

    /// Packets for which a ring had no room: in receiving, in sending. A run with any is limited by its
    /// client.
    pub fn drops(&mut self) -> (u64, u64) {
        self.rings.drops()
    }

    /// Packets that the impairments lost.
    pub fn lost(&self) -> u64 {
        self.paths.as_ref().map_or(0, |(inward, outward)| inward.lost + outward.lost)
    }
}

/// Milliseconds of the monotonic clock, for the flows' timers and timestamps.
fn now_ms() -> u32 {
    (machine::now() / 1_000_000) as u32
}
