//! Subscribing over Server-Sent Events, and upgrading to WebSocket.

use std::io;

use super::{Bench, EPOLL_CONNECTIONS, Samples, beside, close, suffix, wire_name};
use crate::clients::Plan;
use crate::figure::Bar;
use crate::floor::Kind;
use crate::target::{Target, Wire};
use crate::work::Connected;

/// Of the processor time that a monoio task spends on it.
const TIMES_MAX: f64 = 1.15;
/// How often all connect.
const ROUNDS: u32 = 5;

pub(super) fn run(bench: &Bench, out: &mut Samples<'_>) -> io::Result<()> {
    measure(bench, true, out)
}

pub(super) fn measure(bench: &Bench, io_uring: bool, out: &mut Samples<'_>) -> io::Result<()> {
    // The floor needs a descriptor for each, as epoll does.
    let count = bench.size(EPOLL_CONNECTIONS);
    for wire in [Wire::Sse, Wire::WebSocket] {
        let floor = connect(bench, &bench.floor(Kind::Monoio, wire), count)?;
        let engine = connect(bench, &bench.engine(wire, io_uring, &[]), count)?;
        let (is, wire) = (suffix(io_uring), wire_name(wire));
        let what = format!("server's CPU a connection, {wire}, {count}{is}");
        out(beside(what, "us", engine.cpu, floor.cpu, Bar::TimesAtMost(TIMES_MAX)));
        let what = format!("subscriber's CPU a connection, {wire}, {count}{is}");
        out(beside(what, "us", engine.subscriber_cpu, floor.subscriber_cpu, Bar::None));
        let what = format!("connections a second, {wire}, {count}{is}");
        out(beside(what, "1/s", engine.a_second, floor.a_second, Bar::None));
    }
    Ok(())
}

/// Means of several rounds: one takes half a second, in which a neighbour's work is a tenth of the figure.
fn connect(bench: &Bench, target: &Target, count: usize) -> io::Result<Connected> {
    let (mut site, mut mean) = bench.open(target, &Plan::shared(count, 1))?;
    for round in 2..=ROUNDS {
        let next = site.connect_again()?;
        let add = |mean: &mut f64, next: f64| *mean += (next - *mean) / f64::from(round);
        add(&mut mean.cpu, next.cpu);
        add(&mut mean.subscriber_cpu, next.subscriber_cpu);
        add(&mut mean.a_second, next.a_second);
    }
    close(site)?;
    Ok(mean)
}
