//! The sets of a shard: all its subscribers with the same matchers and the same encoding stand in one. A set
//! has no queue: what it has still to send are the shard's unfinished events of its matchers beyond `walked`.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::rc::Rc;

use hashbrown::DefaultHashBuilder;

use super::index::{Stands, TopicIndex, Under};
use super::members::Members;
use super::slots::{Slots, State};
use super::walk::Walk;
use crate::cursor::Offset;
use crate::numbers::Numbers;
use crate::pages::Pages;
use crate::topic::{Matcher, Topic};
use crate::transport::Encoding;

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

/// Subscribers of the shard with the same matchers and encoding.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) matchers: Matchers,
    pub(crate) encoding: Encoding,
    /// Every event of its matchers up to here was sent to all members.
    pub(crate) walked: Offset,
    /// Slot numbers, dense.
    pub(crate) members: Members,
    /// How many slots of it are served from the log.
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
}
