//! The engine: its threads, and what an embedder holds of them.

use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::app::{AnyApp, App};
use crate::channel::{self as channels, Wake};
use crate::config::{Config, ConfigError};
use crate::connection::Admissions;
use crate::cursor::{CursorError, Start};
use crate::metrics::{Family, Metrics, log_families};
use crate::publish::{Publisher, Sequencer};
use crate::shard::run::{self, Local, Shared};
use crate::sys::{self, Backend, EventFd, ParkedOptions, SocketOptions};
use crate::topic::Matcher;

/// Exit status of a process of which a shard panicked (`EX_SOFTWARE` of sysexits.h).
const EXIT_PANIC: i32 = 70;
/// Connections that may wait to be accepted; the kernel's own limit (`net.core.somaxconn`) may be lower.
const BACKLOG: u32 = 65_535;
/// How often the log is looked through for events that are too old.
const RETENTION_PERIOD: Duration = Duration::from_millis(250);
/// Descriptors that no connection gets where each needs one: so that those over the limit can be told so, and
/// for what else the process has open. And for each shard besides: its listeners, their spares, what it
/// sleeps on.
const DESCRIPTORS_KEPT: usize = 64;
const DESCRIPTORS_KEPT_PER_SHARD: usize = 16;

/// How many shards an engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shards {
    /// One for each core that the process may use.
    PerCore,
    /// This many, 1 to 128.
    Count(usize),
}

/// Makes an engine.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Builder {
    config: Config,
    is_epoll: bool,
}

impl Builder {
    /// Takes a whole configuration; calls after this one change it.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens at this address too. Port 0 takes a free one ([`Engine::local_addrs`] tells which).
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.listen.push(address);
        self
    }

    /// Sets the number of shards.
    pub fn shards(mut self, shards: Shards) -> Self {
        self.config.shards = match shards {
            Shards::PerCore => 0,
            Shards::Count(count) => count,
        };
        self
    }

    /// Parks connections with epoll even where io_uring is available: each then keeps its file descriptor,
    /// and there are no more of them than descriptors ([`crate::raise_descriptor_limit`]).
    pub fn epoll(mut self) -> Self {
        self.is_epoll = true;
        self
    }

    /// Starts the threads. The engine serves until [`Engine::drain`] or until it is dropped.
    ///
    /// If a shard panics the process says so and exits with status 70: a server of which a part is dead
    /// serves nobody.
    ///
    /// # Errors
    /// [`StartError`]: a value of the configuration, an address that cannot be listened at, or the system's
    /// limits.
    pub fn start<A: App>(self, app: A) -> Result<Engine, StartError> {
        Engine::start(self.config, self.is_epoll, Arc::new(app))
    }
}

/// Why an engine does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A value of the configuration.
    Config(ConfigError),
    /// An address that cannot be listened at.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread or a descriptor that the system refuses.
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Listen { address, source } => write!(f, "cannot listen at {address}: {source}"),
            Self::System { what, source } => write!(f, "cannot make {what}: {source}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a drain did not end all connections in an orderly way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// The time was over with so many connections left; they were reset.
    Timeout {
        /// Connections that were left.
        connections: usize,
    },
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { connections } => {
                write!(f, "the drain time was over with {connections} connections left")
            }
        }
    }
}

impl std::error::Error for DrainError {}

/// A running engine. Dropping it ends its threads at once; [`Engine::drain`] ends connections in an orderly
/// way first.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    addresses: Vec<SocketAddr>,
    shards: usize,
    backend: Backend,
    backend_reason: Option<String>,
    is_over: Arc<AtomicBool>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("addresses", &self.addresses).field("shards", &self.shards).finish()
    }
}

/// Wakes a shard by its eventfd.
pub(crate) struct WakeEventFd(pub(crate) Arc<EventFd>);

impl Wake for WakeEventFd {
    fn wake(&self) {
        self.0.wake();
    }
}

impl Engine {
    /// Begins to make an engine.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(config: Config, is_epoll: bool, app: Arc<dyn AnyApp>) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        let system = |what| move |source| StartError::System { what, source };
        let cpus = sys::allowed_cpus().map_err(system("a list of the cores"))?;
        let count = if config.shards == 0 { cpus.len().clamp(1, 128) } else { config.shards };
        let wanted = if is_epoll {
            (Backend::Epoll, Some("epoll was asked for".into()))
        } else {
            Backend::available()
        };
        let mut listeners: Vec<Vec<std::net::TcpListener>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for &address in &config.listen {
            let options = SocketOptions {
                stalled: Duration::from_secs(config.timing.stalled_seconds.into()),
                unsent_bytes: config.limits.unsent_bytes.try_into().unwrap_or(u32::MAX),
                send_buffer_bytes: config.limits.send_buffer_bytes.try_into().unwrap_or(u32::MAX),
            };
            let made = sys::listen(address, count, BACKLOG, &options);
            let made = made.map_err(|source| StartError::Listen { address, source })?;
            if let Some(first) = made.first() {
                addresses.push(first.local_addr().map_err(|source| StartError::Listen { address, source })?);
            }
            for (shard, listener) in made.into_iter().enumerate() {
                listeners[shard].push(listener);
            }
        }
        let mut senders = Vec::new();
        let mut commands = Vec::new();
        let mut threads = Threads::default();
        for (number, listeners) in listeners.into_iter().enumerate() {
            let eventfd = Arc::new(EventFd::new().map_err(system("an eventfd"))?);
            let wake = Arc::new(WakeEventFd(Arc::clone(&eventfd)));
            let (sender, command, receiver) = channels::channel(config.limits.channel_events, wake);
            senders.push(sender);
            commands.push(command);
            let cpu = cpus.get(number % cpus.len().max(1)).copied().filter(|_| count <= cpus.len());
            let backend = wanted.0;
            let birth = Birth { number, cpu, backend, receiver, eventfd, listeners };
            threads.spawn(birth).map_err(system("a thread"))?;
        }
        let (backend, backend_reason) = threads.agree(wanted).map_err(system("a shard's rings"))?;
        let descriptors = sys::descriptor_limit().map_err(system("a count of descriptors"))?;
        let mut limits = config.limits.clone();
        if backend == Backend::Epoll {
            limits.connections = limits.connections.min(connections_of(descriptors.soft, count));
        }
        let config = Arc::new(config);
        let shared = Arc::new(Shared {
            sequencer: Sequencer::new(&config, senders),
            app,
            metrics: Arc::new(Metrics::new(count)),
            admissions: Admissions::new(&limits),
            is_draining: Arc::new(AtomicBool::new(false)),
            commands,
            config,
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let started = threads.begin(&shared);
        let engine = Self {
            shared,
            threads: Mutex::new(threads.handles),
            addresses,
            shards: count,
            backend,
            backend_reason,
            is_over,
        };
        // From here on the threads end with the engine.
        started.map_err(system("a shard"))?;
        engine.keep_retention()?;
        Ok(engine)
    }

    /// Drops from the log what is too old, for as long as the engine lives.
    fn keep_retention(&self) -> Result<(), StartError> {
        let (shared, is_over) = (Arc::clone(&self.shared), Arc::clone(&self.is_over));
        let work = move || {
            while !is_over.load(Ordering::Acquire) {
                shared.sequencer.sweep();
                std::thread::park_timeout(RETENTION_PERIOD);
            }
        };
        let thread = std::thread::Builder::new().name("retention".into()).spawn(work);
        self.add_thread(thread.map_err(|source| StartError::System { what: "a thread", source })?);
        Ok(())
    }

    /// What publishes into this engine, from any thread and any runtime.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::clone(&self.shared.sequencer))
    }

    /// Subscribes within this process: a cursor, not a queue.
    ///
    /// # Errors
    /// [`CursorError::BeyondHead`] if the cursor is of this epoch and beyond the head of the log.
    pub fn subscribe(&self, matchers: Vec<Matcher>, start: Start) -> Result<crate::Receiver, CursorError> {
        self.shared.sequencer.subscribe(matchers, start)
    }

    /// Where the engine listens.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// What parks connections, `io_uring` or `epoll`, and why it is not io_uring: in words for an operator,
    /// such as `io_uring is refused (EPERM): …`.
    pub fn parked_by(&self) -> (&'static str, Option<&str>) {
        let name = match self.backend {
            Backend::Ring => "io_uring",
            Backend::Epoll => "epoll",
        };
        (name, self.backend_reason.as_deref())
    }

    /// The figures of this moment, always in the same order.
    pub fn metrics(&self) -> Vec<Family> {
        // One sum for all shards, as of now.
        let figures = self.shared.metrics.shard(0);
        figures.connections.set(self.shared.admissions.connections() as u64);
        figures.half_sent_bytes.set(self.shared.sequencer.held_bytes().load(Ordering::Relaxed) as u64);
        let mut families = self.shared.metrics.snapshot();
        families.extend(log_families(&self.shared.sequencer.statistics()));
        families
    }

    /// Whether [`Engine::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::SeqCst)
    }

    /// What tells, without the engine at hand, whether it drains.
    pub fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.is_draining)
    }

    /// Ends all connections in an orderly way, within `within`: new ones are refused, long polls answered,
    /// WebSockets closed with 1001, streams ended, spread over the first half of the time so that not all
    /// come back at once somewhere else. Blocks the calling thread; publishing is closed at the end. Figures
    /// can be read all the while.
    ///
    /// # Errors
    /// [`DrainError::Timeout`] if connections were left when the time was over.
    pub fn drain(&self, within: Duration) -> Result<(), DrainError> {
        run::begin_drain(&self.shared);
        let begun = Instant::now();
        // Few that come back at once harm nobody, and nobody waits for them.
        let connections = u32::try_from(self.shared.admissions.connections()).unwrap_or(u32::MAX);
        let spread = (within / 2).min(Duration::from_millis(1) * connections);
        for command in &self.shared.commands {
            let _ = command.send(Box::new(move |local| local.drain(spread)));
        }
        // Whoever does not read, or does not end its request, is reset before the time is over.
        let cut_after = within.saturating_sub((within / 4).min(Duration::from_secs(1)));
        let mut is_cut = false;
        let mut left = self.shared.admissions.connections();
        while left > 0 && begun.elapsed() < within {
            if !is_cut && begun.elapsed() >= cut_after {
                is_cut = true;
                tracing::warn!(connections = left, "the drain time is nearly over: what is left is reset");
                for command in &self.shared.commands {
                    let _ = command.send(Box::new(|local| local.cut()));
                }
            }
            std::thread::sleep(Duration::from_millis(10));
            left = self.shared.admissions.connections();
        }
        self.stop();
        if left > 0 { Err(DrainError::Timeout { connections: left }) } else { Ok(()) }
    }

    fn add_thread(&self, thread: JoinHandle<()>) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    fn stop(&self) {
        run::begin_drain(&self.shared);
        self.shared.sequencer.close();
        self.is_over.store(true, Ordering::Release);
        for command in &self.shared.commands {
            let _ = command.send(Box::new(|local| local.stop()));
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How many connections there may be where each has a descriptor, of which the process may have
/// `descriptors`.
fn connections_of(descriptors: u64, shards: usize) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let kept = DESCRIPTORS_KEPT + DESCRIPTORS_KEPT_PER_SHARD * shards;
    // With next to none the half of them still serves somebody.
    descriptors.saturating_sub(kept).max(descriptors / 2)
}

/// What the thread of a shard begins with.
struct Birth {
    number: usize,
    cpu: Option<usize>,
    backend: Backend,
    receiver: channels::Receiver<run::Command>,
    eventfd: Arc<EventFd>,
    listeners: Vec<std::net::TcpListener>,
}

/// The threads of an engine that starts. All park with the same: each tells whether it could make what it was
/// asked for, then each is told what they all take.
#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    answers: Vec<Receiver<std::io::Result<()>>>,
    decisions: Vec<Sender<Decision>>,
}

enum Decision {
    /// Make what this backend needs, and tell whether it went.
    Use(Backend),
    /// Begin.
    Begin(Arc<Shared>),
}

impl Threads {
    fn spawn(&mut self, birth: Birth) -> std::io::Result<()> {
        let (answer, answers) = channel();
        let (decisions, decision) = channel();
        let number = birth.number;
        let thread = move || {
            let work = AssertUnwindSafe(|| shard_thread(birth, &decision, &answer));
            if std::panic::catch_unwind(work).is_err() {
                tracing::error!(shard = number, "the shard panicked; the process ends");
                eprintln!("stentor: shard {number} panicked; the process ends");
                std::process::exit(EXIT_PANIC);
            }
        };
        self.handles.push(std::thread::Builder::new().name(format!("shard-{number}")).spawn(thread)?);
        self.answers.push(answers);
        self.decisions.push(decisions);
        Ok(())
    }

    /// What all can use: what is `wanted`, or epoll if one of them cannot have its rings; with the reason.
    fn agree(&self, wanted: (Backend, Option<String>)) -> std::io::Result<(Backend, Option<String>)> {
        let refused = match (self.answers(), wanted.0) {
            (Ok(()), _) => return Ok(wanted),
            (Err(error), Backend::Ring) => error,
            (Err(error), Backend::Epoll) => return Err(error),
        };
        let reason = format!("{}, for {} shards", sys::why_no_ring(&refused), self.answers.len());
        for decisions in &self.decisions {
            let _ = decisions.send(Decision::Use(Backend::Epoll));
        }
        self.answers()?;
        Ok((Backend::Epoll, Some(reason)))
    }

    /// Has all begin.
    fn begin(&self, shared: &Arc<Shared>) -> std::io::Result<()> {
        for decisions in &self.decisions {
            let _ = decisions.send(Decision::Begin(Arc::clone(shared)));
        }
        self.answers()
    }

    /// One answer of each; the first error among them.
    fn answers(&self) -> std::io::Result<()> {
        let ended = |_| Err(std::io::Error::other("a shard ended before it began"));
        let answers: Vec<_> =
            self.answers.iter().map(|answers| answers.recv().unwrap_or_else(ended)).collect();
        answers.into_iter().collect()
    }
}

/// The life of a shard's thread; it ends at once when nobody decides for it.
fn shard_thread(birth: Birth, decisions: &Receiver<Decision>, answer: &Sender<std::io::Result<()>>) {
    let Birth { number, cpu, backend, receiver, eventfd, listeners } = birth;
    if let Some(cpu) = cpu
        && let Err(error) = sys::pin_thread(cpu)
    {
        tracing::debug!(shard = number, cpu, %error, "the thread stays on no certain core");
    }
    let make = |backend| {
        let made = sys::parked_and_runtime(&eventfd, &ParkedOptions { backend, ..ParkedOptions::default() });
        let (made, said) = match made {
            Ok(made) => (Some(made), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let _ = answer.send(said);
        made
    };
    let mut made = make(backend);
    let shared = loop {
        match decisions.recv() {
            Ok(Decision::Use(backend)) => {
                // Gives back what it may have had, first.
                drop(made);
                made = make(backend);
            }
            Ok(Decision::Begin(shared)) => break shared,
            Err(_) => return,
        }
    };
    let Some((parked, runtime)) = made else { return };
    let lived = runtime.block_on(async {
        let local = Local::new(number, shared, parked, eventfd);
        for listener in listeners {
            crate::socket::listen(std::rc::Rc::clone(&local), listener);
        }
        // After those that listen have begun: who is told that the engine has started finds it complete.
        let started = answer.clone();
        sys::spawn(async move {
            let _ = started.send(Ok(()));
        });
        if let Err(error) = run::run(local, receiver).await {
            panic!("shard {number} cannot wait for its sockets: {error}");
        }
    });
    if let Err(error) = lived {
        let _ = answer.send(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_with_descriptors_leave_some_to_refuse_others_with() {
        assert_eq!(connections_of(20_000, 2), 20_000 - 64 - 32);
        assert_eq!(connections_of(1_024, 4), 1_024 - 64 - 64);
        assert_eq!(connections_of(64, 2), 32);
        assert_eq!(connections_of(0, 2), 0);
        assert!(connections_of(u64::MAX, 128) > 1 << 32);
    }
}
