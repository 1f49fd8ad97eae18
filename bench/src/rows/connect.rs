//! Subscribing over Server-Sent Events, and upgrading to WebSocket.

use std::io;

use super::{Bench, EPOLL_CONNECTIONS, Samples, beside, close, suffix, wire_name};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor::Kind;
use crate::target::Wire;

/// Of the processor time that a monoio task spends on it.
const TIMES_MAX: f64 = 1.15;

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    measure(bench, true, out)
}

pub(super) fn measure(bench: &Bench, io_uring: bool, out: &mut Samples<'_>) -> io::Result<()> {
    // The floor needs a descriptor for each, as epoll does.
    let count = bench.size(EPOLL_CONNECTIONS);
    for wire in [Wire::Sse, Wire::WebSocket] {
        let target = bench.floor(Kind::Monoio, wire);
        let (site, floor) = bench.open(&target, &Plan::shared(count, 1))?;
        close(site)?;
        let target = bench.engine(wire, io_uring, &[]);
        let (site, engine) = bench.open(&target, &Plan::shared(count, 1))?;
        close(site)?;
        let (is, wire) = (suffix(io_uring), wire_name(wire));
        let what = format!("server's CPU a connection, {wire}, {count}{is}");
        out(beside(what, "us", engine.cpu, floor.cpu, Bar::TimesAtMost(TIMES_MAX)));
        let what = format!("connections a second, {wire}, {count}{is}");
        out(beside(what, "1/s", engine.a_second, floor.a_second, Bar::None));
    }
    Ok(())
}
