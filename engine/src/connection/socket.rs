//! The socket of a connection in its task phase: what was read and not yet used, reads and writes with
//! deadlines, and the end that loses nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::deadlines::Deadlines;
use crate::sys::Stream;

/// Bytes that one receive asks for: a request head fits as a rule.
const HEAD_READ_BYTES: usize = 4 << 10;
/// The same for bodies.
pub(super) const BODY_READ_BYTES: usize = 64 << 10;

/// Operations that succeeded at once, one after the other, before the other tasks of the shard get a turn.
const TURN_OPERATIONS: u32 = 64;

/// What is read and dropped at the end of a connection, so that no RST overtakes the answer (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Socket {
    stream: Stream,
    deadlines: Deadlines,
    /// What was received and not yet used.
    pub(super) buffer: Vec<u8>,
    /// Longest wait for room to send.
    stalled: Duration,
    operations: u32,
    /// Whether something could not be sent: nothing more will be.
    is_broken: bool,
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes were appended to the buffer.
    Data,
    /// The peer has sent FIN.
    End,
    /// Nothing came in time.
    Elapsed,
    /// The connection is broken.
    Broken,
}

impl Socket {
    pub(super) fn new(socket: OwnedFd, buffer: Vec<u8>, deadlines: Deadlines, stalled: Duration) -> Self {
        Self { stream: Stream::new(socket), deadlines, buffer, stalled, operations: 0, is_broken: false }
    }

    /// Appends to the buffer what is there now; none where nothing is.
    pub(super) fn receive_now(&mut self) -> Option<Read> {
        self.receive(HEAD_READ_BYTES)
    }

    /// Appends to the buffer what comes until `deadline`.
    pub(super) async fn receive_until(&mut self, deadline: Instant, bytes_max: usize) -> Read {
        self.take_turn().await;
        loop {
            if let Some(read) = self.receive(bytes_max) {
                return read;
            }
            self.operations = 0;
            match self.deadlines.within(deadline, self.stream.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Read::Broken,
                Err(_) => return Read::Elapsed,
            }
        }
    }

    /// As [`Self::receive_until`], for heads.
    pub(super) async fn receive_head_until(&mut self, deadline: Instant) -> Read {
        self.receive_until(deadline, HEAD_READ_BYTES).await
    }

    fn receive(&mut self, bytes_max: usize) -> Option<Read> {
        self.operations += 1;
        loop {
            return match self.stream.receive(&mut self.buffer, bytes_max) {
                Ok(0) => Some(Read::End),
                Ok(_) => Some(Read::Data),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => None,
                    io::ErrorKind::Interrupted => continue,
                    _ => Some(Read::Broken),
                },
            };
        }
    }

    /// Sends all of `bytes`; false if the connection is broken, or the peer takes nothing for too long.
    pub(super) async fn send_all(&mut self, mut bytes: &[u8]) -> bool {
        // For all of it: who takes a byte now and then does not hold it for ever.
        let deadline = Instant::now() + self.stalled;
        while !bytes.is_empty() && !self.is_broken {
            self.operations += 1;
            match self.stream.send(bytes) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.operations = 0;
                    let is_ready = self.deadlines.within(deadline, self.stream.writable()).await;
                    self.is_broken = !matches!(is_ready, Ok(Ok(())));
                }
                Err(_) => self.is_broken = true,
            }
        }
        !self.is_broken
    }

    /// A peer that always has more for us does not keep the shard's other tasks waiting: now and then there
    /// is a real operation of the runtime in between, which is over as soon as the others had their turn.
    pub(super) async fn take_turn(&mut self) {
        if self.operations >= TURN_OPERATIONS {
            self.operations = 0;
            let deadline = Instant::now() + self.stalled;
            let _ = self.deadlines.within(deadline, self.stream.writable()).await;
        }
    }

    /// Ends the connection: says FIN, then reads and drops what still comes, for a moment, so that the peer
    /// can read what it was sent last.
    pub(super) async fn close(mut self) {
        if self.is_broken || self.stream.shutdown_sending().is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER;
        let mut dropped = 0;
        while dropped < LINGER_BYTES_MAX {
            self.buffer.clear();
            match self.receive_until(deadline, HEAD_READ_BYTES).await {
                Read::Data => dropped += self.buffer.len(),
                Read::End | Read::Elapsed | Read::Broken => return,
            }
        }
    }

    /// The socket, and what was received and not used; none if the connection was lost.
    pub(super) fn into_parts(self) -> Option<(OwnedFd, Vec<u8>)> {
        let socket = self.stream.into_fd().ok()?;
        Some((socket, self.buffer))
    }
}
