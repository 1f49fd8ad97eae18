//! Base framing (RFC 6455 section 5.2): the head of a frame, read strictly and written in its shortest form.
//!
//! Knows nothing of messages: what a sequence of frames means is `message`'s to say.

use alloc::vec::Vec;
use core::fmt;

use super::close::CloseCode;
use super::{Side, mask};

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// The longest head of a frame: two bytes, eight of length, four of masking key.
pub const HEAD_BYTES_MAX: usize = 14;

/// The longest head that a server writes.
const UNMASKED_HEAD_BYTES_MAX: usize = 10;

/// The kind of a frame (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// A question whether the peer is alive.
    Ping,
    /// Its answer, or an unasked sign of life.
    Pong,
}

impl Opcode {
    /// Whether frames of this kind are control frames: at most 125 bytes, never fragmented (section 5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// All of a frame but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// Whether the message that begins with this frame is compressed (RFC 7692 section 6).
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, which a client's frame has and a server's has not.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload, in bytes; at most 63 bits.
    pub len: u64,
}

impl FrameHead {
    /// Reads the head at the start of `input`: the head and its length in bytes, or `None` if more is needed.
    ///
    /// `sender` decides whether there must be a mask. `rsv1_allowed` says whether permessage-deflate was
    /// negotiated.
    ///
    /// # Errors
    /// [`FrameError`], as soon as the bytes cannot become a valid head.
    pub fn decode(
        input: &[u8],
        sender: Side,
        rsv1_allowed: bool,
    ) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        let (fin, rsv1, opcode) = decode_first(first, rsv1_allowed)?;
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let is_masked = second & 0x80 != 0;
        match (sender, is_masked) {
            // "The server MUST close the connection upon receiving a frame that is not masked" (section 5.1).
            (Side::Client, false) => return Err(FrameError::MaskMissing),
            // "A client MUST close a connection if it detects a masked frame" (section 5.1).
            (Side::Server, true) => return Err(FrameError::MaskPresent),
            _ => {}
        }
        let len = second & 0x7F;
        if opcode.is_control() && usize::from(len) > CONTROL_PAYLOAD_MAX {
            return Err(FrameError::ControlTooLong);
        }
        let Some((len, rest)) = decode_len(len, rest)? else { return Ok(None) };
        let mut head = Self { fin, rsv1, opcode, mask: None, len };
        let mut rest = rest;
        if is_masked {
            let Some((key, after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            head.mask = Some(*key);
            rest = after;
        }
        Ok(Some((head, input.len() - rest.len())))
    }

    /// Appends the head to `out`, with the length in its shortest form.
    ///
    /// # Panics
    /// If `len` has 64 bits, or if a control frame is fragmented, compressed or over 125 bytes: no peer
    /// decides these.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.len >> 63 == 0, "a payload of {} bytes has no encoding", self.len);
        if self.opcode.is_control() {
            assert!(self.len <= CONTROL_PAYLOAD_MAX as u64, "a control frame of {} bytes", self.len);
            assert!(self.fin && !self.rsv1, "a control frame is one frame and never compressed");
        }
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode.bits());
        match self.len {
            0..=125 => out.push(mask_bit | self.len as u8),
            126..=0xFFFF => {
                out.push(mask_bit | 126);
                out.extend_from_slice(&(self.len as u16).to_be_bytes());
            }
            _ => {
                out.push(mask_bit | 127);
                out.extend_from_slice(&self.len.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

fn decode_first(first: u8, rsv1_allowed: bool) -> Result<(bool, bool, Opcode), FrameError> {
    let opcode =
        Opcode::from_bits(first & 0x0F).ok_or(FrameError::ReservedOpcode { opcode: first & 0x0F })?;
    let fin = first & 0x80 != 0;
    let rsv1 = first & 0x40 != 0;
    // RSV1 stands on the first frame of a message only, and never on a control frame (RFC 7692 section 6).
    let rsv1_fits = rsv1_allowed && matches!(opcode, Opcode::Text | Opcode::Binary);
    if first & 0x30 != 0 || (rsv1 && !rsv1_fits) {
        return Err(FrameError::ReservedBits { bits: first >> 4 & 0x7 });
    }
    if opcode.is_control() && !fin {
        return Err(FrameError::ControlFragmented);
    }
    Ok((fin, rsv1, opcode))
}

/// Reads the extended length, if `len` announces one: the length of the payload and what follows.
fn decode_len(len: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, FrameError> {
    let (len, smallest, rest) = match len {
        126 => {
            let Some((bytes, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), 126, rest)
        }
        127 => {
            // "the most significant bit MUST be 0" (section 5.2): known with the first byte.
            if rest.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(FrameError::LengthOver63Bits);
            }
            let Some((bytes, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), 0x1_0000, rest)
        }
        len => (u64::from(len), 0, rest),
    };
    // "the minimal number of bytes MUST be used to encode the length" (section 5.2).
    if len < smallest {
        return Err(FrameError::LengthNotMinimal { len });
    }
    Ok(Some((len, rest)))
}

/// Appends one whole, unmasked frame: what a server sends.
///
/// # Panics
/// If a control frame's payload is over [`CONTROL_PAYLOAD_MAX`].
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(UNMASKED_HEAD_BYTES_MAX + payload.len());
    // "A server MUST NOT mask any frames that it sends to the client" (section 5.1), so the head has no key.
    FrameHead { fin: true, rsv1: false, opcode, mask: None, len: payload.len() as u64 }.encode(out);
    out.extend_from_slice(payload);
}

/// Appends one whole, unmasked frame whose payload is what `write` appends, so that an encoder needs no
/// buffer of its own. `rsv1` marks a compressed message.
///
/// # Panics
/// If a control frame's payload is over [`CONTROL_PAYLOAD_MAX`], or if `write` shortens its buffer.
pub fn encode_frame_with(opcode: Opcode, rsv1: bool, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // The head's length is known after the payload only: there is room for the longest, then it is closed up.
    out.resize(start + UNMASKED_HEAD_BYTES_MAX, 0);
    let payload_start = out.len();
    write(out);
    assert!(out.len() >= payload_start, "the writer of a payload took away what was there before it");
    let len = (out.len() - payload_start) as u64;
    let mut head = Vec::with_capacity(UNMASKED_HEAD_BYTES_MAX);
    FrameHead { fin: true, rsv1, opcode, mask: None, len }.encode(&mut head);
    out.splice(start..payload_start, head);
}

/// Appends one whole frame masked with `key`: what a client sends. The key must be unpredictable to whoever
/// chose the payload (section 10.3), so the caller brings the randomness.
///
/// # Panics
/// If a control frame's payload is over [`CONTROL_PAYLOAD_MAX`].
pub fn encode_masked_frame(opcode: Opcode, key: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEAD_BYTES_MAX + payload.len());
    FrameHead { fin: true, rsv1: false, opcode, mask: Some(key), len: payload.len() as u64 }.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::unmask(&mut out[start..], key, 0);
}

/// What is wrong with a frame's head. All of these are protocol errors: close code 1002.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// RSV bits that no negotiated extension gives a meaning (section 5.2), RSV1 as 4, RSV2 as 2, RSV3 as 1.
    ReservedBits {
        /// All three bits as they came.
        bits: u8,
    },
    /// An opcode that is reserved (section 5.2).
    ReservedOpcode {
        /// Its four bits.
        opcode: u8,
    },
    /// A control frame without FIN (section 5.5).
    ControlFragmented,
    /// A control frame over [`CONTROL_PAYLOAD_MAX`] (section 5.5).
    ControlTooLong,
    /// A length that a shorter form could have carried (section 5.2).
    LengthNotMinimal {
        /// The length, in bytes.
        len: u64,
    },
    /// A length whose most significant bit is set (section 5.2).
    LengthOver63Bits,
    /// A client's frame without a mask (section 5.1).
    MaskMissing,
    /// A server's frame with a mask (section 5.1).
    MaskPresent,
}

impl FrameError {
    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        CloseCode::PROTOCOL_ERROR
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ReservedBits { bits } => write!(f, "reserved bits {bits:03b} of a frame are set"),
            Self::ReservedOpcode { opcode } => write!(f, "opcode {opcode:#x} is reserved"),
            Self::ControlFragmented => f.write_str("control frame without FIN"),
            Self::ControlTooLong => {
                write!(f, "control frame too long; at most {CONTROL_PAYLOAD_MAX} bytes are allowed")
            }
            Self::LengthNotMinimal { len } => {
                write!(f, "payload length {len} is not in its shortest form")
            }
            Self::LengthOver63Bits => f.write_str("payload length has more than 63 bits"),
            Self::MaskMissing => f.write_str("client frame is not masked"),
            Self::MaskPresent => f.write_str("server frame is masked"),
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests;
