//! Who may ask across origins (WHATWG Fetch, "CORS protocol"), who may frame, and under which names a
//! loopback listener may be asked at all.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use stentor_protocol::iframe::check_origin;

use super::request::OwnedRequest;
use crate::config::Cors;
use crate::error::Problem;
use crate::metrics::Refused;

/// Every answer depends on where its request comes from.
const VARY: &str = "Vary: Origin\r\n";

/// What scripts may read of an answer.
const EXPOSED: &str = "Access-Control-Expose-Headers: ETag, Retry-After, Stentor-Cursor\r\n";

/// How long a browser may keep the answer to a preflight, in seconds: the longest that all of them take.
const PREFLIGHT_SECONDS: u32 = 7_200;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// No browser says that it comes from a page: no `Origin`.
    Unknown,
    /// A page of this very server.
    Own,
    /// A page of an origin on the list.
    Listed(&'a str),
    /// A page of an origin that is not.
    Foreign(&'a str),
}

impl<'a> Standing<'a> {
    /// Judges `request`, which was sent to `authority`.
    pub(super) fn of(cors: &Cors, request: &'a OwnedRequest, authority: Option<&str>) -> Self {
        let Some(origin) = request.header("origin") else { return Self::Unknown };
        if request.headers_named("origin").count() > 1 {
            return Self::Foreign(origin);
        }
        if is_listed(cors, origin) {
            Self::Listed(origin)
        } else if is_own(request, origin, authority) {
            Self::Own
        } else {
            Self::Foreign(origin)
        }
    }

    /// A page of another origin may do what `what` says only if its origin is on the list.
    ///
    /// # Errors
    /// A 403 for a foreign origin.
    pub(super) fn check(self, what: &str) -> Result<(), Box<Problem>> {
        match self {
            Self::Foreign(origin) => Err(Box::new(foreign(origin, what))),
            Self::Unknown | Self::Own | Self::Listed(_) => Ok(()),
        }
    }

    /// Header lines for any answer, `Vary` among them.
    pub(super) fn all_lines(self, cors: &Cors) -> Cow<'static, str> {
        match self {
            Self::Listed(_) => Cow::Owned(VARY.to_owned() + &self.header_lines(cors)),
            Self::Unknown | Self::Own | Self::Foreign(_) => Cow::Borrowed(VARY),
        }
    }

    /// Header lines for any answer: what lets the page read it. `Vary` is not among them.
    pub(super) fn header_lines(self, cors: &Cors) -> String {
        let Self::Listed(origin) = self else { return String::new() };
        if is_any(cors) {
            return format!("Access-Control-Allow-Origin: *\r\n{EXPOSED}");
        }
        let credentials = if cors.credentials { "Access-Control-Allow-Credentials: true\r\n" } else { "" };
        format!("Access-Control-Allow-Origin: {origin}\r\n{credentials}{EXPOSED}")
    }

    /// Header lines of the answer to a preflight that asks for `headers`, beside those of any answer.
    pub(super) fn preflight_lines(self, methods: &str, headers: Option<&str>) -> String {
        let Self::Listed(_) = self else { return String::new() };
        let mut lines = format!(
            "Access-Control-Allow-Methods: {methods}\r\nAccess-Control-Max-Age: {PREFLIGHT_SECONDS}\r\n"
        );
        // Which fields an embedder reads is not ours to know, and the origin is trusted: what it asks for is
        // allowed.
        if let Some(headers) = headers.filter(|headers| is_field_list(headers)) {
            lines.push_str(&format!("Access-Control-Allow-Headers: {headers}\r\n"));
        }
        lines
    }
}

fn foreign(origin: &str, what: &str) -> Problem {
    let detail = format!("origin {origin:?} may not {what}: it is not on the list `cors.origins`");
    Problem::new(403, Refused::Origin, detail).field("Origin")
}

/// Whether an iframe's events may be posted to pages of `origin`.
///
/// # Errors
/// A 403 if it is neither this server's own origin nor on the list.
pub(super) fn check_target(cors: &Cors, authority: Option<&str>, origin: &str) -> Result<(), Box<Problem>> {
    if is_listed(cors, origin) || authority.is_some_and(|authority| names(origin, authority)) {
        return Ok(());
    }
    Err(Box::new(foreign(origin, "frame this").field("origin")))
}

/// The policy of a forever frame: its own inline scripts run, nothing is loaded, and only pages of this
/// server and of the listed origins may frame it.
pub(super) fn frame_policy_line(cors: &Cors) -> String {
    let mut ancestors = String::from("'self'");
    if is_any(cors) {
        ancestors = String::from("*");
    } else {
        for origin in cors.origins.iter().filter(|origin| check_origin(origin).is_ok()) {
            ancestors.push(' ');
            ancestors.push_str(origin);
        }
    }
    format!(
        "Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; \
         frame-ancestors {ancestors}\r\n"
    )
}

/// A page that a browser loaded from a name of its own choosing may have that name lead to this machine (DNS
/// rebinding): then it is of our origin, as far as the browser can tell. So a listener on a loopback address
/// answers only to names that no stranger can own: those of the loopback, and those of the listed origins.
///
/// # Errors
/// A 421 for another `Host`.
pub(super) fn check_loopback_host(cors: &Cors, authority: Option<&str>) -> Result<(), Box<Problem>> {
    // No browser asks without one.
    let Some(authority) = authority else { return Ok(()) };
    let is_listed = || cors.origins.iter().any(|origin| names(origin, authority));
    if is_loopback_name(host_of(authority)) || is_listed() {
        return Ok(());
    }
    let detail = format!(
        "this listener is on a loopback address and answers to loopback names only, not to {authority:?}; \
         an origin of that name on the list `cors.origins` allows it"
    );
    Err(Box::new(Problem::new(421, Refused::Host, detail).field("Host")))
}

fn is_any(cors: &Cors) -> bool {
    cors.origins.iter().any(|origin| origin == "*")
}

fn is_listed(cors: &Cors, origin: &str) -> bool {
    cors.origins.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin))
}

/// Whether `origin` is this server's own: a proxy in front may have changed the scheme, and even the host,
/// but the browser says so itself, in a field that no script can set.
fn is_own(request: &OwnedRequest, origin: &str, authority: Option<&str>) -> bool {
    let is_same = || request.header("sec-fetch-site").is_some_and(|site| site == "same-origin");
    authority.is_some_and(|authority| names(origin, authority)) || is_same()
}

/// Whether `origin` is one of `authority`.
fn names(origin: &str, authority: &str) -> bool {
    let (host, own_port) = match origin.strip_prefix("https://") {
        Some(host) => (host, ":443"),
        None => match origin.strip_prefix("http://") {
            Some(host) => (host, ":80"),
            None => return false,
        },
    };
    // A browser leaves the scheme's own port out, other clients may not.
    host.eq_ignore_ascii_case(authority.strip_suffix(own_port).unwrap_or(authority))
}

/// The host of an authority, without its port and without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

fn is_loopback_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_v4 = || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let is_v6 = || host.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    // "localhost." and what ends so never leave this machine (RFC 6761 §6.3).
    host.eq_ignore_ascii_case("localhost")
        || host.len() > ".localhost".len()
            && host
                .get(host.len() - ".localhost".len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
        || is_v4()
        || is_v6()
}

/// A list of field names, so that repeating it cannot break a head.
fn is_field_list(text: &str) -> bool {
    text.len() <= 1_024
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_, !#$%&'*+.^`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors { origins: origins.iter().map(|&origin| origin.into()).collect(), credentials }
    }

    fn request(headers: &[(&str, &str)]) -> OwnedRequest {
        OwnedRequest {
            method: "GET".into(),
            path: "/events".into(),
            query: Vec::new(),
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn an_origin_is_own_listed_or_foreign() {
        let listed = "https://shop.example";
        for (origins, origin, host, site, expected) in [
            (&[][..], None, "a.example", None, Standing::Unknown),
            (&[], Some("http://a.example"), "a.example", None, Standing::Own),
            (&[], Some("http://a.example"), "a.example:80", None, Standing::Own),
            (&[], Some("https://a.example"), "a.example:443", None, Standing::Own),
            (&[], Some("http://A.example:8080"), "a.example:8080", None, Standing::Own),
            (&[], Some("http://a.example:81"), "a.example", None, Standing::Foreign("http://a.example:81")),
            (&[], Some("null"), "a.example", None, Standing::Foreign("null")),
            (&[], Some("ftp://a.example"), "a.example", None, Standing::Foreign("ftp://a.example")),
            (&[], Some(listed), "backend:1", Some("same-origin"), Standing::Own),
            (&[], Some(listed), "backend:1", Some("same-site"), Standing::Foreign(listed)),
            (&[listed], Some(listed), "a.example", None, Standing::Listed(listed)),
            (
                &[listed],
                Some("http://shop.example"),
                "a.example",
                None,
                Standing::Foreign("http://shop.example"),
            ),
            (&["*"], Some("null"), "a.example", None, Standing::Listed("null")),
        ] {
            let mut headers = Vec::new();
            headers.extend(origin.map(|origin| ("Origin", origin)));
            headers.extend(site.map(|site| ("Sec-Fetch-Site", site)));
            let request = request(&headers);
            let standing = Standing::of(&cors(origins, false), &request, Some(host));
            assert_eq!(standing, expected, "{origin:?} at {host}");
            assert_eq!(standing.check("publish").is_err(), matches!(expected, Standing::Foreign(_)));
        }
    }

    #[test]
    fn only_a_listed_origin_may_read_and_never_any_origin_with_credentials() {
        let origin = "https://shop.example";
        let lines = |cors: &Cors, standing: Standing<'_>| standing.header_lines(cors);
        assert_eq!(lines(&cors(&[], true), Standing::Foreign(origin)), "");
        assert_eq!(lines(&cors(&[], true), Standing::Own), "");
        let plain = lines(&cors(&[origin], false), Standing::Listed(origin));
        assert_eq!(plain, format!("Access-Control-Allow-Origin: {origin}\r\n{EXPOSED}"));
        let with = lines(&cors(&[origin], true), Standing::Listed(origin));
        assert!(with.contains("Access-Control-Allow-Credentials: true\r\n"), "{with}");
        let any = lines(&cors(&["*"], true), Standing::Listed(origin));
        assert_eq!(any, format!("Access-Control-Allow-Origin: *\r\n{EXPOSED}"));
    }

    #[test]
    fn a_preflight_is_answered_with_what_it_asks_for_and_nothing_else() {
        let listed = Standing::Listed("https://shop.example");
        let lines = listed.preflight_lines("GET, POST", Some("authorization, x-key"));
        assert!(lines.contains("Access-Control-Allow-Headers: authorization, x-key\r\n"), "{lines}");
        assert!(lines.contains("Access-Control-Max-Age: 7200\r\n"), "{lines}");
        assert!(!listed.preflight_lines("GET", Some("a\r\nEvil: b")).contains("Evil"));
        assert_eq!(Standing::Foreign("https://evil.example").preflight_lines("GET", Some("a")), "");
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_and_listed_ones() {
        let listed = cors(&["https://shop.example"], false);
        for (authority, is_good) in [
            (None, true),
            (Some("localhost"), true),
            (Some("LocalHost:8080"), true),
            (Some("localhost.:8080"), true),
            (Some("app.localhost:8080"), true),
            (Some("127.0.0.1:8080"), true),
            (Some("127.9.9.9"), true),
            (Some("[::1]:8080"), true),
            (Some("[::ffff:127.0.0.1]"), true),
            (Some("shop.example"), true),
            (Some("shop.example:443"), true),
            (Some("shop.example:8080"), false),
            (Some("evil.example:8080"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some("localhost.evil.example"), false),
            (Some("notlocalhost"), false),
            (Some(".localhost.evil"), false),
            (Some("[::2]:1"), false),
            (Some("10.0.0.1"), false),
        ] {
            let checked = check_loopback_host(&listed, authority);
            assert_eq!(checked.is_ok(), is_good, "{authority:?}");
            assert!(checked.err().is_none_or(|problem| problem.status == 421));
        }
    }

    #[test]
    fn only_the_listed_may_frame() {
        let line = frame_policy_line(&cors(&["https://shop.example", "bad; script-src *"], false));
        assert!(line.ends_with("frame-ancestors 'self' https://shop.example\r\n"), "{line}");
        assert!(frame_policy_line(&cors(&["*"], false)).ends_with("frame-ancestors *\r\n"));
        assert!(frame_policy_line(&cors(&[], false)).ends_with("frame-ancestors 'self'\r\n"));
        let listed = cors(&["https://shop.example"], false);
        assert!(check_target(&listed, Some("a.example"), "https://a.example").is_ok());
        assert!(check_target(&listed, Some("a.example"), "https://shop.example").is_ok());
        assert!(check_target(&listed, Some("a.example"), "https://evil.example").is_err());
    }
}
