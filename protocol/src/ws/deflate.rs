//! permessage-deflate (RFC 7692): its negotiation, and messages to compressed bytes and back.
//!
//! The codec is `zlib-rs`, whose allocations go through Rust's allocator. That feature of it needs `std` on
//! the target, though nothing here does.

use alloc::vec::Vec;
use core::fmt;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

use super::Side;
use super::close::CloseCode;
use super::handshake::Extension;

/// The registered name of the extension.
pub const NAME: &str = "permessage-deflate";

/// The smallest and the largest window, as powers of two of bytes (RFC 7692 section 7.1.2).
const WINDOW_BITS_MIN: u8 = 8;
const WINDOW_BITS_MAX: u8 = 15;

/// What ends a flushed deflate stream; it is taken off before a message is sent and put back before it is
/// inflated (section 7.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// What server and client agreed on (section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// The server compresses each message by itself.
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself.
    pub client_no_context_takeover: bool,
    /// The server's window, 8 to 15. An offer that names one is accepted by an answer that names one, 15
    /// included; without it the window is 15. [`window_bits`](Self::window_bits) gives what counts.
    pub server_max_window_bits: Option<u8>,
    /// The client's window, 8 to 15; without it 15. Only a client that offers the parameter may be told one.
    pub client_max_window_bits: Option<u8>,
}

impl Params {
    /// The window of what `side` sends, as a power of two of bytes.
    #[must_use]
    pub const fn window_bits(&self, side: Side) -> u8 {
        let agreed = match side {
            Side::Client => self.client_max_window_bits,
            Side::Server => self.server_max_window_bits,
        };
        match agreed {
            Some(bits) => bits,
            None => WINDOW_BITS_MAX,
        }
    }

    /// Whether what `side` sends may refer to its earlier messages.
    #[must_use]
    pub const fn has_context_takeover(&self, side: Side) -> bool {
        match side {
            Side::Client => !self.client_no_context_takeover,
            Side::Server => !self.server_no_context_takeover,
        }
    }

    /// Reads the server's answer, as a client does that made the offer `client_max_window_bits`.
    ///
    /// # Errors
    /// [`AnswerError`] if the answer is not one that a server may give; the client fails the connection
    /// (section 7.1.3).
    pub fn from_answer(extensions: &[Extension<'_>]) -> Result<Option<Self>, AnswerError> {
        match extensions {
            [] => Ok(None),
            [answer] if answer.name.eq_ignore_ascii_case(NAME) => {
                let asked = Asked::read(answer).ok_or(AnswerError)?;
                if asked.client_max_window_bits == Some(None) {
                    return Err(AnswerError);
                }
                Ok(Some(Self {
                    server_no_context_takeover: asked.server_no_context_takeover,
                    client_no_context_takeover: asked.client_no_context_takeover,
                    server_max_window_bits: asked.server_max_window_bits,
                    client_max_window_bits: asked.client_max_window_bits.flatten(),
                }))
            }
            _ => Err(AnswerError),
        }
    }
}

/// The extension as it stands in the answer's `Sec-WebSocket-Extensions`.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if let Some(bits) = self.client_max_window_bits {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

/// What a server is ready to agree to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether messages may refer to earlier ones, for those directions in which the client does not forbid
    /// it. It costs a connection about 50 KB for reading and 380 KB for writing; without it nothing is kept.
    pub context_takeover: bool,
    /// The largest window to compress with, 8 to 15.
    pub server_max_window_bits: u8,
    /// The largest window that a client shall use, 8 to 15, if it can be told.
    pub client_max_window_bits: u8,
}

impl Policy {
    /// No context takeover in either direction: a prepared event is compressed once for all, and a parked
    /// socket keeps no window.
    pub const SHARED: Self = Self {
        context_takeover: false,
        server_max_window_bits: WINDOW_BITS_MAX,
        client_max_window_bits: WINDOW_BITS_MAX,
    };

    /// Context takeover in each direction that the client permits.
    pub const TAKEOVER: Self = Self { context_takeover: true, ..Self::SHARED };
}

/// Accepts the first offer of permessage-deflate that can be honoured, or none (section 7.1).
///
/// An offer with an unknown parameter, a parameter twice or an invalid value is declined, and the next one is
/// looked at; it is no fault of the handshake.
#[must_use]
pub fn negotiate(offers: &[Extension<'_>], policy: &Policy) -> Option<Params> {
    offers
        .iter()
        .filter(|offer| offer.name.eq_ignore_ascii_case(NAME))
        .find_map(Asked::read)
        .map(|asked| asked.answer(policy))
}

/// The parameters of one offer or answer, each valid and there at most once.
#[derive(Default)]
struct Asked {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: the parameter without a value.
    client_max_window_bits: Option<Option<u8>>,
}

impl Asked {
    fn read(extension: &Extension<'_>) -> Option<Self> {
        let mut asked = Self::default();
        for (name, value) in &extension.params {
            let is_new = match (*name, value.as_deref()) {
                ("server_no_context_takeover", None) => {
                    !core::mem::replace(&mut asked.server_no_context_takeover, true)
                }
                ("client_no_context_takeover", None) => {
                    !core::mem::replace(&mut asked.client_no_context_takeover, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    asked.server_max_window_bits.replace(parse_window_bits(value)?).is_none()
                }
                ("client_max_window_bits", value) => {
                    let bits = value.map(parse_window_bits);
                    let bits = if bits == Some(None) { return None } else { bits.flatten() };
                    asked.client_max_window_bits.replace(bits).is_none()
                }
                _ => return None,
            };
            // An offer with several parameters of the same name is declined (section 7.1).
            if !is_new {
                return None;
            }
        }
        Some(asked)
    }

    fn answer(&self, policy: &Policy) -> Params {
        Params {
            server_no_context_takeover: self.server_no_context_takeover || !policy.context_takeover,
            // The server may say this even if the client did not offer it (section 7.1.1.2).
            client_no_context_takeover: self.client_no_context_takeover || !policy.context_takeover,
            // "the same or smaller value" accepts the parameter (section 7.1.2.1); without an offer the
            // server may still name a smaller window.
            server_max_window_bits: match self.server_max_window_bits {
                Some(bits) => Some(bits.min(policy.server_max_window_bits.max(WINDOW_BITS_MIN))),
                None => smaller_than_full(policy.server_max_window_bits),
            },
            // Only an offer that has the parameter permits it in the answer (section 7.1.2.2). Our inflater
            // reads every window, so it is named only where the policy wants a smaller one.
            client_max_window_bits: self.client_max_window_bits.and_then(|bits| {
                smaller_than_full(policy.client_max_window_bits)
                    .map(|wanted| wanted.min(bits.unwrap_or(WINDOW_BITS_MAX)))
            }),
        }
    }
}

fn smaller_than_full(window_bits: u8) -> Option<u8> {
    (window_bits < WINDOW_BITS_MAX).then_some(window_bits.max(WINDOW_BITS_MIN))
}

/// "a decimal integer value without leading zeroes between 8 to 15, inclusive" (section 7.1.2).
fn parse_window_bits(value: &str) -> Option<u8> {
    (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).find(|bits| alloc::format!("{bits}") == value)
}

/// Compresses messages for one direction.
///
/// Costs up to 380 KB, whatever the messages. Without context takeover one serves any number of connections
/// that agreed on the same window.
pub struct Compressor {
    deflate: Deflate,
    context_takeover: bool,
}

impl Compressor {
    /// A compressor for what `side` sends under `params`; `level` is zlib's, 1 (fast) to 9 (small), clamped.
    #[must_use]
    pub fn new(params: &Params, side: Side, level: u8) -> Self {
        Self::with_window_bits(params.window_bits(side), params.has_context_takeover(side), level)
    }

    /// A compressor with a window of `2^window_bits` bytes; the bits are clamped to 8 to 15.
    #[must_use]
    pub fn with_window_bits(window_bits: u8, context_takeover: bool, level: u8) -> Self {
        // zlib has no raw window of 8 bits. With 9 its distances end at 512 - 262 = 250 bytes (it keeps a
        // match and its lookahead free), so an inflater with a window of 256 bytes reads what it writes.
        let window_bits = window_bits.clamp(WINDOW_BITS_MIN + 1, WINDOW_BITS_MAX);
        Self { deflate: Deflate::new(i32::from(level.clamp(1, 9)), false, window_bits), context_takeover }
    }

    /// Appends the payload of a message that carries `payload`, to be sent with RSV1 set (section 7.2.1).
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        // An empty message is one byte, whatever went before it (section 7.2.3.6); zlib would write nothing
        // for the second of two flushes in a row.
        if payload.is_empty() {
            out.push(0x00);
            return;
        }
        self.deflate_all(payload, out);
        let kept = out.len().saturating_sub(TAIL.len());
        assert_eq!(out.get(kept..), Some(&TAIL[..]), "a flushed deflate stream ends with an empty block");
        out.truncate(kept);
        if !self.context_takeover {
            self.deflate.reset();
        }
    }

    fn deflate_all(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let mut rest = payload;
        loop {
            let start = out.len();
            // Room for what cannot be compressed: at most 9 bits a byte, and the heads of blocks. With this
            // much one call suffices.
            out.resize(start + rest.len() + rest.len() / 7 + 128, 0);
            let (total_in, total_out) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(rest, &mut out[start..], DeflateFlush::SyncFlush);
            assert!(status.is_ok(), "a compressor with valid parameters does not fail");
            let used = (self.deflate.total_in() - total_in) as usize;
            let written = (self.deflate.total_out() - total_out) as usize;
            let is_full = start + written == out.len();
            out.truncate(start + written);
            rest = &rest[used..];
            if rest.is_empty() && !is_full {
                return;
            }
            assert!(used + written > 0, "a compressor with room makes progress");
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("context_takeover", &self.context_takeover).finish_non_exhaustive()
    }
}

/// Inflates the messages of one direction, piece by piece. Costs about 50 KB.
///
/// Reads every window size: one that is smaller than agreed on is only a smaller part of it.
pub struct Decompressor {
    inflate: Inflate,
    context_takeover: bool,
    /// Whether a block with BFINAL ended the stream and nothing follows so far (section 7.2.3.4).
    has_ended: bool,
}

impl Decompressor {
    /// A decompressor for what `side` sends under `params`.
    #[must_use]
    pub fn new(params: &Params, side: Side) -> Self {
        Self {
            inflate: Inflate::new(false, WINDOW_BITS_MAX),
            context_takeover: params.has_context_takeover(side),
            has_ended: false,
        }
    }

    /// Whether the window outlives a message; if not, the decompressor may be dropped between two.
    #[must_use]
    pub const fn has_context_takeover(&self) -> bool {
        self.context_takeover
    }

    /// Appends to `out` what `piece`, the next part of a message's payload, inflates to. `out` holds the
    /// message so far and will not be longer than `bytes_max`.
    ///
    /// # Errors
    /// [`DecompressError`]; the decompressor is then of no more use. `out` has what came before the fault.
    pub fn decompress(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), DecompressError> {
        if piece.is_empty() {
            return Ok(());
        }
        self.has_ended = false;
        let mut valid = out.len();
        let result = self.inflate_all(piece, out, &mut valid, bytes_max);
        out.truncate(valid.min(bytes_max));
        result
    }

    /// Appends what is left at the end of a message, and makes ready for the next.
    ///
    /// # Errors
    /// As [`decompress`](Self::decompress).
    pub fn finish(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), DecompressError> {
        // A stream that ended with BFINAL on the very last byte needs no tail, and would misread it.
        if !self.has_ended {
            self.decompress(&TAIL, out, bytes_max)?;
        }
        if !self.context_takeover {
            self.inflate.reset(false);
        }
        self.has_ended = false;
        Ok(())
    }

    /// Inflates into `out`, which it leaves longer than the `valid` bytes of it.
    fn inflate_all(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        valid: &mut usize,
        bytes_max: usize,
    ) -> Result<(), DecompressError> {
        let mut rest = piece;
        loop {
            if *valid == out.len() {
                // Steps that bound what a bomb takes beyond the limit before it is seen.
                let step = (*valid / 2).max(piece.len().saturating_mul(3)).clamp(256, 256 * 1024);
                out.resize(*valid + step, 0);
            }
            let (total_in, total_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(rest, &mut out[*valid..], InflateFlush::SyncFlush);
            let used = (self.inflate.total_in() - total_in) as usize;
            let written = (self.inflate.total_out() - total_out) as usize;
            rest = &rest[used..];
            *valid += written;
            if *valid > bytes_max {
                return Err(DecompressError::TooBig { bytes_max });
            }
            let status = status.map_err(|_| DecompressError::Invalid)?;
            if status == Status::StreamEnd {
                // What follows a final block is a stream of its own, which begins with an empty window.
                self.inflate.reset(false);
                self.has_ended = rest.is_empty();
            }
            if rest.is_empty() && (*valid < out.len() || self.has_ended) {
                return Ok(());
            }
            if used + written == 0 && status != Status::StreamEnd {
                return Err(DecompressError::Invalid);
            }
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("context_takeover", &self.context_takeover)
            .finish_non_exhaustive()
    }
}

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecompressError {
    /// The bytes are no deflate stream (RFC 1951).
    Invalid,
    /// The message inflates to more than is allowed.
    TooBig {
        /// What is allowed, in bytes.
        bytes_max: usize,
    },
}

impl DecompressError {
    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Invalid => CloseCode::INVALID_DATA,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
        }
    }
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("compressed message is no deflate stream"),
            Self::TooBig { bytes_max } => {
                write!(f, "compressed message inflates to more than the {bytes_max} bytes allowed")
            }
        }
    }
}

impl core::error::Error for DecompressError {}

/// A server's answer to an offer that no server may give: another extension, or parameters that are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerError;

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sec-WebSocket-Extensions of the answer is not permessage-deflate as offered")
    }
}

impl core::error::Error for AnswerError {}

#[cfg(test)]
mod tests;
