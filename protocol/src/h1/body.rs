//! Message bodies (RFC 9112 §6): how one ends, and an incremental decoder with a limit.

use alloc::vec::Vec;
use core::fmt;

use super::chunked::ChunkedDecoder;

/// How the body of a request ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// `Content-Length`: so many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`: until the last chunk and the trailer.
    Chunked,
}

/// Why a body is refused. The connection is to be closed once the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// More data than the limit.
    TooLong {
        /// The limit, in bytes of data.
        max: u64,
    },
    /// A chunk size without digits, or something else than an extension or CRLF after it (RFC 9112 §7.1).
    InvalidChunkSize {
        /// The byte.
        byte: u8,
    },
    /// A chunk size of more digits than 64 bits need (RFC 9112 §7.1: "recipients MUST anticipate potentially
    /// large hexadecimal numerals").
    ChunkSizeTooLong {
        /// The limit, in digits.
        max: usize,
    },
    /// No CRLF after the data of a chunk (RFC 9112 §7.1).
    InvalidChunkEnd {
        /// The byte that stands there.
        byte: u8,
    },
    /// A control character in a chunk extension (RFC 9112 §7.1.1).
    InvalidChunkExtension {
        /// The byte.
        byte: u8,
    },
    /// More bytes of chunk extensions in one body than the limit (RFC 9112 §7.1.1).
    ChunkExtensionsTooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// A trailer line that is no field line (RFC 9112 §7.1.2).
    InvalidTrailer {
        /// The byte.
        byte: u8,
    },
    /// More bytes of trailer than the limit.
    TrailerTooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// A line of the chunk framing ends with LF alone.
    BareLineFeed,
    /// A CR that no LF follows in the chunk framing.
    BareCarriageReturn,
}

impl BodyError {
    /// The status with which a server answers.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLong { .. } => 413,
            Self::TrailerTooLong { .. } => 431,
            _ => 400,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => write!(f, "body of more than {max} bytes"),
            Self::InvalidChunkSize { byte } => write!(f, "chunk size: byte {byte:#04x} is not allowed"),
            Self::ChunkSizeTooLong { max } => write!(f, "chunk size of more than {max} digits"),
            Self::InvalidChunkEnd { byte } => write!(f, "chunk data: byte {byte:#04x} instead of CR LF"),
            Self::InvalidChunkExtension { byte } => {
                write!(f, "chunk extension: byte {byte:#04x} is not allowed")
            }
            Self::ChunkExtensionsTooLong { max } => write!(f, "chunk extensions of more than {max} bytes"),
            Self::InvalidTrailer { byte } => write!(f, "trailer: byte {byte:#04x} is not allowed"),
            Self::TrailerTooLong { max } => write!(f, "trailer of more than {max} bytes"),
            Self::BareLineFeed => f.write_str("chunk line that ends with LF alone; CR LF is required"),
            Self::BareCarriageReturn => f.write_str("CR without LF in a chunk line"),
        }
    }
}

impl core::error::Error for BodyError {}

/// Decodes a body piece by piece, as it comes.
///
/// # Examples
/// ```
/// use stentor_protocol::h1::body::{BodyDecoder, BodyFraming};
///
/// let mut body = BodyDecoder::new(BodyFraming::Chunked, 1024)?;
/// let mut data = Vec::new();
/// let used = body.decode(b"5\r\nhello\r\n0\r\n\r\nGET ", &mut data)?;
/// assert_eq!((&*data, used, body.is_done()), (&b"hello"[..], 15, true));
/// # Ok::<(), stentor_protocol::h1::BodyError>(())
/// ```
#[derive(Debug)]
pub struct BodyDecoder(Kind);

#[derive(Debug)]
enum Kind {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(ChunkedDecoder),
}

impl BodyDecoder {
    /// A decoder for a body of at most `max_bytes` of data.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] at once if `Content-Length` is over `max_bytes`.
    pub fn new(framing: BodyFraming, max_bytes: u64) -> Result<Self, BodyError> {
        match framing {
            BodyFraming::None => Ok(Self(Kind::Length(0))),
            BodyFraming::Length(length) if length > max_bytes => Err(BodyError::TooLong { max: max_bytes }),
            BodyFraming::Length(length) => Ok(Self(Kind::Length(length))),
            BodyFraming::Chunked => Ok(Self(Kind::Chunked(ChunkedDecoder::new(max_bytes)))),
        }
    }

    /// Appends the data in `input` to `out` and returns how many bytes of `input` belonged to the body: all
    /// of them unless it is done. What follows is the next message.
    ///
    /// # Errors
    /// [`BodyError`] as soon as the bytes cannot become a valid body; `out` then has the data before the
    /// fault, and every later call returns the same.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        match &mut self.0 {
            Kind::Length(left) => Ok(take_data(left, input, out)),
            Kind::Chunked(chunks) => chunks.decode(input, out),
        }
    }

    /// Whether the whole body has come.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunks) => chunks.is_done(),
        }
    }

    /// The bytes of data that are still to come, if `Content-Length` tells.
    pub fn bytes_left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(_) => None,
        }
    }
}

/// Moves at most `left` bytes of `input` to `out`, and counts them off.
pub(super) fn take_data(left: &mut u64, input: &[u8], out: &mut Vec<u8>) -> usize {
    let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    let (data, _) = input.split_at(count);
    out.extend_from_slice(data);
    *left -= count as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_so_many_bytes_and_leaves_the_rest() {
        let mut body = BodyDecoder::new(BodyFraming::Length(5), 5).unwrap();
        let mut data = Vec::new();
        assert_eq!(body.decode(b"", &mut data), Ok(0));
        assert_eq!((body.decode(b"he", &mut data), body.bytes_left()), (Ok(2), Some(3)));
        assert!(!body.is_done());
        assert_eq!(body.decode(b"lloGET", &mut data), Ok(3));
        assert_eq!((&*data, body.is_done()), (&b"hello"[..], true));
        assert_eq!(body.decode(b"GET", &mut data), Ok(0));
        assert_eq!(data, b"hello");
    }

    #[test]
    fn a_length_over_the_limit_is_413_before_any_byte() {
        let fault = BodyDecoder::new(BodyFraming::Length(6), 5).unwrap_err();
        assert_eq!((fault, fault.status()), (BodyError::TooLong { max: 5 }, 413));
        assert!(BodyDecoder::new(BodyFraming::Length(u64::MAX), u64::MAX - 1).is_err());
    }

    #[test]
    fn no_body_is_done_at_once() {
        for framing in [BodyFraming::None, BodyFraming::Length(0)] {
            let mut body = BodyDecoder::new(framing, 0).unwrap();
            assert!(body.is_done());
            assert_eq!(body.decode(b"GET", &mut Vec::new()), Ok(0));
        }
    }

    #[test]
    fn a_chunked_body_is_limited_by_its_data() {
        let mut body = BodyDecoder::new(BodyFraming::Chunked, 3).unwrap();
        let mut data = Vec::new();
        assert_eq!(body.decode(b"2\r\nab\r\n1\r\nc\r\n", &mut data), Ok(13));
        assert_eq!((body.is_done(), body.bytes_left()), (false, None));
        let too_long = Err(BodyError::TooLong { max: 3 });
        assert_eq!(body.decode(b"1", &mut data), too_long, "told by the size, before the data");
        assert_eq!(body.decode(b"\r\nd\r\n0\r\n\r\n", &mut data), too_long, "and told again");
        assert_eq!((&*data, body.is_done()), (&b"abc"[..], false));
    }
}
