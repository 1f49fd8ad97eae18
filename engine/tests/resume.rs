//! One cursor over all transports: a subscriber that moves between them while events come at full speed loses
//! none and gets none twice.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::*;
use stentor::sim::checker::{Checker, Hearing, Truth};
use stentor::transport::decode::Item;
use stentor::transport::{Format, Framing, Transport};
use stentor::{Cursor, Engine, Event, Matcher, Publisher};

on_both_backings! {
    a_subscriber_moves_through_all_transports_with_one_cursor;
    connections_cut_anywhere_resume_where_they_were;
}

const EVENTS: u64 = 10_000;

/// The way down of a client behind ever worse proxies.
const MOVES: [Hearing; 6] = [
    hearing(Transport::WebSocket, Format::Json, Framing::Frames),
    hearing(Transport::Sse, Format::Raw, Framing::Chunked),
    hearing(Transport::LongPoll, Format::Json, Framing::Length),
    hearing(Transport::Poll, Format::Json, Framing::Length),
    hearing(Transport::Iframe, Format::Json, Framing::Chunked),
    hearing(Transport::Stream, Format::Json, Framing::UntilClose),
];

const TOPICS: [&str; 4] = ["a", "b/one", "b/two", "c/not/asked/for"];

fn keeping_all(config: &mut stentor::config::Config) {
    config.retention.events = EVENTS as usize;
    config.retention.bytes = 64 << 20;
}

/// Publishes as fast as the engine takes it, waiting where it is busy, and notes what it did before anybody
/// asks.
fn publish_all(publisher: &Publisher, truth: &Mutex<Truth>, count: u64) {
    for n in 0..count {
        let event = Event::text(
            TOPICS[(n * 7 % 4) as usize],
            format!("event {n} {}", "x".repeat((n % 200) as usize)),
        );
        let mut event = event.unwrap();
        if n % 3 == 0 {
            event = event.named("third").unwrap();
        }
        // Held over the publish: a subscriber that hears the event at once finds it noted.
        let mut truth = truth.lock().unwrap();
        let cursor = block_on(publisher.publish_wait(event.clone())).expect("published");
        truth.published(cursor, &event);
    }
}

/// A subscriber that lets its connection go now and then.
struct Mover {
    engine: Arc<Engine>,
    checker: Checker,
    moves: usize,
}

impl Mover {
    fn new(engine: &Arc<Engine>, start: Cursor) -> Self {
        let matchers = ["a", "b/*"].map(|matcher| Matcher::new(matcher).unwrap());
        let mut checker = Checker::new(matchers.to_vec(), MOVES[0]);
        checker.position = Some(start);
        Self { engine: Arc::clone(engine), checker, moves: 0 }
    }

    fn query(&self) -> String {
        format!("topic=a&topic=b/*&wait=1&cursor={}", self.checker.position.expect("a place"))
    }

    fn check(&mut self, item: &Item, truth: &Mutex<Truth>) {
        let checked = self.checker.item(item, &truth.lock().unwrap(), &|_| false);
        checked.unwrap_or_else(|error| panic!("{:?}, move {}: {error}", self.checker.hearing, self.moves));
    }

    /// Hears over one transport until it has had `wanted` events more or all there are.
    fn hear(&mut self, hearing: Hearing, wanted: u64, truth: &Mutex<Truth>, is_all: &dyn Fn(&Self) -> bool) {
        self.checker.hearing = hearing;
        self.checker.reconnected(true);
        let until = self.checker.events + wanted;
        let mut listener = Listener::open(address(&self.engine), hearing, &self.query(), "");
        while self.checker.events < until && !is_all(self) {
            let item = listener.next_item();
            self.check(&item, truth);
            if matches!(item, Item::Answer { .. }) {
                listener.request(&self.query(), "");
            }
        }
        self.moves += 1;
    }
}

fn a_subscriber_moves_through_all_transports_with_one_cursor(backing: Backing) {
    let engine = Arc::new(start(config(keeping_all), backing));
    let truth = Arc::new(Mutex::new(Truth::default()));
    let start: Cursor = {
        let reply = ask(address(&engine), get("/events?topic=a", ""));
        reply.json()["cursor"].as_str().unwrap().parse().unwrap()
    };
    let is_published = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (publisher, truth, is_published) =
            (engine.publisher(), Arc::clone(&truth), Arc::clone(&is_published));
        std::thread::spawn(move || {
            publish_all(&publisher, &truth, EVENTS);
            is_published.store(true, Ordering::SeqCst);
        })
    };
    let mut mover = Mover::new(&engine, start);
    let begun = Instant::now();
    let is_all = |mover: &Mover| {
        is_published.load(Ordering::SeqCst)
            && mover.checker.missing(start.epoch, &truth.lock().unwrap()).is_none()
    };
    'all: loop {
        for hearing in MOVES {
            mover.hear(hearing, 200, &truth, &is_all);
            if mover.moves >= MOVES.len() && is_all(&mover) {
                break 'all;
            }
        }
        assert!(
            begun.elapsed().as_secs() < 60,
            "{} events after {} moves",
            mover.checker.events,
            mover.moves
        );
    }
    publishing.join().unwrap();
    assert_eq!((mover.checker.events, mover.checker.gaps), (EVENTS * 3 / 4, 0), "{} moves", mover.moves);
}

/// Bursts of events, and how many there are in one.
const BURSTS: u64 = 40;
const BURST: u64 = 100;

fn connections_cut_anywhere_resume_where_they_were(backing: Backing) {
    let engine = Arc::new(start(config(keeping_all), backing));
    let truth = Arc::new(Mutex::new(Truth::default()));
    let reply = ask(address(&engine), get("/events?topic=a", ""));
    let start: Cursor = reply.json()["cursor"].as_str().unwrap().parse().unwrap();
    let seed = AtomicU64::new(start.epoch.0 | 1);
    eprintln!("seed {}", seed.load(Ordering::Relaxed));
    let random = |below: u64| {
        let mut x = seed.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        seed.store(x, Ordering::Relaxed);
        x % below
    };
    let publishing = {
        let (publisher, truth) = (engine.publisher(), Arc::clone(&truth));
        // In bursts, so that there are many connections meanwhile.
        std::thread::spawn(move || {
            for _ in 0..BURSTS {
                publish_all(&publisher, &truth, BURST);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        })
    };
    let mut mover = Mover::new(&engine, start);
    let is_done = |mover: &Mover| {
        let truth = truth.lock().unwrap();
        // Whoever asked for more after the last event would wait for nothing.
        truth.head(start.epoch).0 == BURSTS * BURST && mover.checker.missing(start.epoch, &truth).is_none()
    };
    for round in 0..120 {
        if is_done(&mover) {
            break;
        }
        let hearing = MOVES[random(6) as usize];
        mover.checker.hearing = hearing;
        mover.checker.reconnected(true);
        let mut listener = Listener::on(Client::new(address(&engine)), hearing);
        listener.request(&mover.query(), "");
        let mut left = 1 + random(3);
        while left > 0 && listener.read() {
            let items = std::mem::take(&mut listener.items);
            for item in items {
                mover.check(&item, &truth);
                if matches!(item, Item::Answer { .. }) {
                    listener.request(&mover.query(), "");
                }
            }
            left -= 1;
            if is_done(&mover) {
                break;
            }
        }
        mover.moves += 1;
        // Half of them without a word, in the middle of whatever the kernel holds.
        if round % 2 == 0 {
            listener.client.reset();
        }
    }
    publishing.join().unwrap();
    let is_all = |mover: &Mover| mover.checker.missing(start.epoch, &truth.lock().unwrap()).is_none();
    mover.hear(MOVES[1], u64::MAX >> 1, &truth, &is_all);
    assert_eq!((mover.checker.events, mover.checker.gaps), (3_000, 0), "{} moves", mover.moves);
    assert!(mover.moves >= 10, "only {} connections", mover.moves);
}
