//! How soon one subscriber is served: by a shard that sleeps, and by one that is busy with others.

use std::io;
use std::time::{Duration, Instant};

use super::{Bench, Samples, alone, beside as with_floor, close};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor::Kind;
use crate::probe::{self, Look};
use crate::target::{Target, Wire};
use crate::work::Latency;

/// Of the floor's time from publish to event.
const HAND_OVER_MAX: f64 = 1.3;
/// Milliseconds that 99 of 100 events of a topic of one take at most beside fan-outs to others.
const BESIDE_MAX: f64 = 15.0;
/// Topics with fan-outs.
const FAN_OUTS: u32 = 4;

pub(super) fn hand_over(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let one = |target: &Target| {
        let (mut site, _) = bench.open(target, &Plan::shared(1, 1))?;
        site.hand_over(50, Duration::from_millis(5))?;
        let latency = site.hand_over(if bench.is_quick { 200 } else { 1_000 }, Duration::from_millis(5))?;
        close(site)?;
        Ok::<_, io::Error>(latency)
    };
    let floor = one(&bench.floor(Kind::Ring, Wire::Sse))?;
    let engine = one(&bench.engine(Wire::Sse, true, &[]))?;
    let (p50, floor_p50) = (engine.p50 * 1e3, floor.p50 * 1e3);
    out(with_floor(
        "publish to event, sleeping shard, p50",
        "us",
        p50,
        floor_p50,
        Bar::TimesAtMost(HAND_OVER_MAX),
    ));
    let (p99, floor_p99) = (engine.p99 * 1e3, floor.p99 * 1e3);
    out(with_floor("publish to event, sleeping shard, p99", "us", p99, floor_p99, Bar::None));
    Ok(())
}

pub(super) fn beside(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let each = bench.size(1_000_000) / FAN_OUTS as usize;
    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, _) = bench.open(&target, &Plan::shared(each * FAN_OUTS as usize, FAN_OUTS))?;
    let time = bench.time(20.0);
    let looks = [Look::Publishes(Duration::from_millis(10))];
    let ((), seen) = probe::beside(&target, &looks, || {
        let started = Instant::now();
        while started.elapsed() < time {
            site.round(0..FAN_OUTS)?;
        }
        Ok(())
    })?;
    close(site)?;
    let latency = Latency::of(&seen.publishes);
    let what = format!("publish to event in a topic of one beside {FAN_OUTS} fan-outs to {each}");
    out(alone(format!("{what}, p99"), "ms", latency.p99, Bar::AtMost(BESIDE_MAX)));
    out(alone(format!("{what}, p50"), "ms", latency.p50, Bar::None));
    out(alone(format!("{what}, longest"), "ms", latency.max, Bar::None));
    Ok(())
}
