//! Measures the floors alone: what the barest servers need for the work that every server here is given.
//!
//! `cargo run --release -p stentor-bench --bin floor`

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use stentor_bench::figure::median;
use stentor_bench::floor::{self, Kind};
use stentor_bench::machine::Machine;
use stentor_bench::network;
use stentor_bench::target::{Target, Wire};
use stentor_bench::work::{Connected, Site};

/// Events in flight: one shows what a send costs, many what joining them saves.
const IN_FLIGHT: [usize; 4] = [1, 4, 16, 64];

/// What the barest servers need for the work that Stentor does: the floors of its figures.
#[derive(Debug, Parser)]
struct Options {
    /// Subscribers of one topic.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Bytes of an event's data.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Seconds for each number of events in flight.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runs, each with a new process; the median of each figure counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these floors.
    #[arg(long = "kind", value_enum)]
    kinds: Vec<Kind>,
    /// WebSocket in place of Server-Sent Events.
    #[arg(long)]
    websocket: bool,
}

fn main() -> ExitCode {
    floor::serve_if_asked();
    match measure(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for each floor; false if any has failed.
fn measure(options: &Options) -> io::Result<bool> {
    let Options { connections, bytes, seconds, runs, .. } = *options;
    println!("{}", Machine::this());
    println!(
        "{connections} subscribers, {bytes} bytes an event, {seconds} s a figure, median of {runs} runs"
    );
    println!(
        "{:<26} {:>10} {:>11} {:>9}   deliveries in a second of the server's processor time, in flight:",
        "floor", "connects/s", "CPU/connect", "memory"
    );
    println!(
        "{:>58} {:>11} {:>11} {:>11} {:>11}",
        "", IN_FLIGHT[0], IN_FLIGHT[1], IN_FLIGHT[2], IN_FLIGHT[3]
    );
    let wire = if options.websocket { Wire::WebSocket } else { Wire::Sse };
    let kinds = if options.kinds.is_empty() { &Kind::ALL[..] } else { &options.kinds };
    let mut is_clean = true;
    for &kind in kinds {
        let target = floor::target(kind, wire, floor::this_program()?);
        match measure_one(&target, options) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                println!("{:<26} {error}", target.name);
                is_clean = false;
            }
        }
    }
    Ok(is_clean)
}

fn measure_one(target: &Target, options: &Options) -> io::Result<String> {
    let connections = options.connections.min(target.connections_max);
    let mut connects = Vec::new();
    let mut deliveries = vec![Vec::new(); IN_FLIGHT.len()];
    for _ in 0..options.runs.max(1) {
        // Nothing of the run before is left in a new one.
        network::enter(connections)?;
        let (mut site, connected) = Site::open(target, connections, 1, options.bytes)?;
        connects.push(connected);
        for (figures, in_flight) in deliveries.iter_mut().zip(IN_FLIGHT) {
            figures.push(site.deliver(in_flight, Duration::from_secs_f64(options.seconds))?.a_cpu_second);
        }
        site.close()?;
    }
    let of = |figure: fn(&Connected) -> f64| median(connects.iter().map(figure)).unwrap_or_default();
    let mut line = format!(
        "{:<26} {:>10.0} {:>8.2} us {:>7.0} B",
        target.name,
        of(|connected| connected.a_second),
        of(|connected| connected.cpu),
        of(|connected| connected.memory),
    );
    for figures in deliveries {
        line += &format!(" {:>11.0}", median(figures).unwrap_or_default());
    }
    if connections < options.connections {
        line += &format!("   ({connections} subscribers: it has a descriptor for each)");
    }
    Ok(line)
}
