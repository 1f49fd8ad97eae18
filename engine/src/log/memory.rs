//! The log in memory: each topic's events, and all events by offset.
//!
//! Two ways lead to an event. A subscriber of whole topics reads those topics alone, whatever else is
//! published. Who has a wildcard looks through all events by offset; the same order serves age and the limit
//! for all topics, where the oldest event goes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::retention::{Dropped, MATCHES_MAX};
use super::topics::{Events, Topics};
use super::{Log, LogStatistics, Query, Read, TopicInfo};
use crate::channel::LiveBytes;
use crate::config::Retention;
use crate::cursor::Offset;
use crate::event::Event;
use crate::topic::{Matcher, Topic};

/// So many of the oldest events are looked at for a topic without interest, when one must be forgotten.
const FORGET_EVENTS_MAX: usize = 256;

/// Topics without events that are kept though nobody has interest in them, so that they answer exactly what
/// they dropped. A million that had one event each do not stay for ever.
const EMPTY_TOPICS_KEPT: usize = 16_384;

/// Events older than the retention age that one append drops: more than it adds, so they cannot pile up.
const AGED_PER_APPEND: usize = 4;

/// The log in memory.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    retention: Retention,
    topics: Topics,
    all: All,
}

/// One topic's part of the log.
#[derive(Debug)]
pub(super) struct TopicLog {
    pub(super) topic: Topic,
    /// Ascending.
    events: Events,
    bytes: usize,
    /// The highest offset that it dropped; the watermark of when it was made, as long as it dropped none.
    dropped: Offset,
}

/// What all topics share.
#[derive(Debug)]
struct All {
    events: BTreeMap<Offset, Arc<Event>>,
    bytes: usize,
    dropped: Dropped,
    /// Bytes of these events, and of those that only a shard still has.
    live: Arc<LiveBytes>,
    /// Bytes of half-sent runs.
    held: Arc<AtomicUsize>,
    events_dropped: u64,
    topics_forgotten: u64,
}

impl MemoryLog {
    /// `live` counts what is published here; `held` is what else counts against the limit for all topics.
    pub(crate) fn new(retention: Retention, live: Arc<LiveBytes>, held: Arc<AtomicUsize>) -> Self {
        let all = All {
            events: BTreeMap::new(),
            bytes: 0,
            dropped: Dropped::default(),
            live,
            held,
            events_dropped: 0,
            topics_forgotten: 0,
        };
        Self { retention, topics: Topics::default(), all }
    }

    /// Bytes that count against the limit for all topics though no retention can free them: events that only
    /// a shard still has, and half-sent runs.
    pub(crate) fn bytes_outside(&self) -> usize {
        let held = self.all.held.load(Ordering::Relaxed);
        self.all.live.get().saturating_sub(self.all.bytes).saturating_add(held)
    }

    /// Forgets topics until there is room for one more.
    fn make_room(&mut self, has_interest: &dyn Fn(&str) -> bool) {
        while self.topics.len() >= self.retention.topics.max(1) {
            let Some(topic) = self.next_forgotten(has_interest) else { break };
            self.forget(&topic);
        }
    }

    /// Forgets up to `topics_max` topics without events and interest, where there are very many; whether that
    /// was not all.
    fn forget_empty(&mut self, topics_max: usize, has_interest: &dyn Fn(&str) -> bool) -> bool {
        self.all.dropped.look_again(topics_max, has_interest);
        for _ in 0..topics_max {
            if self.all.dropped.empty_topics() <= EMPTY_TOPICS_KEPT {
                return false;
            }
            let Some(topic) = self.all.dropped.next_unwanted(has_interest) else { return false };
            self.forget(&topic);
        }
        true
    }

    /// Makes a topic with its first event.
    fn append_first(&mut self, event: Arc<Event>) {
        let dropped = self.all.dropped.watermark();
        let mut log = TopicLog { topic: event.topic().clone(), events: Events::None, bytes: 0, dropped };
        log.append(event, &self.retention, &mut self.all);
        self.topics.insert(log);
    }

    /// First a topic without events and interest, then one without interest, then one without events, then
    /// any.
    fn next_forgotten(&mut self, has_interest: &dyn Fn(&str) -> bool) -> Option<Topic> {
        if let Some(topic) = self.all.dropped.next_unwanted(has_interest) {
            return Some(topic);
        }
        let oldest = || self.all.events.values().map(|event| event.topic());
        let unwanted = oldest().take(FORGET_EVENTS_MAX).find(|topic| !has_interest(topic.as_str()));
        unwanted.cloned().or_else(|| self.all.dropped.next_empty()).or_else(|| oldest().next().cloned())
    }

    fn forget(&mut self, topic: &Topic) {
        let Some(log) = self.topics.remove(topic.as_str()) else {
            debug_assert!(false, "topic {topic} was to be forgotten, and is not known");
            return;
        };
        self.all.dropped.forget(log.dropped, log.last());
        for event in log.events.from(0) {
            self.all.remove(event);
        }
        self.all.topics_forgotten += 1;
    }

    /// Drops the oldest event of all; false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, event)) = self.all.events.first_key_value() else { return false };
        let event = Arc::clone(event);
        let Some(log) = self.topics.get_mut(event.topic().as_str()) else {
            debug_assert!(false, "an event of {} is retained, and the topic is not known", event.topic());
            return false;
        };
        log.drop_oldest(&mut self.all);
        true
    }

    /// Drops the oldest events while all are over the limit. What retention cannot free takes from the log's
    /// part, but never more than half of it: a fan-out that is behind must not cost other topics their whole
    /// past.
    fn keep_bytes(&mut self) {
        let limit = self.retention.all_bytes;
        loop {
            let allowance = limit.saturating_sub(self.bytes_outside()).max(limit / 2);
            if self.all.bytes <= allowance || !self.drop_oldest() {
                return;
            }
        }
    }

    /// Drops up to `events_max` events older than the retention age; whether that was not all.
    fn keep_age(&mut self, now_ms: u64, events_max: usize) -> bool {
        let oldest_ms = now_ms.saturating_sub(self.retention.age_seconds.saturating_mul(1_000));
        for _ in 0..events_max {
            match self.all.events.first_key_value() {
                Some((_, event)) if event.time_ms() < oldest_ms => self.drop_oldest(),
                _ => return false,
            };
        }
        true
    }

    /// The retained events of whole topics, merged.
    fn read_topics(&self, matchers: &[Matcher], query: Query, found: &mut Found) {
        if let [only] = matchers {
            if let Some(log) = self.topics.get(only.as_str()) {
                for event in log.after(query.after) {
                    if !found.take(event) {
                        return;
                    }
                }
            }
            return;
        }
        let mut parts: Vec<_> = matchers
            .iter()
            .filter_map(|matcher| self.topics.get(matcher.as_str()))
            .map(|log| log.after(query.after))
            .collect();
        let mut next: BinaryHeap<_> = parts
            .iter_mut()
            .enumerate()
            .filter_map(|(part, events)| events.next().map(|event| Reverse((event.offset, part))))
            .collect();
        // The heap has offsets only: the events are found again by them, which is cheaper than to order
        // `Arc`s.
        while let Some(Reverse((offset, part))) = next.pop() {
            let Some(event) = self.all.events.get(&offset) else { continue };
            if !found.take(event) {
                return;
            }
            if let Some(event) = parts.get_mut(part).and_then(Iterator::next) {
                next.push(Reverse((event.offset, part)));
            }
        }
    }

    /// The retained events of topics that `matchers` name, found by looking through all.
    fn read_all(&self, matchers: &[Matcher], query: Query, found: &mut Found) {
        let looks = (MATCHES_MAX / matchers.len().max(1)).max(1);
        for (look, event) in self.all.range(query.after, query.until).enumerate() {
            if look == looks {
                found.is_cut = true;
                return;
            }
            if matchers.iter().any(|matcher| matcher.matches(event.topic().as_str())) && !found.take(event) {
                return;
            }
            found.end = event.offset;
        }
    }

    /// Whether an event of (`after`, `until`] may be retained: of whole topics exactly, else if any is found
    /// before too many were looked at.
    fn may_retain(&self, matchers: &[Matcher], after: Offset, until: Offset) -> bool {
        if until <= after {
            return false;
        }
        let query = Query { after, until, events_max: 1, bytes_max: 0 };
        let found = self.find(matchers, query);
        found.is_cut || !found.events.is_empty()
    }

    fn find(&self, matchers: &[Matcher], query: Query) -> Found {
        let mut found = Found::new(query);
        if query.until > query.after {
            if matchers.iter().any(Matcher::is_wildcard) {
                self.read_all(matchers, query, &mut found);
            } else {
                self.read_topics(matchers, query, &mut found);
            }
        }
        found
    }
}

impl Log for MemoryLog {
    fn append(&mut self, event: Arc<Event>, has_interest: &dyn Fn(&str) -> bool) {
        let now_ms = event.time_ms();
        if self.topics.get(event.topic().as_str()).is_none() {
            // Before the event stands among all: its topic, not yet known, must not be found there and
            // forgotten.
            self.make_room(has_interest);
        }
        self.all.insert(&event);
        match self.topics.get_mut(event.topic().as_str()) {
            Some(log) => log.append(event, &self.retention, &mut self.all),
            None => self.append_first(event),
        }
        self.keep_age(now_ms, AGED_PER_APPEND);
        self.keep_bytes();
    }

    fn read(&self, matchers: &[Matcher], query: Query) -> Read {
        let found = self.find(matchers, query);
        let dropped = self.dropped(matchers, query.after);
        let end = if found.is_cut { found.end } else { query.until.max(query.after) };
        let remains_in_gap = match found.events.first() {
            Some(first) => first.offset <= dropped,
            None => (found.is_cut && end < dropped) || self.may_retain(matchers, end, dropped),
        };
        Read { events: found.events, dropped, end, has_more: found.is_cut, remains_in_gap }
    }

    fn dropped(&self, matchers: &[Matcher], after: Offset) -> Offset {
        let mut highest = Offset::START;
        let mut has_wildcard = false;
        for matcher in matchers {
            if matcher.is_wildcard() {
                has_wildcard = true;
            } else {
                let log = self.topics.get(matcher.as_str());
                highest = highest.max(log.map_or(self.all.dropped.watermark(), |log| log.dropped));
            }
        }
        if has_wildcard {
            highest = highest.max(self.all.dropped.highest(matchers, highest.max(after)));
        }
        highest
    }

    fn topic(&self, topic: &str) -> Option<TopicInfo> {
        self.topics.get(topic).map(|log| TopicInfo {
            first: log.events.front().map(|event| event.offset),
            last: log.last(),
            events: log.events.len(),
            bytes: log.bytes,
        })
    }

    fn sweep(&mut self, now_ms: u64, events_max: usize, has_interest: &dyn Fn(&str) -> bool) -> bool {
        self.keep_bytes();
        let has_aged = self.keep_age(now_ms, events_max);
        self.forget_empty(events_max, has_interest) || has_aged
    }

    fn statistics(&self) -> LogStatistics {
        LogStatistics {
            topics: self.topics.len(),
            events: self.all.events.len(),
            bytes: self.all.bytes,
            events_dropped: self.all.events_dropped,
            topics_forgotten: self.all.topics_forgotten,
            watermark: self.all.dropped.watermark(),
        }
    }
}

impl TopicLog {
    /// Takes the newest event, and drops the oldest by count and bytes; never the newest.
    fn append(&mut self, event: Arc<Event>, retention: &Retention, all: &mut All) {
        if self.events.is_empty() {
            all.dropped.filled(self.dropped);
        }
        debug_assert!(self.last() < event.offset, "{} comes after {}", event.offset, self.last());
        self.bytes += event.cost_bytes();
        self.events.push_back(event);
        while self.events.len() > 1 && (self.events.len() > retention.events || self.bytes > retention.bytes)
        {
            self.drop_oldest(all);
        }
    }

    fn drop_oldest(&mut self, all: &mut All) {
        let Some(event) = self.events.pop_front() else { return };
        all.remove(&event);
        all.dropped.raise(event.topic(), self.dropped, event.offset);
        self.bytes -= event.cost_bytes();
        self.dropped = event.offset;
        if self.events.is_empty() {
            all.dropped.emptied(event.topic(), event.offset);
        }
    }

    /// The newest offset that it knows of.
    fn last(&self) -> Offset {
        self.events.back().map_or(self.dropped, |event| event.offset)
    }

    /// The events beyond `after`.
    fn after(&self, after: Offset) -> impl Iterator<Item = &Arc<Event>> {
        self.events.from(self.events.count_while(|event| event.offset <= after))
    }
}

impl All {
    fn insert(&mut self, event: &Arc<Event>) {
        self.bytes += event.cost_bytes();
        self.events.insert(event.offset, Arc::clone(event));
    }

    fn remove(&mut self, event: &Event) {
        self.events.remove(&event.offset);
        self.bytes -= event.cost_bytes();
        self.live.release(event);
        self.events_dropped += 1;
    }

    fn range(&self, after: Offset, until: Offset) -> impl Iterator<Item = &Arc<Event>> {
        self.events.range((Bound::Excluded(after), Bound::Included(until))).map(|(_, event)| event)
    }
}

/// Events that a read has found so far.
struct Found {
    query: Query,
    events: Vec<Arc<Event>>,
    bytes: usize,
    /// All up to here are found.
    end: Offset,
    /// Whether there is more, or may be.
    is_cut: bool,
}

impl Found {
    fn new(query: Query) -> Self {
        Self { query, events: Vec::new(), bytes: 0, end: query.after, is_cut: false }
    }

    /// Takes the next event; false if the read is over.
    fn take(&mut self, event: &Arc<Event>) -> bool {
        if event.offset > self.query.until {
            return false;
        }
        // Two matchers of a list may be the same.
        if self.events.last().is_some_and(|last| last.offset == event.offset) {
            return true;
        }
        let bytes = self.bytes.saturating_add(event.cost_bytes());
        let is_over = self.events.len() >= self.query.events_max || bytes > self.query.bytes_max;
        if is_over && !self.events.is_empty() {
            self.is_cut = true;
            return false;
        }
        self.bytes = bytes;
        self.end = event.offset;
        self.events.push(Arc::clone(event));
        true
    }
}
