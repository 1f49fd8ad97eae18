//! Finding who has interest in a topic, beside one look-up in a hash table of the same matchers:
//! `cargo bench -p stentor-bench --bench interest`.
//!
//! `interest` is what a publisher asks under its lock (which shards), `index` what a shard asks when a topic's
//! turn begins (which sets). Topics are asked for in a random order, so that the table's memory is cold as it
//! is for a publisher to a million topics; `again` asks for one of them over and over.

mod beside;

use std::hint::black_box;

use beside::{beside, short};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hashbrown::HashMap;
use stentor::bench::{Index, Interest};
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
fn in_turn<'a>(topics: &'a [Topic]) -> impl FnMut() -> &'a str {
    let mut at = 0;
    move || {
        at = (at + 1) % topics.len();
        topics[at].as_str()
    }
}

fn look_up<'a>(
    table: &'a HashMap<Matcher, u32>,
    mut next: impl FnMut() -> &'a str + 'a,
) -> (&'static str, impl FnMut() -> u32 + 'a) {
    ("one hash look-up", move || table.get(black_box(next())).copied().unwrap_or_default())
}

/// Benches both look-ups of `topics`, beside one look-up of `keys` in `table`.
fn both(
    criterion: &mut Criterion,
    name: &str,
    (table, keys): (&HashMap<Matcher, u32>, &[Topic]),
    topics: &[Topic],
    (interest, index): (&Interest, &Index),
) {
    let mut next = in_turn(topics);
    beside(
        criterion,
        &format!("interest, {name}"),
        Throughput::Elements(1),
        look_up(table, in_turn(keys)),
        || interest.shards(black_box(next())),
    );
    let (mut next, mut found) = (in_turn(topics), Vec::new());
    beside(
        criterion,
        &format!("index, {name}"),
        Throughput::Elements(1),
        look_up(table, in_turn(keys)),
        || {
            found.clear();
            index.collect(black_box(next()), &mut found);
            black_box(&found).len()
        },
    );
}

/// One topic among a million, each with a subscriber of its own.
fn topics(criterion: &mut Criterion) {
    let (mut table, mut interest, mut index) = (HashMap::new(), Interest::default(), Index::default());
    for number in 0..TOPICS {
        let matcher = Matcher::from(topic(number));
        interest.add(number as usize % 2, &matcher);
        index.insert(&matcher, number);
        table.insert(matcher, number);
    }
    let asked: Vec<Topic> = shuffled(TOPICS).take(ASKED).map(topic).collect();
    assert!(asked.iter().all(|topic| interest.shards(topic.as_str()) == 1));
    both(criterion, "1 of 1 M topics", (&table, &asked), &asked, (&interest, &index));
    let one = &asked[..1];
    both(criterion, "1 of 1 M topics, again", (&table, one), one, (&interest, &index));
    let unheard: Vec<Topic> = (0..ASKED as u32).map(|number| topic(TOPICS + number)).collect();
    both(
        criterion,
        "a topic that nobody hears, beside 1 M",
        (&table, &unheard),
        &unheard,
        (&interest, &index),
    );
}

/// Thousands of wildcards of the usual shapes; a topic of four segments is matched by three of them.
fn wildcards(criterion: &mut Criterion) {
    let (mut table, mut interest, mut index) = (HashMap::new(), Interest::default(), Index::default());
    for number in 0..WILDCARDS {
        let site = number / 3;
        let text = match number % 3 {
            0 => format!("site/{site}/**"),
            1 => format!("site/{site}/*/state"),
            _ => format!("*/{site}/pump/*"),
        };
        let matcher = Matcher::new(&text).expect("a matcher");
        interest.add(number as usize % 2, &matcher);
        index.insert(&matcher, number);
        table.insert(matcher, number);
    }
    let sites = || shuffled(WILDCARDS / 3);
    let asked: Vec<Topic> =
        sites().map(|site| Topic::new(&format!("site/{site}/pump/state")).expect("a topic")).collect();
    let mut found = Vec::new();
    for topic in &asked {
        found.clear();
        index.collect(topic.as_str(), &mut found);
        assert_eq!(found.len(), 3, "{topic}");
    }
    // A table has no wildcards: its keys are topics of the same length.
    for (topic, number) in asked.iter().zip(0..) {
        table.insert(topic.clone().into(), number);
    }
    both(criterion, "3 of 10,000 wildcards", (&table, &asked), &asked, (&interest, &index));
    let unheard: Vec<Topic> =
        sites().map(|site| Topic::new(&format!("yard/{site}/gate/open")).expect("a topic")).collect();
    both(criterion, "none of 10,000 wildcards", (&table, &asked), &unheard, (&interest, &index));
}

criterion_group!(name = finding; config = short(); targets = topics, wildcards);
criterion_main!(finding);
