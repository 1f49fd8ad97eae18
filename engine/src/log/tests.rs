//! The log alone: each rule of retention and of gaps by a test of its own, and all of them against a list
//! that knows everything that was ever published.

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::channel::LiveBytes;
use crate::config::Retention;

/// A log, and what the sequencer does for it.
struct Bench {
    log: MemoryLog,
    live: Arc<LiveBytes>,
    held: Arc<AtomicUsize>,
    head: Offset,
    time_ms: u64,
    interest: Vec<&'static str>,
}

impl Bench {
    fn new(retention: Retention) -> Self {
        let (live, held) = (Arc::<LiveBytes>::default(), Arc::<AtomicUsize>::default());
        let log = MemoryLog::new(retention, Arc::clone(&live), Arc::clone(&held));
        Self { log, live, held, head: Offset::START, time_ms: 0, interest: Vec::new() }
    }

    /// Publishes `bytes` of data to `topic`; `shards` hold the event besides the log.
    fn publish_held(&mut self, topic: &str, bytes: usize, shards: u8) -> Arc<Event> {
        self.head = self.head.next();
        let mut event = Event::text(topic, "x".repeat(bytes)).unwrap();
        event.offset = self.head;
        event.time_ms = self.time_ms;
        let event = Arc::new(event);
        self.live.hold(&event, 1 + shards);
        let interest = &self.interest;
        self.log.append(Arc::clone(&event), &|topic| interest.contains(&topic));
        event
    }

    fn publish(&mut self, topic: &str) -> Offset {
        self.publish_held(topic, 0, 0).offset
    }

    fn read(&self, names: &[&str], after: u64, until: u64) -> Read {
        let query =
            Query { after: Offset(after), until: Offset(until), events_max: 1_000, bytes_max: 1 << 20 };
        self.log.read(&matchers(names), query)
    }

    fn dropped(&self, names: &[&str], after: u64) -> u64 {
        self.log.dropped(&matchers(names), Offset(after)).0
    }
}

fn matchers(names: &[&str]) -> Vec<Matcher> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn offsets(read: &Read) -> Vec<u64> {
    read.events.iter().map(|event| event.offset.0).collect()
}

fn retention(events: usize, topics: usize) -> Retention {
    Retention { events, topics, ..Retention::default() }
}

#[test]
fn a_read_gives_the_events_of_its_topics_in_order_up_to_its_end() {
    let mut bench = Bench::new(Retention::default());
    for topic in ["a", "b", "c/x", "a", "c/y", "b", "a"] {
        bench.publish(topic);
    }
    for (names, after, until, expected) in [
        (&["a"][..], 0, 7, &[1, 4, 7][..]),
        (&["a"], 1, 6, &[4]),
        (&["a", "b"], 0, 7, &[1, 2, 4, 6, 7]),
        (&["b", "a", "b"], 1, 7, &[2, 4, 6, 7]),
        (&["c/*"], 0, 7, &[3, 5]),
        (&["c/*", "b"], 2, 7, &[3, 5, 6]),
        (&["**"], 4, 6, &[5, 6]),
        (&["x"], 0, 7, &[]),
        (&["a"], 7, 7, &[]),
        (&["a"], 7, 3, &[]),
        (&["**"], 7, 3, &[]),
    ] {
        let read = bench.read(names, after, until);
        assert_eq!(offsets(&read), expected, "{names:?} ({after}, {until}]");
        assert_eq!((read.end.0, read.has_more), (until.max(after), false), "{names:?} ({after}, {until}]");
        assert_eq!((read.dropped.0, read.remains_in_gap), (0, false));
    }
}

#[test]
fn a_read_is_cut_by_count_and_by_bytes_but_has_one_event_of_whatever_size() {
    let mut bench = Bench::new(Retention::default());
    let cost = bench.publish_held("a", 1_000, 0).cost_bytes();
    for _ in 0..3 {
        bench.publish_held("a", 1_000, 0);
        bench.publish("b");
    }
    for names in [&["a"][..], &["a", "x"], &["a", "*/x"]] {
        for (events_max, bytes_max, expected, end, has_more) in [
            (1, usize::MAX, &[1][..], 1, true),
            (0, usize::MAX, &[1], 1, true),
            (4, usize::MAX, &[1, 2, 4, 6], 7, false),
            (1_000, 0, &[1], 1, true),
            (1_000, cost, &[1], 1, true),
            (1_000, 2 * cost - 1, &[1], 1, true),
            (1_000, 2 * cost, &[1, 2], 2, true),
        ] {
            let query = Query { after: Offset(0), until: Offset(7), events_max, bytes_max };
            let read = bench.log.read(&matchers(names), query);
            let case = format!("{names:?} {events_max} {bytes_max}");
            assert_eq!((offsets(&read).as_slice(), read.has_more), (expected, has_more), "{case}");
            // A wildcard has looked beyond the last event that it took, which is as good.
            assert!(read.end.0 == end || (names.len() == 2 && read.end.0 == end + 1), "{case}: {}", read.end);
        }
    }
}

#[test]
fn a_topic_keeps_so_many_events_and_so_many_bytes_but_always_its_newest() {
    let mut bench = Bench::new(Retention { events: 3, bytes: 1_000, ..Retention::default() });
    for _ in 0..5 {
        bench.publish("a");
    }
    assert_eq!(offsets(&bench.read(&["a"], 0, 5)), [3, 4, 5]);
    bench.publish_held("a", 5_000, 0);
    assert_eq!(offsets(&bench.read(&["a"], 0, 6)), [6], "over the byte limit alone, and yet there");
    bench.publish("a");
    assert_eq!(offsets(&bench.read(&["a"], 0, 7)), [7]);
    let info = bench.log.topic("a").unwrap();
    assert_eq!((info.first, info.last, info.events), (Some(Offset(7)), Offset(7), 1));
    assert_eq!(bench.log.statistics().bytes, info.bytes);
}

#[test]
fn the_limit_for_all_takes_the_oldest_event_of_any_topic_the_newest_one_too() {
    let mut bench = Bench::new(Retention { all_bytes: 1_000, ..Retention::default() });
    bench.publish_held("a", 300, 0);
    bench.publish_held("b", 300, 0);
    bench.publish("c");
    assert_eq!(offsets(&bench.read(&["**"], 0, 3)), [2, 3]);
    assert_eq!((bench.dropped(&["a"], 0), bench.dropped(&["b"], 0)), (1, 0));
    bench.publish_held("d", 5_000, 0);
    assert!(offsets(&bench.read(&["**"], 0, 4)).is_empty());
    assert_eq!(bench.dropped(&["d"], 0), 4);
    assert_eq!(bench.live.get(), 0);
}

#[test]
fn age_takes_events_of_silent_topics_and_their_last_one_too() {
    let mut bench = Bench::new(Retention { age_seconds: 10, ..Retention::default() });
    bench.publish("a");
    bench.time_ms = 5_000;
    bench.publish("b");
    assert!(!bench.log.sweep(10_000, 100, &|_| false));
    assert_eq!(offsets(&bench.read(&["**"], 0, 2)), [1, 2], "ten seconds are not over");
    assert!(!bench.log.sweep(10_001, 100, &|_| false));
    assert_eq!(offsets(&bench.read(&["**"], 0, 2)), [2]);
    let info = bench.log.topic("a").unwrap();
    assert_eq!((info.first, info.last, info.events, info.bytes), (None, Offset(1), 0, 0));
    bench.time_ms = 20_000;
    bench.publish("c");
    assert_eq!(offsets(&bench.read(&["**"], 0, 3)), [3], "publishing sweeps too");
}

#[test]
fn a_sweep_takes_no_more_at_once_than_it_is_told() {
    let mut bench = Bench::new(Retention { age_seconds: 1, ..Retention::default() });
    for _ in 0..5 {
        bench.publish("a");
    }
    assert!(bench.log.sweep(2_000, 3, &|_| false));
    assert_eq!(offsets(&bench.read(&["a"], 0, 5)), [4, 5]);
    assert!(!bench.log.sweep(2_000, 3, &|_| false));
    assert_eq!(bench.log.statistics().events, 0);
}

#[test]
fn a_gap_is_told_with_the_highest_dropped_offset_of_the_topics_asked_for() {
    let mut bench = Bench::new(retention(2, 100));
    for topic in ["a", "a", "b", "a", "a", "c", "c", "c"] {
        bench.publish(topic);
    }
    // a: 4 5 of 1 2 4 5; b: 3; c: 7 8 of 6 7 8.
    for (names, after, expected) in [
        (&["a"][..], 0, Some((2, 2))),
        (&["a"], 1, Some((2, 2))),
        (&["a"], 2, None),
        (&["b"], 0, None),
        (&["c"], 2, Some((6, 6))),
        // 3, 4 and 5 remain of (0, 6], so the notice keeps the place.
        (&["a", "b", "c"], 0, Some((6, 0))),
        (&["b", "c"], 3, Some((6, 6))),
        (&["*"], 0, Some((6, 0))),
        (&["*"], 5, Some((6, 5))),
        (&["*"], 6, None),
    ] {
        let read = bench.read(names, after, 8);
        let gap = read.gap(Offset(after), Offset::START).map(|gap| (gap.resumed.0, gap.cursor.0));
        let expected = if names == ["*"] && after == 5 { Some((6, 6)) } else { expected };
        assert_eq!(gap, expected, "{names:?} after {after}");
    }
    let read = bench.read(&["a"], 0, 8);
    assert_eq!(read.gap(Offset(0), Offset(2)), None, "it was told of this gap before");
    assert!(read.gap(Offset(0), Offset(1)).is_some());
}

#[test]
fn what_remains_in_a_gap_beyond_the_end_of_the_read_keeps_the_cursor_of_the_notice() {
    let mut bench = Bench::new(retention(1, 100));
    for topic in ["a", "b", "c", "c"] {
        bench.publish(topic);
    }
    for names in [&["a", "b", "c"][..], &["*"]] {
        let read = bench.read(names, 1, 1);
        assert_eq!(
            (offsets(&read), read.dropped.0, read.remains_in_gap),
            (vec![], 3, true),
            "{names:?}: 2 remains"
        );
        let read = bench.read(names, 2, 2);
        assert_eq!((read.dropped.0, read.remains_in_gap), (3, false), "{names:?}");
    }
}

#[test]
fn a_topic_that_is_made_again_starts_with_the_watermark() {
    let mut bench = Bench::new(retention(1_000, 2));
    for topic in ["a", "b", "c"] {
        bench.publish(topic);
    }
    assert_eq!(bench.log.topic("a"), None, "c took its place");
    assert_eq!(bench.dropped(&["a"], 0), 1);
    assert_eq!(bench.dropped(&["never"], 0), 1, "it may have been the forgotten one");
    bench.publish("a");
    assert_eq!(bench.log.statistics().watermark, Offset(2));
    assert_eq!(bench.dropped(&["a"], 0), 2, "the events of its first life are not forgotten silently");
    let read = bench.read(&["a"], 0, 4);
    assert_eq!((offsets(&read), read.dropped.0), (vec![4], 2));
    assert_eq!(bench.dropped(&["c"], 0), 1, "made when the watermark was 1");
}

#[test]
fn a_wildcard_asks_the_watermark_even_if_the_topics_it_finds_lost_nothing() {
    let mut bench = Bench::new(retention(1_000, 1));
    bench.publish("c/x");
    bench.publish("c/y");
    let read = bench.read(&["c/*"], 0, 2);
    assert_eq!((offsets(&read), read.dropped.0), (vec![2], 1));
}

#[test]
fn topics_are_forgotten_in_the_order_that_harms_least() {
    let mut bench = Bench::new(Retention { age_seconds: 10, ..retention(1_000, 4) });
    bench.interest = vec!["empty/wanted", "full/wanted"];
    bench.publish("empty/wanted");
    bench.publish("empty/other");
    bench.time_ms = 20_000;
    bench.publish("full/wanted");
    bench.publish("full/other");
    assert_eq!(bench.log.statistics().events, 2);
    for (new, forgotten) in [("n1", "empty/other"), ("n2", "full/other"), ("n3", "n1"), ("n4", "n2")] {
        assert!(bench.log.topic(forgotten).is_some(), "{forgotten} until {new} comes");
        bench.publish(new);
        assert_eq!(bench.log.topic(forgotten), None, "{forgotten} goes for {new}");
        assert_eq!(bench.log.statistics().topics, 4);
    }
    bench.interest.extend(["n3", "n4"]);
    for (new, forgotten) in [("n5", "empty/wanted"), ("n6", "n5"), ("n7", "n6")] {
        bench.publish(new);
        assert_eq!(bench.log.topic(forgotten), None, "{forgotten} goes for {new}");
    }
    bench.interest.push("n7");
    bench.publish("n8");
    assert_eq!(bench.log.topic("full/wanted"), None, "a subscriber of everything must not void the limit");
    assert_eq!(bench.log.statistics().watermark, Offset(10));
}

#[test]
fn interest_that_ended_is_seen_when_the_next_topic_is_forgotten() {
    let mut bench = Bench::new(Retention { age_seconds: 10, ..retention(1_000, 3) });
    bench.interest = vec!["a", "b"];
    bench.publish("a");
    bench.publish("b");
    bench.time_ms = 20_000;
    bench.publish("c");
    bench.publish("d");
    assert_eq!(bench.log.topic("c"), None, "a and b are empty, but wanted");
    bench.interest = vec!["a"];
    bench.publish("e");
    assert_eq!((bench.log.topic("b"), bench.log.topic("d").is_some()), (None, true));
    assert!(bench.log.topic("a").is_some());
}

#[test]
fn an_event_that_a_shard_still_has_counts_until_the_shard_lets_go() {
    let mut bench = Bench::new(retention(1, 100));
    let first = bench.publish_held("a", 0, 2);
    let cost = first.cost_bytes();
    bench.publish("a");
    assert_eq!((bench.live.get(), bench.log.bytes_outside()), (2 * cost, cost));
    assert!(!bench.live.release(&first));
    assert_eq!(bench.log.bytes_outside(), cost, "the other shard has it");
    assert!(bench.live.release(&first));
    assert_eq!((bench.live.get(), bench.log.bytes_outside()), (cost, 0));
    assert!(!bench.live.release(&first), "nobody has it any more");
    assert_eq!(bench.live.get(), cost);
}

#[test]
fn bytes_outside_the_log_take_from_its_part_but_not_more_than_half() {
    let mut bench = Bench::new(Retention { all_bytes: 4_000, ..Retention::default() });
    for _ in 0..20 {
        bench.publish_held("a", 39, 0);
    }
    assert_eq!(bench.log.statistics().events, 20, "of 200 bytes each");
    bench.held.store(1_000, Ordering::Relaxed);
    bench.log.sweep(0, 1, &|_| false);
    assert_eq!(bench.log.statistics().events, 15);
    bench.held.store(usize::MAX, Ordering::Relaxed);
    bench.log.sweep(0, 1, &|_| false);
    assert_eq!(bench.log.statistics().events, 10);
}

#[test]
fn a_wildcard_that_must_look_far_is_answered_in_parts_and_finds_all() {
    let mut bench = Bench::new(Retention { events: 50_000, bytes: usize::MAX, ..Retention::default() });
    bench.publish("c/x");
    for _ in 0..40_000 {
        bench.publish("a");
    }
    bench.publish("c/y");
    let (mut found, mut after, mut parts) = (Vec::new(), 0, 0);
    while parts < 10 {
        let read = bench.read(&["c/*"], after, bench.head.0);
        found.extend(offsets(&read));
        assert!(read.end.0 > after && !read.remains_in_gap);
        (after, parts) = (read.end.0, parts + 1);
        if !read.has_more {
            break;
        }
    }
    assert_eq!((found, after, parts), (vec![1, 40_002], 40_002, 3));
}

#[test]
fn a_wildcard_behind_too_many_dropped_topics_is_told_too_much_and_never_too_little() {
    let mut bench = Bench::new(retention(1, 100_000));
    bench.publish("c/x");
    bench.publish("c/x");
    for number in 0..20_000 {
        bench.publish(&format!("t{number}"));
        bench.publish(&format!("t{number}"));
    }
    let answer = bench.dropped(&["c/*"], 0);
    assert!(answer > 1 && answer < bench.head.0, "{answer}: not looked at to the end");
    assert_eq!(bench.dropped(&["c/*"], bench.head.0 - 10), 0, "little to look at: nothing of it is dropped");
    assert_eq!(bench.dropped(&["c/x"], 0), 1, "whole topics are always exact");
    assert_eq!(bench.dropped(&["t7"], 0), 17);
}

#[test]
fn a_topic_of_one_event_costs_little_and_a_million_of_them_do_not_stay_for_ever() {
    use crate::sys::counting::held_bytes;
    let count = 100_000u64;
    let mut bench = Bench::new(Retention { age_seconds: 1, ..Retention::default() });
    let before = held_bytes();
    for n in 0..count {
        bench.publish(&format!("own/{n:012}"));
    }
    let full = held_bytes() - before;
    let each = full as usize / count as usize;
    println!("a topic of one event: {each} bytes, the event and its index included");
    assert!(each <= 400, "{each}");
    while bench.log.sweep(10_000, 1_000, &|topic| topic < "own/000000000100") {}
    let statistics = bench.log.statistics();
    assert_eq!(statistics.events, 0);
    assert!(statistics.topics < 20_000, "{}", statistics.topics);
    assert!(bench.log.topic("own/000000000099").is_some(), "with interest they stay");
    let kept = held_bytes() - before;
    println!("{full} bytes with all, {kept} when their events were too old");
    assert!(kept < full / 4, "{kept} of {full}");
}
