//! What a slow reader has not taken yet.

/// Bytes that one socket would not take, oldest first. Nothing bounds them: who measures reads.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    /// A send of [`Unsent::rest`] was queued, and its end not seen.
    pub(super) is_sending: bool,
}

impl Unsent {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), sent: 0, is_sending: false }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is to be sent next.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes note of a send; true if nothing is left.
    pub(super) fn advance(&mut self, sent: usize) -> bool {
        self.sent += sent;
        self.sent == self.bytes.len()
    }
}
