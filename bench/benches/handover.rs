//! From a publisher to a shard: `cargo bench -p stentor-bench --bench handover`.
//!
//! Awake: what an event costs on its way through the shard's channel, beside crossbeam's channel with the
//! same event, on one thread and from one thread to another; and what a whole publish costs (offset, log,
//! interest, arrears, channel). Asleep: the time from before the publish until the shard has the event, where
//! the shard sleeps, beside a thread that blocks on a bare eventfd. The sleepers stand on another CPU than
//! the publisher, and each hand-over finds them asleep.

mod beside;

use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use beside::{beside, is_measured, short};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stentor::bench::{self, Fed};
use stentor::config::Config;
use stentor::{Event, Matcher, Publisher};

const TOPIC: &str = "prices/eurusd";
const TEXT: &str = "1.0712 1.0714 1731000000";
/// Events that a channel holds: the default of the engine.
const CHANNEL_EVENTS: usize = 16_384;
/// A sleeper is left alone for so long before it is woken, so that it sleeps.
const NAP: Duration = Duration::from_micros(100);
/// Hand-overs of which the median is printed.
const SAMPLES: usize = 2_001;
/// Hand-overs that begin later are left out: where other work has the CPUs, each takes many times as long.
const ROUNDS_WALL: Duration = Duration::from_secs(3);

fn event() -> Event {
    Event::text(TOPIC, TEXT).expect("a topic")
}

fn publisher() -> (Publisher, Fed) {
    bench::publisher(&Config::default(), &[TOPIC.parse::<Matcher>().expect("a matcher")])
}

fn publish(publisher: &Publisher) {
    publisher.publish(black_box(event())).expect("room");
}

/// One thread puts in and takes out: no time is spent on moving cache lines between cores.
fn awake_on_one_thread(criterion: &mut Criterion) {
    let shared = Arc::new(event());
    let crossbeam = || {
        let (sender, receiver) = crossbeam_channel::bounded::<(Arc<Event>, Arc<()>)>(CHANNEL_EVENTS);
        let (shared, beside_it) = (Arc::clone(&shared), Arc::new(()));
        move || {
            sender.try_send((black_box(Arc::clone(&shared)), Arc::clone(&beside_it))).expect("room");
            receiver.try_recv().is_ok()
        }
    };
    let (feeder, fed) = bench::channel(CHANNEL_EVENTS);
    let through = || {
        feeder.push(black_box(Arc::clone(&shared)));
        feeder.wake();
        fed.take()
    };
    let name = "hand-over, awake: channel on one thread";
    beside(criterion, name, Throughput::Elements(1), ("crossbeam", crossbeam()), through);

    let (sender, receiver) = crossbeam_channel::bounded(CHANNEL_EVENTS);
    let floor = || {
        sender.try_send(Arc::new(black_box(event()))).expect("room");
        receiver.try_recv().is_ok()
    };
    let (publisher, fed) = publisher();
    let publish_and_take = || {
        publish(&publisher);
        fed.take()
    };
    let name = "hand-over, awake: publish on one thread";
    let floor = ("an event through crossbeam", floor);
    beside(criterion, name, Throughput::Elements(1), floor, publish_and_take);
}

/// One thread puts in as fast as the other takes out.
fn awake_on_two_threads(criterion: &mut Criterion) {
    let shared = Arc::new(event());
    let floor = |count: u64| {
        let (sender, receiver) = crossbeam_channel::bounded::<(Arc<Event>, Arc<()>)>(CHANNEL_EVENTS);
        let beside_it = Arc::new(());
        let put = |_| sender.try_send((Arc::clone(&shared), Arc::clone(&beside_it))).is_ok();
        transferred(count, put, move || receiver.try_recv().is_ok())
    };
    let subject = |count: u64| {
        let (feeder, fed) = bench::channel(CHANNEL_EVENTS);
        let put = |_| {
            let has_room = feeder.room() > 0;
            if has_room {
                feeder.push(Arc::clone(&shared));
                feeder.wake();
            }
            has_room
        };
        transferred(count, put, move || fed.take())
    };
    let sides = (("crossbeam", floor), subject);
    side_by_side(criterion, "hand-over, awake: channel between two threads", sides, 15, 100_000);
}

/// The time that `count` events take from `put`, which answers whether there was room, to `take` on another
/// thread, which answers whether there was one.
fn transferred(
    count: u64,
    mut put: impl FnMut(u64) -> bool,
    mut take: impl FnMut() -> bool + Send + 'static,
) -> Duration {
    let is_ready = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&is_ready);
    let taker = thread::spawn(move || {
        pin(Cpu::Shard);
        ready.store(true, Ordering::Release);
        let mut left = count;
        while left > 0 {
            if take() {
                left -= 1;
            } else {
                thread::yield_now();
            }
        }
    });
    while !is_ready.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let start = Instant::now();
    for number in 0..count {
        while !put(number) {
            thread::yield_now();
        }
    }
    taker.join().expect("the taker ends");
    start.elapsed()
}

fn asleep(criterion: &mut Criterion) {
    let bare = || {
        let eventfd = eventfd();
        let theirs = eventfd.try_clone().expect("a descriptor");
        let sleeper = Sleeper::new(move |took| {
            while {
                wait(theirs.as_fd());
                drain(theirs.as_fd());
                took()
            } {}
        });
        move || sleeper.handed(|| write(eventfd.as_fd()))
    };
    let crossbeam = || {
        let (sender, receiver) = crossbeam_channel::bounded(CHANNEL_EVENTS);
        let sleeper = Sleeper::new(move |took| while receiver.recv().is_ok() && took() {});
        move || sleeper.handed(|| sender.try_send(Arc::new(event())).expect("room"))
    };
    let blocked = || {
        let (publisher, fed) = publisher();
        let sleeper = Sleeper::new(move |took| serve_blocked(&fed, took));
        move || sleeper.handed(|| publish(&publisher))
    };
    let runtime = || {
        let (publisher, fed) = publisher();
        let sleeper = Sleeper::new(move |took| fed.serve(took));
        move || sleeper.handed(|| publish(&publisher))
    };
    let name = "hand-over, asleep: publish to a thread blocked on its eventfd";
    let sides = (("a bare eventfd", many(bare())), many(blocked()));
    side_by_side(criterion, name, sides, SAMPLES, 1);
    let sides = (("crossbeam's own blocking receive", many(crossbeam())), many(blocked()));
    side_by_side(criterion, &format!("{name}, beside crossbeam"), sides, SAMPLES, 1);
    let name = "hand-over, asleep: publish to a task of the shard's runtime";
    let sides = (("a bare eventfd", many(bare())), many(runtime()));
    side_by_side(criterion, name, sides, SAMPLES, 1);
}

fn many(mut one: impl FnMut() -> Duration) -> impl FnMut(u64) -> Duration {
    move |count| (0..count).map(|_| one()).sum()
}

/// The loop of a shard, on a thread without a runtime.
fn serve_blocked(fed: &Fed, mut took: impl FnMut() -> bool) {
    loop {
        while fed.take() {
            if !took() {
                return;
            }
        }
        if fed.prepare_to_sleep() {
            wait(fed.as_fd());
        }
        fed.awake();
    }
}

/// A thread that sleeps until something is handed to it, and notes when it has it.
struct Sleeper(Arc<Noted>);

struct Noted {
    base: Instant,
    /// Nanoseconds from `base` to the latest hand-over; 0 until it has come.
    at: AtomicU64,
    is_over: AtomicBool,
}

impl Sleeper {
    /// `serve` calls what it is given after each thing that it took, and ends when that answers false.
    fn new(serve: impl FnOnce(&mut dyn FnMut() -> bool) + Send + 'static) -> Self {
        let noted = Noted { base: Instant::now(), at: AtomicU64::new(0), is_over: AtomicBool::new(false) };
        let noted = Arc::new(noted);
        let theirs = Arc::clone(&noted);
        thread::spawn(move || {
            pin(Cpu::Shard);
            serve(&mut || {
                theirs.at.store(theirs.base.elapsed().as_nanos() as u64, Ordering::Release);
                !theirs.is_over.load(Ordering::Acquire)
            });
        });
        Self(noted)
    }

    /// From before `hand` until the sleeper has what it was handed.
    fn handed(&self, hand: impl FnOnce()) -> Duration {
        thread::sleep(NAP);
        self.0.at.store(0, Ordering::Release);
        let start = self.0.base.elapsed();
        hand();
        loop {
            let at = self.0.at.load(Ordering::Acquire);
            if at > 0 {
                return Duration::from_nanos(at).saturating_sub(start);
            }
            std::hint::spin_loop();
        }
    }
}

impl Drop for Sleeper {
    /// The thread ends with the next thing that it takes; until the process does, it sleeps.
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// Benches two sides that take their own time: each is called with how many to do, and answers how long those
/// took. Prints the medians of `rounds` of `count` each, floor and subject in turn, and the ratio of the two.
fn side_by_side(
    criterion: &mut Criterion,
    name: &str,
    ((floor_name, mut floor), mut subject): (
        (&str, impl FnMut(u64) -> Duration),
        impl FnMut(u64) -> Duration,
    ),
    rounds: usize,
    count: u64,
) {
    let mut group = criterion.benchmark_group(name);
    // The naps between are not counted, so that criterion takes a hundred times as long as it is told.
    group.measurement_time(Duration::from_millis(5));
    group.bench_function(BenchmarkId::new("floor", floor_name), |bench| bench.iter_custom(&mut floor));
    let mut is_selected = false;
    group.bench_function("subject", |bench| {
        is_selected = true;
        bench.iter_custom(&mut subject);
    });
    group.finish();
    if !is_selected || !is_measured() {
        return;
    }
    let mut times = (Vec::new(), Vec::new());
    let start = Instant::now();
    for _ in 0..rounds {
        if start.elapsed() > ROUNDS_WALL && !times.0.is_empty() {
            break;
        }
        times.0.push(floor(count));
        times.1.push(subject(count));
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / count as f64
    };
    let (floor, subject) = (median(times.0), median(times.1));
    println!(
        "{name}: {:.2} × {floor_name} (p50 {subject:.0} ns; the floor {floor:.0} ns)\n",
        subject / floor
    );
}

fn eventfd() -> OwnedFd {
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    assert!(fd >= 0, "no eventfd: {}", std::io::Error::last_os_error());
    // SAFETY: the call above succeeded, so `fd` is open, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn wait(fd: BorrowedFd<'_>) {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one entry, which lives until the call returns.
    unsafe { libc::poll(&raw mut entry, 1, -1) };
}

fn write(fd: BorrowedFd<'_>) {
    let one = 1u64;
    // SAFETY: the pointer is to eight bytes, which live until the call returns.
    let written = unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
    assert_eq!(written, 8, "an eventfd takes a one");
}

fn drain(fd: BorrowedFd<'_>) {
    let mut count = 0u64;
    // SAFETY: the pointer is to eight bytes, which live until the call returns.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
}

/// Who runs where: the last CPU that the process may use is the publisher's, the first a shard's.
#[derive(Clone, Copy)]
enum Cpu {
    Publisher,
    Shard,
}

/// Keeps this thread on its CPU.
fn pin(cpu: Cpu) {
    // Found once, before any thread is kept on one: a new thread inherits that of its maker.
    static FIRST_AND_LAST: OnceLock<Option<(usize, usize)>> = OnceLock::new();
    let Some((first, last)) = *FIRST_AND_LAST.get_or_init(first_and_last_cpu) else { return };
    let chosen = match cpu {
        Cpu::Publisher => last,
        Cpu::Shard => first,
    };
    // Where that is refused the figures are noisier, and true all the same.
    let _ = stentor_bench::machine::pin_to(chosen);
}

fn first_and_last_cpu() -> Option<(usize, usize)> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a set of CPUs is plain bits, and none of them set is a valid one.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of `size` bytes, which lives until the call returns.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) } != 0 {
        return None;
    }
    let is_allowed = |number: &usize| {
        // SAFETY: `number` is below the count of bits in the set.
        unsafe { libc::CPU_ISSET(*number, &allowed) }
    };
    let mut numbers = (0..8 * size).filter(is_allowed);
    let first = numbers.next()?;
    Some((first, numbers.next_back().unwrap_or(first)))
}

fn all(criterion: &mut Criterion) {
    pin(Cpu::Publisher);
    awake_on_one_thread(criterion);
    awake_on_two_threads(criterion);
    asleep(criterion);
}

criterion_group!(name = handover; config = short(); targets = all);
criterion_main!(handover);
