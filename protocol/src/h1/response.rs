//! Response heads (RFC 9112 §4, §5): written for clients, read by the harness; reason phrases; dates.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem::MaybeUninit;

use super::head::{self, FIELDS_MAX, Start};

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

/// A field that cannot be written: its name is no token, or its value has CR, LF, NUL or another control character
/// (RFC 9110 §5.5), which could end the head early.
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
    let is_name = !name.is_empty() && name.bytes().all(head::is_token_byte);
    if !is_name || !value.bytes().all(head::is_value_byte) {
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

/// Decodes the response head at the start of `buf`, the answer to a request with `method`: the head and how many bytes
/// it took, or `None` if more bytes are needed. As strict as for requests. An interim head (1xx) is one of its own.
///
/// # Errors
/// [`HeadError`] as soon as `buf` cannot become a head that is valid and within `limits`.
pub fn decode_head<'b>(
    buf: &'b [u8],
    limits: &HeadLimits,
    method: &str,
) -> Result<Option<(ResponseHead<'b>, usize)>, HeadError> {
    let window = buf.get(..limits.bytes).unwrap_or(buf);
    let fault = || head::first_fault(window, Start::StatusLine, limits);
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let (slots, _) = slots.split_at_mut(limits.fields_max());
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let used = match config.parse_response_with_uninit_headers(&mut parsed, window, slots) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => {
            return match fault() {
                Some(fault) => Err(fault),
                None if window.len() < limits.bytes => Ok(None),
                None => Err(HeadError::TooLong { max: limits.bytes }),
            };
        }
        Err(_) => return Err(fault().unwrap_or(HeadError::InvalidStatusLine)),
    };
    let taken = window.get(..used).unwrap_or(window);
    if !taken.starts_with(b"HTTP/") || !head::has_strict_line_ends(taken) {
        return Err(fault().unwrap_or(HeadError::InvalidStatusLine));
    }
    let (status, reason) = (parsed.code.unwrap_or_default(), parsed.reason.unwrap_or_default());
    if status < 100 {
        return Err(HeadError::InvalidStatusLine);
    }
    let version = Version::from_minor(parsed.version);
    let fields = head::fields_of(parsed.headers)?;
    let framing = framing_of(method, status, version, &fields)?;
    let keeps_alive = framing != ResponseFraming::UntilClose && head::keeps_alive(version, &fields);
    Ok(Some((ResponseHead { version, status, reason, fields, framing, keeps_alive }, used)))
}

impl<'b> ResponseHead<'b> {
    /// The value of the first field called `name`, whatever its case.
    pub fn field(&self, name: &str) -> Option<&'b str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
    }

    /// The values of all fields called `name`, whatever their case, in their order.
    pub fn fields_named<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'b str> + 'h {
        head::named(&self.fields, name)
    }

    /// Whether a field called `name` lists `token`, whatever the case of both (RFC 9110 §5.6.1).
    pub fn lists(&self, name: &str, token: &str) -> bool {
        head::lists(&self.fields, name, token)
    }
}

fn framing_of(
    method: &str,
    status: u16,
    version: Version,
    fields: &[(&str, &str)],
) -> Result<ResponseFraming, HeadError> {
    let length = head::length_of(version, fields)?;
    // These have no body whatever their fields say; after a 2xx to CONNECT comes a tunnel (RFC 9112 §6.3, 1 and 2).
    if method == "HEAD" || matches!(status, 100..200 | 204 | 304) || method == "CONNECT" && status / 100 == 2
    {
        return Ok(ResponseFraming::None);
    }
    Ok(match length {
        Some(None) => ResponseFraming::Chunked,
        Some(Some(length)) => ResponseFraming::Length(length),
        None => ResponseFraming::UntilClose,
    })
}

/// A date as fields give it: `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 §5.6.7).
///
/// # Examples
/// ```
/// let date = stentor_protocol::h1::response::ImfFixdate::from_unix(784_111_777);
/// assert_eq!(date.as_str(), "Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ImfFixdate([u8; 29]);

/// 9999-12-31 23:59:59, the last date that four digits can name.
const LAST_UNIX_SECOND: u64 = 253_402_300_799;

impl ImfFixdate {
    /// The date `seconds` after 1970-01-01 00:00:00 UTC. What is after the year 9999 becomes its last second.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(LAST_UNIX_SECOND);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        // 1970-01-01 was a Thursday.
        let weekday = *name_at(b"SunMonTueWedThuFriSat", (days + 4) % 7);
        let month = *name_at(b"JanFebMarAprMayJunJulAugSepOctNovDec", month - 1);
        let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
        put(&mut text, 0, &weekday);
        put(&mut text, 5, &two_digits(day));
        put(&mut text, 8, &month);
        put(&mut text, 12, &two_digits(year / 100));
        put(&mut text, 14, &two_digits(year % 100));
        put(&mut text, 17, &two_digits(second / 3600));
        put(&mut text, 20, &two_digits(second / 60 % 60));
        put(&mut text, 23, &two_digits(second % 60));
        Self(text)
    }

    /// The date as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("a date is ASCII")
    }
}

impl AsRef<str> for ImfFixdate {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for ImfFixdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ImfFixdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Year, month (1 to 12) and day (1 to 31) of the Gregorian calendar, `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from 1 March, so that the day of the leap year is the last: 0000-03-01 is 719,468 days before
    // 1970-01-01, and 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // The months from March on have 31, 30, 31, 30, 31 days again and again: 153 in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn name_at<const N: usize>(names: &[u8; N], index: u64) -> &[u8; 3] {
    names.as_chunks().0.get(index as usize).expect("an index within the week or year")
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

fn put(text: &mut [u8; 29], at: usize, part: &[u8]) {
    text[at..at + part.len()].copy_from_slice(part);
}
