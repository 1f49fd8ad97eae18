//! The sweep: all slots once a second, in slices. No timer is kept for any connection: heartbeats, deadlines,
//! silent peers, empty sets and the drain are found by looking.

use super::control::{Control, Farewell};
use super::slots::{NONE, Slot, State, flag};
use super::{Closing, Shard};
use crate::metrics::Ended;
use crate::spare::shrink;
use crate::transport::{Encoding, Format, Framing, Transport};

/// How many slices a second's sweep has.
const SLICES: u64 = 16;
/// Slots beside each other that are in one slice; the next group is in the next slice. Who came together
/// stands together, and is due together: in one piece they would all be due in the same part of a second.
const GROUP: u32 = 1_024;
/// Slots that are looked at before other work goes on: a tenth of a millisecond or less where nothing is due.
const LOOKED_AT_MAX: u32 = 65_536;
/// Heartbeats, deadlines and closed connections that wait to be carried out before the sweep finds more.
const FOUND_MAX: usize = 2_048;
/// Sets that are removed before other work goes on.
const REMOVED_MAX: usize = 256;
/// Connections that are told or cut off at the end before other work goes on.
const ENDED_MAX: usize = 1_024;

/// Whether the sweep has something to do for a slot. [`NONE`] is later than any second.
fn is_due(slot: &Slot, second: u32) -> bool {
    let is_over = (slot.deadline <= second) | (slot.beat <= second);
    (slot.state != State::Free) & (is_over | is_held_back(slot))
}

/// Its input was not received while too much waited to be sent.
fn is_held_back(slot: &Slot) -> bool {
    slot.flags & (flag::READABLE | flag::RECEIVING) == flag::READABLE
}

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The slice that comes next, counted since the shard began.
    slice: u64,
    /// Slots of it that were looked at.
    looked_at: u32,
    /// Sets of it that were looked at.
    sets_looked_at: u32,
    /// The set that is looked at next.
    set: u32,
    /// At the end of a drain: the next slot to be cut off.
    cut: Option<u32>,
}

/// The orderly end of all connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    from_ms: u64,
    for_ms: u64,
    /// Connections when it began.
    connections: u64,
    /// Connections that were told.
    told: u64,
    /// Slots below were looked at.
    next: u32,
}

impl Shard {
    /// Milliseconds until `handle_tick` has something to do.
    pub(crate) fn tick_ms() -> u64 {
        1_000 / SLICES
    }

    /// Time goes on: `now_ms` since the shard began. Called at least every [`Shard::tick_ms`]; looks at a
    /// slice of the slots for each that has passed, and at no more than other work can wait for. True if it
    /// is to be called again after that.
    pub(crate) fn handle_tick(&mut self, now_ms: u64) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        // Before the sweep, whose heartbeats it would wait for.
        let drains = self.go_on_draining();
        let until = self.now_ms * SLICES / 1_000;
        // A shard that was held up for long looks at each slot once, not once a missed second.
        if self.sweep.slice + SLICES < until {
            self.sweep.slice = until - SLICES;
            (self.sweep.looked_at, self.sweep.sets_looked_at) = (0, 0);
        }
        let (mut left, mut removals_left) = (LOOKED_AT_MAX, REMOVED_MAX);
        let mut has_more = false;
        while self.sweep.slice < until && !has_more {
            has_more = !self.sweep_slots(&mut left) || !self.sweep_sets(&mut removals_left);
            if !has_more {
                self.sweep.slice += 1;
                (self.sweep.looked_at, self.sweep.sets_looked_at) = (0, 0);
                if self.sweep.slice.is_multiple_of(SLICES) {
                    self.give_back();
                }
            }
        }
        drains | self.go_on_cutting() | has_more
    }

    /// Looks at the slots of a slice; false if not all were looked at.
    fn sweep_slots(&mut self, left: &mut u32) -> bool {
        let (capacity, part) = (self.slots.capacity(), (self.sweep.slice % SLICES) as u32);
        let second = self.second();
        loop {
            let (group, at) = (self.sweep.looked_at / GROUP, self.sweep.looked_at % GROUP);
            let index = (group * SLICES as u32 + part) * GROUP + at;
            if index >= capacity {
                return true;
            }
            if *left == 0 || self.controls.len() >= FOUND_MAX || self.actions.len() >= FOUND_MAX {
                return false;
            }
            // Those that nothing is due for, by far the most, are passed at the speed of memory.
            let (passed, is_due) =
                self.slots.pass(index, (GROUP - at).min(*left), |slot| is_due(slot, second));
            *left -= passed;
            self.sweep.looked_at += passed;
            if is_due {
                self.look_at(index + passed - 1);
            }
        }
    }

    /// What a storm took and is not used any more goes back.
    fn give_back(&mut self) {
        shrink(&mut self.to_serve);
        shrink(&mut self.to_resume);
        shrink(&mut self.controls);
        shrink(&mut self.actions);
        self.aside.shrink();
        self.turns.shrink();
    }

    fn look_at(&mut self, index: u32) {
        let second = self.second();
        let slot = &self.slots[index];
        if slot.deadline <= second {
            self.deadline(index);
        } else if slot.beat <= second {
            self.beat(index);
        }
        if is_held_back(&self.slots[index]) {
            let id = self.slots.id(index);
            self.receive_if_readable(id);
        }
    }

    /// The time of a slot is over.
    fn deadline(&mut self, index: u32) {
        self.slots[index].deadline = NONE;
        match self.slots[index].state {
            State::Idle => self.close(index, Closing::Graceful, Ended::Closed),
            State::Closing => self.close(index, Closing::Graceful, Ended::Closed),
            State::Behind | State::Member => {
                let is_poll = self.encoding_of(index).is_some_and(|e| e.transport.is_poll());
                let control = if is_poll { Control::EmptyAnswer } else { Control::End(Farewell::MaxAge) };
                self.control(index, control);
            }
            State::Answered | State::Free => {}
        }
    }

    /// When the first heartbeat of a new subscriber is due; the periods of all are spread.
    pub(super) fn first_beat(&mut self, encoding: Encoding) -> u32 {
        if encoding.transport.is_poll() {
            return NONE;
        }
        let period = self.config.timing.heartbeat_seconds.max(1);
        self.second() + period - self.jitter(period / 10 + 1).min(period - 1)
    }

    fn beat(&mut self, index: u32) {
        let second = self.second();
        let period = self.config.timing.heartbeat_seconds.max(1);
        let jitter = self.jitter(period / 10 + 1).min(period - 1);
        let Some(encoding) = self.encoding_of(index) else { return };
        // Its rates may have nothing to remember any more.
        self.drop_empty_extra(index);
        let slot = &mut self.slots[index];
        slot.beat = second + period - jitter;
        // Whose socket takes nothing is not pinged, and whose input is not read cannot answer.
        let stops = flag::HALF_SENT | flag::UNWRITABLE | flag::AUTHORIZING;
        if encoding.transport == Transport::WebSocket && slot.is(flag::STARTED) && slot.flags & stops == 0 {
            if slot.is(flag::PONG_MISSED) {
                self.close(index, Closing::Abort, Ended::Silent);
                return;
            }
            let is_due = slot.is(flag::PONG_DUE);
            slot.put(flag::PONG_MISSED, is_due);
            slot.put(flag::PONG_DUE, true);
        } else if encoding.framing != Framing::Frames
            && self.sets[self.slots[index].set].since + period / 2 > second
            && second > period
        {
            // Events went out lately: they prove as much as a heartbeat would.
            return;
        }
        // A frame and a stream of envelopes prove that they live by their place alone: white space is nothing
        // that a page could see. On the others it comes once in half the retention age at least.
        let says_place = match encoding.transport {
            Transport::Iframe => true,
            Transport::Stream => encoding.format == Format::Json,
            _ => false,
        };
        let every = (self.config.retention.age_seconds / 2 / u64::from(period)).max(1);
        let is_place = says_place || (u64::from(second / period) + u64::from(index)).is_multiple_of(every);
        self.control(index, if is_place { Control::Place } else { Control::Heartbeat });
    }

    /// Removes sets in which nobody has stood for a while, in one step with the interest that they alone
    /// gave; false if not all of the slice were looked at.
    fn sweep_sets(&mut self, removals_left: &mut usize) -> bool {
        let second = self.second();
        let kept = self.config.timing.empty_set_seconds;
        let capacity = self.sets.capacity();
        let mut gone = Vec::new();
        while self.sweep.sets_looked_at < capacity.div_ceil(SLICES as u32) && *removals_left > 0 {
            self.sweep.sets_looked_at += 1;
            let number = self.sweep.set;
            self.sweep.set = if number + 1 >= capacity { 0 } else { number + 1 };
            let Some(set) = self.sets.get(number) else { continue };
            if !set.is_empty() || set.since + kept > second {
                continue;
            }
            let encoding = set.encoding;
            *removals_left -= 1;
            gone.append(&mut self.sets.remove(number));
            self.heads.release(encoding.head);
            self.aside.forget(number);
            self.turns.forget(number);
            self.prepared.forget_reads();
            if encoding.transport.is_poll() {
                self.prepared.clear();
            }
        }
        if !gone.is_empty() {
            self.sequencer.remove_interest(self.number, &gone);
        }
        *removals_left > 0
    }

    /// Ends all connections in an orderly way, spread evenly over `for_ms`; none is told later than that.
    pub(crate) fn handle_drain(&mut self, for_ms: u64) {
        let (from_ms, connections) = (self.now_ms, self.slots.used() as u64);
        self.drain.get_or_insert(Drain { from_ms, for_ms, connections, told: 0, next: 0 });
    }

    /// Tells the next of those that are to end; true if there are more of them already.
    fn go_on_draining(&mut self) -> bool {
        let Some(mut drain) = self.drain else { return false };
        if !self.controls.is_empty() {
            // Who was told is not told again before all of them have heard.
            return false;
        }
        let passed = self.now_ms - drain.from_ms;
        let capacity = self.slots.capacity();
        let is_last = passed >= drain.for_ms;
        let due = if is_last { u64::MAX } else { drain.connections * passed / drain.for_ms.max(1) };
        if is_last && drain.next >= capacity {
            // Also those that came in between.
            drain.next = 0;
        }
        let (mut told, mut looked_at) = (0, 0);
        while drain.next < capacity && drain.told < due && told < ENDED_MAX && looked_at < LOOKED_AT_MAX {
            looked_at += 1;
            if self.slots[drain.next].state != State::Free {
                self.drain_slot(drain.next);
                drain.told += 1;
                told += 1;
            }
            drain.next += 1;
        }
        self.drain = Some(drain);
        drain.next < capacity && drain.told < due
    }

    /// The time to drain is over: who is left is reset.
    pub(crate) fn handle_cut(&mut self) {
        self.sweep.cut = Some(0);
    }

    /// Resets the next of those that are left; true if there are more.
    fn go_on_cutting(&mut self) -> bool {
        let Some(from) = self.sweep.cut else { return false };
        let mut next = from;
        while next < self.slots.capacity() && next - from < LOOKED_AT_MAX && self.actions.len() < ENDED_MAX {
            self.close(next, Closing::Abort, Ended::Drain);
            next += 1;
        }
        self.sweep.cut = (next < self.slots.capacity()).then_some(next);
        self.sweep.cut.is_some()
    }

    fn drain_slot(&mut self, index: u32) {
        if self.extra_of(index).is_some_and(|extra| !extra.waiting.is_empty()) {
            // It is told once, when what is half sent is sent.
            return;
        }
        match self.slots[index].state {
            // A request that has come is answered: it hears what a drain has to say.
            State::Idle if self.slots[index].flags & (flag::READABLE | flag::RECEIVING) != 0 => {}
            State::Idle => self.close(index, Closing::Graceful, Ended::Closed),
            State::Behind | State::Member => {
                let is_poll = self.encoding_of(index).is_some_and(|e| e.transport.is_poll());
                let control = if is_poll { Control::EmptyAnswer } else { Control::End(Farewell::Drain) };
                self.control(index, control);
            }
            State::Free | State::Answered | State::Closing => {}
        }
    }
}
