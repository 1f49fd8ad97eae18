//! The harness in its small form: every scenario against the real server, with 20,000 subscribers; and what
//! is left of a run that is killed.
//!
//! Nothing here is judged by its speed: what is judged is that every subscriber got what it should.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use stentor_bench::c10m::report::Report;
use stentor_bench::machine;

const SUBSCRIBERS: u64 = 20_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Settings of the machine that a run may change.
const KEYS: [&str; 3] = ["net/ipv4/tcp_mem", "net/core/netdev_max_backlog", "fs/file-max"];

/// The harness refuses to run twice at once: its tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The harness, with the server beside it.
fn c10m() -> Command {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "stentor-server"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo starts").success(), "the server is built");
    });
    Command::new(env!("CARGO_BIN_EXE_c10m"))
}

fn json(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("stentor-c10m-test-{}-{name}.json", std::process::id()))
}

/// Runs a scenario; answers its report, in which nothing went wrong.
fn run(scenario: &str, more: &[&str]) -> Report {
    run_with(scenario, SUBSCRIBERS, more)
}

fn run_with(scenario: &str, subscribers: u64, more: &[&str]) -> Report {
    let file = json(scenario);
    let ended = c10m()
        .args([scenario, "-n", &subscribers.to_string(), "--control", "500", "--memory-left", "256"])
        .args(["--time", "240", "--json"])
        .arg(&file)
        .args(more)
        .output()
        .expect("the harness starts");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    let report = fs::read(&file).unwrap_or_else(|_| panic!("{scenario} wrote no report: {text}{error}"));
    let report: Report = serde_json::from_slice(&report).expect("the report can be read again");
    let _ = fs::remove_file(&file);
    assert_eq!(report.failure, None, "{text}{error}");
    assert!(report.judgement.is_clean(), "{text}{error}");
    // Where ghosts may not be had these are kernel sockets, and the report says so.
    println!("{text}");
    report
}

fn value(report: &Report, name: &str) -> f64 {
    let figure = report.figures.iter().find(|figure| figure.name == name);
    figure.unwrap_or_else(|| panic!("{name} is missing: {}", report.text())).value
}

#[test]
fn every_scenario_loses_nothing() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let all = SUBSCRIBERS as f64;

    let report = run("idle", &["--hold", "2", "--transport", "websocket"]);
    assert!(value(&report, "still connected") >= all);

    let report = run_with("idle", 2_000, &["--hold", "2", "--client", "kernel", "--transport", "stream"]);
    assert!(value(&report, "still connected") >= 2_000.0);

    let report = run("fanout", &["--events", "2"]);
    assert_eq!(report.judgement.events, 2 * SUBSCRIBERS);
    let beside = report.figures.iter().find(|figure| figure.name.starts_with("deliveries a CPU second, of "));
    assert!(beside.is_some_and(|figure| figure.value > 0.0), "{}", report.text());

    let report = run("fanout", &["--events", "2", "--topics", "100", "--transport", "websocket"]);
    assert_eq!(report.judgement.events, 2 * SUBSCRIBERS);

    let report =
        run("steady", &["--period", "2", "--duration", "2", "--subscribers", "100", "--transport", "stream"]);
    assert_eq!(report.judgement.events, SUBSCRIBERS);

    let report = run("storm", &["--subscribers", "1000"]);
    assert!(value(&report, "back") >= all);
    assert!(report.judgement.events >= SUBSCRIBERS);

    let report = run("slow", &["--events", "2"]);
    // Before, and by those that still read.
    assert!(report.judgement.events >= 2 * SUBSCRIBERS + 2 * SUBSCRIBERS * 9 / 10, "{:?}", report.judgement);

    let report = run("churn", &["--duration", "2", "--rate", "2000", "--transport", "long-poll"]);
    assert!(value(&report, "left and joined") > 100.0);

    let report = run("ramp", &["--step", "10000", "--p99", "60000"]);
    assert!(value(&report, "connections held") >= all);
}

#[test]
fn a_network_that_loses_and_delays_loses_no_event() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let impaired = ["--events", "2", "--loss", "0.01", "--delay", "5", "--reorder", "0.01", "--no-floor"];
    let report = run_with("fanout", 500, &impaired);
    assert_eq!(report.judgement.events, 2 * 500);
}

fn settings() -> Vec<Option<String>> {
    KEYS.iter().map(|key| fs::read_to_string(format!("/proc/sys/{key}")).ok()).collect()
}

/// A run that holds its connections; ended when it is dropped.
struct Held {
    run: Child,
    server: u32,
}

impl Held {
    /// Starts it, and waits until it is in the middle of things.
    fn start() -> Self {
        let run = c10m()
            .args(["idle", "-n", "2000", "--control", "100", "--memory-left", "256", "--hold", "120"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the harness starts");
        let mut held = Self { run, server: 0 };
        let children = format!("/proc/{0}/task/{0}/children", held.run.id());
        let started = Instant::now();
        while held.server == 0 {
            assert!(started.elapsed() < WAIT_MAX, "the server does not start");
            thread::sleep(Duration::from_millis(20));
            let text = fs::read_to_string(&children).unwrap_or_default();
            held.server = text.trim().parse().unwrap_or(0);
        }
        thread::sleep(Duration::from_secs(2));
        assert!(held.run.try_wait().expect("it is ours").is_none(), "the run has ended by itself");
        held
    }

    fn end(&mut self, signal: &str) {
        let told = Command::new("kill").args(["-s", signal, &self.run.id().to_string()]).status();
        assert!(told.expect("kill starts").success(), "the run is signalled");
        self.run.wait().expect("it is ours");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.run.kill();
        let _ = self.run.wait();
    }
}

fn gone(process: u32) {
    let started = Instant::now();
    while machine::is_alive(process) {
        assert!(started.elapsed() < WAIT_MAX, "the server outlives its run");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether any process is in the network namespace.
fn is_used(namespace: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc is there");
    processes
        .flatten()
        .any(|entry| fs::read_link(entry.path().join("ns/net")).is_ok_and(|it| it == namespace))
}

#[test]
fn a_run_that_is_ended_leaves_nothing_behind() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let doctor = || c10m().arg("doctor").output().expect("the harness starts");
    doctor();
    let before = settings();
    for signal in ["KILL", "INT"] {
        let mut held = Held::start();
        let server = held.server;
        let namespace = fs::read_link(format!("/proc/{server}/ns/net")).expect("the server lives");
        let is_own = fs::read_link("/proc/self/ns/net").expect("this process lives") != namespace;
        held.end(signal);
        gone(server);
        assert!(!is_own || !is_used(&namespace), "the namespace has a process still");
        if signal == "KILL" {
            // Only the next start can put back what is not a namespace's.
            doctor();
        }
        assert_eq!(settings(), before, "after signal {signal}");
    }
}
