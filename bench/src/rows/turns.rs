//! How soon one subscriber is served: by a shard that sleeps, and by one that is busy with others.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Bench, Samples, alone, beside as with_floor, close};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor::Kind;
use crate::machine::{self, Processors};
use crate::probe::{self, Look};
use crate::target::{Target, Wire};
use crate::work::Latency;

/// Of the time that a thread blocked on a bare eventfd takes to be woken.
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
    let (asleep, bare) = bench_says("asleep: publish to a task")?;
    let what = "hand-over to a sleeping shard in the same process, p50";
    out(with_floor(what, "us", asleep, bare, Bar::TimesAtMost(HAND_OVER_MAX)));
    let floor = one(&bench.floor(Kind::Ring, Wire::Sse))?;
    let engine = one(&bench.engine(Wire::Sse, true, &[]))?;
    let (p50, floor_p50) = (engine.p50 * 1e3, floor.p50 * 1e3);
    let over_http = "publish over HTTP to event, sleeping shard";
    out(with_floor(format!("{over_http}, p50"), "us", p50, floor_p50, Bar::None));
    let (p99, floor_p99) = (engine.p99 * 1e3, floor.p99 * 1e3);
    out(with_floor(format!("{over_http}, p99"), "us", p99, floor_p99, Bar::None));
    Ok(())
}

/// The medians in microseconds that the bench of the hand-over prints, of the subject and of its floor: it is
/// linked with the engine, as this program is not.
fn bench_says(filter: &str) -> io::Result<(f64, f64)> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["bench", "--quiet", "--package", "stentor-bench", "--bench", "handover", "--", filter]);
    // Where cargo's own `cargo bench` has them; else criterion may take the folder of the package.
    let program = std::env::current_exe()?;
    if let Some(target) = program.ancestors().nth(2) {
        command.env("CRITERION_HOME", target.join("criterion"));
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // It is to have both cores; who is measured next binds this thread again.
    machine::unpin()?;
    let ended = command.output().map_err(|error| io::Error::new(error.kind(), format!("cargo: {error}")))?;
    let text = String::from_utf8_lossy(&ended.stdout);
    medians(&text).ok_or_else(|| {
        let error = String::from_utf8_lossy(&ended.stderr);
        io::Error::other(format!("the bench of the hand-over says no medians: {text}{error}"))
    })
}

/// From `...: 1.15 × a bare eventfd (p50 4200 ns; the floor 3650 ns)`.
fn medians(text: &str) -> Option<(f64, f64)> {
    let (_, rest) = text.split_once("(p50 ")?;
    let (subject, rest) = rest.split_once(" ns; the floor ")?;
    let (floor, _) = rest.split_once(" ns)")?;
    Some((subject.parse::<f64>().ok()? / 1e3, floor.parse::<f64>().ok()? / 1e3))
}

pub(super) fn beside(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let each = bench.size(1_000_000) / FAN_OUTS as usize;
    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, _) = bench.open(&target, &Plan::shared(each * FAN_OUTS as usize, FAN_OUTS))?;
    let time = bench.time(20.0);
    let looks = [Look::Publishes(Duration::from_millis(10))];
    let (before, started) = (Processors::now(), Instant::now());
    let ((), seen) = probe::beside(&target, &looks, || {
        while started.elapsed() < time {
            site.round(0..FAN_OUTS)?;
        }
        Ok(())
    })?;
    let stolen = (Processors::now().stolen - before.stolen) / started.elapsed().as_secs_f64();
    close(site)?;
    let latency = Latency::of(&seen.publishes);
    let what = format!("publish to event in a topic of one beside {FAN_OUTS} fan-outs to {each}");
    out(alone(format!("{what}, p99"), "ms", latency.p99, Bar::AtMost(BESIDE_MAX)));
    out(alone(format!("{what}, p50"), "ms", latency.p50, Bar::None));
    out(alone(format!("{what}, longest"), "ms", latency.max, Bar::None));
    out(alone(format!("{what}: processors that the host took meanwhile"), "", stolen, Bar::None));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_found_in_what_a_bench_prints() {
        let text = "hand-over, asleep: x: 1.15 × a bare eventfd (p50 4200 ns; the floor 3650 ns)\n";
        assert_eq!(medians(text), Some((4.2, 3.65)));
        assert_eq!(medians("nothing"), None);
    }
}
