//! Request heads (RFC 9112 §3, §5): bytes to a checked head. Which methods and targets exist is for others to
//! say.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use super::body::BodyFraming;
use super::fields;
use super::head::{FIELDS_MAX, METHOD_BYTES_MAX};
use super::strict::{self, Start};

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
    /// Whether the client waits for `100 Continue` before it sends the body. Never set where there is no
    /// body, nor in HTTP/1.0, where the field is to be ignored (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Decodes the head at the start of `buf`: the head and how many bytes it took, or `None` if more bytes are
/// needed. One CRLF before the request line is skipped (RFC 9112 §2.2) and counted as taken.
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
    let fault = || strict::first_fault(window, Start::RequestLine, limits);
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let (slots, _) = slots.split_at_mut(limits.fields_max());
    let mut parsed = httparse::Request::new(&mut []);
    let used = match parsed.parse_with_uninit_headers(window, slots) {
        Ok(httparse::Status::Complete(used)) => used,
        // The walk alone says what is wrong: `httparse` refuses `HTTP/2` a digit before it is known to be
        // 2.0.
        Ok(httparse::Status::Partial) | Err(_) => return not_whole(window, limits, fault()),
    };
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    if !is_strict(method, target, window.get(..used).unwrap_or(window)) {
        return Err(fault().unwrap_or(HeadError::InvalidRequestLine));
    }
    let version = Version::from_minor(parsed.version);
    let fields = fields::from_parsed(parsed.headers)?;
    check_target(method, target)?;
    check_host(method, target, version, &fields)?;
    // "If this is a request message and none of the above are true, then the message body length is zero"
    // (§6.3).
    let framing = fields::framing(version, &fields)?;
    let expects_continue =
        expects_continue(version, &fields)? && !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
    let keeps_alive = fields::keeps_alive(version, &fields);
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
        fields::named(&self.fields, name)
    }

    /// Whether a field called `name` lists `token`, whatever the case of both: as in `Connection: keep-alive,
    /// Upgrade` (RFC 9110 §5.6.1).
    pub fn lists(&self, name: &str, token: &str) -> bool {
        fields::lists(&self.fields, name, token)
    }

    /// The target's path and, if there is a `?`, what follows it; both still percent-encoded. An absolute
    /// target without a path has `/` (RFC 9110 §4.2.3). The asterisk form is the path `*`, the authority form
    /// (`CONNECT` only) an empty path.
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

    /// The host, and port if there is one, that the request is for: the target's, else that of `Host`. They
    /// agree where both are given. `None` only in HTTP/1.0.
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

/// Whether a head that `httparse` took is one that we take: it tolerates LF alone, more empty lines than one
/// before the head, bytes in the target that must be encoded, and methods of any length.
fn is_strict(method: &str, target: &str, head: &[u8]) -> bool {
    head.first().is_some_and(|&byte| strict::is_token_byte(byte))
        && method.len() <= METHOD_BYTES_MAX
        && target.bytes().all(strict::is_target_byte)
        && strict::has_strict_line_ends(head)
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
    let mut hosts = fields::named(fields, "Host");
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

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), not empty: no http URI has an empty host (§4.2.1). No comma,
/// which RFC 3986 would allow in a name: it is how some recipients join two fields into one. No `%`: some
/// decode it, some do not. No user information (§4.2.4).
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) if address.parse::<core::net::Ipv6Addr>().is_ok() => ("", after),
            _ => return false,
        },
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte));
    let is_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty()
                || digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        None => port.is_empty(),
    };
    is_name && is_port && (authority.starts_with('[') || !host.is_empty())
}

fn expects_continue(version: Version, fields: &[(&str, &str)]) -> Result<bool, HeadError> {
    if version == Version::Http10 {
        return Ok(false);
    }
    let mut is_expected = false;
    for expectation in fields::named(fields, "Expect").flat_map(|value| value.split(',')) {
        if !fields::trim(expectation).eq_ignore_ascii_case("100-continue") {
            return Err(HeadError::UnsupportedExpectation);
        }
        is_expected = true;
    }
    Ok(is_expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};

    const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 8 };

    /// The head, or the fault, of a whole request.
    fn decode(request: &str) -> Result<RequestHead<'_>, HeadError> {
        let (head, used) = decode_head(request.as_bytes(), &LIMITS)?.expect("a whole head");
        assert_eq!(used, request.len());
        Ok(head)
    }

    /// The fault of a request with these lines after its request line and `Host`.
    fn fault_of(lines: &str) -> HeadError {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        decode_head(request.as_bytes(), &LIMITS).expect_err(lines)
    }

    #[test]
    fn a_head_is_read_whole_and_the_rest_is_left() {
        let request = b"POST /events?topic=a HTTP/1.1\r\nHost: a:8080\r\nContent-Length:5\r\n\
            X: \t caf\xC3\xA9 \t\r\nx:\r\n\r\nhelloGET";
        let (head, used) = decode_head(request, &LIMITS).unwrap().unwrap();
        assert_eq!(request.split_at(used).1, b"helloGET");
        assert_eq!((head.method, head.target, head.version), ("POST", "/events?topic=a", Version::Http11));
        assert_eq!(head.fields, [("Host", "a:8080"), ("Content-Length", "5"), ("X", "café"), ("x", "")]);
        assert_eq!(head.framing, BodyFraming::Length(5));
        assert!(head.keeps_alive && !head.expects_continue);
        assert_eq!(head.field("x"), Some("café"));
        assert_eq!(head.fields_named("X").collect::<Vec<_>>(), ["café", ""]);
        assert_eq!(head.field("y"), None);
        assert_eq!(head.authority(), Some("a:8080"));
    }

    #[test]
    fn a_head_cut_at_any_byte_asks_for_more() {
        let request = b"\r\nGET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
        for cut in 0..request.len() {
            assert_eq!(decode_head(&request[..cut], &LIMITS), Ok(None), "cut at {cut}");
        }
        assert_eq!(decode_head(request, &LIMITS).unwrap().unwrap().1, request.len());
    }

    #[test]
    fn one_empty_line_before_the_request_line_is_skipped_and_no_more() {
        // RFC 9112 §2.2: "SHOULD ignore at least one empty line (CRLF)".
        assert!(decode("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
        let invalid = |byte| Err(HeadError::InvalidMethod { byte });
        assert_eq!(decode_head(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &LIMITS), invalid(b'\r'));
        assert_eq!(decode_head(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &LIMITS), invalid(b'\n'));
    }

    #[test]
    fn the_target_must_have_a_form_that_the_method_allows() {
        // RFC 9112 §3.2.1 to §3.2.4.
        let cases = [
            ("GET", "/", Some(("/", None))),
            ("GET", "/a?b?c=/", Some(("/a", Some("b?c=/")))),
            ("GET", "//b/c", Some(("//b/c", None))),
            ("GET", "/?", Some(("/", Some("")))),
            ("GET", "/a?u=http://x/", Some(("/a", Some("u=http://x/")))),
            ("GET", "/a|b{\"c\"}", Some(("/a|b{\"c\"}", None))),
            ("GET", "http://a", Some(("/", None))),
            ("GET", "HTTP://A?b", Some(("/", Some("b")))),
            ("GET", "https://a/b?c", Some(("/b", Some("c")))),
            ("OPTIONS", "*", Some(("*", None))),
            ("GET", "*", None),
            ("OPTIONS", "*a", None),
            ("GET", "a", None),
            ("GET", "a:80", None),
            ("GET", "ftp://a/", None),
            ("GET", "http://", None),
            ("GET", "http:///b", None),
            ("GET", "http://user@a/", None),
            ("GET", "http://user:word@a/", None),
            ("CONNECT", "/", None),
            ("CONNECT", "a", None),
            ("CONNECT", "http://a/", None),
        ];
        for (method, target, expected) in cases {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            match (decode(&request), expected) {
                (Ok(head), Some(_)) => assert_eq!(Some(head.target_path_and_query()), expected, "{request}"),
                (Err(HeadError::InvalidTarget { .. }), None) => {}
                (other, _) => panic!("{request}: {other:?}"),
            }
        }
        let head = decode("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").unwrap();
        assert_eq!(head.target_path_and_query(), ("", None));
    }

    #[test]
    fn a_host_is_one_and_valid_and_agrees_with_the_target() {
        // RFC 9112 §3.2: "MUST respond with a 400".
        for host in ["a", "a.b:80", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a:", "xn--a_b~c"] {
            assert!(decode(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_ok(), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:+80",
            "a:65536",
            "[::1",
            "::1",
            "[a]",
            "[::1]a",
            "[fe80::1%25eth0]",
            "a%2Eb",
            "a?b",
            "é",
            "http://a",
        ] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(decode(&request), Err(HeadError::InvalidHost), "{host}");
        }
        assert_eq!(decode("GET / HTTP/1.1\r\n\r\n"), Err(HeadError::MissingHost));
        let twice = "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n";
        assert_eq!(decode(twice), Err(HeadError::RepeatedHost));
        let differs = "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(decode(differs), Err(HeadError::HostDiffers));
        assert_eq!(decode("CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n"), Err(HeadError::HostDiffers));
        // HTTP/1.0 may do without one.
        assert_eq!(decode("GET / HTTP/1.0\r\n\r\n").unwrap().authority(), None);
        assert_eq!(decode("GET http://b/ HTTP/1.0\r\n\r\n").unwrap().authority(), Some("b"));
        let twice = "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n";
        assert_eq!(decode(twice), Err(HeadError::RepeatedHost));
    }

    #[test]
    fn framing_is_none_a_length_or_chunked() {
        // RFC 9112 §6.3.
        let cases = [
            ("", BodyFraming::None),
            ("Content-Length: 0\r\n", BodyFraming::Length(0)),
            ("content-length:\t007 \r\n", BodyFraming::Length(7)),
            ("Content-Length: 18446744073709551615\r\n", BodyFraming::Length(u64::MAX)),
            ("Transfer-Encoding: chunked\r\n", BodyFraming::Chunked),
            ("TRANSFER-ENCODING: \t Chunked \r\n", BodyFraming::Chunked),
            ("TE: chunked\r\n", BodyFraming::None),
        ];
        for (lines, framing) in cases {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            assert_eq!(decode(&request).unwrap().framing, framing, "{lines}");
        }
    }

    #[test]
    fn a_refused_length_or_coding_names_its_field_and_status() {
        let cases = [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", 400, "Content-Length"),
            ("Content-Length: 1, 1\r\n", 400, "Content-Length"),
            ("Content-Length: +1\r\n", 400, "Content-Length"),
            ("Content-Length:\r\n", 400, "Content-Length"),
            ("Content-Length: 18446744073709551616\r\n", 413, "Content-Length"),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400, "Transfer-Encoding"),
            // §6.1: "A server that receives a request message with a transfer coding it does not understand
            // SHOULD respond with 501"; §6.3: what does not end with chunked is a 400.
            ("Transfer-Encoding: gzip, chunked\r\n", 501, "Transfer-Encoding"),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501, "Transfer-Encoding"),
            ("Transfer-Encoding: chunked, gzip\r\n", 400, "Transfer-Encoding"),
            ("Transfer-Encoding: gzip\r\n", 400, "Transfer-Encoding"),
            ("Transfer-Encoding: chunked, chunked\r\n", 400, "Transfer-Encoding"),
            ("Expect: 200-ok\r\n", 417, "Expect"),
            ("Expect: 100-continue, 200-ok\r\n", 417, "Expect"),
            ("X: \x01\r\n", 400, "X"),
            ("X : 1\r\n", 400, "X"),
        ];
        for (lines, status, field) in cases {
            let fault = fault_of(lines);
            assert_eq!((fault.status(), fault.field()), (status, Some(field)), "{lines}");
            assert!(fault.to_string().starts_with(field), "{lines}: {fault}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(decode(old), Err(HeadError::TransferEncodingInHttp10));
    }

    #[test]
    fn a_value_that_is_not_utf8_names_its_field() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: caf\xE9\r\n\r\n";
        let fault = decode_head(request, &LIMITS).unwrap_err();
        assert_eq!((fault.status(), fault.field()), (400, Some("X-Name")));
    }

    #[test]
    fn versions_other_than_1_0_and_1_1_are_505_and_no_version_is_400() {
        let long = "Host: a\r\n\r\n";
        for (version, status) in [
            ("HTTP/2.0", 505),
            ("HTTP/1.2", 505),
            ("HTTP/0.9", 505),
            ("HTTP/3", 400),
            ("HTTP/1", 400),
            ("HTTP/11.1", 400),
            ("http/1.1", 400),
            ("HTTP/1.1a", 400),
            ("HTTP /1.1", 400),
            ("", 400),
        ] {
            let request = format!("GET / {version}\r\n{long}");
            assert_eq!(decode_head(request.as_bytes(), &LIMITS).unwrap_err().status(), status, "{version}");
        }
        // The preface of HTTP/2 with prior knowledge (RFC 9113 §3.4).
        assert_eq!(decode_head(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &LIMITS).unwrap_err().status(), 505);
    }

    #[test]
    fn the_connection_stays_open_as_version_and_fields_say() {
        // RFC 9112 §9.3.
        for (version, connection, keeps_alive) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Upgrade, CLOSE\r\n", false),
            ("1.1", "Connection: Upgrade\r\nConnection: close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let request = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
            assert_eq!(decode(&request).unwrap().keeps_alive, keeps_alive, "{version} {connection}");
        }
    }

    #[test]
    fn continue_is_expected_only_where_it_can_be_sent() {
        // RFC 9110 §10.1.1.
        for (version, lines, is_expected) in [
            ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", true),
            ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true),
            ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
            ("1.1", "Expect: 100-continue\r\n", false),
            ("1.1", "Content-Length: 1\r\n", false),
            ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", false),
            ("1.0", "Expect: something\r\nContent-Length: 1\r\n", false),
        ] {
            let request = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
            assert_eq!(decode(&request).unwrap().expects_continue, is_expected, "{version} {lines}");
        }
    }

    /// A request of exactly `length` bytes.
    fn request_of(length: usize) -> String {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - frame))
    }

    #[test]
    fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
        assert!(decode(&request_of(LIMITS.bytes)).is_ok());
        let longer = request_of(LIMITS.bytes + 1);
        let too_long = Err(HeadError::TooLong { max: LIMITS.bytes });
        assert_eq!(decode_head(longer.as_bytes(), &LIMITS), too_long, "at once");
        for cut in 0..LIMITS.bytes {
            assert_eq!(decode_head(&longer.as_bytes()[..cut], &LIMITS), Ok(None), "cut at {cut}");
        }
        assert_eq!(decode_head(&longer.as_bytes()[..LIMITS.bytes], &LIMITS), too_long, "no byte too late");
        // The empty line that may come first is no part of the head.
        assert!(decode(&format!("\r\n{}", request_of(LIMITS.bytes))).is_ok());
        assert_eq!(HeadError::TooLong { max: 1 }.status(), 431);
    }

    #[test]
    fn a_request_line_over_the_limit_is_414() {
        let target = format!("GET /{}", "a".repeat(LIMITS.bytes));
        let fault = decode_head(target.as_bytes(), &LIMITS).unwrap_err();
        assert_eq!((fault.clone(), fault.status()), (HeadError::TargetTooLong { max: LIMITS.bytes }, 414));
    }

    #[test]
    fn a_method_over_the_limit_is_501_in_a_whole_head_too() {
        // RFC 9112 §3: "SHOULD respond with a 501 (Not Implemented)".
        let request = |length| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(length));
        assert!(decode(&request(METHOD_BYTES_MAX)).is_ok());
        let fault = decode_head(request(METHOD_BYTES_MAX + 1).as_bytes(), &LIMITS).unwrap_err();
        assert_eq!(
            (fault.clone(), fault.status()),
            (HeadError::MethodTooLong { max: METHOD_BYTES_MAX }, 501)
        );
    }

    #[test]
    fn a_head_may_have_as_many_fields_as_the_limit_and_no_more() {
        let request =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count - 1));
        assert_eq!(decode(&request(LIMITS.fields)).unwrap().fields.len(), LIMITS.fields);
        let too_many = HeadError::TooManyFields { max: LIMITS.fields };
        assert_eq!(decode(&request(LIMITS.fields + 1)), Err(too_many.clone()));
        assert_eq!(too_many.status(), 431);
        // No limit reaches beyond the room that there is.
        let limits = HeadLimits { bytes: 64 * 1024, fields: usize::MAX };
        assert!(decode_head(request(FIELDS_MAX).as_bytes(), &limits).unwrap().is_some());
        let fault = decode_head(request(FIELDS_MAX + 1).as_bytes(), &limits).unwrap_err();
        assert_eq!(fault, HeadError::TooManyFields { max: FIELDS_MAX });
    }

    #[test]
    fn lists_finds_a_token_in_any_of_the_fields() {
        let request =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive ,\tUpgrade\r\nconnection: TE\r\n\r\n";
        let head = decode(request).unwrap();
        for token in ["upgrade", "Keep-Alive", "te"] {
            assert!(head.lists("Connection", token), "{token}");
        }
        assert!(!head.lists("Connection", "keep"));
        assert!(!head.lists("Upgrade", "websocket"));
    }
}
