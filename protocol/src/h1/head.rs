//! What request and response heads share: version, limits, and what can be wrong with a head.

use alloc::boxed::Box;
use core::fmt;

/// Most fields that any head may have, whatever [`HeadLimits::fields`] says.
pub const FIELDS_MAX: usize = 128;

/// Longest method, in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// The limits of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes from the first of the start line to the last of the empty line. RFC 9112 §3 recommends to
    /// take request lines of at least 8,000 bytes.
    pub bytes: usize,
    /// Most fields; what is over [`FIELDS_MAX`] counts as that.
    pub fields: usize,
}

impl HeadLimits {
    pub(super) fn fields_max(&self) -> usize {
        self.fields.min(FIELDS_MAX)
    }
}

/// A version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945): no chunks, and the connection ends with the answer unless both sides say
    /// otherwise.
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

impl Version {
    /// The version as it stands in a start line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    pub(super) fn from_minor(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}

/// Why a head is refused. After one of these the place where the next message begins is not known: the
/// connection is to be closed once the answer is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// The method is empty or has a byte that no token has (RFC 9110 §9.1).
    InvalidMethod {
        /// The byte.
        byte: u8,
    },
    /// The method is longer than any that exists (RFC 9112 §3).
    MethodTooLong {
        /// The limit, [`METHOD_BYTES_MAX`].
        max: usize,
    },
    /// The request target has a byte that must be percent-encoded, or none at all (RFC 9112 §3.2).
    InvalidTargetByte {
        /// The byte.
        byte: u8,
    },
    /// The request target has none of the four forms, or one that the method does not allow (RFC 9112 §3.2).
    InvalidTarget {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The request line alone is longer than the whole head may be (RFC 9112 §3).
    TargetTooLong {
        /// The limit, [`HeadLimits::bytes`].
        max: usize,
    },
    /// The request line is not `method SP target SP version CRLF` (RFC 9112 §3).
    InvalidRequestLine,
    /// The status line is not `version SP status SP [reason] CRLF` (RFC 9112 §4).
    InvalidStatusLine,
    /// The version is neither 1.0 nor 1.1 (RFC 9110 §15.6.6).
    UnsupportedVersion {
        /// The digit before the point.
        major: u8,
        /// The digit after the point.
        minor: u8,
    },
    /// A line ends with LF alone (RFC 9112 §2.2 allows to take it; two recipients may then see two messages).
    BareLineFeed,
    /// A CR that no LF follows (RFC 9112 §2.2).
    BareCarriageReturn,
    /// A line begins with white space: folding, obsolete (RFC 9112 §5.2), or a field before the first (§2.2).
    FoldedField,
    /// A field name is empty or has a byte that no token has (RFC 9110 §5.1).
    InvalidFieldName {
        /// The byte.
        byte: u8,
    },
    /// White space between a field's name and its colon (RFC 9112 §5.1).
    SpaceBeforeColon {
        /// The field.
        field: Box<str>,
    },
    /// NUL or another control character in a value (RFC 9110 §5.5).
    InvalidFieldValue {
        /// The field.
        field: Box<str>,
        /// The byte.
        byte: u8,
    },
    /// Bytes over 0x7F that are not UTF-8 (RFC 9110 §5.5 leaves their meaning open).
    FieldNotUtf8 {
        /// The field.
        field: Box<str>,
    },
    /// The head is longer than its limit (RFC 6585 §5).
    TooLong {
        /// The limit, [`HeadLimits::bytes`].
        max: usize,
    },
    /// The head has more fields than its limit (RFC 6585 §5).
    TooManyFields {
        /// The limit, [`HeadLimits::fields`].
        max: usize,
    },
    /// An HTTP/1.1 request without `Host` (RFC 9112 §3.2).
    MissingHost,
    /// More than one `Host` (RFC 9112 §3.2).
    RepeatedHost,
    /// `Host` is not a host and a port (RFC 9112 §3.2).
    InvalidHost,
    /// `Host` names another host than the target in absolute form (RFC 9112 §3.2 demands that they agree).
    HostDiffers,
    /// `Content-Length` and `Transfer-Encoding` in one head (RFC 9112 §6.3).
    LengthAndTransferEncoding,
    /// More than one `Content-Length`, or a list of them, even of equal ones (RFC 9110 §8.6 allows to refuse
    /// these).
    RepeatedContentLength,
    /// `Content-Length` is not made of digits (RFC 9110 §8.6).
    InvalidContentLength,
    /// `Content-Length` is over 2^64 - 1.
    ContentLengthTooLarge,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1).
    TransferEncodingInHttp10,
    /// `Transfer-Encoding` that does not end with `chunked`, has it twice, or is no list of codings (RFC 9112
    /// §6.3).
    InvalidTransferEncoding,
    /// A coding before `chunked` (RFC 9112 §6.1).
    UnsupportedTransferEncoding,
    /// `Expect` is something else than `100-continue` (RFC 9110 §10.1.1).
    UnsupportedExpectation,
}

impl HeadError {
    /// The status with which a server answers.
    pub fn status(&self) -> u16 {
        match self {
            Self::ContentLengthTooLarge => 413,
            Self::TargetTooLong { .. } => 414,
            Self::UnsupportedExpectation => 417,
            Self::TooLong { .. } | Self::TooManyFields { .. } => 431,
            Self::MethodTooLong { .. } | Self::UnsupportedTransferEncoding => 501,
            Self::UnsupportedVersion { .. } => 505,
            _ => 400,
        }
    }

    /// The field at fault, if it is one field. As the peer wrote it, so its length is at most that of the
    /// head.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::SpaceBeforeColon { field }
            | Self::InvalidFieldValue { field, .. }
            | Self::FieldNotUtf8 { field } => Some(field),
            Self::MissingHost | Self::RepeatedHost | Self::InvalidHost | Self::HostDiffers => Some("Host"),
            Self::RepeatedContentLength | Self::InvalidContentLength | Self::ContentLengthTooLarge => {
                Some("Content-Length")
            }
            Self::LengthAndTransferEncoding
            | Self::TransferEncodingInHttp10
            | Self::InvalidTransferEncoding
            | Self::UnsupportedTransferEncoding => Some("Transfer-Encoding"),
            Self::UnsupportedExpectation => Some("Expect"),
            _ => None,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidMethod { byte } => write!(f, "method: byte {byte:#04x} is not allowed in a token"),
            Self::MethodTooLong { max } => write!(f, "method of more than {max} bytes"),
            Self::InvalidTargetByte { byte } => {
                write!(f, "request target: byte {byte:#04x} must be percent-encoded")
            }
            Self::InvalidTarget { rule } => write!(f, "request target: {rule}"),
            Self::TargetTooLong { max } => {
                write!(f, "request line of more than {max} bytes, the limit of the whole head")
            }
            Self::InvalidRequestLine => f.write_str("request line is not \"method target HTTP/1.1\""),
            Self::InvalidStatusLine => f.write_str("status line is not \"HTTP/1.1 status reason\""),
            Self::UnsupportedVersion { major, minor } => {
                write!(f, "version HTTP/{major}.{minor}; only HTTP/1.0 and HTTP/1.1 are spoken here")
            }
            Self::BareLineFeed => f.write_str("line that ends with LF alone; CR LF is required"),
            Self::BareCarriageReturn => f.write_str("CR without LF"),
            Self::FoldedField => f.write_str("line that begins with white space; folded fields are refused"),
            Self::InvalidFieldName { byte } => {
                write!(f, "field name: byte {byte:#04x} is not allowed in a token")
            }
            Self::SpaceBeforeColon { field } => write!(f, "{field}: white space before the colon"),
            Self::InvalidFieldValue { field, byte } => {
                write!(f, "{field}: control character {byte:#04x} in the value")
            }
            Self::FieldNotUtf8 { field } => write!(f, "{field}: value is not UTF-8"),
            Self::TooLong { max } => write!(f, "head of more than {max} bytes"),
            Self::TooManyFields { max } => write!(f, "head of more than {max} fields"),
            Self::MissingHost => f.write_str("Host: missing; HTTP/1.1 requires it"),
            Self::RepeatedHost => f.write_str("Host: given more than once"),
            Self::InvalidHost => f.write_str("Host: not a host with an optional port"),
            Self::HostDiffers => f.write_str("Host: differs from the host of the request target"),
            Self::LengthAndTransferEncoding => {
                f.write_str("Transfer-Encoding: given together with Content-Length")
            }
            Self::RepeatedContentLength => f.write_str("Content-Length: given more than once"),
            Self::InvalidContentLength => f.write_str("Content-Length: not a decimal number"),
            Self::ContentLengthTooLarge => f.write_str("Content-Length: over 18446744073709551615"),
            Self::TransferEncodingInHttp10 => f.write_str("Transfer-Encoding: not allowed in HTTP/1.0"),
            Self::InvalidTransferEncoding => f.write_str("Transfer-Encoding: must be exactly \"chunked\""),
            Self::UnsupportedTransferEncoding => {
                f.write_str("Transfer-Encoding: no coding but \"chunked\" is implemented")
            }
            Self::UnsupportedExpectation => f.write_str("Expect: only \"100-continue\" can be met"),
        }
    }
}

impl core::error::Error for HeadError {}
