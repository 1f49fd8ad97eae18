//! What masses cost: the work of one fill has a bound, however many subscribers there are, and the work of a
//! storm is in proportion to those who come and what they are sent. Counted, not timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::batch::Purpose;
use super::input::{Ready, Received};
use super::slots::{State, flag};
use super::{Action, Batch, HeadVariant, Join, Outcome, Shard, SlotId};
use crate::channel::{self, Receiver, Wake};
use crate::config::{Config, SlowPolicy};
use crate::cursor::{Epoch, Offset};
use crate::event::Event;
use crate::publish::{Publisher, Sequencer};
use crate::topic::Matcher;
use crate::transport::{Encoding, Format, Framing, Transport};

/// Looks and sends of one fill, of whatever kind: some turns' worth, and not a number of subscribers. The
/// largest are the looks at idle sets and at unfinished events ([`super::walk`]).
const FILL_LOOKS_MAX: u64 = 30_000;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// One shard, a publisher, and sockets that take all they are sent, or nothing.
struct Rig {
    shard: Shard,
    channel: Receiver<()>,
    sequencer: Arc<Sequencer>,
    publisher: Publisher,
    batch: Batch,
    sockets: u32,
    /// What each send to this socket is answered with.
    outcome: fn(u32) -> Outcome,
    /// Sends so far, and the most looks of one fill.
    sends: u64,
    fills: u64,
    most_looks: u64,
    closed: Vec<u32>,
    receives: u64,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.retention.events = 10_000;
        config.retention.bytes = 64 << 20;
        change(&mut config);
        let (sender, _, channel) = channel::channel(config.limits.channel_events, Arc::new(NoWake));
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let now = Box::new(move || clock.load(Ordering::Relaxed));
        let sequencer = Sequencer::with_clock(&config, vec![sender], Epoch(1), now);
        let shard = Shard::new(0, Arc::new(config), Arc::clone(&sequencer), 1);
        Self {
            shard,
            channel,
            publisher: Publisher::new(Arc::clone(&sequencer)),
            sequencer,
            batch: Batch::default(),
            sockets: 0,
            outcome: |_| Outcome::Whole,
            sends: 0,
            fills: 0,
            most_looks: 0,
            closed: Vec::new(),
            receives: 0,
        }
    }

    fn join(&mut self, matcher: &str, after: Offset) -> SlotId {
        self.join_by(Transport::Sse, &[matcher], after)
    }

    fn join_by(&mut self, transport: Transport, matchers: &[&str], after: Offset) -> SlotId {
        let framing = match transport {
            Transport::LongPoll => Framing::Length,
            Transport::WebSocket => Framing::Frames,
            _ => Framing::Chunked,
        };
        let join = Join {
            permit: 0,
            matchers: matchers.iter().map(|m| m.parse::<Matcher>().unwrap()).collect(),
            encoding: Encoding { transport, format: Format::Json, framing, head: 0, limit: 1_000 },
            variant: HeadVariant { lines: "".into(), keeps_alive: true, is_http10: false },
            head: Some(b"HTTP/1.1 200 OK\r\n\r\n"[..].into()),
            after,
            told: Offset::START,
            old: None,
            wait_seconds: 25,
            max_age_seconds: 0,
            policy: SlowPolicy::Gap,
            publish: Vec::new(),
            data: None,
            request: None,
            inflates: false,
            leftover: Vec::new(),
        };
        let slot = self.shard.handle_join(join);
        self.shard.set_socket(slot, self.sockets);
        self.sockets += 1;
        slot
    }

    fn publish(&mut self, topic: &str, bytes: usize) -> Offset {
        self.publisher.publish(Event::text(topic, "x".repeat(bytes)).unwrap()).unwrap().offset
    }

    /// Takes what is published.
    fn take(&mut self) {
        let head = self.sequencer.head();
        while let Some(delivery) = self.channel.try_recv() {
            self.shard.handle_event(delivery);
        }
        self.shard.handle_channel_empty(head);
    }

    /// One batch; false if there was nothing to do. `sent` sees each of its sends.
    fn fill(&mut self, mut sent: impl FnMut(u32, &[u8])) -> bool {
        let before = self.shard.work.looks.get();
        let mut batch = std::mem::take(&mut self.batch);
        let has_work = self.shard.poll_batch(&mut batch);
        assert!(batch.sends.len() <= self.shard.pace.batch_sends);
        if has_work {
            self.fills += 1;
            for at in 0..batch.sends.len() {
                let socket = batch.sends[at].socket;
                sent(socket, batch.bytes(&batch.sends[at]));
                batch.sends[at].outcome = (self.outcome)(socket);
            }
            self.sends += batch.sends.len() as u64;
            self.shard.handle_batch_sent(&mut batch);
        } else {
            assert!(self.shard.is_idle(), "the loop would sleep");
        }
        self.batch = batch;
        self.act();
        self.most_looks = self.most_looks.max(self.shard.work.looks.get() - before);
        has_work
    }

    fn act(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Close { socket, .. } => self.closed.push(socket),
                Action::Receive { .. } => self.receives += 1,
                _ => {}
            }
        }
    }

    /// Fills until nothing is left to do.
    fn settle(&mut self) {
        self.take();
        for _ in 0..1_000_000 {
            if !self.fill(|_, _| {}) {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    fn members(&self, matcher: &str) -> usize {
        (0..self.shard.sets.capacity())
            .filter_map(|number| self.shard.sets.get(number))
            .filter(|set| set.matchers.iter().any(|m| m.as_str() == matcher))
            .map(|set| set.members.len())
            .sum()
    }
}

#[test]
fn a_mass_that_comes_back_reads_the_log_once_a_cursor_and_encodes_each_event_once() {
    const MASS: u32 = 100_000;
    const CURSORS: u64 = 10;
    let mut rig = Rig::new(|_| {});
    rig.join("a", Offset::START);
    rig.settle();
    for _ in 0..200 {
        rig.publish("a", 100);
        rig.settle();
    }
    let (reads, encoded, sends) = (rig.shard.work.log_reads, rig.shard.prepared.encoded, rig.sends);
    for n in 0..MASS {
        rig.join("a", Offset(u64::from(n) % CURSORS * 17));
    }
    rig.settle();
    assert_eq!((rig.shard.behind(), rig.members("a")), (0, MASS as usize + 1));
    let reads = rig.shard.work.log_reads - reads;
    let encoded = rig.shard.prepared.encoded - encoded;
    let sends = rig.sends - sends;
    println!("{MASS} with {CURSORS} cursors: {reads} reads, {encoded} encoded, {sends} sends");
    assert_eq!(reads, CURSORS, "one read a cursor");
    assert_eq!(encoded, 200, "each event once");
    assert_eq!(sends, 2 * u64::from(MASS), "the start, and the run that all at the same place share");
    assert!(rig.most_looks <= FILL_LOOKS_MAX, "{}", rig.most_looks);
}

#[test]
fn long_polls_that_come_back_share_their_answer() {
    let mut rig = Rig::new(|_| {});
    rig.join("a", Offset::START);
    rig.settle();
    for _ in 0..20 {
        rig.publish("a", 100);
    }
    rig.settle();
    let (reads, sends) = (rig.shard.work.log_reads, rig.sends);
    for n in 0..20_000 {
        rig.join_by(Transport::LongPoll, &["a"], Offset(n % 5));
    }
    rig.settle();
    assert_eq!(rig.shard.work.log_reads - reads, 5);
    assert_eq!(rig.sends - sends, 20_000);
}

#[test]
fn a_mass_that_waits_for_a_walk_enters_in_slices_and_stops_nobody() {
    const MASS: u32 = 100_000;
    let mut rig = Rig::new(|_| {});
    for _ in 0..MASS {
        rig.join("a", Offset::START);
    }
    let other = rig.sockets;
    rig.join("b", Offset::START);
    rig.settle();
    rig.publish("a", 10);
    rig.take();
    assert!(rig.fill(|_, _| {}), "the walk begins");
    let head = rig.sequencer.head();
    for _ in 0..MASS {
        rig.join("a", head);
    }
    rig.most_looks = 0;
    let (mut worst, mut waited) = (0, None);
    for turn in 0..100_000 {
        if turn % 50 == 0 && waited.is_none() {
            rig.publish("b", 10);
            rig.take();
            waited = Some(0u64);
        }
        let (mut sends, mut is_sent) = (0, false);
        let has_work = rig.fill(|socket, _| {
            sends += u64::from(!is_sent);
            is_sent |= socket == other;
        });
        if let Some(so_far) = &mut waited {
            *so_far += sends;
            worst = worst.max(*so_far);
        }
        if is_sent {
            waited = None;
        }
        if !has_work {
            break;
        }
    }
    println!("worst wait of the other topic: {worst} sends; most looks of a fill: {}", rig.most_looks);
    assert_eq!((rig.shard.behind(), rig.members("a")), (0, 2 * MASS as usize));
    assert!(rig.most_looks <= FILL_LOOKS_MAX, "{} looks in a fill", rig.most_looks);
    assert!(worst <= 512, "an event to one waited for {worst} sends");
}

#[test]
fn constant_publishing_to_a_topic_lets_a_mass_that_comes_back_in() {
    const MASS: u32 = 20_000;
    let mut rig = Rig::new(|config| config.retention.events = 100_000);
    for _ in 0..10 {
        rig.join("a", Offset::START);
    }
    rig.settle();
    for _ in 0..MASS {
        rig.join("a", rig.sequencer.head());
    }
    let mut fills = 0;
    while rig.shard.behind() > 0 {
        let _ = rig.publisher.publish(Event::text("a", "x").unwrap());
        rig.take();
        rig.fill(|_, _| {});
        fills += 1;
        assert!(fills < 20 * MASS / 256 + 2_000, "{} are behind after {fills} fills", rig.shard.behind());
    }
}

#[test]
fn an_event_to_one_does_not_wait_behind_four_fan_outs() {
    const EACH: u32 = 100_000;
    let mut rig = Rig::new(|_| {});
    for topic in ["w", "x", "y", "z"] {
        for _ in 0..EACH {
            rig.join(topic, Offset::START);
        }
    }
    let one = rig.sockets;
    rig.join("one", Offset::START);
    rig.settle();
    for topic in ["w", "x", "y", "z"] {
        rig.publish(topic, 100);
    }
    rig.take();
    for _ in 0..20 {
        rig.fill(|_, _| {});
    }
    let (mut worst, mut waits) = (0, 0);
    for moment in 0..50 {
        for _ in 0..moment % 7 {
            rig.fill(|_, _| {});
        }
        rig.publish("one", 100);
        rig.take();
        let (mut waited, mut is_sent) = (0, false);
        while !is_sent {
            assert!(rig.fill(|socket, _| {
                waited += u64::from(!is_sent);
                is_sent |= socket == one;
            }));
        }
        worst = worst.max(waited);
        waits += waited;
        assert_eq!(rig.shard.turns_under_way(), 4, "the fan-outs are still under way");
    }
    println!("sends between an event to one and its send: {} on average, {worst} at worst", waits / 50);
    assert!(worst <= 512, "it waited for {worst} sends");
    let before = rig.sends;
    rig.settle();
    assert!(rig.sends > before);
    assert_eq!(rig.shard.counters.deliveries, u64::from(4 * EACH) + 50);
}

#[test]
fn an_event_to_few_does_not_wait_behind_a_hundred_topics_that_came_before_it() {
    let mut rig = Rig::new(|_| {});
    for number in 0..50_000 {
        rig.join(&format!("many/{}", number % 100), Offset::START);
    }
    // Each in a set of its own.
    for one in 0..20 {
        rig.join_by(Transport::Sse, &["few", &format!("one/{one}")], Offset::START);
    }
    rig.settle();
    for many in 0..100 {
        rig.publish(&format!("many/{many}"), 100);
    }
    rig.publish("few", 100);
    rig.take();
    let (mut of_many, mut of_few) = (0, 0);
    while of_few < 20 {
        assert!(rig.fill(|socket, _| if socket < 50_000 { of_many += 1 } else { of_few += 1 }));
    }
    assert!(of_many <= 2_048, "it waited for {of_many} sends to many");
    rig.settle();
    assert_eq!(rig.shard.counters.deliveries, 50_020);
    assert!(rig.most_looks <= 20_000, "a fill looked at {} things", rig.most_looks);
}

#[test]
fn fan_outs_take_turns_and_small_topics_do_not_starve_them() {
    let mut rig = Rig::new(|config| config.limits.arrears = 1_000);
    for topic in ["w", "x"] {
        for _ in 0..20_000 {
            rig.join(topic, Offset::START);
        }
    }
    let small = rig.sockets;
    for n in 0..2_000 {
        rig.join(&format!("small/{n}"), Offset::START);
    }
    rig.settle();
    for topic in ["w", "x"] {
        rig.publish(topic, 10);
    }
    let (mut of_small, mut of_large, mut of_w) = (0u64, 0u64, 0u64);
    for turn in 0..100 {
        for n in 0..400 {
            rig.publish(&format!("small/{}", (turn * 400 + n) % 2_000), 10);
        }
        rig.take();
        rig.fill(|socket, _| {
            of_small += u64::from(socket >= small);
            of_large += u64::from(socket < small);
            of_w += u64::from(socket < 20_000);
        });
    }
    assert!(of_large >= 100 * 256 / 3, "fan-outs had {of_large} sends");
    assert!(of_small >= 100 * 256 / 3, "small topics had {of_small} sends");
    assert!(of_w.abs_diff(of_large - of_w) <= 2_048, "the fan-outs have equal turns");
}

#[test]
fn everything_else_is_served_while_a_fan_out_runs() {
    const MASS: u32 = 200_000;
    let mut rig = Rig::new(|_| {});
    for _ in 0..MASS {
        rig.join("a", Offset::START);
    }
    let first = rig.sockets;
    let websocket = rig.join_by(Transport::WebSocket, &["b"], Offset::START);
    rig.settle();
    rig.publish("a", 100);
    rig.take();
    rig.fill(|_, _| {});
    for _ in 0..40 {
        // A masked ping, a new subscriber and one with a cursor: each is answered within two batches.
        rig.shard.handle_ready(websocket, Ready { readable: true, ..Ready::default() });
        let ping = [0x89, 0x80, 1, 2, 3, 4];
        rig.shard.handle_received(websocket, Received::Bytes(&ping, false));
        let joined = rig.sockets;
        rig.join("b", rig.sequencer.head());
        rig.join("c", Offset::START);
        let mut got = [false; 3];
        for _ in 0..2 {
            rig.fill(|socket, _| {
                got[0] |= socket == first;
                got[1] |= socket == joined;
                got[2] |= socket == joined + 1;
            });
        }
        assert_eq!(got, [true; 3], "pong, new subscriber, one of another topic");
    }
    assert_eq!(rig.shard.turns_under_way(), 1, "the fan-out is still under way");
}

#[test]
fn heartbeats_of_a_mass_are_encoded_once_and_found_in_slices() {
    const MASS: u32 = 200_000;
    let mut rig = Rig::new(|_| {});
    for _ in 0..MASS {
        rig.join("a", Offset::START);
    }
    rig.settle();
    let (encoded, sends) = (rig.shard.prepared.encoded, rig.sends);
    let mut now_ms = 0;
    let mut longest = 0;
    let mut of_rounds = 0u64;
    // Two periods, in which all were found at once would be 200,000 heartbeats in two seconds and a half.
    while now_ms < 51_000 {
        now_ms += Shard::tick_ms();
        while {
            let has_more = rig.shard.handle_tick(now_ms);
            longest = longest.max(rig.shard.controls.len());
            of_rounds += 1;
            while rig.fill(|_, _| {}) {}
            has_more
        } {}
    }
    let encoded = rig.shard.prepared.encoded - encoded;
    let sends = rig.sends - sends;
    println!("{sends} heartbeats, {encoded} encoded, {longest} waited at most, {of_rounds} rounds");
    assert!(sends >= 2 * u64::from(MASS), "{sends}");
    assert!(longest <= 2_048 + 16, "{longest} heartbeats waited at once");
    // Emptied with the cache when the shard is at rest, so once a rest, not once a subscriber.
    assert!(encoded <= 2 * of_rounds, "{encoded}");
    assert!(rig.most_looks <= FILL_LOOKS_MAX, "{}", rig.most_looks);
}

#[test]
fn a_hang_up_of_all_costs_each_its_close_and_leaves_no_queue_behind() {
    const MASS: u32 = 100_000;
    let mut rig = Rig::new(|_| {});
    let slots: Vec<SlotId> = (0..MASS).map(|_| rig.join("a", Offset::START)).collect();
    rig.join("a", Offset::START);
    rig.settle();
    // Half of them are being walked, a third has taken nothing, when all hang up.
    rig.outcome = |socket| if socket % 3 == 0 { Outcome::Short(3) } else { Outcome::Whole };
    rig.publish("a", 100);
    rig.take();
    for _ in 0..200 {
        rig.fill(|_, _| {});
    }
    for slot in &slots {
        rig.shard.handle_ready(*slot, Ready { writable: true, ..Ready::default() });
    }
    for slot in &slots {
        rig.shard.handle_ready(*slot, Ready { failed: true, ..Ready::default() });
    }
    rig.outcome = |_| Outcome::Whole;
    rig.most_looks = 0;
    rig.act();
    rig.settle();
    assert_eq!((rig.closed.len(), rig.shard.connections()), (MASS as usize, 1));
    assert!(rig.most_looks <= FILL_LOOKS_MAX, "{} looks in a fill", rig.most_looks);
    while rig.shard.handle_tick(2_000) {}
    let shard = &rig.shard;
    for (what, capacity) in [
        ("to resume", shard.to_resume.capacity()),
        ("to serve", shard.to_serve.capacity()),
        ("controls", shard.controls.capacity()),
        ("actions", shard.actions.capacity()),
        ("members", shard.sets[shard.slots[MASS].set].members.capacity()),
        ("sends", rig.batch.sends.capacity()),
        ("runs", rig.batch.runs.capacity()),
    ] {
        assert!(capacity <= 1_024, "{what}: room for {capacity} is left");
    }
    assert!(shard.extras.is_empty() && shard.half_sent.is_empty());
    assert_eq!(rig.sequencer.held_bytes().load(Ordering::Relaxed), 0, "nothing is half sent");
}

#[test]
fn members_that_leave_in_mid_walk_are_taken_out_one_at_a_time() {
    const MASS: u32 = 50_000;
    let mut rig = Rig::new(|_| {});
    let slots: Vec<SlotId> = (0..MASS).map(|_| rig.join("a", Offset::START)).collect();
    rig.settle();
    rig.publish("a", 10);
    rig.take();
    let mut got = vec![0u32; MASS as usize];
    let mut fills = 0;
    // Visited ones and those still to visit leave in turns while the walk goes on.
    while rig.fill(|socket, _| got[socket as usize] += 1) {
        for n in 0..50usize {
            let at = (fills * 7_919 + n * 104_729) % MASS as usize;
            rig.shard.handle_ready(slots[at], Ready { failed: true, ..Ready::default() });
        }
        fills += 1;
    }
    let set = rig.shard.sets.get(0).unwrap();
    assert_eq!(set.members.len(), rig.shard.connections(), "the vector is dense");
    for (socket, slot) in slots.iter().enumerate() {
        let is_alive = rig.shard.slots.get(*slot).is_some();
        assert!(got[socket] <= 1, "nobody gets it twice");
        assert!(!is_alive || got[socket] == 1, "{socket} is alive and did not get it");
    }
}

#[test]
fn wildcards_look_at_an_unfinished_event_once_a_set() {
    const EVENTS: u64 = 20_000;
    const SETS: u64 = 50;
    let mut rig = Rig::new(|config| {
        config.retention.events = 100_000;
        config.limits.channel_events = 65_536;
    });
    for _ in 0..5_000 {
        rig.join("busy", Offset::START);
    }
    for n in 0..SETS {
        rig.join(&format!("w{n}/*"), Offset::START);
    }
    rig.settle();
    // What is published to the busy topic stays unfinished; each of the wildcards is asked for its position
    // many times meanwhile.
    for _ in 0..EVENTS {
        rig.publish("busy", 1);
    }
    rig.take();
    rig.most_looks = 0;
    let before = rig.shard.work.looks.get();
    for n in 0..SETS {
        for _ in 0..40 {
            rig.join(&format!("w{n}/*"), rig.sequencer.head());
        }
    }
    while rig.shard.behind() > 0 {
        assert!(rig.fill(|_, _| {}));
    }
    let looks = rig.shard.work.looks.get() - before;
    println!("{looks} looks for {} joiners of {SETS} sets beside {EVENTS} events", 40 * SETS);
    assert!(looks <= SETS * EVENTS * 5 / 4 + 200_000, "{looks}: each event once a set");
    assert!(rig.most_looks <= FILL_LOOKS_MAX, "{} looks in a fill", rig.most_looks);
    assert!(rig.shard.turns_under_way() == 1, "the events are not finished");
}

#[test]
fn half_sent_runs_over_the_limit_reset_who_is_slow_longest() {
    let mut rig = Rig::new(|config| {
        config.retention.bytes = 1 << 20;
        config.retention.all_bytes = 2 << 20;
        config.limits.half_sent_percent = 25;
    });
    for n in 0..3_000 {
        rig.join(&format!("own/{n}"), Offset::START);
    }
    rig.settle();
    rig.outcome = |_| Outcome::Short(1);
    for n in 0..3_000 {
        if n == 100 {
            rig.shard.handle_tick(3_000);
        }
        if rig.publisher.publish(Event::text(&format!("own/{n}"), "x".repeat(2_000)).unwrap()).is_ok() {
            rig.take();
            while rig.fill(|_, _| {}) {}
        }
    }
    assert!(rig.closed.len() > 100, "{}", rig.closed.len());
    assert!(rig.closed[..100].iter().all(|&socket| socket < 100), "those of the first second first");
}

#[test]
fn the_end_of_all_goes_on_in_slices() {
    const MASS: u32 = 50_000;
    let mut rig = Rig::new(|_| {});
    for _ in 0..MASS {
        rig.join("a", Offset::START);
    }
    rig.settle();
    rig.shard.handle_drain(1_000);
    let mut longest = 0;
    for now_ms in 2_000..12_000 {
        rig.shard.handle_tick(now_ms);
        longest = longest.max(rig.shard.controls.len() + rig.shard.actions.len());
        while rig.fill(|_, _| {}) {}
        if rig.shard.connections() == 0 {
            break;
        }
    }
    assert_eq!((rig.shard.connections(), rig.closed.len()), (0, MASS as usize));
    assert!(longest <= 2_048, "{longest} were told at once");

    let mut rig = Rig::new(|_| {});
    for _ in 0..MASS {
        rig.join("a", Offset::START);
    }
    rig.settle();
    rig.shard.handle_cut();
    let mut longest = 0;
    while rig.shard.handle_tick(5_000) {
        longest = longest.max(rig.shard.actions.len());
        rig.act();
    }
    rig.act();
    assert_eq!((rig.shard.connections(), rig.closed.len()), (0, MASS as usize));
    assert!(longest <= 2 * 2_048, "{longest} were cut off at once");
}

#[test]
fn empty_sets_are_removed_in_slices() {
    const MASS: u32 = 20_000;
    let mut rig = Rig::new(|_| {});
    let slots: Vec<SlotId> = (0..MASS).map(|n| rig.join(&format!("own/{n}"), Offset::START)).collect();
    rig.settle();
    for slot in slots {
        rig.shard.handle_ready(slot, Ready { failed: true, ..Ready::default() });
    }
    rig.settle();
    let count = |rig: &Rig| (0..MASS).filter(|&number| rig.shard.sets.get(number).is_some()).count();
    let mut now_ms = 100_000;
    let mut left = count(&rig);
    assert_eq!(left, MASS as usize);
    for _ in 0..2_000 {
        now_ms += 10;
        rig.shard.handle_tick(now_ms);
        let now_left = count(&rig);
        assert!(left - now_left <= 256, "{} were removed at once", left - now_left);
        left = now_left;
        if left == 0 {
            return;
        }
    }
    panic!("{left} sets are left");
}

#[test]
fn a_flood_of_pings_of_one_takes_few_sends_and_holds_nobody_up() {
    let mut rig = Rig::new(|config| config.limits.messages_per_second = 1_000_000);
    let flooder = rig.join_by(Transport::WebSocket, &["a"], Offset::START);
    let other = rig.join_by(Transport::WebSocket, &["b"], Offset::START);
    rig.settle();
    let mut flood = Vec::new();
    for _ in 0..2_000 {
        flood.extend_from_slice(&[0x89, 0x80, 1, 2, 3, 4]);
    }
    for _ in 0..20 {
        rig.shard.handle_received(flooder, Received::Bytes(&flood, false));
    }
    rig.shard.handle_received(other, Received::Bytes(&flood[..6], false));
    let (mut bytes, mut is_answered, mut before) = (0, false, 0);
    let sends = rig.sends;
    while rig.fill(|socket, sent| {
        bytes += if socket == 0 { sent.len() } else { 0 };
        is_answered |= socket == 1;
        before += usize::from(!is_answered);
    }) {}
    assert_eq!(bytes, 20 * 2_000 * 2, "each ping has its pong");
    assert!(rig.sends - sends <= 20, "{} sends", rig.sends - sends);
    assert!(before <= 1, "another's pong waited for {before} sends");
}

/// The purposes are private to the shard; this says that all members of a set share one run in a batch.
#[test]
fn a_batch_names_a_run_once() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..100 {
        rig.join("a", Offset::START);
    }
    rig.settle();
    rig.publish("a", 10);
    rig.take();
    let mut batch = Batch::default();
    assert!(rig.shard.poll_batch(&mut batch));
    assert_eq!((batch.sends.len(), batch.runs.len()), (100, 1));
    assert!(batch.sends.iter().all(|send| matches!(send.purpose, Purpose::Walk(_))));
    let slot = batch.sends[0].slot;
    assert_eq!(rig.shard.slots[slot].state, State::Member);
    assert!(rig.shard.slots[slot].is(flag::IN_BATCH));
    rig.shard.handle_batch_sent(&mut batch);
}
