//! The slots of a shard: what an idle connection costs. Pages of at most 64 bytes a slot, and never one
//! growing vector, so that a shard that grows copies nothing and one that shrinks gives pages back.

use crate::cursor::Offset;
use crate::pages::Pages;

/// No slot, no set, no place in a list.
pub(crate) const NONE: u32 = u32::MAX;

/// 64 KiB: larger blocks stand many to a page of the allocator, which keeps the room of those that were
/// freed.
const PAGE_SLOTS: usize = 1_024;

/// Names a slot and the life of it: a late completion of an earlier life is told apart by the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What a slot is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not in use.
    Free,
    /// A connection between two requests.
    Idle,
    /// Served from the log, not (or no longer) in the vector of its set.
    Behind,
    /// In the vector of its set.
    Member,
    /// A poll whose answer is under way: in no set.
    Answered,
    /// Nothing more is said to it but what is half sent and the close; the deadline ends it.
    Closing,
}

/// One connection of the shard while it is parked.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Behind: all its events up to here were sent. Member: derived from its set instead.
    pub(crate) place: Offset,
    /// Highest `resumed` of the gap notices sent to it: only a higher one is told.
    pub(crate) told: Offset,
    /// The admission that its connection holds, as the driver has it.
    pub(crate) permit: u64,
    /// Life of this slot; counts up when it is freed.
    pub(crate) generation: u32,
    /// The parked socket, in the driver's numbering.
    pub(crate) socket: u32,
    /// Its set, while it has one.
    pub(crate) set: u32,
    /// Member: its place in the set's vector.
    pub(crate) index: u32,
    /// Second (of the shard's clock) at which its wait, its age or its closing handshake is over; [`NONE`]
    /// for never.
    pub(crate) deadline: u32,
    /// Second at which its next heartbeat is due; [`NONE`] for none.
    pub(crate) beat: u32,
    /// Bytes that a one-way subscriber has sent us.
    pub(crate) input_bytes: u16,
    /// Answers that say from where on it hears other matchers and are not sent yet: no event goes before
    /// them.
    pub(crate) answers_due: u16,
    /// Bits of [`flag`].
    pub(crate) flags: u32,
    pub(crate) state: State,
}

const _: () = assert!(size_of::<Slot>() <= 64, "millions of idle subscribers pay for each byte");

/// The bits of [`Slot::flags`].
pub(crate) mod flag {
    /// A run is half sent: nothing else goes to the socket, and nothing is read from it.
    pub(crate) const HALF_SENT: u32 = 1;
    /// It stands in the queue of those to be served from the log.
    pub(crate) const QUEUED: u32 = 1 << 1;
    /// It has a send in the batch that is being filled or executed.
    pub(crate) const IN_BATCH: u32 = 1 << 2;
    /// The start of its stream is sent.
    pub(crate) const STARTED: u32 = 1 << 3;
    /// The socket did not take a send, and POLLOUT has not come since.
    pub(crate) const UNWRITABLE: u32 = 1 << 4;
    /// Bytes have arrived that were not read yet.
    pub(crate) const READABLE: u32 = 1 << 5;
    /// A receive is under way.
    pub(crate) const RECEIVING: u32 = 1 << 6;
    /// A live subscriber that was too slow: its policy acts if it has fallen off the log.
    pub(crate) const FELL: u32 = 1 << 7;
    /// A ping is sent and its pong has not come.
    pub(crate) const PONG_DUE: u32 = 1 << 8;
    /// The connection goes on after the answer.
    pub(crate) const KEEPS_ALIVE: u32 = 1 << 9;
    /// The peer has sent FIN.
    pub(crate) const HALF_CLOSED: u32 = 1 << 10;
    /// The slow policy `latest`.
    pub(crate) const POLICY_LATEST: u32 = 1 << 11;
    /// The slow policy `close`.
    pub(crate) const POLICY_CLOSE: u32 = 1 << 12;
    /// The application was told that it is open.
    pub(crate) const OPENED: u32 = 1 << 13;
    /// Its response head is still to be sent.
    pub(crate) const HAS_HEAD: u32 = 1 << 28;
    /// It has an entry in the table of extras.
    pub(crate) const HAS_EXTRA: u32 = 1 << 14;
    /// The pong of the ping before the latest has not come either.
    pub(crate) const PONG_MISSED: u32 = 1 << 15;
    /// A `subscribe` command waits for the application's word: no further input is taken.
    pub(crate) const AUTHORIZING: u32 = 1 << 16;
    /// It is reset as soon as what is half sent is sent: its transport has no other way to say that more is
    /// missing.
    pub(crate) const ABORT_WHEN_SENT: u32 = 1 << 17;
    /// It stands among those whose place is ahead of what the shard has taken.
    pub(crate) const UNSETTLED: u32 = 1 << 18;
    /// Its messages may be compressed.
    pub(crate) const INFLATES: u32 = 1 << 21;
    /// Its end is on its way: nothing more is taken from it.
    pub(crate) const ENDS: u32 = 1 << 22;
    /// The application gave it something, which stands beside the slot.
    pub(crate) const IS_GIVEN: u32 = 1 << 25;
    /// The application gave it what it gave most.
    pub(crate) const IS_GIVEN_COMMON: u32 = 1 << 27;
    /// A `stentor.v1` WebSocket that has subscribed by a command.
    pub(crate) const HAS_SUBSCRIBED: u32 = 1 << 26;
    /// A WebSocket that is closing waits for its peer's close.
    pub(crate) const PEER_CLOSE_DUE: u32 = 1 << 20;
    /// The driver watches for the socket to take bytes again.
    pub(crate) const POLLOUT: u32 = 1 << 19;
    /// It stands among those that wait for the end of their set's walk.
    pub(crate) const WAITS: u32 = 1 << 23;
    /// Of what is up to [`Slot::told`] it is sent the newest event of each topic: its policy is `latest`.
    pub(crate) const LATEST: u32 = 1 << 24;
}

impl Slot {
    const fn free(generation: u32) -> Self {
        Self {
            place: Offset::START,
            told: Offset::START,
            permit: 0,
            generation,
            socket: NONE,
            set: NONE,
            index: NONE,
            deadline: NONE,
            beat: NONE,
            input_bytes: 0,
            answers_due: 0,
            flags: 0,
            state: State::Free,
        }
    }

    /// Whether a bit of [`flag`] is set.
    pub(crate) fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Sets or clears a bit of [`flag`].
    pub(crate) fn put(&mut self, flag: u32, is_set: bool) {
        if is_set {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

/// All slots of a shard.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pages: Pages<Slot, PAGE_SLOTS>,
    /// The slots of a page that is made again begin with it: none of their names was used before.
    generation: u32,
}

/// What stands where no slot is.
static NO_SLOT: Slot = Slot::free(0);

impl Slots {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        self.pages.used()
    }

    /// Slots in use and free: indices are below.
    pub(crate) fn capacity(&self) -> u32 {
        self.pages.capacity()
    }

    /// Takes a free slot.
    pub(crate) fn take(&mut self) -> SlotId {
        let generation = self.generation;
        let index = self.pages.take(|| Slot::free(generation));
        let slot = &mut self[index];
        assert_eq!(slot.state, State::Free, "a slot that is taken is free");
        slot.flags = 0;
        SlotId { index, generation: slot.generation }
    }

    /// Gives a slot back; its generation ends.
    pub(crate) fn give_back(&mut self, index: u32) {
        let slot = &mut self[index];
        assert_ne!(slot.state, State::Free, "a slot is given back once");
        *slot = Slot::free(slot.generation.wrapping_add(1));
        if let Some(page) = self.pages.give_back(index) {
            let highest = page.iter().map(|slot| slot.generation).max().unwrap_or(0);
            self.generation = self.generation.max(highest);
        }
    }

    /// The slot of this name, if it is still in that life.
    pub(crate) fn get(&mut self, id: SlotId) -> Option<&mut Slot> {
        let slot = self.pages.get_mut(id.index)?;
        (slot.generation == id.generation && slot.state != State::Free).then_some(slot)
    }

    /// Looks at up to `max` slots from `from` on, in one page, for the first one that `is_wanted` names; how
    /// many it has looked at, and whether the last of them is one.
    pub(crate) fn pass(&self, from: u32, max: u32, is_wanted: impl Fn(&Slot) -> bool) -> (u32, bool) {
        let count = max.min(PAGE_SLOTS as u32 - from % PAGE_SLOTS as u32);
        let slots = self.pages.page_from(from);
        match slots.get(..count as usize).unwrap_or_default().iter().position(is_wanted) {
            Some(at) => (at as u32 + 1, true),
            None => (count, false),
        }
    }

    /// The name of a slot that is in use.
    pub(crate) fn id(&self, index: u32) -> SlotId {
        SlotId { index, generation: self[index].generation }
    }
}

impl std::ops::Index<u32> for Slots {
    type Output = Slot;

    /// A slot, or one that is free where there is none.
    fn index(&self, index: u32) -> &Slot {
        self.pages.get(index).unwrap_or(&NO_SLOT)
    }
}

impl std::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, index: u32) -> &mut Slot {
        self.pages.get_mut(index).expect("only a slot in use is changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_given_back_is_taken_again_under_another_generation() {
        let mut slots = Slots::new();
        let first = slots.take();
        slots[first.index].state = State::Idle;
        assert!(slots.get(first).is_some());
        slots.give_back(first.index);
        assert!(slots.get(first).is_none());
        let second = slots.take();
        slots[second.index].state = State::Idle;
        assert_eq!(second.index, first.index);
        assert!(slots.get(first).is_none(), "a name of an earlier life finds nothing");
        assert!(slots.get(second).is_some());
    }

    #[test]
    fn a_slot_of_a_page_that_was_given_back_has_a_name_that_none_had_before() {
        let mut slots = Slots::new();
        let take = |slots: &mut Slots| {
            let id = slots.take();
            slots[id.index].state = State::Idle;
            id
        };
        let ids: Vec<SlotId> = (0..3 * PAGE_SLOTS).map(|_| take(&mut slots)).collect();
        for id in &ids {
            slots.give_back(id.index);
        }
        assert_eq!((slots.capacity(), slots.used()), (PAGE_SLOTS as u32, 0));
        let last = ids[ids.len() - 1];
        assert_eq!(slots[last.index].state, State::Free, "what is not there is free");
        assert!(slots.get(last).is_none());
        let again: Vec<SlotId> = (0..ids.len()).map(|_| take(&mut slots)).collect();
        assert_eq!(again[ids.len() - 1].index, last.index);
        assert!(ids.iter().all(|id| slots.get(*id).is_none()), "an earlier life is told apart");
    }

    #[test]
    fn growing_keeps_every_slot() {
        let mut slots = Slots::new();
        let ids: Vec<SlotId> = (0..10_000)
            .map(|n| {
                let id = slots.take();
                slots[id.index].state = State::Idle;
                slots[id.index].place = Offset(n);
                id
            })
            .collect();
        assert_eq!(slots.used(), 10_000);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(slots.get(*id).map(|s| s.place), Some(Offset(n as u64)));
        }
    }
}
