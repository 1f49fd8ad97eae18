//! Parked sockets with epoll, for where io_uring is refused: the same face, but each socket keeps its
//! descriptor, and each operation is a system call of its own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use super::buffers::{Buffers, Received};
use super::sockopt;
use super::{
    Closing, EventFd, LINGER, LINGER_BYTES_MAX, ParkedEvent, ParkedEventKind, ParkedOptions, Readiness, Send,
    SendOutcome, Sleeper, SocketId,
};
use crate::spare::shrink;

/// What the eventfd is registered under; no socket has it, as a place is less than `u32::MAX`.
const WAKE: u64 = u64::MAX;

/// Reports that one system call takes.
const REPORTS: usize = 256;

/// What one read of a lingering socket drops at most, in bytes.
const DROP_BYTES: usize = 16 * 1024;

#[derive(Debug)]
struct Place {
    /// `None`: the place is free.
    fd: Option<OwnedFd>,
    token: u64,
    /// How often this place was given.
    generation: u32,
    is_lingering: bool,
    is_receiving: bool,
    dropped_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Epoll {
    epoll: OwnedFd,
    places: Vec<Place>,
    free: Vec<u32>,
    pub(super) buffers: Buffers,
    /// Receives that were asked for and not answered, oldest first.
    receives: VecDeque<(u32, u32)>,
    /// Sockets that linger or have lingered, with the time at which it must be over, soonest first.
    lingering: VecDeque<(Instant, u32, u32)>,
}

impl Epoll {
    /// A set that stands alone: whatever happens to its sockets, or to `eventfd`, wakes its sleeper.
    pub(super) fn new(eventfd: &EventFd, options: &ParkedOptions) -> io::Result<Self> {
        let epoll = Self::silent(Buffers::new(options.buffers, options.buffer_bytes))?;
        control(&epoll.epoll, libc::EPOLL_CTL_ADD, eventfd.as_fd(), libc::EPOLLIN, WAKE)?;
        Ok(epoll)
    }

    /// A set that wakes nobody; its descriptor is readable when a socket has something.
    pub(super) fn silent(buffers: Buffers) -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = sockopt::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call above made it for us.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            epoll,
            places: Vec::new(),
            free: Vec::new(),
            buffers,
            receives: VecDeque::new(),
            lingering: VecDeque::new(),
        })
    }

    /// The epoll instance is readable when a socket or the eventfd has something.
    pub(super) fn sleeper(&self) -> io::Result<Sleeper> {
        Sleeper::new(self.epoll.as_fd())
    }

    pub(super) fn add(&mut self, fd: OwnedFd, token: u64) -> io::Result<SocketId> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                fd: None,
                token: 0,
                generation: 0,
                is_lingering: false,
                is_receiving: false,
                dropped_bytes: 0,
            });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let data = data(index, place.generation);
        if let Err(error) = control(&self.epoll, libc::EPOLL_CTL_ADD, fd.as_fd(), events(false), data) {
            self.free.push(index);
            return Err(error);
        }
        place.token = token;
        place.fd = Some(fd);
        Ok(SocketId(index))
    }

    pub(super) fn send_batch(&mut self, sends: &[Send<'_>], failed: &mut Vec<(usize, SendOutcome)>) {
        for (at, send) in sends.iter().enumerate() {
            assert!(!send.bytes.is_empty(), "a send of no bytes");
            let outcome = match sockopt::send(self.fd(send.socket), send.bytes) {
                Ok(taken) if taken == send.bytes.len() => continue,
                Ok(taken) => SendOutcome::Short(taken),
                Err(libc::EAGAIN) => SendOutcome::Full,
                Err(error) => SendOutcome::Failed(error),
            };
            failed.push((at, outcome));
        }
    }

    pub(super) fn watch_writable(&mut self, socket: SocketId, on: bool) {
        let place = self.parked(socket);
        let data = data(socket.0, place.generation);
        let Some(fd) = &self.places[socket.0 as usize].fd else { return };
        // It is registered and open, so only memory could be lacking, and a change of events needs none.
        let changed = control(&self.epoll, libc::EPOLL_CTL_MOD, fd.as_fd(), events(on), data);
        debug_assert!(changed.is_ok(), "{changed:?}");
    }

    pub(super) fn receive(&mut self, socket: SocketId) {
        let place = self.parked(socket);
        assert!(!place.is_receiving, "a second receive of {socket:?}");
        place.is_receiving = true;
        let generation = place.generation;
        self.receives.push_back((socket.0, generation));
    }

    pub(super) fn release(&mut self, received: Received) {
        self.buffers.release(received);
    }

    pub(super) fn take_back(&mut self, socket: SocketId) -> io::Result<OwnedFd> {
        assert!(!self.parked(socket).is_receiving, "{socket:?} is taken back while it receives");
        self.free(socket.0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn hand_on(&mut self, socket: SocketId, token: u64) -> bool {
        let place = self.parked(socket);
        assert!(!place.is_receiving, "{socket:?} is handed on while it receives");
        place.token = token;
        true
    }

    /// What was reported and not read is not kept: a look costs one system call.
    pub(super) fn may_be_readable(&mut self, socket: SocketId) -> bool {
        self.parked(socket);
        true
    }

    pub(super) fn close(&mut self, socket: SocketId, how: Closing) {
        let generation = self.parked(socket).generation;
        match how {
            Closing::Plain => {}
            Closing::Abort => {
                // An error leaves a plain close.
                let _ = sockopt::reset_on_close(self.fd(socket));
            }
            Closing::Graceful => {
                if sockopt::shutdown_sending(self.fd(socket)).is_ok() {
                    let place = &mut self.places[socket.0 as usize];
                    (place.is_lingering, place.is_receiving, place.dropped_bytes) = (true, false, 0);
                    self.lingering.push_back((Instant::now() + LINGER, socket.0, generation));
                    self.read_and_drop(socket.0);
                    return;
                }
            }
        }
        drop(self.free(socket.0));
    }

    /// Stops to watch the socket, and answers its descriptor: dropped, it is closed.
    fn free(&mut self, index: u32) -> Option<OwnedFd> {
        let place = &mut self.places[index as usize];
        let fd = place.fd.take()?;
        let removed = control(&self.epoll, libc::EPOLL_CTL_DEL, fd.as_fd(), 0, 0);
        debug_assert!(removed.is_ok(), "{removed:?}");
        place.generation = place.generation.wrapping_add(1);
        place.is_lingering = false;
        place.is_receiving = false;
        self.free.push(index);
        Some(fd)
    }

    /// Reads what a lingering socket has, and ends it if that was all that can come.
    fn read_and_drop(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let Some(fd) = &place.fd else { return };
        let mut space = [0; DROP_BYTES];
        while place.dropped_bytes <= LINGER_BYTES_MAX {
            match sockopt::receive(fd.as_fd(), &mut space) {
                Ok(len @ 1..) => place.dropped_bytes += len as u64,
                Err(libc::EAGAIN) => return,
                _ => break,
            }
        }
        drop(self.free(index));
    }

    fn end_lingering(&mut self) {
        if self.lingering.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((until, index, generation)) = self.lingering.front().copied() {
            if until > now {
                return;
            }
            self.lingering.pop_front();
            let place = &self.places[index as usize];
            if place.generation == generation && place.is_lingering {
                drop(self.free(index));
            }
        }
    }

    pub(super) fn harvest(&mut self, max: usize, events: &mut Vec<ParkedEvent>) -> bool {
        self.end_lingering();
        let begin = events.len();
        self.serve_receives(max, events);
        let max = max.saturating_sub(events.len() - begin);
        let mut reports = [libc::epoll_event { events: 0, u64: 0 }; REPORTS];
        let reports = wait(&self.epoll, &mut reports[..max.min(REPORTS)]);
        for report in reports.iter().filter(|report| report.u64 != WAKE) {
            let (index, generation) = (report.u64 as u32, (report.u64 >> 32) as u32);
            let place = &self.places[index as usize];
            if place.generation != generation {
                continue;
            }
            if place.is_lingering {
                self.read_and_drop(index);
                continue;
            }
            let kind = ParkedEventKind::Ready(Readiness::of_poll(report.events as i16));
            events.push(ParkedEvent { token: place.token, kind });
        }
        reports.len() == max.min(REPORTS) || self.has_work()
    }

    pub(super) fn give_back(&mut self) {
        shrink(&mut self.receives);
        shrink(&mut self.lingering);
    }

    pub(super) fn has_work(&mut self) -> bool {
        !self.receives.is_empty() && self.buffers.free() > 0
    }

    fn serve_receives(&mut self, max: usize, events: &mut Vec<ParkedEvent>) {
        for _ in 0..max {
            let Some((index, generation)) = self.receives.front().copied() else { return };
            let place = &mut self.places[index as usize];
            if let (Some(fd), true, false) = (&place.fd, place.generation == generation, place.is_lingering) {
                let Some(buffer) = self.buffers.take() else { return };
                let result = match sockopt::receive(fd.as_fd(), self.buffers.space_mut(&buffer)) {
                    Ok(len) => len as i32,
                    Err(error) => -error,
                };
                place.is_receiving = false;
                let kind = self.buffers.answer(buffer, result);
                events.push(ParkedEvent { token: place.token, kind });
            }
            self.receives.pop_front();
        }
    }

    /// The place of a socket that the caller holds.
    fn parked(&mut self, socket: SocketId) -> &mut Place {
        let place = &mut self.places[socket.0 as usize];
        assert!(place.fd.is_some() && !place.is_lingering, "{socket:?} is parked");
        place
    }

    fn fd(&self, socket: SocketId) -> BorrowedFd<'_> {
        self.places[socket.0 as usize].fd.as_ref().expect("the socket is parked").as_fd()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn data(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

/// Edges and not levels, as the ring reports them; each change of the events reports what is there then.
fn events(writable: bool) -> i32 {
    libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET | if writable { libc::EPOLLOUT } else { 0 }
}

fn control(epoll: &OwnedFd, operation: i32, fd: BorrowedFd<'_>, events: i32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    // SAFETY: the kernel reads `event` during the call; both descriptors are open, as they are borrowed.
    let done = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) };
    sockopt::check(done).map(drop)
}

/// The reports that are there; never waits.
fn wait<'a>(epoll: &OwnedFd, reports: &'a mut [libc::epoll_event]) -> &'a [libc::epoll_event] {
    if reports.is_empty() {
        return &[];
    }
    let room = reports.len() as i32;
    // SAFETY: the kernel writes at most `room` reports, which is the length of the slice.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), reports.as_mut_ptr(), room, 0) };
    // An error can only be a signal that came: then there is no report now, and the loop comes again.
    &reports[..usize::try_from(count).unwrap_or(0)]
}
