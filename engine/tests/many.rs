//! Ten thousand subscribers of one process, on all transports, while others come and go: every event to each.
//! And a thousand that do not read: the others are not slower, the engine's memory does not grow with what
//! those miss, and they are told what they missed when they read again.
//!
//! The clients are a process of their own, this test once more: so neither runs out of descriptors, and the
//! memory that is measured is the engine's.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::*;
use stentor::sim::checker::{Checker, Hearing, Truth};
use stentor::transport::decode::Item;
use stentor::transport::{Format, Framing, Transport};
use stentor::{Cursor, Engine, Event, Matcher};

/// Names the address in the environment of the process that has the clients.
const ADDRESS: &str = "STENTOR_TEST_MANY";
/// What the clients say begins so; the rest of their output is the test harness's.
const MARK: &str = "many: ";

const SUBSCRIBERS: usize = 10_000;
/// Of those, how many stop to read.
const DEAF: usize = 1_000;
/// How many join and leave a second, meanwhile.
const CHURN_PER_SECOND: u64 = 50;
const GROUPS: usize = 50;
/// Events of the topic that deaf ones miss, and their data: more than the sockets of a connection hold.
const MISSED: usize = 160;
const MISSED_BYTES: usize = 4_000;
/// The log keeps fewer of them.
const KEPT: usize = 64;
/// How much more memory the engine may have after the deaf ones missed their events: a twentieth of these.
const MARGIN_BYTES: usize = DEAF * MISSED * MISSED_BYTES / 20;

const TRANSPORTS: [Hearing; 8] = [
    hearing(Transport::Sse, Format::Raw, Framing::Chunked),
    hearing(Transport::WebSocket, Format::Json, Framing::Frames),
    hearing(Transport::Sse, Format::Json, Framing::Chunked),
    hearing(Transport::Stream, Format::Json, Framing::Chunked),
    hearing(Transport::LongPoll, Format::Json, Framing::Length),
    hearing(Transport::Iframe, Format::Json, Framing::Chunked),
    hearing(Transport::Sse, Format::Raw, Framing::UntilClose),
    hearing(Transport::Stream, Format::Json, Framing::UntilClose),
];

#[test]
fn every_event_reaches_each_of_ten_thousand_and_the_deaf_harm_nobody() {
    match std::env::var(ADDRESS) {
        Ok(address) => clients(address.parse().expect("an address")),
        Err(_) => engine(),
    }
}

// The engine's process.

struct Clients {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Clients {
    fn start(address: SocketAddr) -> Self {
        let name = "every_event_reaches_each_of_ten_thousand_and_the_deaf_harm_nobody";
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--nocapture"])
            .env(ADDRESS, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness ends no line before the test's first.
                if let Some((_, said)) = line.split_once(MARK) {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Self { process, input, lines }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the clients listen");
    }

    /// What they answer, within a minute.
    fn answer(&mut self) -> String {
        match self.lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the clients say nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the clients are gone"),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn engine() {
    let limits = |config: &mut stentor::config::Config| {
        config.retention.events = KEPT;
        config.timing.heartbeat_seconds = 600;
        config.limits.send_buffer_bytes = 16 << 10;
    };
    let engine = start(config(limits), Backing::Ring);
    let mut clients = Clients::start(address(&engine));
    assert_eq!(clients.answer(), "all subscribed");
    eventually("all are parked", || figure(&engine, "stentor_subscribers", None) >= SUBSCRIBERS as u64);

    // All hear and read.
    clients.tell("churn");
    let mut number = 0;
    publish_small(&engine, &mut clients, &mut number, 40);
    clients.tell("settle");
    let before: u64 = clients.answer().parse().expect("a median");

    // A thousand do not read.
    clients.tell("deafen");
    assert_eq!(clients.answer(), "deaf");
    let memory = resident_bytes();
    for _ in 0..MISSED / 8 {
        for _ in 0..8 {
            let event = Event::text("missed", format!("{number} {}", "m".repeat(MISSED_BYTES))).unwrap();
            publish(&engine, &mut clients, event);
            number += 1;
        }
        publish_small(&engine, &mut clients, &mut number, 2);
    }
    clients.tell("settle");
    let meanwhile: u64 = clients.answer().parse().expect("a median");
    let grown = resident_bytes().saturating_sub(memory);
    let missed = DEAF * MISSED * MISSED_BYTES;
    eprintln!(
        "median {before} us, then {meanwhile} us; {} KiB more memory while {} KiB were missed; \
         {} fell behind",
        grown >> 10,
        missed >> 10,
        figure(&engine, "stentor_fell_behind_total", None),
    );
    // Both are full of the schedule of two busy cores; a subscriber that waits for another would take
    // seconds.
    assert!(meanwhile <= 3 * before + 200_000, "median {before} us, then {meanwhile} us");
    assert!(grown <= MARGIN_BYTES, "{} KiB more", grown >> 10);

    clients.tell("hear");
    assert_eq!(clients.answer(), format!("{DEAF} were told"));
    clients.tell("stop");
    let churned: u64 = clients.answer().parse().expect("a count");
    assert!(churned >= 100, "{churned} came and went");
    assert!(figure(&engine, "stentor_gaps_total", None) >= DEAF as u64);
    let reset = figure(&engine, "stentor_subscriptions_ended_total", Some("memory"));
    eprintln!("{churned} came and went");
    assert_eq!(reset, 0, "were reset because half-sent runs held too much memory");
    assert!(clients.process.wait().expect("an end").success());
    eventually("all are gone", || figure(&engine, "stentor_connections", None) == 0);
}

/// Publishes for all, for groups, and for nobody, at a pace that two cores keep up with.
fn publish_small(engine: &Engine, clients: &mut Clients, number: &mut usize, count: usize) {
    for _ in 0..count {
        let topic = match *number % 4 {
            0 => "all".to_owned(),
            1 | 2 => format!("group/{}", *number * 7 % GROUPS),
            _ => "nobody/hears".into(),
        };
        let event = Event::text(&topic, format!("event {number}")).unwrap().named("small").unwrap();
        publish(engine, clients, event);
        *number += 1;
        std::thread::sleep(Duration::from_millis(60));
    }
}

/// Publishes, and tells the clients what and when.
fn publish(engine: &Engine, clients: &mut Clients, event: Event) {
    let cursor = block_on(engine.publisher().publish_wait(event.clone())).expect("published");
    let data = std::str::from_utf8(event.data().bytes()).expect("text");
    let name = event.name().unwrap_or("-");
    clients.tell(&format!("event {cursor} {} {} {name} {data}", now_us(), event.topic()));
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

// The clients' process.

struct Subscriber {
    listener: Listener,
    checker: Checker,
    query: String,
    is_deaf: bool,
    is_small: bool,
}

impl Subscriber {
    fn open(address: SocketAddr, hearing: Hearing, matchers: &[String], is_small: bool) -> Self {
        let client = Client::new(address);
        let query: String = matchers.iter().map(|matcher| format!("topic={matcher}&")).collect();
        let mut listener = Listener::on(client, hearing);
        listener.request(&(query.clone() + "wait=120"), "");
        listener.client.stream.set_nonblocking(true).expect("nonblocking");
        let matchers = matchers.iter().map(|matcher| Matcher::new(matcher).expect("a matcher")).collect();
        Self { listener, checker: Checker::new(matchers, hearing), query, is_deaf: false, is_small }
    }

    /// Reads what is there and checks what is known to be published; tells of each event when it was seen.
    fn turn(&mut self, world: &mut World) {
        while let Some(count) = self.listener.read_now() {
            if count == 0 {
                // A bound on half-sent bytes resets the slowest: they come back with their place.
                assert!(self.is_small, "{:?} was cut: {:?}", self.checker.hearing, self.listener.cut);
                self.again(world);
                return;
            }
        }
        while let Some(item) = self.listener.items.front() {
            let names = match item {
                Item::Event { id, .. } => *id,
                Item::Cursor(cursor) | Item::Answer { cursor, .. } => Some(*cursor),
                Item::Gap { resumed, .. } => Some(*resumed),
                Item::End { .. } => panic!("{:?} was ended", self.checker.hearing),
                _ => None,
            };
            if names.is_some_and(|cursor| cursor.offset > world.truth.head(cursor.epoch)) {
                // The word of it is still on its way.
                return;
            }
            let item = self.listener.items.pop_front().expect("it was there");
            self.check(&item, world);
            match item {
                Item::Event { id: Some(id), .. } => world.seen(id),
                Item::Answer { cursor, .. } => {
                    self.listener.request(&format!("{}wait=120&cursor={cursor}", self.query), "");
                }
                _ => {}
            }
        }
    }

    /// Subscribes again, from where it is.
    fn again(&mut self, world: &World) {
        self.listener.items.retain(|item| !matches!(item, Item::End { .. }));
        for item in std::mem::take(&mut self.listener.items) {
            self.check(&item, world);
        }
        let place = self.checker.position.expect("a place");
        self.checker.reconnected(true);
        self.listener = Listener::on(Client::new(world.address), self.checker.hearing);
        self.listener.request(&format!("{}cursor={place}", self.query), "");
        self.listener.client.stream.set_nonblocking(true).expect("nonblocking");
    }

    fn check(&mut self, item: &Item, world: &World) {
        let checked = self.checker.item(item, &world.truth, &|_| true);
        checked.unwrap_or_else(|error| panic!("{:?} {}: {error}", self.checker.hearing, self.query));
    }

    /// Whether it has all that was published for it.
    fn has_all(&self, world: &World) -> bool {
        let epoch = world.newest.map(|cursor| cursor.epoch);
        epoch.is_none_or(|epoch| self.checker.missing(epoch, &world.truth).is_none())
    }
}

/// What was published.
struct World {
    address: SocketAddr,
    truth: Truth,
    newest: Option<Cursor>,
    published_us: HashMap<u64, u64>,
    latencies_us: Vec<u64>,
}

impl World {
    fn seen(&mut self, id: Cursor) {
        if let Some(published_us) = self.published_us.get(&id.offset.0) {
            self.latencies_us.push(now_us().saturating_sub(*published_us));
        }
    }

    fn published(&mut self, line: &str) {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().expect("a word");
        let cursor: Cursor = word().parse().expect("a cursor");
        let at_us = word().parse().expect("a time");
        let (topic, name, data) = (word(), word(), word());
        let mut event = Event::text(topic, data).expect("an event");
        if name != "-" {
            event = event.named(name).expect("a name");
            self.published_us.insert(cursor.offset.0, at_us);
        }
        self.truth.published(cursor, &event);
        self.newest = Some(cursor);
    }

    fn median(&mut self) -> u64 {
        self.latencies_us.sort_unstable();
        let median = self.latencies_us.get(self.latencies_us.len() / 2).copied().unwrap_or_default();
        self.latencies_us.clear();
        median
    }
}

fn matchers_of(index: usize, is_small: bool) -> Vec<String> {
    if is_small {
        return vec!["all".into(), "missed".into()];
    }
    match index % 10 {
        0 => vec!["all".into(), format!("group/{}", index / 10 % GROUPS), format!("own/{index}")],
        1 => vec!["all".into(), format!("group/{}", index % 7 * 7), "group/1".into()],
        2 => vec!["all".into(), "group/*".into()],
        3 if index % 100 == 3 => vec!["all".into(), "missed".into()],
        _ => vec!["all".into()],
    }
}

fn clients(address: SocketAddr) {
    let say = |text: &str| println!("\n{MARK}{text}");
    // Long polls miss nothing of a stream: each asks again from its place. So deaf ones hear streams.
    let mut subscribers: Vec<Subscriber> = (0..SUBSCRIBERS)
        .map(|index| {
            let is_small = index % (SUBSCRIBERS / DEAF) == 9;
            let hearing = match is_small {
                true => TRANSPORTS[index / 10 % 4],
                false => TRANSPORTS[index % TRANSPORTS.len()],
            };
            Subscriber::open(address, hearing, &matchers_of(index, is_small), is_small)
        })
        .collect();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut world = World {
        address,
        truth: Truth::default(),
        newest: None,
        published_us: HashMap::new(),
        latencies_us: Vec::new(),
    };
    // A place to check from; long polls tell none before their first answer.
    let begun = Instant::now();
    let is_silent = |s: &&Subscriber| !s.listener.hearing.transport.is_poll() && s.checker.position.is_none();
    while let Some(silent) = subscribers.iter().find(is_silent) {
        let count = subscribers.iter().filter(is_silent).count();
        let hearing = silent.listener.hearing;
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{count} are not answered, one of them {hearing:?}"
        );
        subscribers.iter_mut().for_each(first_place);
    }
    say("all subscribed");

    let mut churning: Option<Instant> = None;
    let (mut joined, mut guests) = (0, Vec::<Subscriber>::new());
    let mut waits: Option<&str> = None;
    let mut is_stopped = false;
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(Instant::now() < limit, "the clients are not done");
        // First what was published, so that what is heard can be judged.
        let mut line = lines.recv_timeout(Duration::from_millis(1)).ok();
        while let Some(said) = line.take() {
            match said.split_once(' ') {
                Some(("event", event)) => {
                    world.published(event);
                    line = lines.try_recv().ok();
                }
                _ => match &*said {
                    "churn" => churning = Some(Instant::now()),
                    "settle" => waits = Some("settle"),
                    "deafen" => {
                        subscribers.iter_mut().for_each(|s| s.is_deaf = s.is_small);
                        say("deaf");
                    }
                    "hear" => {
                        subscribers.iter_mut().for_each(|s| s.is_deaf = false);
                        waits = Some("hear");
                    }
                    _ => is_stopped = true,
                },
            }
        }
        if is_stopped {
            break;
        }
        for subscriber in subscribers.iter_mut().filter(|subscriber| !subscriber.is_deaf) {
            subscriber.turn(&mut world);
        }
        if let Some(since) = churning {
            while joined < since.elapsed().as_millis() as u64 * CHURN_PER_SECOND / 1_000 {
                let hearing = TRANSPORTS[joined as usize % 4];
                guests.push(Subscriber::open(address, hearing, &matchers_of(joined as usize, false), false));
                joined += 1;
            }
            guests.iter_mut().for_each(|guest| guest.turn(&mut world));
            // Each stays a second.
            let leaving = guests.len().saturating_sub(CHURN_PER_SECOND as usize);
            guests.drain(..leaving);
        }
        if waits.is_some() && subscribers.iter().all(|s| s.is_deaf || s.has_all(&world)) {
            match waits.take() {
                Some("hear") => {
                    let told = subscribers.iter().filter(|s| s.is_small && s.checker.gaps > 0).count();
                    let others = subscribers.iter().filter(|s| !s.is_small && s.checker.gaps > 0).count();
                    assert_eq!(others, 0, "who read was told of a gap");
                    say(&format!("{told} were told"));
                }
                _ => say(&world.median().to_string()),
            }
        }
    }
    say(&joined.to_string());
}

/// Reads the start of a stream, before anything is published.
fn first_place(subscriber: &mut Subscriber) {
    subscriber.listener.read_now();
    for item in subscriber.listener.items.drain(..) {
        if let Item::Cursor(cursor) = item {
            subscriber.checker.position = Some(cursor);
        }
    }
}
