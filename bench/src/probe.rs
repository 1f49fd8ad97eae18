//! One subscriber and one publisher on threads of their own, beside the many: what they wait for is the
//! server, not the many subscribers' own thread, which may have a million receives before it.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::machine;
use crate::payload::Payload;
use crate::publisher::Publisher;
use crate::target::Target;
use crate::wire::{self, Decoder, Found};

/// How long an answer or an event may take; then the run has failed.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes of a probe's events.
const BYTES: usize = 100;
/// The topics of probes; the benches' own have numbers in the place of the word.
const PUBLISHES: &str = "bench/probe/publishes";
const NEWCOMERS: &str = "bench/probe/newcomers";
const SILENT: &str = "bench/probe/silent";

/// What is looked at beside the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A topic with one subscriber: an event once in this time, from publish to the event.
    Publishes(Duration),
    /// Somebody new once in this time: from the connect to the head of the answer, and to the first event,
    /// which the log has.
    Newcomers(Duration),
    /// As many who hear nothing but heartbeats: the time between two of them.
    Heartbeats(usize),
}

/// What was seen, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Seen {
    /// From publish to the event.
    pub publishes: Histogram<u64>,
    /// From the connect to the head of the answer.
    pub answers: Histogram<u64>,
    /// From the connect to the first event.
    pub first_events: Histogram<u64>,
    /// Between two heartbeats.
    pub heartbeats: Histogram<u64>,
}

impl Seen {
    fn new() -> Self {
        let empty = Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("valid bounds");
        Self {
            publishes: empty.clone(),
            answers: empty.clone(),
            first_events: empty.clone(),
            heartbeats: empty,
        }
    }
}

/// Does the work, and looks at the server for as long as it takes. The answers of both.
///
/// # Errors
/// The work's; else a look's: what it waits for does not come within 60 s, or is not what was published.
pub fn beside<T>(
    target: &Target,
    looks: &[Look],
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<(T, Seen)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let start = |&look: &Look| {
            let stop = &stop;
            scope.spawn(move || {
                go_first();
                match look {
                    Look::Publishes(every) => publishes(target, every, stop),
                    Look::Newcomers(every) => newcomers(target, every, stop),
                    Look::Heartbeats(count) => heartbeats(target, count, stop),
                }
            })
        };
        let threads: Vec<_> = looks.iter().map(start).collect();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let mut seen = Seen::new();
        let mut failure = None;
        for thread in threads {
            match thread.join() {
                Ok(Ok(one)) => {
                    seen.publishes += one.publishes;
                    seen.answers += one.answers;
                    seen.first_events += one.first_events;
                    seen.heartbeats += one.heartbeats;
                }
                Ok(Err(error)) => failure = Some(error),
                Err(_) => failure = Some(io::Error::other("a probe panicked")),
            }
        }
        let done = done?;
        failure.map_or(Ok((done, seen)), Err)
    })
}

/// Lets the calling thread run whenever it can: before the many subscribers, with whom it shares the core.
fn go_first() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads one `sched_param`. Where it refuses, the thread is one among others.
    unsafe {
        if libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
    }
}

/// A connection that waits for what it reads.
struct Probe<'a> {
    stream: TcpStream,
    decoder: Decoder,
    target: &'a Target,
}

impl<'a> Probe<'a> {
    /// Connects to `port`'s subscribers' side and sends `request`.
    fn open(target: &'a Target, request: &[u8]) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the kernel reads one `linger`. A reset at the end leaves nothing that waits in the kernel.
        unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const reset).cast(),
                size_of_val(&reset) as libc::socklen_t,
            )
        };
        stream.write_all(request)?;
        Ok(Self { stream, decoder: Decoder::default(), target })
    }

    /// Reads once. Whether there was an answer, and the events' payloads.
    fn read(&mut self) -> io::Result<(bool, Vec<Payload>)> {
        let mut buffer = [0; 16_384];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::other("the server closed a probe's connection"));
        }
        let (mut is_answered, mut payloads, mut wrong) = (false, Vec::new(), None);
        let mut pongs = Vec::new();
        self.decoder.feed(self.target.subscribe.wire, &buffer[..count], &mut |found| match found {
            Found::Answer => is_answered = true,
            Found::Event(text) => match Payload::decode(text) {
                Some(payload) => payloads.push(payload),
                None => wrong = Some("a probe got what nobody published"),
            },
            Found::Ping(data) => pongs.push(wire::pong(data)),
            Found::Gap => wrong = Some("a probe was told of a gap"),
            Found::End | Found::Malformed => wrong = Some("a probe was refused, or its stream ended"),
            Found::Cursor(_) | Found::Again => {}
        });
        for pong in pongs {
            self.stream.write_all(&pong)?;
        }
        wrong.map_or(Ok((is_answered, payloads)), |wrong| Err(io::Error::other(wrong)))
    }

    fn read_answer(&mut self) -> io::Result<Vec<Payload>> {
        loop {
            let (is_answered, payloads) = self.read()?;
            if is_answered {
                return Ok(payloads);
            }
        }
    }

    fn read_event(&mut self) -> io::Result<Payload> {
        loop {
            if let Some(payload) = self.read()?.1.pop() {
                return Ok(payload);
            }
        }
    }
}

fn opening(target: &Target, topic: &str) -> Vec<u8> {
    (target.subscribe.opening)(topic).swap_remove(0)
}

fn publishes(target: &Target, every: Duration, stop: &AtomicBool) -> io::Result<Seen> {
    let mut seen = Seen::new();
    let mut probe = Probe::open(target, &opening(target, PUBLISHES))?;
    probe.read_answer()?;
    let mut publisher = Publisher::connect(&target.publish)?;
    for number in 1.. {
        let sent = machine::now();
        let payload = Payload { number, sent, topic: u32::MAX };
        publisher.publish([(PUBLISHES, payload.encode(BYTES))])?;
        if probe.read_event()? != payload {
            return Err(io::Error::other(format!("the probe's event {number} is not what came")));
        }
        let took = machine::now() - sent;
        // Those that would have been published while this one was under way would have waited, too.
        let _ = seen.publishes.record_correct(took, every.as_nanos() as u64);
        publisher.settle()?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(every.saturating_sub(Duration::from_nanos(took)));
    }
    Ok(seen)
}

fn newcomers(target: &Target, every: Duration, stop: &AtomicBool) -> io::Result<Seen> {
    let mut seen = Seen::new();
    let again = target.subscribe.again.as_ref();
    let request =
        again.ok_or_else(|| io::Error::other("nobody can ask for what was"))?(NEWCOMERS, "earliest");
    let mut publisher = Publisher::connect(&target.publish)?;
    let payload = Payload { number: 1, sent: machine::now(), topic: u32::MAX };
    publisher.publish([(NEWCOMERS, payload.encode(BYTES))])?;
    publisher.settle()?;
    loop {
        let started = Instant::now();
        let mut probe = Probe::open(target, &request)?;
        let early = probe.read_answer()?;
        seen.answers.saturating_record(started.elapsed().as_nanos() as u64);
        let first = if let Some(&first) = early.first() { first } else { probe.read_event()? };
        seen.first_events.saturating_record(started.elapsed().as_nanos() as u64);
        if first != payload {
            return Err(io::Error::other("a newcomer's first event is not the one that the log has"));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(seen);
        }
        std::thread::sleep(every.saturating_sub(started.elapsed()));
    }
}

fn heartbeats(target: &Target, count: usize, stop: &AtomicBool) -> io::Result<Seen> {
    let mut seen = Seen::new();
    let request = opening(target, SILENT);
    let mut probes = Vec::new();
    for _ in 0..count {
        let mut probe = Probe::open(target, &request)?;
        probe.read_answer()?;
        probes.push((probe, None));
    }
    let interest = |(probe, _): &(Probe<'_>, Option<Instant>)| libc::pollfd {
        fd: probe.stream.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut interests: Vec<_> = probes.iter().map(interest).collect();
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the kernel reads and writes as many entries as there are.
        let ready = unsafe { libc::poll(interests.as_mut_ptr(), interests.len() as libc::nfds_t, 100) };
        if ready <= 0 {
            continue;
        }
        for (interest, (probe, last)) in interests.iter().zip(&mut probes) {
            if interest.revents != 0 {
                if !probe.read()?.1.is_empty() {
                    return Err(io::Error::other("a topic to which nobody publishes had an event"));
                }
                let now = Instant::now();
                if let Some(last) = last.replace(now) {
                    seen.heartbeats.saturating_record((now - last).as_nanos() as u64);
                }
            }
        }
    }
    Ok(seen)
}
