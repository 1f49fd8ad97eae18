//! The ghosts' side of TCP (RFC 9293), without sockets or a clock: segments in, segments out, a few bytes a
//! flow.
//!
//! It is a whole client, and a plain one: it takes data in order only (what comes beyond a hole is dropped
//! and the hole acknowledged again, so that the server sends it anew), has one segment of its own under way a
//! flow, and its window never scales.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use super::segment::{End, Segment, flag};

/// Ports of one client address.
pub(super) const PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 1_024;
/// Addresses of clients follow this one.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 0);
/// First wait for an acknowledgement, in milliseconds; it doubles (RFC 6298, section 2).
const RETRY_MS: u32 = 1_000;
/// After as many tries a flow is given up.
const RETRIES_MAX: u8 = 8;
const WINDOW: u16 = 65_535;
/// Data that may be held unacknowledged when acknowledgements are delayed (RFC 9293, section 3.8.6.3).
const UNACKNOWLEDGED_MAX: u32 = 2 * 1_460;

/// What a flow is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
enum State {
    /// There is none.
    #[default]
    Closed,
    /// SYN is sent.
    Opening,
    /// Data may flow.
    Open,
    /// Our FIN is sent.
    Ending,
}

/// One flow.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// The next byte that is expected (`RCV.NXT`).
    expected: u32,
    /// Up to here the peer was told that all has come.
    acknowledged: u32,
    /// The oldest byte of ours that the peer has not confirmed (`SND.UNA`), and the next one that is new
    /// (`SND.NXT`).
    unconfirmed: u32,
    next: u32,
    /// The peer's latest timestamp.
    peer_time: u32,
    state: State,
    retries: u8,
    /// How often this flow was opened: each time with other sequence numbers.
    life: u8,
    /// Bits of [`trait_of`].
    traits: u8,
}

const _: () = assert!(size_of::<Flow>() == 24, "millions of flows pay for each byte");

mod trait_of {
    /// It takes no data: its window is shut.
    pub(super) const DEAF: u8 = 1;
    /// It is as if the machine was gone.
    pub(super) const VANISHED: u8 = 2;
    /// An acknowledgement is due.
    pub(super) const DUE: u8 = 4;
    /// The peer uses timestamps.
    pub(super) const TIMED: u8 = 8;
    /// The peer's FIN has come.
    pub(super) const PEER_ENDED: u8 = 16;
}

/// What a packet has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// The flow is open. [`Tcp::send`] or [`Tcp::acknowledge`] must follow.
    Open,
    /// New bytes, in order. [`Tcp::send`] or [`Tcp::acknowledge`] must follow.
    Bytes(&'a [u8]),
    /// The peer has ended the flow in order, after these bytes.
    End(&'a [u8]),
    /// The peer has reset it.
    Reset,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Segments that came again, though they were acknowledged.
    pub doubled: u64,
    /// Segments beyond a hole.
    pub beyond_hole: u64,
    /// SYN, requests and FIN of ours that were sent again.
    pub resent: u64,
    /// Flows that were given up.
    pub given_up: u64,
    /// Packets of no flow.
    pub stray: u64,
}

/// Bytes of ours that the peer has not confirmed.
struct Unconfirmed {
    bytes: Vec<u8>,
    has_fin: bool,
}

/// All flows.
pub(super) struct Tcp {
    server: End,
    flows: Vec<Flow>,
    unconfirmed: HashMap<u32, Unconfirmed>,
    /// Flows to be looked at, by the time at which: sorted for each count of tries.
    retries: [VecDeque<(u32, u32, u8)>; RETRIES_MAX as usize + 1],
    /// Flows whose acknowledgement is due, by the time at which.
    delayed: VecDeque<(u32, u32)>,
    delay_ms: u32,
    /// Packets to be sent, each after its length.
    out: Vec<u8>,
    now_ms: u32,
    pub(super) counts: Counts,
    /// Flows that were given up, to be told.
    given_up: Vec<u32>,
}

/// The initial sequence number (RFC 9293, section 3.4.1): another one for each flow, and higher for each
/// life.
fn initial(flow: u32, life: u8) -> u32 {
    flow.wrapping_mul(2_654_435_761).wrapping_add(u32::from(life) << 22)
}

fn is_before(left: u32, right: u32) -> bool {
    (left.wrapping_sub(right) as i32) < 0
}

impl Tcp {
    /// `count` flows to `server`, all closed, at the time `now_ms`. Acknowledgements wait for `delay_ms`; 0
    /// for at once.
    pub(super) fn new(server: End, count: usize, delay_ms: u32, now_ms: u32) -> Self {
        Self {
            server,
            flows: vec![Flow::default(); count],
            unconfirmed: HashMap::new(),
            retries: Default::default(),
            delayed: VecDeque::new(),
            delay_ms,
            out: Vec::new(),
            now_ms,
            counts: Counts::default(),
            given_up: Vec::new(),
        }
    }

    /// The client's end of a flow.
    fn end(flow: u32) -> End {
        End {
            address: Ipv4Addr::from(u32::from(CLIENTS) + 1 + flow / PORTS),
            port: FIRST_PORT + (flow % PORTS) as u16,
        }
    }

    fn flow_at(&self, end: End) -> Option<u32> {
        let host = u32::from(end.address).checked_sub(u32::from(CLIENTS) + 1)?;
        let port = u32::from(end.port.checked_sub(FIRST_PORT)?);
        let flow = host.checked_mul(PORTS)?.checked_add(port)?;
        (port < PORTS && (flow as usize) < self.flows.len()).then_some(flow)
    }

    /// Sends SYN.
    pub(super) fn open(&mut self, flow: u32) {
        let life = self.flows[flow as usize].life.wrapping_add(1);
        let first = initial(flow, life);
        let next = first.wrapping_add(1);
        self.flows[flow as usize] =
            Flow { unconfirmed: first, next, life, state: State::Opening, ..Flow::default() };
        self.unconfirmed.remove(&flow);
        self.emit(flow, flag::SYN, first, &[]);
        self.retry_later(flow);
    }

    /// Sends bytes, at most a small segment, and acknowledges with them. One send a flow is under way at a
    /// time: the bytes join those that are not confirmed.
    pub(super) fn send(&mut self, flow: u32, bytes: &[u8]) {
        let it = &mut self.flows[flow as usize];
        if it.state != State::Open {
            return;
        }
        let sequence = it.next;
        it.next = it.next.wrapping_add(bytes.len() as u32);
        let entry = self.unconfirmed.entry(flow);
        let is_first = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        let sent = entry.or_insert_with(|| Unconfirmed { bytes: Vec::new(), has_fin: false });
        sent.bytes.extend_from_slice(bytes);
        self.emit(flow, flag::ACK | flag::PSH, sequence, bytes);
        if is_first {
            self.flows[flow as usize].retries = 0;
            self.retry_later(flow);
        }
    }

    /// Acknowledges what has come: at once, or after the delay.
    pub(super) fn acknowledge(&mut self, flow: u32) {
        let it = &mut self.flows[flow as usize];
        let held = it.expected.wrapping_sub(it.acknowledged);
        if self.delay_ms == 0 || held >= UNACKNOWLEDGED_MAX {
            self.emit_ack(flow);
        } else if it.traits & trait_of::DUE == 0 {
            it.traits |= trait_of::DUE;
            self.delayed.push_back((flow, self.now_ms.wrapping_add(self.delay_ms)));
        }
    }

    /// Ends a flow with RST.
    pub(super) fn reset(&mut self, flow: u32) {
        let it = self.flows[flow as usize];
        if it.state != State::Closed {
            self.emit(flow, flag::RST | flag::ACK, it.next, &[]);
            self.close(flow);
        }
    }

    /// Ends a flow with FIN; what the peer still sends is taken and dropped.
    pub(super) fn finish(&mut self, flow: u32) {
        if self.flows[flow as usize].state == State::Open {
            self.emit_fin(flow);
        }
    }

    /// From here on the flow says nothing and hears nothing.
    pub(super) fn vanish(&mut self, flow: u32) {
        self.flows[flow as usize].traits |= trait_of::VANISHED;
        self.unconfirmed.remove(&flow);
    }

    /// From here on the flow takes nothing more: its window is shut.
    pub(super) fn deafen(&mut self, flow: u32) {
        self.flows[flow as usize].traits |= trait_of::DEAF;
        self.emit_ack(flow);
    }

    fn emit_fin(&mut self, flow: u32) {
        let it = &mut self.flows[flow as usize];
        let sequence = it.next;
        it.next = it.next.wrapping_add(1);
        it.state = State::Ending;
        it.retries = 0;
        self.unconfirmed
            .entry(flow)
            .or_insert_with(|| Unconfirmed { bytes: Vec::new(), has_fin: true })
            .has_fin = true;
        self.emit(flow, flag::FIN | flag::ACK, sequence, &[]);
        self.retry_later(flow);
    }

    fn close(&mut self, flow: u32) {
        self.flows[flow as usize].state = State::Closed;
        self.unconfirmed.remove(&flow);
    }

    fn emit_ack(&mut self, flow: u32) {
        self.emit(flow, flag::ACK, self.flows[flow as usize].next, &[]);
    }

    fn emit(&mut self, flow: u32, flags: u8, sequence: u32, data: &[u8]) {
        let it = &mut self.flows[flow as usize];
        let acknowledged = if flags & flag::ACK == 0 { 0 } else { it.expected };
        if flags & flag::ACK != 0 {
            it.acknowledged = it.expected;
            it.traits &= !trait_of::DUE;
        }
        let has_times = flags & flag::SYN != 0 || it.traits & trait_of::TIMED != 0;
        let segment = Segment {
            from: Self::end(flow),
            to: self.server,
            sequence,
            acknowledged,
            flags,
            window: if it.traits & trait_of::DEAF == 0 { WINDOW } else { 0 },
            times: has_times.then_some((self.now_ms, it.peer_time)),
            data,
        };
        let at = self.out.len();
        self.out.extend([0; 2]);
        let length = segment.write(&mut self.out);
        self.out[at..at + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.counts.sent += 1;
    }

    fn retry_later(&mut self, flow: u32) {
        let Flow { retries, life, .. } = self.flows[flow as usize];
        let due = self.now_ms.wrapping_add(RETRY_MS << retries.min(6));
        self.retries[usize::from(retries.min(RETRIES_MAX))].push_back((flow, due, life));
    }

    /// Handles a packet of the server's.
    pub(super) fn packet<'p>(&mut self, packet: &'p [u8]) -> Option<(u32, Heard<'p>)> {
        self.counts.received += 1;
        let found = Segment::read(packet).filter(|segment| segment.from == self.server);
        let Some((segment, flow)) = found.and_then(|found| Some((found, self.flow_at(found.to)?))) else {
            self.counts.stray += 1;
            return None;
        };
        let it = self.flows[flow as usize];
        if it.traits & trait_of::VANISHED != 0 {
            return None;
        }
        match it.state {
            State::Closed => {
                self.counts.stray += 1;
                // Nobody is there (RFC 9293, section 3.10.7.1).
                if !segment.is(flag::RST) {
                    self.flows[flow as usize].expected =
                        segment.sequence.wrapping_add(segment.data.len() as u32);
                    self.emit(flow, flag::RST, segment.acknowledged, &[]);
                }
                None
            }
            State::Opening => self.opened(flow, &segment),
            State::Open | State::Ending => self.established(flow, &segment),
        }
        .map(|heard| (flow, heard))
    }

    fn opened<'p>(&mut self, flow: u32, segment: &Segment<'p>) -> Option<Heard<'p>> {
        let it = &mut self.flows[flow as usize];
        if segment.acknowledged != it.next {
            // The server still has the flow's life before this one: it is told that nobody is there any more
            // (RFC 9293, section 3.10.7.3), and takes the next SYN.
            if segment.is(flag::ACK) && !segment.is(flag::RST) {
                self.emit(flow, flag::RST, segment.acknowledged, &[]);
            }
            return None;
        }
        if segment.is(flag::RST) {
            self.close(flow);
            return Some(Heard::Reset);
        }
        if !segment.is(flag::SYN) {
            return None;
        }
        it.state = State::Open;
        it.retries = 0;
        it.unconfirmed = it.next;
        it.expected = segment.sequence.wrapping_add(1);
        it.acknowledged = segment.sequence;
        if let Some((time, _)) = segment.times {
            it.peer_time = time;
            it.traits |= trait_of::TIMED;
        }
        Some(Heard::Open)
    }

    fn established<'p>(&mut self, flow: u32, segment: &Segment<'p>) -> Option<Heard<'p>> {
        let it = &mut self.flows[flow as usize];
        if segment.is(flag::RST) {
            // Only one that is in its place is believed (RFC 9293, section 3.10.7.4).
            if segment.sequence == it.expected {
                self.close(flow);
                return Some(Heard::Reset);
            }
            return None;
        }
        if segment.is(flag::SYN) {
            // Our acknowledgement of it was lost.
            self.emit_ack(flow);
            return None;
        }
        if let Some((time, _)) = segment.times {
            it.peer_time = time;
        }
        self.confirm(flow, segment.acknowledged);
        let it = &mut self.flows[flow as usize];
        let length = segment.data.len() as u32;
        let is_end = segment.is(flag::FIN);
        if length == 0 && !is_end {
            // A probe of the peer's asks whether we are there, or have room.
            if is_before(segment.sequence, it.expected) {
                self.emit_ack(flow);
            }
            return None;
        }
        let old = it.expected.wrapping_sub(segment.sequence);
        if is_before(it.expected, segment.sequence) {
            self.counts.beyond_hole += 1;
            self.emit_ack(flow);
            return None;
        }
        if old > length || (old == length && !is_end) {
            self.counts.doubled += 1;
            self.emit_ack(flow);
            return None;
        }
        if it.traits & trait_of::DEAF != 0 {
            self.emit_ack(flow);
            return None;
        }
        it.expected = it.expected.wrapping_add(length - old);
        let bytes = &segment.data[old as usize..];
        if !is_end {
            return match it.state {
                State::Open => Some(Heard::Bytes(bytes)),
                // Nobody reads any more.
                _ => {
                    self.emit_ack(flow);
                    None
                }
            };
        }
        it.expected = it.expected.wrapping_add(1);
        it.traits |= trait_of::PEER_ENDED;
        if it.state == State::Open {
            self.emit_fin(flow);
            return Some(Heard::End(bytes));
        }
        self.emit_ack(flow);
        if !self.unconfirmed.contains_key(&flow) {
            self.close(flow);
        }
        None
    }

    /// The peer has confirmed what we sent, up to there.
    fn confirm(&mut self, flow: u32, acknowledged: u32) {
        let it = &mut self.flows[flow as usize];
        let confirmed = acknowledged.wrapping_sub(it.unconfirmed);
        if confirmed == 0 || confirmed > it.next.wrapping_sub(it.unconfirmed) {
            return;
        }
        it.unconfirmed = acknowledged;
        it.retries = 0;
        let is_all = acknowledged == it.next;
        if let Some(sent) = self.unconfirmed.get_mut(&flow) {
            let bytes = (confirmed as usize).min(sent.bytes.len());
            sent.bytes.drain(..bytes);
            if is_all {
                let had_fin = sent.has_fin;
                self.unconfirmed.remove(&flow);
                if had_fin && it.traits & trait_of::PEER_ENDED != 0 {
                    self.close(flow);
                }
            }
        }
    }

    /// Sends again what was not confirmed in time, and the acknowledgements that are due. Answers the flows
    /// that were given up.
    pub(super) fn tick(&mut self, now_ms: u32) -> Vec<u32> {
        self.now_ms = now_ms;
        for tries in 0..self.retries.len() {
            while let Some(&(flow, due, life)) = self.retries[tries].front() {
                if is_before(now_ms, due) {
                    break;
                }
                self.retries[tries].pop_front();
                self.retry(flow, life);
            }
        }
        while let Some(&(flow, due)) = self.delayed.front() {
            if is_before(now_ms, due) {
                break;
            }
            self.delayed.pop_front();
            if self.flows[flow as usize].traits & trait_of::DUE != 0 {
                self.emit_ack(flow);
            }
        }
        std::mem::take(&mut self.given_up)
    }

    fn retry(&mut self, flow: u32, life: u8) {
        let it = &mut self.flows[flow as usize];
        let is_unconfirmed = it.state == State::Opening || self.unconfirmed.contains_key(&flow);
        if it.life != life || !is_unconfirmed || it.traits & trait_of::VANISHED != 0 {
            return;
        }
        if it.retries == RETRIES_MAX {
            self.counts.given_up += 1;
            self.given_up.push(flow);
            self.reset(flow);
            return;
        }
        it.retries += 1;
        let (sequence, is_opening) = (it.unconfirmed, it.state == State::Opening);
        self.counts.resent += 1;
        if is_opening {
            self.emit(flow, flag::SYN, sequence, &[]);
        } else if let Some(sent) = self.unconfirmed.remove(&flow) {
            let fin = if sent.has_fin { flag::FIN } else { 0 };
            self.emit(flow, flag::ACK | flag::PSH | fin, sequence, &sent.bytes);
            self.unconfirmed.insert(flow, sent);
        }
        self.retry_later(flow);
    }

    /// Whether something is timed: a retry or an acknowledgement.
    pub(super) fn is_timed(&self) -> bool {
        !self.delayed.is_empty() || !self.unconfirmed.is_empty()
    }

    /// Hands over the packets that are to be sent.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&[u8])) {
        let mut rest = &self.out[..];
        while let [low, high, packets @ ..] = rest {
            let (packet, after) = packets.split_at(usize::from(u16::from_ne_bytes([*low, *high])));
            send(packet);
            rest = after;
        }
        self.out.clear();
    }
}
