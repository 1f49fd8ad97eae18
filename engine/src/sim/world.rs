//! The simulated world: sequencer, shards, sockets, clients and a clock, moved by one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::checker::{Checker, Hearing, Truth};
use super::network::{Sent, Socket};
use crate::channel::{self, Receiver, Wake};
use crate::config::{Config, SlowPolicy};
use crate::cursor::{Epoch, Offset};
use crate::event::{Data, Event};
use crate::publish::{PublishError, Publisher, Sequencer};
use crate::shard::{Action, Batch, Closing, Defects, Outcome, Pace, Ready, Received, Shard, SlotId};
use crate::topic::{Matcher, Topic};
use crate::transport::decode::StreamDecoder;
use crate::transport::{Format, Framing, Transport};

const TOPICS: [&str; 5] = ["a", "b", "c/x", "c/y", "d/e/f"];
pub(super) const LISTS: [&[&str]; 9] = [
    &["a"],
    &["b"],
    &["a", "b"],
    &["c/*"],
    &["**"],
    &["a", "c/x"],
    &["c/x", "c/y"],
    &["b", "**"],
    &["d/*/f", "a"],
];

/// SplitMix64 by Steele, Lea and Flood.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(super) fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

pub(super) struct SimShard {
    pub(super) core: Shard,
    pub(super) channel: Receiver<()>,
    pub(super) sockets: BTreeMap<u32, Socket>,
    pub(super) sockets_made: u32,
    pub(super) batch: Batch,
}

pub(super) struct Connection {
    pub(super) shard: usize,
    pub(super) socket: u32,
    pub(super) decoder: StreamDecoder,
    /// It is cut as soon as the client has read what it still reads.
    pub(super) is_dying: bool,
    /// A `subscribe` or `unsubscribe` whose answer has not come.
    pub(super) asked: Option<Vec<Matcher>>,
}

pub(super) struct Client {
    pub(super) checker: Checker,
    pub(super) policy: SlowPolicy,
    /// What it asks for at the beginning of each connection.
    pub(super) matchers: Vec<Matcher>,
    pub(super) is_healthy: bool,
    pub(super) connection: Option<Connection>,
    /// A long poll whose answer has come asks again.
    pub(super) has_answer: bool,
}

impl Client {
    fn new(matchers: &[&str], hearing: Hearing) -> Self {
        let matchers: Vec<Matcher> = matchers.iter().map(|m| m.parse().expect("a matcher")).collect();
        Self {
            checker: Checker::new(matchers.clone(), hearing),
            policy: SlowPolicy::Gap,
            matchers,
            is_healthy: true,
            connection: None,
            has_answer: false,
        }
    }
}

/// What happened, so that a test can see that everything does.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) events: u64,
    pub(super) delivered: u64,
    pub(super) busy: u64,
    pub(super) gaps: u64,
    pub(super) cuts: u64,
    pub(super) slow: u64,
    pub(super) changes: u64,
    pub(super) restarts: u64,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) config: Arc<Config>,
    pub(super) clock: Arc<AtomicU64>,
    pub(super) epoch: u64,
    pub(super) sequencer: Arc<Sequencer>,
    publisher: Publisher,
    pub(super) shards: Vec<SimShard>,
    pub(super) clients: Vec<Client>,
    pub(super) truth: Truth,
    pub(super) defects: Defects,
    pub(super) pace: Pace,
    pub(super) serial: u64,
    pub(super) tally: Tally,
    pub(super) trace: bool,
}

impl World {
    pub(super) fn new(seed: u64, defects: Defects) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5157);
        let mut config = Config::default();
        config.retention.events = 4 + 2 * random.below(4);
        config.retention.bytes = if random.is(20) { 900 } else { 1 << 20 };
        config.retention.age_seconds = if random.is(30) { 2 } else { 300 };
        config.retention.all_bytes = if random.is(30) { 2_500 } else { 1 << 20 };
        config.retention.topics = if random.is(30) { 3 } else { 100 };
        config.limits.half_sent_percent = if random.is(70) { 100 } else { 10 };
        config.limits.channel_events = 1 + random.below(6);
        config.limits.batch_lines = 1;
        config.limits.arrears = if random.is(50) { 0 } else { 1 + random.below(4) };
        config.limits.messages_per_second = 0;
        config.timing.heartbeat_seconds = 1 + random.below(3) as u32;
        config.timing.empty_set_seconds = random.below(3) as u32;
        config.timing.idle_seconds = 5;
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let config = Arc::new(config);
        let count = 1 + random.below(2);
        let pace = Pace {
            batch_sends: 1 + random.below(4),
            turn_sends: 1 + random.below(4),
            run_events: 1 + random.below(5),
        };
        let (sequencer, shards) = Self::start(&config, &clock, 1, count, defects, pace);
        let mut world = Self {
            publisher: Publisher::new(Arc::clone(&sequencer)),
            random,
            config,
            clock,
            epoch: 1,
            sequencer,
            shards,
            clients: Vec::new(),
            truth: Truth::default(),
            defects,
            pace,
            serial: 0,
            tally: Tally::default(),
            trace: std::env::var_os("STENTOR_SIM_TRACE").is_some(),
        };
        let is_narrow = world.random.is(60);
        for _ in 0..2 + world.random.below(5) {
            world.add_client(is_narrow);
        }
        world
    }

    /// A world of one shard that does nothing by itself, with clients of event streams that hear these
    /// matchers.
    pub(super) fn still(config: Config, lists: &[&[&str]]) -> Self {
        let mut world = Self::new(1, Defects::default());
        world.config = Arc::new(config);
        world.pace = Pace::default();
        let (config, clock, pace) = (&world.config, &world.clock, world.pace);
        let (sequencer, shards) = Self::start(config, clock, 1, 1, Defects::default(), pace);
        world.publisher = Publisher::new(Arc::clone(&sequencer));
        (world.sequencer, world.shards) = (sequencer, shards);
        let hearing = Hearing { transport: Transport::Sse, format: Format::Json, framing: Framing::Chunked };
        world.clients = lists.iter().map(|list| Client::new(list, hearing)).collect();
        world
    }

    fn start(
        config: &Arc<Config>,
        clock: &Arc<AtomicU64>,
        epoch: u64,
        count: usize,
        defects: Defects,
        pace: Pace,
    ) -> (Arc<Sequencer>, Vec<SimShard>) {
        let mut senders = Vec::new();
        let mut channels = Vec::new();
        for _ in 0..count {
            let (sender, _, channel) = channel::channel(config.limits.channel_events, Arc::new(NoWake));
            senders.push(sender);
            channels.push(channel);
        }
        let time = Arc::clone(clock);
        let now = Box::new(move || time.load(Ordering::Relaxed));
        let sequencer = Sequencer::with_clock(config, senders, Epoch(epoch), now);
        let shards = channels.into_iter().enumerate().map(|(number, channel)| {
            let mut core = Shard::new(number, Arc::clone(config), Arc::clone(&sequencer), epoch);
            core.defects = defects;
            core.pace = pace;
            SimShard { core, channel, sockets: BTreeMap::new(), sockets_made: 0, batch: Batch::default() }
        });
        let shards = shards.collect();
        (sequencer, shards)
    }

    fn add_client(&mut self, is_narrow: bool) {
        let list = if is_narrow { [0, 3, 4][self.random.below(3)] } else { self.random.below(LISTS.len()) };
        let (transport, format, framing) = match self.random.below(10) {
            9 => (Transport::Stream, Format::Raw, Framing::Chunked),
            0 => (Transport::Sse, Format::Raw, Framing::Chunked),
            1 => (Transport::Sse, Format::Json, Framing::UntilClose),
            2 => (Transport::Stream, Format::Json, Framing::Chunked),
            3 => (Transport::Iframe, Format::Json, Framing::Chunked),
            4 => (Transport::WebSocket, Format::Json, Framing::Frames),
            5 => (Transport::WebSocket, Format::Json, Framing::Deflate(10)),
            6 => (Transport::WebSocket, Format::Raw, Framing::Frames),
            _ => (Transport::LongPoll, Format::Json, Framing::Length),
        };
        let policy = match self.random.below(6) {
            0 if transport != Transport::LongPoll => SlowPolicy::Latest,
            1 if transport != Transport::LongPoll => SlowPolicy::Close,
            _ => SlowPolicy::Gap,
        };
        let list: Vec<&str> = LISTS[list].to_vec();
        let mut client = Client::new(&list, Hearing { transport, format, framing });
        client.policy = policy;
        client.is_healthy = self.random.is(65);
        self.clients.push(client);
    }

    /// Runs the seed: random steps, then fair ones until everybody must have everything.
    pub(super) fn run(&mut self, steps: usize) -> Result<(), String> {
        let restarts = self.random.is(15);
        let publishing = 10 + self.random.below(30);
        for step in 0..steps {
            let done = match self.random.below(100) {
                n if n < publishing => self.publish(),
                n if n < 94 => {
                    if self.random.is(60) {
                        let shard = self.random.below(self.shards.len());
                        self.shard_step(shard)
                    } else {
                        let client = self.random.below(self.clients.len());
                        self.client_step(client)
                    }
                }
                n if n < 99 => self.time_step(),
                _ if restarts && self.random.is(20) => self.restart(),
                _ => Ok(()),
            };
            done.map_err(|error| format!("step {step}: {error}"))?;
        }
        self.calm_down()
    }

    /// Publishes something to a topic of the seed's choice.
    fn publish(&mut self) -> Result<(), String> {
        self.serial += 1;
        let topic = if self.random.is(50) { "a" } else { TOPICS[self.random.below(TOPICS.len())] };
        let topic = Topic::new(topic).expect("a topic");
        let serial = self.serial;
        let padding = "x".repeat(self.random.below(60));
        let data = match self.random.below(4) {
            0 => Data::Json(format!("{{\"n\":{serial},\"p\":\"{padding}\"}}").into()),
            1 => Data::Binary(format!("\u{1}{serial}\u{ff}{padding}").into_bytes().into()),
            2 => Data::Text(format!("{serial}\n{padding}\n\né</script>").into()),
            _ => Data::Text(format!("{serial} {padding}").into()),
        };
        let mut event = Event::new(topic, data);
        if self.random.is(30) {
            event = event.named("n").expect("a name");
        }
        self.publish_event(event)
    }

    pub(super) fn publish_event(&mut self, event: Event) -> Result<(), String> {
        match self.publisher.publish(event.clone()) {
            Ok(cursor) => {
                self.log(|| format!("publish {cursor} to {}", event.topic()));
                self.truth.published(cursor, &event);
                self.tally.events += 1;
                Ok(())
            }
            Err(PublishError::Busy { .. }) => {
                self.tally.busy += 1;
                Ok(())
            }
            Err(error) => Err(format!("publish: {error}")),
        }
    }

    fn shard_step(&mut self, number: usize) -> Result<(), String> {
        match self.random.below(10) {
            0..=2 => {
                let most = 1 + self.random.below(3);
                self.take(number, most);
            }
            3..=7 => self.send(number)?,
            _ => self.network_step(number),
        }
        Ok(())
    }

    pub(super) fn take(&mut self, number: usize, most: usize) {
        let head = self.sequencer.head();
        let shard = &mut self.shards[number];
        for _ in 0..most {
            match shard.channel.try_recv() {
                Some(delivery) => shard.core.handle_event(delivery),
                None => {
                    shard.core.handle_channel_empty(head);
                    return;
                }
            }
        }
    }

    pub(super) fn send(&mut self, number: usize) -> Result<(), String> {
        self.act(number)?;
        let shard = &mut self.shards[number];
        let mut batch = std::mem::take(&mut shard.batch);
        if shard.core.poll_batch(&mut batch) {
            let mut seen = std::collections::BTreeSet::new();
            for at in 0..batch.sends.len() {
                let socket = batch.sends[at].socket;
                if !seen.insert(socket) {
                    return Err("two sends to one socket in a batch".into());
                }
                let bytes = batch.bytes(&batch.sends[at]).to_vec();
                if bytes.is_empty() {
                    return Err("a send of nothing".into());
                }
                let Some(socket) = shard.sockets.get_mut(&socket) else {
                    return Err("a send to a socket that is closed".into());
                };
                batch.sends[at].outcome = match socket.send(&bytes) {
                    Sent::Whole => Outcome::Whole,
                    Sent::Short(taken) => Outcome::Short(taken),
                    Sent::Full => Outcome::Full,
                    Sent::Broken => Outcome::Failed,
                };
            }
            shard.core.handle_batch_sent(&mut batch);
        } else if !shard.core.is_idle() {
            return Err("nothing to send, though something waits: the loop would sleep".into());
        }
        shard.batch = batch;
        self.tally.slow += std::mem::take(&mut self.shards[number].core.counters.slow);
        self.act(number)
    }

    /// Reports what happened to sockets.
    pub(super) fn network_step(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        for socket in shard.sockets.values_mut() {
            let id = slot_of(socket.token);
            if socket.client_reset {
                shard.core.handle_ready(id, Ready { failed: true, ..Ready::default() });
            } else if socket.is_readable || (socket.is_watched && socket.is_writable) {
                let ready = Ready {
                    readable: std::mem::take(&mut socket.is_readable),
                    writable: socket.is_watched && std::mem::take(&mut socket.is_writable),
                    hung_up: socket.client_ended,
                    failed: false,
                };
                shard.core.handle_ready(id, ready);
            }
            if std::mem::take(&mut socket.is_receiving) {
                if socket.to_server.is_empty() {
                    let received = if socket.client_ended { Received::End } else { Received::Nothing };
                    shard.core.handle_received(id, received);
                } else {
                    let count = 1 + self.random.below(socket.to_server.len());
                    let bytes: Vec<u8> = socket.to_server.drain(..count).collect();
                    shard.core.handle_received(id, Received::Bytes(&bytes, true));
                }
            }
        }
    }

    fn act(&mut self, number: usize) -> Result<(), String> {
        while let Some(action) = self.shards[number].core.poll_action() {
            let shard = &mut self.shards[number];
            match action {
                Action::WatchWritable { socket, is_on } => {
                    if let Some(socket) = shard.sockets.get_mut(&socket) {
                        socket.is_watched = is_on;
                        socket.is_writable |= socket.to_client.len() < socket.capacity;
                    }
                }
                Action::Receive { socket } => {
                    if let Some(socket) = shard.sockets.get_mut(&socket) {
                        socket.is_receiving = true;
                    }
                }
                Action::Close { socket, how, .. } => {
                    let Some(mut closed) = shard.sockets.remove(&socket) else {
                        return Err("a socket was closed twice".into());
                    };
                    closed.server_ended = how == Closing::Graceful;
                    closed.server_reset = how == Closing::Abort;
                    self.closed(number, socket, closed)?;
                }
                Action::Resume { socket, .. } => {
                    let closed = shard.sockets.remove(&socket).unwrap_or_default();
                    self.closed(number, socket, closed)?;
                }
                Action::Authorize { slot, matchers, .. } => shard.core.handle_authorized(slot, Ok(matchers)),
                Action::Message { .. } | Action::Opened { .. } | Action::Closed { .. } => {}
            }
        }
        Ok(())
    }

    /// The server has closed a connection: the client reads what is left, and is without one.
    fn closed(&mut self, shard: usize, number: u32, mut socket: Socket) -> Result<(), String> {
        let found = self
            .clients
            .iter()
            .position(|c| c.connection.as_ref().is_some_and(|c| c.shard == shard && c.socket == number));
        let Some(client) = found else { return Ok(()) };
        let left = if socket.server_reset { Vec::new() } else { socket.read(usize::MAX) };
        self.decode(client, &left)?;
        self.clients[client].connection = None;
        Ok(())
    }

    fn time_step(&mut self) -> Result<(), String> {
        let passed = 50 + self.random.below(900) as u64;
        self.pass_time(passed);
        Ok(())
    }

    pub(super) fn pass_time(&mut self, ms: u64) {
        let now = self.clock.fetch_add(ms, Ordering::Relaxed) + ms;
        self.sequencer.sweep();
        for shard in &mut self.shards {
            shard.core.handle_tick(now - 1_000_000);
        }
    }

    /// The process ends and starts again with an empty log.
    fn restart(&mut self) -> Result<(), String> {
        for number in 0..self.clients.len() {
            let count = self.random.below(60);
            self.read(number, count)?;
            self.cut(number);
        }
        self.epoch += 1;
        let count = self.shards.len();
        let (sequencer, shards) =
            Self::start(&self.config, &self.clock, self.epoch, count, self.defects, self.pace);
        self.publisher = Publisher::new(Arc::clone(&sequencer));
        (self.sequencer, self.shards) = (sequencer, shards);
        let now = self.clock.load(Ordering::Relaxed);
        for shard in &mut self.shards {
            shard.core.handle_tick(now - 1_000_000);
        }
        self.tally.restarts += 1;
        Ok(())
    }

    /// Fair steps without faults: then everybody must have everything, and nothing may be in arrears.
    fn calm_down(&mut self) -> Result<(), String> {
        for _ in 0..150 {
            for shard in 0..self.shards.len() {
                self.take(shard, 4);
                self.send(shard)?;
                self.network_step(shard);
                self.send(shard)?;
            }
            for client in 0..self.clients.len() {
                if self.clients[client].connection.as_ref().is_some_and(|c| c.is_dying) {
                    self.cut(client);
                }
                if self.clients[client].connection.is_none() {
                    self.connect(client)?;
                } else {
                    self.read(client, 500)?;
                    self.ask_again(client)?;
                }
            }
            self.pass_time(5);
        }
        let epoch = Epoch(self.epoch);
        for (number, client) in self.clients.iter().enumerate() {
            if let Some(at) = client.checker.missing(epoch, &self.truth) {
                let slot = client.connection.as_ref().map(|c| {
                    let shard = &self.shards[c.shard];
                    shard
                        .sockets
                        .get(&c.socket)
                        .map(|s| format!("{} {s:?}", shard.core.describe(slot_of(s.token))))
                });
                return Err(format!(
                    "client {number} NEVER got {at}, at {:?}: {slot:?}",
                    client.checker.position
                ));
            }
        }
        for topic in TOPICS {
            let event = Event::text(topic, format!("the end of {topic}")).expect("an event");
            if let Err(error) = self.publisher.publish(event) {
                return Err(format!("arrears of {topic} stay: {error}"));
            }
            for shard in 0..self.shards.len() {
                for _ in 0..20 {
                    self.take(shard, 4);
                    let shard = &mut self.shards[shard];
                    let mut batch = std::mem::take(&mut shard.batch);
                    if !shard.core.poll_batch(&mut batch) {
                        break;
                    }
                    shard.core.handle_batch_sent(&mut batch);
                }
            }
        }
        Ok(())
    }

    pub(super) fn log(&self, text: impl Fn() -> String) {
        if self.trace {
            eprintln!("{}", text());
        }
    }

    /// The newest offset of the running epoch.
    pub(super) fn head(&self) -> Offset {
        self.truth.head(Epoch(self.epoch))
    }
}

pub(super) fn token(slot: SlotId) -> u64 {
    u64::from(slot.generation) << 32 | u64::from(slot.index)
}

fn slot_of(token: u64) -> SlotId {
    SlotId { index: token as u32, generation: (token >> 32) as u32 }
}
