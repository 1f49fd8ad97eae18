//! Memory of subscribers that wait.

use std::io;

use super::{Bench, Samples, alone, beside, close, suffix};
use crate::clients::{Clients, Plan};
use crate::figure::Bar;
use crate::floor::Kind;
use crate::target::Wire;

/// Kernel memory of a parked connection, its server's side: 4.25 KiB.
const KERNEL_MAX: f64 = 4.25 * 1024.0;
/// Ours, of a subscriber of a topic with many.
pub(super) const SHARED_MAX: f64 = 100.0;
/// Ours, of a subscriber with a topic of its own, beyond the topic's name.
pub(super) const OWN_MAX: f64 = 250.0;

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    measure(bench, true, bench.size(100_000), out)
}

pub(super) fn measure(bench: &Bench, io_uring: bool, count: usize, out: &mut Samples<'_>) -> io::Result<()> {
    let is = suffix(io_uring);
    let target = bench.floor(Kind::Ring, Wire::Sse);
    let (site, floor) = bench.open(&target, &Plan::shared(count, 1))?;
    close(site)?;
    let target = bench.engine(Wire::Sse, io_uring, &[]);
    let (site, engine) = bench.open(&target, &Plan::shared(count, 1))?;
    close(site)?;
    if let (Some(engine), Some(floor)) = (engine.kernel, floor.kernel) {
        // The floor's two sides are alike, so its half is what the subscribers' side takes.
        let what = format!("kernel memory of a parked connection, server's side, {count}{is}");
        out(beside(what, "B", 2.0 * engine - floor, floor, Bar::AtMost(KERNEL_MAX)));
    }
    let what = format!("ours of a parked subscriber, one topic, {count}{is}");
    out(beside(what, "B", engine.memory, floor.memory, Bar::AtMost(SHARED_MAX)));

    let (site, own) = bench.open(&target, &Plan::shared(count, count as u32))?;
    close(site)?;
    let what = format!("ours of a parked subscriber, a topic each, beyond its name, {count}{is}");
    out(alone(what, "B", own.memory - name_bytes(count), Bar::AtMost(OWN_MAX)));
    Ok(())
}

/// Bytes of the names of `count` topics, on average.
pub(super) fn name_bytes(count: usize) -> f64 {
    Clients::topic(count as u32 / 2).len() as f64
}
