//! Subscribers that never read: what they keep of ours, and of the kernel's.

use std::io;

use super::{Bench, Samples, alone, close};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::machine::Sockets;
use crate::target::Wire;
use crate::work::Site;

/// Ours, of a subscriber that never reads.
const SILENT_MAX: f64 = 256.0;
/// Events that none of them reads: more than the kernel takes of one, and than the log keeps.
const EVENTS: u64 = 4_000;

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    let silent = bench.size(2_000) as u32;
    let all = silent + 200;
    let target = bench.engine(Wire::Sse, true, &[]);
    let (mut site, _) = bench.open(&target, &Plan::shared(all as usize, 1))?;
    // The log is full before anything is read off, so that what grows later is not the log.
    send(&mut site)?;
    site.rest(bench.time(5.0))?;
    let (memory, buffered) = (site.server.memory(), Sockets::now().buffered);
    site.clients.deafen(0..silent);
    send(&mut site)?;
    site.rest(bench.time(5.0))?;
    let ours = (site.server.memory() as f64 - memory as f64) / f64::from(silent);
    let kernel = (Sockets::now().buffered as f64 - buffered as f64) / f64::from(silent);
    site.judge()?;
    close(site)?;
    let what = format!("{silent} subscribers that never read, {EVENTS} events behind");
    out(alone(format!("{what}: ours, each, beyond a parked one"), "B", ours, Bar::AtMost(SILENT_MAX)));
    out(alone(format!("{what}: the kernel's buffers, both sides, each"), "B", kernel, Bar::None));
    Ok(())
}

/// Publishes in bursts, and waits until those who read have read.
fn send(site: &mut Site<'_>) -> io::Result<()> {
    for _ in 0..EVENTS / 16 {
        for _ in 0..16 {
            site.publish(0)?;
        }
        site.arrive()?;
    }
    Ok(())
}
