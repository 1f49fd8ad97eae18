//! One event to ten thousand, alone and with others in flight.

use std::io;

use super::{Bench, Samples, beside, close, suffix, wire_name};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor::Kind;
use crate::target::{Target, Wire};
use crate::work::Delivered;

/// Subscribers.
const SUBSCRIBERS: usize = 10_000;
/// Of the floor's deliveries in a second of the processor, one event in flight.
const SINGLE_MIN: f64 = 0.92;
/// The same with more in flight.
const JOINED_MIN: f64 = 0.85;

/// How events follow each other.
#[derive(Debug, Clone, Copy)]
enum Flight {
    /// As many are always under way.
    Kept(usize),
    /// As many are published at once, the next when all of them have come.
    Burst(usize),
}

const FLIGHTS: [Flight; 7] = [
    Flight::Kept(1),
    Flight::Kept(4),
    Flight::Kept(16),
    Flight::Kept(64),
    Flight::Burst(4),
    Flight::Burst(16),
    Flight::Burst(64),
];

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    measure(bench, true, &[Wire::Sse, Wire::WebSocket], out)
}

pub(super) fn measure(
    bench: &Bench,
    io_uring: bool,
    wires: &[Wire],
    out: &mut Samples<'_>,
) -> io::Result<()> {
    let count = bench.size(SUBSCRIBERS);
    for &wire in wires {
        let floor = all(bench, &bench.floor(Kind::Ring, wire), count)?;
        let engine = all(bench, &bench.engine(wire, io_uring, &[]), count)?;
        for ((flight, engine), floor) in FLIGHTS.into_iter().zip(engine).zip(floor) {
            let (how, bar) = match flight {
                Flight::Kept(1) => ("1 in flight".to_owned(), SINGLE_MIN),
                Flight::Kept(events) => (format!("{events} in flight"), JOINED_MIN),
                Flight::Burst(events) => (format!("bursts of {events}"), JOINED_MIN),
            };
            let what = format!("fan-out to {count}, {}, {how}{}", wire_name(wire), suffix(io_uring));
            let bar = Bar::TimesAtLeast(bar);
            out(beside(what.clone(), "deliveries/CPU s", engine.a_cpu_second, floor.a_cpu_second, bar));
            if !matches!(flight, Flight::Kept(1)) {
                let (engine, floor) = (engine.events_a_receive, floor.events_a_receive);
                out(beside(format!("{what}: joined"), "events/receive", engine, floor, Bar::None));
            }
        }
    }
    Ok(())
}

fn all(bench: &Bench, target: &Target, count: usize) -> io::Result<Vec<Delivered>> {
    let (mut site, _) = bench.open(target, &Plan::shared(count, 1))?;
    site.deliver(1, bench.time(0.5))?;
    let time = bench.time(2.0);
    let deliver = |flight| match flight {
        Flight::Kept(events) => site.deliver(events, time),
        Flight::Burst(events) => site.deliver_bursts(events, time),
    };
    let delivered = FLIGHTS.into_iter().map(deliver).collect::<io::Result<_>>()?;
    close(site)?;
    Ok(delivered)
}
