//! The shard: parked subscribers of one core, their sets, walks and the one path of those that are behind.
//! Pure: bytes, time, events and results of sends come in through `handle_*`, and batches of sends and
//! actions come out through `poll_*`, so that a test can be the network and the clock. `run` is the loop that
//! joins it to real sockets.
//!
//! The order of a round: `handle_event` for what the channel holds, `handle_channel_empty` once it is empty,
//! then `poll_batch`, the sends, `handle_batch_sent`, and `poll_action` until nothing is left to do.

mod aside;
mod batch;
mod behind;
#[cfg(feature = "bench")]
pub(crate) mod bench;
mod control;
mod given;
mod half_sent;
mod index;
mod input;
mod members;
#[cfg(test)]
mod memory;
mod prepared;
pub(crate) mod run;
#[cfg(test)]
mod scale;
mod sets;
mod settled;
mod slots;
#[cfg(test)]
mod storm;
mod sweep;
mod walk;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use stentor_protocol::ws;

use crate::app::SubscriberId;
use crate::config::{Config, SlowPolicy};
use crate::connection::OwnedRequest;
use crate::cursor::{Cursor, Offset};
use crate::event::Event;
use crate::metrics::Ended;
use crate::publish::Sequencer;
use crate::topic::{Matcher, Topic};
use crate::transport::websocket::Command;
use crate::transport::{Encoding, Transport};
use aside::Aside;
pub(crate) use batch::{Batch, Outcome};
use batch::{BatchSend, Purpose};
use control::Control;
use given::{Given, Packed};
use half_sent::HalfSents;
#[cfg(test)]
pub(crate) use input::{Ready, Received};
pub(crate) use prepared::{HeadVariant, Run};
use prepared::{Heads, Prepared};
use sets::{Matchers, Sets};
pub(crate) use slots::SlotId;
use slots::{NONE, Slots, State, flag};
use walk::Turns;

/// Topics whose subscribers were counted lately.
const COUNTED_MAX: usize = 256;
/// Bytes of a topic's turn, but for its last send.
pub(crate) const TURN_BYTES_MAX: usize = 1 << 20;

/// How much the shard does at a time. A simulation takes little steps, so that much happens between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Sends of one batch: all of them are over before the next is filled.
    pub(crate) batch_sends: usize,
    /// Sends of a topic's turn.
    pub(crate) turn_sends: usize,
    /// Most events of one run.
    pub(crate) run_events: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { batch_sends: 256, turn_sends: 1_024, run_events: 256 }
    }
}

/// What a connection joins the shard with.
#[derive(Debug)]
pub(crate) struct Join {
    /// The admission that the connection holds, as the driver has it.
    pub(crate) permit: u64,
    pub(crate) matchers: Vec<Matcher>,
    /// Its `head` is given by the shard.
    pub(crate) encoding: Encoding,
    /// What the answers of a long poll carry.
    pub(crate) variant: HeadVariant,
    /// The response head, which goes out before anything else; none for a long poll.
    pub(crate) head: Option<Rc<[u8]>>,
    /// Where it begins.
    pub(crate) after: Offset,
    /// What counts as told of gaps.
    pub(crate) told: Offset,
    /// The cursor that it brought, if that is of another epoch: the gap is told first.
    pub(crate) old: Option<Cursor>,
    /// How long a long poll is held.
    pub(crate) wait_seconds: u32,
    /// How long a stream may live; 0 for as long as it likes.
    pub(crate) max_age_seconds: u32,
    pub(crate) policy: SlowPolicy,
    /// What its WebSocket may publish to.
    pub(crate) publish: Vec<Matcher>,
    /// The embedder's.
    pub(crate) data: Option<Arc<dyn Any + Send + Sync>>,
    /// What the application is asked with when a `stentor.v1` WebSocket subscribes to more.
    pub(crate) request: Option<Rc<OwnedRequest>>,
    /// Whether permessage-deflate was agreed on: without context takeover, as always here.
    pub(crate) inflates: bool,
    /// Bytes that came with the request and were not part of it.
    pub(crate) leftover: Vec<u8>,
}

/// How a socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// What is sent arrives: shutdown, then a bounded wait for the peer.
    Graceful,
    /// Reset.
    Abort,
    /// At once: the peer has said its end, so nothing of it is on its way that would make this a reset.
    Plain,
}

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Report when the socket takes bytes again (or stop to).
    WatchWritable { socket: u32, is_on: bool },
    /// Receive once, and bring what comes to `handle_received`.
    Receive { socket: u32 },
    /// Close the socket and free its admission; the slot is gone.
    Close { socket: u32, permit: u64, how: Closing },
    /// The connection has a next request: back to a task with it. The slot is gone.
    Resume { socket: u32, permit: u64, read: Vec<u8> },
    /// Ask the application whether this WebSocket may hear these matchers too; the answer goes to
    /// `handle_authorized`.
    Authorize { slot: SlotId, request: Option<Rc<OwnedRequest>>, matchers: Vec<Matcher> },
    /// Tell the application of a message; what it replies goes to `handle_reply`.
    Message { slot: SlotId, message: OwnedMessage },
    /// Tell the application that a subscription began.
    Opened { slot: SlotId },
    /// Tell the application that one is over.
    Closed { id: SubscriberId, transport: Transport, data: Option<Arc<dyn Any + Send + Sync>> },
}

/// A message that a WebSocket sent us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnedMessage {
    Text(String),
    Binary(Vec<u8>),
}

/// What few slots need, and for a while, beside them.
#[derive(Debug, Default)]
struct Extra {
    /// The cursor of another epoch, until its gap is told.
    old: Option<Cursor>,
    /// A `subscribe` command that waits for the application's word.
    command: Option<Command>,
    /// Bytes of the peer that belong to what comes next.
    leftover: Vec<u8>,
    /// A message of which not all is here.
    decoder: Option<Box<ws::message::MessageDecoder>>,
    /// What waits until a half-sent run is sent.
    waiting: VecDeque<Control>,
    messages: input::Bucket,
    publishes: input::Bucket,
}

/// What a shard has done, counted without atomics: the driver adds it to the metrics once a round.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) deliveries: u64,
    pub(crate) sends: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) gaps: u64,
    pub(crate) slow: u64,
    pub(crate) heartbeats: u64,
    pub(crate) messages: u64,
    pub(crate) walks: u64,
    pub(crate) turns: u64,
    /// Frames, and input of one-way subscribers, that broke a rule.
    pub(crate) malformed_frames: u64,
    /// Commands of `stentor.v1` that were answered with an error.
    pub(crate) malformed_commands: u64,
    /// Messages and publishes over the rate.
    pub(crate) over_rate: u64,
    /// Events that came over WebSockets.
    pub(crate) published: u64,
    /// Subscriptions that are over, by why.
    pub(crate) ended: [u64; Ended::ALL.len()],
}

/// What the shard has looked at, for tests that bound it.
#[cfg(test)]
#[derive(Debug, Default, Clone)]
pub(crate) struct Work {
    pub(crate) log_reads: u64,
    /// Slots, sets, topics and events that were looked at.
    pub(crate) looks: std::cell::Cell<u64>,
}

/// Mistakes that the simulation must catch: each puts one wrong reading of the design back in. All off but in
/// tests.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Defects {
    /// `swap_remove` from the vector of a running walk.
    pub(crate) swap_in_walk: bool,
    /// Interest is set after the head is read.
    pub(crate) late_interest: bool,
    /// An empty answer and a heartbeat carry the log's head.
    pub(crate) head_as_place: bool,
    /// A topic's turn sends its own events only, and what the set has gone past is dropped.
    pub(crate) sent_through: bool,
    /// A short send is taken as whole.
    pub(crate) short_is_whole: bool,
}

/// The parked subscribers of one core.
pub(crate) struct Shard {
    /// Its number among the shards.
    number: usize,
    config: Arc<Config>,
    sequencer: Arc<Sequencer>,
    /// Milliseconds since the shard began.
    now_ms: u64,
    /// State of the generator behind jitter; not for secrets.
    random: u64,

    slots: Slots,
    sets: Sets,
    heads: Heads,
    prepared: Prepared,
    /// Response heads that are still to be sent: most are the same, and a mass that comes waits with them. A
    /// tree, not a table: it grows without a stop, and shrinks. So are those of what else is beside a slot.
    first_heads: BTreeMap<u32, Rc<[u8]>>,
    extras: BTreeMap<u32, Box<Extra>>,
    half_sent: HalfSents,
    given: BTreeMap<u32, Rc<Given>>,
    /// What the first was given that is no one's own: most are given the same, and cost nothing beside their
    /// slot.
    given_common: Option<Given>,
    /// What the latest subscriber was given to which that was of no one else's making.
    given_lately: Option<Rc<Given>>,

    turns: Turns,
    /// All events that are taken and not finished.
    unfinished: BTreeMap<Offset, Arc<Event>>,
    last_event: Offset,
    /// The offset up to which all events were taken from the channel.
    taken: Offset,

    /// To be served from the log.
    to_serve: VecDeque<SlotId>,
    aside: Aside,
    /// Half sent, and the socket takes bytes again.
    to_resume: VecDeque<SlotId>,
    controls: VecDeque<(SlotId, Control)>,
    actions: VecDeque<Action>,
    /// Sets that are made but whose interest is not set: only with the defect of that name.
    late: Vec<Vec<Matcher>>,

    /// Subscribers by transport.
    subscribers: [usize; 6],
    /// What was counted lately for who asked, with the second of it.
    counted: HashMap<Topic, (u32, usize)>,
    sweep: sweep::Sweep,
    drain: Option<sweep::Drain>,
    #[cfg(test)]
    pub(crate) work: Work,
    pub(crate) counters: Counters,
    pub(crate) defects: Defects,
    pub(crate) pace: Pace,
}

impl Shard {
    /// A shard without subscribers. `seed` makes its jitter.
    pub(crate) fn new(number: usize, config: Arc<Config>, sequencer: Arc<Sequencer>, seed: u64) -> Self {
        let epoch = sequencer.epoch();
        Self {
            number,
            config,
            now_ms: 0,
            random: seed | 1,
            slots: Slots::new(),
            sets: Sets::new(),
            heads: Heads::new(),
            prepared: Prepared::new(epoch),
            first_heads: BTreeMap::new(),
            extras: BTreeMap::new(),
            half_sent: HalfSents::default(),
            given: BTreeMap::new(),
            given_common: None,
            given_lately: None,
            turns: Turns::default(),
            unfinished: BTreeMap::new(),
            last_event: Offset::START,
            taken: Offset::START,
            to_serve: VecDeque::new(),
            aside: Aside::default(),
            to_resume: VecDeque::new(),
            controls: VecDeque::new(),
            actions: VecDeque::new(),
            late: Vec::new(),
            subscribers: [0; 6],
            counted: HashMap::new(),
            sweep: sweep::Sweep::default(),
            drain: None,
            #[cfg(test)]
            work: Work::default(),
            counters: Counters::default(),
            defects: Defects::default(),
            pace: Pace::default(),
            sequencer,
        }
    }

    /// Connections that are parked here.
    pub(crate) fn connections(&self) -> usize {
        self.slots.used()
    }

    /// Subscribers of this shard that hear `topic`, as of this second: a topic may have a million sets, and
    /// anybody may ask.
    pub(crate) fn subscribers_of(&mut self, topic: &Topic) -> usize {
        let second = self.second();
        if let Some(&(counted_at, count)) = self.counted.get(topic)
            && counted_at == second
        {
            return count;
        }
        let sets = self.sets.of_topic(topic);
        let count = |&number: &u32| {
            let set = &self.sets[number];
            set.members.len() + set.behind_count as usize
        };
        let count = sets.iter().map(count).sum();
        if self.counted.len() >= COUNTED_MAX {
            self.counted.clear();
        }
        self.counted.insert(topic.clone(), (second, count));
        count
    }

    /// Subscribers that are served from the log.
    pub(crate) fn behind(&self) -> usize {
        self.sets.behind
    }

    /// Subscribers of this shard by transport, in the order of [`Transport::ALL`].
    pub(crate) fn subscribers_by_transport(&self) -> [usize; 6] {
        self.subscribers
    }

    /// The name, transport and embedder's data of a subscription.
    #[expect(clippy::type_complexity, reason = "three parts of one answer, used in one place")]
    pub(crate) fn subscriber(
        &mut self,
        slot: SlotId,
    ) -> Option<(SubscriberId, Transport, Option<Arc<dyn Any + Send + Sync>>)> {
        let set = self.slots.get(slot)?.set;
        let transport = self.sets.get(set)?.encoding.transport;
        let data = self.given_to(slot.index).and_then(|given| given.data.clone());
        Some((self.subscriber_id(slot), transport, data))
    }

    /// Whether nothing waits for a place in a batch.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.turns.is_empty()
            && !self.aside.has_work(self.taken)
            && self.to_serve.is_empty()
            && self.to_resume.is_empty()
            && self.controls.is_empty()
    }

    /// Topics that have unfinished events.
    #[cfg(test)]
    fn turns_under_way(&self) -> usize {
        self.turns.len()
    }

    /// What a slot is doing, for the messages of tests.
    #[cfg(test)]
    pub(crate) fn describe(&self, id: SlotId) -> String {
        let slot = &self.slots[id.index];
        let set = self.sets.get(slot.set);
        let position = set.map(|_| self.position(slot.set));
        format!(
            "{:?} flags {:x} place {} position {position:?} taken {} walked {:?} walk {:?} ready {:?}, {:?}",
            slot.state,
            slot.flags,
            slot.place,
            self.taken,
            set.map(|s| s.walked),
            set.and_then(|s| s.walk.as_ref()),
            self.turns,
            self.aside
        )
    }

    fn subscriber_id(&self, slot: SlotId) -> SubscriberId {
        SubscriberId((self.number as u64) << 57 | u64::from(slot.index) << 32 | u64::from(slot.generation))
    }

    /// Seconds since the shard began.
    fn second(&self) -> u32 {
        (self.now_ms / 1_000) as u32
    }

    /// A number below `below` (which is not 0), for jitter.
    fn jitter(&mut self, below: u32) -> u32 {
        // xorshift64* by Marsaglia and Vigna.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        ((self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % u64::from(below.max(1))) as u32
    }

    fn cursor(&self, offset: Offset) -> Cursor {
        self.sequencer.cursor(offset)
    }

    fn extra(&mut self, index: u32) -> &mut Extra {
        self.slots[index].put(flag::HAS_EXTRA, true);
        self.extras.entry(index).or_default()
    }

    /// The response head of a slot, if it is still to be sent.
    fn first_head(&self, index: u32) -> Option<&[u8]> {
        if self.slots[index].is(flag::HAS_HEAD) {
            self.first_heads.get(&index).map(|head| &**head)
        } else {
            None
        }
    }

    /// The response head of a slot was sent.
    fn forget_head(&mut self, index: u32) {
        if self.slots[index].is(flag::HAS_HEAD) {
            self.first_heads.remove(&index);
            self.slots[index].put(flag::HAS_HEAD, false);
        }
    }

    fn extra_of(&mut self, index: u32) -> Option<&mut Extra> {
        if !self.slots[index].is(flag::HAS_EXTRA) {
            return None;
        }
        self.extras.get_mut(&index).map(|extra| &mut **extra)
    }

    /// What the application gave a subscriber.
    fn given_to(&self, index: u32) -> Option<&Given> {
        let slot = &self.slots[index];
        if slot.is(flag::IS_GIVEN_COMMON) {
            return self.given_common.as_ref();
        }
        if !slot.is(flag::IS_GIVEN) {
            return None;
        }
        self.given.get(&index).map(|given| &**given)
    }

    fn give(&mut self, index: u32, mut given: Given) {
        if given.is_nothing() {
            return;
        }
        if self.given_common.is_none() && given.is_same(&given) {
            self.given_common = Some(given.clone_plain());
        }
        if self.given_common.as_ref().is_some_and(|common| common.is_same(&given)) {
            self.slots[index].put(flag::IS_GIVEN_COMMON, true);
            return;
        }
        let shared = match &self.given_lately {
            Some(lately) if lately.is_same(&given) => Rc::clone(lately),
            _ => {
                given.publish.shrink_to_fit();
                let is_plain = given.is_same(&given);
                let given = Rc::new(given);
                if is_plain {
                    self.given_lately = Some(Rc::clone(&given));
                }
                given
            }
        };
        self.given.insert(index, shared);
        self.slots[index].put(flag::IS_GIVEN, true);
    }

    /// Forgets what stands beside a slot whose subscription is over.
    fn forget_beside(&mut self, index: u32) {
        let flags = self.slots[index].flags;
        if flags & flag::HAS_HEAD != 0 {
            self.first_heads.remove(&index);
        }
        if flags & flag::HAS_EXTRA != 0 {
            self.extras.remove(&index);
        }
        if flags & flag::IS_GIVEN != 0 {
            self.given.remove(&index);
        }
        self.slots[index]
            .put(flag::HAS_HEAD | flag::HAS_EXTRA | flag::IS_GIVEN | flag::IS_GIVEN_COMMON, false);
    }

    /// A connection subscribes: it is served from the log until it is level with its set. Its socket follows,
    /// by
    /// [`Shard::set_socket`], before anything else is asked of the shard.
    pub(crate) fn handle_join(&mut self, mut join: Join) -> SlotId {
        join.matchers.sort_unstable();
        join.matchers.dedup();
        let mut encoding = join.encoding;
        if encoding.transport.is_poll() {
            encoding.head = self.heads.number(&join.variant);
        }
        let set = self.set_of(join.matchers.into(), encoding);
        let second = self.second();
        let id = self.slots.take();
        let beat = self.first_beat(encoding);
        let is_poll = encoding.transport.is_poll();
        let age = if is_poll { join.wait_seconds } else { join.max_age_seconds };
        let jitter = if is_poll { 0 } else { self.jitter(age / 10) };
        let slot = &mut self.slots[id.index];
        slot.permit = join.permit;
        slot.place = join.after;
        slot.told = join.told;
        slot.beat = beat;
        // A second more, because the one that runs has begun already.
        slot.deadline = if age == 0 && !is_poll {
            NONE
        } else {
            second.saturating_add(age - jitter.min(age)).saturating_add(1)
        };
        slot.put(flag::KEEPS_ALIVE, join.variant.keeps_alive);
        slot.put(flag::INFLATES, join.inflates);
        slot.put(flag::STARTED, is_poll);
        slot.put(flag::POLICY_LATEST, join.policy == SlowPolicy::Latest);
        slot.put(flag::POLICY_CLOSE, join.policy == SlowPolicy::Close);
        self.sets.begin_behind(&mut self.slots, set, id.index);
        self.subscribers[encoding.transport as usize] += 1;
        if let Some(head) = join.head {
            self.first_heads.insert(id.index, head);
            self.slots[id.index].put(flag::HAS_HEAD, true);
        }
        if join.old.is_some() || !join.leftover.is_empty() {
            let extra = self.extra(id.index);
            extra.old = join.old;
            extra.leftover = join.leftover;
        }
        let request = join.request.map(|request| Packed::new(&request));
        // Whoever cannot speak has no use for the right to publish.
        let publish = if encoding.transport == Transport::WebSocket { join.publish } else { Vec::new() };
        self.give(id.index, Given { publish, data: join.data, request });
        self.serve_soon(id.index);
        id
    }

    /// A connection waits for its next request. Its socket follows, by [`Shard::set_socket`].
    pub(crate) fn handle_idle(&mut self, permit: u64) -> SlotId {
        let deadline = self.second().saturating_add(self.config.timing.idle_seconds.max(1)).saturating_add(1);
        let id = self.slots.take();
        let slot = &mut self.slots[id.index];
        slot.permit = permit;
        slot.state = State::Idle;
        slot.deadline = deadline;
        slot.put(flag::KEEPS_ALIVE, true);
        id
    }

    /// The socket of a new slot is parked, in the driver's numbering. One that could not be parked is
    /// [abandoned](Shard::abandon) instead.
    pub(crate) fn set_socket(&mut self, id: SlotId, socket: u32) {
        self.slots[id.index].socket = socket;
    }

    /// The set of these matchers and this encoding; one that is made here has its interest set under the
    /// sequencer's lock and starts at the head which that returns.
    fn set_of(&mut self, matchers: Matchers, encoding: Encoding) -> u32 {
        if let Some(number) = self.sets.find(&matchers, encoding) {
            return number;
        }
        let head = if self.defects.late_interest {
            self.late.push(matchers.to_vec());
            self.sequencer.head()
        } else {
            self.sequencer.add_interest(self.number, &matchers)
        };
        self.heads.retain(encoding.head);
        let second = self.second();
        self.sets.make(matchers, encoding, head, second)
    }

    /// Fills `batch` with the next sends, at most one a socket. False if there is nothing to do until
    /// something comes in; else the sends are made, their failures written into it, and `handle_batch_sent`
    /// called.
    pub(crate) fn poll_batch(&mut self, batch: &mut Batch) -> bool {
        batch.clear(self.pace.batch_sends);
        for matchers in std::mem::take(&mut self.late) {
            self.sequencer.add_interest(self.number, &matchers);
        }
        self.fill(batch);
        batch.is_cut_short || !batch.sends.is_empty() || !batch.walked.is_empty()
    }

    /// The sends of `batch` were made.
    pub(crate) fn handle_batch_sent(&mut self, batch: &mut Batch) {
        self.counters.sends += batch.sends.len() as u64;
        for at in 0..batch.sends.len() {
            let BatchSend { slot, purpose, outcome, run, from, .. } = batch.sends[at];
            self.slots[slot].put(flag::IN_BATCH, false);
            let outcome = match outcome {
                Outcome::Short(_) if self.defects.short_is_whole => Outcome::Whole,
                other => other,
            };
            let run = &batch.runs[run as usize];
            self.counters.bytes_sent += match outcome {
                Outcome::Whole => (run.len() - from) as u64,
                Outcome::Short(bytes) => bytes as u64,
                Outcome::Full | Outcome::Failed => 0,
            };
            if outcome == Outcome::Failed {
                self.close(slot, Closing::Plain, Ended::Reset);
                continue;
            }
            match purpose {
                Purpose::Walk(set) => self.walk_sent(slot, set, outcome, run),
                Purpose::Behind(number) => {
                    let served = batch.behind[number as usize];
                    self.behind_sent(slot, served, outcome, run);
                }
                Purpose::Rest => self.rest_sent(slot, outcome),
                Purpose::Control(number) => {
                    let control = std::mem::replace(&mut batch.controls[number as usize], Control::Heartbeat);
                    self.control_sent(slot, control, outcome, run);
                }
            }
        }
        for at in 0..batch.walked.len() {
            self.walk_visited(batch.walked[at]);
        }
        self.bound_half_sent();
    }

    /// Counts a look, for tests that bound them.
    fn look(&self) {
        #[cfg(test)]
        self.work.looks.set(self.work.looks.get() + 1);
    }

    /// What the driver has still to do.
    pub(crate) fn actions(&self) -> usize {
        self.actions.len()
    }

    /// What the driver is to do next.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn walk_sent(&mut self, index: u32, set: u32, outcome: Outcome, run: &Run) {
        if self.slots[index].state != State::Member || self.slots[index].set != set {
            return;
        }
        let Some(walk) = &self.sets[set].walk else { return };
        let (before, end) = (walk.before, walk.end);
        if !matches!(outcome, Outcome::Full | Outcome::Failed) {
            self.counters.deliveries += walk.events as u64;
        }
        let is_poll = self.sets[set].encoding.transport.is_poll();
        match outcome {
            Outcome::Whole if is_poll => self.answer_sent(index, end),
            Outcome::Whole => {}
            Outcome::Short(bytes) => {
                self.fall_behind(index, end);
                self.hold_rest(index, run, bytes);
                if is_poll {
                    self.answer_under_way(index, end);
                }
            }
            Outcome::Full | Outcome::Failed => {
                self.fall_behind(index, before);
                self.wait_for_room(index);
            }
        }
    }
}
