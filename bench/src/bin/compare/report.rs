//! What is shown: a table, the failures, and two plots.

use std::fmt;

use serde::Serialize;
use stentor_bench::machine::Machine;
use stentor_bench::plot::{self, Bar, Line, Of, number};
use stentor_bench::work::Delivered;

use crate::measure::{IN_FLIGHT, Measured, Round};

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The arguments of this program.
    pub(crate) command: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    pub(crate) measured: Vec<Measured>,
    /// Servers that could not be had, and why.
    pub(crate) missing: Vec<String>,
}

impl Report {
    /// Whether nothing failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.measured.iter().all(|measured| measured.rounds.iter().all(|round| round.failures.is_empty()))
    }

    /// Deliveries in a second of processor time over events in flight, a line a server.
    pub(crate) fn deliveries_plot(&self) -> String {
        let line = |measured: &Measured| Line {
            name: measured.title.clone(),
            of: of(measured),
            points: IN_FLIGHT
                .iter()
                .enumerate()
                .filter_map(|(index, &in_flight)| Some((in_flight as f64, measured.deliveries(index)?)))
                .collect(),
        };
        let title = format!(
            "Deliveries in a second of server CPU: {} subscribers, {} bytes",
            number(self.connections as f64),
            self.bytes
        );
        let lines: Vec<Line> = self.measured.iter().map(line).collect();
        plot::lines(&title, "events in flight", &lines)
    }

    /// Memory of an idle connection, a bar a server, the least of its own first.
    pub(crate) fn memory_plot(&self) -> String {
        let bar = |measured: &Measured| {
            let parts = [memory(measured), kernel(measured)].into_iter().flatten().collect();
            Bar { name: measured.title.clone(), of: of(measured), parts }
        };
        let mut all: Vec<_> = self.measured.iter().filter_map(|it| Some((memory(it)?, bar(it)))).collect();
        all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let bars: Vec<Bar> = all.into_iter().map(|(_, bar)| bar).collect();
        plot::bars(
            "Memory of an idle connection: the server's own, and the kernel's (pale)",
            &bars,
            |parts| format!("{} + {}", bytes(parts[0]), bytes(parts[1])),
        )
    }
}

fn of(measured: &Measured) -> Of {
    match measured.name {
        name if name.starts_with("stentor") => Of::Stentor,
        name if name.starts_with("floor") => Of::Floor,
        _ => Of::Other,
    }
}

fn memory(measured: &Measured) -> Option<f64> {
    measured.median(|round| Some(round.connected.as_ref()?.memory))
}

fn kernel(measured: &Measured) -> Option<f64> {
    measured.median_of_known(|round| round.connected.as_ref()?.kernel)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.measured.iter().map(|measured| measured.rounds.len()).max().unwrap_or(0);
        writeln!(f, "{}\n", self.machine)?;
        let command = self.command.join(" ");
        writeln!(f, "`cargo run --release -p stentor-bench --bin compare -- {command}`\n")?;
        let (connections, bytes) = (self.connections, self.bytes);
        writeln!(
            f,
            "{connections} subscribers of one topic, events of {bytes} bytes, median of {rounds}.\n"
        )?;
        writeln!(
            f,
            "| server | memory a connection: its own, the kernel's | connects a second | CPU a connect | \
             deliveries a CPU second, 1 in flight | 4 | 16 | 64 | p50 / p99 / p99.9 ms at 1 event a second | \
             at half load |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for measured in &self.measured {
            row(f, measured, self.connections)?;
        }
        writeln!(f)?;
        for measured in &self.measured {
            for (round, number) in measured.rounds.iter().zip(1..) {
                for failure in &round.failures {
                    writeln!(f, "- failed, round {number}: {}: {failure}", measured.title)?;
                }
            }
        }
        for missing in &self.missing {
            writeln!(f, "- not measured: {missing}")?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, measured: &Measured, connections: usize) -> fmt::Result {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "failed".to_owned());
    let own = shown(memory(measured).map(bytes));
    let kernels = kernel(measured).map_or("unknown".to_owned(), bytes);
    let connects = measured.median(|round| Some(round.connected.as_ref()?.a_second));
    let cpu = measured.median(|round| Some(round.connected.as_ref()?.cpu));
    let held = measured.rounds.iter().find_map(|round| Some(round.connected.as_ref()?.connections));
    let held = held.filter(|&held| held < connections);
    let fewer = held.map_or(String::new(), |held| format!(", {held} connections"));
    write!(
        f,
        "| {}{fewer} | {own}, {kernels} | {} | {} |",
        measured.title,
        shown(connects.map(number)),
        shown(cpu.map(|cpu| format!("{cpu:.1} us"))),
    )?;
    for index in 0..IN_FLIGHT.len() {
        write!(f, " {} |", shown(measured.deliveries(index).map(number)))?;
    }
    let slow = latency(measured, |round| round.slow.as_ref());
    let half = latency(measured, |round| round.half.as_ref());
    writeln!(f, " {} | {} |", shown(slow), shown(half))
}

fn latency(measured: &Measured, of: impl Fn(&Round) -> Option<&Delivered>) -> Option<String> {
    let at = |quantile: fn(&Delivered) -> f64| {
        let value = measured.median(|round| of(round).map(quantile))?;
        Some(if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") })
    };
    let [p50, p99, p999] = [
        at(|delivered| delivered.latency.p50)?,
        at(|delivered| delivered.latency.p99)?,
        at(|delivered| delivered.latency.p999)?,
    ];
    Some(format!("{p50} / {p99} / {p999}"))
}

/// "92 B", "10.3 KB".
fn bytes(value: f64) -> String {
    if value.abs() < 1e3 { format!("{value:.0} B") } else { format!("{:.1} KB", value / 1e3) }
}
