//! Subscribers that are ghosts: what [`crate::clients::Clients`] are on kernel sockets, by the million.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::link::{Pair, SERVER};
use super::tcp::Counts;
use super::wires::{News, Options, Wires};
use crate::hearing::{Ear, Hearing};
use crate::judge::Judgement;
use crate::machine;
use crate::target::{Subscribe, Wire};

/// Connections that are being made at once: beyond this a listener's queue runs over.
const CONNECTING: usize = 2_048;
/// Of so many handshakes one is timed.
const TIMED: u32 = 16;
/// Flows that leave between two looks at what has come.
const LEAVING: usize = 512;

/// How ghosts leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// With RST, as a process that is killed or a network that changes.
    Reset,
    /// With FIN.
    Finish,
    /// Without a word, as a machine that loses its power.
    Vanish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Away,
    Opening,
    Open,
}

#[derive(Debug)]
struct Ghost {
    ear: Ear,
    state: State,
    /// Answers to its opening that are still to come.
    due: u8,
    is_deaf: bool,
}

/// Ghosts of one server, moved by [`Ghosts::turn`].
pub struct Ghosts<'a> {
    how: &'a Subscribe,
    matcher: fn(u32) -> String,
    wires: Wires,
    ghosts: Vec<Ghost>,
    hearing: Hearing,
    /// Those that must still ask, in order; with a cursor or without.
    waiting: VecDeque<(Range<u32>, bool)>,
    /// Those that must still leave.
    leaving: VecDeque<(Range<u32>, Leaving)>,
    /// Parts of openings that wait for the answer to the part before.
    parts: HashMap<u32, VecDeque<Vec<u8>>>,
    /// When the handshakes that are timed began, and how long those before took, in nanoseconds.
    begun: HashMap<u32, u64>,
    round_trips: Histogram<u64>,
    opening: usize,
    open: usize,
    failed: u64,
}

impl<'a> Ghosts<'a> {
    /// `options.count` ghosts, none of them connected; `topic_of` answers the number of each one's topic, of
    /// `topics`, and `matcher` what a subscriber of a topic names.
    ///
    /// # Errors
    /// No packet ring may be had.
    pub fn new(
        pair: &Pair,
        how: &'a Subscribe,
        options: &Options,
        topics: u32,
        topic_of: impl Fn(u32) -> u32,
        matcher: fn(u32) -> String,
    ) -> io::Result<Self> {
        let ghost =
            |number| Ghost { ear: Ear::new(topic_of(number)), state: State::Away, due: 0, is_deaf: false };
        Ok(Self {
            how,
            matcher,
            wires: Wires::new(pair, SERVER, options)?,
            ghosts: (0..options.count as u32).map(ghost).collect(),
            hearing: Hearing::new(topics),
            waiting: VecDeque::new(),
            leaving: VecDeque::new(),
            parts: HashMap::new(),
            begun: HashMap::new(),
            round_trips: Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("valid bounds"),
            opening: 0,
            open: 0,
            failed: 0,
        })
    }

    /// Lets `which` connect as further turns are taken. With `resumes` they come back with their cursor.
    pub fn start_connecting(&mut self, which: Range<u32>, resumes: bool) {
        self.waiting.push_back((which, resumes));
    }

    /// Lets `which` leave as further turns are taken.
    pub fn start_leaving(&mut self, which: Range<u32>, how: Leaving) {
        self.leaving.push_back((which, how));
    }

    /// Whether nobody waits for a connection or its answer, or for its turn to leave.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.opening == 0 && self.leaving.is_empty()
    }

    /// From here on `which` take nothing more: their windows are shut.
    pub fn deafen(&mut self, which: Range<u32>) {
        for number in which {
            self.ghosts[number as usize].is_deaf = true;
            self.wires.deafen(number);
        }
    }

    /// Ghosts that hear.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Ghosts, connected or not.
    pub fn count(&self) -> usize {
        self.ghosts.len()
    }

    /// Connections that were refused, or never answered.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Events that ghosts have not got, if `last_of(topic)` was the last of each topic. The deaf are not
    /// asked.
    pub fn missing(&self, last_of: impl Fn(u32) -> u32) -> u64 {
        let missing =
            |ghost: &Ghost| u64::from((last_of(ghost.ear.topic) + 1).saturating_sub(ghost.ear.next));
        self.ghosts.iter().filter(|ghost| !ghost.is_deaf && ghost.state == State::Open).map(missing).sum()
    }

    /// From here on each ghost must get the event `next_of(topic)` of its topic next; 0 for any.
    pub fn expect(&mut self, which: Range<u32>, next_of: impl Fn(u32) -> u32) {
        for number in which {
            let ear = &mut self.ghosts[number as usize].ear;
            ear.next = next_of(ear.topic);
        }
    }

    /// What came so far.
    pub fn judgement(&self) -> Judgement {
        self.hearing.judgement
    }

    /// How often the event of that number of topic 0 was delivered since [`Ghosts::count_anew`].
    pub fn delivered(&self, number: u64) -> usize {
        self.hearing.delivered(number)
    }

    /// The event of that number of topic 0 is about to be published.
    pub fn count_anew(&mut self, number: u64) {
        self.hearing.count_anew(number);
    }

    /// From here on times from publish to delivery are kept, and no earlier ones.
    pub fn time(&mut self, is_timed: bool) {
        self.hearing.time(is_timed);
    }

    /// Times from publish to delivery, in nanoseconds.
    pub fn latency(&self) -> &Histogram<u64> {
        self.hearing.latency()
    }

    /// The longest of them since this was last asked, in nanoseconds.
    pub fn take_slowest(&mut self) -> u64 {
        self.hearing.take_slowest()
    }

    /// Times from SYN to the kernel's answer, of some of the handshakes, in nanoseconds: what a round trip
    /// takes while they connect.
    pub fn round_trips(&self) -> &Histogram<u64> {
        &self.round_trips
    }

    /// What their TCP has seen.
    pub fn counts(&self) -> Counts {
        self.wires.counts()
    }

    /// Packets for which a ring had no room: in receiving, in sending.
    pub fn drops(&mut self) -> (u64, u64) {
        self.wires.drops()
    }

    /// Packets that the impairments lost.
    pub fn lost(&self) -> u64 {
        self.wires.lost()
    }

    /// Takes turns until `until` says so; waits for packets when none come. Answers whether it said so within
    /// `within`.
    pub fn run(&mut self, within: Duration, mut until: impl FnMut(&mut Self) -> bool) -> bool {
        let started = Instant::now();
        loop {
            let came = self.turn();
            if until(self) {
                return true;
            }
            if started.elapsed() > within {
                return false;
            }
            if came == 0 {
                self.wait();
            }
        }
    }

    /// Waits a little for packets, unless something is to be done.
    pub fn wait(&mut self) {
        if self.waiting.is_empty() && self.leaving.is_empty() {
            self.wires.wait();
        }
    }

    /// Handles packets that have come, and lets some connect and leave. Answers how many packets came.
    pub fn turn(&mut self) -> usize {
        self.connect_some();
        self.leave_some();
        self.hearing.begin();
        let Self { how, matcher, wires, ghosts, hearing, parts, begun, round_trips, .. } = self;
        let Self { opening, open, failed, .. } = self;
        let mut over = Vec::new();
        let came = wires.turn(|number, news| {
            let ghost = &mut ghosts[number as usize];
            if ghost.state == State::Away {
                return Vec::new();
            }
            let (bytes, is_end) = match news {
                News::Open => {
                    if let Some(at) = begun.remove(&number) {
                        round_trips.saturating_record(machine::now() - at);
                    }
                    let mut all = parts.remove(&number).unwrap_or_default();
                    let first = all.pop_front().unwrap_or_default();
                    if !all.is_empty() {
                        parts.insert(number, all);
                    }
                    if ghost.due == 0 {
                        ghost.state = State::Open;
                        *opening -= 1;
                        *open += 1;
                    }
                    return first;
                }
                News::Bytes(bytes) => (bytes, false),
                News::End(bytes) => (bytes, true),
                News::Reset => (&b""[..], true),
            };
            let asked = hearing.take(how.wire, &mut ghost.ear, bytes);
            let mut reply = asked.reply;
            if ghost.state == State::Opening && asked.answers > 0 {
                ghost.due = ghost.due.saturating_sub(asked.answers);
                if ghost.due == 0 {
                    ghost.state = State::Open;
                    *opening -= 1;
                    *open += 1;
                } else if let Some(next) = parts.get_mut(&number).and_then(VecDeque::pop_front) {
                    reply.extend(next);
                }
            }
            if asked.again
                && let Some(again) = &how.again
                && let Some(cursor) = hearing.cursor(&ghost.ear)
            {
                reply.extend(again(&matcher(ghost.ear.topic), &cursor));
            }
            if asked.is_over || is_end {
                match ghost.state {
                    State::Opening => {
                        *opening -= 1;
                        *failed += 1;
                    }
                    _ => *open -= 1,
                }
                hearing.judgement.ended += 1;
                ghost.state = State::Away;
                parts.remove(&number);
                over.push(number);
                reply.clear();
            }
            reply
        });
        for number in over {
            // Nothing happens to those that have ended by themselves.
            self.wires.finish(number);
        }
        came
    }

    fn connect_some(&mut self) {
        while self.opening < CONNECTING {
            let Some((range, resumes)) = self.waiting.front_mut() else { return };
            let (next, resumes) = (range.next(), *resumes);
            let Some(number) = next else {
                self.waiting.pop_front();
                continue;
            };
            let ghost = &mut self.ghosts[number as usize];
            if ghost.state != State::Away {
                continue;
            }
            let topic = (self.matcher)(ghost.ear.topic);
            let cursor = self.hearing.cursor(&ghost.ear).filter(|_| resumes);
            let has_cursor = cursor.is_some();
            let parts: VecDeque<Vec<u8>> = match (&self.how.again, cursor) {
                (Some(again), Some(cursor)) => VecDeque::from([again(&topic, &cursor)]),
                _ => (self.how.opening)(&topic).into(),
            };
            if !resumes {
                ghost.ear.forget();
            }
            ghost.ear.reconnect();
            ghost.state = State::Opening;
            // A long poll with a cursor is held: nothing answers it before there is an event.
            let is_held = self.how.wire == Wire::LongPoll && resumes && has_cursor;
            ghost.due = if is_held { 0 } else { parts.len() as u8 };
            self.parts.insert(number, parts);
            self.opening += 1;
            if number.is_multiple_of(TIMED) {
                self.begun.insert(number, machine::now());
            }
            self.wires.open(number);
        }
    }

    fn leave_some(&mut self) {
        for _ in 0..LEAVING {
            let Some((range, how)) = self.leaving.front_mut() else { return };
            let (next, how) = (range.next(), *how);
            let Some(number) = next else {
                self.leaving.pop_front();
                continue;
            };
            let ghost = &mut self.ghosts[number as usize];
            match ghost.state {
                State::Away => continue,
                State::Opening => self.opening -= 1,
                State::Open => self.open -= 1,
            }
            ghost.state = State::Away;
            self.parts.remove(&number);
            match how {
                Leaving::Reset => self.wires.reset(number),
                Leaving::Finish => self.wires.finish(number),
                Leaving::Vanish => self.wires.vanish(number),
            }
        }
    }
}
