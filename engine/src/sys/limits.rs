//! What the process may use, and how it is told to end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use super::sockopt::check;

/// How many descriptors the process may have open (`RLIMIT_NOFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds now.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// Reads the limit of descriptors.
///
/// # Errors
/// None that is known.
pub fn descriptor_limit() -> io::Result<DescriptorLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(DescriptorLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Raises the soft limit of descriptors to the hard one, and answers what holds then.
///
/// # Errors
/// The system does not allow it.
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    let DescriptorLimit { hard, .. } = descriptor_limit()?;
    let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit`.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    descriptor_limit()
}

/// The processors that this thread may run on, ascending; at least one.
///
/// # Errors
/// The machine has more than 1,024 processors.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = no_cpus();
    // SAFETY: the kernel writes at most the size of `set` to it.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    // SAFETY: `set` is initialised, and each number is below its size.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Lets this thread run on `cpu` only.
///
/// # Errors
/// There is no such processor, or this process may not use it.
pub(crate) fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = no_cpus();
    // SAFETY: `cpu` is below the size of the set (checked above).
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the size of `set` from it.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: it is an array of integers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Which signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Waits for SIGTERM and SIGINT. There is one in a process.
#[derive(Debug)]
pub struct Signals(File);

/// Where the handler writes; −1 as long as there is none.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

impl Signals {
    /// From now on both signals no longer end the process, but are answered by [`Signals::wait`].
    ///
    /// # Errors
    /// `AlreadyExists` the second time; else the process is out of descriptors.
    pub fn install() -> io::Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: the kernel writes two descriptors.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        // SAFETY: the call above made it for us.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        // A handler that can never wait: with the pipe full there are signals enough to be read.
        set_nonblocking(&write)?;
        let taken = SIGNAL_PIPE.compare_exchange(-1, -2, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_err() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // It stays open for good: a handler may always come.
        SIGNAL_PIPE.store(write.into_raw_fd(), Ordering::Release);
        for signal in [libc::SIGTERM, libc::SIGINT] {
            handle(signal)?;
        }
        Ok(Self(File::from(read)))
    }

    /// Blocks the thread until the next one comes. Signals that came before it was called are answered too.
    ///
    /// # Errors
    /// None that is known.
    pub fn wait(&mut self) -> io::Result<Signal> {
        let mut signal = [0];
        self.0.read_exact(&mut signal)?;
        Ok(if i32::from(signal[0]) == libc::SIGINT { Signal::Interrupt } else { Signal::Terminate })
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).map(drop)
}

fn handle(signal: i32) -> io::Result<()> {
    // SAFETY: it is integers and a pointer that may be null, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the kernel reads `action`; the handler calls only what a handler may call.
    check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Only `write(2)` and an atomic load, both of which a handler may use; `errno` is put back as it was.
extern "C" fn on_signal(signal: i32) {
    let byte = signal as u8;
    // SAFETY: it is this thread's own, and valid as long as the thread runs.
    let error_number = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *error_number };
    let fd = SIGNAL_PIPE.load(Ordering::Acquire);
    // SAFETY: the kernel reads one byte. The pipe is never closed once it stands there; −1 and −2 are an error.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
    // SAFETY: as above.
    unsafe { *error_number = before };
}
