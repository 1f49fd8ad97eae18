//! What each transport sends: events, notices and whole answers to bytes. Decides nothing of when or to whom.

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
    /// WebSocket frames, compressed without context takeover (RFC 7692) for a window of this many bits, 8 to 15.
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
    /// Which header lines, of those that differ between requests, an answer carries: a number of the shard's table
    /// (polls only; 0 is the empty text).
    pub head: u32,
    /// Most events of one answer (polls only).
    pub limit: u16,
}
