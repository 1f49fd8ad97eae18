//! Figures: what several runs have measured, beside their floor and the bar that they must reach.

use std::fmt::Write as _;

use serde::Serialize;

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Bar {
    /// It is told, and must be nothing.
    None,
    /// The engine's value as a multiple of the floor's is at least this.
    TimesAtLeast(f64),
    /// The engine's value as a multiple of the floor's is at most this.
    TimesAtMost(f64),
    /// The engine's value is at most this.
    AtMost(f64),
}

/// One measurement of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// What was measured, with its size: the same in every run.
    pub what: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// The engine's value.
    pub engine: f64,
    /// The floor's, taken beside it.
    pub floor: Option<f64>,
    /// What it must be.
    pub bar: Bar,
}

/// Several runs of one measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The row that it is of.
    pub row: &'static str,
    /// What was measured.
    pub what: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// What it must be.
    pub bar: Bar,
    /// The engine's values, in the order of the runs.
    pub engine: Vec<f64>,
    /// The floor's values, in the order of the runs.
    pub floor: Vec<f64>,
}

/// A run of a row that gave no result, or a wrong one.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The row.
    pub row: &'static str,
    /// Which run, from 1 up.
    pub run: usize,
    /// Why.
    pub why: String,
}

/// All that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// In the order in which they were first measured.
    pub figures: Vec<Figure>,
    /// Runs that failed.
    pub failures: Vec<Failure>,
}

impl Figures {
    /// Takes a measurement of a run.
    pub fn add(&mut self, row: &'static str, sample: Sample) {
        let known = self.figures.iter().position(|figure| figure.row == row && figure.what == sample.what);
        let index = known.unwrap_or_else(|| {
            let Sample { what, unit, bar, .. } = sample.clone();
            self.figures.push(Figure { row, what, unit, bar, engine: Vec::new(), floor: Vec::new() });
            self.figures.len() - 1
        });
        let figure = &mut self.figures[index];
        figure.engine.push(sample.engine);
        figure.floor.extend(sample.floor);
    }

    /// Whether every bar was reached and no run failed.
    pub fn are_met(&self) -> bool {
        self.failures.is_empty() && self.figures.iter().all(|figure| figure.is_met() != Some(false))
    }

    /// A table in Markdown: a line for each figure, then the runs that failed.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| row | what | unit | engine (min to max) | floor | ratio | bar | |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for figure in &self.figures {
            let failed = self.failures.iter().any(|failure| failure.row == figure.row);
            let _ = writeln!(text, "{}", figure.line(failed));
        }
        for Failure { row, run, why } in &self.failures {
            let why = why.replace(['\n', '\r', '|'], " ");
            let _ = writeln!(text, "| {row} | run {run}: {why} | | | | | | failed |");
        }
        text
    }
}

impl Figure {
    /// The median of the runs' ratios of engine to floor; none where there is no floor.
    pub fn ratio(&self) -> Option<f64> {
        if self.floor.len() != self.engine.len() {
            return None;
        }
        median(self.engine.iter().zip(&self.floor).map(|(engine, floor)| engine / floor))
    }

    /// Whether the bar is reached; none where there is no bar.
    pub fn is_met(&self) -> Option<bool> {
        match self.bar {
            Bar::None => None,
            Bar::TimesAtLeast(bar) => Some(self.ratio().is_some_and(|ratio| ratio >= bar)),
            Bar::TimesAtMost(bar) => Some(self.ratio().is_some_and(|ratio| ratio <= bar)),
            Bar::AtMost(bar) => Some(median(self.engine.iter().copied()).is_some_and(|value| value <= bar)),
        }
    }

    fn line(&self, failed: bool) -> String {
        let Self { row, what, unit, engine, floor, .. } = self;
        let value = median(engine.iter().copied()).map(short).unwrap_or_default();
        let least = engine.iter().copied().fold(f64::INFINITY, f64::min);
        let most = engine.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread =
            if engine.len() > 1 { format!(" ({} to {})", short(least), short(most)) } else { String::new() };
        let floor = median(floor.iter().copied()).map(short).unwrap_or_default();
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let bar = match self.bar {
            Bar::None => String::new(),
            Bar::TimesAtLeast(bar) => format!("≥ {bar} ×"),
            Bar::TimesAtMost(bar) => format!("≤ {bar} ×"),
            Bar::AtMost(bar) => format!("≤ {}", short(bar)),
        };
        let verdict = match self.is_met() {
            _ if failed => "failed",
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        };
        format!("| {row} | {what} | {unit} | {value}{spread} | {floor} | {ratio} | {bar} | {verdict} |")
    }
}

/// The middle value; the mean of the two middle ones where there are two. None of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

/// Three digits that count, and more where they stand before the point.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if size >= 1e4 => format!("{:.1} k", value / 1e3),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[(f64, f64)], bar: Bar) -> Figures {
        let mut figures = Figures::default();
        for &(engine, floor) in values {
            let what = "a thing".to_owned();
            figures.add("row", Sample { what, unit: "B", engine, floor: Some(floor), bar });
        }
        figures
    }

    #[test]
    fn the_median_of_the_ratios_is_judged_not_the_ratio_of_the_medians() {
        // Each run is 0.9 times its own floor, though floors and engines differ from run to run.
        let runs = [(90.0, 100.0), (180.0, 200.0), (9.0, 10.0)];
        assert!(figures(&runs, Bar::TimesAtLeast(0.9)).are_met());
        assert!(!figures(&runs, Bar::TimesAtLeast(0.91)).are_met());
        assert!(figures(&runs, Bar::AtMost(90.0)).are_met());
        assert!(!figures(&runs, Bar::AtMost(89.0)).are_met());
        assert!(
            figures(&runs, Bar::TimesAtMost(0.9)).table().contains("| 90.0 (9.00 to 180) | 100 | 0.90 |")
        );
    }

    #[test]
    fn a_run_that_failed_fails_its_row_however_fast_the_others_were() {
        let mut figures = figures(&[(90.0, 100.0)], Bar::TimesAtMost(1.0));
        figures.failures.push(Failure { row: "row", run: 2, why: "lost".to_owned() });
        assert!(!figures.are_met());
        assert!(figures.table().contains("| failed |\n| row | run 2: lost |"));
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!(median([1.0, 4.0]), Some(2.5));
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
