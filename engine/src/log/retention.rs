//! What the log dropped: the watermark, the topics by their highest dropped offset, and which topic is
//! forgotten next.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::cursor::Offset;
use crate::topic::{Matcher, Topic};

/// So many wildcards are held against topics before an answer is given that is safe but not exact.
pub(super) const MATCHES_MAX: usize = 16_384;

/// So many topics without events are looked at for one that nobody has interest in, before another is
/// forgotten.
const FORGET_LOOKS_MAX: usize = 64;

/// The highest dropped offset of each topic, in the order that wildcards and forgetting need. An offset that
/// a topic itself dropped is no other topic's, so it can be the key.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// The highest offset dropped by a topic that is forgotten. A topic made (again) starts with it, so it is
    /// no key.
    watermark: Offset,
    topics: BTreeMap<Offset, Topic>,
    /// The topics among them that have no event left, and were not looked at yet …
    empty: BTreeMap<Offset, Topic>,
    /// … or were found to have interest when a topic was to be forgotten.
    wanted: BTreeMap<Offset, Topic>,
    /// Where the next look among those begins.
    again: Offset,
}

impl Dropped {
    pub(super) fn watermark(&self) -> Offset {
        self.watermark
    }

    /// The highest dropped offset of `topic` rose from `before` to `now`.
    pub(super) fn raise(&mut self, topic: &Topic, before: Offset, now: Offset) {
        debug_assert!(before < now, "a topic dropped {now} after {before}");
        let text = self.topics.remove(&before).unwrap_or_else(|| topic.clone());
        self.topics.insert(now, text);
    }

    /// A topic lost its last event, which was `dropped`.
    pub(super) fn emptied(&mut self, topic: &Topic, dropped: Offset) {
        self.empty.insert(dropped, topic.clone());
    }

    /// A topic without events, whose last one was `dropped`, has one again.
    pub(super) fn filled(&mut self, dropped: Offset) {
        if self.empty.remove(&dropped).is_none() {
            self.wanted.remove(&dropped);
        }
    }

    /// A topic whose newest event is `last`, and whose highest dropped was `dropped`, is forgotten.
    pub(super) fn forget(&mut self, dropped: Offset, last: Offset) {
        self.topics.remove(&dropped);
        self.filled(dropped);
        self.watermark = self.watermark.max(last);
    }

    /// The topic without events to forget next: one without interest that dropped its last event longest ago,
    /// so that the watermark rises least.
    pub(super) fn next_unwanted(&mut self, has_interest: &dyn Fn(&str) -> bool) -> Option<Topic> {
        for _ in 0..FORGET_LOOKS_MAX {
            if self.empty.is_empty() {
                // Interest comes and goes: those that had some are looked at again.
                std::mem::swap(&mut self.empty, &mut self.wanted);
            }
            let (dropped, topic) = self.empty.pop_first()?;
            if !has_interest(topic.as_str()) {
                self.empty.insert(dropped, topic.clone());
                return Some(topic);
            }
            self.wanted.insert(dropped, topic);
        }
        None
    }

    /// Looks at some of those that were found to have interest: whose has gone may be forgotten.
    pub(super) fn look_again(&mut self, looks: usize, has_interest: &dyn Fn(&str) -> bool) {
        let some: Vec<_> = self.wanted.range(self.again..).take(looks).map(|(&at, _)| at).collect();
        self.again = match some.last() {
            Some(last) if some.len() == looks => last.next(),
            _ => Offset::START,
        };
        for at in some {
            if self.wanted.get(&at).is_some_and(|topic| !has_interest(topic.as_str()))
                && let Some(topic) = self.wanted.remove(&at)
            {
                self.empty.insert(at, topic);
            }
        }
    }

    /// Topics without events that may be without interest.
    pub(super) fn empty_topics(&self) -> usize {
        self.empty.len()
    }

    /// A topic without events, whoever has interest in it.
    pub(super) fn next_empty(&self) -> Option<Topic> {
        self.wanted.values().next().or_else(|| self.empty.values().next()).cloned()
    }

    /// The highest offset, if any is beyond `after`, that a topic which a wildcard of `matchers` names
    /// dropped; the watermark, if that is higher, because a forgotten topic may have been one of them. Where
    /// too many topics would have to be looked at, an offset that is not exceeded.
    pub(super) fn highest(&self, matchers: &[Matcher], after: Offset) -> Offset {
        let known = self.watermark.max(after);
        let looks = (MATCHES_MAX / matchers.len().max(1)).max(1);
        let beyond = self.topics.range((Bound::Excluded(known), Bound::Unbounded)).rev();
        for (look, (dropped, topic)) in beyond.enumerate() {
            let is_named = || matchers.iter().any(|m| m.is_wildcard() && m.matches(topic.as_str()));
            if look >= looks || is_named() {
                return *dropped;
            }
        }
        self.watermark
    }
}
