//! Measures Stentor beside servers that a user could pick instead: the same subscribers, the same work, one
//! core each.
//!
//! ```sh
//! cargo run --release -p stentor-bench --bin compare
//! ```
//!
//! Installs and builds what is missing first. Then it moves into a network of its own, so that nothing that
//! it sends can reach another machine. Rounds go over all servers in turn: what the machine does meanwhile
//! falls on all of them.

mod measure;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use stentor_bench::machine::Machine;
use stentor_bench::peers::{self, Peer};
use stentor_bench::target::Target;
use stentor_bench::{floor, network};

use measure::{Measured, Work};

/// Measures Stentor beside servers that a user could pick instead.
#[derive(Debug, Parser)]
struct Options {
    /// Subscribers, all of one topic. Servers that spend a descriptor on each may hold fewer.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Bytes of an event's data.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(40..=60_000))]
    bytes: u32,
    /// Servers whose name contains this; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How long each figure is taken.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often everything is done; the tables have medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Writes all rounds here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Puts the table into this file, between the lines `<!-- comparison -->` and `<!-- comparison end -->`.
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Draws compare-deliveries.svg and compare-memory.svg in this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Names the servers, and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    floor::serve_if_asked();
    let options = Options::parse();
    if options.list {
        peers::ALL.iter().for_each(|peer| println!("{}", peer.name));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether every run was clean.
fn run(options: &Options) -> Result<bool, String> {
    peers::raise_descriptors().map_err(|error| format!("cannot raise the limit of descriptors: {error}"))?;
    let (targets, missing) = prepare(options)?;
    // Before this thread is bound to one of its cores.
    let machine = Machine::this();
    network::enter(options.connections).map_err(|error| format!("cannot make a network: {error}"))?;

    let mut measured: Vec<Measured> =
        targets.iter().map(|(name, target)| Measured::new(name, target)).collect();
    for round in 1..=options.rounds {
        for (measured, (name, target)) in measured.iter_mut().zip(&targets) {
            eprintln!("── round {round} of {}: {name}", options.rounds);
            let work = Work {
                connections: options.connections.min(target.connections_max),
                bytes: options.bytes as usize,
                time: Duration::from_secs_f64(options.seconds),
            };
            measured.rounds.push(work.measure(target));
        }
    }
    let report = report::Report {
        machine,
        command: std::env::args().skip(1).collect(),
        connections: options.connections,
        bytes: options.bytes as usize,
        measured,
        missing,
    };
    print!("{report}");
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &options.into {
        put_into(path, &report.to_string())?;
    }
    if let Some(folder) = &options.plots {
        for (name, svg) in [
            ("compare-deliveries.svg", report.deliveries_plot()),
            ("compare-memory.svg", report.memory_plot()),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(report.is_clean())
}

/// Replaces what stands between the marks of a file.
fn put_into(path: &Path, text: &str) -> Result<(), String> {
    const BEGIN: &str = "<!-- comparison -->\n";
    const END: &str = "<!-- comparison end -->";
    let was = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let marks = was.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = marks.ok_or_else(|| format!("{}: there are no marks", path.display()))?;
    std::fs::write(path, format!("{head}{BEGIN}\n{text}\n{END}{tail}"))
        .map_err(|error| format!("{}: {error}", path.display()))
}

type Targets = Vec<(&'static str, Target)>;

/// The servers that were asked for and can be had, and why the others cannot.
fn prepare(options: &Options) -> Result<(Targets, Vec<String>), String> {
    let is_asked = |peer: &&Peer| {
        options.only.is_empty() || options.only.iter().any(|part| peer.name.contains(part.as_str()))
    };
    let asked: Vec<&Peer> = peers::ALL.iter().filter(is_asked).collect();
    if asked.is_empty() {
        return Err(format!("no server is called {}; --list names them", options.only.join(" or ")));
    }
    let (mut targets, mut missing) = (Vec::new(), Vec::new());
    for peer in asked {
        match peer.prepare() {
            Ok(target) => targets.push((peer.name, target)),
            Err(reason) => {
                eprintln!("── {} is left out: {reason}", peer.name);
                missing.push(format!("{}: {reason}", peer.name));
            }
        }
    }
    Ok((targets, missing))
}
