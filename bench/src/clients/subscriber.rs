//! The subscribers themselves.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ring::{Buffers, Done, Of, Ring, SUBSCRIBERS};
use crate::judge::Judgement;
use crate::machine;
use crate::target::Subscribe;
use crate::wire::{self, Decoder, Found};

/// Connections that are being made at once.
const CONNECTING: usize = 1_024;
/// Subscribers of one loopback address: it has ports for about 64,000, and the search for a free one is short
/// while most are free.
const AN_ADDRESS: u32 = 20_000;
/// Events whose deliveries are counted at once.
const COUNTED: usize = 4_096;
/// Connections that are ended between two turns.
const LEAVING: usize = 2_048;
/// How long the thread sleeps when nothing has come. A client that waits for each event costs the server a
/// wake-up for each.
const PAUSE: Duration = Duration::from_micros(100);

/// What a subscriber is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has no connection.
    Away,
    /// It has asked, and was not answered yet.
    Opening,
    /// It hears.
    Open,
    /// Its connection is being ended.
    Leaving,
}

#[derive(Debug)]
struct Subscriber {
    topic: u32,
    /// Number of the event that it must get next; 0 if any will do.
    next: u32,
    /// Offset of its place in the log.
    offset: u64,
    /// Counts its connections.
    life: u32,
    state: State,
    /// Reads nothing of what comes once it is open.
    is_deaf: bool,
    /// Answers to its opening.
    answers: u8,
    decoder: Decoder,
}

/// Who subscribes to what.
pub struct Plan {
    /// Subscribers.
    pub subscribers: usize,
    /// Topics; where subscribers name wildcards, each stands for all the topics of one matcher.
    pub topics: u32,
    /// The topic of each subscriber, below `topics`.
    pub topic_of: Box<dyn Fn(u32) -> u32>,
    /// What a subscriber of a topic names.
    pub matcher: fn(u32) -> String,
    /// Where the event of that number of a topic is published.
    pub published_to: fn(u32, u64) -> String,
}

impl Plan {
    /// `subscribers`, dealt out to `topics` in turn.
    pub fn shared(subscribers: usize, topics: u32) -> Self {
        Self {
            subscribers,
            topics,
            topic_of: Box::new(move |number| number % topics),
            matcher: Clients::topic,
            published_to: |topic, _| Clients::topic(topic),
        }
    }
}

/// Bytes on their way: what is being sent, and what follows.
struct Sending {
    address: libc::sockaddr_in,
    now: Vec<u8>,
    then: VecDeque<Vec<u8>>,
}

/// Subscribers of one server, moved by [`Clients::turn`].
pub struct Clients<'a> {
    how: &'a Subscribe,
    port: u16,
    matcher: fn(u32) -> String,
    rings: Vec<Ring>,
    buffers: Buffers,
    subscribers: Vec<Subscriber>,
    sending: HashMap<u32, Box<Sending>>,
    /// Those that must still ask, in order.
    waiting: VecDeque<u32>,
    opening: usize,
    open: usize,
    judgement: Judgement,
    /// Epoch of the cursors.
    epoch: String,
    /// How often each of the latest events of topic 0 was delivered.
    delivered: Vec<u32>,
    /// Deliveries of each topic.
    arrived: Vec<u64>,
    /// Receives that brought something.
    receives: u64,
    latency: Histogram<u64>,
    is_timed: bool,
    done: Vec<Done>,
    readable: Vec<u32>,
    /// The first failure to connect.
    failure: Option<String>,
}

impl<'a> Clients<'a> {
    /// Subscribers of the server at `port` of the loopback addresses, none of them connected.
    ///
    /// # Errors
    /// A ring cannot be had.
    pub fn new(how: &'a Subscribe, port: u16, plan: &Plan) -> io::Result<Self> {
        let count = plan.subscribers;
        let rings = (0..count.div_ceil(SUBSCRIBERS)).map(|_| Ring::new()).collect::<io::Result<_>>()?;
        let subscriber = |number| Subscriber {
            topic: (plan.topic_of)(number),
            next: 1,
            offset: 0,
            life: 0,
            state: State::Away,
            is_deaf: false,
            answers: 0,
            decoder: Decoder::default(),
        };
        Ok(Self {
            how,
            port,
            matcher: plan.matcher,
            rings,
            buffers: Buffers::new(),
            subscribers: (0..count as u32).map(subscriber).collect(),
            sending: HashMap::new(),
            waiting: VecDeque::new(),
            opening: 0,
            open: 0,
            judgement: Judgement::default(),
            epoch: String::new(),
            delivered: vec![0; COUNTED],
            arrived: vec![0; plan.topics as usize],
            receives: 0,
            latency: Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("valid bounds"),
            is_timed: false,
            done: Vec::new(),
            readable: Vec::new(),
            failure: None,
        })
    }

    /// The name of a topic.
    pub fn topic(number: u32) -> String {
        format!("bench/{number}")
    }

    /// Connects `which`, and waits until all of them are answered. With `resumes` they come back with their
    /// cursor, and go on where they were.
    ///
    /// # Errors
    /// One was refused or did not connect, or `within` has passed.
    pub fn connect(
        &mut self,
        which: impl IntoIterator<Item = u32>,
        resumes: bool,
        within: Duration,
    ) -> io::Result<()> {
        self.start_connecting(which, resumes);
        let started = Instant::now();
        while !self.is_connected() {
            if self.turn()? == 0 {
                std::thread::sleep(PAUSE / 5);
            }
            if let Some(failure) = self.failure.take() {
                return Err(io::Error::other(failure));
            }
            if started.elapsed() > within {
                let (open, opening, waiting) = (self.open, self.opening, self.waiting.len());
                return Err(io::Error::other(format!(
                    "after {within:?} {open} are connected, {opening} wait for their answer, {waiting} to ask"
                )));
            }
        }
        Ok(())
    }

    /// Lets `which` connect as further turns are taken.
    pub fn start_connecting(&mut self, which: impl IntoIterator<Item = u32>, resumes: bool) {
        for number in which {
            let subscriber = &mut self.subscribers[number as usize];
            if !resumes {
                subscriber.offset = 0;
            }
            self.waiting.push_back(number);
        }
    }

    /// Whether nobody waits for a connection or its answer.
    pub fn is_connected(&self) -> bool {
        self.waiting.is_empty() && self.opening == 0
    }

    /// Resets the connections of `which`; each is away when a later turn has seen it close.
    ///
    /// # Errors
    /// A ring's error.
    pub fn leave(&mut self, which: impl IntoIterator<Item = u32>) -> io::Result<()> {
        for number in which {
            let subscriber = &mut self.subscribers[number as usize];
            match subscriber.state {
                State::Open => self.open -= 1,
                State::Opening => self.opening -= 1,
                State::Away | State::Leaving => continue,
            }
            subscriber.state = State::Leaving;
            let (ring, slot) = (number as usize / SUBSCRIBERS, number % SUBSCRIBERS as u32);
            self.rings[ring].leave(slot, subscriber.life)?;
        }
        Ok(())
    }

    /// Resets the connections of `which`, some at a time, until all of them are gone from this side.
    ///
    /// # Errors
    /// A ring's error, or `within` has passed.
    pub fn leave_all(&mut self, which: impl IntoIterator<Item = u32>, within: Duration) -> io::Result<()> {
        let started = Instant::now();
        let mut which = which.into_iter();
        loop {
            let some: Vec<u32> = which.by_ref().take(LEAVING).collect();
            if some.is_empty() {
                break;
            }
            self.leave(some)?;
            self.turn()?;
        }
        while self.leaving() > 0 {
            self.run(Duration::from_millis(10), |_| false)?;
            if started.elapsed() > within {
                let message = format!("after {within:?} {} connections are not closed", self.leaving());
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    /// From here on `which` read nothing of what comes, and are not asked for it.
    pub fn deafen(&mut self, which: impl IntoIterator<Item = u32>) {
        for number in which {
            self.subscribers[number as usize].is_deaf = true;
        }
    }

    /// Subscribers of a topic that hear, and read.
    pub fn hearing(&self, topic: u32) -> usize {
        let hears = |one: &&Subscriber| one.topic == topic && one.state == State::Open && !one.is_deaf;
        self.subscribers.iter().filter(hears).count()
    }

    /// Whether the subscriber of that number hears.
    pub fn is_open(&self, number: u32) -> bool {
        self.subscribers[number as usize].state == State::Open
    }

    /// Whether the subscriber of that number has no connection.
    pub fn is_away(&self, number: u32) -> bool {
        self.subscribers[number as usize].state == State::Away
    }

    /// Deliveries of the events of a topic so far.
    pub fn arrived(&self, topic: u32) -> u64 {
        self.arrived[topic as usize]
    }

    /// Receives that brought something, so far.
    pub fn receives(&self) -> u64 {
        self.receives
    }

    /// Connections that are being ended.
    pub fn leaving(&self) -> usize {
        self.subscribers.iter().filter(|subscriber| subscriber.state == State::Leaving).count()
    }

    /// Subscribers, connected or not.
    #[expect(clippy::len_without_is_empty, reason = "a plan without subscribers measures nothing")]
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Subscribers that hear.
    pub fn open(&self) -> usize {
        self.open
    }

    /// From here on each subscriber must get the event `next_of(topic)` of its topic next; 0 for any.
    pub fn expect(&mut self, next_of: impl Fn(u32) -> u32) {
        for subscriber in &mut self.subscribers {
            subscriber.next = next_of(subscriber.topic);
        }
    }

    /// Events that subscribers have not got, if `last_of(topic)` was the last of each topic.
    pub fn missing(&self, last_of: impl Fn(u32) -> u32) -> u64 {
        let missing =
            |subscriber: &Subscriber| (last_of(subscriber.topic) + 1).saturating_sub(subscriber.next);
        let reading = self.subscribers.iter().filter(|subscriber| !subscriber.is_deaf);
        reading.map(|subscriber| u64::from(missing(subscriber))).sum()
    }

    /// What came so far.
    pub fn judgement(&self) -> Judgement {
        self.judgement
    }

    /// How often the event of that number of topic 0 was delivered since [`Clients::count_anew`].
    pub fn delivered(&self, number: u64) -> usize {
        self.delivered[number as usize % COUNTED] as usize
    }

    /// The event of that number of topic 0 is about to be published.
    pub fn count_anew(&mut self, number: u64) {
        self.delivered[number as usize % COUNTED] = 0;
    }

    /// From here on times from publish to delivery are kept (nanoseconds), and no earlier ones.
    pub fn time(&mut self, is_timed: bool) {
        self.is_timed = is_timed;
        self.latency.reset();
    }

    /// Times from publish to delivery, in nanoseconds.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Takes turns until `until` says so; sleeps a little when nothing comes. Answers whether it said so within
    /// `within`.
    ///
    /// # Errors
    /// As [`Clients::turn`].
    pub fn run(&mut self, within: Duration, mut until: impl FnMut(&mut Self) -> bool) -> io::Result<bool> {
        let started = Instant::now();
        loop {
            let came = self.turn()?;
            if until(self) {
                return Ok(true);
            }
            if started.elapsed() > within {
                return Ok(false);
            }
            if came == 0 {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Handles all that has come, and connects whom it may. Answers how much came: completions and bytes.
    ///
    /// # Errors
    /// A ring's error: nothing that a server does is one.
    pub fn turn(&mut self) -> io::Result<usize> {
        let mut came = 0;
        while self.opening < CONNECTING
            && let Some(number) = self.waiting.pop_front()
        {
            self.open_one(number)?;
        }
        for index in 0..self.rings.len() {
            let mut done = std::mem::take(&mut self.done);
            self.rings[index].turn(&mut done)?;
            // Receives hand over what completes meanwhile, so it takes rounds, of which each ends.
            while !done.is_empty() {
                came += done.len();
                for one in done.drain(..) {
                    self.take(index, one)?;
                }
                came += self.receive(index, &mut done)?;
            }
            self.done = done;
        }
        Ok(came)
    }

    fn open_one(&mut self, number: u32) -> io::Result<()> {
        let subscriber = &mut self.subscribers[number as usize];
        let topic = (self.matcher)(subscriber.topic);
        subscriber.life += 1;
        subscriber.state = State::Opening;
        subscriber.answers = 0;
        subscriber.decoder = Decoder::default();
        let mut then: VecDeque<_> = match &self.how.again {
            Some(again) if subscriber.offset > 0 => {
                VecDeque::from([again(&topic, &format!("{}-{}", self.epoch, subscriber.offset))])
            }
            _ => (self.how.opening)(&topic).into(),
        };
        let [_, _, high, low] = (number / AN_ADDRESS + 1).to_be_bytes();
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: self.port.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::new(127, 0, high, low)).to_be() },
            sin_zero: [0; 8],
        };
        let now = then.pop_front().expect("an opening has at least one part");
        let sending = Box::new(Sending { address, now, then });
        let (ring, slot) = (number as usize / SUBSCRIBERS, number % SUBSCRIBERS as u32);
        self.rings[ring].connect(slot, subscriber.life, &sending.address, &sending.now)?;
        self.sending.insert(number, sending);
        self.opening += 1;
        Ok(())
    }

    fn take(&mut self, ring: usize, done: Done) -> io::Result<()> {
        let number = (ring * SUBSCRIBERS) as u32 + done.slot;
        let subscriber = &mut self.subscribers[number as usize];
        if subscriber.life & 0xff_ffff != done.life {
            return Ok(());
        }
        match done.of {
            Of::Socket | Of::Connect | Of::Send if done.result < 0 => {
                // What is linked behind a failure is cancelled, which says nothing.
                if done.result != -libc::ECANCELED && subscriber.state != State::Leaving {
                    let error = io::Error::from_raw_os_error(-done.result);
                    self.failure.get_or_insert(format!("subscriber {number}: {:?}: {error}", done.of));
                    self.end(ring, done.slot)?;
                }
            }
            Of::Send => {
                let opened = subscriber.answers > 0;
                if let Some(sending) = self.sending.get_mut(&number) {
                    sending.now = Vec::new();
                    // The next part of an opening waits for the answer to the one before.
                    if opened && let Some(next) = sending.then.pop_front() {
                        sending.now = next;
                        self.rings[ring].send(done.slot, done.life, &sending.now)?;
                    } else if sending.then.is_empty() {
                        self.sending.remove(&number);
                    }
                }
            }
            Of::Poll if done.result < 0 => {}
            Of::Poll if subscriber.is_deaf && subscriber.state == State::Open => {}
            Of::Poll => {
                if matches!(subscriber.state, State::Open | State::Opening) {
                    self.readable.push(done.slot);
                    if !done.has_more {
                        self.rings[ring].poll(done.slot, done.life)?;
                    }
                }
            }
            Of::Left => {
                subscriber.state = State::Away;
                self.sending.remove(&number);
            }
            Of::Leave | Of::Socket | Of::Connect => {}
        }
        Ok(())
    }

    /// A connection that the server ended, or that nothing more is wanted from.
    fn end(&mut self, ring: usize, slot: u32) -> io::Result<()> {
        let number = (ring * SUBSCRIBERS) as u32 + slot;
        if matches!(self.subscribers[number as usize].state, State::Open | State::Opening) {
            self.judgement.ended += 1;
        }
        self.leave([number])
    }

    fn receive(&mut self, ring: usize, done: &mut Vec<Done>) -> io::Result<usize> {
        let mut bytes = 0;
        let mut ended = Vec::new();
        let mut readable = std::mem::take(&mut self.readable);
        let mut to_send: Vec<(u32, Vec<u8>)> = Vec::new();
        let Self {
            rings,
            buffers,
            subscribers,
            judgement,
            delivered,
            arrived,
            receives,
            latency,
            how,
            epoch,
            matcher,
            ..
        } = self;
        let base = ring * SUBSCRIBERS;
        let now = if self.is_timed { machine::now() } else { 0 };
        let (mut opened, is_timed) = (Vec::new(), self.is_timed);
        rings[ring].receive(buffers, &mut readable, done, &mut |slot, received| {
            let subscriber = &mut subscribers[base + slot as usize];
            let Ok(received) = received else { return ended.push(slot) };
            if received.is_empty() {
                return ended.push(slot);
            }
            bytes += received.len();
            *receives += 1;
            let Subscriber { topic, next, offset, state, answers, decoder, .. } = subscriber;
            decoder.feed(how.wire, received, &mut |found| match found {
                Found::Event(text) => {
                    if let Some(payload) = judgement.event(next, *topic, text) {
                        arrived[*topic as usize] += 1;
                        if *topic == 0 {
                            delivered[payload.number as usize % COUNTED] += 1;
                        }
                        if is_timed {
                            latency.saturating_record(now.saturating_sub(payload.sent).max(1));
                        }
                    }
                }
                Found::Cursor(cursor) => {
                    if let Some(hyphen) = memchr::memchr(b'-', cursor) {
                        if epoch.is_empty() {
                            *epoch = String::from_utf8_lossy(&cursor[..hyphen]).into_owned();
                        }
                        *offset = cursor[hyphen + 1..]
                            .iter()
                            .fold(0, |value, digit| value * 10 + u64::from(digit.wrapping_sub(b'0')));
                    }
                }
                Found::Answer => {
                    *answers = answers.saturating_add(1);
                    if *state == State::Opening {
                        opened.push(slot);
                    }
                }
                Found::Again => {
                    if let Some(again) = &how.again {
                        let cursor = format!("{epoch}-{offset}");
                        to_send.push((slot, again(&matcher(*topic), &cursor)));
                    }
                }
                Found::Ping(data) => to_send.push((slot, wire::pong(data))),
                Found::Gap => judgement.gaps += 1,
                Found::Malformed => {
                    judgement.malformed += 1;
                    ended.push(slot);
                }
                Found::End => ended.push(slot),
            });
        })?;
        self.readable = readable;
        for slot in opened {
            self.answered(ring, slot)?;
        }
        for (slot, bytes) in to_send {
            self.send(ring, slot, bytes)?;
        }
        for slot in ended {
            if self.subscribers[base + slot as usize].state == State::Opening && self.failure.is_none() {
                self.failure = Some(format!("subscriber {} was refused", base + slot as usize));
            }
            self.end(ring, slot)?;
        }
        Ok(bytes)
    }

    /// An answer to a part of an opening: sends the next part, or the subscriber is connected.
    fn answered(&mut self, ring: usize, slot: u32) -> io::Result<()> {
        let number = (ring * SUBSCRIBERS) as u32 + slot;
        let subscriber = &mut self.subscribers[number as usize];
        if subscriber.state != State::Opening {
            return Ok(());
        }
        if let Some(sending) = self.sending.get_mut(&number) {
            if let Some(next) = sending.then.pop_front() {
                if sending.now.is_empty() {
                    sending.now = next;
                    return self.rings[ring].send(slot, subscriber.life, &sending.now);
                }
                // The completion of the part before is still to come, and sends it.
                sending.then.push_front(next);
                return Ok(());
            }
        }
        subscriber.state = State::Open;
        self.opening -= 1;
        self.open += 1;
        Ok(())
    }

    fn send(&mut self, ring: usize, slot: u32, bytes: Vec<u8>) -> io::Result<()> {
        let number = (ring * SUBSCRIBERS) as u32 + slot;
        let life = self.subscribers[number as usize].life;
        if let Some(sending) = self.sending.get_mut(&number) {
            sending.then.push_back(bytes);
            return Ok(());
        }
        // SAFETY: all zeros are a valid address, which nothing reads here.
        let address = unsafe { std::mem::zeroed() };
        let sending = Box::new(Sending { address, now: bytes, then: VecDeque::new() });
        self.rings[ring].send(slot, life, &sending.now)?;
        self.sending.insert(number, sending);
        Ok(())
    }
}
