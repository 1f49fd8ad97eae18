//! A set of a million subscribers, beside a plain vector of as many numbers:
//! `cargo bench -p stentor-bench --bench sets`.
//!
//! Insert and remove are those of a subscriber that is level with its set, slot and all. The walk is all that
//! a shard does for one event but the system calls: publish, encode, fill the batches of sends, and take
//! their results. What that costs a subscriber is to be seen beside a send, which costs the kernel some
//! microseconds.

mod beside;

use std::hint::black_box;

use beside::{beside, short};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stentor::Topic;
use stentor::bench::{Members, Subscribed};

const SUBSCRIBERS: u32 = 1_000_000;
/// Sends of a batch, as the shard has it.
const BATCH: usize = 256;

fn topic() -> Topic {
    Topic::new("prices/eurusd").expect("a topic")
}

/// Places to take out of a million, each far from the one before.
fn places() -> impl FnMut() -> u32 {
    let mut at = 0u32;
    move || {
        at = at.wrapping_add(0x9e37_79b1);
        ((u64::from(at) * u64::from(SUBSCRIBERS)) >> 32) as u32
    }
}

/// What any fan-out keeps of a subscriber: 64 bytes, with its socket and where it stands.
#[repr(align(64))]
struct Record {
    socket: u32,
    index: u32,
}

fn records() -> Vec<Record> {
    (0..SUBSCRIBERS).map(|number| Record { socket: number, index: number }).collect()
}

fn coming_and_going(criterion: &mut Criterion) {
    let mut numbers: Vec<u32> = (0..SUBSCRIBERS).collect();
    let mut members = Members::new(&topic());
    let mut slots: Vec<u32> = (0..SUBSCRIBERS).map(|_| members.insert()).collect();
    let mut last = 0;
    let floor = || {
        numbers.push(black_box(last));
        last = numbers.pop().unwrap_or_default();
        last
    };
    let newest = || {
        let slot = members.insert();
        members.remove(black_box(slot));
    };
    let name = "set of 1 M: insert and remove the newest";
    beside(criterion, name, Throughput::Elements(1), ("push and pop of a Vec<u32>", floor), newest);
    let (mut records, mut number) = (records(), places());
    let floor = || {
        let number = number();
        let at = records[number as usize].index as usize;
        numbers.swap_remove(at);
        if let Some(&moved) = numbers.get(at) {
            records[moved as usize].index = at as u32;
        }
        records[number as usize].index = numbers.len() as u32;
        numbers.push(number);
    };
    let mut place = places();
    let any = || {
        let place = place() as usize;
        members.remove(slots[place]);
        slots[place] = members.insert();
    };
    let floor =
        ("swap_remove and push of a Vec<u32>, with records of 64 bytes that know their places", floor);
    beside(criterion, "set of 1 M: remove any and insert", Throughput::Elements(1), floor, any);
}

fn walk(criterion: &mut Criterion) {
    let numbers: Vec<u32> = (0..SUBSCRIBERS).collect();
    let text = "1.0712 ".repeat(14);
    let topic = topic();
    let mut subscribed = Subscribed::new((0..SUBSCRIBERS).map(|_| topic.clone().into()));
    let mut publish = || assert_eq!(subscribed.publish(&topic, &text), SUBSCRIBERS as usize);
    let work = Throughput::Elements(SUBSCRIBERS.into());
    let floor = || black_box(&numbers).iter().fold(0u32, |sum, number| sum ^ number);
    beside(criterion, "walk of 1 M", work.clone(), ("a walk over a Vec<u32>", floor), &mut publish);
    let records = records();
    let mut batch: Vec<(u32, &[u8])> = Vec::with_capacity(BATCH);
    let floor = || {
        for numbers in numbers.chunks(BATCH) {
            batch.clear();
            batch.extend(numbers.iter().map(|&number| (records[number as usize].socket, text.as_bytes())));
            black_box(&batch);
        }
    };
    let floor = ("a batch of sends from a Vec<u32>, a record of 64 bytes each", floor);
    beside(criterion, "walk of 1 M, filling batches", work, floor, &mut publish);
}

criterion_group!(name = sets; config = short(); targets = coming_and_going, walk);
criterion_main!(sets);
