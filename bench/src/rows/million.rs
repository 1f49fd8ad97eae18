//! A million subscribers of one process: held, served, and gone at once.

use std::io;
use std::time::{Duration, Instant};

use super::{Bench, SOCKETS_BESIDE, Samples, alone, beside, close, idle, sockets_are_gone};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor::Kind;
use crate::probe::{self, Look};
use crate::target::{Target, Wire};
use crate::work::{Connected, Delivered, Latency, Site};

/// How long a million may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(120);

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let count = bench.size(1_000_000);
    let target = bench.floor(Kind::Ring, Wire::Sse);
    let (site, _, floor) = deliver(bench, &target, count)?;
    let (site, floor_gone) = vanish(site)?;
    close(site)?;

    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, connected, engine) = deliver(bench, &target, count)?;
    let what = format!("ours of a parked subscriber, one topic, {count}");
    out(alone(what, "B", connected.memory, Bar::AtMost(idle::SHARED_MAX)));
    for ((how, engine), floor) in ["1 in flight", "bursts of 16"].into_iter().zip(&engine).zip(&floor) {
        let what = format!("{count} subscribers, every event to each in order, {how}");
        out(beside(what.clone(), "deliveries/CPU s", engine.a_cpu_second, floor.a_cpu_second, Bar::None));
        out(beside(format!("{what}: as it was"), "deliveries/s", engine.a_second, floor.a_second, Bar::None));
    }

    let time = bench.time(40.0);
    let looks = [
        Look::Publishes(Duration::from_millis(20)),
        Look::Newcomers(Duration::from_millis(20)),
        Look::Heartbeats(100),
    ];
    let ((), seen) = probe::beside(&target, &looks, || site.deliver(1, time).map(|_| ()))?;
    let lines = [
        ("publish to event in a topic of one", Latency::of(&seen.publishes)),
        ("connect to answer", Latency::of(&seen.answers)),
        ("connect to first event", Latency::of(&seen.first_events)),
        ("between two heartbeats (25 s)", Latency::of(&seen.heartbeats)),
    ];
    for (what, latency) in lines.into_iter().filter(|(_, latency)| latency.max > 0.0) {
        let what = format!("{what} beside {count} sends, p99");
        out(alone(what, "ms", latency.p99, Bar::None));
    }

    let memory = site.server.memory();
    let looks = [Look::Publishes(Duration::from_millis(10))];
    let ((site, engine_gone), seen) = probe::beside(&target, &looks, || vanish(site))?;
    let what = format!("{count} vanish: until the server has let go of all");
    out(beside(what, "s", engine_gone, floor_gone, Bar::None));
    let what = format!("{count} vanish: publish to event in another topic, p99");
    out(alone(what, "ms", Latency::of(&seen.publishes).p99, Bar::None));
    // What is kept for a while for those who come back is kept no longer.
    std::thread::sleep(bench.time(10.0));
    let left = site.server.memory() as f64 / memory.max(1) as f64;
    out(alone(format!("{count} have vanished: memory of ours, of what it was"), "", left, Bar::None));
    close(site)
}

fn deliver<'t>(
    bench: &Bench,
    target: &'t Target,
    count: usize,
) -> io::Result<(Site<'t>, Connected, [Delivered; 2])> {
    let (mut site, connected) = bench.open(target, &Plan::shared(count, 1))?;
    let delivered = [site.deliver(1, bench.time(15.0))?, site.deliver_bursts(16, bench.time(10.0))?];
    Ok((site, connected, delivered))
}

/// All subscribers reset their connections at once: seconds until neither side has any.
fn vanish(mut site: Site<'_>) -> io::Result<(Site<'_>, f64)> {
    let started = Instant::now();
    let all = 0..site.clients.len() as u32;
    site.clients.leave_all(all, GONE_MAX)?;
    sockets_are_gone(SOCKETS_BESIDE)?;
    site.server.check()?;
    Ok((site, started.elapsed().as_secs_f64()))
}
