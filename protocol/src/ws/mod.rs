//! The WebSocket protocol (RFC 6455) and permessage-deflate (RFC 7692).
//!
//! ```text
//! request head → handshake::accept → deflate::negotiate → handshake::write_response
//! bytes → message::MessageDecoder (frame, mask, deflate) → Incoming
//! Incoming::Close → close::ClosingHandshake → CloseFrame
//! ```

pub mod close;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;

/// One of the two ends of a WebSocket connection. They differ in who masks (RFC 6455 section 5.3) and in who
/// may send which close code (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that sent the opening handshake; it masks every frame.
    Client,
    /// The end that answered with 101; it masks none.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
