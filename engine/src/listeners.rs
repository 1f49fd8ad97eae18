//! The wakers of the receivers in this process, found by the topic of an event.

use std::task::Waker;

use crate::interest::MatcherIndex;
use crate::topic::Matcher;

/// Receivers, by a number each, and the wakers of those that wait.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    index: MatcherIndex<u32>,
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
    waiting: usize,
    /// Of the running look-up. Kept for its memory.
    found: Vec<u32>,
}

impl Listeners {
    pub(crate) fn add(&mut self, matchers: &[Matcher]) -> u32 {
        let listener = self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            u32::try_from(self.wakers.len() - 1).unwrap_or(u32::MAX)
        });
        for matcher in matchers {
            self.index.insert(matcher, listener);
        }
        listener
    }

    /// Returns the waker that nobody will wake, for the caller to drop where it holds no lock.
    pub(crate) fn remove(&mut self, listener: u32, matchers: &[Matcher]) -> Option<Waker> {
        for matcher in matchers {
            self.index.remove(matcher, &listener);
        }
        self.free.push(listener);
        self.take_one(listener)
    }

    /// Has `listener` woken by the next event of its matchers, once. Returns the waker that this one
    /// replaces.
    pub(crate) fn arm(&mut self, listener: u32, waker: Waker) -> Option<Waker> {
        let place = self.wakers.get_mut(listener as usize)?;
        let replaced = place.replace(waker);
        self.waiting += usize::from(replaced.is_none());
        replaced
    }

    /// Appends the wakers of those that wait for an event of `topic`. Costs one comparison where nobody
    /// waits.
    pub(crate) fn take(&mut self, topic: &str, wakers: &mut Vec<Waker>) {
        if self.waiting == 0 {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        self.index.collect(topic, &mut found);
        wakers.extend(found.drain(..).filter_map(|listener| self.take_one(listener)));
        self.found = found;
    }

    /// The wakers of all that wait.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        self.waiting = 0;
        self.wakers.iter_mut().filter_map(Option::take).collect()
    }

    fn take_one(&mut self, listener: u32) -> Option<Waker> {
        let waker = self.wakers.get_mut(listener as usize)?.take()?;
        self.waiting -= 1;
        Some(waker)
    }
}
