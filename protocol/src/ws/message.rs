//! Frames to messages (RFC 6455 sections 5.4 to 5.6 and 8.1): fragments, control frames between them, UTF-8,
//! limits.
//!
//! Between messages a decoder owns no heap, so whoever parks a connection may drop it and make another.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::close::{CloseCode, CloseError, CloseFrame};
use super::deflate::{self, DecompressError, Decompressor};
use super::frame::{FrameError, FrameHead, HEAD_BYTES_MAX, Opcode};
use super::{Side, mask};

/// How many compressed bytes are unmasked at a time, on the stack.
const PIECE_BYTES: usize = 4096;

/// What a peer may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes, inflated.
    pub message_bytes_max: usize,
}

impl Limits {
    /// The longest payload of a compressed message: deflate may add a little to what it cannot compress.
    const fn compressed_bytes_max(self) -> u64 {
        let plain = self.message_bytes_max as u64;
        plain.saturating_add(plain / 8).saturating_add(64)
    }
}

impl Default for Limits {
    /// One mebibyte.
    fn default() -> Self {
        Self { message_bytes_max: 1024 * 1024 }
    }
}

/// What came in whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping; it is answered by a pong with the same payload (section 5.5.2).
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The peer's close frame: nothing after it is read.
    Close(CloseFrame),
}

/// Makes messages of the bytes that one peer sends.
///
/// ```
/// use stentor_protocol::ws::{Side, message::{Incoming, Limits, MessageDecoder}};
///
/// let mut decoder = MessageDecoder::new(Side::Server, Limits::default(), None);
/// let frame = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // RFC 6455 section 5.7, a masked "Hello"
/// assert_eq!(decoder.decode(&frame[..4])?, (4, None));
/// assert_eq!(decoder.decode(&frame[4..])?, (7, Some(Incoming::Text("Hello".into()))));
/// assert!(decoder.is_idle());
/// # Ok::<(), stentor_protocol::ws::message::MessageError>(())
/// ```
#[derive(Debug)]
pub struct MessageDecoder {
    /// Who sends what is read here.
    sender: Side,
    limits: Limits,
    deflate: Option<deflate::Params>,
    /// The first `head_len` bytes of a head that is not whole yet.
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    frame: Option<Frame>,
    message: Option<Message>,
    /// The payload so far of the control frame that is being read.
    control: Vec<u8>,
    /// Made with the first compressed message; kept between messages only under context takeover.
    decompressor: Option<Box<Decompressor>>,
    end: Option<End>,
}

/// The frame that is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    head: FrameHead,
    /// How much of its payload has been read, in bytes.
    read: u64,
}

/// The message that is being read, maybe over several frames.
#[derive(Debug)]
struct Message {
    is_text: bool,
    is_compressed: bool,
    /// The payloads of its frames so far, in bytes, as they are on the wire. Invariant: within the limit.
    wire_bytes: u64,
    data: Vec<u8>,
    /// Of a text: the part of `data` that is known to be UTF-8; at most three bytes less than all of it.
    valid: usize,
}

/// Why nothing is read any more.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Failed(MessageError),
}

impl MessageDecoder {
    /// A decoder for our `side` of a connection: a server reads a client's frames. `deflate` is what was
    /// negotiated.
    #[must_use]
    pub const fn new(side: Side, limits: Limits, deflate: Option<deflate::Params>) -> Self {
        Self {
            sender: side.peer(),
            limits,
            deflate,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            decompressor: None,
            end: None,
        }
    }

    /// Reads `input` up to the end of the next message or control frame: how many bytes were used, and what
    /// came.
    ///
    /// Without an [`Incoming`] all of `input` was used and more is needed. After a close frame everything is
    /// used and nothing comes.
    ///
    /// # Errors
    /// [`MessageError`], as soon as the bytes cannot become a valid message within the limits; the same error
    /// again from then on. Nothing is held then.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, Option<Incoming>), MessageError> {
        match self.end {
            Some(End::Closed) => return Ok((input.len(), None)),
            Some(End::Failed(error)) => return Err(error),
            None => {}
        }
        let result = self.advance(input);
        let end = match &result {
            Err(error) => Some(End::Failed(*error)),
            // After a close frame "a peer discards any further data received" (section 1.4).
            Ok((_, Some(Incoming::Close(_)))) => Some(End::Closed),
            Ok(_) => None,
        };
        if end.is_some() {
            *self = Self { end, ..Self::new(self.sender.peer(), self.limits, self.deflate) };
        }
        result
    }

    /// Whether nothing is held: no part of a frame or message, and no window. Such a decoder may be dropped
    /// and made again, unless a close frame or an error ended it.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none() && self.decompressor.is_none()
    }

    /// Whether a close frame or an error ended it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<Incoming>), MessageError> {
        let mut rest = input;
        loop {
            let Some(frame) = self.frame else {
                let Some(head) = self.read_head(&mut rest)? else { return Ok((input.len(), None)) };
                self.begin(head)?;
                self.frame = Some(Frame { head, read: 0 });
                continue;
            };
            let missing = frame.head.len - frame.read;
            let (payload, after) =
                rest.split_at(rest.len().min(usize::try_from(missing).unwrap_or(usize::MAX)));
            rest = after;
            self.read_payload(&frame, payload)?;
            if (payload.len() as u64) < missing {
                self.frame = Some(Frame { read: frame.read + payload.len() as u64, ..frame });
                return Ok((input.len(), None));
            }
            self.frame = None;
            if let Some(incoming) = self.finish(&frame.head)? {
                return Ok((input.len() - rest.len(), Some(incoming)));
            }
        }
    }

    /// Takes a head off the front of `rest`; `None` if it is not whole, and then all of `rest` is kept.
    fn read_head(&mut self, rest: &mut &[u8]) -> Result<Option<FrameHead>, FrameError> {
        let rsv1_allowed = self.deflate.is_some();
        let kept = usize::from(self.head_len);
        if kept == 0
            && let Some((head, used)) = FrameHead::decode(rest, self.sender, rsv1_allowed)?
        {
            *rest = &rest[used..];
            return Ok(Some(head));
        }
        let added = rest.len().min(HEAD_BYTES_MAX - kept);
        self.head[kept..kept + added].copy_from_slice(&rest[..added]);
        let Some((head, used)) = FrameHead::decode(&self.head[..kept + added], self.sender, rsv1_allowed)?
        else {
            // No head is longer than `HEAD_BYTES_MAX`, so that all of `rest` found room.
            self.head_len = (kept + added) as u8;
            *rest = &[];
            return Ok(None);
        };
        self.head_len = 0;
        *rest = &rest[used - kept..];
        Ok(Some(head))
    }

    /// Judges a frame by its head, before any of its payload is held.
    fn begin(&mut self, head: FrameHead) -> Result<(), MessageError> {
        match (head.opcode, &mut self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            (Opcode::Continuation, None) => return Err(MessageError::ContinuationOfNothing),
            (Opcode::Continuation, Some(_)) => {}
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(MessageError::MessageInMessage),
            (Opcode::Text | Opcode::Binary, message @ None) => {
                *message = Some(Message {
                    is_text: head.opcode == Opcode::Text,
                    is_compressed: head.rsv1,
                    wire_bytes: 0,
                    data: Vec::new(),
                    valid: 0,
                });
            }
        }
        let Some(message) = &mut self.message else { return Err(MessageError::ContinuationOfNothing) };
        let bytes_max = if message.is_compressed {
            self.limits.compressed_bytes_max()
        } else {
            self.limits.message_bytes_max as u64
        };
        message.wire_bytes = message.wire_bytes.saturating_add(head.len);
        if message.wire_bytes > bytes_max {
            return Err(MessageError::TooBig { bytes_max: self.limits.message_bytes_max });
        }
        Ok(())
    }

    fn read_payload(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), MessageError> {
        let key = frame.head.mask;
        if frame.head.opcode.is_control() {
            append_unmasked(&mut self.control, payload, key, frame.read);
            return Ok(());
        }
        let Some(message) = &mut self.message else { return Ok(()) };
        if !message.is_compressed {
            append_unmasked(&mut message.data, payload, key, frame.read);
            let is_last = frame.head.fin && frame.read + payload.len() as u64 == frame.head.len;
            // The whole text is looked at once more at its end, where it becomes a string.
            return if is_last { Ok(()) } else { message.check_text() };
        }
        let (Some(params), sender) = (&self.deflate, self.sender) else { return Ok(()) };
        let decompressor =
            self.decompressor.get_or_insert_with(|| Box::new(Decompressor::new(params, sender)));
        let mut buffer = [0; PIECE_BYTES];
        let mut offset = frame.read;
        for piece in payload.chunks(PIECE_BYTES) {
            let unmasked = &mut buffer[..piece.len()];
            unmasked.copy_from_slice(piece);
            if let Some(key) = key {
                mask::unmask(unmasked, key, offset);
            }
            let result = decompressor.decompress(unmasked, &mut message.data, self.limits.message_bytes_max);
            // The text first, so that the first fault is told however the bytes were cut.
            message.check_text()?;
            result?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// A frame is whole: what it completes, if anything.
    fn finish(&mut self, head: &FrameHead) -> Result<Option<Incoming>, MessageError> {
        match head.opcode {
            Opcode::Ping => return Ok(Some(Incoming::Ping(core::mem::take(&mut self.control)))),
            Opcode::Pong => return Ok(Some(Incoming::Pong(core::mem::take(&mut self.control)))),
            Opcode::Close => {
                return Ok(Some(Incoming::Close(CloseFrame::decode(&core::mem::take(&mut self.control))?)));
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary if !head.fin => return Ok(None),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        let Some(mut message) = self.message.take() else { return Ok(None) };
        if message.is_compressed {
            self.finish_compressed(&mut message)?;
        }
        Ok(Some(if message.is_text {
            Incoming::Text(String::from_utf8(message.data).map_err(|_| MessageError::NotUtf8)?)
        } else {
            Incoming::Binary(message.data)
        }))
    }

    fn finish_compressed(&mut self, message: &mut Message) -> Result<(), MessageError> {
        // No byte at all is no deflate stream, but there is only one message that it can mean.
        if message.wire_bytes == 0 {
            return Ok(());
        }
        let Some(decompressor) = &mut self.decompressor else { return Ok(()) };
        let result = decompressor.finish(&mut message.data, self.limits.message_bytes_max);
        message.check_text()?;
        result?;
        if !decompressor.has_context_takeover() {
            self.decompressor = None;
        }
        Ok(())
    }
}

fn append_unmasked(data: &mut Vec<u8>, payload: &[u8], key: Option<[u8; 4]>, offset: u64) {
    let start = data.len();
    data.extend_from_slice(payload);
    if let Some(key) = key {
        mask::unmask(&mut data[start..], key, offset);
    }
}

impl Message {
    /// Fails as soon as what came of a text cannot become UTF-8 (section 8.1).
    fn check_text(&mut self) -> Result<(), MessageError> {
        if !self.is_text {
            return Ok(());
        }
        match core::str::from_utf8(&self.data[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            // Without a length the error is that the last character is not whole yet.
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(MessageError::NotUtf8),
        }
        Ok(())
    }
}

/// Why a peer's bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// A frame's head is invalid.
    Frame(FrameError),
    /// A close frame's payload is invalid.
    Close(CloseError),
    /// A continuation frame where no message is begun (section 5.4).
    ContinuationOfNothing,
    /// A new message before the last is at its end (section 5.4).
    MessageInMessage,
    /// A text that is not UTF-8 (section 8.1).
    NotUtf8,
    /// A message, as its frames announce it, over [`Limits::message_bytes_max`].
    TooBig {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// A compressed message that cannot be inflated within the limit.
    Deflate(DecompressError),
}

impl MessageError {
    /// The code to close the connection with: 1002, 1007 or 1009.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::Close(error) => error.close_code(),
            Self::ContinuationOfNothing | Self::MessageInMessage => CloseCode::PROTOCOL_ERROR,
            Self::NotUtf8 => CloseCode::INVALID_DATA,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            Self::Deflate(error) => error.close_code(),
        }
    }
}

impl From<FrameError> for MessageError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<CloseError> for MessageError {
    fn from(error: CloseError) -> Self {
        Self::Close(error)
    }
}

impl From<DecompressError> for MessageError {
    fn from(error: DecompressError) -> Self {
        Self::Deflate(error)
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Close(error) => error.fmt(f),
            Self::ContinuationOfNothing => f.write_str("continuation frame of no message"),
            Self::MessageInMessage => f.write_str("message begins before the last one ended"),
            Self::NotUtf8 => f.write_str("text message is not UTF-8"),
            Self::TooBig { bytes_max } => write!(f, "message over the {bytes_max} bytes allowed"),
            Self::Deflate(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MessageError {}

#[cfg(test)]
mod tests;
