//! Closing (RFC 6455 sections 5.5.1 and 7): codes, the payload of a close frame, and the closing handshake.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Side;
use super::frame::{CONTROL_PAYLOAD_MAX, Opcode, encode_frame, encode_masked_frame};

/// The longest reason of a close frame, in bytes of UTF-8: what two bytes of code leave of a control frame.
pub const REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// Why a connection is closed (section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that is not accepted here.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: stands for a close frame without a code; never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: stands for a connection that ended without a close frame; never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: data that does not fit its type, as text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: against the rules of this server.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message that is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client misses an extension; only a client sends it.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server met something that it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got a bad answer (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Whether a close frame may carry this code: 1000 to 1003, 1007 to 1014, and 3000 to 4999, which are for
    /// libraries and applications. 1004, 1005, 1006 and 1015 never are; the rest is reserved (section 7.4.2).
    #[must_use]
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether `side` may begin a closing handshake with this code: 1010 is the client's, 1011 to 1014 the
    /// server's.
    ///
    /// A received code is judged by [`is_sendable`](Self::is_sendable) alone: peers do send 1011 as clients.
    #[must_use]
    pub const fn may_be_sent_by(self, side: Side) -> bool {
        match side {
            Side::Client => self.is_sendable() && !matches!(self.0, 1011..=1014),
            Side::Server => self.is_sendable() && self.0 != 1010,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A close frame: its code and the reason, which is for people and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// [`CloseCode::NO_STATUS`] stands for a frame with an empty payload.
    pub code: CloseCode,
    /// At most [`REASON_BYTES_MAX`] bytes; empty where there is no code.
    pub reason: String,
}

impl CloseFrame {
    /// Reads the payload of a close frame.
    ///
    /// # Errors
    /// [`CloseError`]: a payload of one byte, a code that may not be sent, or a reason that is not UTF-8.
    pub fn decode(payload: &[u8]) -> Result<Self, CloseError> {
        if payload.is_empty() {
            return Ok(Self { code: CloseCode::NO_STATUS, reason: String::new() });
        }
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return Err(CloseError::CodeCut);
        };
        let code = CloseCode(u16::from_be_bytes(*code));
        if !code.is_sendable() {
            return Err(CloseError::CodeNotAllowed { code });
        }
        let reason = core::str::from_utf8(reason).map_err(|_| CloseError::ReasonNotUtf8)?;
        Ok(Self { code, reason: reason.into() })
    }

    /// Appends the frame as a server sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_frame(Opcode::Close, &self.payload(), out);
    }

    /// Appends the frame as a client sends it, masked with `key`.
    pub fn encode_masked(&self, key: [u8; 4], out: &mut Vec<u8>) {
        encode_masked_frame(Opcode::Close, key, &self.payload(), out);
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        if self.code != CloseCode::NO_STATUS {
            payload.extend_from_slice(&self.code.0.to_be_bytes());
            payload.extend_from_slice(cut_reason(&self.reason).as_bytes());
        }
        payload
    }
}

/// As much of `reason` as fits a close frame, cut between two characters.
fn cut_reason(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// The closing handshake of one connection (section 7.1), seen from one side.
///
/// ```
/// use stentor_protocol::ws::{Side, close::{CloseCode, ClosingHandshake}};
///
/// let mut closing = ClosingHandshake::new(Side::Server);
/// closing.handle_close(Side::Client, CloseCode::NORMAL)?;
/// let answer = closing.poll_frame().unwrap();
/// assert_eq!(answer.code, CloseCode::NORMAL, "a close frame is answered with its code");
/// assert!(closing.is_over());
/// # Ok::<(), stentor_protocol::ws::close::CloseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClosingHandshake {
    side: Side,
    ours: Ours,
    theirs: Option<CloseCode>,
}

#[derive(Clone, Debug)]
enum Ours {
    None,
    /// Taken by the next `poll_frame`.
    Due(CloseFrame),
    /// Given out: no frame of any kind may follow it.
    Sent,
}

impl ClosingHandshake {
    /// The state of an open connection, whose own end is `side`.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Self { side, ours: Ours::None, theirs: None }
    }

    /// A close frame came from the peer, or our side is asked for one; the reason is empty.
    ///
    /// [`CloseCode::NO_STATUS`] is a frame without a code. Asking twice is no fault: the first code stays.
    ///
    /// # Errors
    /// [`CloseError::CodeNotAllowed`] for a code that `from` may not send; [`CloseError::Again`] for a second
    /// close frame of the peer. The state is then unchanged.
    pub fn handle_close(&mut self, from: Side, code: CloseCode) -> Result<(), CloseError> {
        self.handle_close_with_reason(from, code, "")
    }

    /// As [`handle_close`](Self::handle_close), with a reason for our frame; over [`REASON_BYTES_MAX`] it is
    /// cut between two characters. The peer's reason is not kept.
    ///
    /// # Errors
    /// As [`handle_close`](Self::handle_close).
    pub fn handle_close_with_reason(
        &mut self,
        from: Side,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), CloseError> {
        let is_ours = from == self.side;
        let is_allowed = if is_ours { code.may_be_sent_by(from) } else { code.is_sendable() };
        if !is_allowed && code != CloseCode::NO_STATUS {
            return Err(CloseError::CodeNotAllowed { code });
        }
        if is_ours {
            self.send(code, reason);
            return Ok(());
        }
        if self.theirs.is_some() {
            return Err(CloseError::Again);
        }
        self.theirs = Some(code);
        // "When sending a Close frame in response, the endpoint typically echos the status code" (section
        // 5.5.1).
        self.send(code, "");
        Ok(())
    }

    fn send(&mut self, code: CloseCode, reason: &str) {
        if matches!(self.ours, Ours::None) {
            self.ours = Ours::Due(CloseFrame { code, reason: cut_reason(reason).into() });
        }
    }

    /// The close frame that is to be sent now, once. After it nothing else may be sent (section 5.5.1).
    pub fn poll_frame(&mut self) -> Option<CloseFrame> {
        if !matches!(self.ours, Ours::Due(_)) {
            return None;
        }
        match core::mem::replace(&mut self.ours, Ours::Sent) {
            Ours::Due(frame) => Some(frame),
            Ours::None | Ours::Sent => None,
        }
    }

    /// Whether a close frame was given out or is due: data frames may not be sent any more.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        !matches!(self.ours, Ours::None)
    }

    /// Whether both sides have said it: the server then ends the TCP connection (section 7.1.1).
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.ours, Ours::Sent) && self.theirs.is_some()
    }

    /// The code that the peer sent, if it has.
    #[must_use]
    pub const fn received(&self) -> Option<CloseCode> {
        self.theirs
    }
}

/// What is wrong with a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseError {
    /// A payload of one byte: half a code (section 5.5.1).
    CodeCut,
    /// A code that may not be sent, or not by this side (section 7.4).
    CodeNotAllowed {
        /// The code as it came.
        code: CloseCode,
    },
    /// A reason that is not UTF-8 (section 5.5.1).
    ReasonNotUtf8,
    /// A second close frame from the same side.
    Again,
}

impl CloseError {
    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReasonNotUtf8 => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CodeCut => f.write_str("close frame of 1 byte; a code has 2"),
            Self::CodeNotAllowed { code } => write!(f, "close code {code} may not be sent"),
            Self::ReasonNotUtf8 => f.write_str("close reason is not UTF-8"),
            Self::Again => f.write_str("second close frame"),
        }
    }
}

impl core::error::Error for CloseError {}

#[cfg(test)]
mod tests;
