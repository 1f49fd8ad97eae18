//! The chunked transfer coding (RFC 9112 §7.1), both ways.

use alloc::vec::Vec;

use super::body::{BodyError, take_data};
use super::strict::{is_token_byte, is_value_byte};

/// The end of a chunked body: the last chunk and an empty trailer.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Most digits of a chunk size: what 64 bits need.
pub const CHUNK_SIZE_DIGITS_MAX: usize = 16;

/// Most bytes of chunk extensions in one body. Nobody uses them; without a limit, ten bytes a byte of data
/// could be sent that no limit on the data sees.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4096;

/// Most bytes of trailer.
pub const TRAILER_BYTES_MAX: usize = 8192;

/// Digits for which [`begin_chunk`] leaves room: sizes up to 4,095 bytes, so that most events stay where they
/// are written.
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

/// Ends a chunk: writes its size, without leading zeros, and its last CRLF. A chunk without data is taken
/// back, since one of size 0 would end the body.
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

    /// Appends the data in `input` to `out` and returns how many bytes of `input` belonged to the body: all
    /// of them unless it is done.
    ///
    /// # Errors
    /// [`BodyError`] as soon as the bytes cannot become a valid body, [`BodyError::TooLong`] already when a
    /// chunk's size says so; `out` then has the data before the fault, and every later call returns the same.
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    /// What a decoder with a limit of 1 MiB makes of `input`: bytes used, data, and whether the body is
    /// whole.
    fn decode(input: &[u8]) -> Result<(usize, Vec<u8>, bool), BodyError> {
        let mut chunks = ChunkedDecoder::new(1024 * 1024);
        let mut data = Vec::new();
        let used = chunks.decode(input, &mut data)?;
        Ok((used, data, chunks.is_done()))
    }

    #[test]
    fn whole_bodies_are_read_and_the_rest_is_left() {
        // RFC 9112 §7.1 (sizes), §7.1.1 (extensions), §7.1.2 (trailer).
        let cases: [(&[u8], &[u8]); 8] = [
            (b"0\r\n\r\n", b""),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
            (b"a\r\n0123456789\r\nB\r\n0123456789A\r\n0\r\n\r\n", b"01234567890123456789A"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
            (b"1;a=b;c=\"d\xC3\xA9\"\r\nx\r\n0 \t; end\r\n\r\n", b"x"),
            (b"1\r\nx\r\n0\r\nDigest: a\r\nX:\r\n\r\n", b"x"),
            (b"0\r\nContent-Length: 5\r\n\r\n", b""),
        ];
        for (input, data) in cases {
            let followed = [input, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(decode(&followed), Ok((input.len(), data.to_vec(), true)), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_body_cut_at_any_byte_is_taken_as_far_as_it_goes_and_is_not_done() {
        let input = b"5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";
        for cut in 0..=input.len() {
            let mut chunks = ChunkedDecoder::new(6);
            let mut data = Vec::new();
            assert_eq!(chunks.decode(&input[..cut], &mut data), Ok(cut), "cut at {cut}");
            assert_eq!(chunks.is_done(), cut == input.len(), "cut at {cut}");
            assert_eq!(chunks.has_last_chunk(), cut >= input.len() - 8, "cut at {cut}");
            assert_eq!(chunks.is_between_chunks(), [0, 14, 20, input.len()].contains(&cut), "cut at {cut}");
            assert_eq!(chunks.decode(&input[cut..], &mut data), Ok(input.len() - cut), "cut at {cut}");
            assert_eq!((&*data, chunks.is_done()), (&b"hello!"[..], true), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused_with_its_very_byte() {
        let cases: [(&[u8], BodyError); 22] = [
            (b"\r", BodyError::InvalidChunkSize { byte: b'\r' }),
            (b";", BodyError::InvalidChunkSize { byte: b';' }),
            (b" ", BodyError::InvalidChunkSize { byte: b' ' }),
            (b"-", BodyError::InvalidChunkSize { byte: b'-' }),
            (b"+", BodyError::InvalidChunkSize { byte: b'+' }),
            (b"0x", BodyError::InvalidChunkSize { byte: b'x' }),
            (b"5_", BodyError::InvalidChunkSize { byte: b'_' }),
            (b"5 \r", BodyError::InvalidChunkSize { byte: b'\r' }),
            (b"5 5", BodyError::InvalidChunkSize { byte: b'5' }),
            (b"5\n", BodyError::BareLineFeed),
            (b"5\rh", BodyError::BareCarriageReturn),
            (b"5;a\n", BodyError::BareLineFeed),
            (b"5;a\rb", BodyError::BareCarriageReturn),
            (b"5;a\0", BodyError::InvalidChunkExtension { byte: 0 }),
            (b"1\r\nxx", BodyError::InvalidChunkEnd { byte: b'x' }),
            (b"1\r\nx\n", BodyError::InvalidChunkEnd { byte: b'\n' }),
            (b"1\r\nx\rx", BodyError::BareCarriageReturn),
            (b"0\r\n\n", BodyError::BareLineFeed),
            (b"0\r\n\rx", BodyError::BareCarriageReturn),
            (b"0\r\n:", BodyError::InvalidTrailer { byte: b':' }),
            (b"0\r\nA ", BodyError::InvalidTrailer { byte: b' ' }),
            (b"0\r\nA: b\r\n ", BodyError::InvalidTrailer { byte: b' ' }),
        ];
        for (input, fault) in cases {
            assert!(decode(&input[..input.len() - 1]).is_ok(), "{}", input.escape_ascii());
            assert_eq!(decode(input), Err(fault), "{}", input.escape_ascii());
            assert_eq!(fault.status(), 400, "{fault}");
        }
    }

    #[test]
    fn a_size_that_64_bits_cannot_hold_is_refused_and_does_not_wrap() {
        let mut chunks = ChunkedDecoder::new(u64::MAX);
        assert_eq!(chunks.decode(b"ffffffffffffffff", &mut Vec::new()), Ok(16));
        let too_long = BodyError::ChunkSizeTooLong { max: CHUNK_SIZE_DIGITS_MAX };
        assert_eq!(chunks.decode(b"f", &mut Vec::new()), Err(too_long));
        // A recipient that keeps the low 64 bits would read 1 here.
        assert_eq!(decode(b"10000000000000001"), Err(BodyError::TooLong { max: 1024 * 1024 }));
        assert_eq!(decode(b"00000000000000001"), Err(too_long), "zeros count too");
    }

    #[test]
    fn extensions_and_trailer_have_limits_for_the_whole_body() {
        let extension = vec![b'x'; CHUNK_EXTENSION_BYTES_MAX / 2 - 1];
        let chunk = [b"1;", &*extension, b"\r\nx\r\n"].concat();
        assert!(decode(&[&*chunk, &*chunk, b"0\r\n"].concat()).is_ok());
        let fault = BodyError::ChunkExtensionsTooLong { max: CHUNK_EXTENSION_BYTES_MAX };
        assert_eq!(decode(&[&*chunk, &*chunk, b"0;"].concat()), Err(fault));

        let line = format!("A: {}\r\n", "b".repeat(TRAILER_BYTES_MAX / 2 - 4));
        let trailer = format!("0\r\n{line}{line}");
        assert!(decode(format!("{trailer}\r\n").as_bytes()).unwrap().2);
        let fault = BodyError::TrailerTooLong { max: TRAILER_BYTES_MAX };
        assert_eq!(decode(format!("{trailer}A").as_bytes()), Err(fault));
        assert_eq!(fault.status(), 431);
    }

    #[test]
    fn the_two_ways_to_write_a_chunk_write_the_same() {
        for length in [0, 1, 15, 16, 255, 256, 4095, 4096, 65_535, 65_536, 1024 * 1024] {
            let data: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut at_once = b"before".to_vec();
            encode_chunk(&data, &mut at_once);
            let mut in_place = b"before".to_vec();
            chunk_with(&mut in_place, |out| data.chunks(1000).for_each(|part| out.extend_from_slice(part)));
            assert_eq!(at_once, in_place, "{length} bytes");
            let expected = format!("before{length:x}\r\n");
            match length {
                // A chunk of size 0 would end the body (RFC 9112 §7.1).
                0 => assert_eq!(at_once, b"before"),
                _ => assert!(at_once.starts_with(expected.as_bytes()), "{length} bytes"),
            }
            at_once.extend_from_slice(LAST_CHUNK);
            let used = at_once.len() - "before".len();
            assert_eq!(decode(&at_once[6..]), Ok((used, data, true)), "{length} bytes");
        }
    }

    #[test]
    fn chunk_with_gives_back_what_the_writer_says() {
        let mut out = Vec::new();
        let result: Result<(), &str> = chunk_with(&mut out, |_| Err("too long"));
        assert_eq!((result, &*out), (Err("too long"), &b""[..]));
    }
}
