//! The log: the retained events, per topic, under one sequence of offsets. What it owns: which events are
//! kept, and the exact answer to "what am I missing?". It gives no offsets and knows no shard; the sequencer
//! calls it under its lock.

mod memory;
mod retention;
mod topics;

use std::sync::Arc;

pub(crate) use self::memory::MemoryLog;
use crate::cursor::Offset;
use crate::event::Event;
use crate::topic::Matcher;

/// What a log must do. The head, the offsets and the times are the sequencer's.
pub(crate) trait Log: Send {
    /// Takes the event of the next offset, and drops what retention no longer keeps. `has_interest` says
    /// which topics are forgotten last.
    fn append(&mut self, event: Arc<Event>, has_interest: &dyn Fn(&str) -> bool);

    /// The retained events of the topics that `matchers` name, and what of them is gone.
    fn read(&self, matchers: &[Matcher], query: Query) -> Read;

    /// The highest dropped offset of the topics that `matchers` name. With wildcards it may be higher, where
    /// telling exactly would take too long, but only above `after`.
    fn dropped(&self, matchers: &[Matcher], after: Offset) -> Offset;

    /// What is retained of `topic`; none where the log does not know it.
    fn topic(&self, topic: &str) -> Option<TopicInfo>;

    /// Drops events older than the retention age at `now_ms`, at most `events_max`, and forgets as many
    /// topics of which nothing is left, where there are very many; whether there is more to do.
    fn sweep(&mut self, now_ms: u64, events_max: usize, has_interest: &dyn Fn(&str) -> bool) -> bool;

    fn statistics(&self) -> LogStatistics;
}

/// What part of the log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    /// Events beyond this offset …
    pub(crate) after: Offset,
    /// … up to this one, which is no higher than the head.
    pub(crate) until: Offset,
    /// At most so many, and at least one.
    pub(crate) events_max: usize,
    /// Of at most so many bytes ([`Event::cost_bytes`]), but one event of whatever size.
    pub(crate) bytes_max: usize,
}

/// What a read of the log answers: a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    /// Retained events of the matched topics, ascending, in (`after`, `end`]: all there are.
    pub(crate) events: Vec<Arc<Event>>,
    /// The highest dropped offset of the matched topics. Beyond `after` it is a gap.
    pub(crate) dropped: Offset,
    /// `until` where the read was not cut short (`after`, if that is higher), else less.
    pub(crate) end: Offset,
    /// Whether the read was cut short, by a limit or because a wildcard had much to look through: then
    /// `events` may even be empty, and the next read goes on after `end`.
    pub(crate) has_more: bool,
    /// Whether some matched event in (`after`, `dropped`] may be retained, also beyond `until`.
    pub(crate) remains_in_gap: bool,
}

impl Read {
    /// The gap that is to be told to a subscriber whose place is `after` and who was told of all gaps up to
    /// `told`.
    pub(crate) fn gap(&self, after: Offset, told: Offset) -> Option<GapFound> {
        (self.dropped > after.max(told)).then_some(GapFound {
            after,
            resumed: self.dropped,
            cursor: if self.remains_in_gap { after } else { self.dropped },
        })
    }
}

/// Some events of (`after`, `resumed`] are gone; those that remain are still sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GapFound {
    pub(crate) after: Offset,
    pub(crate) resumed: Offset,
    /// What the notice carries, so that a cut right after it loses nothing more.
    pub(crate) cursor: Offset,
}

/// What the log has of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicInfo {
    /// The oldest retained event; none where all are dropped.
    pub(crate) first: Option<Offset>,
    /// The newest event, retained or not; the watermark where that is all that is known.
    pub(crate) last: Offset,
    /// Events retained.
    pub(crate) events: usize,
    /// Their bytes ([`Event::cost_bytes`]).
    pub(crate) bytes: usize,
}

/// The log in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogStatistics {
    pub(crate) topics: usize,
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    /// Since the start.
    pub(crate) events_dropped: u64,
    /// Since the start.
    pub(crate) topics_forgotten: u64,
    /// The highest offset that a forgotten topic dropped.
    pub(crate) watermark: Offset,
}

#[cfg(test)]
mod tests;
