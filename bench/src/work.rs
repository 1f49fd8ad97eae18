//! The work that every server is given alike, and what it costs it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clients::{Clients, Plan};
use crate::judge::Judgement;
use crate::machine::{self, Slabs};
use crate::payload::Payload;
use crate::publisher::Publisher;
use crate::target::{Running, Target};

/// The core of the server under test.
pub const SERVER_CORE: usize = 0;
/// The core of the subscribers and the publisher.
pub const CLIENT_CORE: usize = 1;
/// How long a subscriber may take to connect, and an event to reach all.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Connections between two looks at the memory that is left.
const STEP: usize = 50_000;
/// Memory that a run leaves to the machine, in bytes.
const MEMORY_LEFT: u64 = 2 << 30;
/// Rest between phases, in which what a phase left behind is done.
const REST: Duration = Duration::from_millis(500);
/// The same after many have connected: servers give memory back a while after they were busy.
const SETTLED: Duration = Duration::from_secs(6);
const MANY: usize = 10_000;

/// A server with subscribers.
pub struct Site<'a> {
    /// What runs.
    pub target: &'a Target,
    /// It.
    pub server: Running,
    /// Its subscribers.
    pub clients: Clients<'a>,
    /// Its publisher.
    pub publisher: Publisher<'a>,
    /// Topics.
    topics: u32,
    /// See [`Plan::published_to`].
    published_to: fn(u32, u64) -> String,
    /// Subscribers of each topic.
    members: Vec<u32>,
    /// Events published to each topic so far.
    published: Vec<u32>,
    /// Bytes of an event's data.
    bytes: usize,
}

/// What connecting costs.
#[derive(Debug, Clone, Serialize)]
pub struct Connected {
    /// Connections.
    pub connections: usize,
    /// Connections made in a second, clients and server each on a core of their own.
    pub a_second: f64,
    /// Processor time of the server for one, in microseconds.
    pub cpu: f64,
    /// The same of the subscribers' side: together with what the server takes it bounds the rate.
    pub subscriber_cpu: f64,
    /// Memory of the server's processes for one, in bytes, once it is idle.
    pub memory: f64,
    /// The kernel's objects for one, its server's side: half of what both sides took; none where it cannot be
    /// read.
    pub kernel: Option<f64>,
}

/// What delivering costs.
#[derive(Debug, Clone, Serialize)]
pub struct Delivered {
    /// Events in flight: published and not yet with all subscribers.
    pub in_flight: usize,
    /// Events published.
    pub events: u64,
    /// Deliveries a second.
    pub a_second: f64,
    /// Deliveries in a second of the server's processor time.
    pub a_cpu_second: f64,
    /// Events that a receive of a subscriber brought: above one where events were joined into one send, or
    /// where the subscribers were slower than the server.
    pub events_a_receive: f64,
    /// Share of the time that the server's core was used.
    pub server_load: f64,
    /// Times from publish to delivery.
    pub latency: Latency,
}

/// Times from publish to delivery, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// 999 of 1,000 are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Reads a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e6 }
    }
}

impl<'a> Site<'a> {
    /// Starts the server, connects `connections` subscribers to `topics` topics in turn, and lets it come to
    /// rest.
    ///
    /// # Errors
    /// As [`Site::open_with`].
    pub fn open(
        target: &'a Target,
        connections: usize,
        topics: u32,
        bytes: usize,
    ) -> io::Result<(Self, Connected)> {
        Self::open_with(target, &Plan::shared(connections, topics), bytes)
    }

    /// Starts the server, connects the subscribers of a plan, and lets it come to rest. Events will have
    /// `bytes` bytes of data.
    ///
    /// # Errors
    /// The server does not start, a subscriber does not get through, or memory runs short.
    pub fn open_with(target: &'a Target, plan: &Plan, bytes: usize) -> io::Result<(Self, Connected)> {
        let (connections, topics) = (plan.subscribers, plan.topics);
        machine::pin_to(CLIENT_CORE)?;
        let server = target.start(SERVER_CORE)?;
        let publisher = Publisher::connect(&target.publish)?;
        let clients = Clients::new(&target.subscribe, target.port, plan)?;
        let published = vec![0; topics as usize];
        let published_to = plan.published_to;
        let mut members = vec![0; topics as usize];
        (0..connections as u32).for_each(|number| members[(plan.topic_of)(number) as usize] += 1);
        let mut site =
            Self { target, server, clients, publisher, topics, published_to, members, published, bytes };
        // A few, so that what is made once is made before the accounts are read.
        let warm = connections.min(64) as u32;
        site.clients.connect(0..warm, false, WAIT_MAX)?;
        std::thread::sleep(REST);
        let (memory, slabs) = (site.server.memory(), Slabs::now());
        let mut connected = site.connect_counted(warm..connections as u32)?;
        site.rest(if connections >= MANY { SETTLED } else { 2 * REST })?;
        let more = (connections - warm as usize).max(1) as f64;
        let (kernel, _) = Slabs::now().since(&slabs);
        connected.memory = (site.server.memory() as f64 - memory as f64) / more;
        connected.kernel = (kernel > 0).then_some(kernel as f64 / 2.0 / more);
        Ok((site, connected))
    }

    /// All leave, and come anew: once more what connecting costs, without the memory.
    ///
    /// # Errors
    /// As [`Site::connect`]; or leaving takes over 120 s.
    pub fn connect_again(&mut self) -> io::Result<Connected> {
        let everybody = 0..self.clients.len() as u32;
        self.clients.leave_all(everybody.clone(), WAIT_MAX)?;
        self.rest(REST)?;
        self.connect_counted(everybody)
    }

    fn connect_counted(&mut self, which: Range<u32>) -> io::Result<Connected> {
        let more = which.len().max(1) as f64;
        let (cpu, own, started) = (self.server.cpu(), own_cpu(), Instant::now());
        self.connect(which, false)?;
        let (took, own) = (started.elapsed(), own_cpu() - own);
        self.rest(REST)?;
        let used = self.server.cpu() - cpu;
        Ok(Connected {
            connections: self.clients.len(),
            a_second: more / took.as_secs_f64(),
            cpu: used.as_secs_f64() * 1e6 / more,
            subscriber_cpu: own.as_secs_f64() * 1e6 / more,
            memory: 0.0,
            kernel: None,
        })
    }

    /// Connects `which`, and stops before the machine is out of memory. See [`Clients::connect`].
    ///
    /// # Errors
    /// One is refused or not answered within 120 s, or less than 2 GiB of memory are left.
    pub fn connect(&mut self, which: impl IntoIterator<Item = u32>, resumes: bool) -> io::Result<()> {
        let mut which = which.into_iter();
        loop {
            let some: Vec<u32> = which.by_ref().take(STEP).collect();
            if some.is_empty() {
                return Ok(());
            }
            spare_memory()?;
            self.clients.connect(some, resumes, WAIT_MAX)?;
            self.server.check()?;
        }
    }

    /// Ends the connections from the subscribers' side, then the server: nothing is left that waits in the
    /// kernel for its end.
    ///
    /// # Errors
    /// That takes over 120 s.
    pub fn close(mut self) -> io::Result<()> {
        let everybody = 0..self.clients.len() as u32;
        self.clients.leave_all(everybody, WAIT_MAX)
    }

    /// Only handles what comes, for as long.
    ///
    /// # Errors
    /// The server ended, or a ring failed.
    pub fn rest(&mut self, time: Duration) -> io::Result<()> {
        self.clients.run(time, |_| false)?;
        self.server.check()
    }

    /// Publishes to topic 0, with `in_flight` events under way at any time, for as long as `time`.
    ///
    /// # Errors
    /// A publish is refused, an event does not reach all within 120 s, or a subscriber got what it should
    /// not: then there is no figure.
    pub fn deliver(&mut self, in_flight: usize, time: Duration) -> io::Result<Delivered> {
        self.deliver_by(in_flight, in_flight.saturating_sub(1), time)
    }

    /// Publishes `events` events to topic 0 at once, the next as many when all subscribers have got those,
    /// and so on for as long as `time`.
    ///
    /// # Errors
    /// As [`Site::deliver`].
    pub fn deliver_bursts(&mut self, events: usize, time: Duration) -> io::Result<Delivered> {
        self.deliver_by(events, 0, time)
    }

    /// Publishes until `in_flight` events are under way, whenever at most `left` are.
    fn deliver_by(&mut self, in_flight: usize, left: usize, time: Duration) -> io::Result<Delivered> {
        let all = self.clients.hearing(0);
        let (before, receives) = (self.clients.arrived(0), self.clients.receives());
        self.clients.time(true);
        let (cpu, started) = (self.server.cpu(), Instant::now());
        let mut under_way = VecDeque::new();
        let mut events = 0;
        loop {
            let is_over = started.elapsed() >= time;
            let mut batch = Vec::new();
            if !is_over && under_way.len() <= left {
                while under_way.len() < in_flight {
                    let payload = self.next(0);
                    under_way.push_back((payload.number, Instant::now()));
                    batch.push(((self.published_to)(0, payload.number), payload.encode(self.bytes)));
                    events += 1;
                }
                self.publisher.publish(batch.iter().map(|(topic, data)| (topic.as_str(), data.clone())))?;
            }
            if under_way.is_empty() {
                break;
            }
            let came = self.clients.turn()?;
            while under_way.front().is_some_and(|&(number, _)| self.clients.delivered(number) >= all) {
                under_way.pop_front();
            }
            if came == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            self.publisher.unanswered()?;
            self.judge()?;
            if let Some((number, since)) = under_way.front()
                && since.elapsed() > WAIT_MAX
            {
                let got = self.clients.delivered(*number);
                return Err(io::Error::other(format!("event {number} reached {got} of {all}")));
            }
        }
        let took = started.elapsed();
        self.publisher.settle()?;
        let used = self.server.cpu() - cpu;
        let deliveries = (self.clients.arrived(0) - before) as f64;
        if deliveries != events as f64 * all as f64 {
            return Err(io::Error::other(format!("{deliveries} deliveries of {events} events to {all}")));
        }
        Ok(Delivered {
            in_flight,
            events,
            a_second: deliveries / took.as_secs_f64(),
            a_cpu_second: deliveries / used.as_secs_f64(),
            events_a_receive: deliveries / (self.clients.receives() - receives).max(1) as f64,
            server_load: used.as_secs_f64() / took.as_secs_f64(),
            latency: Latency::of(self.clients.latency()),
        })
    }

    /// Publishes `a_second` events a second, for as long as `time`, to topics in no order that a cache could
    /// like, and waits for the last.
    ///
    /// # Errors
    /// As [`Site::deliver`].
    pub fn pace(&mut self, a_second: f64, time: Duration) -> io::Result<Delivered> {
        let (before, receives) = (self.clients.judgement().events, self.clients.receives());
        self.clients.time(true);
        let (cpu, started) = (self.server.cpu(), Instant::now());
        let planned = (a_second * time.as_secs_f64()).max(1.0) as u64;
        for event in 0..planned {
            let due = Duration::from_secs_f64(event as f64 / a_second);
            while let Some(left) = due.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
                self.clients.run(left, |_| false)?;
            }
            self.publish(scattered(event, self.topics))?;
            self.publisher.unanswered()?;
        }
        self.arrive()?;
        let (took, used) = (started.elapsed(), self.server.cpu() - cpu);
        let deliveries = (self.clients.judgement().events - before) as f64;
        Ok(Delivered {
            in_flight: 0,
            events: planned,
            a_second: deliveries / took.as_secs_f64(),
            a_cpu_second: deliveries / used.as_secs_f64(),
            events_a_receive: deliveries / (self.clients.receives() - receives).max(1) as f64,
            server_load: used.as_secs_f64() / took.as_secs_f64(),
            latency: Latency::of(self.clients.latency()),
        })
    }

    /// Publishes one event to each of `topics`, where everybody hears, and waits until all have got theirs.
    /// Answers how many that were.
    ///
    /// # Errors
    /// As [`Site::deliver`].
    pub fn round(&mut self, topics: std::ops::Range<u32>) -> io::Result<u64> {
        let before = self.clients.judgement().events;
        let mut due = 0;
        for topic in topics {
            self.publish(topic)?;
            due += u64::from(self.members[topic as usize]);
        }
        let mut progress = (0, Instant::now());
        loop {
            let came = self.clients.judgement().events - before;
            if came == due {
                break;
            }
            if came > progress.0 {
                progress = (came, Instant::now());
            } else if progress.1.elapsed() > WAIT_MAX {
                return Err(io::Error::other(format!("{came} deliveries came, and no more of {due}")));
            }
            self.judge()?;
            self.publisher.unanswered()?;
            if self.clients.turn()? == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        self.publisher.settle()?;
        self.judge()?;
        Ok(due)
    }

    /// Publishes `times` events to topic 0, each when the one before has come and the server has rested for
    /// `rest`, and answers how long they were under way. It waits without sleeping, so that what is measured
    /// is the server's waking and not the subscriber's.
    ///
    /// # Errors
    /// As [`Site::deliver`].
    pub fn hand_over(&mut self, times: u32, rest: Duration) -> io::Result<Latency> {
        self.clients.time(true);
        for _ in 0..times {
            let (due, started) = (self.clients.arrived(0) + u64::from(self.members[0]), Instant::now());
            self.publish(0)?;
            while self.clients.arrived(0) < due {
                self.clients.turn()?;
                if started.elapsed() > WAIT_MAX {
                    return Err(io::Error::other("an event did not come"));
                }
            }
            self.publisher.settle()?;
            std::thread::sleep(rest);
        }
        self.judge()?;
        Ok(Latency::of(self.clients.latency()))
    }

    /// Publishes one event to a topic.
    ///
    /// # Errors
    /// The publisher's connection failed.
    pub fn publish(&mut self, topic: u32) -> io::Result<()> {
        let payload = self.next(topic);
        let name = (self.published_to)(topic, payload.number);
        self.publisher.publish([(name.as_str(), payload.encode(self.bytes))])
    }

    /// Waits until every subscriber has got all that was published, and every publish is answered.
    ///
    /// # Errors
    /// That takes over 120 s, or a subscriber got what it should not.
    pub fn arrive(&mut self) -> io::Result<()> {
        let Self { clients, published, .. } = self;
        let started = Instant::now();
        let mut missing = u64::MAX;
        let mut pause = Duration::from_millis(1);
        while missing > 0 {
            clients.run(pause, |_| false)?;
            let looked = Instant::now();
            missing = clients.missing(|topic| published[topic as usize]);
            // Looking at all is dear with many: it takes a tenth of the time at most.
            pause = (10 * looked.elapsed()).max(Duration::from_millis(1));
            if started.elapsed() > WAIT_MAX {
                return Err(io::Error::other(format!("{missing} deliveries did not come")));
            }
        }
        self.publisher.settle()?;
        self.judge()
    }

    /// What the subscribers got so far, if nothing was wrong with it.
    ///
    /// # Errors
    /// Something was.
    pub fn judge(&self) -> io::Result<()> {
        let judgement: Judgement = self.clients.judgement();
        if judgement.is_clean() {
            Ok(())
        } else {
            Err(io::Error::other(format!("failed run: {judgement:?}")))
        }
    }

    fn next(&mut self, topic: u32) -> Payload {
        self.published[topic as usize] += 1;
        let number = u64::from(self.published[topic as usize]);
        if topic == 0 {
            self.clients.count_anew(number);
        }
        Payload { number, sent: machine::now(), topic }
    }
}

/// The `n`-th of a sequence over all of `count` that jumps about.
pub fn scattered(n: u64, count: u32) -> u32 {
    // An odd multiplier permutes the integers; the high bits are the well mixed ones.
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((mixed * u64::from(count)) >> 32) as u32
}

/// An error if the machine is short of memory.
///
/// # Errors
/// Less than 2 GiB are left.
pub fn spare_memory() -> io::Result<()> {
    let left = machine::free_memory();
    if left >= MEMORY_LEFT {
        return Ok(());
    }
    let message = format!("stopped: only {} MiB of memory are left", left >> 20);
    Err(io::Error::new(io::ErrorKind::OutOfMemory, message))
}

fn own_cpu() -> Duration {
    machine::cpu_of(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_stays_below_the_count_and_reaches_every_topic() {
        let mut times = [0; 100];
        for n in 0..10_000 {
            times[scattered(n, 100) as usize] += 1;
        }
        assert!(times.iter().all(|&times| (50..200).contains(&times)), "{times:?}");
    }
}
