//! What is kept under matchers, and found by topic: which shards have interest, which sets a topic has.
//!
//! A matcher without a wildcard is one entry of a hash table; the others stand in a tree of segments. A topic
//! is looked up by one hash, and by a walk down the tree if there is any wildcard at all.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use crate::numbers::Numbers;
use crate::pages::Pages;
use crate::topic::Matcher;

/// What stands under one matcher.
pub(crate) trait Values: Default {
    type Value: Copy + Eq;
    /// Adds `value`, if it is not there.
    fn insert(&mut self, value: Self::Value);
    /// Takes `value` away, if it is there.
    fn remove(&mut self, value: Self::Value);
    fn is_empty(&self) -> bool;
}

/// Matchers, each with its values.
#[derive(Debug, Default)]
pub(crate) struct MatcherMap<S> {
    exact: HashMap<Matcher, S>,
    wildcards: Node<S>,
}

impl<S: Values> MatcherMap<S> {
    /// Puts `value` under `matcher`; a second time changes nothing.
    pub(crate) fn insert(&mut self, matcher: &Matcher, value: S::Value) {
        if matcher.is_wildcard() {
            self.wildcards.insert(matcher.as_str(), value);
        } else if let Some(values) = self.exact.get_mut(matcher) {
            values.insert(value);
        } else {
            let mut values = S::default();
            values.insert(value);
            self.exact.insert(matcher.clone(), values);
        }
    }

    /// Takes `value` away from under `matcher`, and forgets a matcher without values.
    pub(crate) fn remove(&mut self, matcher: &Matcher, value: S::Value) {
        if matcher.is_wildcard() {
            self.wildcards.remove(matcher.as_str(), value);
        } else if let Some(values) = self.exact.get_mut(matcher) {
            values.remove(value);
            if values.is_empty() {
                self.exact.remove(matcher);
                self.give_room_back();
            }
        }
    }

    /// Shows the values of each matcher that names `topic`.
    pub(crate) fn visit<'a>(&'a self, topic: &str, mut show: impl FnMut(&'a S)) {
        if let Some(values) = self.exact.get(topic) {
            show(values);
        }
        if !self.wildcards.is_empty() {
            self.wildcards.visit(Some(topic), &mut show);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    /// A table that once held a million topics of one subscriber each gives its memory back when they are
    /// gone.
    fn give_room_back(&mut self) {
        if self.exact.capacity() > 1_024 && self.exact.len() < self.exact.capacity() / 8 {
            self.exact.shrink_to(self.exact.len() * 2);
        }
    }
}

/// One segment of the wildcard matchers. Its depth is that of the longest matcher: at most 128 segments.
#[derive(Debug)]
struct Node<S> {
    literal: HashMap<Box<str>, Node<S>>,
    star: Option<Box<Node<S>>>,
    /// Of the matchers that end here.
    here: S,
    /// Of the matchers that go on with a final `**`.
    rest: S,
}

impl<S: Default> Default for Node<S> {
    fn default() -> Self {
        Self { literal: HashMap::new(), star: None, here: S::default(), rest: S::default() }
    }
}

impl<S: Values> Node<S> {
    fn insert(&mut self, matcher: &str, value: S::Value) {
        let mut node = self;
        for segment in matcher.split('/') {
            node = match segment {
                "**" => return node.rest.insert(value),
                "*" => node.star.get_or_insert_default(),
                _ => node.literal.entry(segment.into()).or_default(),
            };
        }
        node.here.insert(value);
    }

    fn contains(&self, matcher: &str) -> bool {
        let (segment, further) = split(matcher);
        let child = match segment {
            "**" => return !self.rest.is_empty(),
            "*" => self.star.as_deref(),
            _ => self.literal.get(segment),
        };
        match (child, further) {
            (Some(child), Some(further)) => child.contains(further),
            (Some(child), None) => !child.here.is_empty(),
            (None, _) => false,
        }
    }

    /// Removes on the way back whatever became empty.
    fn remove(&mut self, matcher: &str, value: S::Value) {
        let (segment, further) = split(matcher);
        if segment == "**" {
            return self.rest.remove(value);
        }
        let child = if segment == "*" { self.star.as_deref_mut() } else { self.literal.get_mut(segment) };
        let Some(child) = child else { return };
        match further {
            Some(further) => child.remove(further, value),
            None => child.here.remove(value),
        }
        if child.is_empty() {
            if segment == "*" {
                self.star = None;
            } else {
                self.literal.remove(segment);
                if self.literal.len() < self.literal.capacity() / 8 {
                    self.literal.shrink_to(self.literal.len() * 2);
                }
            }
        }
    }

    /// `topic` is what is left of it; none at its end.
    fn visit<'a>(&'a self, topic: Option<&str>, show: &mut impl FnMut(&'a S)) {
        let Some(topic) = topic else {
            if !self.here.is_empty() {
                show(&self.here);
            }
            return;
        };
        if !self.rest.is_empty() {
            show(&self.rest);
        }
        let (segment, further) = split(topic);
        if let Some(child) = self.literal.get(segment) {
            child.visit(further, show);
        }
        if let Some(child) = &self.star {
            child.visit(further, show);
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.star.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((segment, further)) => (segment, Some(further)),
        None => (text, None),
    }
}

/// Shards, as a set of bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shards(u128);

/// Shards of one engine, at most: one bit each in [`Shards`].
pub(crate) const SHARDS_MAX: usize = 128;

impl Shards {
    pub(crate) fn union(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let shard = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(shard)
        })
    }
}

impl Values for Shards {
    type Value = usize;

    fn insert(&mut self, shard: usize) {
        debug_assert!(shard < SHARDS_MAX);
        self.0 |= 1u128.checked_shl(shard as u32).unwrap_or(0);
    }

    fn remove(&mut self, shard: usize) {
        self.0 &= !1u128.checked_shl(shard as u32).unwrap_or(0);
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

/// A set of shards is that of this one shard; with [`WIDE`] it is a number into the sets of several.
const WIDE: u32 = 1 << 31;

/// Which shards have interest in which topics. A topic of one shard, of which there may be millions, costs 24
/// bytes and an entry of a hash table, beside its name.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    hasher: DefaultHashBuilder,
    /// Whole topics.
    exact: Numbers,
    topics: Pages<Option<Interested>, 1_024>,
    wide: Pages<Shards, 1_024>,
    wildcards: Node<Shards>,
}

/// Who has interest in one whole topic.
#[derive(Debug)]
struct Interested {
    topic: Matcher,
    /// A shard, or [`WIDE`] and a number.
    shards: u32,
}

const _: () = assert!(size_of::<Option<Interested>>() <= 24, "a million topics pay for each byte");

impl Interest {
    pub(crate) fn add(&mut self, shard: usize, matchers: &[Matcher]) {
        for matcher in matchers {
            if matcher.is_wildcard() {
                self.wildcards.insert(matcher.as_str(), shard);
            } else {
                self.add_topic(shard, matcher);
            }
        }
    }

    pub(crate) fn remove(&mut self, shard: usize, matchers: &[Matcher]) {
        for matcher in matchers {
            if matcher.is_wildcard() {
                self.wildcards.remove(matcher.as_str(), shard);
            } else {
                self.remove_topic(shard, matcher);
            }
        }
    }

    /// The shards with a matcher that names `topic`.
    pub(crate) fn shards(&self, topic: &str) -> Shards {
        let mut all = Shards::default();
        if let Some((_, interested)) = self.find(topic) {
            all.union(self.shards_of(interested));
        }
        if !self.wildcards.is_empty() {
            self.wildcards.visit(Some(topic), &mut |shards| all.union(*shards));
        }
        all
    }

    fn find(&self, topic: &str) -> Option<(u32, &Interested)> {
        let at = |number| self.topics.get(number)?.as_ref();
        let is_it =
            |number| at(number).is_some_and(|interested: &Interested| interested.topic.as_str() == topic);
        let number = self.exact.find(self.hasher.hash_one(topic), is_it)?;
        at(number).map(|interested| (number, interested))
    }

    fn shards_of(&self, interested: &Interested) -> Shards {
        if interested.shards & WIDE != 0 {
            return self.wide.get(interested.shards & !WIDE).copied().unwrap_or_default();
        }
        let mut shards = Shards::default();
        shards.insert(interested.shards as usize);
        shards
    }

    fn add_topic(&mut self, shard: usize, topic: &Matcher) {
        let Some((number, interested)) = self.find(topic.as_str()) else {
            let number = self.topics.take(|| None);
            if let Some(place) = self.topics.get_mut(number) {
                *place = Some(Interested { topic: topic.clone(), shards: shard as u32 });
            }
            self.exact.insert(self.hasher.hash_one(topic.as_str()), number);
            return;
        };
        let mut shards = self.shards_of(interested);
        shards.insert(shard);
        self.put(number, shards);
    }

    fn remove_topic(&mut self, shard: usize, topic: &Matcher) {
        let Some((number, interested)) = self.find(topic.as_str()) else { return };
        let mut shards = self.shards_of(interested);
        shards.remove(shard);
        self.put(number, shards);
        if shards.is_empty() {
            self.exact.remove(self.hasher.hash_one(topic.as_str()), |n| n == number);
            if let Some(place) = self.topics.get_mut(number) {
                *place = None;
            }
            self.topics.give_back(number);
        }
    }

    /// Has `number` be of these shards.
    fn put(&mut self, number: u32, shards: Shards) {
        let Some(Some(interested)) = self.topics.get_mut(number) else { return };
        let was_wide = interested.shards & WIDE != 0;
        let place = interested.shards & !WIDE;
        if shards.len() > 1 {
            let place = if was_wide { place } else { self.wide.take(Shards::default) };
            interested.shards = WIDE | place;
            if let Some(wide) = self.wide.get_mut(place) {
                *wide = shards;
            }
            return;
        }
        if let Some(only) = shards.iter().next() {
            interested.shards = only as u32;
        }
        if was_wide {
            self.wide.give_back(place);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.wildcards.is_empty() && self.exact.len() + self.topics.used() + self.wide.used() == 0
    }
}

/// Values that each stand under matchers; one value takes no allocation. A topic may find a value more than
/// once, under more than one of its matchers. The order of what is found depends on nothing but the calls
/// made.
#[derive(Debug)]
pub(crate) struct MatcherIndex<V: Copy + Eq + Hash>(MatcherMap<Few<V>>);

impl<V: Copy + Eq + Hash> Default for MatcherIndex<V> {
    fn default() -> Self {
        Self(MatcherMap { exact: HashMap::new(), wildcards: Node::default() })
    }
}

impl<V: Copy + Eq + Hash> MatcherIndex<V> {
    /// Puts `value` under `matcher`; a second time changes nothing.
    pub(crate) fn insert(&mut self, matcher: &Matcher, value: V) {
        self.0.insert(matcher, value);
    }

    /// Takes `value` away from under `matcher`. The order of the others may change.
    pub(crate) fn remove(&mut self, matcher: &Matcher, value: &V) {
        self.0.remove(matcher, *value);
    }

    /// Appends the values of all matchers that name `topic`: once a matcher, not once a value.
    pub(crate) fn collect(&self, topic: &str, found: &mut Vec<V>) {
        self.0.visit(topic, |values| values.append_to(found));
    }

    /// Whether any value stands under a wildcard.
    pub(crate) fn has_wildcards(&self) -> bool {
        !self.0.wildcards.is_empty()
    }

    /// Whether any value stands under `matcher`.
    pub(crate) fn contains(&self, matcher: &Matcher) -> bool {
        if matcher.is_wildcard() {
            self.0.wildcards.contains(matcher.as_str())
        } else {
            self.0.exact.contains_key(matcher)
        }
    }
}

/// So many values are looked through one by one; more are hashed, because a topic can have a million.
const LISTED_MAX: usize = 32;

/// Hashes without a random key, so that a simulation of one seed is the same each time. The values are ours,
/// so nobody can choose them to collide.
type Hashed<V> = HashSet<V, BuildHasherDefault<DefaultHasher>>;

/// Values, the first without an allocation.
#[derive(Debug, Default)]
pub(crate) enum Few<V> {
    #[default]
    None,
    One(V),
    #[expect(clippy::box_collection, reason = "keeps an entry of one value, the usual one, at 16 bytes")]
    Listed(Box<Vec<V>>),
    Many(Box<Hashed<V>>),
}

const _: () =
    assert!(size_of::<Few<u32>>() <= 16, "a million topics of one subscriber each pay for each byte");

impl<V: Copy> Few<V> {
    pub(crate) fn append_to(&self, found: &mut Vec<V>) {
        match self {
            Self::None => {}
            Self::One(value) => found.push(*value),
            Self::Listed(values) => found.extend_from_slice(values),
            Self::Many(values) => found.extend(values.iter()),
        }
    }
}

impl<V: Copy + Eq + Hash> Values for Few<V> {
    type Value = V;

    fn insert(&mut self, value: V) {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(only) if *only == value => {}
            Self::One(only) => *self = Self::Listed(Box::new(vec![*only, value])),
            Self::Listed(values) if values.contains(&value) => {}
            Self::Listed(values) if values.len() < LISTED_MAX => values.push(value),
            Self::Listed(values) => {
                *self = Self::Many(Box::new(values.drain(..).chain([value]).collect()));
            }
            Self::Many(values) => {
                values.insert(value);
            }
        }
    }

    fn remove(&mut self, value: V) {
        match self {
            Self::None => {}
            Self::One(only) => {
                if *only == value {
                    *self = Self::None;
                }
            }
            Self::Listed(values) => {
                values.retain(|other| *other != value);
                if let [only] = values[..] {
                    *self = Self::One(only);
                }
            }
            Self::Many(values) => {
                values.remove(&value);
                // Well below the limit, so that one value that comes and goes does not turn it over each
                // time.
                if values.len() <= LISTED_MAX / 2 {
                    *self = Self::Listed(Box::new(values.drain().collect()));
                } else if values.len() < values.capacity() / 8 {
                    let keep = values.len() * 2;
                    values.shrink_to(keep);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(text: &str) -> Matcher {
        text.parse().unwrap()
    }

    fn found(index: &MatcherIndex<u32>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        index.collect(topic, &mut found);
        found.sort_unstable();
        found
    }

    const MATCHERS: [&str; 14] = [
        "a", "b", "a/b", "a/b/c", "*", "**", "a/*", "*/b", "a/**", "*/**", "a/*/c", "*/*/c", "a/b/**",
        "*/b/*",
    ];
    const TOPICS: [&str; 9] = ["a", "b", "a/b", "a/c", "b/b", "a/b/c", "b/b/c", "a/c/c", "a/b/c/d"];

    #[test]
    fn the_index_finds_what_each_matcher_says_it_matches() {
        let mut index = MatcherIndex::default();
        for (value, text) in (0..).zip(MATCHERS) {
            index.insert(&matcher(text), value);
        }
        for without in 0..=MATCHERS.len() {
            for topic in TOPICS {
                let expected: Vec<u32> = (0..)
                    .zip(MATCHERS)
                    .skip(without)
                    .filter(|(_, text)| matcher(text).matches(topic))
                    .map(|(value, _)| value)
                    .collect();
                assert_eq!(found(&index, topic), expected, "{topic} without the first {without} matchers");
            }
            if let Some(text) = MATCHERS.get(without) {
                index.remove(&matcher(text), &(without as u32));
            }
        }
        assert!(index.0.is_empty(), "nodes without values are gone");
    }

    #[test]
    fn many_values_stand_under_one_matcher_and_each_can_go() {
        for text in ["a", "a/**", "*"] {
            let topic = if text == "a/**" { "a/b" } else { "a" };
            let mut index = MatcherIndex::default();
            let count = LISTED_MAX as u32 * 4;
            for value in 0..count {
                index.insert(&matcher(text), value);
                index.insert(&matcher(text), value);
                assert_eq!(found(&index, topic), (0..=value).collect::<Vec<_>>(), "{text}");
            }
            index.remove(&matcher(text), &count);
            for value in 0..count {
                index.remove(&matcher(text), &value);
                assert_eq!(found(&index, topic), (value + 1..count).collect::<Vec<_>>(), "{text}");
            }
            assert!(index.0.is_empty());
        }
    }

    #[test]
    fn the_order_of_what_is_found_is_the_same_each_time() {
        let order = || {
            let mut index = MatcherIndex::default();
            for value in 0..1_000u32 {
                index.insert(&matcher("a"), value * 7);
            }
            let mut found = Vec::new();
            index.collect("a", &mut found);
            found
        };
        assert_eq!(order(), order());
    }

    #[test]
    fn interest_is_of_shards_and_a_second_time_changes_nothing() {
        let mut interest = Interest::default();
        interest.add(0, &[matcher("a"), matcher("a/*")]);
        interest.add(127, &[matcher("a")]);
        interest.add(127, &[matcher("a")]);
        let shards = |interest: &Interest, topic| interest.shards(topic).iter().collect::<Vec<_>>();
        assert_eq!(shards(&interest, "a"), [0, 127]);
        assert_eq!(interest.shards("a").len(), 2);
        assert_eq!(shards(&interest, "a/b"), [0]);
        assert!(shards(&interest, "b").is_empty());
        interest.remove(127, &[matcher("a"), matcher("b")]);
        assert_eq!(shards(&interest, "a"), [0]);
        interest.remove(0, &[matcher("a"), matcher("a/*")]);
        assert!(interest.is_empty());
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let mut index = MatcherIndex::default();
        index.insert(&matcher("a/*/c"), 1);
        for text in ["a", "a/*", "a/*/c/d", "a/**", "x/*", "*"] {
            index.remove(&matcher(text), &1);
        }
        index.remove(&matcher("a/*/c"), &2);
        assert_eq!(found(&index, "a/b/c"), [1]);
    }

    #[test]
    fn a_matcher_of_the_greatest_depth_is_inserted_found_and_removed() {
        let deep = vec!["*"; 128].join("/");
        let topic = vec!["x"; 128].join("/");
        let mut index = MatcherIndex::default();
        index.insert(&matcher(&deep), 1);
        assert_eq!(found(&index, &topic), [1]);
        index.remove(&matcher(&deep), &1);
        assert!(index.0.is_empty());
    }
}
