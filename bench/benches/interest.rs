//! Finding who has interest in a topic, beside one look-up in a hash table of the same matchers:
//! `cargo bench -p stentor-bench --bench interest`.
//!
//! `shards` are what a publisher asks for under its lock, `sets` what a shard asks for when a topic's turn
//! begins. Topics are asked for in a random order, so that the table's memory is cold as it
//! is for a publisher to a million topics; `again` asks for one of them over and over.

mod beside;

use std::hint::black_box;

use beside::{beside, short};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hashbrown::HashMap;
use stentor::bench::{Interest, Subscribed};
use stentor::{Matcher, Topic};

const TOPICS: u32 = 1_000_000;
const WILDCARDS: u32 = 10_000;
/// Topics that are asked for in turn.
const ASKED: usize = 1 << 16;

fn topic(number: u32) -> Topic {
    Topic::new(&format!("prices/{number:06}/spot")).expect("a topic")
}

/// Odd multiples modulo a power of two visit every place once, far from the one before.
fn shuffled(count: u32) -> impl Iterator<Item = u32> {
    let size = count.next_power_of_two();
    (0..size).map(move |at| at.wrapping_mul(0x9e37_79b1) % size).filter(move |&at| at < count)
}

/// The next of `topics` at each call, for ever.
fn in_turn<'a>(topics: &'a [Topic]) -> impl FnMut() -> &'a Topic {
    let mut at = 0;
    move || {
        at = (at + 1) % topics.len();
        &topics[at]
    }
}

/// Both who look for a topic, and a plain table of the same matchers.
struct Matchers {
    interest: Interest,
    shard: Subscribed,
    table: HashMap<Matcher, u32>,
}

impl Matchers {
    fn new(matchers: &[Matcher]) -> Self {
        let mut interest = Interest::default();
        matchers.iter().zip(0..).for_each(|(matcher, number)| interest.add(number % 2, matcher));
        let shard = Subscribed::new(matchers.iter().cloned());
        let table = matchers.iter().cloned().zip(0..).collect();
        Self { interest, shard, table }
    }

    /// Benches both look-ups of `topics`, beside one of `keys` in the table. Each topic concerns so many
    /// sets.
    fn bench(
        &mut self,
        criterion: &mut Criterion,
        name: &str,
        keys: &[Topic],
        topics: &[Topic],
        sets: usize,
    ) {
        let Self { interest, shard, table } = self;
        for topic in topics.iter().take(1_000) {
            assert_eq!(shard.sets_of(topic), sets, "{topic}");
        }
        let one = Throughput::Elements(1);
        let mut next = in_turn(topics);
        let name_of = |what: &str| format!("{what}, {name}");
        let shards = || interest.shards(black_box(next()).as_str());
        beside(criterion, &name_of("shards"), one.clone(), look_up(table, in_turn(keys)), shards);
        let mut next = in_turn(topics);
        let sets = || shard.sets_of(black_box(next()));
        beside(criterion, &name_of("sets"), one, look_up(table, in_turn(keys)), sets);
    }
}

fn look_up<'a>(
    table: &'a HashMap<Matcher, u32>,
    mut next: impl FnMut() -> &'a Topic + 'a,
) -> (&'static str, impl FnMut() -> u32 + 'a) {
    ("one hash look-up", move || table.get(black_box(next()).as_str()).copied().unwrap_or_default())
}

/// One topic among a million, each with a subscriber of its own.
fn topics(criterion: &mut Criterion) {
    let all: Vec<Matcher> = (0..TOPICS).map(|number| topic(number).into()).collect();
    let mut matchers = Matchers::new(&all);
    let asked: Vec<Topic> = shuffled(TOPICS).take(ASKED).map(topic).collect();
    matchers.bench(criterion, "1 of 1 M topics", &asked, &asked, 1);
    matchers.bench(criterion, "1 of 1 M topics, again", &asked[..1], &asked[..1], 1);
    let unheard: Vec<Topic> = (0..ASKED as u32).map(|number| topic(TOPICS + number)).collect();
    matchers.bench(criterion, "a topic that nobody hears, beside 1 M", &unheard, &unheard, 0);
}

/// Thousands of wildcards of the usual shapes; three of them name a topic of four segments.
fn wildcards(criterion: &mut Criterion) {
    let wildcard = |number: u32| {
        let site = number / 3;
        let text = match number % 3 {
            0 => format!("site/{site}/**"),
            1 => format!("site/{site}/*/state"),
            _ => format!("*/{site}/pump/*"),
        };
        Matcher::new(&text).expect("a matcher")
    };
    let all: Vec<Matcher> = (0..WILDCARDS).map(wildcard).collect();
    let mut matchers = Matchers::new(&all);
    let of_site = |site, rest| Topic::new(&format!("site/{site}/{rest}")).expect("a topic");
    let sites: Vec<u32> = shuffled(WILDCARDS / 3).collect();
    let asked: Vec<Topic> = sites.iter().map(|site| of_site(site, "pump/state")).collect();
    // A table knows no wildcards: its keys are topics as those that are asked for.
    matchers.table = asked.iter().map(|topic| Matcher::from(topic.clone())).zip(0..).collect();
    matchers.bench(criterion, "3 of 10,000 wildcards", &asked, &asked, 3);
    let yards = sites.iter().map(|site| Topic::new(&format!("yard/{site}/gate/open")).expect("a topic"));
    let unheard: Vec<Topic> = yards.collect();
    matchers.bench(criterion, "none of 10,000 wildcards", &asked, &unheard, 0);
}

criterion_group!(name = finding; config = short(); targets = topics, wildcards);
criterion_main!(finding);
