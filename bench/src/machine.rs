//! The machine's own accounts: processor time, memory, and what kind of machine it is.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

/// What every result names: a figure without its machine says nothing.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of the first processor.
    pub processor: String,
    /// Cores that are online.
    pub cores: usize,
    /// Memory, in GiB.
    pub memory: u64,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        Self {
            processor: processor.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory: memory_line("MemTotal:") >> 30,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, memory, kernel } = self;
        write!(f, "{cores} cores {processor}, {memory} GiB, Linux {kernel}")
    }
}

/// Binds the calling thread, and what it starts later, to one core.
///
/// # Errors
/// There is no such core.
pub fn pin_to(core: usize) -> io::Result<()> {
    run_on(core..core + 1)
}

/// Lets the calling thread, and what it starts later, run on every core that it may.
///
/// # Errors
/// The kernel's.
pub fn unpin() -> io::Result<()> {
    run_on(0..libc::CPU_SETSIZE as usize)
}

fn run_on(cores: std::ops::Range<usize>) -> io::Result<()> {
    // SAFETY: the set is plain bits, for which all zeros are valid, and the kernel only reads it; a core
    // beyond its size is a panic.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores.for_each(|core| libc::CPU_SET(core, &mut set));
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nanoseconds of the monotonic clock, the same in every process.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Processor time of all threads of a process that live, to the nanosecond.
pub fn cpu_of(process: u32) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.flatten().filter_map(of).sum()
}

/// Resident anonymous memory of a process, in bytes.
pub fn anonymous_memory_of(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    kilobytes(&text, "RssAnon:")
}

/// Whether there is such a process, other than as a remainder that nobody has waited for.
pub fn is_alive(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|text| !text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// A process, its children, and theirs.
pub fn with_descendants(process: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = text.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(child);
    }
    let mut all = vec![process];
    let mut at = 0;
    while let Some(&parent) = all.get(at) {
        all.extend(children.remove(&parent).unwrap_or_default());
        at += 1;
    }
    all
}

/// Memory that can be had without taking any from the caches of sockets: what is free, and the files' cache.
/// `MemAvailable` counts sockets' inodes as available, which they are not while the sockets live.
pub fn free_memory() -> u64 {
    memory_line("MemFree:") + memory_line("Cached:")
}

fn memory_line(name: &str) -> u64 {
    kilobytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), name)
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor time of the whole machine since its start, in seconds, summed over its processors.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Processors {
    /// What ran, in user space, in the kernel or in its interrupts.
    pub used: f64,
    /// In which something wanted to run and the host let other machines (`steal`). Everything stands still
    /// meanwhile, the clock does not.
    pub stolen: f64,
}

impl Processors {
    /// As they are now.
    pub fn now() -> Self {
        Self::read(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn read(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let of = |fields: &[usize]| fields.iter().filter_map(|&at| ticks.get(at)).sum::<f64>() / 100.0;
        // user, nice, system, idle, iowait, irq, softirq, steal
        Self { used: of(&[0, 1, 2, 5, 6]), stolen: of(&[7]) }
    }
}

/// The kernel's accounts of sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sockets {
    /// Sockets of this network namespace that hold memory, whether connected or not.
    pub allocated: u64,
    /// Bytes in the buffers of all TCP sockets of the machine, to a few pages a core.
    pub buffered: u64,
}

impl Sockets {
    /// As they are now.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let of = |kind: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
            let mut fields = line.split_whitespace().skip_while(|field| *field != name);
            fields.nth(1).and_then(|value| value.parse().ok()).unwrap_or(0_u64)
        };
        Self { allocated: of("sockets:", "used"), buffered: of("TCP:", "mem") * 4096 }
    }
}

/// Waits until at most `left` sockets are in this network namespace; how long that took.
///
/// # Errors
/// There are more still after `within`.
pub fn sockets_are_gone(left: u64, within: Duration) -> io::Result<Duration> {
    let started = Instant::now();
    while Sockets::now().allocated > left {
        if started.elapsed() > within {
            let still = Sockets::now().allocated;
            return Err(io::Error::other(format!("{still} sockets are left after {within:?}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(started.elapsed())
}

/// Bytes of the kernel's objects that are in use, by cache.
#[derive(Debug, Clone, Default)]
pub struct Slabs(HashMap<String, u64>);

impl Slabs {
    /// As they are now. Empty where `/proc/slabinfo` may not be read (it needs root).
    pub fn now() -> Self {
        // Objects that wait for a grace period, and those cached for each processor, are given back first.
        let _ = fs::write("/proc/sys/vm/drop_caches", "2");
        let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let one = |line: &str| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?.to_owned();
            let numbers: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
            let [_, objects, _, a_slab, pages, ..] = numbers[..] else { return None };
            // Whole slabs: what an object costs includes what its slab wastes.
            Some((name, objects.div_ceil(a_slab.max(1)) * pages * 4096))
        };
        Self(text.lines().filter_map(one).collect())
    }

    /// Bytes gained since `before`, the largest caches first; those that neither gained nor lost a thousandth
    /// of the sum are left out.
    pub fn since(&self, before: &Self) -> (i64, Vec<(String, i64)>) {
        let change = |name: &String| {
            self.0.get(name).copied().unwrap_or(0) as i64 - before.0.get(name).copied().unwrap_or(0) as i64
        };
        let mut all: Vec<_> = self.0.keys().map(|name| (name.clone(), change(name))).collect();
        let sum = all.iter().map(|(_, change)| change).sum();
        all.retain(|(_, change)| change.abs() * 1000 > i64::abs(sum));
        all.sort_by_key(|(_, change)| -change);
        (sum, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_told_from_what_ran() {
        let text = "cpu  100 20 30 5000 700 4 6 800 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(Processors::read(text), Processors { used: 1.6, stolen: 8.0 });
        assert_eq!(Processors::read(""), Processors::default());
    }
}
