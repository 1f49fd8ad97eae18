//! Turns and walks: topics with unfinished events take turns, and a topic's turn goes on through its sets,
//! one walk through each. Whichever topic reaches a set first sends all that the set has still to get, merged
//! by offset.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::prepared::Run;
use super::slots::{NONE, State, flag};
use super::{Batch, Purpose, Shard, TURN_BYTES_MAX};
use crate::channel::Delivery;
use crate::cursor::Offset;
use crate::event::Event;
use crate::spare::shrink;
use crate::topic::{Matcher, Topic};

/// A run is not made longer than this by a further event.
pub(crate) const RUN_BYTES_MAX: usize = 256 << 10;
/// Sets and topics that a fill may pass without a send, so that a turn over idle ones is bounded too.
const PASSED_MAX: usize = 8_192;
/// Unfinished events that a fill looks at for sets with wildcards.
const EVENTS_LOOKED_AT: usize = 16_384;
/// Parts of the work that share a batch.
const PARTS: usize = 5;
/// The share of a turn that a topic has at once, when it comes, if that is enough for it: one in so many.
const FRESH_SHARE: usize = 8;

/// One pass over a set. Its end is fixed when it starts.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The offset before its first event: the place of the slots that it has not visited.
    pub(crate) before: Offset,
    /// The offset of its last event: the place of the slots that it has visited.
    pub(crate) end: Offset,
    /// How many events it sends.
    pub(crate) events: usize,
    pub(crate) run: Run,
    /// The next place of the vector to visit.
    pub(crate) next: usize,
    /// Its members when it started.
    pub(crate) count: usize,
    /// All members are visited: waiting joiners are served up to `end`, and so many more may be.
    pub(crate) joiners_left: Option<usize>,
    /// The fill in which the last of them was served.
    pub(crate) served_in: u64,
    /// It stands among the walks that this batch brings to their last member.
    pub(crate) is_listed: bool,
}

/// The topics that have unfinished events, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    topics: HashMap<Topic, TopicTurn>,
    /// Those that had no unfinished event when one came, and have not had a turn since: those of few
    /// subscribers have a short one before their turn comes, so that few sends do not wait behind many.
    fresh: VecDeque<Topic>,
    /// Sends and bytes of the short turn that is under way.
    fresh_sends: usize,
    fresh_bytes: usize,
    /// The others, in the order of their turns.
    ready: VecDeque<Topic>,
    /// Sends and bytes of the turn that is under way.
    sends: usize,
    bytes: usize,
    /// Of sets with wildcards: no unfinished event of theirs is after `walked` and up to here. What is true
    /// of a set that is gone is true of the one that has its number next, which starts at a later head.
    clear: RefCell<HashMap<u32, Offset>>,
    /// Unfinished events that may still be looked at in this fill.
    looks_left: Cell<usize>,
    /// Batches that were filled.
    pub(super) fills: u64,
}

impl Turns {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.ready.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Forgets a set that is gone.
    pub(super) fn forget(&mut self, number: u32) {
        self.clear.get_mut().remove(&number);
    }

    /// Gives back what a storm took.
    pub(super) fn shrink(&mut self) {
        shrink(&mut self.fresh);
        shrink(&mut self.ready);
        if self.topics.capacity() > 1_024 && self.topics.len() < self.topics.capacity() / 8 {
            self.topics.shrink_to(2 * self.topics.len());
        }
        let clear = self.clear.get_mut();
        if clear.capacity() > 1_024 && clear.len() < clear.capacity() / 8 {
            clear.shrink_to(2 * clear.len());
        }
    }
}

/// The events of a topic that the shard has taken and not finished.
#[derive(Debug, Default)]
pub(crate) struct TopicTurn {
    unfinished: VecDeque<Delivery>,
    pass: Option<Pass>,
}

/// One way through the sets of a topic: at its end all its events up to `target` are finished.
#[derive(Debug)]
struct Pass {
    target: Offset,
    sets: Rc<[u32]>,
    next: usize,
}

/// What became of a turn.
enum Turn {
    /// The topic has no unfinished event any more.
    Finished,
    /// It has had its share, or waits for the results of the batch.
    Over,
    /// It has had its share of looks, and so has the fill.
    Passed,
    /// No send fits into the batch any more.
    BatchFull,
}

/// What became of a set in a fill.
enum Pushed {
    /// All its members are visited.
    Whole,
    /// Some are.
    Part,
    /// A walk has visited all and ends when its joiners are served.
    Ending,
}

impl Shard {
    /// An event was taken from the channel.
    ///
    /// # Panics
    /// If offsets do not ascend: the sequencer's lock makes them.
    pub(crate) fn handle_event(&mut self, delivery: Delivery) {
        let offset = delivery.event.offset();
        assert!(offset > self.last_event, "the channel repeated or disordered an event: {offset}");
        self.last_event = offset;
        self.taken = self.taken.max(offset);
        let topic = delivery.event.topic().clone();
        // Whether any set still wants it is found by the topic's turn: one look for all events of a burst.
        if !self.turns.topics.contains_key(&topic) {
            self.turns.fresh.push_back(topic.clone());
        }
        self.unfinished.insert(offset, Arc::clone(&delivery.event));
        self.turns.topics.entry(topic).or_default().unfinished.push_back(delivery);
    }

    /// The channel was found empty after `head` had been read: everything up to there is taken.
    pub(crate) fn handle_channel_empty(&mut self, head: Offset) {
        self.taken = self.taken.max(head);
    }

    /// Every event of the set's matchers up to here was walked or is in the running walk; all later ones are
    /// still to come.
    pub(crate) fn position(&self, number: u32) -> Offset {
        let set = &self.sets[number];
        if let Some(walk) = &set.walk {
            return walk.end;
        }
        self.seek(number).0
    }

    /// The position of a set of which no walk runs, and whether it is that: with wildcards, and after so many
    /// looks, it may be further.
    pub(super) fn seek(&self, number: u32) -> (Offset, bool) {
        let set = &self.sets[number];
        if !set.matchers.iter().any(Matcher::is_wildcard) {
            let first = |matcher: &Matcher| {
                let unfinished = &self.turns.topics.get(matcher.as_str())?.unfinished;
                let start = unfinished.partition_point(|d| d.event.offset() <= set.walked);
                unfinished.get(start).map(|delivery| delivery.event.offset())
            };
            let first = set.matchers.iter().filter_map(first).min();
            return (first.map_or(set.walked.max(self.taken), Offset::previous), true);
        }
        let mut clear = self.turns.clear.borrow_mut();
        let from = clear.get(&number).copied().unwrap_or_default().max(set.walked);
        let mut looked_to = from;
        for (&offset, event) in self.unfinished.range(from.next()..) {
            let is_next = set.matchers.iter().any(|m| m.matches(event.topic().as_str()));
            if is_next || !self.may_look_on() {
                let position = if is_next { offset.previous() } else { looked_to };
                clear.insert(number, position);
                return (position, is_next);
            }
            looked_to = offset;
        }
        let position = set.walked.max(self.taken);
        clear.insert(number, position);
        (position, true)
    }

    /// Whether a further unfinished event may be looked at in this fill.
    fn may_look_on(&self) -> bool {
        self.look();
        let left = self.turns.looks_left.get();
        self.turns.looks_left.set(left.saturating_sub(1));
        left > 0
    }

    /// The first unfinished events that a set has still to get, and how far it was looked for them where that
    /// was not to the end.
    fn still_to_send(
        &self,
        number: u32,
        events_max: usize,
        only: Option<&Topic>,
    ) -> (Vec<Arc<Event>>, Option<Offset>) {
        let set = &self.sets[number];
        let of_topic = |topic: &str, found: &mut Vec<Arc<Event>>| {
            let Some(turn) = self.turns.topics.get(topic) else { return };
            let start = turn.unfinished.partition_point(|d| d.event.offset() <= set.walked);
            found.extend(turn.unfinished.range(start..).take(events_max).map(|d| Arc::clone(&d.event)));
        };
        let mut found = Vec::new();
        if let Some(topic) = only {
            of_topic(topic.as_str(), &mut found);
        } else if set.matchers.iter().any(Matcher::is_wildcard) {
            let clear = self.turns.clear.borrow().get(&number).copied().unwrap_or_default();
            let mut looked_to = clear.max(set.walked);
            let all = self.unfinished.range(looked_to.next()..);
            for (&offset, event) in all {
                if !self.may_look_on() {
                    return (found, Some(looked_to));
                }
                if set.matchers.iter().any(|m| m.matches(event.topic().as_str())) {
                    found.push(Arc::clone(event));
                    if found.len() >= events_max {
                        break;
                    }
                }
                looked_to = offset;
            }
        } else {
            for matcher in set.matchers.iter() {
                of_topic(matcher.as_str(), &mut found);
            }
            found.sort_unstable_by_key(|event| event.offset());
            found.truncate(events_max);
        }
        (found, None)
    }

    /// Fills the batch: each part of the work has a share for sure, and what one leaves the others take. None
    /// of them is the first for ever.
    pub(super) fn fill(&mut self, batch: &mut Batch) {
        self.turns.fills += 1;
        self.turns.looks_left.set(EVENTS_LOOKED_AT);
        self.settle_some();
        for shares in [PARTS, 1] {
            for part in 0..PARTS {
                batch.allow(shares);
                if batch.is_full() {
                    break;
                }
                match (part + self.turns.fills as usize) % PARTS {
                    0 => self.fill_from_rests(batch),
                    1 => self.fill_from_controls(batch),
                    2 => self.fill_from_joiners(batch),
                    3 => self.fill_from_behind(batch),
                    _ => self.fill_from_topics(batch),
                }
            }
        }
        let has_more = !self.controls.is_empty()
            || !self.to_serve.is_empty()
            || !self.to_resume.is_empty()
            || self.aside.has_work(self.taken);
        batch.is_cut_short |= has_more;
        if !has_more && self.turns.topics.is_empty() {
            self.prepared.clear();
        }
    }

    /// Fills the batch from the topics that have unfinished events.
    fn fill_from_topics(&mut self, batch: &mut Batch) {
        let allowance =
            (!self.turns.ready.is_empty()).then(|| batch.allow_half(self.turns.fills.is_multiple_of(2)));
        self.fill_from_fresh(batch);
        if let Some(allowance) = allowance {
            batch.allow_again(allowance);
        }
        let mut passed = 0;
        for _ in 0..self.turns.ready.len() {
            let Some(topic) = self.turns.ready.front().cloned() else { return };
            match self.turn(&topic, self.pace.turn_sends, batch, &mut passed) {
                Turn::Finished => {
                    self.turns.ready.pop_front();
                    self.end_turn();
                }
                Turn::Over => {
                    batch.is_cut_short = true;
                    self.turns.ready.rotate_left(1);
                    self.end_turn();
                }
                Turn::BatchFull => return,
                Turn::Passed => {
                    // A set passed is a look, not a send: it costs what remains of the turn.
                    batch.is_cut_short = true;
                    self.turns.ready.rotate_left(1);
                    self.end_turn();
                    return;
                }
            }
        }
    }

    /// Gives those topics of few subscribers a short turn that had no unfinished event a moment ago; the
    /// others wait for theirs.
    fn fill_from_fresh(&mut self, batch: &mut Batch) {
        let mut passed = 0;
        let sends_max = self.pace.turn_sends.div_ceil(FRESH_SHARE);
        let turns = &mut self.turns;
        std::mem::swap(&mut turns.sends, &mut turns.fresh_sends);
        std::mem::swap(&mut turns.bytes, &mut turns.fresh_bytes);
        while let Some(topic) = self.turns.fresh.front().cloned() {
            if batch.is_full() || passed >= PASSED_MAX / 2 {
                batch.is_cut_short = true;
                break;
            }
            if self.turns.sends == 0 && self.has_many(&topic, sends_max, &mut passed) {
                self.turns.fresh.pop_front();
                self.turns.ready.push_back(topic);
                batch.is_cut_short = true;
                continue;
            }
            let turn = self.turn(&topic, sends_max, batch, &mut passed);
            if matches!(turn, Turn::BatchFull) {
                break;
            }
            self.turns.fresh.pop_front();
            self.end_turn();
            if !matches!(turn, Turn::Finished) {
                batch.is_cut_short = true;
                self.turns.ready.push_back(topic);
            }
            if matches!(turn, Turn::Passed) {
                break;
            }
        }
        let turns = &mut self.turns;
        std::mem::swap(&mut turns.sends, &mut turns.fresh_sends);
        std::mem::swap(&mut turns.bytes, &mut turns.fresh_bytes);
    }

    /// Whether more than `few` stand in the sets of a topic whose pass has not begun; begins it.
    fn has_many(&mut self, topic: &Topic, few: usize, passed: &mut usize) -> bool {
        if self.turns.topics.get(topic).is_some_and(|turn| turn.pass.is_none()) {
            self.next_set(topic);
        }
        let Some(pass) = self.turns.topics.get(topic).and_then(|turn| turn.pass.as_ref()) else {
            return false;
        };
        *passed += 1 + pass.sets.len().min(few);
        self.look();
        let members = |&number: &u32| self.sets.get(number).map_or(0, |set| set.members.len());
        pass.sets.len() > few || pass.sets.iter().map(members).sum::<usize>() > few
    }

    /// The time of a turn is over, whatever it has sent: the next topic has its turn.
    pub(crate) fn handle_turn_over(&mut self) {
        if self.turns.sends > 0 {
            self.turns.sends = self.turns.sends.max(self.pace.turn_sends);
        }
    }

    fn end_turn(&mut self) {
        self.counters.turns += 1;
        self.turns.sends = 0;
        self.turns.bytes = 0;
    }

    fn is_turn_over(&self, sends_max: usize) -> bool {
        self.turns.sends >= sends_max || self.turns.bytes >= TURN_BYTES_MAX
    }

    fn turn(&mut self, topic: &Topic, sends_max: usize, batch: &mut Batch, passed: &mut usize) -> Turn {
        loop {
            if *passed >= PASSED_MAX {
                return Turn::Passed;
            }
            *passed += 1;
            self.look();
            let Some((target, set)) = self.next_set(topic) else { return Turn::Finished };
            let Some(number) = set else { continue };
            if self.is_turn_over(sends_max) {
                return Turn::Over;
            }
            if batch.is_full() {
                batch.is_cut_short = true;
                return Turn::BatchFull;
            }
            let is_done = match self.sets.get(number) {
                Some(set) => set.walk.is_none() && set.walked >= target,
                None => true,
            };
            if is_done {
                self.go_on(topic);
                continue;
            }
            match self.push_set(number, topic, sends_max, batch) {
                Pushed::Part => {
                    batch.is_cut_short = true;
                    return if self.is_turn_over(sends_max) { Turn::Over } else { Turn::BatchFull };
                }
                Pushed::Whole | Pushed::Ending => {
                    let is_through = match &self.sets[number].walk {
                        Some(walk) => walk.end >= target,
                        None => self.sets[number].walked >= target,
                    };
                    if !is_through {
                        return Turn::Over;
                    }
                    self.go_on(topic);
                }
            }
        }
    }

    fn go_on(&mut self, topic: &Topic) {
        if let Some(pass) = self.turns.topics.get_mut(topic).and_then(|turn| turn.pass.as_mut()) {
            pass.next += 1;
        }
    }

    /// The target of the topic's pass and the set that it has come to, `None` where a pass has just begun or
    /// ended; nothing at all when the topic has no unfinished event any more.
    fn next_set(&mut self, topic: &Topic) -> Option<(Offset, Option<u32>)> {
        let turn = self.turns.topics.get_mut(topic)?;
        let Some(pass) = &mut turn.pass else {
            let Some(last) = turn.unfinished.back() else {
                self.turns.topics.remove(topic);
                return None;
            };
            let target = last.event.offset();
            turn.pass = Some(Pass { target, sets: self.sets.of_topic(topic), next: 0 });
            return Some((target, None));
        };
        let target = pass.target;
        if let Some(&number) = pass.sets.get(pass.next) {
            return Some((target, Some(number)));
        }
        turn.pass = None;
        while let Some(delivery) = turn.unfinished.pop_front_if(|d| d.event.offset() <= target) {
            self.unfinished.remove(&delivery.event.offset());
            delivery.arrears.finish(self.number);
        }
        Some((target, None))
    }

    /// Visits members of the set, in the walk that runs or in a new one of all that it has still to get.
    fn push_set(&mut self, number: u32, topic: &Topic, sends_max: usize, batch: &mut Batch) -> Pushed {
        if self.sets[number].walk.is_none() {
            if self.aside.is_settling(number) {
                return Pushed::Ending;
            }
            if !self.start_walk(number, topic) {
                return Pushed::Whole;
            }
        }
        let second = self.second();
        let Some(set) = self.sets.get_mut(number) else { return Pushed::Whole };
        set.since = second;
        let Some(walk) = &mut set.walk else { return Pushed::Whole };
        if walk.joiners_left.is_some() {
            return Pushed::Ending;
        }
        let run = batch.run(&walk.run);
        let length = walk.run.len();
        while let Some(&index) = set.members.get(walk.next) {
            let turns = &mut self.turns;
            if batch.is_full() || turns.sends >= sends_max || turns.bytes >= TURN_BYTES_MAX {
                return Pushed::Part;
            }
            let slot = &mut self.slots[index];
            if slot.is(flag::IN_BATCH) {
                return Pushed::Part;
            }
            slot.put(flag::IN_BATCH, true);
            batch.push(slot.socket, index, run, 0, length, Purpose::Walk(number));
            turns.sends += 1;
            turns.bytes += length;
            walk.next += 1;
        }
        if !std::mem::replace(&mut walk.is_listed, true) {
            batch.walked.push(number);
        }
        Pushed::Whole
    }

    /// Starts a walk of all that the set has still to get; false if nobody stands in it, which is then walked
    /// at once.
    fn start_walk(&mut self, number: u32, topic: &Topic) -> bool {
        let set = &self.sets[number];
        let encoding = set.encoding;
        let events_max = if encoding.transport.is_poll() {
            self.pace.run_events.min(encoding.limit.into())
        } else {
            self.pace.run_events
        };
        let only = self.defects.sent_through.then_some(topic);
        let (mut events, looked_to) = self.still_to_send(number, events_max + 1, only);
        if let Some(looked_to) = looked_to
            && events.is_empty()
        {
            // Nothing for the set up to there; the rest another time.
            self.sets[number].walked = looked_to;
            return false;
        }
        let has_more = looked_to.is_some() || events.len() > events_max;
        events.truncate(events_max.max(1));
        let mut bytes = 0;
        let fitting = events.iter().take_while(|event| {
            let is_first = bytes == 0;
            bytes += event.data().bytes().len() + 1;
            is_first || bytes <= RUN_BYTES_MAX
        });
        let fitting = fitting.count();
        let has_more = has_more || fitting < events.len();
        events.truncate(fitting);
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            // Its events were finished by another topic's turn.
            return false;
        };
        let (before, end) = (first.offset().previous(), last.offset());
        if set.members.is_empty() && set.behind_count == 0 {
            self.sets[number].walked = end;
            return false;
        }
        let run = if set.members.is_empty() {
            Run::new(Vec::new())
        } else if encoding.transport.is_poll() {
            let mut head = self.answer_head(encoding);
            head.keeps_alive &= self.drain.is_none();
            self.prepared.answer(encoding, &head, &events, end, has_more)
        } else {
            self.prepared.run(encoding, &events)
        };
        self.counters.walks += 1;
        let count = set.members.len();
        let walk = Walk {
            before,
            end,
            events: events.len(),
            run,
            next: 0,
            count,
            joiners_left: None,
            served_in: u64::MAX,
            is_listed: false,
        };
        self.sets[number].walk = Some(Box::new(walk));
        true
    }

    /// The place of a subscriber: the highest offset up to which all its events were sent to it.
    pub(crate) fn place_of(&self, index: u32) -> Offset {
        let slot = &self.slots[index];
        if self.defects.head_as_place {
            return self.sequencer.head();
        }
        if slot.state != State::Member {
            return slot.place;
        }
        match &self.sets[slot.set].walk {
            Some(walk) if (slot.index as usize) < walk.next => walk.end,
            Some(walk) => walk.before,
            None => self.position(slot.set),
        }
    }

    /// Takes a slot out of its set, whether it stands in it or is behind in it.
    pub(crate) fn leave_set(&mut self, index: u32) {
        let number = self.slots[index].set;
        match self.slots[index].state {
            State::Member => self.sets.leave(&mut self.slots, index, self.defects.swap_in_walk),
            State::Behind => self.sets.end_behind(&self.slots, index),
            _ => return,
        }
        self.slots[index].set = NONE;
        let second = self.second();
        let set = &mut self.sets[number];
        self.subscribers[set.encoding.transport as usize] -= 1;
        if set.is_empty() {
            set.since = second;
        }
    }

    /// Makes a member one that is served from the log, from `place` on.
    pub(crate) fn fall_behind(&mut self, index: u32, place: Offset) {
        let number = self.slots[index].set;
        if self.slots[index].state == State::Member {
            self.sets.leave(&mut self.slots, index, self.defects.swap_in_walk);
            self.sets.begin_behind(&mut self.slots, number, index);
        }
        let slot = &mut self.slots[index];
        slot.place = place;
        slot.put(flag::FELL, true);
        self.counters.slow += 1;
    }
}
