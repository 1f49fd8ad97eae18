//! What a request for a subscription asks for: its parameters and fields to values, each checked, each
//! refused by its name. Knows no log and no connection, so it is a table to test.

use stentor_protocol::h1::conditional::{IfNoneMatch, if_none_match};
use stentor_protocol::iframe::{Target, check_callback, check_origin};

use super::request::OwnedRequest;
use crate::config::Config;
use crate::cursor::{Cursor, CursorError, Start};
use crate::error::{Problem, Refusable};
use crate::metrics::{Malformed, Refused};
use crate::topic::Matcher;
use crate::transport::{Format, Transport};

/// Most events of one answer of a poll.
pub(super) const ANSWER_EVENTS_MAX: u16 = 1_000;

/// Parameters that may stand once only; `topic` may stand again.
const SINGLE: [&str; 10] =
    ["callback", "cursor", "format", "limit", "name", "origin", "status", "transport", "until", "wait"];

/// What a subscriber asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Sorted, none twice.
    pub(super) matchers: Vec<Matcher>,
    pub(super) transport: Transport,
    /// Before a WebSocket's subprotocol is known: what `?format=` says.
    pub(super) format: Option<Format>,
    pub(super) start: Start,
    /// Where the start came from, for what is wrong with it.
    pub(super) start_field: &'static str,
    /// The cursors of `If-None-Match`, for polls.
    pub(super) tags: Vec<Cursor>,
    /// Where a poll ends.
    pub(super) until: Option<Cursor>,
    /// Most events of a poll's answer.
    pub(super) limit: u16,
    /// How long a long poll is held.
    pub(super) wait_seconds: u32,
    /// To whom an iframe hands its events.
    pub(super) target: OwnedTarget,
}

/// A [`Target`] with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnedTarget {
    SameOrigin,
    Origin(String),
    Callback(String),
}

impl OwnedTarget {
    pub(super) fn as_target(&self) -> Target<'_> {
        match self {
            Self::SameOrigin => Target::SameOrigin,
            Self::Origin(origin) => Target::Origin(origin),
            Self::Callback(name) => Target::Callback(name),
        }
    }
}

/// Whether the request wants a WebSocket, whatever else may be wrong with it.
pub(super) fn wants_websocket(request: &OwnedRequest) -> bool {
    match param(request, "transport") {
        Some(transport) => transport == Transport::WebSocket.as_str(),
        None => request
            .headers_named("upgrade")
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")),
    }
}

/// Whether the request is an `EventSource`'s: it accepts an event stream.
pub(super) fn accepts_event_stream(request: &OwnedRequest) -> bool {
    accepts(request, "text/event-stream")
}

impl Asked {
    /// Reads `request`. Where it `may_have_no_topic`, its client subscribes by commands.
    ///
    /// # Errors
    /// A 400 that names the parameter or field.
    pub(super) fn read(request: &OwnedRequest, config: &Config, may_have_no_topic: bool) -> Refusable<Self> {
        check_single(request)?;
        let transport = transport_of(request)?;
        let (start, start_field, tags) = start_of(request, transport)?;
        Ok(Self {
            matchers: matchers_of(request, config.limits.matchers, may_have_no_topic)?,
            transport,
            format: format_of(request)?,
            start,
            start_field,
            tags,
            until: param(request, "until").map(|text| cursor_of("until", text)).transpose()?,
            limit: number(request, "limit", 1, ANSWER_EVENTS_MAX.into())?
                .and_then(|limit| u16::try_from(limit).ok())
                .unwrap_or(ANSWER_EVENTS_MAX),
            wait_seconds: number(request, "wait", 0, config.timing.wait_seconds_max)?
                .unwrap_or(config.timing.wait_seconds),
            target: target_of(request)?,
        })
    }

    /// The format, where the transport alone decides: every transport but WebSocket.
    pub(super) fn format_or_default(&self) -> Format {
        self.format.unwrap_or(match self.transport {
            Transport::Sse => Format::Raw,
            _ => Format::Json,
        })
    }
}

pub(super) fn param<'a>(request: &'a OwnedRequest, name: &str) -> Option<&'a str> {
    request.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// What stands twice could be read in two ways.
pub(super) fn check_single(request: &OwnedRequest) -> Refusable<()> {
    for name in SINGLE {
        if request.query.iter().filter(|(n, _)| n == name).count() > 1 {
            let detail = format!("parameter {name:?} is given more than once");
            return Err(Box::new(Problem::parameter(name, detail)));
        }
    }
    Ok(())
}

fn transport_of(request: &OwnedRequest) -> Refusable<Transport> {
    if let Some(word) = param(request, "transport") {
        return Transport::ALL.into_iter().find(|transport| transport.as_str() == word).ok_or_else(|| {
            let words = Transport::ALL.map(Transport::as_str).join(", ");
            Box::new(Problem::parameter("transport", format!("transport {word:?} is none of {words}")))
        });
    }
    Ok(if wants_websocket(request) {
        Transport::WebSocket
    } else if accepts_event_stream(request) {
        Transport::Sse
    } else if accepts(request, "application/x-ndjson") {
        Transport::Stream
    } else if param(request, "wait").is_some() {
        Transport::LongPoll
    } else {
        Transport::Poll
    })
}

/// Whether `Accept` lists exactly this media type, and does not rule it out by a weight of 0 (RFC 9110
/// §12.5.1). A wildcard takes anything, and so says nothing.
fn accepts(request: &OwnedRequest, media_type: &str) -> bool {
    let ranges = request.headers_named("accept").flat_map(|value| value.split(','));
    ranges.map(|range| range.split(';')).any(|mut parts| {
        let is_named = parts.next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type));
        let is_ruled_out = parts.any(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            name.trim().eq_ignore_ascii_case("q")
                && value.trim().strip_prefix('0').is_some_and(|rest| rest.trim_matches(['.', '0']).is_empty())
        });
        is_named && !is_ruled_out
    })
}

fn format_of(request: &OwnedRequest) -> Refusable<Option<Format>> {
    match param(request, "format") {
        None => Ok(None),
        Some("json") => Ok(Some(Format::Json)),
        Some("raw") => Ok(Some(Format::Raw)),
        Some(word) => {
            Err(Box::new(Problem::parameter("format", format!("format {word:?} is neither json nor raw"))))
        }
    }
}

/// `Last-Event-ID`, else `?cursor=`, else, for polls, `If-None-Match`; none is from now. A reconnecting
/// browser sends the first and repeats the URL with the second: the first is newer.
fn start_of(request: &OwnedRequest, transport: Transport) -> Refusable<(Start, &'static str, Vec<Cursor>)> {
    let tags = if transport.is_poll() { tags_of(request)? } else { Vec::new() };
    // An empty one is none: so the event stream's rules have it, and so clients send it that have seen no id
    // yet.
    if request.headers_named("last-event-id").count() > 1 {
        let detail = "Last-Event-ID stands more than once";
        return Err(Box::new(Problem::new(400, Refused::BadRequest, detail).field("Last-Event-ID")));
    }
    if let Some(id) = request.header("last-event-id").filter(|id| !id.is_empty()) {
        return Ok((Start::After(cursor_of("Last-Event-ID", id)?), "Last-Event-ID", tags));
    }
    let start = match param(request, "cursor") {
        None | Some("") => None,
        Some("earliest") => Some(Start::Earliest),
        Some(text) => Some(Start::After(cursor_of("cursor", text)?)),
    };
    match (start, newest(&tags)) {
        (Some(start), _) => Ok((start, "cursor", tags)),
        (None, Some(tag)) => Ok((Start::After(tag), "If-None-Match", tags)),
        (None, None) => Ok((Start::Now, "cursor", tags)),
    }
}

/// Of the answers that a client holds, the one that saw most. Between epochs nobody can tell: the last one
/// named.
fn newest(tags: &[Cursor]) -> Option<Cursor> {
    let last = *tags.last()?;
    tags.iter().copied().filter(|tag| tag.epoch == last.epoch).max_by_key(|tag| tag.offset)
}

fn tags_of(request: &OwnedRequest) -> Refusable<Vec<Cursor>> {
    const FIELD: &str = "If-None-Match";
    let mut cursors = Vec::new();
    for value in request.headers_named(FIELD) {
        // "*" asks whether there is anything at all, which there is; it names no place.
        let IfNoneMatch::Tags(tags) = if_none_match(value) else { continue };
        for tag in tags {
            let tag = tag
                .map_err(|error| Problem::parameter(FIELD, error.to_string()).malformed(Malformed::Cursor))?;
            cursors.push(cursor_of(FIELD, tag.opaque)?);
        }
    }
    Ok(cursors)
}

fn cursor_of(field: &'static str, text: &str) -> Refusable<Cursor> {
    text.parse().map_err(|error: CursorError| Box::new(Problem::cursor(field, error)))
}

fn matchers_of(request: &OwnedRequest, max: usize, may_be_none: bool) -> Refusable<Vec<Matcher>> {
    let mut matchers = Vec::new();
    let topics = request.query.iter().filter(|(name, _)| name == "topic");
    for (index, (_, text)) in topics.enumerate() {
        if index == max {
            let detail = format!("more than {max} topics");
            return Err(Box::new(Problem::parameter("topic", detail).limit(max as u64)));
        }
        matchers.push(Matcher::new(text)?);
    }
    if matchers.is_empty() && !may_be_none {
        let detail = "topic is missing; name at least one, as in ?topic=prices/eurusd";
        return Err(Box::new(Problem::parameter("topic", detail)));
    }
    matchers.sort_unstable();
    matchers.dedup();
    Ok(matchers)
}

fn number(request: &OwnedRequest, name: &'static str, min: u32, max: u32) -> Refusable<Option<u32>> {
    let Some(text) = param(request, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(value) if is_plain && (min..=max).contains(&value) => Ok(Some(value)),
        _ => {
            let detail = format!("{name} of {text:?}; a whole number from {min} to {max} is allowed");
            Err(Box::new(Problem::parameter(name, detail).limit(max.into())))
        }
    }
}

fn target_of(request: &OwnedRequest) -> Refusable<OwnedTarget> {
    match (param(request, "callback"), param(request, "origin")) {
        (None, None) => Ok(OwnedTarget::SameOrigin),
        (Some(name), None) => {
            check_callback(name)?;
            Ok(OwnedTarget::Callback(name.into()))
        }
        (None, Some(origin)) => {
            check_origin(origin)?;
            Ok(OwnedTarget::Origin(origin.into()))
        }
        (Some(_), Some(_)) => {
            let detail = "callback and origin are both given; events go either to a function or to an origin";
            Err(Box::new(Problem::parameter("callback", detail)))
        }
    }
}

#[cfg(test)]
mod tests {
    use stentor_protocol::h1::query::parse_query;

    use super::*;

    fn request(query: &str, headers: &[(&str, &str)]) -> OwnedRequest {
        OwnedRequest {
            method: "GET".into(),
            path: "/events".into(),
            query: parse_query(query).unwrap(),
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn read(query: &str, headers: &[(&str, &str)]) -> Refusable<Asked> {
        Asked::read(&request(query, headers), &Config::default(), false)
    }

    const EVENT_STREAM: (&str, &str) = ("Accept", "text/event-stream");
    const NDJSON: (&str, &str) = ("Accept", "application/x-ndjson");
    const UPGRADE: (&str, &str) = ("Upgrade", "websocket");

    #[test]
    fn the_way_one_asks_decides_the_transport() {
        for (query, headers, transport) in [
            ("", &[][..], Transport::Poll),
            ("", &[("Accept", "*/*")], Transport::Poll),
            ("", &[("Accept", "text/html,application/xml;q=0.9,*/*;q=0.8")], Transport::Poll),
            ("&wait=3", &[], Transport::LongPoll),
            ("&wait", &[], Transport::LongPoll),
            ("&wait=3", &[NDJSON], Transport::Stream),
            ("", &[EVENT_STREAM], Transport::Sse),
            ("", &[("accept", "text/html, TEXT/Event-Stream;q=0.5")], Transport::Sse),
            ("", &[("Accept", "text/event-stream;q=0")], Transport::Poll),
            ("", &[("Accept", "text/event-stream; q=0.000")], Transport::Poll),
            ("", &[("Accept", "text/event-stream; q=0.001")], Transport::Sse),
            ("", &[NDJSON, EVENT_STREAM], Transport::Sse),
            ("", &[UPGRADE, EVENT_STREAM], Transport::WebSocket),
            ("", &[("upgrade", "h2c, WebSocket")], Transport::WebSocket),
            ("&transport=poll", &[UPGRADE, EVENT_STREAM], Transport::Poll),
            ("&transport=poll&wait=3", &[], Transport::Poll),
            ("&transport=long-poll", &[], Transport::LongPoll),
            ("&transport=iframe", &[EVENT_STREAM], Transport::Iframe),
            ("&transport=stream", &[], Transport::Stream),
            ("&transport=sse", &[], Transport::Sse),
            ("&transport=websocket", &[], Transport::WebSocket),
        ] {
            let asked = read(&format!("topic=a{query}"), headers).unwrap();
            assert_eq!(asked.transport, transport, "{query} {headers:?}");
        }
    }

    #[test]
    fn the_newest_place_wins() {
        let cursor = |text: &str| Start::After(text.parse().unwrap());
        let id = ("Last-Event-ID", "k-1");
        let tag = ("If-None-Match", "W/\"k-3\"");
        for (query, headers, start, field) in [
            ("", &[][..], Start::Now, "cursor"),
            ("&cursor=k-2", &[id, tag], cursor("k-1"), "Last-Event-ID"),
            ("&cursor=k-2", &[tag], cursor("k-2"), "cursor"),
            ("&cursor=earliest", &[tag], Start::Earliest, "cursor"),
            ("&cursor=earliest", &[id], cursor("k-1"), "Last-Event-ID"),
            ("&cursor=", &[tag], cursor("k-3"), "If-None-Match"),
            ("", &[("Last-Event-ID", ""), tag], cursor("k-3"), "If-None-Match"),
            ("", &[("If-None-Match", "\"k-9\", \"k-10\", \"k-8\"")], cursor("k-10"), "If-None-Match"),
            ("", &[("If-None-Match", "\"z-99\", \"k-8\"")], cursor("k-8"), "If-None-Match"),
            ("", &[("If-None-Match", "*")], Start::Now, "cursor"),
            ("&transport=sse", &[tag], Start::Now, "cursor"),
        ] {
            let asked = read(&format!("topic=a{query}"), headers).unwrap();
            assert_eq!((asked.start, asked.start_field), (start, field), "{query} {headers:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = (0..129).map(|n| format!("topic=t{n}&")).collect::<String>();
        let long = format!("topic={}", "x".repeat(257));
        for (query, headers, field) in [
            ("", &[][..], "topic"),
            ("topic=", &[], "topic"),
            ("topic=a//b", &[], "topic"),
            ("topic=a*", &[], "topic"),
            ("topic=**/a", &[], "topic"),
            (&long, &[], "topic"),
            (&many, &[], "topic"),
            ("topic=a&transport=carrier-pigeon", &[], "transport"),
            ("topic=a&transport=SSE", &[], "transport"),
            ("topic=a&format=xml", &[], "format"),
            ("topic=a&cursor=12", &[], "cursor"),
            ("topic=a&cursor=Earliest", &[], "cursor"),
            ("topic=a&until=now", &[], "until"),
            ("topic=a", &[("Last-Event-ID", "earliest")], "Last-Event-ID"),
            ("topic=a", &[("Last-Event-ID", "k-1"), ("If-None-Match", "\"k\"")], "If-None-Match"),
            ("topic=a", &[("If-None-Match", "k-1, *")], "If-None-Match"),
            ("topic=a&limit=0", &[], "limit"),
            ("topic=a&limit=1001", &[], "limit"),
            ("topic=a&limit=%2B5", &[], "limit"),
            ("topic=a&limit=99999999999", &[], "limit"),
            ("topic=a&wait=121", &[], "wait"),
            ("topic=a&wait=-1", &[], "wait"),
            ("topic=a&wait=1.5", &[], "wait"),
            ("topic=a&callback=alert(1)", &[], "callback"),
            ("topic=a&callback=document.write", &[], "callback"),
            ("topic=a&origin=*", &[], "origin"),
            ("topic=a&callback=f&origin=https://a.example", &[], "callback"),
            ("topic=a&cursor=k-1&cursor=k-2", &[], "cursor"),
            ("topic=a&format=raw&format=raw", &[], "format"),
        ] {
            let problem = read(query, headers).expect_err(query);
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{query} {headers:?}");
            assert!(problem.malformed.is_some(), "{query}: it is counted");
        }
        assert_eq!(read(&many, &[]).unwrap_err().limit, Some(128));
        assert_eq!(read("topic=a&wait=121", &[]).unwrap_err().limit, Some(120));
    }

    #[test]
    fn matchers_are_sorted_and_none_stands_twice() {
        let asked = read("topic=b&topic=a/*&topic=b&topic=a%2F**&token=x", &[]).unwrap();
        let texts: Vec<_> = asked.matchers.iter().map(Matcher::as_str).collect();
        assert_eq!(texts, ["a/*", "a/**", "b"]);
        let none = Asked::read(&request("", &[UPGRADE]), &Config::default(), true).unwrap();
        assert!(none.matchers.is_empty(), "a client that speaks commands may subscribe later");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let asked = read("topic=a&wait", &[]).unwrap();
        assert_eq!((asked.limit, asked.wait_seconds), (1_000, 25));
        assert_eq!(asked.target, OwnedTarget::SameOrigin);
        let asked = read("topic=a&limit=7&wait=0", &[]).unwrap();
        assert_eq!((asked.limit, asked.wait_seconds), (7, 0));
        for (transport, format) in [
            ("poll", Format::Json),
            ("long-poll", Format::Json),
            ("iframe", Format::Json),
            ("stream", Format::Json),
            ("sse", Format::Raw),
        ] {
            let default = read(&format!("topic=a&transport={transport}"), &[]).unwrap();
            assert_eq!(default.format_or_default(), format, "{transport}");
            let other = read(&format!("topic=a&transport={transport}&format=raw"), &[]).unwrap();
            assert_eq!(other.format_or_default(), Format::Raw, "{transport}");
        }
    }
}
