//! Interest at scale: very many topics, sets and wildcards, and what a publish costs beside them. The cost is
//! judged by what does not vary: sends, wakes and allocations.
//!
//! `STENTOR_SCALE_COUNT=1000000 cargo test --release -p stentor --lib shard::scale -- --nocapture
//! --test-threads 1` says how long each takes with a million.

use super::memory::{Engine, SSE, quiet};
use super::{Outcome, SlotId};
use crate::sys::counting::allocations;

const COUNT: usize = 10_000;
const PUBLISHES: usize = 1_000;

fn count() -> usize {
    let asked = std::env::var("STENTOR_SCALE_COUNT").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(COUNT)
}

/// Nanoseconds that this thread has run, whoever else had the processor; 0 where the system does not say.
fn thread_ns() -> u64 {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    said.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn us_each(began_ns: u64, count: usize) -> f64 {
    thread_ns().saturating_sub(began_ns) as f64 / 1e3 / count.max(1) as f64
}

/// A number below `below`, from a generator of the test's own.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

fn joined(engine: &mut Engine, count: usize, name: impl Fn(usize) -> Vec<String>) -> Vec<SlotId> {
    let began = thread_ns();
    let shards = engine.cores.len();
    let mut ids = Vec::new();
    for n in 0..count {
        let matchers = name(n);
        let matchers: Vec<&str> = matchers.iter().map(String::as_str).collect();
        ids.push(engine.join(n % shards, &matchers, SSE));
        if n % 256 == 0 {
            engine.settle(Outcome::Whole);
        }
    }
    engine.settle(Outcome::Whole);
    println!("{count} joined: {:.2} us each", us_each(began, count));
    ids
}

/// Publishes to topics that `name` gives: allocations and sends of one publish, on average.
fn published(what: &str, engine: &mut Engine, name: impl Fn(usize) -> String) -> (usize, usize) {
    // What is kept between publishes has its size then.
    for n in 0..64 {
        engine.publish(&name(n), "x");
        engine.settle(Outcome::Whole);
    }
    let (began, before) = (thread_ns(), allocations());
    let mut sends = 0;
    for n in 0..PUBLISHES {
        engine.publish(&name(n), "x");
        sends += engine.settle(Outcome::Whole);
    }
    let each = (allocations() - before) / PUBLISHES;
    let us = us_each(began, PUBLISHES);
    println!("{what}: {us:.2} us, {each} allocations, {} sends a publish", sends / PUBLISHES);
    (each, sends)
}

#[test]
fn a_publish_to_a_topic_of_one_subscriber_wakes_its_shard_alone() {
    let mut engine = Engine::new(3, quiet());
    for n in 0..30 {
        engine.join(n % 3, &[&format!("own/{n}")], SSE);
    }
    engine.settle(Outcome::Whole);
    for n in [4, 11, 20] {
        let wakes =
            |engine: &Engine| -> Vec<usize> { engine.cores.iter().map(|core| core.wakes.count()).collect() };
        assert!(engine.cores.iter().all(|core| core.channel.prepare_to_sleep()), "all sleep");
        let mut expected = wakes(&engine);
        engine.publish(&format!("own/{n}"), "x");
        expected[n % 3] += 1;
        assert_eq!(wakes(&engine), expected);
        for (number, core) in engine.cores.iter().enumerate() {
            core.channel.awake();
            assert_eq!(core.channel.prepare_to_sleep(), number != n % 3, "shard {number}");
            core.channel.awake();
        }
        assert_eq!(engine.settle(Outcome::Whole), 1);
    }
}

#[test]
fn a_publish_costs_the_same_among_many_topics_of_one_subscriber_as_among_few() {
    let cost = |count: usize| {
        let mut engine = Engine::new(2, quiet());
        joined(&mut engine, count, |n| vec![format!("own/{n}")]);
        let name = |n: usize| format!("own/{}", random(&mut (n as u64 + 9), count));
        published(&format!("one of {count} topics"), &mut engine, name)
    };
    let (few, many) = (cost(200), cost(count()));
    assert_eq!((few.1, many.1), (PUBLISHES, PUBLISHES), "each goes to one subscriber");
    assert!(many.0 <= few.0 + 3, "{} allocations among many, {} among few", many.0, few.0);
}

#[test]
fn a_publish_to_one_of_a_hundred_topics_goes_to_its_subscribers_alone() {
    let mut engine = Engine::new(1, quiet());
    let count = count() / 100 * 100;
    joined(&mut engine, count, |n| vec![format!("shared/{}", n % 100)]);
    let began = thread_ns();
    for n in 0..10 {
        engine.publish(&format!("shared/{n}"), "x");
        assert_eq!(engine.settle(Outcome::Whole), count / 100);
    }
    let deliveries = count / 100 * 10;
    println!("100 topics: {:.3} us a delivery", us_each(began, deliveries));
}

#[test]
fn thousands_of_wildcards_cost_a_publish_no_more_than_those_that_name_its_topic() {
    let cost = |count: usize| {
        let mut engine = Engine::new(1, quiet());
        joined(&mut engine, count, |n| match n % 3 {
            0 => vec![format!("rooms/r{n}/*")],
            1 => vec![format!("*/x{n}/**")],
            _ => vec![format!("rooms/*/x{n}"), format!("also/{n}")],
        });
        let name = |n: usize| {
            let own = random(&mut (n as u64 + 3), count / 3) * 3;
            format!("rooms/r{own}/x{}", own + 2)
        };
        published(&format!("{count} lists with wildcards"), &mut engine, name)
    };
    let (few, many) = (cost(60), cost(count().min(30_000)));
    assert_eq!((few.1, many.1), (2 * PUBLISHES, 2 * PUBLISHES), "each goes to two subscribers");
    assert!(many.0 <= few.0 + 3, "{} allocations among many, {} among few", many.0, few.0);
}

#[test]
fn joining_and_leaving_costs_the_same_however_many_are_there_and_whatever_is_published() {
    let mut engine = Engine::new(1, quiet());
    let count = count();
    joined(&mut engine, count, |n| vec![format!("own/{n}"), "all".into()]);
    // The one topic that all have: everybody's set stands under it.
    engine.publish("all", "x");
    assert_eq!(engine.settle(Outcome::Whole), count);
    let (began, before) = (thread_ns(), allocations());
    let rounds = 3_000;
    for n in 0..rounds {
        let id = engine.join(0, &[&format!("new/{n}")], SSE);
        engine.publish(&format!("own/{}", n % count), "y");
        assert_eq!(engine.settle(Outcome::Whole), 2, "the start of one, the event of the other");
        engine.leave(0, id);
    }
    let each = (allocations() - before) / rounds;
    println!("join, publish, leave among {count}: {:.2} us, {each} allocations", us_each(began, rounds));
    assert!(each < 80, "{each}");
    engine.pass(4);
    assert_eq!(engine.cores[0].shard.connections(), count);
}
