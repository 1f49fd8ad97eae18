//! What it costs to prove to a million silent connections that they live.

use std::io;
use std::time::Duration;

use super::{Bench, Samples, beside, close};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor;
use crate::target::{Target, Wire};

/// Of the processor time that the floor spends on as many.
const TIMES_MAX: f64 = 1.15;

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let count = bench.size(1_000_000);
    let period = if bench.is_quick { 3 } else { 25 };
    let floor = measure(bench, &floor::heartbeats(period, bench.floor_program.clone()), count, period)?;
    let set = format!("timing.heartbeat_seconds={period}");
    let engine = measure(bench, &bench.engine(Wire::Sse, true, &[&set]), count, period)?;
    let what = format!("server's CPU a heartbeat, {count} parked, {period} s");
    out(beside(what, "us", engine.cpu, floor.cpu, Bar::TimesAtMost(TIMES_MAX)));
    let what = format!("heartbeats of a subscriber in {period} s, {count} parked");
    out(beside(what, "", engine.each, floor.each, Bar::None));
    let what = format!("share of a core for the heartbeats of {count}, {period} s");
    out(beside(what, "", engine.load, floor.load, Bar::None));
    Ok(())
}

struct Beats {
    /// Microseconds of the server's processor time for one.
    cpu: f64,
    /// Heartbeats that a subscriber got.
    each: f64,
    load: f64,
}

fn measure(bench: &Bench, target: &Target, count: usize, period: u16) -> io::Result<Beats> {
    let (mut site, _) = bench.open(target, &Plan::shared(count, 1))?;
    let period = Duration::from_secs(period.into());
    // Everybody is in the rhythm once everybody had one.
    site.rest(period)?;
    let (cpu, before) = (site.server.cpu(), site.clients.receives());
    site.rest(period)?;
    let used = (site.server.cpu() - cpu).as_secs_f64();
    let beats = (site.clients.receives() - before) as f64;
    site.judge()?;
    close(site)?;
    if beats == 0.0 {
        return Err(io::Error::other("no heartbeat came"));
    }
    Ok(Beats { cpu: used * 1e6 / beats, each: beats / count as f64, load: used / period.as_secs_f64() })
}
