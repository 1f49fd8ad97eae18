//! A run: the server, the crowd and the clock, watched while they go on.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::crowd::{Cast, Crowd, Slice};
use super::guard;
use super::report::{Bar, Report, Sample, Sampler, number};
use crate::clients::Clients;
use crate::ghost::{Counts, Options, Pair};
use crate::machine::{self, Processors, Slabs};
use crate::payload::Payload;
use crate::publisher::Publisher;
use crate::target::{Running, Target};
use crate::work::{CLIENT_CORE, SERVER_CORE};

/// What every run is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of an event's data.
    pub event_bytes: usize,
    /// Bytes of memory that are left to the machine.
    pub memory_left: u64,
    /// Longest time that a run may take.
    pub time: Duration,
    /// Whether progress is told on the terminal.
    pub is_quiet: bool,
    /// Set by Ctrl-C.
    pub is_interrupted: Arc<AtomicBool>,
}

/// A run.
pub struct Run<'a> {
    /// The server under test.
    pub server: Running,
    /// Its subscribers.
    pub crowd: Crowd<'a>,
    publisher: Publisher<'a>,
    settings: &'a Settings,
    sampler: Sampler,
    started: Instant,
    /// Events published to each topic so far.
    published: Vec<u32>,
    /// What is measured goes here.
    pub report: &'a mut Report,
    slabs: Slabs,
    memory: u64,
    counts_before: Counts,
}

/// What a phase has cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// How long it took.
    pub time: Duration,
    /// Processor time of the server.
    pub server: Duration,
    /// Processor time of the whole machine.
    pub machine: Duration,
}

/// The beginning of a phase.
pub struct Begun(Instant, Duration, f64);

impl<'a> Run<'a> {
    /// Starts the server. Nobody is connected yet.
    ///
    /// # Errors
    /// The server does not start, or rings may not be had.
    pub fn start(
        target: &'a Target,
        pair: Option<(&Pair, &Options)>,
        cast: Cast,
        settings: &'a Settings,
        report: &'a mut Report,
    ) -> io::Result<Self> {
        machine::pin_to(CLIENT_CORE)?;
        let server = target.start(SERVER_CORE)?;
        let publisher = Publisher::connect(&target.publish)?;
        let published = vec![0; cast.topics_in_all() as usize];
        let crowd = Crowd::new(target, pair, cast)?;
        let (slabs, memory) = (Slabs::now(), server.memory());
        Ok(Self {
            server,
            crowd,
            publisher,
            settings,
            sampler: Sampler::default(),
            started: Instant::now(),
            published,
            report,
            slabs,
            memory,
            counts_before: Counts::default(),
        })
    }

    /// A phase begins.
    pub fn begin(&self) -> Begun {
        Begun(Instant::now(), self.server.cpu(), Processors::now().used)
    }

    /// What it has cost since.
    pub fn cost(&self, Begun(at, server, machine): &Begun) -> Cost {
        Cost {
            time: at.elapsed(),
            server: self.server.cpu() - *server,
            machine: Duration::from_secs_f64((Processors::now().used - machine).max(0.0)),
        }
    }

    /// Takes turns until `until` says so, or for as long as `within`; answers whether it said so.
    ///
    /// # Errors
    /// The run was interrupted, took too long, or leaves too little memory; the server ended; a subscriber
    /// got what it should not.
    pub fn go(&mut self, within: Duration, mut until: impl FnMut(&mut Self) -> bool) -> io::Result<bool> {
        let started = Instant::now();
        loop {
            let came = self.crowd.turn()?;
            if self.sampler.is_due() {
                self.look()?;
            }
            if until(self) {
                return Ok(true);
            }
            if started.elapsed() >= within {
                return Ok(false);
            }
            if came == 0 {
                self.crowd.wait();
            }
        }
    }

    /// Goes on until `until` says so; that it does not is an error.
    ///
    /// # Errors
    /// As [`Run::go`], and `what` if it did not come to be within `within`.
    pub fn must(
        &mut self,
        what: &str,
        within: Duration,
        until: impl FnMut(&mut Self) -> bool,
    ) -> io::Result<()> {
        if self.go(within, until)? {
            Ok(())
        } else {
            Err(io::Error::other(format!("not within {within:?}: {what}")))
        }
    }

    /// Once a second: a sample, and whether the run may go on.
    fn look(&mut self) -> io::Result<()> {
        let judgement = self.crowd.judgement();
        let mut sample = self.sampler.sample(self.crowd.open(), judgement.events, &self.server);
        sample.slowest = self.crowd.take_slowest() as f64 / 1e6;
        if !self.settings.is_quiet && io::stderr().is_terminal() {
            eprint!(
                "\r\x1b[K{:6.0} s  {} connected  {} deliveries/s  server {} MiB  free {} MiB  {:.1} cores",
                sample.at,
                number(sample.connections),
                number(sample.deliveries),
                number(sample.server_memory),
                number(sample.free_memory),
                sample.machine_cpu
            );
            let _ = io::stderr().flush();
        }
        self.report.samples.push(sample);
        self.report.judgement = judgement;
        self.publisher.unanswered()?;
        self.server.check()?;
        guard::check(self.settings.memory_left)?;
        if self.settings.is_interrupted.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        if self.started.elapsed() > self.settings.time {
            return Err(io::Error::other(format!("the run took over {:?}", self.settings.time)));
        }
        if judgement.is_bad() {
            return Err(io::Error::other(format!("a subscriber got what it should not: {judgement:?}")));
        }
        Ok(())
    }

    /// Connects everybody from `from` to `to` of the crowd (shares of it), and adds what that cost to the
    /// report.
    ///
    /// # Errors
    /// As [`Run::go`]; or somebody did not get through.
    pub fn connect(&mut self, from: f64, to: f64, resumes: bool) -> io::Result<Cost> {
        let (begun, before, failed) = (self.begin(), self.crowd.open(), self.crowd.failed());
        for slice in self.crowd.slices(from, to) {
            self.crowd.connect(&slice, resumes);
            self.must("a slice of the crowd connects", Duration::from_secs(120), |run| {
                run.crowd.is_settled()
            })?;
        }
        let cost = self.cost(&begun);
        if self.crowd.failed() > failed {
            let failed = self.crowd.failed() - failed;
            return Err(io::Error::other(format!("{failed} connections were refused or never answered")));
        }
        let connected = (self.crowd.open() - before).max(1) as f64;
        self.report.figure("connections made", connected / cost.time.as_secs_f64(), "a second", None);
        self.report.figure("server CPU a connection", micros(cost.server, connected), "us", None);
        self.report.figure("machine CPU a connection", micros(cost.machine, connected), "us", None);
        Ok(cost)
    }

    /// Lets a slice leave, and waits until it is gone from this side.
    ///
    /// # Errors
    /// As [`Run::go`].
    pub fn leave(&mut self, slices: &[Slice], how: crate::ghost::Leaving) -> io::Result<()> {
        for slice in slices {
            self.crowd.leave(slice, how)?;
            self.must("a slice leaves", Duration::from_secs(60), |run| {
                run.crowd.is_settled() && run.crowd.leaving() == 0
            })?;
        }
        Ok(())
    }

    /// Memory a connection: the kernel's on the server's side, and the server's own. Bars as DESIGN has them.
    pub fn memory(&mut self, promise: bool) {
        let open = self.crowd.open().max(1) as f64;
        // A kernel socket of the control group has two ends, and both are in the kernel's accounts.
        let ends = open + self.crowd.sockets().open() as f64;
        let (kernel, caches) = Slabs::now().since(&self.slabs);
        let (kernel, ours) =
            (kernel as f64 / ends, (self.server.memory() as f64 - self.memory as f64) / open);
        let bar = |most| promise.then_some(Bar::AtMost(most));
        self.report.figure("kernel memory a connection", kernel, "bytes", bar(4_250.0));
        for (cache, bytes) in caches.into_iter().take(4) {
            self.report.figure(&format!("  of it {cache}"), bytes as f64 / ends, "bytes", None);
        }
        self.report.figure("server memory a connection", ours, "bytes", bar(100.0));
    }

    /// Publishes one event to a topic.
    ///
    /// # Errors
    /// The publisher's connection failed, or a publish was refused.
    pub fn publish(&mut self, topic: u32) -> io::Result<u64> {
        self.published[topic as usize] += 1;
        let number = u64::from(self.published[topic as usize]);
        if topic == 0 {
            self.crowd.count_anew(number);
        }
        let payload = Payload { number, sent: machine::now(), topic }.encode(self.settings.event_bytes);
        self.publisher.publish([(Clients::topic(topic).as_str(), payload)])?;
        self.publisher.unanswered()?;
        Ok(number)
    }

    /// Publishes some events to the control group's own topic, one after the other; answers the 99th
    /// percentile of the times until they came.
    ///
    /// # Errors
    /// As [`Run::go`]; or one does not come to all of them within a minute.
    pub fn probe(&mut self, events: u32, rest: Duration) -> io::Result<Duration> {
        let own = self.crowd.cast().topics;
        self.crowd.time(true);
        for _ in 0..events {
            let before = self.crowd.sockets().judgement().events;
            let hearers = self.crowd.sockets().open() as u64;
            self.publish(own)?;
            self.must("an event reaches the control group", Duration::from_secs(60), |run| {
                run.crowd.sockets().judgement().events >= before + hearers
            })?;
            self.go(rest, |_| false)?;
        }
        Ok(Duration::from_nanos(self.crowd.sockets().latency().value_at_quantile(0.99)))
    }

    /// Events that were published and have not come to everybody.
    pub fn missing(&self) -> u64 {
        self.crowd.missing(|topic| self.published[topic as usize])
    }

    /// Waits until everybody has got everything.
    ///
    /// # Errors
    /// As [`Run::go`]; or that takes longer than `within`.
    pub fn arrive(&mut self, within: Duration) -> io::Result<()> {
        // To look at everybody is dear: now and then.
        let mut looked = Instant::now();
        self.must("every event reaches every subscriber", within, |run| {
            if looked.elapsed() < Duration::from_millis(200) {
                return false;
            }
            let is_there = run.missing() == 0;
            looked = Instant::now();
            is_there
        })
    }

    /// Whoever connects from here on hears what is published from here on. Everything before has arrived.
    pub fn expect_next(&mut self) {
        self.crowd.expect(|topic| self.published[topic as usize] + 1);
    }

    /// From here on the client's own packets are counted for the next [`Run::honesty`].
    pub fn count_anew(&mut self) {
        if let Some(ghosts) = self.crowd.ghosts() {
            self.counts_before = ghosts.counts();
        }
    }

    /// Times from publish to delivery since they were last counted anew: figures of the ghosts, and the
    /// control group's beside them.
    pub fn latencies(&mut self) {
        let sockets = self.crowd.sockets().latency().clone();
        let main = self.crowd.ghosts().map_or_else(|| sockets.clone(), |ghosts| ghosts.latency().clone());
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let value = main.value_at_quantile(quantile) as f64 / 1e6;
            self.report.figure(&format!("latency {name}"), value, "ms", None);
        }
        if self.crowd.cast().ghosts > 0 && sockets.len() >= 1_000 {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let (ghost, socket) = (at(&main, quantile), at(&sockets, quantile));
                self.report.figure(&format!("latency {name}, control group"), socket, "ms", None);
                // Below a millisecond the two differ by what a thread's turn takes.
                if (ghost - socket).abs() > 0.2 * ghost.max(socket) && ghost.max(socket) > 1.0 {
                    self.report.client_limited.push(format!(
                        "the {name} of the control group is {} ms, the ghosts' {} ms",
                        number(socket),
                        number(ghost)
                    ));
                }
            }
        }
    }

    /// Says what the clients were, and whether they were what limited the run.
    pub fn honesty(&mut self) {
        let Cast { ghosts, sockets, is_apart, .. } = *self.crowd.cast();
        let control = if ghosts > 0 { " (control group)" } else { "" };
        let mut line = format!(
            "clients: {} ghosts + {} kernel sockets{control}",
            number(ghosts as f64),
            number(sockets as f64)
        );
        if is_apart {
            line += " with a topic of its own";
        }
        line += "; same host, no network card";
        let before = self.counts_before;
        if let Some(ghosts) = self.crowd.ghosts() {
            let (counts, (dropped, unsent), lost) = (ghosts.counts(), ghosts.drops(), ghosts.lost());
            let trip = |quantile| number(ghosts.round_trips().value_at_quantile(quantile) as f64 / 1e3);
            line += &format!("; handshakes' round trip {} us (p99 {})", trip(0.5), trip(0.99));
            line += &format!(
                "; packet rings dropped {dropped} in and {unsent} out, impairments {lost}; sent again by \
                 ghosts {}, by the kernel {}, beyond a hole {}, given up {}",
                counts.resent - before.resent,
                counts.doubled - before.doubled,
                counts.beyond_hole - before.beyond_hole,
                counts.given_up
            );
            if dropped + unsent > 0 {
                self.report.client_limited.push(format!("packet rings dropped {} packets", dropped + unsent));
            }
        }
        self.report.judgement = self.crowd.judgement();
        let samples = &self.report.samples;
        let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64;
        let cpu = format!(
            "CPU is that of the whole machine where it does not say server: {} cores in use on average; the \
             host took {} more, at most {} in a second",
            number(mean(|sample| sample.machine_cpu)),
            number(mean(|sample| sample.stolen_cpu)),
            number(samples.iter().map(|sample| sample.stolen_cpu).fold(0.0, f64::max))
        );
        self.report.honesty.extend([line, cpu]);
    }

    /// The server's memory and the kernel's objects after everybody has left, each as a share of what they
    /// were before anybody came.
    pub fn memory_after(&mut self, most: Option<f64>) {
        let (kernel, _) = Slabs::now().since(&self.slabs);
        let ours = self.server.memory() as f64 - self.memory as f64;
        self.report.figure("kernel memory left behind", kernel as f64 / f64::from(1 << 20), "MiB", None);
        self.report.figure(
            "server memory left behind",
            ours / f64::from(1 << 20),
            "MiB",
            most.map(Bar::AtMost),
        );
    }
}

fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

/// Microseconds each.
pub fn micros(time: Duration, count: f64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1.0)
}
