//! What subscribers have heard, however their bytes came: judged, counted and timed.

use hdrhistogram::Histogram;

use crate::judge::Judgement;
use crate::machine;
use crate::target::Wire;
use crate::wire::{self, Decoder, Found};

/// Events whose deliveries are counted at once.
const COUNTED: usize = 4_096;

/// One subscriber's ear.
#[derive(Debug)]
pub(crate) struct Ear {
    /// Number of its topic.
    pub(crate) topic: u32,
    /// Number of the event that it must get next; 0 if any will do.
    pub(crate) next: u32,
    /// Offset of its place in the log, once it was told one.
    offset: Option<u64>,
    decoder: Decoder,
}

impl Ear {
    /// An ear that has heard nothing, and expects the first event of its topic.
    pub(crate) fn new(topic: u32) -> Self {
        Self { topic, next: 1, offset: None, decoder: Decoder::default() }
    }

    /// It has no cursor any more.
    pub(crate) fn forget(&mut self) {
        self.offset = None;
    }

    /// Its connection begins anew.
    pub(crate) fn reconnect(&mut self) {
        self.decoder = Decoder::default();
    }
}

/// What a piece of a stream asks of whoever holds the connection.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Good answers to the opening.
    pub(crate) answers: u8,
    /// The next request is due.
    pub(crate) again: bool,
    /// Pongs, framed.
    pub(crate) reply: Vec<u8>,
    /// Nothing more is to be had from this connection.
    pub(crate) is_over: bool,
}

/// What all subscribers of a run have heard.
pub(crate) struct Hearing {
    pub(crate) judgement: Judgement,
    /// Epoch of the cursors.
    pub(crate) epoch: String,
    /// How often each of the latest events of topic 0 was delivered.
    delivered: Vec<u32>,
    /// Deliveries of each topic.
    arrived: Vec<u64>,
    /// Pieces that were taken.
    pub(crate) receives: u64,
    latency: Histogram<u64>,
    /// The longest of them since it was taken, in nanoseconds.
    slowest: u64,
    is_timed: bool,
    now: u64,
}

impl Hearing {
    pub(crate) fn new(topics: u32) -> Self {
        Self {
            judgement: Judgement::default(),
            epoch: String::new(),
            delivered: vec![0; COUNTED],
            arrived: vec![0; topics as usize],
            receives: 0,
            latency: Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("valid bounds"),
            slowest: 0,
            is_timed: false,
            now: 0,
        }
    }

    /// What follows has come by now.
    pub(crate) fn begin(&mut self) {
        if self.is_timed {
            self.now = machine::now();
        }
    }

    /// From here on times from publish to delivery are kept, and no earlier ones.
    pub(crate) fn time(&mut self, is_timed: bool) {
        self.is_timed = is_timed;
        self.latency.reset();
    }

    /// Times from publish to delivery, in nanoseconds.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// The longest time since this was last asked, in nanoseconds.
    pub(crate) fn take_slowest(&mut self) -> u64 {
        std::mem::take(&mut self.slowest)
    }

    /// How often the event of that number of topic 0 was delivered since [`Hearing::count_anew`].
    pub(crate) fn delivered(&self, number: u64) -> usize {
        self.delivered[number as usize % COUNTED] as usize
    }

    /// The event of that number of topic 0 is about to be published.
    pub(crate) fn count_anew(&mut self, number: u64) {
        self.delivered[number as usize % COUNTED] = 0;
    }

    /// Deliveries of the events of a topic so far.
    pub(crate) fn arrived(&self, topic: u32) -> u64 {
        self.arrived[topic as usize]
    }

    /// A subscriber's cursor, if it has one.
    pub(crate) fn cursor(&self, ear: &Ear) -> Option<String> {
        Some(format!("{}-{}", self.epoch, ear.offset?))
    }

    /// Takes a piece of a subscriber's stream.
    pub(crate) fn take(&mut self, wire: Wire, ear: &mut Ear, bytes: &[u8]) -> Asked {
        let mut asked = Asked::default();
        let Self { judgement, epoch, delivered, arrived, latency, slowest, now, .. } = self;
        let Ear { topic, next, offset, decoder } = ear;
        let is_timed = self.is_timed;
        self.receives += 1;
        decoder.feed(wire, bytes, &mut |found| match found {
            Found::Event(text) => {
                if let Some(payload) = judgement.event(next, *topic, text) {
                    arrived[*topic as usize] += 1;
                    if *topic == 0 {
                        delivered[payload.number as usize % COUNTED] += 1;
                    }
                    if is_timed {
                        let took = now.saturating_sub(payload.sent).max(1);
                        latency.saturating_record(took);
                        *slowest = took.max(*slowest);
                    }
                }
            }
            Found::Cursor(cursor) => {
                if let Some(hyphen) = memchr::memchr(b'-', cursor) {
                    if epoch.is_empty() {
                        *epoch = String::from_utf8_lossy(&cursor[..hyphen]).into_owned();
                    }
                    let digit = |value, digit: &u8| value * 10 + u64::from(digit.wrapping_sub(b'0'));
                    *offset = Some(cursor[hyphen + 1..].iter().fold(0, digit));
                }
            }
            Found::Answer => asked.answers = asked.answers.saturating_add(1),
            Found::Again => asked.again = true,
            Found::Ping(data) => asked.reply.extend(wire::pong(data)),
            Found::Gap => judgement.gaps += 1,
            Found::Malformed => {
                judgement.malformed += 1;
                asked.is_over = true;
            }
            Found::End => asked.is_over = true,
        });
        asked
    }
}
