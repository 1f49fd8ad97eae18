//! What a client of each transport reads: the bytes of a subscription, cut anywhere, to items. For checkers,
//! harnesses and clients written in Rust; the engine itself does not use it.

mod delivered;
mod notice;
mod payload;

use std::fmt;

use stentor_protocol::h1::body::{BodyDecoder, BodyFraming};
use stentor_protocol::h1::chunked::ChunkedDecoder;
use stentor_protocol::h1::head::HeadLimits;
use stentor_protocol::h1::response::{self, ResponseFraming};

use crate::cursor::Cursor;
use crate::transport::{Format, Framing, Transport};

pub use delivered::as_delivered;
use payload::Payload;

/// Longest item, in bytes.
const ITEM_BYTES_MAX: usize = 64 << 20;

/// Limits of a response head.
const HEAD_LIMITS: HeadLimits = HeadLimits { bytes: 64 << 10, fields: 128 };

/// One thing that a stream or an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// The head of an HTTP response, where the decoder reads it; header names in lower case.
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
        /// The place that the notice gives; none in the answer to a poll, which has one of its own.
        cursor: Option<Cursor>,
    },
    /// Proof of life: a comment, a ping or a pong. Whitespace between items is none.
    Heartbeat,
    /// The reconnection time of an event stream, in milliseconds.
    Retry(u64),
    /// A WebSocket message that is none of the above, such as the answer to a command; the body of a refusal.
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

/// Why bytes are no subscription that Stentor would serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub detail: String,
}

impl DecodeError {
    fn new(what: &str, error: impl fmt::Display) -> Self {
        Self { detail: format!("{what}: {error}") }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for DecodeError {}

/// Reads one subscription. Keeps what is incomplete until the rest comes.
///
/// # Examples
/// ```
/// use stentor::transport::decode::{Item, StreamDecoder};
/// use stentor::transport::{Format, Framing, Transport};
///
/// let mut decoder = StreamDecoder::new(Transport::Stream, Format::Json, Framing::UntilClose);
/// let mut items = Vec::new();
/// decoder.decode(b"{\"cursor\":\"k3-4", &mut items)?;
/// decoder.decode(b"2\"}\n", &mut items)?;
/// assert_eq!(items, [Item::Cursor("k3-42".parse().unwrap())]);
/// # Ok::<(), stentor::transport::decode::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct StreamDecoder {
    transport: Transport,
    stage: Stage,
    /// What comes in the body, or in the frames.
    payload: Payload,
}

#[derive(Debug)]
enum Stage {
    /// Reading a response head, of which this has come; without `then`, its body is an answer.
    Head { bytes: Vec<u8>, then: Option<Framing> },
    /// Reading a body that is one answer.
    Answer { status: u16, etag: Option<Cursor>, decoder: BodyDecoder, body: Vec<u8> },
    /// Reading chunks, each of which may be an item.
    Chunks { decoder: ChunkedDecoder, data: Vec<u8> },
    /// Reading what has no framing that this decoder must know.
    Plain,
    /// The stream has said that it is over.
    Over,
}

impl Stage {
    fn stream(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunks { decoder: ChunkedDecoder::new(u64::MAX), data: Vec::new() },
            _ => Self::Plain,
        }
    }
}

impl StreamDecoder {
    /// A decoder of what follows the response head of a stream. Polls are read with their heads, one answer
    /// after another.
    pub fn new(transport: Transport, format: Format, framing: Framing) -> Self {
        let stage = match transport.is_poll() {
            true => Stage::Head { bytes: Vec::new(), then: None },
            false => Stage::stream(framing),
        };
        Self { transport, stage, payload: Payload::new(transport, format, framing) }
    }

    /// A decoder that reads the response head of the stream too; the head then says whether there are chunks.
    /// The body of an answer that is no stream is given as [`Item::Message`].
    pub fn with_head(transport: Transport, format: Format, framing: Framing) -> Self {
        let then = (!transport.is_poll()).then_some(framing);
        let stage = Stage::Head { bytes: Vec::new(), then };
        Self { transport, stage, payload: Payload::new(transport, format, framing) }
    }

    /// Reads `bytes`, which go on where the last ones ended, and appends what is complete to `items`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none that Stentor would send; the decoder is of no use after that.
    pub fn decode(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.stage {
                Stage::Head { .. } => self.decode_head(&mut rest, items)?,
                Stage::Answer { .. } => self.decode_answer(&mut rest, items)?,
                Stage::Chunks { .. } => self.decode_chunks(&mut rest, items)?,
                Stage::Plain => {
                    if self.payload.decode(&mut rest, items)? {
                        self.stage = Stage::Over;
                    }
                }
                Stage::Over => {
                    return Err(DecodeError::new("after the end", format!("{} bytes", rest.len())));
                }
            }
        }
        Ok(())
    }

    /// The connection was closed by the server; appends an end where that is how the stream ends.
    ///
    /// # Errors
    /// [`DecodeError`] if that cuts off a body or an item, or a WebSocket without a close frame. So ends a
    /// raw stream that has lost events.
    pub fn finish(&mut self, items: &mut Vec<Item>) -> Result<(), DecodeError> {
        match &self.stage {
            Stage::Over => Ok(()),
            Stage::Head { bytes, then: None } if bytes.is_empty() => Ok(()),
            Stage::Plain if self.transport != Transport::WebSocket && self.payload.is_between_items() => {
                self.stage = Stage::Over;
                items.push(Item::End { code: None, reason: String::new() });
                Ok(())
            }
            _ => Err(DecodeError { detail: "the stream was cut".into() }),
        }
    }

    fn decode_head(&mut self, rest: &mut &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        let Stage::Head { bytes, then } = &mut self.stage else { return Ok(()) };
        let had = bytes.len();
        bytes.extend_from_slice(&rest[..rest.len().min(HEAD_LIMITS.bytes)]);
        let head = response::decode_head(bytes, &HEAD_LIMITS, "GET")
            .map_err(|error| DecodeError::new("response head", error))?;
        let Some((head, used)) = head else {
            *rest = &[];
            return Ok(());
        };
        *rest = &rest[used - had..];
        let stage = match (*then, head.framing) {
            (Some(_), ResponseFraming::Chunked) if head.status == 200 => Stage::stream(Framing::Chunked),
            (Some(_), ResponseFraming::UntilClose) if head.status == 200 => {
                self.payload.set_until_close();
                Stage::stream(Framing::UntilClose)
            }
            (Some(framing), _) if head.status == 101 => Stage::stream(framing),
            (_, framing) => {
                let framing = match framing {
                    ResponseFraming::None => BodyFraming::None,
                    ResponseFraming::Length(length) => BodyFraming::Length(length),
                    ResponseFraming::Chunked => BodyFraming::Chunked,
                    ResponseFraming::UntilClose => {
                        return Err(DecodeError::new("response head", "an answer without a length"));
                    }
                };
                let decoder = BodyDecoder::new(framing, ITEM_BYTES_MAX as u64)
                    .map_err(|error| DecodeError::new("body", error))?;
                let etag = head.field("etag").and_then(|tag| tag.trim_matches('"').parse().ok());
                Stage::Answer { status: head.status, etag, decoder, body: Vec::new() }
            }
        };
        let field = |field: &(&str, &str)| (field.0.to_ascii_lowercase(), field.1.to_owned());
        let headers = head.fields.iter().map(field).collect();
        items.push(Item::Head { status: head.status, headers });
        self.stage = stage;
        // An answer without a body is whole already.
        self.decode_answer(&mut &[][..], items)
    }

    fn decode_answer(&mut self, rest: &mut &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        let Stage::Answer { status, etag, decoder, body } = &mut self.stage else { return Ok(()) };
        let used = decoder.decode(rest, body).map_err(|error| DecodeError::new("body", error))?;
        *rest = &rest[used..];
        if !decoder.is_done() {
            return Ok(());
        }
        match (*status, *etag) {
            (200, _) if self.transport.is_poll() => notice::decode_answer(body, items)?,
            (304, Some(cursor)) => items.push(Item::Answer { cursor, has_more: false }),
            _ => items.push(Item::Message(String::from_utf8_lossy(body).into_owned())),
        }
        self.stage = Stage::Head { bytes: Vec::new(), then: None };
        Ok(())
    }

    fn decode_chunks(&mut self, rest: &mut &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        let Stage::Chunks { decoder, data } = &mut self.stage else { return Ok(()) };
        // Only where the chunk itself is the item does it matter where it ends, which is found a byte at a
        // time.
        let piece = match self.payload.is_chunk_an_item() {
            true => &rest[..1],
            false => rest,
        };
        let used = decoder.decode(piece, data).map_err(|error| DecodeError::new("chunks", error))?;
        *rest = &rest[used..];
        let is_done = decoder.is_done();
        if !data.is_empty() && (decoder.is_between_chunks() || !self.payload.is_chunk_an_item()) {
            let mut whole = &data[..];
            while !whole.is_empty() {
                self.payload.decode(&mut whole, items)?;
            }
            data.clear();
        }
        if is_done {
            self.stage = Stage::Over;
            if !self.payload.is_between_items() {
                return Err(DecodeError::new("chunks", "the last one came inside an item"));
            }
            items.push(Item::End { code: None, reason: String::new() });
        }
        Ok(())
    }
}
