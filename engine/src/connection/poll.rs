//! Polls: one answer out of the log. A long poll for which the log has nothing yet is for the shard to hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cursor::{Cursor, Offset};
use crate::event::Event;
use crate::publish::Sequencer;
use crate::sequencer::Resolved;
use crate::topic::Matcher;
use crate::transport::Gap;

/// Most bytes of the events of one answer ([`Event::cost_bytes`]); one event goes whatever its size.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Reads of the log for one answer, where wildcards have much to look through and find nothing: then the
/// answer says that there is more.
const READS_MAX: usize = 16;

/// What is read for a poll.
pub(super) struct Wanted<'a> {
    pub(super) matchers: &'a [Matcher],
    pub(super) resolved: Resolved,
    /// What counts as told of gaps.
    pub(super) told: Offset,
    /// Where it ends, if it says so.
    pub(super) until: Option<Offset>,
    pub(super) limit: u16,
}

/// What the log has for a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) gap: Option<Gap>,
    pub(super) events: Vec<Arc<Event>>,
    /// The place after it.
    pub(super) place: Offset,
    pub(super) has_more: bool,
}

impl Found {
    /// Whether the answer would say nothing but a place.
    pub(super) fn is_nothing(&self) -> bool {
        self.gap.is_none() && self.events.is_empty() && !self.has_more
    }
}

/// Reads the log for a poll.
///
/// The head is read first, and the log up to it only: what is published in between has a later offset, and is
/// there for the next poll. So the place is one up to which nothing is missing.
pub(super) fn find(sequencer: &Sequencer, wanted: &Wanted<'_>) -> Found {
    let until = wanted.until.unwrap_or_else(|| sequencer.head());
    let after = wanted.resolved.after;
    let read =
        |after| sequencer.read(wanted.matchers, after, until, usize::from(wanted.limit), ANSWER_BYTES_MAX);
    let first = read(after);
    let found = first.gap(after, wanted.told);
    let (dropped, remains) = (first.dropped, first.remains_in_gap);
    let mut last = first;
    for _ in 1..READS_MAX {
        if !last.events.is_empty() || !last.has_more {
            break;
        }
        last = read(last.end);
    }
    let mut place = last.end.max(after);
    // Nothing is left of what is gone: the place goes over it, so that the same gap is not told again.
    if found.is_some() && !remains && wanted.until.is_none() {
        place = place.max(dropped);
    }
    let gap = match (wanted.resolved.old, found) {
        // After an epoch change the gap leads to the start of this epoch, whatever the log dropped of it
        // since.
        (Some(old), found) => Some(Gap {
            after: old,
            resumed: sequencer.cursor(found.map_or(after, |gap| gap.resumed)),
            cursor: sequencer.cursor(after),
        }),
        (None, Some(gap)) => Some(Gap {
            after: sequencer.cursor(gap.after),
            resumed: sequencer.cursor(gap.resumed),
            cursor: sequencer.cursor(gap.cursor),
        }),
        (None, None) => None,
    };
    Found { gap, events: last.events, place, has_more: last.has_more }
}

/// Where the log's head stood, seen now and then: tells how old a cursor is at most.
///
/// A cursor that is given back and back again with 304 grows old, until the log has dropped so much that it
/// cannot tell any more whether something of its topics was among it: a false gap. So only a young one is
/// given back.
#[derive(Default)]
pub(super) struct Heads {
    /// Ascending in both; an entry a period.
    seen: VecDeque<(Instant, Offset)>,
}

/// Entries that are kept for the time that matters.
const HEADS_MAX: u32 = 64;

impl Heads {
    /// Whether `place` was reached by the log within the last `age`, as far as is known; `head` is the head
    /// now.
    pub(super) fn is_young(&mut self, place: Offset, head: Offset, now: Instant, age: Duration) -> bool {
        let period = (age / HEADS_MAX).max(Duration::from_millis(100));
        if self.seen.back().is_none_or(|(seen, _)| now.saturating_duration_since(*seen) >= period) {
            self.seen.push_back((now, head));
        }
        while self.seen.front().is_some_and(|(seen, _)| now.saturating_duration_since(*seen) > age) {
            self.seen.pop_front();
        }
        // The oldest head that was seen within the time: all events beyond it came within the time.
        place >= head || self.seen.front().is_some_and(|(_, head)| place >= *head)
    }
}

/// Whether a poll that found nothing is told so by a 304: its client holds an answer for this very place, and
/// the place is young.
pub(super) fn is_not_modified(found: &Found, after: Cursor, tags: &[Cursor], is_young: bool) -> bool {
    found.is_nothing() && tags.contains(&after) && is_young
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Retention};
    use crate::cursor::{Epoch, Start};
    use crate::publish::Publisher;

    fn engine(events: usize) -> (Arc<Sequencer>, Publisher) {
        let config = Config { retention: Retention { events, ..Retention::default() }, ..Config::default() };
        let sequencer = Sequencer::new(&config, Vec::new());
        (sequencer.clone(), Publisher::new(sequencer))
    }

    fn publish(publisher: &Publisher, topic: &str, count: usize) {
        for n in 0..count {
            publisher.publish(Event::text(topic, n.to_string()).unwrap()).unwrap();
        }
    }

    fn poll(sequencer: &Sequencer, topics: &[&str], start: Start, limit: u16) -> Found {
        poll_until(sequencer, topics, start, limit, None)
    }

    fn poll_until(
        sequencer: &Sequencer,
        topics: &[&str],
        start: Start,
        limit: u16,
        until: Option<u64>,
    ) -> Found {
        let matchers: Vec<_> = topics.iter().map(|topic| Matcher::new(topic).unwrap()).collect();
        let resolved = sequencer.resolve(start, &matchers).unwrap();
        let until = until.map(Offset);
        find(sequencer, &Wanted { matchers: &matchers, resolved, told: Offset::START, until, limit })
    }

    fn offsets(found: &Found) -> Vec<u64> {
        found.events.iter().map(|event| event.offset().0).collect()
    }

    #[test]
    fn a_poller_that_follows_its_place_sees_every_event_once() {
        let (sequencer, publisher) = engine(1_000);
        let mut start = Start::After(sequencer.cursor(Offset::START));
        let mut seen = Vec::new();
        for round in 0..20 {
            publish(&publisher, "a", round % 5);
            publish(&publisher, "b", 3);
            let found = poll(&sequencer, &["a"], start, 2);
            assert!(found.gap.is_none() && found.events.len() <= 2);
            seen.extend(offsets(&found));
            start = Start::After(sequencer.cursor(found.place));
        }
        loop {
            let found = poll(&sequencer, &["a"], start, 2);
            seen.extend(offsets(&found));
            start = Start::After(sequencer.cursor(found.place));
            if !found.has_more {
                break;
            }
        }
        let all = poll(&sequencer, &["a"], Start::Earliest, 1_000);
        assert_eq!(seen, offsets(&all));
        assert_eq!(all.place, sequencer.head());
    }

    #[test]
    fn an_empty_answer_carries_the_head_that_was_read_before_the_log() {
        let (sequencer, publisher) = engine(1_000);
        publish(&publisher, "b", 7);
        let found = poll(&sequencer, &["a"], Start::After(sequencer.cursor(Offset(2))), 10);
        assert!(found.is_nothing());
        assert_eq!(found.place, Offset(7));
    }

    #[test]
    fn a_gap_is_told_once_and_what_remains_follows() {
        let (sequencer, publisher) = engine(3);
        publish(&publisher, "a", 10);
        let start = Start::After(sequencer.cursor(Offset(2)));
        let found = poll(&sequencer, &["a"], start, 10);
        let gap = found.gap.unwrap();
        assert_eq!(
            (gap.after.offset, gap.resumed.offset, gap.cursor.offset),
            (Offset(2), Offset(7), Offset(7))
        );
        assert_eq!((offsets(&found), found.place), (vec![8, 9, 10], Offset(10)));
        let again = poll(&sequencer, &["a"], Start::After(sequencer.cursor(found.place)), 10);
        assert!(again.is_nothing());
    }

    #[test]
    fn a_gap_of_one_topic_does_not_hide_the_events_of_another() {
        let (sequencer, publisher) = engine(3);
        publish(&publisher, "b", 2);
        publish(&publisher, "a", 10);
        let found = poll(&sequencer, &["a", "b"], Start::After(sequencer.cursor(Offset::START)), 10);
        let gap = found.gap.unwrap();
        assert_eq!((gap.resumed.offset, gap.cursor.offset), (Offset(9), Offset(0)), "b remains in the gap");
        assert_eq!(offsets(&found), [1, 2, 10, 11, 12]);
    }

    #[test]
    fn a_cursor_of_another_epoch_is_a_gap_from_there_to_the_start_of_this_one() {
        let (sequencer, publisher) = engine(100);
        publish(&publisher, "a", 2);
        let old = Cursor { epoch: Epoch(1), offset: Offset(500) };
        let found = poll(&sequencer, &["a"], Start::After(old), 10);
        let gap = found.gap.unwrap();
        let start = sequencer.cursor(Offset::START);
        assert_eq!((gap.after, gap.resumed, gap.cursor), (old, start, start));
        assert_eq!(offsets(&found), [1, 2]);
    }

    #[test]
    fn a_poll_ends_where_it_was_told_to() {
        let (sequencer, publisher) = engine(100);
        publish(&publisher, "a", 10);
        let start = Start::After(sequencer.cursor(Offset(2)));
        let found = poll_until(&sequencer, &["a"], start, 10, Some(5));
        assert_eq!((offsets(&found), found.place, found.has_more), (vec![3, 4, 5], Offset(5), false));
        let found = poll_until(&sequencer, &["a"], start, 2, Some(5));
        assert_eq!((offsets(&found), found.place, found.has_more), (vec![3, 4], Offset(4), true));
        let behind = poll_until(&sequencer, &["a"], start, 10, Some(1));
        assert_eq!((offsets(&behind), behind.place), (vec![], Offset(2)), "never back");
    }

    #[test]
    fn only_a_young_place_that_the_client_holds_is_not_modified() {
        let place = |offset| Cursor { epoch: Epoch(1), offset: Offset(offset) };
        let nothing = Found { gap: None, events: Vec::new(), place: Offset(9), has_more: false };
        assert!(is_not_modified(&nothing, place(5), &[place(4), place(5)], true));
        assert!(!is_not_modified(&nothing, place(5), &[place(5)], false));
        assert!(!is_not_modified(&nothing, place(5), &[place(4)], true));
        assert!(!is_not_modified(&nothing, place(5), &[], true));
        assert!(!is_not_modified(&Found { has_more: true, ..nothing }, place(5), &[place(5)], true));
    }

    #[test]
    fn a_place_is_young_while_the_head_was_there_within_the_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let age = Duration::from_secs(100);
        let mut heads = Heads::default();
        assert!(heads.is_young(Offset(5), Offset(5), at(0), age), "nothing has come since");
        assert!(!heads.is_young(Offset(4), Offset(5), at(0), age), "nobody knows how old it is");
        assert!(heads.is_young(Offset(5), Offset(9), at(50), age));
        assert!(heads.is_young(Offset(5), Offset(20), at(100), age));
        assert!(!heads.is_young(Offset(5), Offset(30), at(101), age));
        assert!(heads.is_young(Offset(9), Offset(30), at(101), age));
        for second in 102..1_000 {
            heads.is_young(Offset(9), Offset(30), at(second), age);
            assert!(heads.seen.len() <= HEADS_MAX as usize + 2);
        }
    }
}
