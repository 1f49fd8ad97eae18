//! One ring of subscribers: the operations that they need, on direct descriptors.

use std::io;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};

/// Subscribers of a ring: its table of direct descriptors is limited by `RLIMIT_NOFILE`.
pub(super) const SUBSCRIBERS: usize = 16_000;
/// Entries of the submission queue: the four of a connection must fit beside each other.
const ENTRIES: u32 = 1_024;
/// Every subscriber may have a poll's completion waiting.
const COMPLETIONS: u32 = 32_768;
/// Receives that are submitted together.
const RECEIVES: usize = 128;
/// Bytes of one receive. No power of two, so that the buffers' first lines do not share a cache set.
const BUFFER: usize = 32 * 1024 + 192;

/// What a completion is of; kept in the top byte of `user_data`, above 24 bits of the connection's life and
/// 32 of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Making the socket.
    Socket,
    /// Connecting it.
    Connect,
    /// Sending.
    Send,
    /// The armed poll.
    Poll,
    /// Ending the poll, setting the linger time, closing.
    Leave,
    /// The close of one that left: its place is free again.
    Left,
}

impl Of {
    const ALL: [Self; 6] = [Self::Socket, Self::Connect, Self::Send, Self::Poll, Self::Leave, Self::Left];
    const RECEIVE: u64 = 0xff;

    fn data(self, slot: u32, life: u32) -> u64 {
        (self as u64) << 56 | u64::from(life & 0xff_ffff) << 32 | u64::from(slot)
    }
}

/// A completion, other than of a receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) of: Of,
    pub(super) slot: u32,
    pub(super) life: u32,
    pub(super) result: i32,
    /// Whether the poll stays armed.
    pub(super) has_more: bool,
}

/// Arena of receive buffers, shared by all rings of a thread: only one ring receives at a time.
pub(super) struct Buffers(Vec<u8>);

impl Buffers {
    pub(super) fn new() -> Self {
        Self(vec![0; RECEIVES * BUFFER])
    }
}

/// What is done with a receive: the slot, and what came, or the error's number.
pub(super) type Take<'a> = &'a mut dyn FnMut(u32, Result<&[u8], i32>);

/// A ring and its table.
pub(super) struct Ring {
    ring: IoUring,
}

/// `SO_LINGER` on, for no time: a close resets the connection.
static RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(ENTRIES)?;
        ring.submitter().register_files_sparse(SUBSCRIBERS as u32)?;
        Ok(Self { ring })
    }

    fn push(&mut self, entries: &[Entry]) -> io::Result<()> {
        // SAFETY: what the entries point to outlives them: receive buffers are waited for before they are
        // read, addresses and sent bytes are kept by the caller until their completion, and the rest is
        // static.
        while unsafe { self.ring.submission().push_multiple(entries) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }

    /// Makes a socket at `slot`, connects it to `address`, sends `opening` and arms the poll. Both must live
    /// until the poll's or a failure's completion.
    pub(super) fn connect(
        &mut self,
        slot: u32,
        life: u32,
        address: &libc::sockaddr_in,
        opening: &[u8],
    ) -> io::Result<()> {
        let target = types::DestinationSlot::try_from_slot_target(slot).expect("below the table's size");
        let quiet = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        let length = size_of_val(address) as u32;
        self.push(&[
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
                .file_index(Some(target))
                .build()
                .flags(quiet)
                .user_data(Of::Socket.data(slot, life)),
            opcode::Connect::new(types::Fixed(slot), std::ptr::from_ref(address).cast(), length)
                .build()
                .flags(quiet)
                .user_data(Of::Connect.data(slot, life)),
            // Not skipped: the bytes may go when it is done.
            send(slot, life, opening).flags(Flags::IO_LINK),
            poll(slot, life),
        ])
    }

    /// Sends `bytes`, which must live until the completion.
    pub(super) fn send(&mut self, slot: u32, life: u32, bytes: &[u8]) -> io::Result<()> {
        self.push(&[send(slot, life, bytes)])
    }

    /// Arms the poll again.
    pub(super) fn poll(&mut self, slot: u32, life: u32) -> io::Result<()> {
        self.push(&[poll(slot, life)])
    }

    /// Ends the connection with a reset, as a network that vanishes does, and frees its place.
    pub(super) fn leave(&mut self, slot: u32, life: u32) -> io::Result<()> {
        let cancel = types::CancelBuilder::user_data(Of::Poll.data(slot, life));
        let linger = opcode::SetSockOpt::new(
            types::Fixed(slot),
            libc::SOL_SOCKET as u32,
            libc::SO_LINGER as u32,
            std::ptr::from_ref(&RESET).cast(),
            size_of_val(&RESET) as u32,
        );
        let data = Of::Leave.data(slot, life);
        self.push(&[
            // Hard links: a poll that has just ended is no reason to keep the socket.
            opcode::AsyncCancel2::new(cancel).build().flags(Flags::IO_HARDLINK).user_data(data),
            linger.build().flags(Flags::IO_HARDLINK).user_data(data),
            opcode::Close::new(types::Fixed(slot)).build().user_data(Of::Left.data(slot, life)),
        ])
    }

    /// Submits what is queued, lets the kernel post what is ready, and hands it over. Does not wait.
    pub(super) fn turn(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        let submission = self.ring.submission();
        let has_work = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if has_work {
            self.ring.submit_and_wait(0)?;
        }
        done.extend(self.ring.completion().filter_map(|entry| read(&entry)));
        Ok(())
    }

    /// Receives from each of `readable` until it is empty. `take` gets the slot and what came, or an error;
    /// no bytes mean the peer's end.
    pub(super) fn receive(
        &mut self,
        buffers: &mut Buffers,
        readable: &mut Vec<u32>,
        done: &mut Vec<Done>,
        take: Take<'_>,
    ) -> io::Result<()> {
        while !readable.is_empty() {
            let batch = readable.len().min(RECEIVES);
            let slots: Vec<u32> = readable.drain(readable.len() - batch..).collect();
            for (index, &slot) in slots.iter().enumerate() {
                let buffer = &mut buffers.0[index * BUFFER..][..BUFFER];
                let receive = opcode::Recv::new(types::Fixed(slot), buffer.as_mut_ptr(), BUFFER as u32)
                    .flags(libc::MSG_DONTWAIT)
                    .build()
                    .user_data(Of::RECEIVE << 56 | index as u64);
                self.push(&[receive])?;
            }
            let mut left = batch;
            while left > 0 {
                self.ring.submit_and_wait(1)?;
                let entries: Vec<_> = self.ring.completion().collect();
                for entry in entries {
                    if entry.user_data() >> 56 != Of::RECEIVE {
                        done.extend(read(&entry));
                        continue;
                    }
                    left -= 1;
                    let index = (entry.user_data() & 0xffff_ffff) as usize;
                    let slot = slots[index];
                    match entry.result() {
                        result if result == -libc::EAGAIN => {}
                        result if result < 0 => take(slot, Err(-result)),
                        result => {
                            take(slot, Ok(&buffers.0[index * BUFFER..][..result as usize]));
                            if result as usize == BUFFER {
                                readable.push(slot);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn send(slot: u32, life: u32, bytes: &[u8]) -> Entry {
    opcode::Send::new(types::Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .user_data(Of::Send.data(slot, life))
}

fn poll(slot: u32, life: u32) -> Entry {
    opcode::PollAdd::new(types::Fixed(slot), (libc::POLLIN | libc::POLLRDHUP) as u32)
        .multi(true)
        .build()
        .user_data(Of::Poll.data(slot, life))
}

fn read(entry: &io_uring::cqueue::Entry) -> Option<Done> {
    let data = entry.user_data();
    Some(Done {
        of: *Of::ALL.get((data >> 56) as usize)?,
        slot: data as u32,
        life: (data >> 32) as u32 & 0xff_ffff,
        result: entry.result(),
        has_more: io_uring::cqueue::more(entry.flags()),
    })
}
