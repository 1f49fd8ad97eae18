//! Decoders of what servers send, written apart from the project's own encoders. They read every byte; what
//! they carry over from one receive to the next is kept only for connections that are in the middle of
//! something.

mod http;
mod mqtt;
mod sse;
mod stream;
mod websocket;

pub use http::content_length;
pub use websocket::binary;
pub(crate) use websocket::pong;

use crate::target::Wire;

/// What a decoder finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An answer to the opening, good.
    Answer,
    /// An event's data.
    Event(&'a [u8]),
    /// A place in the log.
    Cursor(&'a [u8]),
    /// A whole answer to a poll: the next request is due.
    Again,
    /// A WebSocket ping, to be answered.
    Ping(&'a [u8]),
    /// A notice that events are missing.
    Gap,
    /// A refusal, or the end as the framing has it.
    End,
    /// Nothing that can be read.
    Malformed,
}

/// Where a decoder stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Before or in the head of an HTTP answer.
    #[default]
    Head,
    /// In a chunked body.
    Chunks,
    /// In a body that ends with the connection.
    Plain,
    /// In a body of as many bytes.
    Length(u32),
    /// In WebSocket frames.
    Frames,
    /// After the end, or after what could not be read.
    Over,
}

/// The decoder of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    phase: Phase,
    carry: Option<Box<Carry>>,
}

/// What is not whole yet.
#[derive(Debug, Default)]
struct Carry {
    /// Bytes of the connection.
    bytes: Vec<u8>,
    /// Bytes of the body, where the body's parts do not end where chunks or messages end.
    body: Vec<u8>,
}

impl Decoder {
    /// Takes what was received.
    pub fn feed(&mut self, wire: Wire, bytes: &[u8], found: &mut dyn FnMut(Found<'_>)) {
        let carried = self.carry.as_mut().map(|carry| std::mem::take(&mut carry.bytes)).unwrap_or_default();
        if carried.is_empty() {
            let used = self.decode(wire, bytes, found);
            self.keep(&bytes[used..]);
        } else {
            let mut whole = carried;
            whole.extend_from_slice(bytes);
            let used = self.decode(wire, &whole, found);
            self.keep(&whole[used..]);
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() && self.phase != Phase::Over {
            self.carry.get_or_insert_default().bytes.extend_from_slice(rest);
        } else if self.carry.as_ref().is_some_and(|carry| carry.body.is_empty()) {
            self.carry = None;
        }
    }

    /// Decodes all that is whole; answers how many bytes that was.
    fn decode(&mut self, wire: Wire, bytes: &[u8], found: &mut dyn FnMut(Found<'_>)) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let step = match self.phase {
                Phase::Over => return bytes.len(),
                _ if rest.is_empty() => return at,
                Phase::Head => self.head(wire, rest, found),
                Phase::Chunks => match http::chunk(rest) {
                    http::Chunk::Partial => None,
                    http::Chunk::Malformed => {
                        self.end(Found::Malformed, found);
                        None
                    }
                    http::Chunk::Whole { data: b"", .. } => {
                        self.end(Found::End, found);
                        None
                    }
                    http::Chunk::Whole { data, used } => {
                        self.body(wire, data, found);
                        Some(used)
                    }
                },
                Phase::Plain => {
                    self.body(wire, rest, found);
                    Some(rest.len())
                }
                Phase::Length(length) => rest.get(..length as usize).map(|body| {
                    stream::poll(body, found);
                    self.phase = Phase::Head;
                    found(Found::Again);
                    length as usize
                }),
                Phase::Frames => match websocket::frame(rest) {
                    websocket::Frame::Partial => None,
                    websocket::Frame::Malformed => {
                        self.end(Found::Malformed, found);
                        None
                    }
                    websocket::Frame::Ping { data, used } => {
                        found(Found::Ping(data));
                        Some(used)
                    }
                    websocket::Frame::Pong { used } => Some(used),
                    websocket::Frame::Close => {
                        self.end(Found::End, found);
                        None
                    }
                    websocket::Frame::Message { data, used } => {
                        if wire == Wire::MqttWebSocket {
                            self.body(wire, data, found);
                        } else {
                            stream::message(data, found);
                        }
                        Some(used)
                    }
                },
            };
            match step {
                Some(used) => at += used,
                None if self.phase == Phase::Over => return bytes.len(),
                None => return at,
            }
        }
    }

    fn head(&mut self, wire: Wire, rest: &[u8], found: &mut dyn FnMut(Found<'_>)) -> Option<usize> {
        let end = memchr::memmem::find(rest, b"\r\n\r\n")? + 4;
        let head = http::Head::read(&rest[..end]);
        match (head.status, wire) {
            (101, Wire::WebSocket | Wire::MqttWebSocket) => self.phase = Phase::Frames,
            (200, Wire::Sse | Wire::Stream) if head.is_chunked => self.phase = Phase::Chunks,
            (200, Wire::Sse | Wire::Stream) => self.phase = Phase::Plain,
            (200, Wire::LongPoll) if let Some(length) = head.length => {
                self.phase = Phase::Length(length as u32);
            }
            _ => {
                self.end(Found::End, found);
                return None;
            }
        }
        found(Found::Answer);
        Some(end)
    }

    /// Takes a piece of the body; keeps what is not whole.
    fn body(&mut self, wire: Wire, piece: &[u8], found: &mut dyn FnMut(Found<'_>)) {
        let decode = match wire {
            Wire::Sse => sse::decode,
            Wire::MqttWebSocket => mqtt::decode,
            _ => stream::decode,
        };
        let carried = self.carry.as_mut().map(|carry| std::mem::take(&mut carry.body)).unwrap_or_default();
        if carried.is_empty() {
            let used = decode(piece, found);
            if used < piece.len() {
                self.carry.get_or_insert_default().body.extend_from_slice(&piece[used..]);
            }
        } else {
            let mut whole = carried;
            whole.extend_from_slice(piece);
            let used = decode(&whole, found);
            whole.drain(..used);
            self.carry.get_or_insert_default().body = whole;
        }
    }

    fn end(&mut self, how: Found<'_>, found: &mut dyn FnMut(Found<'_>)) {
        self.phase = Phase::Over;
        self.carry = None;
        found(how);
    }
}

#[cfg(test)]
mod tests;
