//! Subscribers that go and come: a few at a time, and all at once.

use std::io;
use std::time::{Duration, Instant};

use super::{Bench, Samples, alone, close};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::machine::Slabs;
use crate::probe::{self, Look};
use crate::target::Wire;
use crate::work::{Latency, Site};

/// What memory may be after a storm, of what it was before.
const MEMORY_TIMES_MAX: f64 = 1.1;
/// How long a storm may take.
const STORM_MAX: Duration = Duration::from_secs(180);
/// Subscribers that are away at a time while others join and leave.
const AWAY: u32 = 2_000;
/// Events a second meanwhile.
const CHURN_PACE: f64 = 50.0;

pub(super) fn small(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    storm(bench, bench.size(100_000), out)
}

pub(super) fn large(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    storm(bench, bench.size(500_000), out)
}

fn storm(bench: &Bench, count: usize, out: &mut Samples<'_>) -> io::Result<()> {
    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, _) = bench.open(&target, &Plan::shared(count, 1))?;
    // From an event on, everybody has a cursor of its own.
    site.round(0..1)?;
    site.rest(bench.time(5.0))?;
    let (memory, slabs) = (site.server.memory(), Slabs::now());
    let looks = [Look::Publishes(Duration::from_millis(10))];
    let (back, seen) = probe::beside(&target, &looks, || come_back(&mut site, count as u32))?;
    // What was made for the storm is given back within a few seconds.
    site.rest(bench.time(15.0))?;
    let after = site.server.memory() as f64 / memory.max(1) as f64;
    let (kernel, _) = Slabs::now().since(&slabs);
    site.judge()?;
    close(site)?;

    let storm = format!("{count} vanish and come back with cursors");
    out(alone(format!("{storm}: until all have all that was published"), "s", back.took, Bar::None));
    let a_second = count as f64 / back.took;
    out(alone(format!("{storm}: reconnections, each with its replay"), "1/s", a_second, Bar::None));
    let p99 = Latency::of(&seen.publishes).p99;
    out(alone(format!("{storm}: publish to event in a topic of one, p99"), "ms", p99, Bar::None));
    let most = back.memory_max as f64 / memory.max(1) as f64;
    out(alone(format!("{storm}: most memory of ours, of that before"), "", most, Bar::None));
    out(alone(
        format!("{storm}: memory of ours after, of that before"),
        "",
        after,
        Bar::AtMost(MEMORY_TIMES_MAX),
    ));
    let a_connection = kernel as f64 / count as f64;
    out(alone(
        format!("{storm}: kernel memory gained, both sides, each"),
        "B",
        a_connection,
        Bar::AtMost(800.0),
    ));
    Ok(())
}

struct Back {
    /// Seconds from the first that comes back until all have all.
    took: f64,
    /// Most memory of the server meanwhile, in bytes.
    memory_max: u64,
}

/// All vanish; five events are published to nobody; all come back, while an event a second goes on.
fn come_back(site: &mut Site<'_>, count: u32) -> io::Result<Back> {
    site.clients.leave_all(0..count, STORM_MAX)?;
    for _ in 0..5 {
        site.publish(0)?;
    }
    site.publisher.settle()?;
    let started = Instant::now();
    let (mut looked, mut published) = (Instant::now(), Instant::now());
    let mut memory_max = 0;
    site.clients.start_connecting(0..count, true);
    while !site.clients.is_connected() {
        site.rest(Duration::from_millis(1))?;
        site.judge()?;
        site.publisher.unanswered()?;
        if looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            memory_max = memory_max.max(site.server.memory());
            crate::work::spare_memory()?;
        }
        if published.elapsed() > Duration::from_secs(1) {
            published = Instant::now();
            site.publish(0)?;
        }
        if started.elapsed() > STORM_MAX {
            return Err(io::Error::other(format!("not all were back after {STORM_MAX:?}")));
        }
    }
    site.arrive()?;
    let took = started.elapsed().as_secs_f64();
    Ok(Back { took, memory_max: memory_max.max(site.server.memory()) })
}

/// Subscribers leave and come back with their cursors as fast as this machine's subscribers can, while events
/// are published: none may miss any.
pub(super) fn churn(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let (count, topics) = (bench.size(100_000) as u32, 100);
    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, _) = bench.open(&target, &Plan::shared(count as usize, topics))?;
    site.round(0..topics)?;
    let time = bench.time(10.0);
    let looks = [Look::Publishes(Duration::from_millis(10))];
    let (churned, seen) = probe::beside(&target, &looks, || go_and_come(&mut site, count, topics, time))?;
    close(site)?;
    let what = format!(
        "leaving and joining with a cursor among {count}, {CHURN_PACE} events a second to 100 topics"
    );
    out(alone(what.clone(), "1/s", churned.a_second, Bar::None));
    out(alone(format!("{what}: server's CPU each"), "us", churned.cpu, Bar::None));
    let p99 = Latency::of(&seen.publishes).p99;
    out(alone(format!("{what}: publish to event in a topic of one, p99"), "ms", p99, Bar::None));
    Ok(())
}

struct Churned {
    /// Who left and came back, in a second.
    a_second: f64,
    /// Microseconds of the server's processor time for each.
    cpu: f64,
}

fn go_and_come(site: &mut Site<'_>, count: u32, topics: u32, time: Duration) -> io::Result<Churned> {
    let away = AWAY.min(count / 4).max(1);
    let (started, cpu) = (Instant::now(), site.server.cpu());
    let (mut first, mut changes, mut events) = (0, 0_u64, 0_u64);
    while started.elapsed() < time {
        let some = move || (first..first + away).map(move |number| number % count);
        site.clients.leave(some())?;
        let is_over = |site: &mut Site<'_>, what: &dyn Fn(&Site<'_>) -> bool| {
            let since = Instant::now();
            while !what(site) {
                let due = (started.elapsed().as_secs_f64() * CHURN_PACE) as u64;
                if due > events {
                    events += 1;
                    site.publish(crate::work::scattered(events, topics))?;
                }
                site.rest(Duration::ZERO)?;
                site.judge()?;
                site.publisher.unanswered()?;
                if since.elapsed() > STORM_MAX {
                    return Err(io::Error::other("somebody did not leave, or did not come back"));
                }
            }
            Ok(())
        };
        let mut is_over = is_over;
        is_over(site, &|site| some().all(|number| site.clients.is_away(number)))?;
        site.clients.start_connecting(some(), true);
        is_over(site, &|site| site.clients.is_connected())?;
        first = (first + away) % count;
        changes += u64::from(away);
    }
    let used = (site.server.cpu() - cpu).as_secs_f64();
    let took = started.elapsed().as_secs_f64();
    site.arrive()?;
    Ok(Churned { a_second: changes as f64 / took, cpu: used * 1e6 / changes as f64 })
}
