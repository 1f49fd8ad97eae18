//! The log against a plain list of everything that was ever published: random operations from one printed
//! seed.

use std::collections::BTreeMap;

use super::*;

const TOPICS: [&str; 6] = ["a", "b", "c/x", "c/y", "c/z", "d/e/f"];
const LISTS: [&[&str]; 10] = [
    &["a"],
    &["b", "c/x"],
    &["c/*"],
    &["**"],
    &["c/*", "a"],
    &["d/**", "c/x", "b"],
    &["never"],
    &["a", "a"],
    &["d/*/f"],
    &["never", "*"],
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// What is known of an event for ever.
struct Known {
    offset: u64,
    topic: &'static str,
    cost: usize,
    time_ms: u64,
    is_retained: bool,
    /// By a shard.
    is_held: bool,
}

/// The rules of retention, as slowly and plainly as they can be said.
struct Naive {
    retention: Retention,
    events: Vec<Known>,
    /// The topics that the log must know, each with the highest offset it dropped.
    topics: BTreeMap<&'static str, u64>,
    watermark: u64,
}

impl Naive {
    fn retained<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Known> {
        self.events.iter().filter(move |e| e.is_retained && e.topic == topic)
    }

    fn drop_event(&mut self, at: usize) {
        self.events[at].is_retained = false;
        *self.topics.get_mut(self.events[at].topic).unwrap() = self.events[at].offset;
    }

    fn oldest(&self) -> Option<usize> {
        self.events.iter().position(|e| e.is_retained)
    }

    fn keep_age(&mut self, now_ms: u64, most: usize) {
        for _ in 0..most {
            let Some(at) = self.oldest() else { return };
            if self.events[at].time_ms + self.retention.age_seconds * 1_000 >= now_ms {
                return;
            }
            self.drop_event(at);
        }
    }

    fn outside(&self, held: usize) -> usize {
        held + self.events.iter().filter(|e| e.is_held && !e.is_retained).map(|e| e.cost).sum::<usize>()
    }

    fn keep_all(&mut self, held: usize) {
        loop {
            let bytes: usize = self.events.iter().filter(|e| e.is_retained).map(|e| e.cost).sum();
            let limit = self.retention.all_bytes;
            let Some(at) = self.oldest() else { return };
            if bytes <= limit.saturating_sub(self.outside(held)).max(limit / 2) {
                return;
            }
            self.drop_event(at);
        }
    }

    /// How bad it is to forget a topic: the log must take one of the least bad.
    fn harm(&self, topic: &str, interest: &[&str]) -> u8 {
        match (interest.contains(&topic), self.retained(topic).next().is_some()) {
            (false, false) => 0,
            (false, true) => 1,
            (true, false) => 2,
            (true, true) => 3,
        }
    }

    fn forget(&mut self, topic: &'static str) {
        let last = self.retained(topic).last().map(|e| e.offset);
        let last = last.unwrap_or(self.topics[topic]);
        self.watermark = self.watermark.max(last);
        self.topics.remove(topic);
        for event in self.events.iter_mut().filter(|e| e.topic == topic) {
            event.is_retained = false;
        }
    }

    fn append(&mut self, event: Known, held: usize) {
        let (topic, now_ms) = (event.topic, event.time_ms);
        let watermark = self.watermark;
        self.topics.entry(topic).or_insert(watermark);
        self.events.push(event);
        loop {
            let of_topic: Vec<_> = (0..self.events.len())
                .filter(|&at| self.events[at].is_retained && self.events[at].topic == topic)
                .collect();
            let bytes: usize = of_topic.iter().map(|&at| self.events[at].cost).sum();
            let is_over = of_topic.len() > self.retention.events || bytes > self.retention.bytes;
            if of_topic.len() < 2 || !is_over {
                break;
            }
            self.drop_event(of_topic[0]);
        }
        self.keep_age(now_ms, 4);
        self.keep_all(held);
    }

    fn dropped(&self, list: &[Matcher]) -> u64 {
        let of = |matcher: &Matcher| {
            if matcher.is_wildcard() {
                let named = self.topics.iter().filter(|(topic, _)| matcher.matches(topic));
                named.map(|(_, &dropped)| dropped).max().unwrap_or(0).max(self.watermark)
            } else {
                self.topics.get(matcher.as_str()).copied().unwrap_or(self.watermark)
            }
        };
        list.iter().map(of).max().unwrap_or(0)
    }

    fn named(&self, list: &[Matcher], after: u64, until: u64) -> Vec<&Known> {
        let is_named = |e: &&Known| list.iter().any(|m| m.matches(e.topic));
        self.events.iter().filter(|e| e.offset > after && e.offset <= until).filter(is_named).collect()
    }
}

/// One run: the log and the list do the same, and are asked the same.
struct Run {
    random: Random,
    bench: Bench,
    naive: Naive,
    by_shard: Vec<Arc<Event>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let retention = Retention {
            events: 1 + random.below(5) as usize,
            bytes: 200 + random.below(1_500) as usize,
            age_seconds: 5 + random.below(30),
            all_bytes: 300 + random.below(6_000) as usize,
            topics: 1 + random.below(6) as usize,
        };
        let naive =
            Naive { retention: retention.clone(), events: Vec::new(), topics: BTreeMap::new(), watermark: 0 };
        Self { random, bench: Bench::new(retention), naive, by_shard: Vec::new() }
    }

    fn held(&self) -> usize {
        self.bench.held.load(Ordering::Relaxed)
    }

    fn publish(&mut self) {
        let topic = self.random.one_of(&TOPICS);
        let shards = (self.random.below(3) == 0) as u8;
        let is_new = !self.naive.topics.contains_key(topic);
        let was_full = self.naive.topics.len() == self.naive.retention.topics;
        let event = self.bench.publish_held(topic, self.random.one_of(&[0, 0, 10, 100, 400]), shards);
        if is_new && was_full {
            let log = &self.bench.log;
            let gone: Vec<_> =
                self.naive.topics.keys().copied().filter(|topic| log.topic(topic).is_none()).collect();
            let [gone] = gone[..] else { panic!("{gone:?} were forgotten for {topic}") };
            let harm = |topic: &str| self.naive.harm(topic, &self.bench.interest);
            let least = self.naive.topics.keys().map(|topic| harm(topic)).min();
            assert_eq!(Some(harm(gone)), least, "{gone} was forgotten for {topic}");
            self.naive.forget(gone);
        }
        let known = Known {
            offset: event.offset.0,
            topic,
            cost: event.cost_bytes(),
            time_ms: event.time_ms,
            is_retained: true,
            is_held: shards > 0,
        };
        let held = self.held();
        self.naive.append(known, held);
        if shards > 0 {
            self.by_shard.push(event);
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=5 => self.publish(),
            6 => self.bench.time_ms += self.random.below(8_000),
            7 => {
                let most = self.random.below(4) as usize;
                let (now_ms, held) = (self.bench.time_ms, self.held());
                self.bench.log.sweep(now_ms, most, &|_| false);
                self.naive.keep_all(held);
                self.naive.keep_age(now_ms, most);
            }
            8 => self.bench.held.store(self.random.one_of(&[0, 0, 500, 5_000]), Ordering::Relaxed),
            9 => {
                self.bench.interest.clear();
                for topic in TOPICS {
                    if self.random.below(3) == 0 {
                        self.bench.interest.push(topic);
                    }
                }
            }
            _ if !self.by_shard.is_empty() => {
                let event = self.by_shard.swap_remove(self.random.below(self.by_shard.len() as u64) as usize);
                self.bench.live.release(&event);
                self.naive.events[event.offset.0 as usize - 1].is_held = false;
            }
            _ => {}
        }
        self.compare();
    }

    fn compare(&mut self) {
        let statistics = self.bench.log.statistics();
        let retained = || self.naive.events.iter().filter(|e| e.is_retained);
        assert_eq!(statistics.events, retained().count());
        assert_eq!(statistics.bytes, retained().map(|e| e.cost).sum::<usize>());
        assert_eq!(statistics.topics, self.naive.topics.len());
        assert_eq!(statistics.watermark.0, self.naive.watermark);
        assert_eq!(self.bench.log.bytes_outside(), self.naive.outside(self.held()));
        for topic in TOPICS {
            let expected = self.naive.topics.get(topic).map(|&dropped| TopicInfo {
                first: self.naive.retained(topic).next().map(|e| Offset(e.offset)),
                last: Offset(self.naive.retained(topic).last().map_or(dropped, |e| e.offset)),
                events: self.naive.retained(topic).count(),
                bytes: self.naive.retained(topic).map(|e| e.cost).sum(),
            });
            assert_eq!(self.bench.log.topic(topic), expected, "{topic}");
        }
        let list = matchers(self.random.one_of(&LISTS));
        let head = self.bench.head.0;
        let after = head.saturating_sub(self.random.below(40));
        let until = self.random.below(head + 1);
        self.compare_read(&list, after, until);
        self.compare_read(&list, 0, head);
    }

    fn compare_read(&mut self, list: &[Matcher], after: u64, until: u64) {
        let events_max = 1 + self.random.below(5) as usize;
        let bytes_max = self.random.one_of(&[0, 500, 100_000]);
        let query = Query { after: Offset(after), until: Offset(until), events_max, bytes_max };
        let read = self.bench.log.read(list, query);
        let case = format!("{list:?} {query:?}: {:?}", offsets(&read));

        let named = self.naive.named(list, after, until);
        let retained: Vec<_> = named.iter().filter(|e| e.is_retained).collect();
        let mut bytes = 0;
        let fits = |at: usize, e: &Known| {
            bytes += e.cost;
            at == 0 || (at < events_max && bytes <= bytes_max)
        };
        let mut fits = fits;
        let count = retained.iter().enumerate().take_while(|(at, e)| fits(*at, e)).count();
        let expected: Vec<_> = retained[..count].iter().map(|e| e.offset).collect();
        assert_eq!(offsets(&read), expected, "{case}");
        assert_eq!(read.has_more, count < retained.len(), "{case}");
        if read.has_more {
            assert!(
                read.end.0 >= retained[count - 1].offset && read.end.0 < retained[count].offset,
                "{case}"
            );
        } else {
            assert_eq!(read.end.0, until.max(after), "{case}");
        }

        let dropped = self.naive.dropped(list);
        assert_eq!(read.dropped.0.max(after), dropped.max(after), "{case}");
        let remains = self.naive.named(list, after, dropped).iter().any(|e| e.is_retained);
        assert_eq!(read.remains_in_gap, remains, "{case}: dropped {dropped}");
        // What all the rest is for: whatever is missing is told.
        for event in named.iter().filter(|e| !e.is_retained) {
            assert!(event.offset <= read.dropped.0, "{case}: {} is gone and not told", event.offset);
        }
    }
}

#[test]
fn the_log_answers_as_the_list_of_everything_does() {
    for seed in 0..400 {
        let steps = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..300 {
                run.step();
            }
        });
        assert!(steps.is_ok(), "seed {seed}");
    }
}
