//! `c10m`: millions of real connections to a real server, on one machine, in a network of their own.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use stentor_bench::c10m::crowd::Cast;
use stentor_bench::c10m::report::{Bar, Report, compare};
use stentor_bench::c10m::run::{Run, Settings};
use stentor_bench::c10m::{doctor, guard, html, scenario, settings};
use stentor_bench::floor::{self, Kind};
use stentor_bench::ghost::{Impairments, Leaving, Options, Pair};
use stentor_bench::judge::Judgement;
use stentor_bench::machine::{self, Machine};
use stentor_bench::target::{Target, Wire};
use stentor_bench::{network, peers, stentor};

/// What the engine must reach of the barest loop's deliveries, in processor time.
const OF_FLOOR: f64 = 0.85;
/// Sockets that a server may leave behind for a moment, and how long the kernel may take for the others.
const SOCKETS_BESIDE: u64 = 500;
const GONE_MAX: Duration = Duration::from_secs(60);

/// Holds millions of real connections to a push server, on one machine, and measures what it does with them.
///
/// Everything happens in a network namespace of its own, which ends with the run. `c10m doctor` says what
/// this machine allows; `--plan` says what a run would set and need.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect, hold, be silent: memory and processor time of a connection.
    Idle {
        #[command(flatten)]
        common: Common,
        /// Seconds to hold them; heartbeats come every 25.
        #[arg(long, default_value_t = 30)]
        hold: u64,
    },
    /// Events to everybody, one after the other.
    Fanout {
        #[command(flatten)]
        common: Common,
        /// Events to each topic.
        #[arg(long, default_value_t = 5)]
        events: u32,
        /// Topics that the subscribers are dealt out to.
        #[arg(long, default_value_t = 1)]
        topics: u32,
        /// Do not run the barest loop before it and after it, for the ratio.
        #[arg(long)]
        no_floor: bool,
    },
    /// Every subscriber gets an event a minute, spread evenly.
    Steady {
        #[command(flatten)]
        common: Common,
        /// Subscribers of a topic.
        #[arg(long, default_value_t = 10)]
        subscribers: u32,
        /// Seconds in which each subscriber gets one event.
        #[arg(long, default_value_t = 60)]
        period: u64,
        /// Seconds that it goes on.
        #[arg(long, default_value_t = 60)]
        duration: u64,
    },
    /// Everybody drops and comes back with cursors, while publishing goes on.
    Storm {
        #[command(flatten)]
        common: Common,
        /// Share that drops, 0 to 1.
        #[arg(long, default_value_t = 1.0)]
        share: f64,
        /// Without a word: no FIN, no RST.
        #[arg(long)]
        vanish: bool,
        /// Publishes a second meanwhile.
        #[arg(long, default_value_t = 20.0)]
        rate: f64,
        /// Subscribers of a topic.
        #[arg(long, default_value_t = 1_000)]
        subscribers: u32,
    },
    /// A share stops reading while events go to everybody.
    Slow {
        #[command(flatten)]
        common: Common,
        /// Share that stops, 0 to 1.
        #[arg(long, default_value_t = 0.1)]
        share: f64,
        /// Events before, and after.
        #[arg(long, default_value_t = 5)]
        events: u32,
    },
    /// Some leave and others join at a rate, while publishing goes on.
    Churn {
        #[command(flatten)]
        common: Common,
        /// Subscribers that leave and join in a second.
        #[arg(long, default_value_t = 10_000.0)]
        rate: f64,
        /// Seconds that it goes on.
        #[arg(long, default_value_t = 20)]
        duration: u64,
        /// Subscribers of a topic.
        #[arg(long, default_value_t = 1_000)]
        subscribers: u32,
    },
    /// Grow until memory or waiting ends it: how many does this machine hold?
    Ramp {
        #[command(flatten)]
        common: Common,
        /// Connections a step.
        #[arg(long, default_value_t = 100_000)]
        step: usize,
        /// Most milliseconds that the 99th percentile of an event to the control group may take.
        #[arg(long, default_value_t = 100)]
        p99: u64,
    },
    /// Says what this machine allows, and how to allow more. Puts back what a run that was killed has left.
    Doctor {
        /// Connections that are wanted.
        #[arg(long, default_value_t = 1_000_000)]
        connections: usize,
    },
    /// Two runs beside each other.
    Compare {
        /// What `--json` wrote.
        a: PathBuf,
        /// What `--json` wrote.
        b: PathBuf,
    },
}

#[derive(Debug, Clone, Args)]
struct Common {
    /// Subscribers in all, the control group among them.
    #[arg(long, short = 'n', default_value_t = 1_000_000)]
    connections: usize,
    /// What the subscribers speak.
    #[arg(long, value_enum, default_value_t = Transport::Sse)]
    transport: Transport,
    /// What the subscribers are; ghosts if it is not said, and kernel sockets where those may not be had.
    #[arg(long, value_enum)]
    client: Option<Client>,
    /// Kernel sockets beside the ghosts.
    #[arg(long, default_value_t = 2_000)]
    control: usize,
    /// The server: `stentor`, `ring` (the barest loop that does the same), one of those that `compare` knows
    /// (`nchan`, `axum`, `ws`, ...), or a file `.toml` that describes another.
    #[arg(long, default_value = "stentor")]
    target: String,
    /// Shards of the server; it is bound to one core.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// A key of the server's, as its `--set` takes it.
    #[arg(long)]
    set: Vec<String>,
    /// Bytes of an event's data.
    #[arg(long, default_value_t = 512)]
    event_bytes: usize,
    /// MiB of the packet ring; 0 for what a burst to everybody needs, up to 1,024.
    #[arg(long, default_value_t = 0)]
    ring_mb: usize,
    /// Milliseconds that the ghosts' acknowledgements wait; 0 for none.
    #[arg(long, default_value_t = 0)]
    delayed_ack: u32,
    /// Milliseconds that a packet takes to the ghosts, and from them.
    #[arg(long, default_value_t = 0)]
    delay: u32,
    /// Share of the ghosts' packets that are lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Share of the ghosts' packets that come late, 0 to 1; with `--delay`.
    #[arg(long, default_value_t = 0.0)]
    reorder: f64,
    /// MiB of memory that are left to the machine.
    #[arg(long, default_value_t = guard::LEFT >> 20)]
    memory_left: u64,
    /// Seconds after which the run ends, done or not.
    #[arg(long, default_value_t = 900)]
    time: u64,
    /// Where the report goes, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the report goes, as a page.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Only say what would be set, and how much memory it would need.
    #[arg(long)]
    plan: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Sse,
    Websocket,
    Stream,
    LongPoll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// A TCP of the harness's own, for millions: needs root or user namespaces.
    Ghost,
    /// Kernel sockets: twice the memory.
    Kernel,
}

fn main() -> ExitCode {
    floor::serve_if_asked();
    match act(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("c10m: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: &Command) -> io::Result<bool> {
    let (name, common, topics): (_, _, Box<dyn Fn(usize) -> u32>) = match command {
        Command::Doctor { connections } => {
            print!("{}", doctor::examine(*connections)?);
            return Ok(true);
        }
        Command::Compare { a, b } => {
            print!("{}", compare(&read(a)?, &read(b)?));
            return Ok(true);
        }
        Command::Idle { common, .. } => ("idle", common, Box::new(|_| 1)),
        Command::Fanout { common, topics, .. } => ("fanout", common, Box::new(|_| *topics)),
        Command::Slow { common, .. } => ("slow", common, Box::new(|_| 1)),
        Command::Ramp { common, .. } => ("ramp", common, Box::new(|_| 1)),
        Command::Steady { common, subscribers, .. } => ("steady", common, dealt(*subscribers)),
        Command::Storm { common, subscribers, .. } => ("storm", common, dealt(*subscribers)),
        Command::Churn { common, subscribers, .. } => ("churn", common, dealt(*subscribers)),
    };
    if common.plan {
        let with_ghosts = common.client != Some(Client::Kernel);
        print!("{}", doctor::plan(common.connections, with_ghosts, ring_bytes(common)));
        return Ok(true);
    }
    let targets = targets(command, common, topics(common.connections))?;
    let mut report = blank(name, &targets.measured);
    let outcome = measure(command, common, &targets, topics(common.connections), &mut report);
    if let Err(error) = outcome {
        report.failure = Some(error.to_string());
    }
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    print!("{}", report.text());
    if let Some(path) = &common.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &common.html {
        std::fs::write(path, html::page(&report))?;
    }
    Ok(report.is_good())
}

fn dealt(subscribers: u32) -> Box<dyn Fn(usize) -> u32> {
    Box::new(move |connections| (connections as u32 / subscribers.max(1)).max(1))
}

fn read(path: &Path) -> io::Result<Report> {
    let text = std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(serde_json::from_slice(&text)?)
}

fn ring_bytes(common: &Common) -> usize {
    match common.ring_mb {
        // One event to everybody: a frame with its place in a block is some 200 bytes and the data.
        0 => (common.connections * (common.event_bytes + 300)).clamp(16 << 20, 1 << 30),
        mb => mb << 20,
    }
}

fn blank(name: &str, target: &Target) -> Report {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let command: Vec<String> = std::env::args().skip(1).collect();
    Report {
        scenario: name.to_owned(),
        command: format!("c10m {}", command.join(" ")),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.as_secs(),
        machine: Machine::this().to_string(),
        target: target.name.clone(),
        honesty: Vec::new(),
        client_limited: Vec::new(),
        figures: Vec::new(),
        samples: Vec::new(),
        judgement: Judgement::default(),
        failure: None,
    }
}

/// The servers of a run.
struct Targets {
    measured: Target,
    /// Whether it is Stentor, of which something was promised.
    is_ours: bool,
    /// The barest loop, where what it does in the same minute is to stand beside.
    floor: Option<Target>,
}

/// Finds the servers, or installs them: from here on there is no network to do it with.
fn targets(command: &Command, common: &Common, topics: u32) -> io::Result<Targets> {
    let wire = match common.transport {
        Transport::Sse => Wire::Sse,
        Transport::Websocket => Wire::WebSocket,
        Transport::Stream => Wire::Stream,
        Transport::LongPoll => Wire::LongPoll,
    };
    let ring = || Ok::<_, io::Error>(floor::target(Kind::Ring, wire, floor::this_program()?));
    let is_ours = common.target == "stentor";
    let measured = match &*common.target {
        "ring" => ring()?,
        "stentor" => {
            let mut set = vec!["limits.connections_per_address=10000000".to_owned()];
            // A topic that is forgotten while its subscribers are away would be a gap that is no fault.
            set.push(format!("retention.topics={}", (2 * topics).max(1_000_000)));
            set.extend(common.set.iter().cloned());
            let (shards, program) = (common.shards, stentor::program()?);
            stentor::target(&stentor::Options { program, wire, shards, io_uring: true, set })
        }
        name => peers::named(name, wire).map_err(io::Error::other)?,
    };
    let wrong = if common.connections > measured.connections_max {
        format!("{} holds at most {} connections here", measured.name, measured.connections_max)
    } else if topics > 1 && !measured.has_topics {
        format!("{} has one topic, and {topics} are wanted", measured.name)
    } else if matches!(command, Command::Storm { .. } | Command::Churn { .. })
        && (measured.subscribe.again.is_none() || wire == Wire::WebSocket)
    {
        // Plain messages carry none.
        format!("{} gives no cursors to come back with", measured.name)
    } else {
        String::new()
    };
    if !wrong.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    let is_beside = matches!(command, Command::Fanout { topics: 1, no_floor: false, .. })
        && common.target != "ring"
        && matches!(wire, Wire::Sse | Wire::WebSocket);
    Ok(Targets { measured, is_ours, floor: if is_beside { Some(ring()?) } else { None } })
}

fn measure(
    command: &Command,
    common: &Common,
    targets: &Targets,
    topics: u32,
    report: &mut Report,
) -> io::Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    guard::check(common.memory_left << 20)?;
    let _changed = settings::Changed::make(common.connections)?;
    let pair = network(common, report)?;
    let sockets = match &pair {
        Some(_) => common.control.min(common.connections),
        None => common.connections,
    };
    let settings = Settings {
        event_bytes: common.event_bytes,
        memory_left: common.memory_left << 20,
        time: Duration::from_secs(common.time),
        is_quiet: false,
        is_interrupted: interrupted,
    };
    let one = |target: &Target, report: &mut Report| {
        let cast = Cast {
            ghosts: common.connections - sockets,
            sockets,
            topics,
            // Nobody else must hear what it is asked with.
            is_apart: matches!(command, Command::Ramp { .. })
                && target.has_topics
                && (1..common.connections).contains(&sockets),
        };
        let options = Options {
            port: target.port,
            count: 0,
            ring_bytes: ring_bytes(common),
            delayed_ack_ms: common.delayed_ack,
            impairments: Impairments { delay_ms: common.delay, loss: common.loss, reordered: common.reorder },
        };
        let pair = pair.as_ref().map(|pair| (pair, &options));
        let mut run = Run::start(target, pair, cast, &settings, report)?;
        let outcome = act_out(command, &mut run, targets.is_ours);
        run.honesty();
        outcome.and_then(|()| scenario::leave(&mut run))
    };
    let Some(floor) = &targets.floor else { return one(&targets.measured, report) };
    let sockets_before = machine::Sockets::now().allocated;
    let gone = || machine::sockets_are_gone(sockets_before + SOCKETS_BESIDE, GONE_MAX);
    let below = |report: &mut Report| {
        let mut below = blank(&report.scenario, floor);
        one(floor, &mut below)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", floor.name)))?;
        if below.judgement.is_bad() {
            return Err(io::Error::other(format!("{} did not do its work: {}", floor.name, below.text())));
        }
        let limited = below.client_limited.iter().map(|why| format!("{}: {why}", floor.name));
        report.client_limited.extend(limited);
        gone()?;
        Ok(below)
    };
    // Before and after: what the first leaves warm, or worn, is there for the second.
    let before = below(report)?;
    one(&targets.measured, report)?;
    gone()?;
    let after = below(report)?;
    report.stand_beside(&before.mean(&after), targets.is_ours.then_some(Bar::AtLeast(OF_FLOOR)));
    Ok(())
}

/// A network of the run's own, with a pair of devices if there are to be ghosts.
fn network(common: &Common, report: &mut Report) -> io::Result<Option<Pair>> {
    let has_network = network::enter(common.connections);
    let pair = match (common.client, &has_network) {
        (Some(Client::Kernel), _) => None,
        (_, Ok(())) => Some(Pair::make()),
        (_, Err(error)) => Some(Err(io::Error::new(error.kind(), format!("no network namespace: {error}")))),
    };
    let pair = match (common.client, pair.transpose()) {
        (None, Err(error)) => {
            report.honesty.push(format!("kernel sockets, as ghosts may not be had here ({error})"));
            None
        }
        (_, pair) => pair?,
    };
    if let Err(error) = has_network {
        report.honesty.push(format!("in the machine's own network: a namespace may not be had ({error})"));
    }
    Ok(pair)
}

fn act_out(command: &Command, run: &mut Run<'_>, promise: bool) -> io::Result<()> {
    match command {
        Command::Idle { hold, .. } => scenario::idle(run, Duration::from_secs(*hold), promise),
        Command::Fanout { events, .. } => scenario::fanout(run, *events),
        Command::Steady { period, duration, .. } => {
            scenario::steady(run, Duration::from_secs(*period), Duration::from_secs(*duration))
        }
        Command::Storm { share, vanish, rate, .. } => {
            let how = if *vanish { Leaving::Vanish } else { Leaving::Reset };
            scenario::storm(run, *share, how, *rate)
        }
        Command::Slow { share, events, .. } => scenario::slow(run, *share, *events),
        Command::Churn { rate, duration, .. } => scenario::churn(run, *rate, Duration::from_secs(*duration)),
        Command::Ramp { step, p99, .. } => scenario::ramp(run, *step, Duration::from_millis(*p99)),
        Command::Doctor { .. } | Command::Compare { .. } => Ok(()),
    }
}
