//! What each transport sends: events, notices and whole answers to bytes. Decides nothing of when or to whom.
//!
//! The functions here are all that the shard and the connection call; each goes to the file of its transport.
//! What they append is framed: a whole chunk, a whole WebSocket frame, a whole answer. Several may follow one
//! another in one send.

use std::sync::Arc;

use crate::cursor::{Cursor, Epoch};
use crate::event::Event;

pub(crate) mod batch;
mod command;
pub mod decode;
mod envelope;
mod fields;
mod framing;
mod head;
mod iframe;
mod poll;
mod sse;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod websocket;

/// How a subscriber hears events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// One answer at once.
    Poll,
    /// One answer, held until there is an event or the deadline comes.
    LongPoll,
    /// An HTML document that never ends, one script element an event.
    Iframe,
    /// Newline-delimited JSON (or raw data) that never ends.
    Stream,
    /// Server-Sent Events (WHATWG HTML).
    Sse,
    /// RFC 6455.
    WebSocket,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Poll, Self::LongPoll, Self::Iframe, Self::Stream, Self::Sse, Self::WebSocket];

    /// The word that `?transport=` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::LongPoll => "long-poll",
            Self::Iframe => "iframe",
            Self::Stream => "stream",
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }

    /// Whether one answer ends the subscription.
    pub fn is_poll(self) -> bool {
        matches!(self, Self::Poll | Self::LongPoll)
    }
}

/// How an event is written: an envelope with its cursor, topic and name, or its data alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `{"id":…,"topic":…,"name":…,"data":…}`.
    Json,
    /// The data; what the transport has for cursor and name carries those.
    Raw,
}

/// What stands around each item on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// One chunk an item (RFC 9112 §7.1).
    Chunked,
    /// Nothing: the body ends with the connection (HTTP/1.0).
    UntilClose,
    /// A whole answer with `Content-Length`.
    Length,
    /// WebSocket frames.
    Frames,
    /// WebSocket frames, compressed without context takeover (RFC 7692) for a window of this many bits, 8 to
    /// 15.
    Deflate(u8),
}

/// What a prepared event is keyed by: everything that makes its bytes differ from one subscriber to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// How the subscriber hears.
    pub transport: Transport,
    /// Envelope or data alone.
    pub format: Format,
    /// What stands around each item.
    pub framing: Framing,
    /// Which header lines, of those that differ between requests, an answer carries: a number of the shard's
    /// table (polls only; 0 is the empty text).
    pub head: u32,
    /// Most events of one answer (polls only).
    pub limit: u16,
}

/// Events that were asked for and are gone: some of those after `after`, up to `resumed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The place that the subscriber had; of another epoch if the log began anew.
    pub after: Cursor,
    /// The highest offset that was dropped of its topics: all its events after that will follow.
    pub resumed: Cursor,
    /// The place that the notice carries: who is cut off right after it and comes back with this loses
    /// nothing more.
    pub cursor: Cursor,
}

/// What follows a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Ending {
    /// The stream goes on.
    None,
    /// The transport has no notice of a gap: what was written is the last, [`encode_end`] is not called, and
    /// the socket is closed (a WebSocket got its close frame; a chunked body stays without its last chunk; a
    /// body that ends with the connection can only be told apart by a reset).
    Close,
}

/// Why a stream ends cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End<'a> {
    /// The server goes away.
    Drain,
    /// The stream has reached its greatest age.
    MaxAge,
    /// The subscriber fell off the log, and its policy is to be closed.
    Slow,
    /// As the embedder, or a rule of the protocol, says; `code` and `reason` reach a WebSocket only.
    Close {
        /// A close code that may be sent (RFC 6455 §7.4).
        code: u16,
        /// At most 123 bytes are sent.
        reason: &'a str,
    },
}

/// A whole answer of a poll or long poll.
#[derive(Debug, Clone)]
pub(crate) struct Answer<'a> {
    /// Told before the events.
    pub gap: Option<Gap>,
    /// In the order of their offsets.
    pub events: &'a [Arc<Event>],
    /// The life of the log that the events' offsets belong to.
    pub epoch: Epoch,
    /// The place of the subscriber after this answer.
    pub cursor: Cursor,
    /// Whether the log holds more that the answer had no room for.
    pub has_more: bool,
    /// Whether the connection is kept for a next request.
    pub is_keep_alive: bool,
    /// Whether the request was HTTP/1.0, which must be told that its connection is kept.
    pub is_http10: bool,
    /// Whether the request was HEAD: the answer has no body then, but says how long it would be.
    pub is_head: bool,
    /// More header lines (`Date`, CORS), each with its CRLF.
    pub extra_head: &'a str,
}

/// The response head of a stream, and what depends on the request alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamHead<'a> {
    /// The place where the stream starts, for `Stentor-Cursor`; none if a gap must be told first, after an
    /// epoch change.
    pub cursor: Option<Cursor>,
    /// To whom an iframe's page hands its events; other transports ignore it.
    pub target: stentor_protocol::iframe::Target<'a>,
    /// Whether the request was HEAD: nothing follows the head then.
    pub is_head: bool,
    /// More header lines (`Date`, CORS, `Content-Security-Policy`), each with its CRLF.
    pub extra_head: &'a str,
}

/// Appends the response head of an iframe, stream or sse, and for an iframe the head of its document, which
/// depends on the request as the response head does. Nothing for polls and WebSockets.
pub(crate) fn stream_head(encoding: &Encoding, head: &StreamHead<'_>, out: &mut Vec<u8>) {
    head::encode(encoding, head, out);
    if encoding.transport == Transport::Iframe && !head.is_head {
        iframe::encode_head(encoding.framing, head.target, out);
    }
}

/// Appends the first items of a stream, after its head: [`encode_preamble`] and the cursor.
pub(crate) fn encode_start(encoding: &Encoding, cursor: Cursor, retry_ms: u32, out: &mut Vec<u8>) {
    if encoding.transport == Transport::Stream {
        stream::encode_start(encoding, cursor, out);
    } else {
        encode_preamble(encoding, retry_ms, out);
        encode_cursor(encoding, cursor, out);
    }
}

/// Appends the part of the start that names no cursor (reconnection time, padding); after an epoch change a
/// gap follows it in the cursor's stead.
pub(crate) fn encode_preamble(encoding: &Encoding, retry_ms: u32, out: &mut Vec<u8>) {
    match encoding.transport {
        Transport::Stream => stream::encode_preamble(encoding, out),
        Transport::Sse => sse::encode_preamble(encoding, retry_ms, out),
        // An iframe got its padding with the head of its document.
        Transport::Iframe | Transport::WebSocket | Transport::Poll | Transport::LongPoll => {}
    }
}

/// Appends the place of a subscriber and nothing else; nothing where the transport cannot carry one.
pub(crate) fn encode_cursor(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    match encoding.transport {
        Transport::Iframe => iframe::encode_cursor(encoding, cursor, out),
        Transport::Stream => stream::encode_cursor(encoding, cursor, out),
        Transport::Sse => sse::encode_cursor(encoding, cursor, out),
        Transport::WebSocket => websocket::encode_cursor(encoding, cursor, out),
        Transport::Poll | Transport::LongPoll => {}
    }
}

/// Appends one event.
///
/// # Panics
/// If the transport is a poll, which gets [`encode_answer`].
pub(crate) fn encode_event(encoding: &Encoding, epoch: Epoch, event: &Event, out: &mut Vec<u8>) {
    match encoding.transport {
        Transport::Iframe => iframe::encode_event(encoding, epoch, event, out),
        Transport::Stream => stream::encode_event(encoding, epoch, event, out),
        Transport::Sse => sse::encode_event(encoding, epoch, event, out),
        Transport::WebSocket => websocket::encode_event(encoding, epoch, event, out),
        Transport::Poll | Transport::LongPoll => unreachable!("a poll gets a whole answer"),
    }
}

/// Appends a heartbeat that carries the place where the transport can; for a WebSocket a ping stands after
/// it.
pub(crate) fn encode_place(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    encode_cursor(encoding, cursor, out);
    if encoding.transport == Transport::WebSocket {
        websocket::encode_heartbeat(out);
    }
}

/// Appends the shortest heartbeat, the same for all subscribers of the encoding; a raw stream and a poll have
/// none.
pub(crate) fn encode_heartbeat(encoding: &Encoding, out: &mut Vec<u8>) {
    match encoding.transport {
        Transport::Iframe => iframe::encode_heartbeat(encoding, out),
        Transport::Stream => stream::encode_heartbeat(encoding, out),
        Transport::Sse => sse::encode_heartbeat(encoding, out),
        Transport::WebSocket => websocket::encode_heartbeat(out),
        Transport::Poll | Transport::LongPoll => {}
    }
}

/// Appends the notice of a gap and says whether the stream can go on after it.
///
/// # Panics
/// If the transport is a poll, which is told in its answer.
pub(crate) fn encode_gap(encoding: &Encoding, gap: &Gap, out: &mut Vec<u8>) -> Ending {
    match encoding.transport {
        Transport::Iframe => iframe::encode_gap(encoding, gap, out),
        Transport::Sse => sse::encode_gap(encoding, gap, out),
        Transport::Stream => return stream::encode_gap(encoding, gap, out),
        Transport::WebSocket => return websocket::encode_gap(encoding, gap, out),
        Transport::Poll | Transport::LongPoll => unreachable!("a poll is told in its answer"),
    }
    Ending::None
}

/// Appends the whole HTTP response of a poll or long poll.
pub(crate) fn encode_answer(encoding: &Encoding, answer: &Answer<'_>, out: &mut Vec<u8>) {
    poll::encode_answer(encoding, answer, out);
}

/// Appends the 304 of a poll whose `If-None-Match` names a place after which nothing came (RFC 9110 §15.4.5).
pub(crate) fn encode_not_modified(answer: &Answer<'_>, out: &mut Vec<u8>) {
    poll::encode_not_modified(answer, out);
}

/// Appends the clean end of a stream: the last chunk, a close frame.
pub(crate) fn encode_end(encoding: &Encoding, reason: End<'_>, out: &mut Vec<u8>) {
    match encoding.transport {
        Transport::Iframe | Transport::Stream | Transport::Sse => {
            framing::encode_last_part(encoding.framing, out);
        }
        Transport::WebSocket => websocket::encode_end(reason, out),
        Transport::Poll | Transport::LongPoll => {}
    }
}
