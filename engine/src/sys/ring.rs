//! One ring of io_uring with its table of direct descriptors: a safe face over the queues. Knows nothing of
//! what the sockets are for.
//!
//! The ring is made so that the kernel's work for it runs only inside a system call of the shard's thread
//! (`DEFER_TASKRUN`): nothing interrupts the shard. Whoever has to wake it signals the registered eventfd. (A
//! poll on the descriptor of such a ring misses wake-ups.)

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use crate::spare::shrink;

/// Submissions that one system call takes. Fan-out is as fast with 256 as with 16,384.
const SUBMISSIONS: u32 = 1024;

/// Completions that are not read yet. The kernel keeps more than that, at a cost; and it makes one bucket of
/// its table of armed polls for 32 of them, up to 256.
const COMPLETIONS: u32 = 8192;

/// For how long the kernel may lack the memory for a submission before the shard gives up.
const NO_MEMORY_TRIES: u32 = 1000;

/// `IORING_ENTER_GETEVENTS`: run what the kernel has deferred.
const ENTER_GETEVENTS: u32 = 1;

/// `IORING_POLL_UPDATE_EVENTS`, which the crate does not offer.
const POLL_UPDATE_EVENTS: u32 = 1 << 1;

/// `IORING_ACCEPT_DONTWAIT` (Linux 6.10), which the crate does not offer.
const ACCEPT_DONTWAIT: u16 = 1 << 1;

/// A send: takes nothing that does not fit at once, and no part of it lives on after the submission.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// Largest send, well below what the kernel cuts to.
pub(super) const SEND_BYTES_MAX: usize = 1 << 30;

pub(super) struct Ring {
    ring: IoUring,
    /// Completions that came while another one was looked for; older than those in the ring.
    earlier: VecDeque<Completion>,
    /// Some of them may be such as [`Ring::take_completions`] looks for.
    is_mixed: bool,
    /// The queue may hold submissions that name memory which is gone: nothing may be submitted any more.
    is_broken: bool,
    /// The kernel says that it has deferred something, and ran nothing when it was entered for it. It says so
    /// for good then, until there is something again: it marks the ring *after* it has queued the work, and
    /// the work may have been run in between. Whoever goes on until the mark is gone goes on for ever.
    is_mark_stale: bool,
    /// Nothing signals the eventfd.
    is_hushed: bool,
}

/// What the kernel answers to an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    /// What the operation was given.
    pub(super) data: u64,
    /// A count, a mask, or an error number, negated.
    pub(super) result: i32,
    /// The operation goes on: this is not its last completion.
    pub(super) more: bool,
}

/// An operation that names no memory. All but `Arm`, `Watch`, `Install` and `Free` complete only if they
/// fail.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    /// Reports each arrival of `events` (`POLLIN` …) at the socket, and those that are there now.
    Arm { index: u32, events: u32 },
    /// Reports each arrival at a descriptor that is no socket of the table, and what is there now.
    Watch { fd: RawFd },
    /// Changes the events of the `Arm` that was given `target`; reports those that are there now.
    Rearm { target: u64, events: u32 },
    /// Ends the `Arm` that was given `target`.
    Disarm { target: u64 },
    /// Makes a file descriptor of the socket; the result is its number.
    Install { index: u32 },
    /// Takes the socket out of the table, and closes it if nobody else has it.
    Free { index: u32 },
}

impl Ring {
    /// Makes a ring with a table of `sockets` places, that signals `eventfd`. Only this thread can use it.
    pub(super) fn new(eventfd: BorrowedFd<'_>, sockets: u32) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)?;
        ring.submitter().register_files_sparse(sockets)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(Self {
            ring,
            earlier: VecDeque::new(),
            is_mixed: false,
            is_broken: false,
            is_mark_stale: false,
            is_hushed: false,
        })
    }

    /// Puts a descriptor into the table. The file lives on there when the descriptor is closed.
    pub(super) fn register(&mut self, index: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        let count = self.ring.submitter().register_files_update(index, &[fd.as_raw_fd()])?;
        assert_eq!(count, 1, "the kernel took the descriptor");
        Ok(())
    }

    /// Queues an operation; it begins with the next [`Ring::submit`] or [`Ring::run`].
    pub(super) fn push(&mut self, data: u64, operation: Operation) {
        use squeue::Flags;
        let entry = match operation {
            Operation::Arm { index, events } => {
                opcode::PollAdd::new(types::Fixed(index), events).multi(true).build()
            }
            Operation::Watch { fd } => {
                opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true).build()
            }
            Operation::Rearm { target, events } => poll_update(target, events).flags(Flags::SKIP_SUCCESS),
            // A poll removal fails while a wake-up of the poll is under way; a cancellation does not.
            Operation::Disarm { target } => {
                opcode::AsyncCancel::new(target).build().flags(Flags::SKIP_SUCCESS)
            }
            Operation::Install { index } => opcode::FixedFdInstall::new(types::Fixed(index), 0).build(),
            Operation::Free { index } => opcode::Close::new(types::Fixed(index)).build(),
        };
        // SAFETY: no operation above names memory.
        unsafe { self.push_entry(&entry.user_data(data)) }
    }

    /// Queues a send of all of `bytes`, or what fits at once; completes only if that is not all.
    ///
    /// # Safety
    /// `bytes` must be readable until [`Ring::submit`] has returned.
    pub(super) unsafe fn push_send(&mut self, data: u64, index: u32, bytes: *const [u8]) {
        debug_assert!(bytes.len() <= SEND_BYTES_MAX, "a send of {} bytes", bytes.len());
        let entry = opcode::Send::new(types::Fixed(index), bytes.cast(), bytes.len() as u32)
            .flags(SEND_FLAGS)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(data);
        // SAFETY: with `MSG_DONTWAIT` the kernel is done with the memory when the submission is, and the
        // caller keeps it until then.
        unsafe { self.push_entry(&entry) }
    }

    /// Queues a receive of what is there now; completes with its length, 0 for FIN.
    ///
    /// # Safety
    /// `len` bytes at `space` must be writable, and read by nobody, until the completion was seen or the ring
    /// is gone.
    pub(super) unsafe fn push_receive(&mut self, data: u64, index: u32, space: *mut u8, len: u32) {
        let entry = opcode::Recv::new(types::Fixed(index), space, len)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .user_data(data);
        // SAFETY: the kernel writes at most `len` bytes at `space` before the operation completes, and the
        // caller keeps them for it.
        unsafe { self.push_entry(&entry) }
    }

    /// Queues the accept of a connection that is waiting at `listener` into the free place `index`; it
    /// completes with 0, or `EAGAIN` if there is none. Before Linux 6.10 it is refused with `EINVAL`.
    ///
    /// # Safety
    /// `len` must be readable, and it and that many bytes at `name` writable, until [`Ring::submit`] has
    /// returned.
    pub(super) unsafe fn push_accept(
        &mut self,
        data: u64,
        listener: BorrowedFd<'_>,
        index: u32,
        name: *mut libc::sockaddr,
        len: *mut libc::socklen_t,
    ) {
        let place = types::DestinationSlot::try_from_slot_target(index);
        let place = place.expect("the index of a place in a table");
        let fd = types::Fd(listener.as_raw_fd());
        let entry = opcode::Accept::new(fd, name, len).file_index(Some(place)).build().user_data(data);
        let entry = patched(entry, IOPRIO_AT, ACCEPT_DONTWAIT.to_ne_bytes());
        // SAFETY: an accept that does not wait is done with the memory when the submission is, and the caller
        // keeps it until then.
        unsafe { self.push_entry(&entry) }
    }

    /// # Safety
    /// What memory `entry` names is valid for the operation until it is done with it.
    unsafe fn push_entry(&mut self, entry: &squeue::Entry) {
        assert!(!self.is_broken, "a ring that failed is not used again");
        if self.ring.submission().is_full() {
            self.submit();
        }
        // SAFETY: as this function's caller promises.
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "the queue was just emptied");
    }

    /// Gives the kernel all queued operations. Sends and receives are over when this returns: none of them
    /// waits.
    ///
    /// # Panics
    /// If the kernel takes none for a second, for lack of memory. The ring then cannot be used again.
    pub(super) fn submit(&mut self) {
        self.enter(0);
    }

    /// Gives the kernel all queued operations, and lets it run what it has deferred.
    ///
    /// # Panics
    /// As [`Ring::submit`].
    pub(super) fn run(&mut self) {
        self.enter(ENTER_GETEVENTS);
        self.is_mark_stale = self.ring.submission().taskrun() && self.ring.completion().is_empty();
    }

    fn enter(&mut self, flags: u32) {
        assert!(!self.is_broken, "a ring that failed is not used again");
        let mut flags = flags;
        for _ in 0..NO_MEMORY_TRIES {
            let queued = self.ring.submission().len() as u32;
            if queued == 0 && flags == 0 {
                return;
            }
            // SAFETY: there is no argument that is a pointer; each queued entry names valid memory, as those
            // who queued them promised.
            let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
            match entered.map_err(|error| error.raw_os_error()) {
                Ok(_) => flags = 0,
                Err(Some(libc::EINTR)) => {}
                // The kernel holds too many completions: it gives them back when it is entered for events.
                Err(Some(libc::EBUSY)) => {
                    flags = ENTER_GETEVENTS;
                    self.earlier.extend(self.ring.completion().map(completion));
                    self.is_mixed = true;
                }
                Err(Some(libc::EAGAIN | libc::ENOMEM)) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => {
                    self.give_up();
                    panic!("io_uring_enter failed: {:?}", error.map(io::Error::from_raw_os_error));
                }
            }
        }
        self.give_up();
        panic!("io_uring_enter has taken no submission for a second: out of memory");
    }

    /// Sees to it that nothing is submitted any more, because the queue may name memory that is gone.
    pub(super) fn give_up(&mut self) {
        self.is_broken = true;
    }

    /// The next completion that is there, if any.
    pub(super) fn poll_completion(&mut self) -> Option<Completion> {
        self.earlier.pop_front().or_else(|| self.ring.completion().next().map(completion))
    }

    /// Gives back the completion that was taken last.
    pub(super) fn put_back(&mut self, completion: Completion) {
        self.earlier.push_front(completion);
    }

    /// Takes those completions out that `is_wanted` names, for which the kernel was given all operations; the
    /// others keep their order.
    pub(super) fn take_completions(
        &mut self,
        is_wanted: impl Fn(&Completion) -> bool,
        mut taken: impl FnMut(Completion),
    ) {
        if std::mem::take(&mut self.is_mixed) {
            for completion in std::mem::take(&mut self.earlier) {
                if is_wanted(&completion) { taken(completion) } else { self.earlier.push_back(completion) }
            }
        }
        loop {
            for completion in self.ring.completion().map(completion) {
                if is_wanted(&completion) { taken(completion) } else { self.earlier.push_back(completion) }
            }
            if !self.ring.submission().cq_overflow() {
                return;
            }
            self.run();
        }
    }

    /// Has nothing signal the eventfd until [`Ring::signal`]; whether this is new. For a shard that is awake,
    /// and looks before it sleeps.
    pub(super) fn hush(&mut self) -> bool {
        if !self.is_hushed {
            self.ring.completion().disable_eventfd();
        }
        !std::mem::replace(&mut self.is_hushed, true)
    }

    /// Ends [`Ring::hush`]. What came meanwhile shows in [`Ring::has_work`].
    pub(super) fn signal(&mut self) {
        self.ring.completion().enable_eventfd();
        self.is_hushed = false;
        // The kernel shows first and then looks whether it is to signal; here it is the other way round.
        fence(Ordering::SeqCst);
    }

    /// Gives back what a mass of completions took.
    pub(super) fn give_back(&mut self) {
        shrink(&mut self.earlier);
    }

    /// Whether there is a completion, something that the kernel has deferred, or something to submit. What
    /// comes after this was asked signals the eventfd.
    pub(super) fn has_work(&mut self) -> bool {
        if self.is_mark_stale {
            // Something new would not show: it is looked for.
            self.run();
        }
        !self.earlier.is_empty() || self.wants_run() || !self.ring.completion().is_empty()
    }

    /// Whether [`Ring::run`] would do something.
    pub(super) fn wants_run(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() && !self.is_mark_stale || queue.cq_overflow() || !queue.is_empty()
    }

    /// A file descriptor of the socket at `index`, which stays in the table too.
    pub(super) fn install(&mut self, data: u64, index: u32) -> io::Result<OwnedFd> {
        self.push(data, Operation::Install { index });
        self.submit();
        let mut result = None;
        self.take_completions(
            |completion| completion.data == data,
            |completion| result = Some(completion.result),
        );
        // The operation has nothing to wait for, so it completes with its submission.
        match result.expect("the kernel answers an installation at once") {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("fd", &self.ring.as_raw_fd()).finish_non_exhaustive()
    }
}

fn completion(entry: cqueue::Entry) -> Completion {
    Completion { data: entry.user_data(), result: entry.result(), more: cqueue::more(entry.flags()) }
}

/// `IORING_OP_POLL_REMOVE` that changes the events of the poll, and leaves it armed.
fn poll_update(target: u64, events: u32) -> squeue::Entry {
    // The kernel reads the two halves of the mask in the order of a little-endian machine.
    let events = if cfg!(target_endian = "big") { events.rotate_left(16) } else { events };
    let entry = patched(opcode::PollRemove::new(target).build(), LEN_AT, POLL_UPDATE_EVENTS.to_ne_bytes());
    patched(entry, EVENTS_AT, events.to_ne_bytes())
}

/// Where the fields of a `struct io_uring_sqe` are that the crate cannot set.
const IOPRIO_AT: usize = 2;
const LEN_AT: usize = 24;
const EVENTS_AT: usize = 28;

/// `entry` with these bytes in the place of those that it has.
fn patched<const N: usize>(mut entry: squeue::Entry, at: usize, field: [u8; N]) -> squeue::Entry {
    const { assert!(size_of::<squeue::Entry>() == 64, "an entry is a `struct io_uring_sqe`") };
    // SAFETY: an entry is 64 bytes of plain data (asserted), all of them initialised, and any value is valid
    // for each.
    let bytes = unsafe { &mut *(&raw mut entry).cast::<[u8; 64]>() };
    bytes[at..at + N].copy_from_slice(&field);
    entry
}

/// Why there is no ring, in words for an operator: what is refused, with which error, and who may have done
/// it.
pub(super) fn why_not(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "io_uring is refused (ENOSYS): this kernel has none, or a seccomp profile says so".into()
        }
        Some(libc::EPERM) => {
            "io_uring is refused (EPERM): by a seccomp profile or the sysctl kernel.io_uring_disabled".into()
        }
        Some(libc::EACCES) => "io_uring is refused (EACCES): by a security module".into(),
        Some(libc::EINVAL) => {
            "io_uring is refused (EINVAL): this kernel's is too old, Linux 6.8 is needed".into()
        }
        Some(libc::ENOMEM) => {
            let allowed = match super::limits::locked_memory_limit() {
                Ok(bytes) if bytes < u64::MAX => format!("{} KiB", bytes >> 10),
                _ => "unlimited".into(),
            };
            format!(
                "io_uring is refused (ENOMEM): its rings do not fit in the memory that this user may lock \
                 (RLIMIT_MEMLOCK, {allowed})"
            )
        }
        _ => format!("io_uring is refused: {error}"),
    }
}

/// See [`super::probe`].
pub(super) fn probe() -> Result<(), String> {
    let eventfd = super::EventFd::new().map_err(|error| format!("eventfd: {error}"))?;
    let ring = super::limits::patiently(|| Ring::new(eventfd.as_fd(), 4));
    let mut ring = ring.map_err(|error| why_not(&error))?;
    let mut known = Probe::new();
    ring.ring.submitter().register_probe(&mut known).map_err(|error| format!("io_uring probe: {error}"))?;
    for (name, code) in [
        ("FIXED_FD_INSTALL", opcode::FixedFdInstall::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("POLL_REMOVE", opcode::PollRemove::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("SEND", opcode::Send::CODE),
        ("RECV", opcode::Recv::CODE),
        ("CLOSE", opcode::Close::CODE),
    ] {
        if !known.is_supported(code) {
            return Err(format!("this kernel's io_uring has no {name}; Linux 6.8 is needed"));
        }
    }
    let attempt = ring.register(0, eventfd.as_fd()).and_then(|()| ring.install(0, 0));
    attempt.map(drop).map_err(|error| format!("direct descriptors of io_uring do not work here: {error}"))
}
