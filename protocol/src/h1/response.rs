//! Response heads (RFC 9112 §4, §5): written for clients, read by the harness; reason phrases.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem::MaybeUninit;

use super::body::BodyFraming;
use super::fields;
use super::head::FIELDS_MAX;
use super::strict::{self, Start};

pub use super::date::ImfFixdate;
pub use super::head::{HeadError, HeadLimits, Version};

/// The reason phrase of `status` (RFC 9110 §15, RFC 6585, RFC 8297), empty for one that is not registered.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// A field that cannot be written: its name is no token, or its value has CR, LF, NUL or another control
/// character (RFC 9110 §5.5), which could end the head early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The name of the field.
    pub field: Box<str>,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {:?}: name or value has a byte that no field may have", self.field)
    }
}

impl core::error::Error for FieldError {}

/// Appends a response head, its empty line included.
///
/// # Errors
/// [`FieldError`] for a field that would break the head; `out` is then unchanged.
///
/// # Examples
/// ```
/// use stentor_protocol::h1::response::{Version, write_head};
///
/// let mut out = Vec::new();
/// write_head(&mut out, Version::Http11, 204, [("Allow", "GET")])?;
/// assert_eq!(out, b"HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n");
/// # Ok::<(), stentor_protocol::h1::response::FieldError>(())
/// ```
pub fn write_head<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    version: Version,
    status: u16,
    fields: impl IntoIterator<Item = (N, V)>,
) -> Result<(), FieldError> {
    let start = out.len();
    write_status_line(out, version, status);
    for (name, value) in fields {
        if let Err(error) = write_field(out, name.as_ref(), value.as_ref()) {
            out.truncate(start);
            return Err(error);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends the status line. A status that has not three digits is our own fault.
///
/// # Panics
/// If `status` is not one of 100 to 999.
pub fn write_status_line(out: &mut Vec<u8>, version: Version, status: u16) {
    assert!((100..=999).contains(&status), "status {status} has not three digits");
    let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    out.extend_from_slice(version.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line.
///
/// # Errors
/// [`FieldError`] if it would break the head; `out` is then unchanged.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), FieldError> {
    let is_name = !name.is_empty() && name.bytes().all(strict::is_token_byte);
    if !is_name || !value.bytes().all(strict::is_value_byte) {
        return Err(FieldError { field: name.into() });
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// How the body of a response ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body.
    None,
    /// `Content-Length`: so many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the server closes the connection: whether all of it came cannot be told.
    UntilClose,
}

/// A response head.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseHead<'b> {
    /// The version of the status line.
    pub version: Version,
    /// The status, 100 to 999.
    pub status: u16,
    /// The reason phrase; empty if there is none or it is not ASCII.
    pub reason: &'b str,
    /// Names and values in their order, without white space around the values.
    pub fields: Vec<(&'b str, &'b str)>,
    /// How the body ends.
    pub framing: ResponseFraming,
    /// Whether another request may be sent on this connection (RFC 9112 §9.3).
    pub keeps_alive: bool,
}

/// Decodes the response head at the start of `buf`, the answer to a request with `method`: the head and how
/// many bytes it took, or `None` if more bytes are needed. As strict as for requests. An interim head (1xx)
/// is one of its own.
///
/// # Errors
/// [`HeadError`] as soon as `buf` cannot become a head that is valid and within `limits`.
pub fn decode_head<'b>(
    buf: &'b [u8],
    limits: &HeadLimits,
    method: &str,
) -> Result<Option<(ResponseHead<'b>, usize)>, HeadError> {
    let window = buf.get(..limits.bytes).unwrap_or(buf);
    let fault = || strict::first_fault(window, Start::StatusLine, limits);
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let (slots, _) = slots.split_at_mut(limits.fields_max());
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let used = match config.parse_response_with_uninit_headers(&mut parsed, window, slots) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) | Err(_) => {
            return match fault() {
                Some(fault) => Err(fault),
                None if window.len() < limits.bytes => Ok(None),
                None => Err(HeadError::TooLong { max: limits.bytes }),
            };
        }
    };
    let taken = window.get(..used).unwrap_or(window);
    if !taken.starts_with(b"HTTP/") || !strict::has_strict_line_ends(taken) {
        return Err(fault().unwrap_or(HeadError::InvalidStatusLine));
    }
    let (status, reason) = (parsed.code.unwrap_or_default(), parsed.reason.unwrap_or_default());
    if status < 100 {
        return Err(HeadError::InvalidStatusLine);
    }
    let version = Version::from_minor(parsed.version);
    let fields = fields::from_parsed(parsed.headers)?;
    let framing = framing_of(method, status, version, &fields)?;
    let keeps_alive = framing != ResponseFraming::UntilClose && fields::keeps_alive(version, &fields);
    Ok(Some((ResponseHead { version, status, reason, fields, framing, keeps_alive }, used)))
}

impl<'b> ResponseHead<'b> {
    /// The value of the first field called `name`, whatever its case.
    pub fn field(&self, name: &str) -> Option<&'b str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
    }

    /// The values of all fields called `name`, whatever their case, in their order.
    pub fn fields_named<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'b str> + 'h {
        fields::named(&self.fields, name)
    }

    /// Whether a field called `name` lists `token`, whatever the case of both (RFC 9110 §5.6.1).
    pub fn lists(&self, name: &str, token: &str) -> bool {
        fields::lists(&self.fields, name, token)
    }
}

fn framing_of(
    method: &str,
    status: u16,
    version: Version,
    fields: &[(&str, &str)],
) -> Result<ResponseFraming, HeadError> {
    let framing = fields::framing(version, fields)?;
    // These have no body whatever their fields say; after a 2xx to CONNECT comes a tunnel (RFC 9112 §6.3, 1
    // and 2).
    if method == "HEAD" || matches!(status, 100..200 | 204 | 304) || method == "CONNECT" && status / 100 == 2
    {
        return Ok(ResponseFraming::None);
    }
    Ok(match framing {
        BodyFraming::Chunked => ResponseFraming::Chunked,
        BodyFraming::Length(length) => ResponseFraming::Length(length),
        BodyFraming::None => ResponseFraming::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const LIMITS: HeadLimits = HeadLimits { bytes: 256, fields: 4 };

    #[test]
    fn a_written_head_is_read_back_and_a_cut_one_asks_for_more() {
        let mut out = Vec::new();
        let fields = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")];
        write_head(&mut out, Version::Http11, 200, fields).unwrap();
        for cut in 0..out.len() {
            assert_eq!(decode_head(&out[..cut], &LIMITS, "GET"), Ok(None), "cut at {cut}");
        }
        let length = out.len();
        out.extend_from_slice(b"0\r\n\r\n");
        let (head, used) = decode_head(&out, &LIMITS, "GET").unwrap().unwrap();
        assert_eq!((head.version, head.status, head.reason, used), (Version::Http11, 200, "OK", length));
        assert_eq!(head.fields, fields);
        assert_eq!((head.framing, head.keeps_alive), (ResponseFraming::Chunked, true));
        assert_eq!(head.field("content-type"), Some("text/event-stream"));
    }

    #[test]
    fn every_status_can_be_written_and_only_registered_ones_have_a_reason() {
        for status in 100..=999 {
            let mut out = Vec::new();
            write_head(&mut out, Version::Http10, status, [("a", "b"); 0]).unwrap();
            assert_eq!(out, format!("HTTP/1.0 {status} {}\r\n\r\n", reason(status)).as_bytes());
            assert_eq!(decode_head(&out, &LIMITS, "GET").unwrap().unwrap().0.status, status);
        }
        for status in [
            101, 200, 204, 304, 400, 401, 403, 404, 405, 408, 410, 411, 413, 414, 415, 417, 421, 422, 426,
            429, 431, 500, 501, 503, 505,
        ] {
            assert_ne!(reason(status), "", "{status}");
        }
        assert_eq!(reason(299), "");
    }

    #[test]
    fn a_field_that_would_break_the_head_is_not_written() {
        for (name, value) in [
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\n"),
            ("X", "\0"),
            ("X", "\x7F"),
            ("X: a\r\nY", "b"),
            ("X ", "a"),
            ("", "a"),
        ] {
            let mut out = b"before".to_vec();
            let fault = write_head(&mut out, Version::Http11, 200, [("A", "b"), (name, value)]).unwrap_err();
            assert_eq!((&*fault.field, &*out), (name, &b"before"[..]));
        }
    }

    #[test]
    fn the_body_ends_as_method_status_and_fields_say() {
        // RFC 9112 §6.3.
        let cases = [
            ("GET", 200, "", ResponseFraming::UntilClose),
            ("GET", 200, "Content-Length: 5\r\n", ResponseFraming::Length(5)),
            ("GET", 200, "Transfer-Encoding: chunked\r\n", ResponseFraming::Chunked),
            ("HEAD", 200, "Content-Length: 5\r\n", ResponseFraming::None),
            ("HEAD", 200, "Transfer-Encoding: chunked\r\n", ResponseFraming::None),
            ("GET", 101, "", ResponseFraming::None),
            ("GET", 204, "", ResponseFraming::None),
            ("GET", 304, "Content-Length: 5\r\n", ResponseFraming::None),
            ("CONNECT", 200, "", ResponseFraming::None),
            ("CONNECT", 400, "Content-Length: 5\r\n", ResponseFraming::Length(5)),
        ];
        for (method, status, lines, framing) in cases {
            let text = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
            let (head, _) = decode_head(text.as_bytes(), &LIMITS, method).unwrap().unwrap();
            assert_eq!(head.framing, framing, "{method} {text}");
            assert_eq!(head.keeps_alive, framing != ResponseFraming::UntilClose, "{method} {text}");
        }
    }

    #[test]
    fn what_a_request_may_not_have_a_response_may_not_have_either() {
        let cases: [(&[u8], HeadError); 12] = [
            (b"\r", HeadError::InvalidStatusLine),
            (b"HTTP/1.1 2000", HeadError::InvalidStatusLine),
            (b"HTTP/1.1  ", HeadError::InvalidStatusLine),
            (b"HTTP/1.1 099 x\r\n\r\n", HeadError::InvalidStatusLine),
            (b"HTTP/1.1 200 a\0", HeadError::InvalidStatusLine),
            (b"HTTP/2.0", HeadError::UnsupportedVersion { major: 2, minor: 0 }),
            (b"HTTP/1.1 200 OK\n", HeadError::BareLineFeed),
            (b"HTTP/1.1 200\n", HeadError::BareLineFeed),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n ", HeadError::FoldedField),
            (b"HTTP/1.1 200 OK\r\nA ", HeadError::SpaceBeforeColon { field: "A".into() }),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::LengthAndTransferEncoding,
            ),
            (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::TransferEncodingInHttp10),
        ];
        for (head, fault) in cases {
            let before = &head[..head.len() - 1];
            assert_eq!(decode_head(before, &LIMITS, "GET"), Ok(None), "{}", before.escape_ascii());
            assert_eq!(decode_head(head, &LIMITS, "GET"), Err(fault), "{}", head.escape_ascii());
        }
        // The reason may be missing, and its SP with it.
        for line in ["HTTP/1.1 200 \r\n\r\n", "HTTP/1.1 200\r\n\r\n"] {
            assert_eq!(decode_head(line.as_bytes(), &LIMITS, "GET").unwrap().unwrap().0.reason, "");
        }
    }

    #[test]
    fn a_response_head_over_a_limit_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(LIMITS.bytes));
        let fault = decode_head(long.as_bytes(), &LIMITS, "GET").unwrap_err();
        assert_eq!(fault, HeadError::TooLong { max: LIMITS.bytes });
        let many = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(LIMITS.fields + 1));
        let fault = decode_head(many.as_bytes(), &LIMITS, "GET").unwrap_err();
        assert_eq!(fault, HeadError::TooManyFields { max: LIMITS.fields });
    }
}
