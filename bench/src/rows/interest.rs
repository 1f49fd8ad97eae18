//! Many topics, and many matchers: what finding the subscribers of an event costs.

use std::io;
use std::time::{Duration, Instant};

use super::{Bench, Samples, alone, beside, close, idle};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::probe::{self, Look};
use crate::target::{Target, Wire};
use crate::work::{Delivered, Latency};

/// Publishes a second to topics of one or two subscribers.
const PACE: f64 = 2_000.0;

pub(super) fn topics(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let count = bench.size(1_000_000);
    // Else most of the processor time of these seconds would be that of a million heartbeats.
    let target = bench.engine(Wire::Sse, true, &["timing.heartbeat_seconds=3600"]);
    let (mut site, connected) = bench.open(&target, &Plan::shared(count, count as u32))?;
    let what = format!("ours of a parked subscriber, a topic each, beyond its name, {count}");
    out(alone(what, "B", connected.memory - idle::name_bytes(count), Bar::AtMost(idle::OWN_MAX)));
    let paced = site.pace(PACE, bench.time(10.0))?;
    close(site)?;
    let (mut site, _) = bench.open(&target, &Plan::shared(1, 1))?;
    let one = site.pace(PACE, bench.time(5.0))?;
    close(site)?;
    // The floor is the engine itself with a single topic.
    let what =
        format!("server's CPU a publish to a random one of {count} topics of one (floor: the only topic)");
    out(beside(what, "us", 1e6 / paced.a_cpu_second, 1e6 / one.a_cpu_second, Bar::None));
    let what = format!("publish to event in a random one of {count} topics of one (floor: the only topic)");
    out(beside(format!("{what}, p50"), "ms", paced.latency.p50, one.latency.p50, Bar::None));
    out(beside(format!("{what}, p99"), "ms", paced.latency.p99, one.latency.p99, Bar::None));
    Ok(())
}

pub(super) fn hundred(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let topics = 100;
    let each = bench.size(1_000_000) / topics;
    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, _) = bench.open(&target, &Plan::shared(each * topics, topics as u32))?;
    let time = bench.time(20.0);
    let looks = [Look::Publishes(Duration::from_millis(20))];
    let ((deliveries, used), seen) = probe::beside(&target, &looks, || {
        let (cpu, started) = (site.server.cpu(), Instant::now());
        let mut deliveries = 0;
        while started.elapsed() < time {
            deliveries += site.round(0..topics as u32)?;
        }
        Ok((deliveries, site.server.cpu() - cpu))
    })?;
    close(site)?;
    let what = format!("{topics} topics of {each}, an event to each");
    out(alone(what.clone(), "deliveries/CPU s", deliveries as f64 / used.as_secs_f64(), Bar::None));
    let p99 = Latency::of(&seen.publishes).p99;
    out(alone(format!("{what}: publish to event in a topic of one, p99"), "ms", p99, Bar::None));
    Ok(())
}

pub(super) fn wildcards(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let subscribers = bench.size(10_000);
    let matchers = (subscribers / 2).max(1) as u32;
    let target = bench.engine(Wire::Sse, true, &[]);
    let plain = paced(bench, &target, &Plan::shared(subscribers, matchers))?;
    let plan = Plan {
        matcher: |group| format!("bench/{group}/*"),
        published_to: |group, number| format!("bench/{group}/{}", number % 7),
        ..Plan::shared(subscribers, matchers)
    };
    let wild = paced(bench, &target, &plan)?;
    let what = format!("{matchers} matchers with a wildcard, 2 subscribers each (floor: plain topics)");
    let (engine, floor) = (1e6 / wild.a_cpu_second, 1e6 / plain.a_cpu_second);
    out(beside(format!("server's CPU a delivery, {what}"), "us", engine, floor, Bar::None));
    let (engine, floor) = (wild.latency.p99, plain.latency.p99);
    out(beside(format!("publish to event, {what}, p99"), "ms", engine, floor, Bar::None));
    Ok(())
}

fn paced(bench: &Bench, target: &Target, plan: &Plan) -> io::Result<Delivered> {
    let (mut site, _) = bench.open(target, plan)?;
    let delivered = site.pace(PACE, bench.time(5.0))?;
    close(site)?;
    Ok(delivered)
}
