//! The log in memory, beside a plain queue of the same shared events:
//! `cargo bench -p stentor-bench --bench log`.
//!
//! An append is one to a full log, which drops the oldest event of the topic: so is the floor's, in which a
//! queue of as many events takes the newest and lets the oldest go. A read is a copy of shared events, in the
//! order of their offsets: the floor copies as many out of one vector.

mod beside;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use beside::{beside, short};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stentor::bench::{Log, stamp};
use stentor::config::Retention;
use stentor::{Event, Matcher};

/// Data of one event: a hundred bytes.
const TEXT: &str = "01234567890123456789012345678901234567890123456789\
    01234567890123456789012345678901234567890123456789";

fn topic(number: usize) -> String {
    format!("prices/{number:06}")
}

/// Events of `topics` topics in turn, used again and again: one more a topic than the log keeps, so that
/// nobody holds the next one any more.
struct Events {
    events: Vec<Arc<Event>>,
    at: usize,
    offset: u64,
}

impl Events {
    fn new(topics: usize, kept: usize) -> Self {
        let event = |at: usize| Arc::new(Event::text(&topic(at % topics), TEXT).expect("a topic"));
        Self { events: (0..topics * (kept + 1)).map(event).collect(), at: 0, offset: 0 }
    }

    fn next(&mut self) -> Arc<Event> {
        self.at = (self.at + 1) % self.events.len();
        self.offset += 1;
        stamp(&mut self.events[self.at], self.offset);
        Arc::clone(&self.events[self.at])
    }
}

fn retention(events: usize) -> Retention {
    let unlimited = usize::MAX >> 1;
    Retention { events, bytes: unlimited, all_bytes: unlimited, ..Retention::default() }
}

fn appends(criterion: &mut Criterion) {
    for (topics, kept) in [(1, 1_000), (10_000, 16)] {
        let mut plain = Events::new(topics, kept);
        let mut queue: VecDeque<Arc<Event>> = (0..topics * kept).map(|_| plain.next()).collect();
        let floor = || {
            queue.push_back(plain.next());
            queue.pop_front()
        };
        let mut events = Events::new(topics, kept);
        let mut log = Log::new(retention(kept));
        (0..topics * kept).for_each(|_| log.append(events.next()));
        let append = || log.append(events.next());
        let name = format!("log append, {topics} topics of {kept} events");
        beside(criterion, &name, Throughput::Elements(1), ("a plain queue", floor), append);
    }
}

/// Reads that each find `found` events.
fn reads(criterion: &mut Criterion) {
    let (topics, kept) = (100, 1_000);
    let mut events = Events::new(topics, kept);
    let mut log = Log::new(retention(kept));
    let all: Vec<Arc<Event>> = (0..topics * kept).map(|_| events.next()).collect();
    all.iter().for_each(|event| log.append(Arc::clone(event)));
    let head = all.len() as u64;
    let matcher = |text: &str| text.parse::<Matcher>().expect("a matcher");
    let of_topic = |number| matcher(&topic(number));
    let eight: Vec<Matcher> = (0..8).map(of_topic).collect();
    for (name, matchers, after, found) in [
        ("the newest event", vec![of_topic(1)], head - topics as u64, 1),
        ("100 events of one topic", vec![of_topic(1)], head - 100 * topics as u64, 100),
        ("1,000 events of one topic", vec![of_topic(1)], 0, 1_000),
        ("800 events of 8 topics, merged", eight, head - 100 * topics as u64, 800),
        ("1,000 events of a wildcard for all", vec![matcher("prices/*")], head - 1_000, 1_000),
    ] {
        let read = || log.read(black_box(&matchers), after, head, usize::MAX);
        assert_eq!(read().len(), found, "{name}");
        let same = read();
        let floor = || black_box(&same).clone();
        let work = Throughput::Elements(found as u64);
        beside(criterion, &format!("log read, {name}"), work, ("a copy of the same vector", floor), read);
    }
}

criterion_group!(name = log; config = short(); targets = appends, reads);
criterion_main!(log);
