//! What the simulation proves: the shard as it is passes every seed; each seeded defect is caught.

use super::world::{Tally, World};
use crate::shard::Defects;

/// Seeds of an ordinary run; `STENTOR_SIM_SEEDS` asks for more.
const SEEDS: u64 = 4_000;
const STEPS: usize = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64, defects: Defects) -> (Result<(), String>, Tally) {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed, defects);
        let result = world.run(STEPS);
        assert!(result.is_err() || world.head().0 < 10_000, "the run is bounded");
        (result, world.tally)
    });
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).into()));
        (Err(format!("panic: {}", text.unwrap_or_default())), Tally::default())
    })
}

#[test]
fn every_seed_is_in_order_whole_and_once_only() {
    if let Some(seed) = number("STENTOR_SIM_SEED") {
        run(seed, Defects::default()).0.unwrap();
        return;
    }
    let seeds = number("STENTOR_SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("STENTOR_SIM_FIRST").unwrap_or(1);
    println!("simulation: seeds {first} to {}, {STEPS} steps each", first + seeds - 1);
    let mut sum = Tally::default();
    for seed in first..first + seeds {
        let (result, tally) = run(seed, Defects::default());
        if let Err(error) = result {
            panic!("STENTOR_SIM_SEED={seed}: {error}");
        }
        sum.events += tally.events;
        sum.delivered += tally.delivered;
        sum.busy += tally.busy;
        sum.gaps += tally.gaps;
        sum.cuts += tally.cuts;
        sum.slow += tally.slow;
        sum.changes += tally.changes;
        sum.restarts += tally.restarts;
    }
    println!("simulation: {sum:?}");
    if seeds >= 1_000 {
        for (what, count) in [
            ("events", sum.events),
            ("deliveries", sum.delivered),
            ("refusals", sum.busy),
            ("gaps", sum.gaps),
            ("cuts", sum.cuts),
            ("slow subscribers", sum.slow),
            ("changed subscriptions", sum.changes),
            ("restarts", sum.restarts),
        ] {
            assert!(count > 100, "the seeds have hardly any {what}: {count}");
        }
    }
}

/// Runs seeds until one fails; 500 are enough for each of the five defects.
fn is_caught(defects: Defects) {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = (1..=500).find(|&seed| run(seed, defects).0.is_err());
    let _ = std::panic::take_hook();
    println!("caught by seed {caught:?}");
    assert!(caught.is_some(), "500 seeds passed with {defects:?}");
}

#[test]
fn swap_remove_in_a_running_walk_is_caught() {
    is_caught(Defects { swap_in_walk: true, ..Defects::default() });
}

#[test]
fn interest_that_is_set_after_the_head_is_read_is_caught() {
    is_caught(Defects { late_interest: true, ..Defects::default() });
}

#[test]
fn an_empty_answer_with_the_logs_head_is_caught() {
    is_caught(Defects { head_as_place: true, ..Defects::default() });
}

#[test]
fn dropping_what_was_sent_through_is_caught() {
    is_caught(Defects { sent_through: true, ..Defects::default() });
}

#[test]
fn a_short_send_taken_as_whole_is_caught() {
    is_caught(Defects { short_is_whole: true, ..Defects::default() });
}
