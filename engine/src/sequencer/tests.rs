//! The critical section: what is judged, what is counted, what is seen without the lock.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::channel::{Receiver as ShardReceiver, channel};
use crate::publish::Publisher;

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) fn rings(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl crate::channel::Wake for Arc<Bell> {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Bench {
    sequencer: Arc<Sequencer>,
    publisher: Publisher,
    shards: Vec<ShardReceiver<()>>,
    bells: Vec<Arc<Bell>>,
    now_ms: Arc<AtomicU64>,
}

const EPOCH: Epoch = Epoch(7);

fn bench(shards: usize, change: impl FnOnce(&mut Config)) -> Bench {
    let mut config = Config::default();
    config.limits.channel_events = 1_000;
    change(&mut config);
    let bells: Vec<_> = (0..shards).map(|_| Arc::<Bell>::default()).collect();
    let (senders, receivers) = bells
        .iter()
        .map(|bell| channel(config.limits.channel_events, Arc::new(Arc::clone(bell))))
        .map(|(sender, _, receiver)| (sender, receiver))
        .unzip();
    let now_ms = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now_ms);
    let clock = Box::new(move || clock.load(Ordering::Relaxed));
    let sequencer = Sequencer::with_clock(&config, senders, EPOCH, clock);
    Bench { publisher: Publisher::new(Arc::clone(&sequencer)), sequencer, shards: receivers, bells, now_ms }
}

impl Bench {
    fn publish(&self, topic: &str) -> Result<u64, PublishError> {
        self.publisher.publish(event(topic)).map(|cursor| cursor.offset.0)
    }

    /// Takes everything out of the channel of a shard, unfinished.
    fn take(&self, shard: usize) -> Vec<Delivery> {
        std::iter::from_fn(|| self.shards[shard].try_recv()).collect()
    }

    fn read(&self, name: &str) -> Vec<u64> {
        let read =
            self.sequencer.read(&matchers(&[name]), Offset::START, self.sequencer.head(), 10_000, usize::MAX);
        read.events.iter().map(|event| event.offset.0).collect()
    }
}

fn event(topic: &str) -> Event {
    Event::text(topic, "x").unwrap()
}

fn events(topics: &[&str]) -> Vec<Event> {
    topics.iter().map(|topic| event(topic)).collect()
}

fn matchers(names: &[&str]) -> Vec<Matcher> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.event.offset.0).collect()
}

fn finish(deliveries: Vec<Delivery>, shard: usize) {
    for delivery in deliveries {
        delivery.arrears.finish(shard);
    }
}

fn busy(topic: Option<&str>) -> PublishError {
    let topic = topic.map(|topic| topic.parse().unwrap());
    PublishError::Busy { topic, retry_after_seconds: BUSY_SECONDS }
}

fn cursor(offset: u64) -> Cursor {
    Cursor { epoch: EPOCH, offset: Offset(offset) }
}

/// Runs `future` on this thread; fails if it is not ready in ten seconds. Answers how often it was polled,
/// too.
pub(crate) fn block_on<F: Future>(future: F) -> (F::Output, u32) {
    struct Unpark(thread::Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::SeqCst);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    let (end, mut polls) = (Instant::now() + Duration::from_secs(10), 0);
    loop {
        if unpark.1.swap(false, Ordering::SeqCst) {
            polls += 1;
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return (output, polls);
            }
        }
        assert!(Instant::now() < end, "not woken within ten seconds");
        thread::park_timeout(Duration::from_secs(1));
    }
}

fn poll<F: Future>(future: Pin<&mut F>, bell: &Arc<Bell>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

#[test]
fn an_event_goes_to_the_shards_with_interest_and_wakes_those_that_sleep() {
    let bench = bench(3, |_| {});
    assert_eq!(bench.publish("a"), Ok(1));
    assert_eq!(bench.sequencer.add_interest(0, &matchers(&["a"])), Offset(1));
    assert_eq!(bench.sequencer.add_interest(2, &matchers(&["*"])), Offset(1));
    assert!(bench.shards[0].prepare_to_sleep());
    assert_eq!(bench.publish("a"), Ok(2));
    assert_eq!(bench.publish("b"), Ok(3));
    assert_eq!(bench.publish("c/d"), Ok(4));
    assert_eq!(
        offsets(&bench.take(0)),
        [2],
        "what was published before the head of `add_interest` is not for it"
    );
    assert!(bench.take(1).is_empty());
    assert_eq!(offsets(&bench.take(2)), [2, 3]);
    assert_eq!(bench.bells.iter().map(|bell| bell.rings()).collect::<Vec<_>>(), [1, 0, 0]);
    bench.sequencer.remove_interest(2, &matchers(&["*"]));
    assert_eq!(bench.publish("a"), Ok(5));
    assert_eq!((offsets(&bench.take(0)), offsets(&bench.take(2))), (vec![5], vec![]));
    assert_eq!(bench.read("**"), [1, 2, 3, 4, 5]);
}

#[test]
fn a_hot_topic_is_busy_and_leaves_the_others_alone() {
    let bench = bench(2, |config| config.limits.arrears = 2);
    bench.sequencer.add_interest(0, &matchers(&["*"]));
    bench.sequencer.add_interest(1, &matchers(&["hot"]));
    assert_eq!((bench.publish("hot"), bench.publish("hot")), (Ok(1), Ok(2)));
    assert_eq!(bench.publish("hot"), Err(busy(Some("hot"))), "counted at the push, not when taken");
    assert_eq!(bench.publish("cold"), Ok(3));
    let (zero, one) = (bench.take(0), bench.take(1));
    assert_eq!(bench.publish("hot"), Err(busy(Some("hot"))), "taken is not finished");
    finish(zero, 0);
    assert_eq!(bench.publish("hot"), Err(busy(Some("hot"))), "the other shard is not done");
    finish(one, 1);
    assert_eq!(bench.publish("hot"), Ok(4));
    assert_eq!(bench.read("hot"), [1, 2, 4], "what was answered with Busy left nothing");
    assert_eq!(bench.sequencer.statistics().busy, 3);
}

#[test]
fn the_arrears_limit_is_half_of_what_a_topic_retains_unless_set() {
    let bench = bench(1, |config| config.retention.events = 10);
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    assert_eq!((0..20).filter(|_| bench.publish("a").is_ok()).count(), 5);
}

#[test]
fn a_batch_that_finds_its_topic_below_the_limit_goes_in_whole_and_counts_whole() {
    let bench = bench(1, |config| config.limits.arrears = 2);
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    assert_eq!(bench.publish("a"), Ok(1));
    let cursors = bench.publisher.publish_batch(events(&["a"; 10])).unwrap();
    assert_eq!(cursors, (2..12).map(cursor).collect::<Vec<_>>());
    let mut taken = bench.take(0);
    finish(taken.drain(..9).collect(), 0);
    assert_eq!(bench.publish("a"), Err(busy(Some("a"))), "two are left");
    finish(taken, 0);
    assert_eq!(bench.publish("a"), Ok(12));
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let bench = bench(2, |config| config.limits.arrears = 1);
    bench.sequencer.add_interest(0, &matchers(&["hot"]));
    bench.sequencer.add_interest(1, &matchers(&["**"]));
    assert_eq!(bench.publish("hot"), Ok(1));
    let answer = bench.publisher.publish_batch(events(&["a", "b", "hot", "c"]));
    assert_eq!(answer, Err(busy(Some("hot"))));
    assert_eq!((bench.sequencer.head(), bench.read("**")), (Offset(1), vec![1]));
    assert_eq!((offsets(&bench.take(0)), offsets(&bench.take(1))), (vec![1], vec![1]));
    assert_eq!(bench.sequencer.statistics().arrears_topics, 1);
    assert_eq!(bench.publisher.publish_batch(Vec::new()), Ok(Vec::new()));
}

#[test]
fn a_full_channel_is_busy_before_anything_is_appended() {
    let bench = bench(2, |config| {
        config.limits.channel_events = 4;
        config.limits.arrears = 100;
    });
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    bench.sequencer.add_interest(1, &matchers(&["b"]));
    bench.publisher.publish_batch(events(&["a", "a", "a", "b"])).unwrap();
    assert_eq!(bench.publisher.publish_batch(events(&["b", "a", "a"])), Err(busy(None)));
    assert_eq!(bench.read("**").len(), 4);
    assert_eq!(bench.publish("a"), Ok(5));
    assert_eq!(bench.publish("a"), Err(busy(None)));
    assert_eq!(bench.publish("b"), Ok(6), "the other shard has room");
    bench.take(0);
    bench.take(1);
    bench.publisher.publish_batch(events(&["a"; 4])).unwrap();
    let answer = bench.publisher.publish_batch(events(&["a"; 5]));
    assert_eq!(answer, Err(PublishError::BatchTooLong { events: 5, events_max: 4 }), "else Busy for ever");
}

#[test]
fn sizes_over_the_limits_are_refused_with_the_limit() {
    let bench = bench(0, |config| {
        config.limits.event_bytes = 10;
        config.limits.batch_bytes = 15;
        config.limits.batch_lines = 3;
    });
    let of = |bytes: usize| Event::text("a", "x".repeat(bytes)).unwrap();
    let answer = bench.publisher.publish(of(11)).unwrap_err();
    assert_eq!(answer, PublishError::EventTooLarge { bytes: 11, bytes_max: 10 });
    assert_eq!(answer.to_string(), "event with data of 11 bytes; at most 10 are allowed");
    let answer = bench.publisher.publish_batch(vec![of(8), of(8)]);
    assert_eq!(answer, Err(PublishError::BatchTooLarge { bytes: 16, bytes_max: 15 }));
    let answer = bench.publisher.publish_batch(vec![of(1), of(1), of(1), of(1)]);
    assert_eq!(answer, Err(PublishError::BatchTooLong { events: 4, events_max: 3 }));
    assert!(bench.publisher.publish_batch(vec![of(10), of(5)]).is_ok());
    for key in [String::new(), "k".repeat(257)] {
        let answer = bench.publisher.publish_keyed(&key, vec![of(1)]);
        assert_eq!(answer, Err(PublishError::Key { bytes: key.len() }));
    }
    assert_eq!(bench.read("a"), [1, 2]);
}

#[test]
fn a_key_publishes_once_and_answers_the_same_again() {
    let bench = bench(1, |config| config.limits.arrears = 1);
    bench.sequencer.add_interest(0, &matchers(&["hot"]));
    let keyed = |key: &str, topics: &[&str]| bench.publisher.publish_keyed(key, events(topics));
    bench.publish("hot").unwrap();
    assert_eq!(keyed("k", &["a", "hot"]), Err(busy(Some("hot"))), "uses no key up");
    let first = keyed("k", &["a", "b"]).unwrap();
    assert_eq!((first.cursors.as_slice(), first.is_repeat), (&[cursor(2), cursor(3)][..], false));
    bench.publish("a").unwrap();
    let again = keyed("k", &["a", "b"]).unwrap();
    assert_eq!((again.cursors, again.is_repeat), (first.cursors, true));
    let other = keyed("k", &["a", "c"]).unwrap_err();
    assert_eq!((&other, other.status()), (&PublishError::KeyReused, 422));
    assert!(!keyed("l", &["a", "b"]).unwrap().is_repeat);
    assert_eq!(bench.sequencer.head(), Offset(6));
    bench.now_ms.fetch_add(5 * 60 * 1_000, Ordering::Relaxed);
    assert!(!keyed("k", &["a", "c"]).unwrap().is_repeat, "five minutes later it is a new key");
    bench.sequencer.close();
    assert!(keyed("k", &["a", "c"]).unwrap().is_repeat, "what was published is answered to the end");
    assert_eq!(keyed("m", &["a"]), Err(PublishError::Closed));
}

#[test]
fn the_time_of_events_never_goes_back() {
    let bench = bench(0, |_| {});
    bench.publish("a").unwrap();
    bench.now_ms.fetch_sub(500_000, Ordering::Relaxed);
    bench.publish("a").unwrap();
    let read = bench.sequencer.read(&matchers(&["a"]), Offset(0), Offset(2), 9, 9_999);
    let times: Vec<_> = read.events.iter().map(|event| event.time_ms()).collect();
    assert_eq!(times, [1_000_000, 1_000_000]);
}

#[test]
fn a_start_is_resolved_to_the_place_that_gives_no_false_gap() {
    let bench = bench(0, |config| config.retention.events = 2);
    for topic in ["a", "a", "b", "a", "a"] {
        bench.publish(topic).unwrap();
    }
    // a: 4 5 of 1 2 4 5; b: 3.
    let after = |start, names: &[&str]| {
        let resolved = bench.sequencer.resolve(start, &matchers(names)).unwrap();
        assert_eq!(resolved.old, None);
        let read = bench.sequencer.read(&matchers(names), resolved.after, Offset(5), 9, 9_999);
        assert_eq!(read.gap(resolved.after, Offset::START), None, "{start:?} {names:?}");
        resolved.after.0
    };
    assert_eq!(after(Start::Now, &["a"]), 5);
    assert_eq!(after(Start::Earliest, &["a"]), 3);
    assert_eq!(after(Start::Earliest, &["b"]), 2);
    assert_eq!(after(Start::Earliest, &["*"]), 2, "all that is retained, 3 to 5");
    assert_eq!(after(Start::Earliest, &["x"]), 5);
    assert_eq!(after(Start::After(cursor(4)), &["a"]), 4);
}

#[test]
fn earliest_with_a_hole_between_retained_events_tells_the_hole() {
    let bench = bench(0, |config| config.retention.events = 1);
    for topic in ["a", "b", "b"] {
        bench.publish(topic).unwrap();
    }
    let names = matchers(&["a", "b"]);
    let resolved = bench.sequencer.resolve(Start::Earliest, &names).unwrap();
    assert_eq!(resolved.after, Offset(0), "nothing that is retained is left out");
    let read = bench.sequencer.read(&names, resolved.after, Offset(3), 9, 9_999);
    assert_eq!(read.gap(resolved.after, Offset::START).map(|gap| gap.resumed), Some(Offset(2)));
}

#[test]
fn epochs_are_compared_before_offsets() {
    let bench = bench(0, |_| {});
    let names = matchers(&["a"]);
    let other = Cursor { epoch: Epoch(8), offset: Offset(99) };
    let resolved = bench.sequencer.resolve(Start::After(other), &names);
    assert_eq!(resolved, Ok(Resolved { after: Offset::START, old: Some(other) }));
    let beyond = bench.sequencer.resolve(Start::After(cursor(1)), &names);
    assert_eq!(beyond, Err(CursorError::BeyondHead { offset: Offset(1), head: Offset(0) }));
}

#[test]
fn a_cursor_beyond_the_head_that_all_see_is_judged_again_under_the_lock() {
    let bench = bench(0, |_| {});
    bench.publish("a").unwrap();
    // As it is while the publisher is between its push and its store.
    bench.sequencer.head.store(0, Ordering::SeqCst);
    let names = matchers(&["a"]);
    assert!(bench.sequencer.resolve(Start::After(cursor(1)), &names).is_ok());
    let beyond = bench.sequencer.resolve(Start::After(cursor(2)), &names);
    assert_eq!(beyond, Err(CursorError::BeyondHead { offset: Offset(2), head: Offset(1) }));
}

/// A shard may say "I have taken all up to the head" when it has read the head and *then* found its channel
/// empty.
#[test]
fn whoever_sees_the_head_finds_every_event_up_to_it_in_its_channel() {
    let bench = bench(2, |config| config.limits.arrears = 1_000_000);
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    bench.sequencer.add_interest(1, &matchers(&["a"]));
    const EVENTS: u64 = 30_000;
    let publisher = bench.publisher.clone();
    let publishing = thread::spawn(move || {
        let mut published = 0;
        while published < EVENTS {
            published += u64::from(publisher.publish(event("a")).is_ok());
        }
    });
    let end = Instant::now() + Duration::from_secs(60);
    let mut taken = 0;
    while taken < EVENTS {
        let head = bench.sequencer.head();
        // The shard that is pushed to last is the one that would be told too early.
        for delivery in bench.take(1) {
            assert_eq!(delivery.event.offset.0, taken + 1);
            taken += 1;
        }
        bench.take(0);
        assert!(head.0 <= taken, "the head was {head}, and only {taken} were there");
        assert!(Instant::now() < end, "no progress");
    }
    publishing.join().unwrap();
}

#[test]
fn what_shards_hold_counts_and_too_much_of_it_is_busy_for_all() {
    let bench = bench(1, |config| {
        config.retention.events = 1;
        config.retention.all_bytes = 2_000;
        config.limits.arrears = 1_000;
    });
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    // 162 bytes each: one stays in the log, and the seventh finds six outside, 972 of 1,000.
    let published = (0..20).filter(|_| bench.publish("a").is_ok()).count();
    assert_eq!(published, 8);
    assert_eq!(bench.publish("b"), Err(busy(None)));
    assert_eq!(bench.sequencer.statistics().bytes_outside, 7 * 162);
    finish(bench.take(0), 0);
    assert_eq!(bench.sequencer.statistics().bytes_outside, 0);
    assert_eq!(bench.publish("b"), Ok(9));
    bench.sequencer.held_bytes().store(1_000, Ordering::Relaxed);
    assert_eq!(bench.publish("b"), Err(busy(None)), "half-sent runs count too");
}

#[test]
fn arrears_of_finished_topics_are_forgotten() {
    let bench = bench(1, |_| {});
    bench.sequencer.add_interest(0, &matchers(&["*"]));
    for number in 0..500 {
        bench.publish(&format!("t{number}")).unwrap();
        finish(bench.take(0), 0);
    }
    assert!(bench.sequencer.statistics().arrears_topics <= 2, "{:?}", bench.sequencer.statistics());
    bench.publish("unfinished").unwrap();
    bench.sequencer.sweep();
    assert_eq!(bench.sequencer.statistics().arrears_topics, 1);
    finish(bench.take(0), 0);
    bench.sequencer.sweep();
    assert_eq!(bench.sequencer.statistics().arrears_topics, 0);
}

#[test]
fn a_sweep_drops_what_is_too_old() {
    let bench = bench(0, |_| {});
    for _ in 0..900 {
        bench.publisher.publish_batch(events(&["a", "b", "c"])).unwrap();
    }
    bench.now_ms.fetch_add(300_000, Ordering::Relaxed);
    bench.sequencer.sweep();
    assert_eq!(bench.sequencer.statistics().log.events, 2_700, "just five minutes");
    bench.now_ms.fetch_add(1, Ordering::Relaxed);
    bench.sequencer.sweep();
    assert_eq!(bench.sequencer.statistics().log.events, 0);
    let info = bench.sequencer.topic("b").unwrap();
    assert_eq!((info.first, info.last), (None, Offset(2_699)));
    assert_eq!(bench.sequencer.topic("x"), None);
}

#[test]
fn a_waiting_publisher_sleeps_until_a_shard_finishes() {
    let bench = bench(1, |config| config.limits.arrears = 1);
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    bench.publish("a").unwrap();
    let bell = Arc::<Bell>::default();
    let mut waits = pin!(bench.publisher.publish_wait(event("a")));
    assert!(poll(waits.as_mut(), &bell).is_pending());
    let taken = bench.take(0);
    bench.publish("b").unwrap();
    // It is told of room in the channel, looks, and sleeps again; each wake is for one look.
    let before = bell.rings();
    assert!(before <= 1 && poll(waits.as_mut(), &bell).is_pending());
    finish(taken, 0);
    assert_eq!(bell.rings(), before + 1);
    assert_eq!(poll(waits.as_mut(), &bell), Poll::Ready(Ok(cursor(3))));
}

#[test]
fn a_waiting_publisher_is_woken_by_room_in_the_channel_by_bytes_and_by_the_end() {
    let bench = bench(1, |config| {
        config.limits.channel_events = 1;
        config.limits.batch_lines = 1;
        config.retention.all_bytes = 1_400;
        config.retention.events = 1;
        config.limits.arrears = 1_000;
    });
    bench.sequencer.add_interest(0, &matchers(&["a"]));
    let bell = Arc::<Bell>::default();
    bench.publisher.publish(Event::text("a", "x".repeat(600)).unwrap()).unwrap();
    let mut waits = pin!(bench.publisher.publish_wait(event("a")));
    assert!(poll(waits.as_mut(), &bell).is_pending());
    let first = bench.take(0);
    assert_eq!(bell.rings(), 1, "the channel is empty");
    assert!(poll(waits.as_mut(), &bell).is_ready());
    let second = bench.take(0);
    let mut waits = pin!(bench.publisher.publish_wait(event("a")));
    assert!(
        poll(waits.as_mut(), &bell).is_pending(),
        "the first one is held by the shard alone, and is too much"
    );
    let rings = bell.rings();
    drop(first);
    assert_eq!(bell.rings(), rings + 1, "it was let go");
    assert!(poll(waits.as_mut(), &bell).is_ready());
    drop(second);
    let mut waits = pin!(bench.publisher.publish_wait(event("a")));
    assert!(poll(waits.as_mut(), &bell).is_pending());
    let rings = bell.rings();
    bench.sequencer.close();
    assert_eq!(bell.rings(), rings + 1);
    assert_eq!(poll(waits.as_mut(), &bell), Poll::Ready(Err(PublishError::Closed)));
}

#[test]
fn a_sweep_wakes_waiting_publishers_for_room_that_nobody_tells_of() {
    let bench = bench(0, |config| config.retention.all_bytes = 1_000);
    bench.sequencer.held_bytes().store(500, Ordering::Relaxed);
    let bell = Arc::<Bell>::default();
    let mut waits = pin!(bench.publisher.publish_wait(event("a")));
    assert!(poll(waits.as_mut(), &bell).is_pending());
    bench.sequencer.held_bytes().store(0, Ordering::Relaxed);
    bench.sequencer.sweep();
    assert_eq!(bell.rings(), 1);
    assert!(poll(waits.as_mut(), &bell).is_ready());
}

/// Publishers that wait, shards that take their time, a receiver: everything arrives everywhere, once and in
/// order.
#[test]
fn threads_that_publish_wait_take_and_finish_lose_nothing() {
    const EACH: usize = 3_000;
    let mut bench = bench(2, |config| {
        config.limits.channel_events = 16;
        config.limits.arrears = 5;
        config.retention.events = 100_000;
        config.retention.bytes = usize::MAX;
    });
    for shard in 0..2 {
        bench.sequencer.add_interest(shard, &matchers(&["a", "b/*"]));
    }
    let mut receiver = bench.sequencer.subscribe(matchers(&["**"]), Start::Now).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        for topic in ["a", "b/x", "b/y"] {
            let publisher = bench.publisher.clone();
            scope.spawn(move || {
                for _ in 0..EACH {
                    block_on(publisher.publish_wait(event(topic))).0.unwrap();
                }
            });
        }
        for (shard, receiver) in bench.shards.drain(..).enumerate() {
            scope.spawn(move || {
                let (mut taken, mut last, mut unfinished) = (0, Offset::START, Vec::new());
                while taken < 3 * EACH {
                    while let Some(delivery) = receiver.try_recv() {
                        assert!(delivery.event.offset > last, "{} after {last}", delivery.event.offset);
                        last = delivery.event.offset;
                        taken += 1;
                        unfinished.push(delivery);
                    }
                    finish(std::mem::take(&mut unfinished), shard);
                    assert!(Instant::now() < end, "shard {shard} has {taken}");
                    thread::yield_now();
                }
            });
        }
        for offset in 1..=3 * EACH as u64 {
            let (received, _) = block_on(receiver.next());
            let Ok(crate::receiver::Received::Event(event)) = received else { panic!("{received:?}") };
            assert_eq!(event.offset.0, offset);
        }
    });
    assert_eq!(bench.sequencer.statistics().bytes_outside, 0);
}
