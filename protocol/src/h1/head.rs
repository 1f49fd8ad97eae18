//! What request and response heads share: limits, faults, field lookups, and the walk that names the first fault.
//!
//! `httparse` reads a head fast but tolerates more than we do and does not say which field is at fault. So a head that
//! it accepts is checked for what it tolerates ([`has_strict_line_ends`]), and a head that is partial or refused is
//! walked byte by byte ([`Walk`]). The walk looks at one byte after the other and stops at the first fault, so a fault
//! is told as soon as its byte has come, and telling it later, with more bytes, gives the same answer.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// Most fields that any head may have, whatever [`HeadLimits::fields`] says.
pub const FIELDS_MAX: usize = 128;

/// Longest method, in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// The limits of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes from the first of the start line to the last of the empty line. RFC 9112 §3 recommends to take
    /// request lines of at least 8,000 bytes.
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
    /// HTTP/1.0 (RFC 1945): no chunks, and the connection ends with the answer unless both sides say otherwise.
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

/// Why a head is refused. After one of these the place where the next message begins is not known: the connection is to
/// be closed once the answer is sent.
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
    /// More than one `Content-Length`, or a list of them, even of equal ones (RFC 9110 §8.6 allows to refuse these).
    RepeatedContentLength,
    /// `Content-Length` is not made of digits (RFC 9110 §8.6).
    InvalidContentLength,
    /// `Content-Length` is over 2^64 - 1.
    ContentLengthTooLarge,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1).
    TransferEncodingInHttp10,
    /// `Transfer-Encoding` that does not end with `chunked`, has it twice, or is no list of codings (RFC 9112 §6.3).
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

    /// The field at fault, if it is one field. As the peer wrote it, so its length is at most that of the head.
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

/// Which start line a head has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    RequestLine,
    StatusLine,
}

/// The first fault of `head`, which may be cut anywhere; `None` if what is there can still become a valid head. Judges
/// bytes and their number, not what the fields say.
pub(super) fn first_fault(head: &[u8], start: Start, limits: &HeadLimits) -> Option<HeadError> {
    let mut walk = Walk { rest: head };
    let faults = match start {
        Start::RequestLine => walk.request_line(),
        Start::StatusLine => walk.status_line(),
    };
    match faults.and_then(|()| walk.fields(limits.fields_max())) {
        Err(Stop::Fault(fault)) => Some(fault),
        Err(Stop::Cut) | Ok(()) => None,
    }
}

/// Why a walk ended before the end of the head.
enum Stop {
    /// No more bytes.
    Cut,
    Fault(HeadError),
}

impl From<HeadError> for Stop {
    fn from(fault: HeadError) -> Self {
        Self::Fault(fault)
    }
}

struct Walk<'b> {
    rest: &'b [u8],
}

impl<'b> Walk<'b> {
    fn request_line(&mut self) -> Result<(), Stop> {
        // More than the limit is a fault even before the byte that ends the method has come.
        let method = self.take_while(is_token_byte);
        if method.len() > METHOD_BYTES_MAX {
            return Err(HeadError::MethodTooLong { max: METHOD_BYTES_MAX }.into());
        }
        let byte = self.next()?;
        if method.is_empty() || byte != b' ' {
            return Err(HeadError::InvalidMethod { byte }.into());
        }
        let target = self.take_while(is_target_byte);
        match self.next()? {
            b' ' if !target.is_empty() => {}
            b' ' => return Err(HeadError::InvalidRequestLine.into()),
            b'\r' | b'\n' => return Err(HeadError::InvalidRequestLine.into()),
            byte => return Err(HeadError::InvalidTargetByte { byte }.into()),
        }
        self.version(HeadError::InvalidRequestLine)?;
        let byte = self.next()?;
        self.line_end(byte, HeadError::InvalidRequestLine)
    }

    fn status_line(&mut self) -> Result<(), Stop> {
        self.version(HeadError::InvalidStatusLine)?;
        if self.next()? != b' ' {
            return Err(HeadError::InvalidStatusLine.into());
        }
        for _ in 0..3 {
            if !self.next()?.is_ascii_digit() {
                return Err(HeadError::InvalidStatusLine.into());
            }
        }
        // The SP belongs to the line even where the reason is empty (RFC 9112 §4), but many servers leave it out.
        let byte = match self.next()? {
            b' ' => {
                self.take_while(is_value_byte);
                self.next()?
            }
            byte => byte,
        };
        self.line_end(byte, HeadError::InvalidStatusLine)
    }

    fn version(&mut self, otherwise: HeadError) -> Result<(), Stop> {
        for expected in *b"HTTP/" {
            if self.next()? != expected {
                return Err(otherwise.into());
            }
        }
        let (major, point, minor) = (self.next()?, self.next()?, self.next()?);
        if !major.is_ascii_digit() || point != b'.' || !minor.is_ascii_digit() {
            return Err(otherwise.into());
        }
        match (major, minor) {
            (b'1', b'0' | b'1') => Ok(()),
            _ => Err(HeadError::UnsupportedVersion { major: major - b'0', minor: minor - b'0' }.into()),
        }
    }

    fn fields(&mut self, max: usize) -> Result<(), Stop> {
        for _ in 0..max {
            if self.rest.first() == Some(&b'\r') {
                return self.head_end();
            }
            self.field()?;
        }
        match self.rest.first() {
            Some(b'\r') => self.head_end(),
            Some(_) => Err(HeadError::TooManyFields { max }.into()),
            None => Err(Stop::Cut),
        }
    }

    fn head_end(&mut self) -> Result<(), Stop> {
        let byte = self.next()?;
        self.line_end(byte, HeadError::BareCarriageReturn)
    }

    fn field(&mut self) -> Result<(), Stop> {
        match self.rest.first() {
            Some(b'\n') => return Err(HeadError::BareLineFeed.into()),
            Some(b' ' | b'\t') => return Err(HeadError::FoldedField.into()),
            _ => {}
        }
        let name = self.take_while(is_token_byte);
        match self.next()? {
            b':' if !name.is_empty() => {}
            b' ' | b'\t' => return Err(HeadError::SpaceBeforeColon { field: name_of(name) }.into()),
            byte => return Err(HeadError::InvalidFieldName { byte }.into()),
        }
        self.take_while(is_value_byte);
        let byte = self.next()?;
        self.line_end(byte, HeadError::InvalidFieldValue { field: name_of(name), byte })
    }

    /// `byte` must be the CR of a line end.
    fn line_end(&mut self, byte: u8, otherwise: HeadError) -> Result<(), Stop> {
        match byte {
            b'\r' if self.next()? == b'\n' => Ok(()),
            b'\r' => Err(HeadError::BareCarriageReturn.into()),
            b'\n' => Err(HeadError::BareLineFeed.into()),
            _ => Err(otherwise.into()),
        }
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let (&byte, rest) = self.rest.split_first().ok_or(Stop::Cut)?;
        self.rest = rest;
        Ok(byte)
    }

    fn take_while(&mut self, belongs: fn(u8) -> bool) -> &'b [u8] {
        let length = self.rest.iter().position(|&byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Whether every LF of `head` follows a CR. (That every CR precedes an LF is what `httparse` checks.)
pub(super) fn has_strict_line_ends(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().all(|&byte| {
        let is_strict = byte != b'\n' || before == b'\r';
        before = byte;
        is_strict
    })
}

/// `tchar` (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Visible ASCII but `#`: no target has a fragment (RFC 9112 §3.2). What browsers send unencoded though RFC 3986 would
/// have it encoded (`{`, `|`, `"` …) has one reading only, so it is taken.
pub(super) fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// `field-vchar`, SP and HTAB (RFC 9110 §5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=0x7E | 0x80..)
}

/// The fields of a head as text.
pub(super) fn fields_of<'b>(parsed: &[httparse::Header<'b>]) -> Result<Vec<(&'b str, &'b str)>, HeadError> {
    let mut fields = Vec::with_capacity(parsed.len());
    for field in parsed {
        let value = core::str::from_utf8(field.value)
            .map_err(|_| HeadError::FieldNotUtf8 { field: field.name.into() })?;
        fields.push((field.name, trim(value)));
    }
    Ok(fields)
}

/// Without the optional white space around it (RFC 9110 §5.6.3).
pub(super) fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// The values of all fields called `name`, whatever their case, in their order.
pub(super) fn named<'h, 'b: 'h>(
    fields: &'h [(&'b str, &'b str)],
    name: &'h str,
) -> impl Iterator<Item = &'b str> + 'h {
    fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
}

/// Whether the lists of all fields called `name` have `token`, whatever its case (RFC 9110 §5.6.1).
pub(super) fn lists(fields: &[(&str, &str)], name: &str, token: &str) -> bool {
    named(fields, name).flat_map(|value| value.split(',')).any(|item| trim(item).eq_ignore_ascii_case(token))
}

/// Whether another message may follow on the connection (RFC 9112 §9.3).
pub(super) fn keeps_alive(version: Version, fields: &[(&str, &str)]) -> bool {
    !lists(fields, "Connection", "close")
        && (version == Version::Http11 || lists(fields, "Connection", "keep-alive"))
}

/// The body length that `fields` give: `Ok(Some(None))` is chunked, `Ok(Some(Some(n)))` is n bytes, `Ok(None)` neither
/// (RFC 9112 §6.3).
pub(super) fn length_of(version: Version, fields: &[(&str, &str)]) -> Result<Option<Option<u64>>, HeadError> {
    if is_chunked(version, fields)? {
        return Ok(Some(None));
    }
    Ok(content_length_of(fields)?.map(Some))
}

fn is_chunked(version: Version, fields: &[(&str, &str)]) -> Result<bool, HeadError> {
    let mut values = named(fields, "Transfer-Encoding").peekable();
    let Some(first) = values.peek().copied() else { return Ok(false) };
    if version == Version::Http10 {
        return Err(HeadError::TransferEncodingInHttp10);
    }
    // "ought to be handled as an error" (RFC 9112 §6.3): it is how requests are smuggled past a proxy.
    if named(fields, "Content-Length").next().is_some() {
        return Err(HeadError::LengthAndTransferEncoding);
    }
    if named(fields, "Transfer-Encoding").count() == 1 && first.eq_ignore_ascii_case("chunked") {
        return Ok(true);
    }
    let codings: Vec<&str> = values.flat_map(|value| value.split(',')).map(trim).collect();
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    let is_token = |coding: &&str| !coding.is_empty() && coding.bytes().all(is_token_byte);
    match codings.split_last() {
        // Whoever does not know the other codings still knows where such a body ends, so 501 is an honest answer;
        // all else has no known end (RFC 9112 §6.3).
        Some((last, others))
            if is_chunked(last) && others.iter().all(is_token) && !others.iter().any(is_chunked) =>
        {
            Err(HeadError::UnsupportedTransferEncoding)
        }
        _ => Err(HeadError::InvalidTransferEncoding),
    }
}

fn content_length_of(fields: &[(&str, &str)]) -> Result<Option<u64>, HeadError> {
    let mut values = named(fields, "Content-Length");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || value.contains(',') {
        return Err(HeadError::RepeatedContentLength);
    }
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeadError::InvalidContentLength);
    }
    value.parse().map(Some).map_err(|_| HeadError::ContentLengthTooLarge)
}

fn name_of(name: &[u8]) -> Box<str> {
    core::str::from_utf8(name).unwrap_or_default().into()
}
