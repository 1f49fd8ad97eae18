//! Turns and walks: topics with unfinished events take turns, and a topic's turn goes on through its sets,
//! one walk through each. Whichever topic reaches a set first sends all that the set has still to get, merged
//! by offset.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::prepared::Run;
use super::sets::HOLE;
use super::slots::{NONE, State, flag};
use super::{Batch, Purpose, Shard, TURN_BYTES_MAX};
use crate::channel::Delivery;
use crate::cursor::Offset;
use crate::event::Event;
use crate::topic::{Matcher, Topic};

/// A run is not made longer than this by a further event.
pub(crate) const RUN_BYTES_MAX: usize = 256 << 10;
/// Sets that a fill may pass without a send, so that a turn over idle sets is bounded too.
const PASSED_SETS_MAX: usize = 8_192;

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
    /// The length of the vector when it started.
    pub(crate) count: usize,
    /// All members are visited: waiting joiners are served up to `end`, and so many more may be.
    pub(crate) joiners_left: Option<usize>,
    /// It stands among the walks that this batch brings to their last member.
    pub(crate) is_listed: bool,
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
        self.has_taken = true;
        let topic = delivery.event.topic().clone();
        // Whether any set still wants it is found by the topic's turn: one look for all events of a burst.
        if !self.topics.contains_key(&topic) {
            self.ready.push_back(topic.clone());
        }
        self.unfinished.insert(offset, Arc::clone(&delivery.event));
        self.topics.entry(topic).or_default().unfinished.push_back(delivery);
    }

    /// The channel was found empty after `head` had been read: everything up to there is taken.
    pub(crate) fn handle_channel_empty(&mut self, head: Offset) {
        if head > self.taken {
            self.taken = head;
            self.has_taken = true;
        }
    }

    /// Every event of the set's matchers up to here was walked or is in the running walk; all later ones are
    /// still to come.
    pub(crate) fn position(&self, number: u32) -> Offset {
        let set = &self.sets[number];
        if let Some(walk) = &set.walk {
            return walk.end;
        }
        match self.still_to_send(&set.matchers, set.walked, 1, None).first() {
            Some(event) => event.offset().previous(),
            None => set.walked.max(self.taken),
        }
    }

    /// The first unfinished events of these matchers after `after`.
    fn still_to_send(
        &self,
        matchers: &[Matcher],
        after: Offset,
        events_max: usize,
        only: Option<&Topic>,
    ) -> Vec<Arc<Event>> {
        let of_topic = |topic: &str, found: &mut Vec<Arc<Event>>| {
            let Some(turn) = self.topics.get(topic) else { return };
            let start = turn.unfinished.partition_point(|d| d.event.offset() <= after);
            found.extend(turn.unfinished.range(start..).take(events_max).map(|d| Arc::clone(&d.event)));
        };
        let mut found = Vec::new();
        if let Some(topic) = only {
            of_topic(topic.as_str(), &mut found);
        } else if matchers.iter().any(Matcher::is_wildcard) {
            let is_wanted = |event: &Event| matchers.iter().any(|m| m.matches(event.topic().as_str()));
            let all = self.unfinished.range(after.next()..).map(|(_, event)| event);
            found.extend(all.filter(|event| is_wanted(event)).take(events_max).cloned());
        } else {
            for matcher in matchers {
                of_topic(matcher.as_str(), &mut found);
            }
            found.sort_unstable_by_key(|event| event.offset());
            found.truncate(events_max);
        }
        found
    }

    /// Fills the batch from the topics that have unfinished events.
    pub(crate) fn fill_from_topics(&mut self, batch: &mut Batch) {
        let mut passed = 0;
        for _ in 0..self.ready.len() {
            let Some(topic) = self.ready.front().cloned() else { return };
            match self.turn(&topic, batch, &mut passed) {
                Turn::Finished => {
                    self.ready.pop_front();
                    self.end_turn();
                }
                Turn::Over => {
                    batch.is_cut_short = true;
                    self.ready.rotate_left(1);
                    self.end_turn();
                }
                Turn::BatchFull => return,
            }
        }
        if self.ready.is_empty() && self.topics.is_empty() {
            self.prepared.clear();
        }
    }

    fn end_turn(&mut self) {
        self.counters.turns += 1;
        self.turn_sends = 0;
        self.turn_bytes = 0;
    }

    fn turn(&mut self, topic: &Topic, batch: &mut Batch, passed: &mut usize) -> Turn {
        loop {
            let Some((target, set)) = self.next_set(topic) else { return Turn::Finished };
            let Some(number) = set else { continue };
            if self.turn_sends >= self.pace.turn_sends || self.turn_bytes >= TURN_BYTES_MAX {
                return Turn::Over;
            }
            if *passed >= PASSED_SETS_MAX {
                return Turn::Over;
            }
            if batch.is_full() {
                batch.is_cut_short = true;
                return Turn::BatchFull;
            }
            *passed += 1;
            let is_done = match self.sets.get(number) {
                Some(set) => set.walk.is_none() && set.walked >= target,
                None => true,
            };
            if is_done {
                self.go_on(topic);
                continue;
            }
            match self.push_set(number, topic, batch) {
                Pushed::Part => {
                    batch.is_cut_short = true;
                    return Turn::BatchFull;
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
        if let Some(pass) = self.topics.get_mut(topic).and_then(|turn| turn.pass.as_mut()) {
            pass.next += 1;
        }
    }

    /// The target of the topic's pass and the set that it has come to, `None` where a pass has just begun or
    /// ended; nothing at all when the topic has no unfinished event any more.
    fn next_set(&mut self, topic: &Topic) -> Option<(Offset, Option<u32>)> {
        let turn = self.topics.get_mut(topic)?;
        let Some(pass) = &mut turn.pass else {
            let Some(last) = turn.unfinished.back() else {
                self.topics.remove(topic);
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
        // The position of sets behind this topic may have moved without a walk of theirs.
        self.has_taken = true;
        Some((target, None))
    }

    /// Visits members of the set, in the walk that runs or in a new one of all that it has still to get.
    fn push_set(&mut self, number: u32, topic: &Topic, batch: &mut Batch) -> Pushed {
        if self.sets[number].walk.is_none() && !self.start_walk(number, topic) {
            return Pushed::Whole;
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
        while walk.next < walk.count.min(set.members.len()) {
            if batch.is_full() || self.turn_sends >= self.pace.turn_sends || self.turn_bytes >= TURN_BYTES_MAX
            {
                return Pushed::Part;
            }
            let index = set.members[walk.next];
            if index != HOLE {
                let slot = &mut self.slots[index];
                if slot.is(flag::IN_BATCH) {
                    return Pushed::Part;
                }
                slot.put(flag::IN_BATCH, true);
                batch.push(slot.socket, index, run, 0, length, Purpose::Walk(number));
                self.turn_sends += 1;
                self.turn_bytes += length;
            }
            walk.next += 1;
        }
        walk.next = walk.count;
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
        let mut events = self.still_to_send(&set.matchers, set.walked, events_max + 1, only);
        let has_more = events.len() > events_max;
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
            is_listed: false,
        };
        self.sets[number].walk = Some(Box::new(walk));
        true
    }

    /// The members of a walk were visited, and what became of the sends is known: its joiners come next, or
    /// its end.
    pub(crate) fn walk_visited(&mut self, number: u32) {
        let Some(set) = self.sets.get_mut(number) else { return };
        let Some(walk) = &mut set.walk else { return };
        if walk.next < walk.count || walk.joiners_left.is_some() {
            return;
        }
        if set.behind_count == 0 {
            self.end_walk(number);
            return;
        }
        walk.joiners_left = Some(walk.count.max(16).min(self.pace.turn_sends).min(set.behind_count as usize));
        self.joining.push_back((number, set.behind_first));
    }

    /// Ends a walk: the vector becomes dense again, and all who are level enter.
    pub(crate) fn end_walk(&mut self, number: u32) {
        let Some(set) = self.sets.get_mut(number) else { return };
        let Some(walk) = set.walk.take() else { return };
        set.walked = set.walked.max(walk.end);
        if set.members.contains(&HOLE) {
            set.members.retain(|&member| member != HOLE);
            for (index, &member) in set.members.iter().enumerate() {
                self.slots[member].index = index as u32;
            }
        }
        let second = self.second();
        let Some(set) = self.sets.get_mut(number) else { return };
        if set.is_empty() {
            set.since = second;
        }
        let mut slot = set.behind_first;
        while slot != NONE {
            let next = self.slots[slot].next;
            self.settle(slot);
            slot = next;
        }
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
            State::Behind => self.sets.unlink_behind(&mut self.slots, index),
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
            self.sets.link_behind(&mut self.slots, number, index);
        }
        let slot = &mut self.slots[index];
        slot.place = place;
        slot.put(flag::FELL, true);
        self.counters.slow += 1;
    }
}
