//! Parked sockets in rings and, once no more rings can be had, with epoll beside them. An ordinary user may
//! lock so much memory and no more, and rings count as locked: whoever comes after that costs a descriptor,
//! and is not turned away.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::buffers::{Buffers, Received};
use super::epoll::Epoll;
use super::parked::{BUFFERS_MAX, INDEX_BITS, Rings};
use super::{Closing, EventFd, ParkedEvent, ParkedOptions, Send, SendOutcome, SocketId};

/// What marks the [`SocketId`] of a socket that epoll holds: the number of a ring that there never is.
const EPOLL: u32 = u32::MAX << INDEX_BITS;
/// Most sockets that epoll may hold here.
const SPILLED_MAX: usize = 1 << INDEX_BITS;
/// Buffers of the sockets that epoll holds: each lives for the length of one event.
const SPILLED_BUFFERS: u16 = 64;
/// How long no other ring is tried for after one was refused: a try costs some dozens of microseconds.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Mixed {
    rings: Rings,
    /// Made when it is needed.
    epoll: Option<Box<Epoll>>,
    buffer_bytes: u32,
    /// From when on another ring may be tried.
    retry_at: Option<Instant>,
}

/// Calls a method of whichever holds the socket, under the name that it has there.
macro_rules! holder {
    ($self:ident, $socket:ident, $inner:ident => $call:expr) => {
        if is_spilled($socket) {
            let $socket = SocketId($socket.0 & !EPOLL);
            let $inner = $self.epoll.as_mut().expect("epoll holds the socket");
            $call
        } else {
            let $inner = &mut $self.rings;
            $call
        }
    };
}

fn is_spilled(socket: SocketId) -> bool {
    socket.0 & EPOLL == EPOLL
}

impl Mixed {
    pub(super) fn new(eventfd: &EventFd, options: &ParkedOptions) -> io::Result<Self> {
        let rings = Rings::new(eventfd, options)?;
        Ok(Self { rings, epoll: None, buffer_bytes: options.buffer_bytes, retry_at: None })
    }

    pub(super) fn add(&mut self, fd: OwnedFd, token: u64) -> io::Result<SocketId> {
        if !self.rings.has_place() && self.retry_at.is_some_and(|at| Instant::now() < at) {
            return self.spill(fd, token);
        }
        match self.rings.add(fd, token) {
            Ok(socket) => Ok(socket),
            Err((error, fd)) => {
                if self.epoll.is_none() {
                    tracing::warn!(%error, "no more rings: connections are parked with epoll too");
                }
                self.retry_at = Some(Instant::now() + RETRY);
                self.spill(fd, token)
            }
        }
    }

    pub(super) fn accept(
        &mut self,
        listener: &TcpListener,
        max: usize,
        connections: &mut Vec<(SocketId, SocketAddr)>,
    ) -> io::Result<bool> {
        // Whoever comes while no ring is to be had is accepted with a descriptor, and added.
        if !self.rings.has_place() && self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        self.rings.accept(listener, max, connections)
    }

    fn spill(&mut self, fd: OwnedFd, token: u64) -> io::Result<SocketId> {
        if self.by_epoll() == SPILLED_MAX {
            return Err(io::Error::other("the shard has all the sockets beside its rings that it can have"));
        }
        let epoll = match self.epoll.take() {
            Some(epoll) => epoll,
            None => {
                let buffers = Buffers::numbered_from(BUFFERS_MAX, SPILLED_BUFFERS, self.buffer_bytes);
                Box::new(Epoll::silent(buffers)?)
            }
        };
        let epoll = self.epoll.insert(epoll);
        self.rings.watch(epoll.as_fd());
        let SocketId(index) = epoll.add(fd, token)?;
        Ok(SocketId(EPOLL | index))
    }

    pub(super) fn send_batch(&mut self, sends: &[Send<'_>], failed: &mut Vec<(usize, SendOutcome)>) {
        let Some(epoll) = self.epoll.as_mut().filter(|epoll| epoll.len() > 0) else {
            return self.rings.send_batch(sends, failed);
        };
        let begin = failed.len();
        let mut places = Vec::with_capacity(sends.len());
        let mut of_rings = Vec::with_capacity(sends.len());
        for (at, send) in sends.iter().enumerate().filter(|(_, send)| !is_spilled(send.socket)) {
            places.push(at);
            of_rings.push(*send);
        }
        self.rings.send_batch(&of_rings, failed);
        for (at, _) in failed.iter_mut().skip(begin) {
            *at = places[*at];
        }
        for (at, send) in sends.iter().enumerate().filter(|(_, send)| is_spilled(send.socket)) {
            let begin = failed.len();
            epoll.send_batch(&[Send { socket: SocketId(send.socket.0 & !EPOLL), ..*send }], failed);
            failed.iter_mut().skip(begin).for_each(|(place, _)| *place = at);
        }
    }

    pub(super) fn watch_writable(&mut self, socket: SocketId, on: bool) {
        holder!(self, socket, inner => inner.watch_writable(socket, on));
    }

    pub(super) fn receive(&mut self, socket: SocketId) {
        holder!(self, socket, inner => inner.receive(socket));
    }

    pub(super) fn take_back(&mut self, socket: SocketId) -> io::Result<OwnedFd> {
        holder!(self, socket, inner => inner.take_back(socket))
    }

    pub(super) fn hand_on(&mut self, socket: SocketId, token: u64) -> bool {
        holder!(self, socket, inner => inner.hand_on(socket, token))
    }

    pub(super) fn may_be_readable(&mut self, socket: SocketId) -> bool {
        holder!(self, socket, inner => inner.may_be_readable(socket))
    }

    pub(super) fn close(&mut self, socket: SocketId, how: Closing) {
        holder!(self, socket, inner => inner.close(socket, how));
    }

    pub(super) fn harvest(&mut self, max: usize, events: &mut Vec<ParkedEvent>) -> bool {
        let Some(epoll) = self.epoll.as_mut() else { return self.rings.harvest(max, events) };
        let begin = events.len();
        // Busy rings leave the others a share.
        let mut has_more = self.rings.harvest(max - max / 4, events);
        self.rings.watch(epoll.as_fd());
        has_more |= epoll.harvest(max.saturating_sub(events.len() - begin), events);
        has_more || self.rings.has_work()
    }

    pub(super) fn give_back(&mut self) {
        self.rings.give_back();
        if let Some(epoll) = &mut self.epoll {
            epoll.give_back();
        }
    }

    pub(super) fn has_work(&mut self) -> bool {
        self.rings.has_work() || self.epoll.as_mut().is_some_and(|epoll| epoll.has_work())
    }

    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        match &self.epoll {
            Some(epoll) if epoll.buffers.has(received) => epoll.buffers.bytes(received),
            _ => self.rings.buffers.bytes(received),
        }
    }

    pub(super) fn release(&mut self, received: Received) {
        match &mut self.epoll {
            Some(epoll) if epoll.buffers.has(&received) => epoll.release(received),
            _ => self.rings.release(received),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rings.len() + self.by_epoll()
    }

    pub(super) fn by_epoll(&self) -> usize {
        self.epoll.as_ref().map_or(0, |epoll| epoll.len())
    }

    pub(super) fn rings(&self) -> usize {
        self.rings.rings()
    }
}
