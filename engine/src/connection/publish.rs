//! Publishing over HTTP: one event as a body, or a batch of them. The body is not read before the embedder
//! has said yes.

use std::time::Instant;

use stentor_protocol::h1::query::EncodingFault;

use super::asked::{check_single, param};
use super::request::OwnedRequest;
use crate::config::Limits;
use crate::error::{Problem, Refusable};
use crate::event::{Data, Event};
use crate::metrics::{Malformed, Refused};
use crate::publish::Publisher;
use crate::topic::Topic;
use crate::transport::batch;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    Text,
    Json,
    Binary,
    /// An event a line.
    Batch,
}

/// What a request for publishing asks for, before its body is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publishing {
    kind: BodyKind,
    /// None for a batch, whose lines name their topics.
    topic: Option<Topic>,
    name: Option<String>,
    key: Option<String>,
}

impl Publishing {
    /// Reads `request`.
    ///
    /// # Errors
    /// A 400 or 415 that names the parameter or field.
    pub(super) fn read(request: &OwnedRequest) -> Refusable<Self> {
        check_single(request)?;
        let kind = kind_of(request)?;
        let (topic, name) = match kind {
            BodyKind::Batch => {
                check_unnamed(request)?;
                (None, None)
            }
            _ => (Some(topic_of(request)?), param(request, "name").map(str::to_owned)),
        };
        let mut keys = request.headers_named("idempotency-key");
        let key = keys.next().map(str::to_owned);
        if keys.next().is_some() {
            let detail = "Idempotency-Key is given more than once";
            return Err(Box::new(Problem::parameter("Idempotency-Key", detail)));
        }
        // The name is checked before the body is read, as the topic is.
        if let (Some(topic), Some(name)) = (&topic, &name) {
            Event::new(topic.clone(), Data::Binary(Box::default())).named(name)?;
        }
        Ok(Self { kind, topic, name, key })
    }

    pub(super) fn topic(&self) -> Option<&Topic> {
        self.topic.as_ref()
    }

    /// Most bytes of the body.
    pub(super) fn bytes_max(&self, limits: &Limits) -> usize {
        match self.kind {
            BodyKind::Batch => limits.batch_bytes,
            _ => limits.event_bytes,
        }
    }

    /// The field that a body which is too long breaks the limit of.
    pub(super) fn body_field(&self) -> &'static str {
        match self.kind {
            BodyKind::Batch => "body",
            _ => "data",
        }
    }

    /// Publishes `body`, all of it or nothing, and returns the answer's body.
    ///
    /// # Errors
    /// Whatever is wrong with the body, or keeps the log from taking it.
    pub(super) fn publish(self, body: Vec<u8>, publisher: &Publisher, limits: &Limits) -> Refusable<String> {
        let (is_batch, key) = (self.kind == BodyKind::Batch, self.key.clone());
        let events = self.events(body, limits)?;
        let cursors = match key {
            Some(key) => publisher.publish_keyed(&key, events)?.cursors,
            None => publisher.publish_batch(events)?,
        };
        let mut ids = cursors.iter().map(|cursor| format!("\"{cursor}\""));
        Ok(if is_batch {
            format!("{{\"ids\":[{}]}}\n", ids.collect::<Vec<_>>().join(","))
        } else {
            format!("{{\"id\":{}}}\n", ids.next().unwrap_or_default())
        })
    }

    fn events(self, body: Vec<u8>, limits: &Limits) -> Refusable<Vec<Event>> {
        let Some(topic) = self.topic else { return Ok(batch::parse(&body, limits)?) };
        let event = match self.kind {
            BodyKind::Binary | BodyKind::Batch => Event::new(topic, Data::Binary(body.into())),
            BodyKind::Text => Event::new(topic, Data::Text(utf8(body)?.into())),
            BodyKind::Json => Event::json(topic.as_str(), utf8(body)?)?,
        };
        Ok(vec![match &self.name {
            Some(name) => event.named(name)?,
            None => event,
        }])
    }
}

fn utf8(body: Vec<u8>) -> Refusable<String> {
    String::from_utf8(body).map_err(|error| {
        let detail = format!("data is not UTF-8 from byte {} on", error.utf8_error().valid_up_to() + 1);
        Box::new(Problem::parameter("data", detail).malformed(Malformed::Event))
    })
}

fn topic_of(request: &OwnedRequest) -> Refusable<Topic> {
    let mut topics = request.query.iter().filter(|(name, _)| name == "topic").map(|(_, value)| value);
    let Some(topic) = topics.next() else {
        let detail = "topic is missing; name it, as in ?topic=prices/eurusd";
        return Err(Box::new(Problem::parameter("topic", detail)));
    };
    if topics.next().is_some() {
        let detail = "topic is given more than once; an event has one, a batch may have many";
        return Err(Box::new(Problem::parameter("topic", detail)));
    }
    Ok(Topic::new(topic)?)
}

/// What a batch says in its lines, it may not say in the query as well.
fn check_unnamed(request: &OwnedRequest) -> Refusable<()> {
    for name in ["topic", "name"] {
        if param(request, name).is_some() {
            let detail = format!("parameter {name:?} does not go with a batch, whose lines name it");
            return Err(Box::new(Problem::parameter(name, detail)));
        }
    }
    Ok(())
}

/// No type is text: what a shell script sends without a thought. So is a form's, which is what `curl -d` says
/// of anything.
fn kind_of(request: &OwnedRequest) -> Refusable<BodyKind> {
    if let Some(coding) = request.header("content-encoding").filter(|coding| !is_identity(coding)) {
        let detail = format!("Content-Encoding {coding:?}; data is taken as it stands only");
        return Err(Box::new(Problem::new(415, Refused::MediaType, detail).field("Content-Encoding")));
    }
    let mut types = request.headers_named("content-type");
    let Some(text) = types.next() else { return Ok(BodyKind::Text) };
    if types.next().is_some() {
        return Err(unsupported("Content-Type is given more than once".into()));
    }
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_media_type =
        essence.split_once('/').is_some_and(|(group, name)| is_token(group) && is_token(name));
    if !is_media_type {
        return Err(unsupported(format!("Content-Type {text:?} is no media type")));
    }
    let kind = match &*essence {
        "application/json" => BodyKind::Json,
        "application/x-ndjson" => BodyKind::Batch,
        "application/x-www-form-urlencoded" => BodyKind::Text,
        _ if essence.starts_with("text/") => BodyKind::Text,
        _ => return Ok(BodyKind::Binary),
    };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        let is_utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(value));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(unsupported(format!("Content-Type with charset {value:?}; only utf-8 is taken")));
        }
    }
    Ok(kind)
}

fn unsupported(detail: String) -> Box<Problem> {
    Box::new(Problem::new(415, Refused::MediaType, detail).field("Content-Type"))
}

fn is_identity(coding: &str) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case("identity")
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// How often something may happen: so many times a second, and as many at once.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, tokens: per_second, filled: now }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + seconds * self.per_second).min(self.per_second);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// When it will be full again, if nothing more is taken; the past if it is.
    pub(super) fn full_at(&self) -> Instant {
        let missing = self.per_second - self.tokens;
        let seconds = if self.per_second > 0.0 { (missing / self.per_second).clamp(0.0, 1.0) } else { 0.0 };
        self.filled + std::time::Duration::from_secs_f64(seconds)
    }
}

/// A path that does not decode.
pub(super) fn path_problem(fault: EncodingFault) -> Box<Problem> {
    Box::new(Problem::parameter("path", format!("path: {fault}")).malformed(Malformed::Query))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stentor_protocol::h1::query::parse_query;

    use super::*;
    use crate::config::Config;
    use crate::publish::Sequencer;

    fn request(query: &str, headers: &[(&str, &str)]) -> OwnedRequest {
        OwnedRequest {
            method: "POST".into(),
            path: "/events".into(),
            query: parse_query(query).unwrap(),
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn the_media_type_decides_what_the_data_is() {
        for (media_type, kind) in [
            (None, BodyKind::Text),
            (Some("text/plain"), BodyKind::Text),
            (Some("text/plain; charset=UTF-8"), BodyKind::Text),
            (Some("text/csv;charset=\"utf-8\""), BodyKind::Text),
            (Some("application/x-www-form-urlencoded"), BodyKind::Text),
            (Some("Application/JSON"), BodyKind::Json),
            (Some("application/json; charset=utf-8"), BodyKind::Json),
            (Some("application/x-ndjson"), BodyKind::Batch),
            (Some("application/octet-stream"), BodyKind::Binary),
            (Some("image/png"), BodyKind::Binary),
            (Some("application/ld+json"), BodyKind::Binary),
        ] {
            let headers: Vec<_> = media_type.map(|text| ("Content-Type", text)).into_iter().collect();
            assert_eq!(kind_of(&request("topic=a", &headers)).unwrap(), kind, "{media_type:?}");
        }
    }

    #[test]
    fn what_is_wrong_before_the_body_is_named() {
        let ndjson = ("Content-Type", "application/x-ndjson");
        for (query, headers, status, field) in [
            ("", &[][..], 400, "topic"),
            ("topic=", &[], 400, "topic"),
            ("topic=a/*", &[], 400, "topic"),
            ("topic=a&topic=b", &[], 400, "topic"),
            ("topic=a&name=", &[], 400, "name"),
            ("topic=a&name=stentor.gap", &[], 400, "name"),
            ("topic=a&name=b&name=c", &[], 400, "name"),
            ("topic=a", &[ndjson], 400, "topic"),
            ("name=a", &[ndjson], 400, "name"),
            ("topic=a", &[("Content-Type", "text")], 415, "Content-Type"),
            ("topic=a", &[("Content-Type", "")], 415, "Content-Type"),
            ("topic=a", &[("Content-Type", "text/plain; charset=latin1")], 415, "Content-Type"),
            ("topic=a", &[("Content-Type", "a/b"), ("Content-Type", "a/c")], 415, "Content-Type"),
            ("topic=a", &[("Content-Encoding", "gzip")], 415, "Content-Encoding"),
            ("topic=a", &[("Idempotency-Key", "x"), ("Idempotency-Key", "y")], 400, "Idempotency-Key"),
        ] {
            let problem = Publishing::read(&request(query, headers)).expect_err(query);
            let told = (problem.status, problem.field.as_deref());
            assert_eq!(told, (status, Some(field)), "{query} {headers:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_what_it_says_is_refused_and_not_published() {
        let sequencer = Sequencer::new(&Config::default(), Vec::new());
        let publisher = Publisher::new(sequencer.clone());
        let limits = Limits::default();
        for (media_type, body, field) in [
            ("text/plain", &b"a\xff"[..], "data"),
            ("application/json", b"\xff", "data"),
            ("application/json", b"{\"a\":", "data"),
            ("application/json", b"", "data"),
            (
                "application/x-ndjson",
                b"{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"*\",\"data\":1}\n",
                "topic",
            ),
        ] {
            let query = if media_type.ends_with("ndjson") { "" } else { "topic=a" };
            let publishing = Publishing::read(&request(query, &[("Content-Type", media_type)])).unwrap();
            let problem = publishing.publish(body.into(), &publisher, &limits).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)), "{media_type}");
        }
        assert_eq!(sequencer.head().0, 0);
    }

    #[test]
    fn one_event_has_an_id_and_a_batch_has_ids() {
        let sequencer = Sequencer::new(&Config::default(), Vec::new());
        let publisher = Publisher::new(sequencer.clone());
        let limits = Limits::default();
        let one = Publishing::read(&request("topic=a&name=n", &[("Idempotency-Key", "k")])).unwrap();
        let epoch = sequencer.cursor(crate::Offset(1)).to_string();
        let epoch = epoch.split_once('-').unwrap().0;
        for _ in 0..2 {
            let answer = one.clone().publish(b"x".to_vec(), &publisher, &limits).unwrap();
            assert_eq!(answer, format!("{{\"id\":\"{epoch}-1\"}}\n"), "the first answer again");
        }
        let reused = one.publish(b"y".to_vec(), &publisher, &limits).unwrap_err();
        assert_eq!((reused.status, reused.field.as_deref()), (422, Some("Idempotency-Key")));
        let batch = Publishing::read(&request("", &[("Content-Type", "application/x-ndjson")])).unwrap();
        let lines = b"{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"data\":\"t\"}\n".to_vec();
        let answer = batch.publish(lines, &publisher, &limits).unwrap();
        assert_eq!(answer, format!("{{\"ids\":[\"{epoch}-2\",\"{epoch}-3\"]}}\n"));
    }

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5, start);
        assert!((0..5).all(|_| bucket.take(start)));
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(190)));
        assert!(bucket.take(start + Duration::from_millis(400)));
        assert!(bucket.full_at() > start + Duration::from_millis(900));
        assert!((0..5).all(|_| bucket.take(start + Duration::from_secs(60))), "never more than a burst");
        assert!(!bucket.take(start + Duration::from_secs(60)));
        assert!(!Bucket::new(0, start).take(start));
    }
}
