//! The socket of a connection in its task phase: what was read and not yet used, reads and writes with
//! deadlines, and the end that loses nothing.
//!
//! As long as nothing is waited for it stays parked, and answers are sent from there: a request that has come
//! whole needs no descriptor.

use std::io;
use std::time::{Duration, Instant};

use super::Handle;
use super::deadlines::Deadlines;
use crate::sys::{SendOutcome, Stream};

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
    line: Line,
    deadlines: Deadlines,
    /// What was received and not yet used.
    pub(super) buffer: Vec<u8>,
    /// Longest wait for room to send.
    stalled: Duration,
    operations: u32,
    /// Whether something could not be sent: nothing more will be.
    is_broken: bool,
}

enum Line {
    Open(Stream),
    Handle(Handle),
    /// The socket could not be taken back.
    Lost,
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
    pub(super) fn new(socket: Handle, buffer: Vec<u8>, deadlines: Deadlines, stalled: Duration) -> Self {
        let line = Line::Handle(socket);
        Self { line, deadlines, buffer, stalled, operations: 0, is_broken: false }
    }

    /// Appends to the buffer what is there now; none where nothing is.
    pub(super) fn receive_now(&mut self) -> Option<Read> {
        match &self.line {
            Line::Handle(Handle::Parked(lent)) if !lent.may_be_readable() => None,
            _ => self.receive(HEAD_READ_BYTES),
        }
    }

    /// The descriptor; a parked socket is taken back for it.
    fn stream(&mut self) -> io::Result<&mut Stream> {
        if let Line::Handle(_) = self.line {
            self.line = match std::mem::replace(&mut self.line, Line::Lost) {
                Line::Handle(Handle::Open(socket)) => Line::Open(Stream::new(socket)),
                Line::Handle(Handle::Parked(lent)) => Line::Open(Stream::new(lent.open()?)),
                line => line,
            };
        }
        match &mut self.line {
            Line::Open(stream) => Ok(stream),
            Line::Handle(_) | Line::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Appends to the buffer what comes until `deadline`.
    pub(super) async fn receive_until(&mut self, deadline: Instant, bytes_max: usize) -> Read {
        self.take_turn().await;
        loop {
            if let Some(read) = self.receive(bytes_max) {
                return read;
            }
            self.operations = 0;
            let deadlines = self.deadlines.clone();
            let Ok(stream) = self.stream() else { return Read::Broken };
            match deadlines.within(deadline, stream.readable()).await {
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
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self.stream().map(|stream| Self::receive_into(stream, &mut buffer, bytes_max));
        self.buffer = buffer;
        received.unwrap_or(Some(Read::Broken))
    }

    fn receive_into(stream: &Stream, buffer: &mut Vec<u8>, bytes_max: usize) -> Option<Read> {
        loop {
            return match stream.receive(buffer, bytes_max) {
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
        if let Line::Handle(Handle::Parked(lent)) = &self.line
            && !bytes.is_empty()
        {
            self.operations += 1;
            bytes = match lent.send(bytes) {
                None => &[],
                Some(SendOutcome::Short(sent)) => bytes.get(sent..).unwrap_or_default(),
                // Who asks by a system call is told what is wrong.
                Some(SendOutcome::Full | SendOutcome::Failed(_)) => bytes,
            };
        }
        while !bytes.is_empty() && !self.is_broken {
            self.operations += 1;
            let sent = self.stream().and_then(|stream| stream.send(bytes));
            match sent {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.operations = 0;
                    self.is_broken = !self.wait_for_room(deadline).await;
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
            self.wait_for_room(Instant::now() + self.stalled).await;
        }
    }

    async fn wait_for_room(&mut self, deadline: Instant) -> bool {
        let deadlines = self.deadlines.clone();
        let Ok(stream) = self.stream() else { return false };
        matches!(deadlines.within(deadline, stream.writable()).await, Ok(Ok(())))
    }

    /// Ends the connection: says FIN, then reads and drops what still comes, for a moment, so that the peer
    /// can read what it was sent last.
    pub(super) async fn close(mut self) {
        if self.is_broken || self.stream().and_then(|stream| stream.shutdown_sending()).is_err() {
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
    pub(super) fn into_parts(self) -> Option<(Handle, Vec<u8>)> {
        let socket = match self.line {
            Line::Open(stream) => Handle::Open(stream.into_fd().ok()?),
            Line::Handle(handle) => handle,
            Line::Lost => return None,
        };
        Some((socket, self.buffer))
    }
}
