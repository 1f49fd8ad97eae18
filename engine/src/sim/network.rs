//! Sockets that are made up: a buffer of few bytes each way, FIN and RST.

use std::collections::VecDeque;

/// One connection, both ends.
#[derive(Debug, Default)]
pub(super) struct Socket {
    /// Token of the slot that it is parked under.
    pub(super) token: u64,
    /// What the server sent and the client has not read.
    pub(super) to_client: VecDeque<u8>,
    /// Bytes that `to_client` has room for.
    pub(super) capacity: usize,
    /// What the client sent and the server has not read.
    pub(super) to_server: VecDeque<u8>,
    pub(super) is_watched: bool,
    pub(super) is_receiving: bool,
    /// Arrivals that were not reported yet.
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// The client has sent FIN.
    pub(super) client_ended: bool,
    /// The client is gone: sends fail.
    pub(super) client_reset: bool,
    /// The server has sent FIN; what is in `to_client` can still be read.
    pub(super) server_ended: bool,
    /// The server has sent RST.
    pub(super) server_reset: bool,
}

/// What a send came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    Short(usize),
    Full,
    Broken,
}

impl Socket {
    pub(super) fn new(token: u64, capacity: usize) -> Self {
        Self { token, capacity, ..Self::default() }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Sent {
        assert!(!self.server_ended && !self.server_reset, "the shard sent to a socket that it had closed");
        if self.client_reset {
            return Sent::Broken;
        }
        let room = self.capacity - self.to_client.len();
        let taken = room.min(bytes.len());
        self.to_client.extend(&bytes[..taken]);
        if taken == bytes.len() {
            Sent::Whole
        } else if taken == 0 {
            Sent::Full
        } else {
            Sent::Short(taken)
        }
    }

    /// The client reads up to `bytes_max`.
    pub(super) fn read(&mut self, bytes_max: usize) -> Vec<u8> {
        let was_full = self.to_client.len() == self.capacity;
        let count = bytes_max.min(self.to_client.len());
        let read = self.to_client.drain(..count).collect();
        // As TCP_NOTSENT_LOWAT does: writable again when there is some room, not at the first byte.
        if was_full || self.to_client.len() < self.capacity / 2 {
            self.is_writable = true;
        }
        read
    }

    /// The client writes.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.to_server.extend(bytes);
        self.is_readable = true;
    }
}
