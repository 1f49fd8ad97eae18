//! The scenarios: what a crowd goes through, and what is measured of it.

use std::io;
use std::time::{Duration, Instant};

use super::report::Bar;
use super::run::{Run, micros};
use crate::ghost::Leaving;
use crate::work::scattered;

/// How long one event may take to reach everybody.
const EVENT_MAX: Duration = Duration::from_secs(180);
/// Rest after a phase, in which what it left behind is done.
const REST: Duration = Duration::from_secs(3);

/// Connect, hold, and be silent: memory, and the processor time of heartbeats.
///
/// # Errors
/// As [`Run::go`].
pub fn idle(run: &mut Run<'_>, hold: Duration, promise: bool) -> io::Result<()> {
    run.connect(0.0, 1.0, false)?;
    run.go(REST, |_| false)?;
    run.memory(promise);
    let begun = run.begin();
    run.go(hold, |_| false)?;
    let cost = run.cost(&begun);
    let seconds = cost.time.as_secs_f64();
    let open = run.crowd.open() as f64;
    run.report.figure(
        "server CPU while idle",
        cost.server.as_secs_f64() / seconds * 100.0,
        "% of a core",
        None,
    );
    run.report.figure(
        "server CPU a connection and second while idle",
        micros(cost.server, open) / seconds,
        "us",
        None,
    );
    run.report.figure("still connected", open, "connections", Some(Bar::AtLeast(all(run))));
    Ok(())
}

/// Events to everybody, one after the other.
///
/// # Errors
/// As [`Run::go`].
pub fn fanout(run: &mut Run<'_>, events: u32) -> io::Result<()> {
    run.connect(0.0, 1.0, false)?;
    run.go(REST, |_| false)?;
    run.count_anew();
    let topics = run.crowd.cast().topics;
    run.crowd.time(true);
    let (begun, before) = (run.begin(), run.crowd.judgement().events);
    for _ in 0..events {
        if topics == 1 {
            let (number, open) = (run.publish(0)?, run.crowd.open());
            run.must("an event reaches everybody", EVENT_MAX, |run| run.crowd.delivered(number) >= open)?;
        } else {
            for topic in 0..topics {
                run.publish(topic)?;
            }
            run.arrive(EVENT_MAX)?;
        }
    }
    let cost = run.cost(&begun);
    run.arrive(EVENT_MAX)?;
    let deliveries = (run.crowd.judgement().events - before) as f64;
    run.report.figure("deliveries", deliveries / cost.time.as_secs_f64(), "a second", None);
    run.report.figure("server CPU a delivery", micros(cost.server, deliveries), "us", None);
    run.report.figure("machine CPU a delivery", micros(cost.machine, deliveries), "us", None);
    run.latencies();
    Ok(())
}

/// Every subscriber gets an event each `period`, spread evenly: the published C10M workload.
///
/// # Errors
/// As [`Run::go`].
pub fn steady(run: &mut Run<'_>, period: Duration, time: Duration) -> io::Result<()> {
    run.connect(0.0, 1.0, false)?;
    run.go(REST, |_| false)?;
    run.count_anew();
    let topics = run.crowd.cast().topics;
    let a_second = f64::from(topics) / period.as_secs_f64();
    run.crowd.time(true);
    let (begun, before) = (run.begin(), run.crowd.judgement().events);
    paced(run, a_second, time, |run, event| run.publish(scattered(event, topics)).map(drop))?;
    let cost = run.cost(&begun);
    run.arrive(EVENT_MAX)?;
    let deliveries = (run.crowd.judgement().events - before) as f64;
    run.report.figure("publishes", a_second, "a second", None);
    run.report.figure("deliveries", deliveries / cost.time.as_secs_f64(), "a second", None);
    run.report.figure("server CPU", cost.server.as_secs_f64() / cost.time.as_secs_f64(), "cores", None);
    run.report.figure("machine CPU", cost.machine.as_secs_f64() / cost.time.as_secs_f64(), "cores", None);
    run.latencies();
    Ok(())
}

/// A share of the crowd, or all of it, drops and comes back with its cursors while publishing goes on.
///
/// # Errors
/// As [`Run::go`]; a lost event or a gap is one.
pub fn storm(run: &mut Run<'_>, share: f64, how: Leaving, a_second: f64) -> io::Result<()> {
    run.connect(0.0, 1.0, false)?;
    run.go(REST, |_| false)?;
    let topics = run.crowd.cast().topics;
    // Everybody has a cursor, and a place to go on from.
    for topic in 0..topics {
        run.publish(topic)?;
    }
    run.arrive(EVENT_MAX)?;
    run.count_anew();
    let before = run.server.memory();
    let slices = run.crowd.slices(0.0, share);
    let begun = run.begin();
    run.leave(&slices, how)?;
    run.report.figure("time until all had left", run.cost(&begun).time.as_secs_f64(), "s", None);
    let mut highest = before;
    let (begun, mut next, mut event) = (run.begin(), Instant::now(), 0);
    let gap = Duration::from_secs_f64(1.0 / a_second.max(0.001));
    for slice in &slices {
        run.crowd.connect(slice, true);
        // Publishing goes on while they come.
        while !run.crowd.is_settled() {
            run.go(Duration::from_millis(5), |run| run.crowd.is_settled())?;
            while next <= Instant::now() {
                run.publish(scattered(event, topics))?;
                (event, next) = (event + 1, next + gap);
            }
            if begun_over(run, &begun, Duration::from_secs(300)) {
                return Err(io::Error::other("not all came back within 300 s"));
            }
        }
        highest = highest.max(run.server.memory());
    }
    let back = run.cost(&begun).time;
    run.arrive(EVENT_MAX)?;
    let cost = run.cost(&begun);
    let came = run.crowd.cast().ghosts as f64 * share + run.crowd.cast().sockets as f64 * share;
    run.report.figure("time until all were back", back.as_secs_f64(), "s", None);
    run.report.figure("time until all had everything", cost.time.as_secs_f64(), "s", None);
    run.report.figure("connections made in the storm", came / back.as_secs_f64(), "a second", None);
    run.report.figure("server CPU a reconnect", micros(cost.server, came), "us", None);
    run.report.figure("events published meanwhile", event as f64, "events", None);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    run.report.figure("server memory before", mib(before), "MiB", None);
    run.report.figure("server memory at its highest", mib(highest), "MiB", None);
    run.report.figure("back", run.crowd.open() as f64, "connections", Some(Bar::AtLeast(all(run))));
    Ok(())
}

fn begun_over(run: &Run<'_>, begun: &super::run::Begun, most: Duration) -> bool {
    run.cost(begun).time > most
}

/// A share stops reading while events go to everybody: what does that cost the others, and the memory?
///
/// # Errors
/// As [`Run::go`].
pub fn slow(run: &mut Run<'_>, share: f64, events: u32) -> io::Result<()> {
    run.connect(0.0, 1.0, false)?;
    run.go(REST, |_| false)?;
    let healthy = all(run) * (1.0 - share);
    let mut medians = Vec::new();
    for phase in ["before", "with the deaf"] {
        run.crowd.time(true);
        run.count_anew();
        let memory = run.server.memory();
        for _ in 0..events {
            let number = run.publish(0)?;
            let wanted = if medians.is_empty() { all(run) } else { healthy };
            run.must("an event reaches all that read", EVENT_MAX, |run| {
                run.crowd.delivered(number) as f64 >= wanted
            })?;
        }
        let latency = match run.crowd.ghosts() {
            Some(ghosts) => ghosts.latency().value_at_quantile(0.99),
            None => run.crowd.sockets().latency().value_at_quantile(0.99),
        };
        let latency = latency as f64 / 1e6;
        run.report.figure(&format!("p99 of publish to delivery, {phase}"), latency, "ms", None);
        medians.push(latency);
        if phase == "before" {
            for slice in run.crowd.slices(1.0 - share, 1.0) {
                run.crowd.deafen(&slice);
            }
        } else {
            let deaf = (all(run) - healthy).max(1.0);
            let more = (run.server.memory() as f64 - memory as f64) / deaf;
            run.report.figure("server memory a deaf subscriber", more, "bytes", Some(Bar::AtMost(256.0)));
        }
    }
    Ok(())
}

/// Some leave and others join, at a rate, while publishing goes on.
///
/// # Errors
/// As [`Run::go`].
pub fn churn(run: &mut Run<'_>, a_second: f64, time: Duration) -> io::Result<()> {
    // The last tenth comes and goes; the others must get everything.
    run.connect(0.0, 1.0, false)?;
    run.go(REST, |_| false)?;
    run.count_anew();
    let slices = run.crowd.slices(0.9, 1.0);
    let a_slice = (all(run) * 0.1 / slices.len() as f64).max(1.0);
    let topics = run.crowd.cast().topics;
    run.crowd.time(true);
    let (begun, mut moved) = (run.begin(), 0.0);
    let mut event = 0;
    while run.cost(&begun).time < time {
        let slice = &slices[(moved / a_slice) as usize % slices.len()];
        run.leave(std::slice::from_ref(slice), Leaving::Reset)?;
        run.crowd.connect(slice, true);
        run.must("those who left come back", EVENT_MAX, |run| run.crowd.is_settled())?;
        moved += a_slice;
        run.publish(scattered(event, topics))?;
        event += 1;
        let due = Duration::from_secs_f64(moved / a_second);
        if let Some(rest) = due.checked_sub(run.cost(&begun).time) {
            run.go(rest, |_| false)?;
        }
    }
    let cost = run.cost(&begun);
    run.arrive(EVENT_MAX)?;
    run.report.figure("left and joined", moved / cost.time.as_secs_f64(), "a second", None);
    run.report.figure("server CPU for one that leaves and joins", micros(cost.server, moved), "us", None);
    run.latencies();
    Ok(())
}

/// Events to the control group at each step of a ramp.
const PROBES: u32 = 20;
/// Rest between two of them.
const PROBE_REST: Duration = Duration::from_millis(50);

/// Grows until memory ends it, or the 99th percentile of the time that an event takes to reach the control
/// group, which has a topic of its own if there are ghosts.
///
/// # Errors
/// As [`Run::go`], but that memory runs short is the answer and no error.
pub fn ramp(run: &mut Run<'_>, step: usize, p99_most: Duration) -> io::Result<()> {
    let planned = all(run);
    let steps = (planned / step as f64).ceil().max(1.0);
    let mut reached = "all that were planned are connected";
    let mut p99 = Duration::ZERO;
    for number in 0..steps as u32 {
        let at = |number: u32| (f64::from(number) / steps).min(1.0);
        run.expect_next();
        match run.connect(at(number), at(number + 1), false) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                reached = "memory";
                break;
            }
            Err(error) => return Err(error),
        }
        // Each step's own figures would bury the answer.
        run.report.figures.clear();
        if run.crowd.cast().is_apart {
            p99 = match run.probe(PROBES, PROBE_REST) {
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    reached = "memory";
                    break;
                }
                p99 => p99?,
            };
            if p99 > p99_most {
                reached = "the p99 of an event to the control group";
                break;
            }
        }
    }
    let open = run.crowd.open() as f64;
    run.report.figure("connections held", open, "connections", None);
    run.report.figure(&format!("  ended by {reached}"), open, "connections", None);
    if run.crowd.cast().is_apart {
        let p99 = p99.as_secs_f64() * 1e3;
        run.report.figure("p99 of an event to the control group, last step", p99, "ms", None);
    }
    run.memory(false);
    // All of them hear: one event to everybody, where there is still memory for it on its way.
    if reached != "memory" {
        run.count_anew();
        run.crowd.time(true);
        let begun = run.begin();
        let number = run.publish(0)?;
        let sockets = if run.crowd.cast().is_apart { run.crowd.sockets().open() } else { 0 };
        let (before, hearers) = (run.crowd.judgement().events, open - sockets as f64);
        run.must("one event reaches everybody", EVENT_MAX * 2, |run| {
            run.crowd.delivered(number) as f64 >= hearers
        })?;
        let open = (run.crowd.judgement().events - before) as f64;
        let cost = run.cost(&begun);
        run.report.figure("time of one event to everybody", cost.time.as_secs_f64(), "s", None);
        run.report.figure("deliveries", open / cost.time.as_secs_f64(), "a second", None);
    }
    Ok(())
}

/// Everybody leaves; what stays behind?
///
/// # Errors
/// As [`Run::go`].
pub fn leave(run: &mut Run<'_>) -> io::Result<()> {
    let slices = run.crowd.slices(0.0, 1.0);
    run.leave(&slices, Leaving::Reset)?;
    run.go(REST, |_| false)?;
    run.memory_after(None);
    Ok(())
}

/// Does something `a_second` times a second for as long as `time`.
fn paced(
    run: &mut Run<'_>,
    a_second: f64,
    time: Duration,
    mut each: impl FnMut(&mut Run<'_>, u64) -> io::Result<()>,
) -> io::Result<()> {
    let started = Instant::now();
    let planned = (a_second * time.as_secs_f64()).max(1.0) as u64;
    let mut event = 0;
    while event < planned {
        let due = ((started.elapsed().as_secs_f64() * a_second) as u64 + 1).min(planned);
        while event < due {
            each(run, event)?;
            event += 1;
        }
        run.go(Duration::from_millis(1), |_| false)?;
    }
    Ok(())
}

fn all(run: &Run<'_>) -> f64 {
    (run.crowd.cast().ghosts + run.crowd.cast().sockets) as f64
}
