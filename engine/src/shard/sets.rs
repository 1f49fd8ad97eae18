//! The sets of a shard: all its subscribers with the same matchers and the same encoding stand in one. A set
//! has no queue: what it has still to send are the shard's unfinished events of its matchers beyond `walked`.

use std::rc::Rc;

use hashbrown::HashMap;

use super::slots::{Slots, State};
use super::walk::Walk;
use crate::cursor::Offset;
use crate::interest::MatcherIndex;
use crate::topic::{Matcher, Topic};
use crate::transport::Encoding;

/// A topic with fewer sets is looked up again each time.
const CACHED_FROM: usize = 32;
/// Topics whose sets are kept.
const CACHED_MAX: usize = 1_024;

/// Subscribers of the shard with the same matchers and encoding.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) matchers: Rc<[Matcher]>,
    pub(crate) encoding: Encoding,
    /// Every event of its matchers up to here was sent to all members.
    pub(crate) walked: Offset,
    /// Slot numbers, dense.
    pub(crate) members: Vec<u32>,
    /// How many slots of it are served from the log.
    pub(crate) behind_count: u32,
    /// The walk under way: at most one.
    pub(crate) walk: Option<Box<Walk>>,
    /// Second since which nobody stands in it.
    pub(crate) empty_since: u32,
    /// Second of its latest walk, so that a heartbeat that would follow at once is left out.
    pub(crate) walked_at: u32,
}

impl Set {
    /// Whether nobody stands in it, is behind in it, or is walked.
    pub(crate) fn is_empty(&self) -> bool {
        self.walk.is_none() && self.behind_count == 0 && self.members.is_empty()
    }
}

/// All sets of a shard, and which of them a topic concerns.
pub(crate) struct Sets {
    sets: Vec<Option<Set>>,
    free: Vec<u32>,
    by_key: HashMap<(Rc<[Matcher]>, Encoding), u32>,
    index: MatcherIndex<u32>,
    /// The sets of topics that have many of them, until a set is made or removed.
    cached: HashMap<Topic, Rc<[u32]>>,
    /// Slots that are behind, in all sets.
    pub(crate) behind: usize,
}

impl Sets {
    pub(crate) fn new() -> Self {
        Self {
            sets: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            index: MatcherIndex::default(),
            cached: HashMap::new(),
            behind: 0,
        }
    }

    /// Set numbers are below.
    pub(crate) fn capacity(&self) -> u32 {
        self.sets.len() as u32
    }

    pub(crate) fn find(&self, matchers: &Rc<[Matcher]>, encoding: Encoding) -> Option<u32> {
        self.by_key.get(&(Rc::clone(matchers), encoding)).copied()
    }

    /// Makes a set that starts at `head`, which its interest returned.
    pub(crate) fn make(
        &mut self,
        matchers: Rc<[Matcher]>,
        encoding: Encoding,
        head: Offset,
        second: u32,
    ) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            self.sets.len() as u32 - 1
        });
        for matcher in matchers.iter() {
            self.index.insert(matcher, number);
        }
        let was = self.by_key.insert((Rc::clone(&matchers), encoding), number);
        assert!(was.is_none(), "two sets of the same matchers and encoding");
        self.sets[number as usize] = Some(Set {
            matchers,
            encoding,
            walked: head,
            members: Vec::new(),
            behind_count: 0,
            walk: None,
            empty_since: second,
            walked_at: 0,
        });
        self.cached.clear();
        number
    }

    /// Removes an empty set; answers the matchers that no set of the shard has any more.
    pub(crate) fn remove(&mut self, number: u32) -> Vec<Matcher> {
        let set = self.sets[number as usize].take().expect("a set is removed once");
        assert!(set.is_empty(), "only an empty set is removed");
        self.by_key.remove(&(Rc::clone(&set.matchers), set.encoding));
        self.free.push(number);
        self.cached.clear();
        let mut gone = Vec::new();
        for matcher in set.matchers.iter() {
            self.index.remove(matcher, &number);
            if !self.index.contains(matcher) {
                gone.push(matcher.clone());
            }
        }
        gone
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Set> {
        self.sets.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Set> {
        self.sets.get_mut(number as usize)?.as_mut()
    }

    /// The sets of which a matcher names `topic`, each once.
    pub(crate) fn of_topic(&mut self, topic: &Topic) -> Rc<[u32]> {
        if let Some(sets) = self.cached.get(topic) {
            return Rc::clone(sets);
        }
        let mut found = Vec::new();
        self.index.collect(topic.as_str(), &mut found);
        found.sort_unstable();
        found.dedup();
        let sets: Rc<[u32]> = found.into();
        if sets.len() >= CACHED_FROM && self.cached.len() < CACHED_MAX {
            self.cached.insert(topic.clone(), Rc::clone(&sets));
        }
        sets
    }

    /// Counts a slot among those of the set that are behind.
    pub(crate) fn begin_behind(&mut self, slots: &mut Slots, number: u32, slot: u32) {
        self.behind += 1;
        self[number].behind_count += 1;
        let entry = &mut slots[slot];
        entry.set = number;
        entry.state = State::Behind;
    }

    /// Counts it among them no more.
    pub(crate) fn end_behind(&mut self, slots: &Slots, slot: u32) {
        self.behind -= 1;
        self[slots[slot].set].behind_count -= 1;
    }

    /// Puts a slot into the set's vector. No walk of the set runs.
    pub(crate) fn enter(&mut self, slots: &mut Slots, number: u32, slot: u32) {
        let set = &mut self[number];
        assert!(set.walk.is_none(), "nobody enters the vector of a running walk");
        slots[slot].index = set.members.len() as u32;
        slots[slot].set = number;
        slots[slot].state = State::Member;
        set.members.push(slot);
    }

    /// Takes a slot out of the set's vector, which stays dense: the last one takes its place. Where a walk
    /// runs, what it has visited stays before [`Walk::next`] and the rest after it.
    pub(crate) fn leave(&mut self, slots: &mut Slots, slot: u32, is_defect_swap_in_walk: bool) {
        let (number, mut index) = (slots[slot].set, slots[slot].index as usize);
        let set = &mut self[number];
        assert_eq!(set.members[index], slot, "a slot knows its place in its set");
        if let Some(walk) = &mut set.walk
            && index < walk.next
            && !is_defect_swap_in_walk
        {
            // The one visited last takes its place, and the last of all takes that one's.
            walk.next -= 1;
            let moved = set.members[walk.next];
            set.members[index] = moved;
            slots[moved].index = index as u32;
            index = walk.next;
        }
        set.members.swap_remove(index);
        if let Some(&moved) = set.members.get(index) {
            slots[moved].index = index as u32;
        }
        // A set that was large once gives its memory back.
        if set.members.capacity() > 64 && set.members.len() * 4 < set.members.capacity() {
            let keep = set.members.len() * 2;
            set.members.shrink_to(keep);
        }
    }
}

impl std::ops::Index<u32> for Sets {
    type Output = Set;

    fn index(&self, number: u32) -> &Set {
        self.sets[number as usize].as_ref().expect("a slot's set lives as long as the slot")
    }
}

impl std::ops::IndexMut<u32> for Sets {
    fn index_mut(&mut self, number: u32) -> &mut Set {
        self.sets[number as usize].as_mut().expect("a slot's set lives as long as the slot")
    }
}
