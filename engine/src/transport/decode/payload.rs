//! The items of one transport, without what the connection puts around them.

use stentor_protocol::ws::deflate::Params;
use stentor_protocol::ws::message::{Incoming, Limits, MessageDecoder};
use stentor_protocol::ws::{Side, close::CloseCode};
use stentor_protocol::{iframe, ndjson, sse};

use crate::cursor::Cursor;
use crate::transport::decode::{DecodeError, ITEM_BYTES_MAX, Item, notice};
use crate::transport::{Format, Framing, Transport, sse as names};

/// What is between two pieces of one subscription.
#[derive(Debug)]
pub(super) enum Payload {
    /// Answers are read whole.
    Poll,
    Iframe(iframe::Decoder),
    /// An envelope or a notice a line.
    Lines(ndjson::Decoder),
    /// Raw: an event a chunk, with a newline at its end.
    RawChunks,
    /// Raw, without chunks: every line an event, since nothing tells the lines of one event from those of the
    /// next.
    RawLines(ndjson::Decoder),
    Sse(sse::Decoder, Format),
    WebSocket(Box<MessageDecoder>, Format),
}

impl Payload {
    pub(super) fn new(transport: Transport, format: Format, framing: Framing) -> Self {
        match (transport, format) {
            (Transport::Poll | Transport::LongPoll, _) => Self::Poll,
            (Transport::Iframe, _) => Self::Iframe(iframe::Decoder::new(ITEM_BYTES_MAX)),
            (Transport::Stream, Format::Json) => Self::Lines(ndjson::Decoder::new(ITEM_BYTES_MAX)),
            (Transport::Stream, Format::Raw) if framing == Framing::Chunked => Self::RawChunks,
            (Transport::Stream, Format::Raw) => Self::RawLines(ndjson::Decoder::new(ITEM_BYTES_MAX)),
            (Transport::Sse, format) => Self::Sse(sse::Decoder::new(ITEM_BYTES_MAX), format),
            (Transport::WebSocket, format) => {
                let params = match framing {
                    Framing::Deflate(window_bits) => Some(Params {
                        server_no_context_takeover: true,
                        client_no_context_takeover: true,
                        server_max_window_bits: Some(window_bits),
                        client_max_window_bits: None,
                    }),
                    _ => None,
                };
                let limits = Limits { message_bytes_max: ITEM_BYTES_MAX };
                Self::WebSocket(Box::new(MessageDecoder::new(Side::Client, limits, params)), format)
            }
        }
    }

    /// The response head says that there are no chunks.
    pub(super) fn set_until_close(&mut self) {
        if matches!(self, Self::RawChunks) {
            *self = Self::RawLines(ndjson::Decoder::new(ITEM_BYTES_MAX));
        }
    }

    /// Whether [`Payload::decode`] wants whole chunks.
    pub(super) fn is_chunk_an_item(&self) -> bool {
        matches!(self, Self::RawChunks)
    }

    /// Whether a stream may end here. An event stream may end anywhere: what is not whole is dropped.
    pub(super) fn is_between_items(&self) -> bool {
        match self {
            Self::Lines(lines) | Self::RawLines(lines) => lines.unfinished().trim_ascii().is_empty(),
            Self::WebSocket(messages, _) => messages.is_idle(),
            Self::Poll | Self::Iframe(_) | Self::RawChunks | Self::Sse(..) => true,
        }
    }

    /// Reads from the front of `bytes` and appends what is whole to `items`; says whether that was the end.
    pub(super) fn decode(&mut self, bytes: &mut &[u8], items: &mut Vec<Item>) -> Result<bool, DecodeError> {
        match self {
            Self::Poll => unreachable!("an answer is read whole"),
            Self::Iframe(scripts) => {
                let script = scripts.decode(bytes).map_err(|error| DecodeError::new("iframe", error))?;
                if let Some(json) = script {
                    items.push(notice::decode(&json)?);
                }
            }
            Self::Lines(lines) => {
                let line = lines.decode(bytes).map_err(|error| DecodeError::new("stream", error))?;
                if let Some(line) = line {
                    items.push(notice::decode(notice::utf8(&line)?)?);
                }
            }
            Self::RawChunks => {
                let data = bytes
                    .strip_suffix(b"\n")
                    .ok_or_else(|| DecodeError::new("stream", "a chunk that does not end with a newline"))?;
                items.push(raw(data.to_vec(), false));
                *bytes = &[];
            }
            Self::RawLines(lines) => {
                let line = lines.decode(bytes).map_err(|error| DecodeError::new("stream", error))?;
                items.extend(line.map(|line| raw(line, false)));
            }
            Self::Sse(blocks, format) => {
                let block = blocks.decode(bytes).map_err(|error| DecodeError::new("event stream", error))?;
                if let Some(block) = block {
                    items.push(decode_block(block, *format)?);
                }
            }
            Self::WebSocket(messages, format) => {
                let (used, message) =
                    messages.decode(bytes).map_err(|error| DecodeError::new("websocket", error))?;
                *bytes = &bytes[used..];
                if let Some(message) = message {
                    items.push(decode_message(message, *format)?);
                }
                return Ok(matches!(items.last(), Some(Item::End { .. })));
            }
        }
        Ok(false)
    }
}

fn raw(data: Vec<u8>, is_binary: bool) -> Item {
    Item::Event { id: None, topic: None, name: None, data, is_binary }
}

fn decode_block(block: sse::Item, format: Format) -> Result<Item, DecodeError> {
    let (name, data, id) = match block {
        sse::Item::Comment(_) => return Ok(Item::Heartbeat),
        sse::Item::Retry(milliseconds) => return Ok(Item::Retry(milliseconds)),
        sse::Item::Event { name, data, id } => (name, data, id),
        _ => return Err(DecodeError::new("event stream", "an item of an unknown kind")),
    };
    let id = id.ok_or_else(|| DecodeError::new("event stream", "an event without an id"))?;
    let id: Cursor = id.parse().map_err(|error| DecodeError::new("event stream", error))?;
    match &*name {
        names::CURSOR => Ok(Item::Cursor(id)),
        names::GAP => {
            let (after, resumed) = notice::decode_gap(&data)?;
            Ok(Item::Gap { after, resumed, cursor: Some(id) })
        }
        _ if format == Format::Json => match notice::decode(&data)? {
            Item::Event { id: Some(inner), .. } if inner != id => {
                Err(DecodeError::new("event stream", "the id and that of the envelope differ"))
            }
            event @ Item::Event { .. } if name == "message" => Ok(event),
            _ => Err(DecodeError::new("event stream", format!("`{name}` is no envelope"))),
        },
        _ => {
            let name = (name != "message").then_some(name);
            Ok(Item::Event { id: Some(id), topic: None, name, data: data.into_bytes(), is_binary: false })
        }
    }
}

fn decode_message(message: Incoming, format: Format) -> Result<Item, DecodeError> {
    Ok(match message {
        Incoming::Text(text) if format == Format::Raw => raw(text.into_bytes(), false),
        Incoming::Text(text) => notice::decode(&text)?,
        Incoming::Binary(bytes) if format == Format::Raw => raw(bytes, true),
        Incoming::Binary(bytes) => Item::Message(String::from_utf8_lossy(&bytes).into_owned()),
        Incoming::Ping(_) | Incoming::Pong(_) => Item::Heartbeat,
        Incoming::Close(close) => {
            let code = (close.code != CloseCode::NO_STATUS).then_some(close.code.0);
            Item::End { code, reason: close.reason }
        }
    })
}
