//! The subscribers themselves.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ring::{Buffers, Done, Of, Ring, SUBSCRIBERS};
use crate::hearing::{Ear, Hearing};
use crate::judge::Judgement;
use crate::target::{Subscribe, Wire};

/// Connections that are being made at once.
const CONNECTING: usize = 1_024;
/// Subscribers of one loopback address: it has ports for about 64,000, and the search for a free one is short
/// while most are free.
const AN_ADDRESS: u32 = 20_000;
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
    ear: Ear,
    /// Counts its connections.
    life: u32,
    state: State,
    /// Reads nothing of what comes once it is open.
    is_deaf: bool,
    /// Its opening is a long poll that may be held: nothing answers it before there is an event.
    is_held: bool,
    /// Answers to its opening.
    answers: u8,
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
    leaving: usize,
    hearing: Hearing,
    done: Vec<Done>,
    readable: Vec<u32>,
    /// The first failure to connect, and how many there were.
    failure: Option<String>,
    failed: u64,
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
            ear: Ear::new((plan.topic_of)(number)),
            life: 0,
            state: State::Away,
            is_deaf: false,
            is_held: false,
            answers: 0,
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
            leaving: 0,
            hearing: Hearing::new(plan.topics),
            done: Vec::new(),
            readable: Vec::new(),
            failure: None,
            failed: 0,
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
                subscriber.ear.forget();
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
            self.leaving += 1;
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
        let hears = |one: &&Subscriber| one.ear.topic == topic && one.state == State::Open && !one.is_deaf;
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
        self.hearing.arrived(topic)
    }

    /// Receives that brought something, so far.
    pub fn receives(&self) -> u64 {
        self.hearing.receives
    }

    /// Connections that are being ended.
    pub fn leaving(&self) -> usize {
        self.leaving
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
            subscriber.ear.next = next_of(subscriber.ear.topic);
        }
    }

    /// Events that subscribers have not got, if `last_of(topic)` was the last of each topic.
    pub fn missing(&self, last_of: impl Fn(u32) -> u32) -> u64 {
        let missing =
            |subscriber: &Subscriber| (last_of(subscriber.ear.topic) + 1).saturating_sub(subscriber.ear.next);
        let reading = self.subscribers.iter().filter(|subscriber| !subscriber.is_deaf);
        reading.map(|subscriber| u64::from(missing(subscriber))).sum()
    }

    /// What came so far.
    pub fn judgement(&self) -> Judgement {
        self.hearing.judgement
    }

    /// How often the event of that number of topic 0 was delivered since [`Clients::count_anew`].
    pub fn delivered(&self, number: u64) -> usize {
        self.hearing.delivered(number)
    }

    /// The event of that number of topic 0 is about to be published.
    pub fn count_anew(&mut self, number: u64) {
        self.hearing.count_anew(number);
    }

    /// From here on times from publish to delivery are kept (nanoseconds), and no earlier ones.
    pub fn time(&mut self, is_timed: bool) {
        self.hearing.time(is_timed);
    }

    /// The longest time from publish to delivery since this was last asked, in nanoseconds.
    pub fn take_slowest(&mut self) -> u64 {
        self.hearing.take_slowest()
    }

    /// Times from publish to delivery, in nanoseconds.
    pub fn latency(&self) -> &Histogram<u64> {
        self.hearing.latency()
    }

    /// Takes turns until `until` says so; sleeps a little when nothing comes. Answers whether it said so
    /// within `within`.
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

    /// Connections that failed or were refused.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Handles all that has come, and connects whom it may. Answers how much came: completions and bytes.
    ///
    /// # Errors
    /// A ring's error: nothing that a server does is one.
    pub fn turn(&mut self) -> io::Result<usize> {
        let mut came = 0;
        for _ in 0..self.waiting.len().min(CONNECTING) {
            if self.opening >= CONNECTING {
                break;
            }
            let Some(number) = self.waiting.pop_front() else { break };
            if self.subscribers[number as usize].state == State::Leaving {
                // Its place in the ring is not free yet.
                self.waiting.push_back(number);
            } else {
                self.open_one(number)?;
            }
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
        let topic = (self.matcher)(subscriber.ear.topic);
        subscriber.life += 1;
        subscriber.state = State::Opening;
        subscriber.answers = 0;
        subscriber.ear.reconnect();
        let cursor = self.hearing.cursor(&subscriber.ear);
        subscriber.is_held = self.how.wire == Wire::LongPoll && cursor.is_some();
        let mut then: VecDeque<_> = match (&self.how.again, cursor) {
            (Some(again), Some(cursor)) => VecDeque::from([again(&topic, &cursor)]),
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
                if subscriber.is_held && subscriber.state == State::Opening {
                    subscriber.state = State::Open;
                    self.opening -= 1;
                    self.open += 1;
                }
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
                self.leaving -= 1;
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
            self.failed += u64::from(self.subscribers[number as usize].state == State::Opening);
            self.hearing.judgement.ended += 1;
        }
        self.leave([number])
    }

    fn receive(&mut self, ring: usize, done: &mut Vec<Done>) -> io::Result<usize> {
        let mut bytes = 0;
        let mut ended = Vec::new();
        let mut readable = std::mem::take(&mut self.readable);
        let mut to_send: Vec<(u32, Vec<u8>)> = Vec::new();
        let Self { rings, buffers, subscribers, hearing, how, matcher, .. } = self;
        let base = ring * SUBSCRIBERS;
        hearing.begin();
        let mut opened = Vec::new();
        rings[ring].receive(buffers, &mut readable, done, &mut |slot, received| {
            let subscriber = &mut subscribers[base + slot as usize];
            let Ok(received) = received else { return ended.push(slot) };
            if received.is_empty() {
                return ended.push(slot);
            }
            bytes += received.len();
            let asked = hearing.take(how.wire, &mut subscriber.ear, received);
            subscriber.answers = subscriber.answers.saturating_add(asked.answers);
            if subscriber.state == State::Opening {
                opened.extend((0..asked.answers).map(|_| slot));
            }
            if asked.again
                && let Some(again) = &how.again
                && let Some(cursor) = hearing.cursor(&subscriber.ear)
            {
                to_send.push((slot, again(&matcher(subscriber.ear.topic), &cursor)));
            }
            if !asked.reply.is_empty() {
                to_send.push((slot, asked.reply));
            }
            if asked.is_over {
                ended.push(slot);
            }
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
        if let Some(sending) = self.sending.get_mut(&number)
            && let Some(next) = sending.then.pop_front()
        {
            if sending.now.is_empty() {
                sending.now = next;
                return self.rings[ring].send(slot, subscriber.life, &sending.now);
            }
            // The completion of the part before is still to come, and sends it.
            sending.then.push_front(next);
            return Ok(());
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
