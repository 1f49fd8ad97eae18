//! Request heads (RFC 9112 §3, §5): bytes to a checked head. Which methods and targets exist is for others to say.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use super::body::BodyFraming;
use super::head::{self, FIELDS_MAX, METHOD_BYTES_MAX, Start};

pub use super::head::{HeadError, HeadLimits, Version};

/// A request head, checked: its framing is known and it can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestHead<'b> {
    /// The method as it stands: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'b str,
    /// The target as it stands, in one of the four forms (RFC 9112 §3.2).
    pub target: &'b str,
    /// The version of the request line.
    pub version: Version,
    /// Names and values in their order, without white space around the values.
    pub fields: Vec<(&'b str, &'b str)>,
    /// How the body ends.
    pub framing: BodyFraming,
    /// Whether another request may follow on this connection (RFC 9112 §9.3).
    pub keeps_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body. Never set where there is no body, nor in
    /// HTTP/1.0, where the field is to be ignored (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Decodes the head at the start of `buf`: the head and how many bytes it took, or `None` if more bytes are needed.
/// One CRLF before the request line is skipped (RFC 9112 §2.2) and counted as taken.
///
/// Cost: every call reads `buf` from its start, so at most [`HeadLimits::bytes`] of it.
///
/// # Errors
/// [`HeadError`] as soon as `buf` cannot become a head that is valid and within `limits`.
///
/// # Examples
/// ```
/// use stentor_protocol::h1::request::{HeadLimits, decode_head};
///
/// let limits = HeadLimits { bytes: 16 * 1024, fields: 100 };
/// let (head, used) = decode_head(b"GET /events?topic=a HTTP/1.1\r\nHost: a\r\n\r\nrest", &limits)?.unwrap();
/// assert_eq!((head.method, head.target_path_and_query()), ("GET", ("/events", Some("topic=a"))));
/// assert_eq!((head.field("host"), used), (Some("a"), 41));
/// # Ok::<(), stentor_protocol::h1::HeadError>(())
/// ```
pub fn decode_head<'b>(
    buf: &'b [u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead<'b>, usize)>, HeadError> {
    let (skipped, buf) = match buf {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', rest @ ..] => (2, rest),
        _ => (0, buf),
    };
    // No byte beyond the limit is looked at, so the answer does not depend on how much of them came at once.
    let window = buf.get(..limits.bytes).unwrap_or(buf);
    let fault = || head::first_fault(window, Start::RequestLine, limits);
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let (slots, _) = slots.split_at_mut(limits.fields_max());
    let mut parsed = httparse::Request::new(&mut []);
    let used = match parsed.parse_with_uninit_headers(window, slots) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return not_whole(window, limits, fault()),
        Err(_) => return Err(fault().unwrap_or(HeadError::InvalidRequestLine)),
    };
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    if !is_strict(method, target, window.get(..used).unwrap_or(window)) {
        return Err(fault().unwrap_or(HeadError::InvalidRequestLine));
    }
    let version = Version::from_minor(parsed.version);
    let fields = head::fields_of(parsed.headers)?;
    check_target(method, target)?;
    check_host(method, target, version, &fields)?;
    let framing = framing_of(version, &fields)?;
    let expects_continue =
        expects_continue(version, &fields)? && !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
    let keeps_alive = head::keeps_alive(version, &fields);
    let head = RequestHead { method, target, version, fields, framing, keeps_alive, expects_continue };
    Ok(Some((head, skipped + used)))
}

impl<'b> RequestHead<'b> {
    /// The value of the first field called `name`, whatever its case.
    pub fn field(&self, name: &str) -> Option<&'b str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
    }

    /// The values of all fields called `name`, whatever their case, in their order.
    pub fn fields_named<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'b str> + 'h {
        head::named(&self.fields, name)
    }

    /// Whether a field called `name` lists `token`, whatever the case of both: as in `Connection: keep-alive, Upgrade`
    /// (RFC 9110 §5.6.1).
    pub fn lists(&self, name: &str, token: &str) -> bool {
        head::lists(&self.fields, name, token)
    }

    /// The target's path and, if there is a `?`, what follows it; both still percent-encoded. An absolute target
    /// without a path has `/` (RFC 9110 §4.2.3). The asterisk form is the path `*`, the authority form (`CONNECT`
    /// only) an empty path.
    pub fn target_path_and_query(&self) -> (&'b str, Option<&'b str>) {
        let rest = match split_absolute(self.target) {
            Some((_, rest)) => rest,
            None if self.target.starts_with('/') || self.target == "*" => self.target,
            None => return ("", None),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        (if path.is_empty() { "/" } else { path }, query)
    }

    /// The host, and port if there is one, that the request is for: the target's, else that of `Host`. They agree where
    /// both are given. `None` only in HTTP/1.0.
    pub fn authority(&self) -> Option<&'b str> {
        match split_absolute(self.target) {
            Some((authority, _)) => Some(authority),
            None => self.field("Host"),
        }
    }
}

fn not_whole<T>(
    window: &[u8],
    limits: &HeadLimits,
    fault: Option<HeadError>,
) -> Result<Option<T>, HeadError> {
    match fault {
        Some(fault) => Err(fault),
        None if window.len() < limits.bytes => Ok(None),
        None if window.contains(&b'\n') => Err(HeadError::TooLong { max: limits.bytes }),
        None => Err(HeadError::TargetTooLong { max: limits.bytes }),
    }
}

/// Whether a head that `httparse` took is one that we take: it tolerates LF alone, more empty lines than one before the
/// head, bytes in the target that must be encoded, and methods of any length.
fn is_strict(method: &str, target: &str, head: &[u8]) -> bool {
    head.first().is_some_and(|&byte| head::is_token_byte(byte))
        && method.len() <= METHOD_BYTES_MAX
        && target.bytes().all(head::is_target_byte)
        && head::has_strict_line_ends(head)
}

/// The form must be one that the method allows (RFC 9112 §3.2).
fn check_target(method: &str, target: &str) -> Result<(), HeadError> {
    let rule = match method {
        "CONNECT" if is_authority(target) && target.contains(':') => return Ok(()),
        "CONNECT" => "CONNECT takes a host and a port",
        "OPTIONS" if target == "*" => return Ok(()),
        _ if target.starts_with('/') => return Ok(()),
        _ => match split_absolute(target) {
            Some((authority, _)) if is_authority(authority) => return Ok(()),
            Some(_) => "the host is not valid",
            None => "must begin with \"/\" or be an absolute http URI",
        },
    };
    Err(HeadError::InvalidTarget { rule })
}

/// An HTTP/1.1 request has one `Host`, and it is valid (RFC 9112 §3.2).
fn check_host(
    method: &str,
    target: &str,
    version: Version,
    fields: &[(&str, &str)],
) -> Result<(), HeadError> {
    let mut hosts = head::named(fields, "Host");
    let Some(host) = hosts.next() else {
        return if version == Version::Http10 { Ok(()) } else { Err(HeadError::MissingHost) };
    };
    if hosts.next().is_some() {
        return Err(HeadError::RepeatedHost);
    }
    if !is_authority(host) {
        return Err(HeadError::InvalidHost);
    }
    let named = match split_absolute(target) {
        Some((authority, _)) => authority,
        None if method == "CONNECT" => target,
        None => return Ok(()),
    };
    if named.eq_ignore_ascii_case(host) { Ok(()) } else { Err(HeadError::HostDiffers) }
}

/// Authority and rest of a target in absolute form.
fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), not empty: no http URI has an empty host (§4.2.1). No comma, which RFC 3986
/// would allow in a name: it is how some recipients join two fields into one. No user information (§4.2.4).
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) if address.parse::<core::net::Ipv6Addr>().is_ok() => ("", after),
            _ => return false,
        },
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte));
    let is_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty()
                || digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        None => port.is_empty(),
    };
    is_name && is_port && (authority.starts_with('[') || !host.is_empty())
}

fn framing_of(version: Version, fields: &[(&str, &str)]) -> Result<BodyFraming, HeadError> {
    Ok(match head::length_of(version, fields)? {
        Some(None) => BodyFraming::Chunked,
        Some(Some(length)) => BodyFraming::Length(length),
        // "If this is a request message and none of the above are true, then the message body length is zero."
        None => BodyFraming::None,
    })
}

fn expects_continue(version: Version, fields: &[(&str, &str)]) -> Result<bool, HeadError> {
    if version == Version::Http10 {
        return Ok(false);
    }
    let mut is_expected = false;
    for expectation in head::named(fields, "Expect").flat_map(|value| value.split(',')) {
        if !head::trim(expectation).eq_ignore_ascii_case("100-continue") {
            return Err(HeadError::UnsupportedExpectation);
        }
        is_expected = true;
    }
    Ok(is_expected)
}
