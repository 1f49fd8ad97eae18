//! The life of the process once the engine runs: waits for a signal, drains, and says how it
//! ended.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::running::Running;

/// What the process waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A signal that wants it to end.
    Signal(i32),
    /// The drain is over.
    Drained(Result<(), String>),
}

/// How the process ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All connections have ended in an orderly way.
    Drained,
    /// The drain time was over before they had.
    DrainedInPart(String),
    /// Something broke.
    Failed(String),
    /// A second signal did not want to wait.
    Hurried(i32),
}

impl Outcome {
    /// The exit status that the help text promises.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Drained => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::from(1),
            Self::DrainedInPart(_) => ExitCode::from(3),
            Self::Hurried(signal) => ExitCode::from(128u8.saturating_add(u8::try_from(*signal).unwrap_or(0))),
        }
    }
}

/// Sends SIGTERM and SIGINT to `events` from now on.
///
/// # Errors
/// If the system does not allow it.
pub(crate) fn listen_for_signals(events: Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Waits until `engine` has been drained after the first signal, or a second signal comes.
pub(crate) fn supervise(
    engine: &Arc<impl Running + 'static>,
    events: &Receiver<Event>,
    tell: &Sender<Event>,
    drain_time: Duration,
) -> Outcome {
    let mut is_draining = false;
    for event in events {
        match event {
            Event::Signal(signal) if is_draining => return Outcome::Hurried(signal),
            Event::Signal(signal) => {
                is_draining = true;
                let seconds = drain_time.as_secs();
                tracing::info!(signal, seconds, "draining; a second signal ends at once");
                if let Err(error) = drain(engine, tell.clone(), drain_time) {
                    return Outcome::Failed(format!("cannot start a thread to drain: {error}"));
                }
            }
            Event::Drained(Ok(())) => return Outcome::Drained,
            Event::Drained(Err(reason)) => return Outcome::DrainedInPart(reason),
        }
    }
    // Not while `tell` is here.
    Outcome::Failed("nothing is left to wait for".into())
}

/// Drains on a thread of its own, so that signals are still heard.
fn drain(engine: &Arc<impl Running + 'static>, tell: Sender<Event>, time: Duration) -> std::io::Result<()> {
    let engine = Arc::clone(engine);
    thread::Builder::new().name("drain".into()).spawn(move || {
        let _ = tell.send(Event::Drained(engine.drain(time)));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;
    use crate::metrics_page::Page;

    /// An engine that drains for so long and then says this.
    struct Engine {
        drains_for: Duration,
        result: Result<(), String>,
    }

    impl Running for Engine {
        fn is_draining(&self) -> bool {
            false
        }
        fn drain(&self, time: Duration) -> Result<(), String> {
            assert_eq!(time, Duration::from_secs(7));
            thread::sleep(self.drains_for);
            self.result.clone()
        }
        fn write_metrics(&self, _page: &mut Page) {}
    }

    fn outcome(drains_for: Duration, result: Result<(), String>, signals: &[i32]) -> Outcome {
        let engine = Arc::new(Engine { drains_for, result });
        let (tell, events) = channel();
        for signal in signals {
            tell.send(Event::Signal(*signal)).unwrap();
        }
        supervise(&engine, &events, &tell, Duration::from_secs(7))
    }

    #[test]
    fn a_signal_drains_and_the_drain_says_how_it_ended() {
        assert_eq!(outcome(Duration::ZERO, Ok(()), &[SIGTERM]), Outcome::Drained);
        let left = outcome(Duration::ZERO, Err("2 left".into()), &[SIGINT]);
        assert_eq!(left, Outcome::DrainedInPart("2 left".into()));
    }

    #[test]
    fn a_second_signal_does_not_wait_for_the_drain() {
        let began = Instant::now();
        let ended = outcome(Duration::from_secs(30), Ok(()), &[SIGTERM, SIGINT]);
        assert_eq!(ended, Outcome::Hurried(SIGINT));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_signal_of_the_system_becomes_an_event() {
        let (tell, events) = channel();
        listen_for_signals(tell).unwrap();
        for (name, signal) in [("TERM", SIGTERM), ("INT", SIGINT)] {
            let kill = format!("kill -{name} {}", std::process::id());
            assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
            let event = events.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(matches!(event, Event::Signal(came) if came == signal), "{event:?}");
        }
    }
}
