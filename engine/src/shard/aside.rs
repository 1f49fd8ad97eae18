//! Those that are behind, are served, and may not enter their set yet. Either a walk of the set runs, or is
//! to come for events before their place: they wait for its end. Or their place is ahead of what the shard
//! has taken: they wait for that.
//!
//! A walk ends by serving those that wait for it, and then they enter. Both go on in slices: a mass that
//! comes back while one walk runs is as large as the shard.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hashbrown::HashMap;

use super::slots::{SlotId, State, flag};
use super::{Batch, Shard};
use crate::cursor::Offset;
use crate::spare::shrink;

/// Joiners of one walk that are looked at, those that are level or take nothing included.
const JOINERS_LOOKED_AT: usize = 4_096;
/// Slots that a fill looks at to let them enter their sets.
const SETTLED_MAX: usize = 1_024;

/// Those that wait to enter their sets.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// By set: those that wait for the end of its walk, the one that runs or the one to come.
    waiting: HashMap<u32, Waiting>,
    /// Sets whose walk serves its joiners.
    joining: VecDeque<u32>,
    /// Sets whose walk is over, and where not all who waited for that were looked at.
    settling: VecDeque<u32>,
    /// Slots that may still be looked at in this fill.
    settled_left: usize,
    /// Those whose place is ahead of what the shard has taken, by place.
    ahead: BinaryHeap<Reverse<(Offset, u32, u32)>>,
}

/// Those that wait for the end of a walk, first come first.
#[derive(Debug, Default)]
struct Waiting {
    slots: VecDeque<SlotId>,
    /// Of these the walk that ends looks at next.
    next: usize,
    /// The walk is over, and so many of them are still to be looked at before another begins.
    to_settle: usize,
}

impl Aside {
    /// Whether something can be done for those that wait.
    pub(super) fn has_work(&self, taken: Offset) -> bool {
        let is_taken = self.ahead.peek().is_some_and(|Reverse((place, ..))| *place <= taken);
        is_taken || !self.joining.is_empty() || !self.settling.is_empty()
    }

    /// Whether those that waited for the end of the set's walk are not all looked at.
    pub(super) fn is_settling(&self, number: u32) -> bool {
        !self.waiting.is_empty() && self.waiting.get(&number).is_some_and(|waiting| waiting.to_settle > 0)
    }

    /// Forgets a set that is gone.
    pub(super) fn forget(&mut self, number: u32) {
        self.waiting.remove(&number);
    }

    /// Gives back what a storm took.
    pub(super) fn shrink(&mut self) {
        shrink(&mut self.joining);
        shrink(&mut self.settling);
        if self.ahead.capacity() > 1_024 && self.ahead.len() < self.ahead.capacity() / 8 {
            self.ahead.shrink_to(2 * self.ahead.len());
        }
        if self.waiting.capacity() > 1_024 && self.waiting.len() < self.waiting.capacity() / 8 {
            self.waiting.shrink_to(2 * self.waiting.len());
        }
    }

    /// The next of those that waited for the end of the set's walk.
    fn next_to_settle(&mut self, number: u32) -> Option<SlotId> {
        let waiting = self.waiting.get_mut(&number)?;
        if waiting.to_settle > 0 {
            waiting.to_settle -= 1;
            return waiting.slots.pop_front();
        }
        if waiting.slots.is_empty() {
            self.waiting.remove(&number);
        }
        None
    }
}

impl Shard {
    /// Looks whether one that is behind may enter its set, and if not, where it waits.
    pub(super) fn settle(&mut self, index: u32) {
        self.look();
        let slot = &self.slots[index];
        if slot.state != State::Behind
            || slot.answers_due > 0
            || slot.flags & (flag::HALF_SENT | flag::UNWRITABLE | flag::IN_BATCH | flag::QUEUED) != 0
        {
            return;
        }
        if !slot.is(flag::STARTED) || self.extra_of(index).is_some_and(|extra| extra.old.is_some()) {
            self.serve_soon(index);
            return;
        }
        let (place, number) = (self.slots[index].place, self.slots[index].set);
        let set = &self.sets[number];
        if set.walk.is_some() {
            self.wait_for_walk(index);
            return;
        }
        let walked = set.walked;
        let (position, is_next_known) = self.seek(number);
        if place < walked || place > position && !is_next_known {
            self.serve_soon(index);
        } else if place <= position {
            self.sets.end_behind(&self.slots, index);
            self.sets.enter(&mut self.slots, number, index);
            self.slots[index].put(flag::FELL | flag::LATEST | flag::WAITS | flag::UNSETTLED, false);
            self.stop_watching(index);
            self.drop_empty_extra(index);
        } else if position < walked.max(self.taken) {
            // An event at or before its place is still to be walked.
            self.wait_for_walk(index);
        } else {
            let generation = self.slots[index].generation;
            let slot = &mut self.slots[index];
            if !slot.is(flag::UNSETTLED) {
                slot.put(flag::UNSETTLED, true);
                self.aside.ahead.push(Reverse((place, index, generation)));
            }
        }
    }

    fn wait_for_walk(&mut self, index: u32) {
        let id = self.slots.id(index);
        let slot = &mut self.slots[index];
        if !slot.is(flag::WAITS) {
            slot.put(flag::WAITS, true);
            self.aside.waiting.entry(slot.set).or_default().slots.push_back(id);
        }
    }

    /// Lets those in whose place the shard has reached, and those whose walk is over: so many in a fill.
    pub(super) fn settle_some(&mut self) {
        self.aside.settled_left = SETTLED_MAX;
        while self.aside.settled_left > 0 {
            let Some(&Reverse((place, index, generation))) = self.aside.ahead.peek() else { break };
            if place > self.taken {
                break;
            }
            self.aside.ahead.pop();
            self.aside.settled_left -= 1;
            if let Some(slot) = self.slots.get(SlotId { index, generation })
                && slot.is(flag::UNSETTLED)
            {
                slot.put(flag::UNSETTLED, false);
                self.settle(index);
            }
        }
        self.go_on_settling();
    }

    fn go_on_settling(&mut self) {
        while self.aside.settled_left > 0 {
            let Some(&number) = self.aside.settling.front() else { return };
            let Some(id) = self.aside.next_to_settle(number) else {
                self.aside.settling.pop_front();
                continue;
            };
            self.aside.settled_left -= 1;
            if let Some(slot) = self.slots.get(id)
                && slot.set == number
                && slot.is(flag::WAITS)
            {
                slot.put(flag::WAITS, false);
                self.settle(id.index);
            }
        }
    }

    /// The members of a walk were visited, and what became of the sends is known: its joiners come next, or
    /// its end.
    pub(crate) fn walk_visited(&mut self, number: u32) {
        let Some(set) = self.sets.get_mut(number) else { return };
        let Some(walk) = &mut set.walk else { return };
        if walk.next < set.members.len() || walk.joiners_left.is_some() {
            return;
        }
        let Some(waiting) = self.aside.waiting.get_mut(&number) else {
            self.end_walk(number);
            return;
        };
        waiting.next = 0;
        walk.joiners_left = Some(walk.count.max(16).min(self.pace.turn_sends).min(waiting.slots.len()));
        self.aside.joining.push_back(number);
    }

    /// Walks that have visited their members serve those that wait up to their own end, first come first.
    pub(super) fn fill_from_joiners(&mut self, batch: &mut Batch) {
        let mut looks = JOINERS_LOOKED_AT;
        for _ in 0..self.aside.joining.len() {
            if batch.is_full() || looks == 0 {
                batch.is_cut_short = true;
                return;
            }
            looks -= 1;
            let Some(number) = self.aside.joining.pop_front() else { return };
            let fill = self.turns.fills;
            let Some(walk) = self.sets.get(number).and_then(|set| set.walk.as_ref()) else { continue };
            let Some(mut left) = walk.joiners_left else { continue };
            let (end, events, mut served_in) = (walk.end, walk.events, walk.served_in);
            let mut is_whole = left == 0;
            while !is_whole && looks > 0 && !batch.is_full() {
                let next = self.next_joiner(number);
                let Some(id) = next else {
                    is_whole = true;
                    break;
                };
                looks -= 1;
                self.look();
                let Some(slot) = self.slots.get(id) else { continue };
                let is_joiner = slot.state == State::Behind && slot.set == number;
                // Who takes nothing, or is level already, uses up nobody's turn.
                let takes_none = slot.flags & (flag::UNWRITABLE | flag::HALF_SENT) != 0 || slot.place >= end;
                if !is_joiner || takes_none && !slot.is(flag::IN_BATCH) {
                    continue;
                }
                served_in = fill;
                self.serve(id.index, events, batch);
                left -= 1;
                is_whole = left == 0;
            }
            let Some(walk) = self.sets.get_mut(number).and_then(|set| set.walk.as_mut()) else { continue };
            walk.joiners_left = Some(if is_whole { 0 } else { left });
            walk.served_in = served_in;
            if is_whole && served_in != fill {
                self.end_walk(number);
            } else {
                // The results come first: the walk ends in a later fill.
                self.aside.joining.push_back(number);
            }
        }
    }

    /// The next of those that wait for the set's walk, if it is still to be looked at.
    fn next_joiner(&mut self, number: u32) -> Option<SlotId> {
        let waiting = self.aside.waiting.get_mut(&number)?;
        let next = waiting.next;
        if next >= JOINERS_LOOKED_AT {
            return None;
        }
        waiting.next += 1;
        waiting.slots.get(next).copied()
    }

    /// Ends a walk: all who are level enter before another begins.
    fn end_walk(&mut self, number: u32) {
        let second = self.second();
        let Some(set) = self.sets.get_mut(number) else { return };
        let Some(walk) = set.walk.take() else { return };
        set.walked = set.walked.max(walk.end);
        if set.is_empty() {
            set.since = second;
        }
        if let Some(waiting) = self.aside.waiting.get_mut(&number) {
            waiting.to_settle = waiting.slots.len();
            self.aside.settling.push_back(number);
            self.go_on_settling();
        }
    }
}
