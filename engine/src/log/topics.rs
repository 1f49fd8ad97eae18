//! The topics that the log knows, dense and found by name: a topic of one event takes 48 bytes and an entry
//! of a hash table, beside its name and the event.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::memory::TopicLog;
use crate::event::Event;
use crate::numbers::Numbers;
use crate::pages::Pages;

/// The events of a topic, the first without an allocation.
#[derive(Debug, Default)]
pub(super) enum Events {
    #[default]
    None,
    One(Arc<Event>),
    #[expect(
        clippy::box_collection,
        reason = "keeps a topic of one event, of which there may be millions, small"
    )]
    Many(Box<VecDeque<Arc<Event>>>),
}

impl Events {
    pub(super) fn len(&self) -> usize {
        let (first, second) = self.slices();
        first.len() + second.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn front(&self) -> Option<&Arc<Event>> {
        self.slices().0.first()
    }

    pub(super) fn back(&self) -> Option<&Arc<Event>> {
        let (first, second) = self.slices();
        second.last().or_else(|| first.last())
    }

    pub(super) fn push_back(&mut self, event: Arc<Event>) {
        match std::mem::take(self) {
            Self::None => *self = Self::One(event),
            Self::One(first) => *self = Self::Many(Box::new(VecDeque::from([first, event]))),
            Self::Many(mut events) => {
                events.push_back(event);
                *self = Self::Many(events);
            }
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<Arc<Event>> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(event) => Some(event),
            Self::Many(mut events) => {
                let popped = events.pop_front();
                if events.len() <= 1 {
                    *self = events.pop_front().map_or(Self::None, Self::One);
                    return popped;
                }
                if events.capacity() > 8 && events.len() < events.capacity() / 4 {
                    events.shrink_to(events.len() * 2);
                }
                *self = Self::Many(events);
                popped
            }
        }
    }

    /// How many of the first ones `is_before` is true of.
    pub(super) fn count_while(&self, is_before: impl Fn(&Arc<Event>) -> bool) -> usize {
        let (first, second) = self.slices();
        let count = first.partition_point(&is_before);
        if count < first.len() { count } else { count + second.partition_point(&is_before) }
    }

    /// Those from place `start` on.
    pub(super) fn from(&self, start: usize) -> impl Iterator<Item = &Arc<Event>> {
        let (first, second) = self.slices();
        let beyond = start.saturating_sub(first.len());
        first.get(start..).unwrap_or_default().iter().chain(second.get(beyond..).unwrap_or_default())
    }

    fn slices(&self) -> (&[Arc<Event>], &[Arc<Event>]) {
        match self {
            Self::None => (&[], &[]),
            Self::One(event) => (std::slice::from_ref(event), &[]),
            Self::Many(events) => events.as_slices(),
        }
    }
}

/// The topics that the log knows.
#[derive(Debug, Default)]
pub(super) struct Topics {
    hasher: DefaultHashBuilder,
    by_name: Numbers,
    topics: Pages<Option<TopicLog>, 1_024>,
}

const _: () = assert!(size_of::<Option<TopicLog>>() <= 48, "a million topics pay for each byte");

impl Topics {
    pub(super) fn len(&self) -> usize {
        self.topics.used()
    }

    pub(super) fn get(&self, topic: &str) -> Option<&TopicLog> {
        self.topics.get(self.number(topic)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, topic: &str) -> Option<&mut TopicLog> {
        let number = self.number(topic)?;
        self.topics.get_mut(number)?.as_mut()
    }

    /// Adds a topic that is not there.
    pub(super) fn insert(&mut self, log: TopicLog) {
        let hash = self.hasher.hash_one(log.topic.as_str());
        let number = self.topics.take(|| None);
        if let Some(place) = self.topics.get_mut(number) {
            *place = Some(log);
        }
        self.by_name.insert(hash, number);
    }

    pub(super) fn remove(&mut self, topic: &str) -> Option<TopicLog> {
        let number = self.number(topic)?;
        self.by_name.remove(self.hasher.hash_one(topic), |n| n == number);
        let log = self.topics.get_mut(number)?.take();
        self.topics.give_back(number);
        log
    }

    fn number(&self, topic: &str) -> Option<u32> {
        let is_it = |number| {
            let log = self.topics.get(number).and_then(Option::as_ref);
            log.is_some_and(|log| log.topic.as_str() == topic)
        };
        self.by_name.find(self.hasher.hash_one(topic), is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Arc<Event> {
        Arc::new(Event::text("a", text).unwrap())
    }

    #[test]
    fn events_are_taken_from_the_front_and_read_from_any_place() {
        let (mut events, mut expected) = (Events::default(), VecDeque::new());
        let mut next = 0;
        // It grows by two of three steps for a while, then shrinks by two of three.
        for step in 0..600 {
            if (step % 3 != 0) == (step < 300) {
                events.push_back(event(&next.to_string()));
                expected.push_back(event(&next.to_string()));
                next += 1;
            } else {
                assert_eq!(events.pop_front(), expected.pop_front(), "step {step}");
            }
            assert_eq!((events.len(), events.is_empty()), (expected.len(), expected.is_empty()));
            assert_eq!((events.front(), events.back()), (expected.front(), expected.back()));
            for start in [0, 1, expected.len() / 2, expected.len()] {
                let start = start.min(expected.len());
                assert!(events.from(start).eq(expected.range(start..)), "step {step} from {start}");
                let first = expected.get(start).map(|event| event.data().bytes().to_vec());
                let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u32>().unwrap();
                let limit = first.map_or(u32::MAX, |bytes| number(&bytes));
                assert_eq!(events.count_while(|event| number(event.data().bytes()) < limit), start);
            }
        }
        while events.pop_front().is_some() {}
        assert!(matches!(events, Events::None));
    }
}
