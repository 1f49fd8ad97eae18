//! The chunked transfer coding (RFC 9112 §7.1), both ways.

use alloc::vec::Vec;

use super::body::{BodyError, take_data};
use super::head::{is_token_byte, is_value_byte};

/// The end of a chunked body: the last chunk and an empty trailer.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Most digits of a chunk size: what 64 bits need.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 16;

/// Most bytes of chunk extensions in one body. Nobody uses them; without a limit, ten bytes a byte of data could be
/// sent that no limit on the data sees.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4096;

/// Most bytes of trailer.
pub const TRAILER_BYTES_MAX: usize = 8192;

/// Digits for which [`begin_chunk`] leaves room: sizes up to 4,095 bytes, so that most events stay where they are
/// written.
const DIGITS_RESERVED: usize = 3;

/// Appends `data` as one chunk, or nothing if it is empty: a chunk of size 0 would end the body.
///
/// # Examples
/// ```
/// let mut out = Vec::new();
/// stentor_protocol::h1::chunked::encode_chunk(b"hello, world!", &mut out);
/// assert_eq!(out, b"d\r\nhello, world!\r\n");
/// ```
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let (digits, count) = hex(data.len());
    let (_, digits) = digits.split_at(digits.len() - count);
    out.reserve(count + 2 + data.len() + 2);
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends what `write` appends as one chunk, or nothing if it appends nothing.
///
/// # Examples
/// ```
/// use stentor_protocol::h1::chunked::chunk_with;
///
/// let mut out = Vec::new();
/// chunk_with(&mut out, |out| out.extend_from_slice(b"hello"));
/// assert_eq!(out, b"5\r\nhello\r\n");
/// ```
pub fn chunk_with<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let chunk = begin_chunk(out);
    let result = write(out);
    end_chunk(chunk, out);
    result
}

/// A chunk whose data is being written; to be given to [`end_chunk`].
#[derive(Debug)]
#[must_use = "a chunk that is not ended has no size"]
pub struct OpenChunk {
    /// Where the chunk begins in the buffer: the place of its size.
    start: usize,
}

/// Begins a chunk: what is appended to `out` from now on, up to [`end_chunk`], is its data.
pub fn begin_chunk(out: &mut Vec<u8>) -> OpenChunk {
    let start = out.len();
    out.resize(start + DIGITS_RESERVED, b'0');
    out.extend_from_slice(b"\r\n");
    OpenChunk { start }
}

/// Ends a chunk: writes its size, without leading zeros, and its last CRLF. A chunk without data is taken back, since
/// one of size 0 would end the body.
///
/// Cost: data whose size has not three digits is moved by a few bytes.
///
/// # Panics
/// If `out` has been cut to less than it was when the chunk began.
pub fn end_chunk(chunk: OpenChunk, out: &mut Vec<u8>) {
    let reserved_end = chunk.start + DIGITS_RESERVED;
    let length = out.len().checked_sub(reserved_end + 2).expect("the buffer was cut inside an open chunk");
    if length == 0 {
        out.truncate(chunk.start);
        return;
    }
    let (digits, count) = hex(length);
    let (_, digits) = digits.split_at(digits.len() - count);
    out.splice(chunk.start..reserved_end, digits.iter().copied());
    out.extend_from_slice(b"\r\n");
}

/// The digits of `number`, at the end of the array, and their count; at least one.
fn hex(mut number: usize) -> ([u8; CHUNK_SIZE_DIGITS_MAX], usize) {
    let mut digits = [b'0'; CHUNK_SIZE_DIGITS_MAX];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[number & 0xF];
        number >>= 4;
        count += 1;
        if number == 0 {
            break;
        }
    }
    (digits, count)
}

/// Decodes a chunked body piece by piece. Extensions and trailer are checked, limited and dropped.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Data that may still come before the limit.
    bytes_left: u64,
    bytes_max: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size; so many have come.
    Size {
        size: u64,
        digits: usize,
    },
    /// White space after the size, which only an extension may follow.
    SpaceAfterSize {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// The CR after size and extension has come.
    SizeCr {
        size: u64,
    },
    /// So many bytes of data are still to come in this chunk.
    Data {
        left: u64,
    },
    /// The data is whole.
    DataEnd,
    /// The CR after the data has come.
    DataCr,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    /// The CR after a trailer line has come.
    TrailerCr,
    /// The CR of the empty line has come.
    LastCr,
    Done,
    Failed(BodyError),
}

impl ChunkedDecoder {
    /// A decoder for at most `max_bytes` of data.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            bytes_left: max_bytes,
            bytes_max: max_bytes,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Appends the data in `input` to `out` and returns how many bytes of `input` belonged to the body: all of them
    /// unless it is done.
    ///
    /// # Errors
    /// [`BodyError`] as soon as the bytes cannot become a valid body, [`BodyError::TooLong`] already when a chunk's size
    /// says so; `out` then has the data before the fault, and every later call returns the same.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut rest = input;
        loop {
            if let State::Data { left } = &mut self.state {
                let count = take_data(left, rest, out);
                self.bytes_left -= count as u64;
                (_, rest) = rest.split_at(count);
                if *left == 0 {
                    self.state = State::DataEnd;
                }
            }
            match self.state {
                State::Done => return Ok(input.len() - rest.len()),
                State::Failed(error) => return Err(error),
                _ => {}
            }
            let Some((&byte, after)) = rest.split_first() else { return Ok(input.len()) };
            rest = after;
            self.state = self.after(byte).unwrap_or_else(State::Failed);
        }
    }

    /// Whether the last chunk and the trailer have come: the body is whole.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the last chunk has come; the trailer may still be missing.
    pub fn has_last_chunk(&self) -> bool {
        matches!(
            self.state,
            State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerCr
                | State::LastCr
                | State::Done
        )
    }

    /// Whether nothing of a chunk is half received: a body that is cut here has lost no part of a chunk.
    pub fn is_between_chunks(&self) -> bool {
        matches!(self.state, State::Size { digits: 0, .. } | State::Done)
    }

    /// The state after `byte` of framing.
    fn after(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.after_digit(size, digits, byte)
            }
            (State::Size { digits: 0, .. }, _) => Err(BodyError::InvalidChunkSize { byte }),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => Ok(State::SizeCr { size }),
            (State::Size { size, .. } | State::SpaceAfterSize { size }, b';') => {
                self.count_extension()?;
                Ok(State::Extension { size })
            }
            // Where no extension follows, white space after the size is refused.
            (State::Size { size, .. } | State::SpaceAfterSize { size }, b' ' | b'\t') => {
                self.count_extension()?;
                Ok(State::SpaceAfterSize { size })
            }
            (State::Size { .. } | State::Extension { .. }, b'\n') => Err(BodyError::BareLineFeed),
            (State::Size { .. } | State::SpaceAfterSize { .. }, _) => {
                Err(BodyError::InvalidChunkSize { byte })
            }
            (State::Extension { size }, _) if is_value_byte(byte) => {
                self.count_extension()?;
                Ok(State::Extension { size })
            }
            (State::Extension { .. }, _) => Err(BodyError::InvalidChunkExtension { byte }),
            (State::SizeCr { size: 0 }, b'\n') => Ok(State::TrailerStart),
            (State::SizeCr { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataEnd, b'\r') => Ok(State::DataCr),
            (State::DataEnd, _) => Err(BodyError::InvalidChunkEnd { byte }),
            (State::DataCr, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::TrailerStart, b'\r') => Ok(State::LastCr),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => self.after_trailer(byte),
            (State::TrailerCr, b'\n') => Ok(State::TrailerStart),
            (State::LastCr, b'\n') => Ok(State::Done),
            (State::SizeCr { .. } | State::DataCr | State::TrailerCr | State::LastCr, _) => {
                Err(BodyError::BareCarriageReturn)
            }
            // `decode` gives no byte of framing to these.
            (State::Data { .. } | State::Done | State::Failed(_), _) => Ok(self.state),
        }
    }

    fn after_digit(&self, size: u64, digits: usize, byte: u8) -> Result<State, BodyError> {
        if digits == CHUNK_SIZE_DIGITS_MAX {
            return Err(BodyError::ChunkSizeTooLong { max: CHUNK_SIZE_DIGITS_MAX });
        }
        let digit = (byte as char).to_digit(16).map_or(0, u64::from);
        // Sixteen digits fit 64 bits, so nothing is shifted out.
        let size = size << 4 | digit;
        if size > self.bytes_left {
            return Err(BodyError::TooLong { max: self.bytes_max });
        }
        Ok(State::Size { size, digits: digits + 1 })
    }

    fn after_trailer(&mut self, byte: u8) -> Result<State, BodyError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BodyError::TrailerTooLong { max: TRAILER_BYTES_MAX });
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerCr),
            (_, b'\n') => Err(BodyError::BareLineFeed),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            _ => Err(BodyError::InvalidTrailer { byte }),
        }
    }

    fn count_extension(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        match self.extension_bytes {
            ..=CHUNK_EXTENSION_BYTES_MAX => Ok(()),
            _ => Err(BodyError::ChunkExtensionsTooLong { max: CHUNK_EXTENSION_BYTES_MAX }),
        }
    }
}
