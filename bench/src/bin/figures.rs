//! The table of figures: each row of the plan beside its floor, in one run, on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde::Serialize;
use stentor_bench::figure::{Failure, Figures, Sample, short};
use stentor_bench::machine::Machine;
use stentor_bench::rows::{Bench, ROWS};
use stentor_bench::{floor, stentor};

/// Measures Stentor beside the barest programs that do the same work.
#[derive(Debug, Parser)]
#[command(after_help = rows())]
struct Options {
    /// How often each row is measured; the table has the medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these rows, split at commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Not these rows, split at commas.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
    /// Most subscribers of a row: 10 KB of memory each.
    #[arg(long, default_value_t = 1_000_000)]
    connections: usize,
    /// One run of small sizes, in about two minutes: to see that everything works, not to quote.
    #[arg(long)]
    quick: bool,
    /// The binary under test, if not the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Writes all values of all runs here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Puts the table into this file, between the lines `<!-- figures -->` and `<!-- figures end -->`.
    #[arg(long)]
    into: Option<PathBuf>,
    /// Another word than `figures` in those lines, for a file with several tables.
    #[arg(long, default_value = "figures")]
    mark: String,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: String,
    runs: usize,
    #[serde(flatten)]
    figures: &'a Figures,
}

fn main() -> ExitCode {
    floor::serve_if_asked();
    let mut options = Options::parse();
    if options.quick {
        options.runs = options.runs.min(1);
        options.connections = options.connections.min(20_000);
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is met.
fn run(options: &Options) -> io::Result<bool> {
    for name in options.only.iter().chain(&options.skip) {
        if !ROWS.iter().any(|row| row.name == name) {
            return Err(io::Error::other(format!("there is no row {name:?}; --help names them")));
        }
    }
    let bench = Bench {
        program: options.program.clone().map_or_else(stentor::program, Ok)?,
        floor_program: floor::this_program()?,
        connections: options.connections.max(100),
        is_quick: options.quick,
    };
    let is_wanted = |name: &str| {
        let named = |names: &[String]| names.iter().any(|other| other == name);
        (options.only.is_empty() || named(&options.only)) && !named(&options.skip)
    };
    // Before this thread is bound to a core, which the machine would then seem to consist of.
    let machine = Machine::this();
    let started = Instant::now();
    let mut figures = Figures::default();
    for row in ROWS.iter().filter(|row| is_wanted(row.name)) {
        for run in 1..=options.runs {
            eprintln!("{} (run {run}, {:.0?}): {}", row.name, started.elapsed(), row.about);
            let done = (row.run)(&bench, &mut |sample| {
                eprintln!("  {}", told(&sample));
                figures.add(row.name, sample);
            });
            if let Err(error) = done {
                eprintln!("  failed: {error}");
                figures.failures.push(Failure { row: row.name, run, why: error.to_string() });
            }
        }
        // A long measurement that is stopped has told what it knows.
        write(&machine, options, &figures)?;
    }
    println!("{}", section(&machine, options, &figures));
    Ok(figures.are_met())
}

fn told(sample: &Sample) -> String {
    let Sample { what, unit, engine, floor, .. } = sample;
    let floor = floor.filter(|&floor| floor != 0.0).map_or_else(String::new, |floor| {
        format!("; floor {} {unit}, ratio {:.2}", short(floor), engine / floor)
    });
    format!("{what}: {} {unit}{floor}", short(*engine))
}

fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p stentor-bench --bin figures -- {}", arguments.join(" "))
}

fn section(machine: &Machine, options: &Options, figures: &Figures) -> String {
    let runs = options.runs;
    let of = if runs == 1 { "one run".to_owned() } else { format!("medians of {runs} runs") };
    format!("{machine}; {of}.\n\n```sh\n{}\n```\n\n{}", command(), figures.table())
}

fn write(machine: &Machine, options: &Options, figures: &Figures) -> io::Result<()> {
    if let Some(path) = &options.json {
        let report = Report { machine, command: command(), runs: options.runs, figures };
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &options.into {
        put(path, &options.mark, &section(machine, options, figures))?;
    }
    Ok(())
}

fn put(path: &Path, mark: &str, section: &str) -> io::Result<()> {
    let (begin, end) = (format!("<!-- {mark} -->"), format!("<!-- {mark} end -->"));
    let text = std::fs::read_to_string(path)?;
    let missing = || io::Error::other(format!("{} has no lines {begin} and {end}", path.display()));
    let start = text.find(&begin).ok_or_else(missing)? + begin.len();
    let end = start + text[start..].find(&end).ok_or_else(missing)?;
    std::fs::write(path, format!("{}\n{section}\n{}", &text[..start], &text[end..]))
}

fn rows() -> String {
    let lines: Vec<String> = ROWS.iter().map(|row| format!("  {:<12} {}", row.name, row.about)).collect();
    format!("Rows:\n{}", lines.join("\n"))
}
