//! One ring, and the connections in its table of direct descriptors.
//!
//! No completion carries a generation: a place in the table is given back only by a `Close` that is pushed
//! when the connection's poll has told its end; by then its receives and sends are over, because none of
//! them waits (`MSG_DONTWAIT`), and their completions were read first.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::floor::head::{self, Answer, UPGRADE_BYTES};
use crate::floor::unsent::Unsent;

/// Submissions that one system call takes. Fan-out is as fast with 256 as with 16,384.
const SUBMISSIONS: u32 = 256;

/// Completions that are not read yet; the kernel keeps more than that, at a cost.
const COMPLETIONS: u32 = 4096;

/// Largest table of direct descriptors; `RLIMIT_NOFILE` bounds it too.
const TABLE_MAX: u32 = 16_384;

/// Buffers that heads are read into, for all connections together.
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 1024;

/// Most bytes of a head that comes in pieces.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// `IORING_ENTER_GETEVENTS`: run what the kernel has deferred.
const ENTER_GETEVENTS: u32 = 1;

/// For how long the kernel may lack the memory for a submission.
const NO_MEMORY_TRIES: u32 = 1000;

/// A send takes what fits at once, and no part of it lives on after the submission.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

const ARMED: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const HUNG_UP: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

/// What an operation is for: the highest byte of its `user_data`. Below are a buffer (16 bits of a `Head`)
/// and the place in the table (32 bits).
mod operation {
    pub(super) const ACCEPT: u64 = 1;
    /// The poll that is armed as long as the connection lives.
    pub(super) const POLL: u64 = 2;
    /// A receive of the request's head, or of a part.
    pub(super) const HEAD: u64 = 3;
    /// The answer to it.
    pub(super) const ANSWER: u64 = 4;
    /// A send of `Space::last`.
    pub(super) const SEND: u64 = 5;
    /// A send of what was left.
    pub(super) const REST: u64 = 6;
    /// The wait for room to do so.
    pub(super) const ROOM: u64 = 7;
    /// A cancellation, or a close.
    pub(super) const END: u64 = 8;
}

fn data(operation: u64, slot: u32) -> u64 {
    operation << 56 | u64::from(slot)
}

/// What all rings use, one after the other.
pub(super) struct Space {
    is_websocket: bool,
    /// What was sent to everybody last: whoever took a part of it gets the rest.
    pub(super) last: Vec<u8>,
    buffers: Box<[[u8; BUFFER_BYTES]]>,
    free: Vec<u16>,
    completions: Vec<cqueue::Entry>,
}

impl Space {
    pub(super) fn new(is_websocket: bool) -> Self {
        Self {
            is_websocket,
            last: Vec::new(),
            buffers: vec![[0; BUFFER_BYTES]; usize::from(BUFFERS)].into_boxed_slice(),
            free: (0..BUFFERS).collect(),
            completions: Vec::new(),
        }
    }
}

/// A ring and its connections.
pub(super) struct Slots {
    ring: IoUring,
    /// Places in the table.
    table: u32,
    /// Those that are taken.
    taken: u32,
    /// Connections that accepting may bring before the next look: as many as completions have room.
    margin: u32,
    is_accepting: bool,
    /// Accepting was told to end, and has not yet.
    is_ending: bool,
    /// Who gets events.
    live: Bits,
    /// Whose poll was told to end.
    closing: Bits,
    /// Heads that came in part.
    heads: HashMap<u32, Vec<u8>>,
    /// Who could not take all; none of them is in `live`.
    unsent: HashMap<u32, Unsent>,
    /// Heads to be read when there is a buffer.
    waiting: Vec<u32>,
    /// Answers to upgrades that were queued: as many as a submission takes, so that none moves.
    answers: Vec<[u8; UPGRADE_BYTES]>,
}

impl Slots {
    pub(super) fn new(eventfd: RawFd) -> io::Result<Self> {
        let table = u32::try_from(crate::floor::limit().rlim_cur).unwrap_or(u32::MAX).min(TABLE_MAX);
        let completions = COMPLETIONS.min(table / 4).max(64);
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions)
            .dontfork()
            .build(SUBMISSIONS.min(completions))?;
        ring.submitter().register_files_sparse(table)?;
        ring.submitter().register_eventfd(eventfd)?;
        let mut slots = Self {
            table,
            taken: 0,
            margin: ring.params().cq_entries() + 8,
            ring,
            is_accepting: false,
            is_ending: false,
            live: Bits::new(table),
            closing: Bits::new(table),
            heads: HashMap::new(),
            unsent: HashMap::new(),
            waiting: Vec::new(),
            answers: Vec::new(),
        };
        slots.signal(false);
        Ok(slots)
    }

    /// Connections that it can still take.
    pub(super) fn room(&self) -> u32 {
        self.table.saturating_sub(self.taken + self.margin)
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.is_accepting
    }

    /// Accepts until there is no room.
    pub(super) fn accept(&mut self, listener: RawFd) -> io::Result<()> {
        self.is_accepting = true;
        let entry = opcode::AcceptMulti::new(types::Fd(listener)).allocate_file_index(true).build();
        // SAFETY: the operation names no memory.
        unsafe { self.push(&entry.user_data(data(operation::ACCEPT, 0))) }
    }

    /// Whether its eventfd is signalled.
    pub(super) fn signal(&mut self, is_on: bool) {
        let completions = self.ring.completion();
        if is_on { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        let kernel_has = queue.taskrun() || queue.cq_overflow() || !queue.is_empty();
        drop(queue);
        kernel_has || !self.waiting.is_empty() || !self.ring.completion().is_empty()
    }

    /// Submits what is queued, lets the kernel run what it has deferred, and does what that asks for.
    pub(super) fn work(&mut self, space: &mut Space) -> io::Result<()> {
        while let Some(&slot) = self.waiting.last() {
            if !self.receive(slot, space)? {
                break;
            }
            self.waiting.pop();
        }
        self.enter(ENTER_GETEVENTS)?;
        self.handle_completions(space)
    }

    /// Reads all completions that are there, however many.
    pub(super) fn settle(&mut self, space: &mut Space) -> io::Result<()> {
        loop {
            self.handle_completions(space)?;
            if self.ring.submission().cq_overflow() {
                self.enter(ENTER_GETEVENTS)?;
            } else if self.ring.completion().is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends `bytes` to everybody in one of so many slices. They are with the kernel when this returns, but
    /// who took only a part is seen in the completions.
    pub(super) fn send(&mut self, bytes: &[u8], slice: usize, slices: usize) -> io::Result<()> {
        for at in (slice..self.live.0.len()).step_by(slices) {
            let mut bits = self.live.0[at];
            while bits != 0 {
                let slot = at as u32 * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                // SAFETY: `bytes` lives until the submission below.
                unsafe { self.push_send(operation::SEND, slot, bytes)? };
            }
        }
        for unsent in self.unsent.values_mut() {
            unsent.extend(bytes);
        }
        self.enter(0)
    }

    fn handle_completions(&mut self, space: &mut Space) -> io::Result<()> {
        let mut completions = std::mem::take(&mut space.completions);
        completions.extend(self.ring.completion());
        let handled = completions.drain(..).try_for_each(|completion| self.handle(&completion, space));
        space.completions = completions;
        handled
    }

    fn handle(&mut self, completion: &cqueue::Entry, space: &mut Space) -> io::Result<()> {
        let (data, result, more) =
            (completion.user_data(), completion.result(), cqueue::more(completion.flags()));
        let slot = data as u32;
        match data >> 56 {
            operation::ACCEPT => self.handle_accepted(result, more),
            operation::POLL => self.handle_poll(slot, result, more, space),
            operation::HEAD => self.handle_head(slot, (data >> 32) as u16, result, space),
            operation::SEND => self.handle_short_send(slot, result, space),
            operation::REST => self.handle_rest(slot, result),
            operation::ROOM => self.send_rest(slot),
            _ => Ok(()),
        }
    }

    fn handle_accepted(&mut self, result: i32, more: bool) -> io::Result<()> {
        if result >= 0 {
            self.taken += 1;
            self.arm(operation::POLL, result as u32, ARMED)?;
        }
        if !more {
            self.is_accepting = false;
            self.is_ending = false;
        } else if self.room() == 0 && !self.is_ending {
            self.is_ending = true;
            self.cancel(operation::ACCEPT, 0)?;
        }
        Ok(())
    }

    fn handle_poll(&mut self, slot: u32, result: i32, more: bool, space: &mut Space) -> io::Result<()> {
        let is_closing = self.closing.has(slot);
        let is_over = result < 0 || result & HUNG_UP != 0;
        if more {
            if is_over && !is_closing {
                self.forget(slot)?;
                self.closing.set(slot, true);
                // An armed poll holds the connection open, whoever closes it.
                return self.cancel(operation::POLL, slot);
            }
            if is_over || is_closing || self.live.has(slot) || self.unsent.contains_key(&slot) {
                return Ok(());
            }
            if !self.receive(slot, space)? {
                self.waiting.push(slot);
            }
            return Ok(());
        }
        if !is_over && !is_closing {
            // The kernel had no room for a completion: it has ended the poll with this one.
            return self.arm(operation::POLL, slot, ARMED);
        }
        self.forget(slot)?;
        self.closing.set(slot, false);
        self.taken -= 1;
        let close = opcode::Close::new(types::Fixed(slot)).build().flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the operation names no memory.
        unsafe { self.push(&close.user_data(data(operation::END, slot))) }
    }

    fn forget(&mut self, slot: u32) -> io::Result<()> {
        self.live.set(slot, false);
        self.heads.remove(&slot);
        self.waiting.retain(|&waiting| waiting != slot);
        if self.unsent.remove(&slot).is_some() {
            self.cancel(operation::ROOM, slot)?;
        }
        Ok(())
    }

    /// Receives a part of a head; false if all buffers are in use.
    fn receive(&mut self, slot: u32, space: &mut Space) -> io::Result<bool> {
        let Some(buffer) = space.free.pop() else { return Ok(false) };
        let bytes = space.buffers[usize::from(buffer)].as_mut_ptr();
        let entry = opcode::Recv::new(types::Fixed(slot), bytes, BUFFER_BYTES as u32)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .user_data(data(operation::HEAD, slot) | u64::from(buffer) << 32);
        // SAFETY: the buffer is of that size, lives as long as the server, and is nobody else's until the
        // completion was read.
        unsafe { self.push(&entry)? };
        Ok(true)
    }

    fn handle_head(&mut self, slot: u32, buffer: u16, result: i32, space: &mut Space) -> io::Result<()> {
        space.free.push(buffer);
        // A poll may have told twice of the same bytes.
        if result <= 0 || self.live.has(slot) || self.closing.has(slot) || self.unsent.contains_key(&slot) {
            return Ok(());
        }
        let bytes = &space.buffers[usize::from(buffer)][..result as usize];
        let answer = match self.heads.get_mut(&slot) {
            None => head::answer(space.is_websocket, bytes),
            Some(head) => {
                head.extend_from_slice(bytes);
                head::answer(space.is_websocket, head)
            }
        };
        if let Some(answer) = answer {
            if !self.heads.is_empty() {
                self.heads.remove(&slot);
            }
            self.live.set(slot, true);
            return self.answer(slot, answer);
        }
        let head = self.heads.entry(slot).or_insert_with(|| bytes.to_vec());
        if head.len() > HEAD_BYTES_MAX {
            // It is not read any more, until it hangs up.
            return Ok(());
        }
        // More may have come before this was read, of which no poll tells again.
        if !self.receive(slot, space)? {
            self.waiting.push(slot);
        }
        Ok(())
    }

    fn answer(&mut self, slot: u32, answer: Answer) -> io::Result<()> {
        match answer {
            // SAFETY: the answer lives as long as the program.
            Answer::Fixed(bytes) => unsafe { self.push_send(operation::ANSWER, slot, bytes) },
            Answer::Upgrade(bytes) => {
                if self.ring.submission().is_full() {
                    self.enter(0)?;
                }
                self.answers.reserve_exact(SUBMISSIONS as usize - self.answers.len());
                self.answers.push(bytes);
                let bytes: *const [u8] = self.answers.last().expect("it was just pushed");
                // SAFETY: the vector has its full size from the first answer on, and the queue has room, so
                // that the answer stays where it is until the submission that clears the vector.
                unsafe { self.push_send(operation::ANSWER, slot, &*bytes) }
            }
        }
    }

    fn handle_short_send(&mut self, slot: u32, result: i32, space: &Space) -> io::Result<()> {
        // A send fails otherwise only if the connection is broken, of which its poll tells.
        if (result < 0 && result != -libc::EAGAIN) || self.closing.has(slot) || !self.live.has(slot) {
            return Ok(());
        }
        self.live.set(slot, false);
        self.unsent.insert(slot, Unsent::new(&space.last[result.max(0) as usize..]));
        self.arm_once(slot)
    }

    fn send_rest(&mut self, slot: u32) -> io::Result<()> {
        let Some(unsent) = self.unsent.get_mut(&slot).filter(|unsent| !unsent.is_sending) else {
            return Ok(());
        };
        unsent.is_sending = true;
        let rest = unsent.rest();
        let entry = opcode::Send::new(types::Fixed(slot), rest.as_ptr(), rest.len() as u32)
            .flags(SEND_FLAGS)
            .build()
            .user_data(data(operation::REST, slot));
        // SAFETY: nothing touches what is unsent before the submission, which is next.
        unsafe { self.push(&entry)? };
        self.enter(0)
    }

    fn handle_rest(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let Some(unsent) = self.unsent.get_mut(&slot) else { return Ok(()) };
        unsent.is_sending = false;
        if result < 0 && result != -libc::EAGAIN {
            return Ok(());
        }
        if unsent.advance(result.max(0) as usize) {
            self.unsent.remove(&slot);
            self.live.set(slot, true);
            return Ok(());
        }
        self.arm_once(slot)
    }

    /// Waits for room to send.
    fn arm_once(&mut self, slot: u32) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fixed(slot), libc::POLLOUT as u32).build();
        // SAFETY: the operation names no memory.
        unsafe { self.push(&entry.user_data(data(operation::ROOM, slot))) }
    }

    fn arm(&mut self, operation: u64, slot: u32, events: u32) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fixed(slot), events).multi(true).build();
        // SAFETY: the operation names no memory.
        unsafe { self.push(&entry.user_data(data(operation, slot))) }
    }

    fn cancel(&mut self, operation: u64, slot: u32) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(data(operation, slot)).build();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(data(operation::END, slot));
        // SAFETY: the operation names no memory.
        unsafe { self.push(&entry) }
    }

    /// # Safety
    /// `bytes` must live until the next [`Slots::enter`].
    unsafe fn push_send(&mut self, operation: u64, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let entry = opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(SEND_FLAGS)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(data(operation, slot));
        // SAFETY: with `MSG_DONTWAIT` the kernel is done with the memory when the submission is, and the
        // caller keeps it until then.
        unsafe { self.push(&entry) }
    }

    /// # Safety
    /// What memory `entry` names is valid for the operation until it is done with it.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: as this function's caller promises.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.enter(0)?;
        // SAFETY: the same.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Gives the kernel all that is queued.
    fn enter(&mut self, mut flags: u32) -> io::Result<()> {
        for _ in 0..NO_MEMORY_TRIES {
            let queued = self.ring.submission().len() as u32;
            if queued == 0 && flags == 0 {
                self.answers.clear();
                return Ok(());
            }
            // SAFETY: there is no argument that is a pointer; each queued entry names valid memory, as those
            // who queued it promised.
            let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
            match entered {
                Ok(_) => flags = 0,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::ENOMEM | libc::EBUSY) => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(io::Error::other("io_uring_enter has taken no submission for a second"))
    }
}

/// A bit for each place in the table.
struct Bits(Box<[u64]>);

impl Bits {
    fn new(count: u32) -> Self {
        Self(vec![0; count.div_ceil(64) as usize].into_boxed_slice())
    }

    fn has(&self, at: u32) -> bool {
        self.0[at as usize / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: u32, is_set: bool) {
        let (word, bit) = (&mut self.0[at as usize / 64], 1 << (at % 64));
        if is_set { *word |= bit } else { *word &= !bit }
    }
}
