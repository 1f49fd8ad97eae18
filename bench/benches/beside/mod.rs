//! A subject beside its floor: criterion gives the times of both, and the ratio of the two is printed.
//!
//! The ratio is taken from short rounds of floor and subject in turn, as the median of the rounds' ratios:
//! what slows the machine for a moment slows both sides of a round. It is one of this thread's CPU time, so
//! that other work on the same core only spoils the caches; criterion's own times are those of the clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

const ROUNDS: usize = 51;
/// Rounds that begin later are left out: on a machine with other work a round takes many times its CPU time.
const ROUNDS_WALL: Duration = Duration::from_secs(1);
/// How long one side of a round takes: long beside the clock's grain, short beside what else the machine
/// does.
const ROUND_SIDE: Duration = Duration::from_millis(1);

/// Short: the ratios need no more, and all of it shall be run often.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .without_plots()
}

/// Benches `subject` beside `floor`, under `name`; both do `work` an iteration.
pub fn beside<F, S>(
    criterion: &mut Criterion,
    name: &str,
    work: Throughput,
    (floor_name, mut floor): (&str, impl FnMut() -> F),
    mut subject: impl FnMut() -> S,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(work.clone());
    group.bench_function(BenchmarkId::new("floor", floor_name), |bench| bench.iter(&mut floor));
    let mut is_selected = false;
    group.bench_function("subject", |bench| {
        is_selected = true;
        bench.iter(&mut subject);
    });
    group.finish();
    if is_selected && is_measured() {
        let (ratio, nanoseconds) = ratio_of(&mut floor, &mut subject);
        let each = match work {
            Throughput::Bytes(bytes) => format!("{nanoseconds:.0} ns for {bytes} bytes"),
            Throughput::Elements(1) => format!("{nanoseconds:.0} ns"),
            Throughput::Elements(count) => {
                format!("{:.1} ns each of {count}", nanoseconds / count as f64)
            }
            _ => format!("{nanoseconds:.0} ns"),
        };
        println!("{name}: {ratio:.2} × {floor_name} ({each})\n");
    }
}

/// Without `--bench`, as under `cargo test`, each bench is only seen to run.
pub fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// How many times the floor the subject costs, and the subject's time an iteration in nanoseconds.
fn ratio_of<F, S>(floor: &mut impl FnMut() -> F, subject: &mut impl FnMut() -> S) -> (f64, f64) {
    let (floor_count, subject_count) = (count_of(floor), count_of(subject));
    let start = Instant::now();
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .take_while(|&round| round == 0 || start.elapsed() < ROUNDS_WALL)
        .map(|_| {
            let floor = time_of(floor, floor_count);
            let subject = time_of(subject, subject_count);
            (subject / floor, subject)
        })
        .collect();
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    rounds[rounds.len() / 2]
}

/// How many iterations fill one side of a round.
fn count_of<T>(work: &mut impl FnMut() -> T) -> u32 {
    let mut count = 1;
    while time_of(work, count) * f64::from(count) < ROUND_SIDE.as_nanos() as f64 {
        count *= 2;
    }
    count
}

/// Nanoseconds an iteration.
fn time_of<T>(work: &mut impl FnMut() -> T, count: u32) -> f64 {
    let start = cpu_time();
    for _ in 0..count {
        black_box(work());
    }
    (cpu_time() - start).as_nanos() as f64 / f64::from(count)
}

/// What this thread has had of a CPU.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a `timespec`, which lives until the call returns.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
