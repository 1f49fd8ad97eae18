//! The sets of a shard: all its subscribers with the same matchers and the same encoding stand in one. A set
//! has no queue: what it has still to send are the shard's unfinished events of its matchers beyond `walked`.

use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use hashbrown::DefaultHashBuilder;

use super::index::{Stands, TopicIndex, Under};
use super::slots::{NONE, Slots, State};
use super::walk::Walk;
use crate::cursor::Offset;
use crate::numbers::Numbers;
use crate::pages::Pages;
use crate::topic::{Matcher, Topic};
use crate::transport::Encoding;

/// A slot that left a set while a walk ran through its vector.
pub(crate) const HOLE: u32 = NONE;

/// What a subscriber named: sorted, none twice. One matcher, the usual case, takes no allocation.
#[derive(Debug, Clone)]
pub(crate) enum Matchers {
    One(Matcher),
    List(Rc<[Matcher]>),
}

impl From<Vec<Matcher>> for Matchers {
    fn from(mut matchers: Vec<Matcher>) -> Self {
        if matchers.len() == 1
            && let Some(only) = matchers.pop()
        {
            return Self::One(only);
        }
        Self::List(matchers.into())
    }
}

impl From<Rc<[Matcher]>> for Matchers {
    fn from(matchers: Rc<[Matcher]>) -> Self {
        match &*matchers {
            [only] => Self::One(only.clone()),
            _ => Self::List(matchers),
        }
    }
}

impl Deref for Matchers {
    type Target = [Matcher];

    fn deref(&self) -> &[Matcher] {
        match self {
            Self::One(matcher) => std::slice::from_ref(matcher),
            Self::List(matchers) => matchers,
        }
    }
}

/// Slot numbers, in a vector from the second on: a set of one takes no allocation.
#[derive(Debug, Default)]
pub(crate) enum Members {
    #[default]
    None,
    One(u32),
    #[expect(clippy::box_collection, reason = "keeps a set of one, of which there may be millions, small")]
    Many(Box<Vec<u32>>),
}

impl Deref for Members {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }
}

impl DerefMut for Members {
    fn deref_mut(&mut self) -> &mut [u32] {
        match self {
            Self::None => &mut [],
            Self::One(slot) => std::slice::from_mut(slot),
            Self::Many(slots) => slots,
        }
    }
}

impl Members {
    fn push(&mut self, slot: u32) {
        match self {
            Self::None => *self = Self::One(slot),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, slot])),
            Self::Many(slots) => slots.push(slot),
        }
    }

    fn swap_remove(&mut self, index: usize) {
        match self {
            Self::Many(slots) => {
                slots.swap_remove(index);
                self.give_room_back();
            }
            _ => *self = Self::None,
        }
    }

    /// Keeps those of which `is_kept` says so, in their order.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&u32) -> bool) {
        match self {
            Self::None => {}
            Self::One(slot) => {
                if !is_kept(slot) {
                    *self = Self::None;
                }
            }
            Self::Many(slots) => {
                slots.retain(is_kept);
                self.give_room_back();
            }
        }
    }

    /// A set that was large once gives its memory back.
    fn give_room_back(&mut self) {
        let Self::Many(slots) = self else { return };
        match slots[..] {
            [] => *self = Self::None,
            [only] => *self = Self::One(only),
            _ => {
                if slots.capacity() > 64 && slots.len() * 4 < slots.capacity() {
                    let keep = slots.len() * 2;
                    slots.shrink_to(keep);
                }
            }
        }
    }
}

/// Subscribers of the shard with the same matchers and encoding.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) matchers: Matchers,
    pub(crate) encoding: Encoding,
    /// Every event of its matchers up to here was sent to all members.
    pub(crate) walked: Offset,
    /// Slot numbers, dense but for [`HOLE`]s while a walk runs.
    pub(crate) members: Members,
    /// The first of the slots that are served from the log, linked through [`super::slots::Slot::next`] and,
    /// backwards, through [`super::slots::Slot::index`]; the last one stands before the first.
    pub(crate) behind_first: u32,
    pub(crate) behind_count: u32,
    /// The walk under way: at most one.
    pub(crate) walk: Option<Box<Walk>>,
    /// Of an empty set: the second since which nobody stands in it. Else that of its latest walk, so that a
    /// heartbeat that would follow at once is left out; or earlier than any of its subscribers came.
    pub(crate) since: u32,
}

const _: () = assert!(size_of::<Option<Set>>() <= 80, "a million topics of one subscriber each pay for it");

impl Set {
    /// Whether nobody stands in it, is behind in it, or is walked.
    pub(crate) fn is_empty(&self) -> bool {
        self.walk.is_none() && self.behind_count == 0 && self.members.is_empty()
    }
}

/// All sets of a shard, and which of them a topic concerns.
pub(crate) struct Sets {
    sets: Pages<Option<Set>, 1_024>,
    hasher: DefaultHashBuilder,
    /// By matchers and encoding; not those that stand alone under their only matcher.
    by_key: Numbers,
    index: TopicIndex,
    /// Slots that are behind, in all sets.
    pub(crate) behind: usize,
}

type SetPages = Pages<Option<Set>, 1_024>;

fn set_in(sets: &SetPages, number: u32) -> Option<&Set> {
    sets.get(number)?.as_ref()
}

/// Whether a set of one matcher has this one.
fn is_named(sets: &SetPages) -> impl Fn(u32, &str) -> bool {
    |number, topic| set_in(sets, number).is_some_and(|set| set.matchers[0].as_str() == topic)
}

impl Sets {
    pub(crate) fn new() -> Self {
        Self {
            sets: Pages::default(),
            hasher: DefaultHashBuilder::default(),
            by_key: Numbers::default(),
            index: TopicIndex::new(),
            behind: 0,
        }
    }

    /// Set numbers are below.
    pub(crate) fn capacity(&self) -> u32 {
        self.sets.capacity()
    }

    fn key(&self, matchers: &[Matcher], encoding: Encoding) -> u64 {
        self.hasher.hash_one((matchers, encoding))
    }

    pub(crate) fn find(&self, matchers: &[Matcher], encoding: Encoding) -> Option<u32> {
        if let [only] = matchers
            && !only.is_wildcard()
        {
            match self.index.under(only.as_str(), is_named(&self.sets)) {
                Under::Nothing => return None,
                Under::One(number) => return (self[number].encoding == encoding).then_some(number),
                Under::Several => {}
            }
        }
        self.by_key.find(self.key(matchers, encoding), |number| {
            set_in(&self.sets, number)
                .is_some_and(|set| set.encoding == encoding && *set.matchers == *matchers)
        })
    }

    /// Makes a set that starts at `head`, which its interest returned.
    pub(crate) fn make(
        &mut self,
        matchers: impl Into<Matchers>,
        encoding: Encoding,
        head: Offset,
        second: u32,
    ) -> u32 {
        let matchers = matchers.into();
        debug_assert!(self.find(&matchers, encoding).is_none(), "two sets of the same matchers and encoding");
        let number = self.sets.take(|| None);
        let mut stands_alone = false;
        for matcher in matchers.iter() {
            let is_only = matchers.len() == 1;
            match self.index.insert(matcher, number, is_only, is_named(&self.sets)) {
                Stands::Alone => stands_alone = true,
                Stands::Among(None) => {}
                Stands::Among(Some(other)) => {
                    let key = self.key(&self[other].matchers, self[other].encoding);
                    self.by_key.insert(key, other);
                }
            }
        }
        if !stands_alone {
            self.by_key.insert(self.key(&matchers, encoding), number);
        }
        let set = Set {
            matchers,
            encoding,
            walked: head,
            members: Members::None,
            behind_first: NONE,
            behind_count: 0,
            walk: None,
            since: second,
        };
        if let Some(place) = self.sets.get_mut(number) {
            *place = Some(set);
        }
        number
    }

    /// Removes an empty set; answers the matchers that no set of the shard has any more.
    pub(crate) fn remove(&mut self, number: u32) -> Vec<Matcher> {
        let set = &self[number];
        assert!(set.is_empty(), "only an empty set is removed");
        let (matchers, key) = (set.matchers.clone(), self.key(&set.matchers, set.encoding));
        self.by_key.remove(key, |n| n == number);
        let mut gone = Vec::new();
        for matcher in matchers.iter() {
            if self.index.remove(matcher, number, is_named(&self.sets)) {
                gone.push(matcher.clone());
            }
        }
        if let Some(place) = self.sets.get_mut(number) {
            *place = None;
        }
        self.sets.give_back(number);
        gone
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Set> {
        set_in(&self.sets, number)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Set> {
        self.sets.get_mut(number)?.as_mut()
    }

    /// The sets of which a matcher names `topic`, each once.
    pub(crate) fn of_topic(&mut self, topic: &Topic) -> Rc<[u32]> {
        self.index.of_topic(topic, is_named(&self.sets))
    }

    /// Puts a slot at the end of the set's list of those behind.
    pub(crate) fn link_behind(&mut self, slots: &mut Slots, number: u32, slot: u32) {
        self.behind += 1;
        let set = &mut self[number];
        let first = set.behind_first;
        set.behind_count += 1;
        let last = if first == NONE {
            set.behind_first = slot;
            slot
        } else {
            let last = std::mem::replace(&mut slots[first].index, slot);
            slots[last].next = slot;
            last
        };
        let entry = &mut slots[slot];
        entry.set = number;
        entry.index = last;
        entry.next = NONE;
        entry.state = State::Behind;
    }

    /// Takes a slot out of the set's list of those behind.
    pub(crate) fn unlink_behind(&mut self, slots: &mut Slots, slot: u32) {
        let (number, before, after) = (slots[slot].set, slots[slot].index, slots[slot].next);
        self.behind -= 1;
        let set = &mut self[number];
        set.behind_count -= 1;
        let first = set.behind_first;
        if first == slot {
            set.behind_first = after;
        } else {
            slots[before].next = after;
        }
        // Whoever stands after it has another before it; if nobody does, that is what the first one knows.
        if after != NONE {
            slots[after].index = before;
        } else if first != slot {
            slots[first].index = before;
        }
        slots[slot].next = NONE;
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

    /// Takes a slot out of the set's vector: a hole while a walk runs, else the last one takes its place.
    pub(crate) fn leave(&mut self, slots: &mut Slots, slot: u32, is_defect_swap_in_walk: bool) {
        let (number, index) = (slots[slot].set, slots[slot].index as usize);
        let set = &mut self[number];
        assert_eq!(set.members[index], slot, "a slot knows its place in its set");
        if set.walk.is_some() && !is_defect_swap_in_walk {
            set.members[index] = HOLE;
            return;
        }
        set.members.swap_remove(index);
        if let Some(&moved) = set.members.get(index)
            && moved != HOLE
        {
            slots[moved].index = index as u32;
        }
    }
}

impl std::ops::Index<u32> for Sets {
    type Output = Set;

    fn index(&self, number: u32) -> &Set {
        self.get(number).expect("a slot's set lives as long as the slot")
    }
}

impl std::ops::IndexMut<u32> for Sets {
    fn index_mut(&mut self, number: u32) -> &mut Set {
        self.get_mut(number).expect("a slot's set lives as long as the slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Format, Framing, Transport};

    const ENCODING: Encoding = Encoding {
        transport: Transport::Sse,
        format: Format::Raw,
        framing: Framing::Chunked,
        head: 0,
        limit: 0,
    };

    fn matchers(list: &[&str]) -> Vec<Matcher> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn make(sets: &mut Sets, list: &[&str], limit: u16) -> u32 {
        sets.make(matchers(list), Encoding { limit, ..ENCODING }, Offset::START, 0)
    }

    fn topic(text: &str) -> Topic {
        text.parse().unwrap()
    }

    const LISTS: [&[&str]; 10] = [
        &["a"],
        &["b"],
        &["a", "b"],
        &["a/b"],
        &["*"],
        &["a", "a/*"],
        &["**"],
        &["*/b", "a/b", "b"],
        &[],
        &["a/*", "b"],
    ];

    /// A number below `below`, from a generator of the test's own.
    fn random(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % below
    }

    #[test]
    fn sets_are_found_by_key_and_by_topic_whatever_was_made_and_removed_before() {
        let mut state = 5;
        let mut sets = Sets::new();
        let mut there: Vec<(usize, u16, u32)> = Vec::new();
        for step in 0..20_000 {
            let (list, limit) = (random(&mut state, LISTS.len()), random(&mut state, 40) as u16);
            let known = there.iter().position(|&(l, m, _)| (l, m) == (list, limit));
            let encoding = Encoding { limit, ..ENCODING };
            let found = sets.find(&matchers(LISTS[list]), encoding);
            assert_eq!(found, known.map(|at| there[at].2), "step {step}");
            // It grows for a while, then shrinks, and so on.
            let grows = (step / 1_000) % 2 == 0;
            match known {
                None if grows || random(&mut state, 10) == 0 => {
                    there.push((list, limit, make(&mut sets, LISTS[list], limit)));
                }
                Some(at) if !grows => {
                    let (list, _, number) = there.swap_remove(at);
                    let is_left = |m: &&str| there.iter().any(|&(l, ..)| LISTS[l].contains(m));
                    let gone: Vec<&str> = LISTS[list].iter().copied().filter(|m| !is_left(m)).collect();
                    assert_eq!(sets.remove(number), matchers(&gone), "step {step}");
                }
                _ => {}
            }
            for text in ["a", "b", "a/b", "c", "b/b", "c/d/e"] {
                let names = |list: &[&str]| matchers(list).iter().any(|matcher| matcher.matches(text));
                let mut expected: Vec<u32> =
                    there.iter().filter(|(list, ..)| names(LISTS[*list])).map(|&(.., n)| n).collect();
                expected.sort_unstable();
                let mut found = sets.of_topic(&topic(text)).to_vec();
                found.sort_unstable();
                assert_eq!(found, expected, "{text} in step {step}");
            }
        }
    }

    #[test]
    fn the_sets_of_a_topic_are_not_looked_for_again_because_others_come_and_go() {
        let mut sets = Sets::new();
        for limit in 0..100 {
            make(&mut sets, &["hot"], limit);
            make(&mut sets, &["hot", "warm/*"], limit);
        }
        let hot = topic("hot");
        let found = sets.of_topic(&hot);
        assert_eq!(found.len(), 200);
        let other = make(&mut sets, &["cold", "colder"], 0);
        assert!(Rc::ptr_eq(&found, &sets.of_topic(&hot)), "another topic's set came");
        sets.remove(other);
        assert!(Rc::ptr_eq(&found, &sets.of_topic(&hot)), "another topic's set went");
        let third = make(&mut sets, &["hot", "lukewarm"], 0);
        assert_eq!(sets.of_topic(&hot).len(), 201);
        sets.remove(third);
        assert_eq!(sets.of_topic(&hot).len(), 200);
        make(&mut sets, &["*"], 0);
        assert_eq!(sets.of_topic(&hot).len(), 201, "a wildcard that names it came");
    }

    #[test]
    fn the_slots_that_are_behind_stay_linked_in_the_order_in_which_they_came() {
        let (mut sets, mut slots) = (Sets::new(), Slots::new());
        let number = make(&mut sets, &["a"], 0);
        let mut expected: Vec<u32> = Vec::new();
        let mut state = 3;
        for _ in 0..5_000 {
            if expected.len() < 2 || random(&mut state, 100) < 48 {
                let slot = slots.take().index;
                sets.link_behind(&mut slots, number, slot);
                expected.push(slot);
            } else {
                let slot = expected.remove(random(&mut state, expected.len()));
                sets.unlink_behind(&mut slots, slot);
                slots.give_back(slot);
            }
            let (mut found, mut slot) = (Vec::new(), sets[number].behind_first);
            while slot != NONE {
                assert!(found.len() <= expected.len(), "the list ends");
                found.push(slot);
                slot = slots[slot].next;
            }
            assert_eq!(found, expected);
            assert_eq!(sets[number].behind_count as usize, expected.len());
        }
        for slot in expected {
            sets.unlink_behind(&mut slots, slot);
        }
        assert!(sets[number].is_empty() && sets[number].behind_first == NONE);
    }
}
