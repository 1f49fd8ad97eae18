//! Half-sent runs: the kernel took a part of one. Nothing else goes to that socket until the rest is sent,
//! and what they hold of memory has a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::prepared::Run;
use super::slots::{SlotId, State, flag};
use super::{Action, Batch, Closing, Outcome, Purpose, Shard};
use crate::metrics::Ended;

/// Subscribers that one batch resets at most, where half-sent runs hold too much.
const RESETS_MAX: usize = 16;

/// A run that the kernel took in part.
#[derive(Debug)]
pub(super) struct HalfSent {
    /// Shared with all who were sent the same; its bytes count as log bytes.
    run: Run,
    /// Invariant: less than the run's length; at that length the subscriber is whole again.
    sent: usize,
    /// Second since which it is half sent.
    since: u32,
}

/// The half-sent runs of a shard. Trees: they grow without a stop, and give back what a storm took.
#[derive(Debug, Default)]
pub(super) struct HalfSents {
    by_slot: BTreeMap<u32, HalfSent>,
    /// The slots by how long they are half sent.
    order: BTreeSet<(u32, u32)>,
}

impl HalfSents {
    fn insert(&mut self, index: u32, half: HalfSent) {
        self.order.insert((half.since, index));
        if let Some(earlier) = self.by_slot.insert(index, half) {
            debug_assert!(false, "a half-sent run was followed by another");
            self.order.remove(&(earlier.since, index));
        }
    }

    pub(super) fn remove(&mut self, index: u32) {
        if let Some(half) = self.by_slot.remove(&index) {
            self.order.remove(&(half.since, index));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.order.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// The slot that is half sent longest.
    fn longest(&self) -> Option<u32> {
        self.order.first().map(|&(_, index)| index)
    }
}

impl Shard {
    /// The kernel took a part of a run: nothing else goes to the socket until the rest is sent.
    pub(super) fn hold_rest(&mut self, index: u32, run: &Run, sent: usize) {
        run.hold(self.sequencer.held_bytes());
        let since = self.second();
        self.half_sent.insert(index, HalfSent { run: run.clone(), sent, since });
        self.slots[index].put(flag::HALF_SENT, true);
        self.wait_for_room(index);
    }

    /// Has the driver say when the socket takes bytes again.
    pub(super) fn wait_for_room(&mut self, index: u32) {
        let slot = &mut self.slots[index];
        slot.put(flag::UNWRITABLE, true);
        if !slot.is(flag::POLLOUT) {
            slot.put(flag::POLLOUT, true);
            let socket = slot.socket;
            self.actions.push_back(Action::WatchWritable { socket, is_on: true });
        }
    }

    /// The socket takes all that there is: its writability is of no interest.
    pub(super) fn stop_watching(&mut self, index: u32) {
        let slot = &mut self.slots[index];
        if slot.is(flag::POLLOUT) {
            slot.put(flag::POLLOUT, false);
            let socket = slot.socket;
            self.actions.push_back(Action::WatchWritable { socket, is_on: false });
        }
    }

    fn held_bytes(&self) -> usize {
        self.sequencer.held_bytes().load(Ordering::Relaxed)
    }

    fn held_bytes_max(&self) -> usize {
        self.config.retention.all_bytes / 100 * usize::from(self.config.limits.half_sent_percent)
    }

    /// Whether half-sent runs hold half of what they may.
    pub(super) fn is_memory_tight(&self) -> bool {
        self.held_bytes() > self.held_bytes_max() / 2
    }

    /// Half-sent runs hold memory that the log's limit counts: past a share of it the one that is slow
    /// longest is reset.
    pub(super) fn bound_half_sent(&mut self) {
        for _ in 0..RESETS_MAX {
            let Some(index) = self.half_sent.longest() else { return };
            if self.held_bytes() <= self.held_bytes_max() {
                return;
            }
            self.close(index, Closing::Abort, Ended::Memory);
        }
    }

    /// Sends the rests of half-sent runs whose sockets take bytes again.
    pub(super) fn fill_from_rests(&mut self, batch: &mut Batch) {
        for _ in 0..self.to_resume.len().min(batch.looks_max()) {
            if batch.is_full() {
                batch.is_cut_short = true;
                return;
            }
            self.look();
            let Some(id) = self.to_resume.pop_front() else { return };
            let Some(slot) = self.slots.get(id) else { continue };
            let Some(half) = self.half_sent.by_slot.get(&id.index) else { continue };
            if slot.flags & (flag::IN_BATCH | flag::UNWRITABLE) != 0 {
                continue;
            }
            slot.put(flag::IN_BATCH, true);
            let run = batch.run(&half.run);
            batch.push(slot.socket, id.index, run, half.sent, half.run.len() - half.sent, Purpose::Rest);
        }
    }

    /// The rest of a half-sent run was sent, or a further part of it.
    pub(super) fn rest_sent(&mut self, index: u32, outcome: Outcome) {
        match outcome {
            Outcome::Short(bytes) => {
                if let Some(half) = self.half_sent.by_slot.get_mut(&index) {
                    half.sent += bytes;
                    assert!(half.sent < half.run.len(), "a short send is shorter than what was to be sent");
                }
                self.wait_for_room(index);
            }
            Outcome::Full | Outcome::Failed => self.wait_for_room(index),
            Outcome::Whole => {
                self.half_sent.remove(index);
                self.slots[index].put(flag::HALF_SENT, false);
                self.whole_again(index);
            }
        }
    }

    /// Nothing is half sent any more: what waited for that goes on.
    fn whole_again(&mut self, index: u32) {
        let id = self.slots.id(index);
        if self.slots[index].is(flag::ABORT_WHEN_SENT) {
            self.close(index, Closing::Abort, Ended::Slow);
            return;
        }
        let waiting =
            self.extra_of(index).map(|extra| std::mem::take(&mut extra.waiting)).unwrap_or_default();
        for control in waiting.into_iter().rev() {
            self.controls.push_front((id, control));
        }
        match self.slots[index].state {
            State::Behind => self.serve_soon(index),
            State::Answered => {
                let place = self.slots[index].place;
                self.answer_sent(index, place);
            }
            State::Closing => self.end_closing(index),
            _ => {}
        }
        if self.slots.get(id).is_some() {
            self.receive_if_readable(id);
        }
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.index];
        slot.put(flag::UNWRITABLE, false);
        if slot.is(flag::HALF_SENT) {
            self.to_resume.push_back(id);
        } else if slot.state == State::Behind {
            self.serve_soon(id.index);
        }
    }
}
