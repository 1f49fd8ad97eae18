//! What a subscriber costs, by an allocator that counts: the shard and what the sequencer keeps for it,
//! without the sockets. And that it is given back.
//!
//! `STENTOR_MEMORY_COUNT=1000000 cargo test -p stentor --lib shard::memory -- --nocapture --test-threads 1`
//! says it of a million.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Batch, HeadVariant, Join, Outcome, Ready, Received, Shard, SlotId};
use crate::channel::{self, Receiver, Wake};
use crate::config::{Config, SlowPolicy};
use crate::cursor::Epoch;
use crate::event::Event;
use crate::publish::{Publisher, Sequencer};
use crate::sys::counting::held_bytes;
use crate::topic::Matcher;
use crate::transport::{Encoding, Format, Framing, Transport};

/// Subscribers of a test, if the environment says nothing else: just past a doubling of the hash tables, so
/// that none looks cheaper than it is.
const COUNT: usize = 60_000;

/// Length of each topic's name.
const NAME_BYTES: usize = 16;

pub(super) fn count() -> usize {
    let asked = std::env::var("STENTOR_MEMORY_COUNT").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(COUNT)
}

#[derive(Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wakes {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct Core {
    pub(super) shard: Shard,
    pub(super) channel: Receiver<()>,
    pub(super) wakes: Arc<Wakes>,
    batch: Batch,
    sockets: u32,
}

/// Shards without sockets: each send has the outcome that the test wants.
pub(super) struct Engine {
    pub(super) cores: Vec<Core>,
    pub(super) sequencer: Arc<Sequencer>,
    publisher: Publisher,
    clock_ms: Arc<AtomicU64>,
    began_ms: u64,
}

impl Engine {
    pub(super) fn new(shards: usize, config: Config) -> Self {
        let config = Arc::new(config);
        let began_ms = 1_000_000;
        let clock_ms = Arc::new(AtomicU64::new(began_ms));
        let (mut senders, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let wakes = Arc::<Wakes>::default();
            let (sender, _, channel) =
                channel::channel(config.limits.channel_events, Arc::clone(&wakes) as Arc<dyn Wake>);
            senders.push(sender);
            ends.push((channel, wakes));
        }
        let time = Arc::clone(&clock_ms);
        let now = Box::new(move || time.load(Ordering::Relaxed));
        let sequencer = Sequencer::with_clock(&config, senders, Epoch(1), now);
        let cores = ends.into_iter().enumerate().map(|(number, (channel, wakes))| Core {
            shard: Shard::new(number, Arc::clone(&config), Arc::clone(&sequencer), 7),
            channel,
            wakes,
            batch: Batch::default(),
            sockets: 0,
        });
        let cores = cores.collect();
        let publisher = Publisher::new(Arc::clone(&sequencer));
        Self { cores, sequencer, publisher, clock_ms, began_ms }
    }

    pub(super) fn join(&mut self, shard: usize, matchers: &[&str], encoding: Encoding) -> SlotId {
        self.join_with(shard, matchers, encoding, Vec::new())
    }

    /// What the first subscriber makes and stays is there then.
    fn warm(mut self) -> Self {
        let id = self.join(0, &["warm"], SSE);
        self.settle(Outcome::Whole);
        self.leave(0, id);
        self.pass(4);
        self
    }

    fn join_with(
        &mut self,
        shard: usize,
        matchers: &[&str],
        encoding: Encoding,
        publish: Vec<Matcher>,
    ) -> SlotId {
        let core = &mut self.cores[shard];
        let id = core.shard.handle_join(Join {
            permit: 0,
            matchers: matchers.iter().map(|matcher| matcher.parse().unwrap()).collect(),
            encoding,
            variant: HeadVariant::default(),
            head: Some(b"HTTP/1.1 200 OK\r\n\r\n"[..].into()),
            after: self.sequencer.head(),
            told: self.sequencer.head(),
            old: None,
            wait_seconds: 0,
            max_age_seconds: 0,
            policy: SlowPolicy::Gap,
            publish,
            data: None,
            request: None,
            inflates: false,
            leftover: Vec::new(),
        });
        core.shard.set_socket(id, core.sockets);
        core.sockets += 1;
        id
    }

    pub(super) fn publish(&self, topic: &str, data: &str) {
        self.publisher.publish(Event::text(topic, data).unwrap()).unwrap();
    }

    /// Takes what the channels hold, and makes all sends with that outcome; how many those were.
    pub(super) fn settle(&mut self, outcome: Outcome) -> usize {
        let mut sends = 0;
        for core in &mut self.cores {
            loop {
                let head = self.sequencer.head();
                while let Some(delivery) = core.channel.try_recv() {
                    core.shard.handle_event(delivery);
                }
                core.shard.handle_channel_empty(head);
                if !core.shard.poll_batch(&mut core.batch) {
                    break;
                }
                for send in &mut core.batch.sends {
                    sends += 1;
                    send.outcome = outcome;
                }
                core.shard.handle_batch_sent(&mut core.batch);
                while core.shard.poll_action().is_some() {}
            }
            while core.shard.poll_action().is_some() {}
        }
        sends
    }

    pub(super) fn leave(&mut self, shard: usize, id: SlotId) {
        let shard = &mut self.cores[shard].shard;
        shard.handle_ready(id, Ready { failed: true, ..Ready::default() });
        while shard.poll_action().is_some() {}
    }

    /// Time goes by, with all that is done each second.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let now_ms = self.clock_ms.fetch_add(1_000, Ordering::Relaxed) + 1_000;
            for core in &mut self.cores {
                while core.shard.handle_tick(now_ms - self.began_ms) {}
            }
            self.settle(Outcome::Whole);
            self.sequencer.sweep();
        }
    }
}

pub(super) const SSE: Encoding =
    Encoding { transport: Transport::Sse, format: Format::Raw, framing: Framing::Chunked, head: 0, limit: 0 };

pub(super) const WEBSOCKET: Encoding =
    Encoding { transport: Transport::WebSocket, framing: Framing::Frames, ..SSE };

/// Without heartbeats, so that time may pass.
pub(super) fn quiet() -> Config {
    let mut config = Config::default();
    config.timing.heartbeat_seconds = 1_000_000;
    config.timing.empty_set_seconds = 1;
    config
}

fn topic(n: usize) -> String {
    format!("own/{n:0width$}", width = NAME_BYTES - 4)
}

/// Bytes a subscriber, of `count` that `join` brings in, after they have settled.
fn bytes_each(
    what: &str,
    engine: &mut Engine,
    join: impl Fn(&mut Engine, usize) -> SlotId,
) -> (usize, Vec<SlotId>) {
    let count = count();
    let mut ids = Vec::with_capacity(count);
    let before = held_bytes();
    for n in 0..count {
        ids.push(join(engine, n));
        if n % 1_000 == 0 {
            engine.settle(Outcome::Whole);
        }
    }
    engine.settle(Outcome::Whole);
    engine.pass(2);
    let each = (held_bytes() - before) as usize / count;
    println!("{what}: {each} bytes a subscriber, of {count}");
    (each, ids)
}

/// They all leave: what they cost is given back, but for a fiftieth.
fn all_leave(what: &str, engine: &mut Engine, ids: &[SlotId], before: isize, peak: isize) {
    for &id in ids {
        engine.leave(0, id);
    }
    engine.settle(Outcome::Whole);
    engine.pass(8);
    // The names of the slots are the test's own.
    let after = held_bytes() - size_of_val(ids) as isize;
    println!("{what}: {before} bytes before, {peak} with all, {after} when all had left");
    assert!(after - before < (peak - before) / 50, "{what} keeps memory");
}

#[test]
fn a_subscriber_of_a_shared_topic_costs_a_slot_and_an_entry_and_gives_both_back() {
    let mut engine = Engine::new(1, quiet()).warm();
    let before = held_bytes();
    let (each, ids) = bytes_each("shared topic", &mut engine, |engine, _| engine.join(0, &["shared"], SSE));
    assert!(each <= 80, "{each}");
    all_leave("shared topic", &mut engine, &ids, before, held_bytes() - size_of_val(&*ids) as isize);
}

#[test]
fn a_subscriber_with_a_topic_of_its_own_costs_little_more_and_gives_it_back() {
    let mut engine = Engine::new(1, quiet()).warm();
    let before = held_bytes();
    let (each, ids) = bytes_each("own topic", &mut engine, |engine, n| engine.join(0, &[&topic(n)], SSE));
    let beyond_name = each - NAME_BYTES;
    println!("own topic: {beyond_name} beyond the name");
    assert!(beyond_name <= 230, "{beyond_name}");
    all_leave("own topic", &mut engine, &ids, before, held_bytes() - size_of_val(&*ids) as isize);
}

#[test]
fn an_idle_websocket_costs_what_its_right_to_publish_costs_and_no_more() {
    let mut engine = Engine::new(1, quiet()).warm();
    let before = held_bytes();
    let (each, ids) =
        bytes_each("websocket", &mut engine, |engine, _| engine.join(0, &["shared"], WEBSOCKET));
    assert!(each <= 80, "{each}");
    all_leave("websocket", &mut engine, &ids, before, held_bytes() - size_of_val(&*ids) as isize);
    drop(engine);
    let mut engine = Engine::new(1, quiet()).warm();
    let before = held_bytes();
    let right = || vec!["**".parse().unwrap()];
    let (each, ids) = bytes_each("websocket that may publish", &mut engine, |engine, _| {
        engine.join_with(0, &["shared"], WEBSOCKET, right())
    });
    assert!(each <= 130, "{each}");
    all_leave(
        "websocket that may publish",
        &mut engine,
        &ids,
        before,
        held_bytes() - size_of_val(&*ids) as isize,
    );
}

#[test]
fn a_subscriber_that_never_reads_costs_no_queue_and_gives_back_what_it_held() {
    let mut config = quiet();
    config.retention.all_bytes = 1 << 30;
    config.retention.age_seconds = 5;
    let mut engine = Engine::new(1, config).warm();
    let before = held_bytes();
    let (_, ids) =
        bytes_each("never reading, before", &mut engine, |engine, _| engine.join(0, &["shared"], SSE));
    engine.publish("shared", &"x".repeat(1_000));
    engine.settle(Outcome::Short(100));
    assert_eq!(engine.cores[0].shard.half_sent.len(), ids.len(), "all of them have it half sent");
    for n in 0..400 {
        engine.publish("shared", &format!("{n}"));
        engine.settle(Outcome::Full);
    }
    let log: isize = 1_200 + 401 * 400;
    let each = (held_bytes() - before - log) as usize / ids.len() - size_of::<SlotId>();
    println!("never reading: {each} bytes a subscriber");
    assert!(each <= 256, "{each}");
    all_leave("never reading", &mut engine, &ids, before, held_bytes() - size_of_val(&*ids) as isize);
}

#[test]
fn a_websocket_that_was_heard_of_costs_what_an_idle_one_does_soon_after() {
    let mut config = quiet();
    config.timing.heartbeat_seconds = 2;
    let mut engine = Engine::new(1, config);
    let id = engine.join(0, &["shared"], WEBSOCKET);
    engine.settle(Outcome::Whole);
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    engine.cores[0].shard.handle_received(id, Received::Bytes(&ping, false));
    assert_eq!(engine.settle(Outcome::Whole), 1, "the pong");
    assert_eq!(engine.cores[0].shard.extras.len(), 1, "its rate is remembered");
    engine.pass(4);
    assert_eq!((engine.cores[0].shard.extras.len(), engine.cores[0].shard.connections()), (0, 1));
}
