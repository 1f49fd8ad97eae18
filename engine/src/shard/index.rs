//! Which sets a topic concerns. A set of one topic that no other set names costs one entry of eight bytes,
//! and a topic that many sets name keeps the answer until one of *its* sets comes or goes, so that a publish
//! is cheap while others join and leave.

use std::hash::BuildHasher;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashMap};

use crate::interest::{Few, MatcherIndex, Values};
use crate::numbers::Numbers;
use crate::pages::Pages;
use crate::topic::{Matcher, Topic};

/// Set numbers are below; with this bit it is the number of a [`Several`].
const SEVERAL: u32 = 1 << 31;

/// An answer of fewer sets is found again each time.
const CACHED_FROM: usize = 32;
/// Topics without an entry of their own whose wildcards are kept.
const CACHED_MAX: usize = 1_024;

/// The sets of a shard, by topic.
pub(super) struct TopicIndex {
    hasher: DefaultHashBuilder,
    /// By whole topics: the one set that names it and nothing else, or a [`Several`].
    exact: Numbers,
    several: Pages<Option<Several>, 256>,
    wildcards: MatcherIndex<u32>,
    /// Counts the changes of `wildcards`.
    wildcards_changed: u64,
    /// The sets whose wildcards name a topic, as long as `wildcards_changed` is the same.
    cached: HashMap<Topic, (u64, Rc<[u32]>)>,
    nothing: Rc<[u32]>,
}

/// The sets of a topic that more than one names, or one that names others too.
struct Several {
    topic: Matcher,
    sets: Few<u32>,
    /// All its sets, with those of wildcards, until one of its own changes.
    found: Option<Rc<[u32]>>,
}

/// Where a set stands under a matcher.
pub(super) enum Stands {
    /// It is the only one under its topic.
    Alone,
    /// Others may be there too. One that stood alone until now is named.
    Among(Option<u32>),
}

/// What stands under one whole topic.
pub(super) enum Under {
    Nothing,
    /// One set, which names nothing else.
    One(u32),
    Several,
}

impl TopicIndex {
    pub(super) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            exact: Numbers::default(),
            several: Pages::default(),
            wildcards: MatcherIndex::default(),
            wildcards_changed: 0,
            cached: HashMap::new(),
            nothing: Rc::default(),
        }
    }

    /// Puts a set under one of its matchers; `is_only` says that it has no other. `is_named` says whether a
    /// set of a single matcher has this one.
    pub(super) fn insert(
        &mut self,
        matcher: &Matcher,
        set: u32,
        is_only: bool,
        is_named: impl Fn(u32, &str) -> bool,
    ) -> Stands {
        debug_assert!(set < SEVERAL);
        if matcher.is_wildcard() {
            self.wildcards.insert(matcher, set);
            self.wildcards_changed += 1;
            return Stands::Among(None);
        }
        let hash = self.hasher.hash_one(matcher.as_str());
        let number = match self.lookup(hash, matcher.as_str(), is_named) {
            None if is_only => {
                self.exact.insert(hash, set);
                return Stands::Alone;
            }
            None => {
                let place = self.make_several(matcher, Few::One(set));
                self.exact.insert(hash, SEVERAL | place);
                return Stands::Among(None);
            }
            Some(number) => number,
        };
        if number & SEVERAL != 0 {
            if let Some(several) = self.several_mut(number) {
                several.sets.insert(set);
                several.found = None;
            }
            return Stands::Among(None);
        }
        let mut both = Few::One(number);
        both.insert(set);
        let place = self.make_several(matcher, both);
        if let Some(entry) = self.exact.find_mut(hash, |n| n == number) {
            *entry = SEVERAL | place;
        }
        Stands::Among(Some(number))
    }

    /// Takes a set away from under one of its matchers; whether nothing stands under that any more.
    pub(super) fn remove(
        &mut self,
        matcher: &Matcher,
        set: u32,
        is_named: impl Fn(u32, &str) -> bool,
    ) -> bool {
        if matcher.is_wildcard() {
            self.wildcards.remove(matcher, &set);
            self.wildcards_changed += 1;
            return !self.wildcards.contains(matcher);
        }
        let hash = self.hasher.hash_one(matcher.as_str());
        let Some(number) = self.lookup(hash, matcher.as_str(), is_named) else {
            debug_assert!(false, "set {set} does not stand under {}", matcher.as_str());
            return false;
        };
        if number & SEVERAL != 0 {
            let Some(several) = self.several_mut(number) else { return false };
            several.sets.remove(set);
            several.found = None;
            if !several.sets.is_empty() {
                return false;
            }
            if let Some(several) = self.several.get_mut(number & !SEVERAL) {
                *several = None;
            }
            self.several.give_back(number & !SEVERAL);
        }
        self.exact.remove(hash, |n| n == number)
    }

    /// What stands under one whole topic.
    pub(super) fn under(&self, topic: &str, is_named: impl Fn(u32, &str) -> bool) -> Under {
        match self.lookup(self.hasher.hash_one(topic), topic, is_named) {
            None => Under::Nothing,
            Some(number) if number & SEVERAL != 0 => Under::Several,
            Some(number) => Under::One(number),
        }
    }

    /// The sets of which a matcher names `topic`, each once.
    pub(super) fn of_topic(&mut self, topic: &Topic, is_named: impl Fn(u32, &str) -> bool) -> Rc<[u32]> {
        let wild = self.of_wildcards(topic);
        let number = self.lookup(self.hasher.hash_one(topic.as_str()), topic.as_str(), is_named);
        match number {
            None => wild,
            Some(number) if number & SEVERAL == 0 => {
                if wild.is_empty() {
                    Rc::new([number])
                } else {
                    joined(&[number], &wild)
                }
            }
            Some(number) => {
                let Some(several) = self.several_mut(number) else { return wild };
                // Only its own are kept: those of wildcards may be many, and are of many topics.
                let own = match &several.found {
                    Some(found) => Rc::clone(found),
                    None => {
                        let mut own = Vec::new();
                        several.sets.append_to(&mut own);
                        let own: Rc<[u32]> = own.into();
                        several.found = (own.len() >= CACHED_FROM).then(|| Rc::clone(&own));
                        own
                    }
                };
                if wild.is_empty() { own } else { joined(&own, &wild) }
            }
        }
    }

    /// The sets of which a wildcard names `topic`, each once, ascending.
    fn of_wildcards(&mut self, topic: &Topic) -> Rc<[u32]> {
        if !self.wildcards.has_wildcards() {
            return Rc::clone(&self.nothing);
        }
        if let Some((changed, sets)) = self.cached.get(topic)
            && *changed == self.wildcards_changed
        {
            return Rc::clone(sets);
        }
        let mut found = Vec::new();
        self.wildcards.collect(topic.as_str(), &mut found);
        found.sort_unstable();
        found.dedup();
        let sets: Rc<[u32]> = found.into();
        if sets.len() >= CACHED_FROM {
            if self.cached.len() >= CACHED_MAX {
                self.cached.clear();
            }
            self.cached.insert(topic.clone(), (self.wildcards_changed, Rc::clone(&sets)));
        }
        sets
    }

    fn lookup(&self, hash: u64, topic: &str, is_named: impl Fn(u32, &str) -> bool) -> Option<u32> {
        self.exact.find(hash, |number| {
            if number & SEVERAL == 0 {
                return is_named(number, topic);
            }
            let several = self.several.get(number & !SEVERAL);
            several.and_then(Option::as_ref).is_some_and(|several| several.topic.as_str() == topic)
        })
    }

    fn several_mut(&mut self, number: u32) -> Option<&mut Several> {
        self.several.get_mut(number & !SEVERAL)?.as_mut()
    }

    fn make_several(&mut self, topic: &Matcher, sets: Few<u32>) -> u32 {
        let place = self.several.take(|| None);
        if let Some(several) = self.several.get_mut(place) {
            *several = Some(Several { topic: topic.clone(), sets, found: None });
        }
        place
    }
}

/// Both, each set once; `wild` ascends, and `own` has none twice.
fn joined(own: &[u32], wild: &[u32]) -> Rc<[u32]> {
    let beyond = own.iter().filter(|set| wild.binary_search(set).is_err());
    wild.iter().chain(beyond).copied().collect()
}
