//! One document a run: what was asked, on which machine, and all that was measured.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::judge::Judgement;
use crate::machine::Processors;

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: String,
    /// The command as it was given.
    pub command: String,
    /// Version of the project.
    pub version: String,
    /// Seconds since 1970 at the start.
    pub started: u64,
    /// The machine, in words.
    pub machine: String,
    /// The server under test.
    pub target: String,
    /// What the clients were, and what a figure of theirs is worth: the line that every output prints.
    pub honesty: Vec<String>,
    /// Why the figures say more of the clients than of the server; empty if they do not.
    pub client_limited: Vec<String>,
    /// Figures by name, each with its unit in the name's last word.
    pub figures: Vec<Figure>,
    /// What happened when.
    pub samples: Vec<Sample>,
    /// What every subscriber got, judged.
    pub judgement: Judgement,
    /// Why it ended early; none if it did not.
    pub failure: Option<String>,
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// What it must not be above (or below, if the name says so); none if nothing was promised.
    pub bar: Option<Bar>,
}

/// What was promised of a figure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
pub enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Bar {
    /// Whether a value keeps it.
    pub fn is_kept(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }
}

/// The state of a run at one moment.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// Subscribers that hear.
    pub connections: f64,
    /// Deliveries a second since the sample before.
    pub deliveries: f64,
    /// Memory of the server's processes, in MiB.
    pub server_memory: f64,
    /// Memory that is free, and the files' cache, in MiB.
    pub free_memory: f64,
    /// Processors in use on the whole machine since the sample before.
    pub machine_cpu: f64,
    /// Processors that the host took from this machine since the sample before.
    #[serde(default)]
    pub stolen_cpu: f64,
    /// Processors in use by the server since the sample before.
    pub server_cpu: f64,
    /// Longest time from publish to delivery since the sample before, in milliseconds.
    #[serde(default)]
    pub slowest: f64,
}

impl Report {
    /// Adds a figure.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, bar: Option<Bar>) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned(), bar });
    }

    /// Whether all that was promised was kept, and nothing was lost.
    pub fn is_good(&self) -> bool {
        self.failure.is_none()
            && !self.judgement.is_bad()
            && self.figures.iter().all(|figure| figure.bar.is_none_or(|bar| bar.is_kept(figure.value)))
    }

    /// This run with the means of its figures and those of another.
    #[must_use]
    pub fn mean(&self, other: &Self) -> Self {
        let mut mean = self.clone();
        for figure in &mut mean.figures {
            if let Some(other) = other.figures.iter().find(|other| other.name == figure.name) {
                figure.value = f64::midpoint(figure.value, other.value);
            }
        }
        mean.honesty.extend(other.honesty.first().cloned());
        mean
    }

    /// Adds what another server did of the same, and the ratios of what both did. `bar` is for the deliveries
    /// in the server's processor time.
    pub fn stand_beside(&mut self, other: &Self, bar: Option<Bar>) {
        const DELIVERIES: &str = "deliveries";
        const COST: &str = "server CPU a delivery";
        let target = &other.target;
        let value = |report: &Self, name: &str| {
            report.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
        };
        let clients = other.honesty.iter().filter(|line| line.starts_with("clients"));
        self.honesty.extend(clients.map(|line| format!("{target}: {line}")));
        for name in [DELIVERIES, COST, "latency p50", "latency p99", "latency max"] {
            let Some(figure) = other.figures.iter().find(|figure| figure.name == name) else { continue };
            self.figure(&format!("{target}: {name}"), figure.value, &figure.unit, None);
        }
        if let (Some(ours), Some(theirs)) = (value(self, DELIVERIES), value(other, DELIVERIES)) {
            self.figure(&format!("deliveries a second, of {target}"), ours / theirs, "x", None);
        }
        if let (Some(ours), Some(theirs)) = (value(self, COST), value(other, COST)) {
            self.figure(&format!("deliveries a CPU second, of {target}"), theirs / ours, "x", bar);
        }
    }

    /// The report as lines to read.
    pub fn text(&self) -> String {
        let mut text = format!("{} of {} on {}\n", self.scenario, self.target, self.machine);
        for line in &self.honesty {
            text += &format!("  {line}\n");
        }
        for reason in &self.client_limited {
            text += &format!("  client-limited: {reason}\n");
        }
        for Figure { name, value, unit, bar } in &self.figures {
            let said = match bar {
                None => String::new(),
                Some(bar) => {
                    let word = if bar.is_kept(*value) { "kept" } else { "MISSED" };
                    match bar {
                        Bar::AtMost(bar) => format!("   (at most {}: {word})", number(*bar)),
                        Bar::AtLeast(bar) => format!("   (at least {}: {word})", number(*bar)),
                    }
                }
            };
            text += &format!("  {name:<48} {:>12} {unit}{said}\n", number(*value));
        }
        let Judgement { events, lost, doubled, foreign, malformed, gaps, ended } = self.judgement;
        text += &format!(
            "  judged: {events} deliveries; {lost} lost, {doubled} twice, {foreign} foreign, \
             {malformed} malformed, {gaps} gaps, {ended} ended\n"
        );
        if let Some(failure) = &self.failure {
            text += &format!("  FAILED: {failure}\n");
        }
        text
    }
}

/// A number with as many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0..0.01 => format!("{value:.4}"),
        0.01..10.0 => format!("{value:.2}"),
        10.0..1_000.0 => format!("{value:.1}"),
        _ => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |digits| ("-", digits));
            let mut grouped = String::from(sign);
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
    }
}

/// The figures of two runs beside each other.
pub fn compare(left: &Report, right: &Report) -> String {
    let mut text = format!("A: {}\nB: {}\n\n", left.command, right.command);
    text += &format!("{:<48} {:>14} {:>14} {:>8}\n", "figure", "A", "B", "B / A");
    for figure in &left.figures {
        let other = right.figures.iter().find(|other| other.name == figure.name);
        let (value, ratio) = other.map_or(("-".to_owned(), "-".to_owned()), |other| {
            (number(other.value), format!("{:.2}", other.value / figure.value))
        });
        let name = format!("{} ({})", figure.name, figure.unit);
        text += &format!("{name:<48} {:>14} {value:>14} {ratio:>8}\n", number(figure.value));
    }
    for figure in right.figures.iter().filter(|one| !left.figures.iter().any(|other| other.name == one.name))
    {
        let name = format!("{} ({})", figure.name, figure.unit);
        text += &format!("{name:<48} {:>14} {:>14} {:>8}\n", "-", number(figure.value), "-");
    }
    text
}

/// Takes the samples of a run.
pub struct Sampler {
    started: Instant,
    last: Option<(Instant, u64, Processors, f64)>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { started: Instant::now(), last: None }
    }
}

impl Sampler {
    /// Seconds since the start.
    pub fn at(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Whether a second has passed since the last sample.
    pub fn is_due(&self) -> bool {
        self.last.is_none_or(|(at, ..)| at.elapsed().as_secs_f64() >= 1.0)
    }

    /// A sample of now.
    pub fn sample(&mut self, connections: usize, deliveries: u64, server: &crate::target::Running) -> Sample {
        let now = Instant::now();
        let (machine, used) = (Processors::now(), server.cpu().as_secs_f64());
        let (since, before, machine_before, used_before) =
            self.last.replace((now, deliveries, machine, used)).unwrap_or((now, deliveries, machine, used));
        let seconds = (now - since).as_secs_f64().max(1e-9);
        let is_first = now == since;
        let rate = |amount: f64| if is_first { 0.0 } else { amount / seconds };
        Sample {
            at: self.at(),
            connections: connections as f64,
            deliveries: rate((deliveries - before) as f64),
            server_memory: server.memory() as f64 / f64::from(1 << 20),
            free_memory: crate::machine::free_memory() as f64 / f64::from(1 << 20),
            machine_cpu: rate(machine.used - machine_before.used),
            stolen_cpu: rate(machine.stolen - machine_before.stolen),
            server_cpu: rate(used - used_before),
            slowest: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_have_as_many_digits_as_say_something() {
        for (value, text) in [
            (1_234_567.0, "1,234,567"),
            (-1_000.0, "-1,000"),
            (999.94, "999.9"),
            (3.2718, "3.27"),
            (0.0012, "0.0012"),
            (0.0, "0.0000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_missed_bar_makes_a_run_bad() {
        assert!(Bar::AtMost(4.0).is_kept(4.0) && !Bar::AtMost(4.0).is_kept(4.1));
        assert!(Bar::AtLeast(4.0).is_kept(4.0) && !Bar::AtLeast(4.0).is_kept(3.9));
    }
}
