//! The work, in rounds, and what came of it.

use std::io;
use std::time::Duration;

use serde::Serialize;
use stentor_bench::target::Target;
use stentor_bench::work::{Connected, Delivered, Site};

/// Events in flight of the saturating runs.
pub(crate) const IN_FLIGHT: [usize; 4] = [1, 4, 16, 64];
/// Shortest time of a run at one event a second.
const SLOW_MIN: Duration = Duration::from_secs(5);

/// What each server is given to do in a round.
pub(crate) struct Work {
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// A server and its rounds.
#[derive(Serialize)]
pub(crate) struct Measured {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) title: String,
    pub(crate) rounds: Vec<Round>,
}

/// What one server did in one round. What failed is none, and said.
#[derive(Default, Serialize)]
pub(crate) struct Round {
    pub(crate) connected: Option<Connected>,
    /// With as many events in flight as [`IN_FLIGHT`] says.
    pub(crate) delivered: [Option<Delivered>; IN_FLIGHT.len()],
    /// One event a second.
    pub(crate) slow: Option<Delivered>,
    /// Half of what it can with one event in flight.
    pub(crate) half: Option<Delivered>,
    pub(crate) failures: Vec<String>,
}

impl Measured {
    pub(crate) fn new(name: &'static str, target: &Target) -> Self {
        Self { name, title: target.name.clone(), rounds: Vec::new() }
    }

    /// The median over the rounds. None if any of them has no such figure: what loses events in one round of
    /// three is not fast.
    pub(crate) fn median(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().map(figure).collect::<Option<_>>()?)
    }

    /// The median over the rounds that have such a figure.
    pub(crate) fn median_of_known(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(figure).collect())
    }

    /// Deliveries in a second of the server's processor time, with `IN_FLIGHT[index]` events in flight.
    pub(crate) fn deliveries(&self, index: usize) -> Option<f64> {
        self.median(|round| Some(round.delivered[index].as_ref()?.a_cpu_second))
    }
}

/// A part of the work.
#[derive(Clone, Copy)]
enum Step {
    /// As many events in flight as this place of [`IN_FLIGHT`] says.
    InFlight(usize),
    /// One event a second.
    Slow,
    /// Half of what it can with one event in flight.
    Half,
}

impl Work {
    /// Does it all once. A server that fails at something is started anew for the rest.
    pub(crate) fn measure(&self, target: &Target) -> Round {
        let mut round = Round::default();
        let mut site = None;
        let steps = (0..IN_FLIGHT.len()).map(Step::InFlight).chain([Step::Slow, Step::Half]);
        for step in steps {
            if site.is_none() {
                site = self.open(target, &mut round);
            }
            let Some(open) = &mut site else { break };
            if let Err(error) = self.take(step, open, &mut round) {
                round.failures.push(format!("{}: {error}", step.name()));
                // It ends here, so that its port is free for the next.
                site = None;
            }
        }
        if let Some(Err(error)) = site.map(Site::close) {
            round.failures.push(format!("closing: {error}"));
        }
        round
    }

    fn open<'a>(&self, target: &'a Target, round: &mut Round) -> Option<Site<'a>> {
        match Site::open(target, self.connections, 1, self.bytes) {
            Ok((site, connected)) => {
                round.connected.get_or_insert(connected);
                Some(site)
            }
            Err(error) => {
                round.failures.push(format!("connecting: {error}"));
                None
            }
        }
    }

    fn take(&self, step: Step, site: &mut Site<'_>, round: &mut Round) -> io::Result<()> {
        let long = self.time.max(SLOW_MIN);
        match step {
            Step::InFlight(index) => {
                round.delivered[index] = Some(site.deliver(IN_FLIGHT[index], self.time)?);
            }
            Step::Slow => round.slow = Some(site.pace(1.0, long)?),
            Step::Half => {
                if let Some(full) = &round.delivered[0] {
                    let half = full.a_second / self.connections as f64 / 2.0;
                    round.half = Some(site.pace(half, long)?);
                }
            }
        }
        Ok(())
    }
}

impl Step {
    fn name(self) -> String {
        match self {
            Self::InFlight(index) => format!("{} in flight", IN_FLIGHT[index]),
            Self::Slow => "1 event a second".to_owned(),
            Self::Half => "half of saturation".to_owned(),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(if values.len() % 2 == 1 { values[middle] } else { (values[middle] + values[middle + 1]) / 2.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_failed_in_one_round_is_none() {
        let round = |kernel| Round {
            connected: Some(Connected {
                connections: 1,
                a_second: 5.0,
                cpu: 1.0,
                subscriber_cpu: 1.0,
                memory: 1.0,
                kernel,
            }),
            ..Round::default()
        };
        let rounds = vec![round(Some(3.0)), round(None), round(Some(3.0))];
        let measured = Measured { name: "a", title: "A".to_owned(), rounds };
        let kernel = |round: &Round| round.connected.as_ref()?.kernel;
        assert_eq!(measured.median(kernel), None);
        assert_eq!(measured.median_of_known(kernel), Some(3.0));
        assert_eq!(measured.median(|round| Some(round.connected.as_ref()?.a_second)), Some(5.0));
        assert_eq!(measured.deliveries(0), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
