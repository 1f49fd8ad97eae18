//! A no: as `application/problem+json` (RFC 9457), and as the close code of a WebSocket. The one place where
//! faults become statuses and figures.

use std::borrow::Cow;

use serde::Serialize;
use stentor_protocol::h1::query::QueryError;
use stentor_protocol::h1::{BodyError, HeadError, response};
use stentor_protocol::iframe::TargetError;
use stentor_protocol::ws::handshake::HandshakeError;

use crate::app::Refusal;
use crate::connection::AdmissionError;
use crate::cursor::{Cursor, CursorError};
use crate::event::EventError;
use crate::metrics::{Malformed, Refused};
use crate::publish::PublishError;
use crate::topic::TopicError;
use crate::transport::batch::LineError;

/// Why a request is refused, with all that its answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// 400 to 599.
    pub(crate) status: u16,
    /// A sentence that says why.
    pub(crate) detail: String,
    /// The field or parameter that is wrong.
    pub(crate) field: Option<Cow<'static, str>>,
    /// The limit that it breaks.
    pub(crate) limit: Option<u64>,
    /// The line of a batch, from 1.
    pub(crate) line: Option<usize>,
    /// With 410: where the log begins again.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) retry_after_seconds: Option<u32>,
    /// More header lines of the answer.
    pub(crate) headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The figure that it is counted in.
    pub(crate) reason: Refused,
    /// The figure of malformed input that it is counted in besides.
    pub(crate) malformed: Option<Malformed>,
    /// Whether it is the engine that goes away, and not this request that is wrong.
    pub(crate) is_drain: bool,
    /// Whether nothing can follow on this connection, since the end of the request is not known.
    pub(crate) must_close: bool,
}

/// Boxed, so that what may fail stays small.
pub(crate) type Refusable<T> = Result<T, Box<Problem>>;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: u16, reason: Refused, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
            limit: None,
            line: None,
            cursor: None,
            retry_after_seconds: None,
            headers: Vec::new(),
            reason,
            malformed: None,
            is_drain: false,
            must_close: false,
        }
    }

    /// A 400 for a parameter or header field.
    pub(crate) fn parameter(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(400, Refused::BadRequest, detail).field(field).malformed(Malformed::Parameter)
    }

    /// The engine goes away.
    pub(crate) fn draining() -> Self {
        let problem = Self::new(503, Refused::Draining, "the server is shutting down; come back soon");
        Self { is_drain: true, must_close: true, ..problem.retry_after(1) }
    }

    pub(crate) fn field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(crate) fn limit(self, limit: u64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    pub(crate) fn malformed(self, malformed: Malformed) -> Self {
        Self { malformed: Some(malformed), ..self }
    }

    pub(crate) fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn closing(self) -> Self {
        Self { must_close: true, ..self }
    }

    /// Whether the same request may well be answered soon.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    /// The body of the answer.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let body = Body {
            r#type: "about:blank",
            title: response::reason(self.status),
            status: self.status,
            detail: &self.detail,
            field: self.field.as_deref(),
            limit: self.limit,
            line: self.line,
            cursor: self.cursor.map(|cursor| cursor.to_string()),
        };
        let mut json = serde_json::to_vec(&body).expect("strings and numbers are always JSON");
        json.push(b'\n');
        json
    }

    /// What a WebSocket is closed with. The codes of 4400 and up are the statuses; those below say "come
    /// back".
    pub(crate) fn close_code(&self) -> u16 {
        match self.status {
            _ if self.is_drain => 1001,
            401 => 4401,
            403 | 421 => 4403,
            410 => 4410,
            429 => 4429,
            503 => 1013,
            500.. => 1011,
            _ => 4400,
        }
    }

    /// What is said besides the close code.
    pub(crate) fn close_reason(&self) -> String {
        match self.cursor {
            Some(cursor) => cursor.to_string(),
            None => self.detail.clone(),
        }
    }
}

/// The figure that a status of the embedder's counts in.
fn reason_of(status: u16) -> Refused {
    match status {
        400 => Refused::BadRequest,
        401 => Refused::Unauthorized,
        403 => Refused::Forbidden,
        404 => Refused::NotFound,
        405 => Refused::Method,
        408 => Refused::Timeout,
        410 => Refused::Gone,
        413 | 414 | 431 => Refused::TooLarge,
        415 => Refused::MediaType,
        422 => Refused::KeyReused,
        426 => Refused::Upgrade,
        429 => Refused::Rate,
        501 | 505 => Refused::Unsupported,
        503 => Refused::Busy,
        _ => Refused::Other,
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let own = |(name, value): (String, String)| (Cow::Owned(name), Cow::Owned(value));
        Self {
            field: refusal.field.map(Cow::Owned),
            retry_after_seconds: refusal.retry_after_seconds,
            headers: refusal.headers.into_iter().map(own).collect(),
            ..Self::new(refusal.status, reason_of(refusal.status), refusal.detail)
        }
    }
}

impl From<HeadError> for Problem {
    fn from(error: HeadError) -> Self {
        let limit = match error {
            HeadError::TooLong { max } | HeadError::TargetTooLong { max } => Some(max as u64),
            HeadError::TooManyFields { max } | HeadError::MethodTooLong { max } => Some(max as u64),
            _ => None,
        };
        let problem = Self::new(error.status(), reason_of(error.status()), error.to_string());
        let part = match error.status() {
            414 => "target",
            501 => "method",
            505 => "version",
            _ => "head",
        };
        let field = error.field().map_or(Cow::Borrowed(part), |field| Cow::Owned(field.into()));
        Self { field: Some(field), limit, ..problem }.malformed(Malformed::Head).closing()
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let limit = match error {
            BodyError::TooLong { max } => Some(max),
            BodyError::TrailerTooLong { max } => Some(max as u64),
            _ => None,
        };
        let problem = Self::new(error.status(), reason_of(error.status()), error.to_string());
        Self { limit, ..problem }.field("body").malformed(Malformed::Body).closing()
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        Self::parameter(error.parameter.into_string(), detail).malformed(Malformed::Query)
    }
}

impl From<HandshakeError> for Problem {
    fn from(error: HandshakeError) -> Self {
        let reason = match error.status() {
            426 => Refused::Upgrade,
            status => reason_of(status),
        };
        let mut problem =
            Self::new(error.status(), reason, error.to_string()).malformed(Malformed::Handshake);
        problem.field = Some(error.field().map_or(Cow::Borrowed("version"), Cow::Borrowed));
        for &(name, value) in error.response_fields() {
            // `Connection` is written by who knows whether the connection is kept.
            if !name.eq_ignore_ascii_case("connection") {
                problem = problem.header(name, value);
            }
        }
        problem
    }
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        let problem = Self::parameter("topic", error.to_string()).malformed(Malformed::Topic);
        match error {
            TopicError::TooLong { .. } => problem.limit(crate::topic::TOPIC_BYTES_MAX as u64),
            _ => problem,
        }
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        let field = match error {
            EventError::Topic(error) => return error.into(),
            EventError::Name { .. } => "name",
            EventError::Json { .. } => "data",
        };
        Self::parameter(field, error.to_string()).malformed(Malformed::Event)
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        let field = if error == TargetError::Origin { "origin" } else { "callback" };
        Self::parameter(field, error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let status = error.status();
        let problem = Self::new(status, reason_of(status), error.to_string());
        match error {
            PublishError::Busy { retry_after_seconds, .. } => problem.retry_after(retry_after_seconds),
            PublishError::EventTooLarge { bytes_max, .. } => problem.field("data").limit(bytes_max as u64),
            PublishError::BatchTooLong { events_max, .. } => problem.field("body").limit(events_max as u64),
            PublishError::BatchTooLarge { bytes_max, .. } => problem.field("body").limit(bytes_max as u64),
            PublishError::Key { .. } => problem.field("Idempotency-Key").malformed(Malformed::Parameter),
            PublishError::KeyReused => problem.field("Idempotency-Key"),
            PublishError::Closed => Self::draining(),
        }
    }
}

impl From<LineError> for Problem {
    fn from(error: LineError) -> Self {
        let problem = Self::new(error.status, reason_of(error.status), error.to_string());
        let field = Some(error.field.map_or(Cow::Borrowed("body"), Cow::Owned));
        Self { line: (error.line > 0).then_some(error.line), field, ..problem }.malformed(Malformed::Batch)
    }
}

impl From<AdmissionError> for Problem {
    fn from(error: AdmissionError) -> Self {
        let (status, reason, limit) = match error {
            AdmissionError::All { limit } => (503, Refused::Connections, limit as u64),
            AdmissionError::Address { limit } => (429, Refused::Address, u64::from(limit)),
        };
        Self::new(status, reason, error.to_string()).limit(limit).retry_after(5).closing()
    }
}

impl Problem {
    /// A cursor of `field` that cannot be taken.
    pub(crate) fn cursor(field: impl Into<Cow<'static, str>>, error: CursorError) -> Self {
        Self::parameter(field, error.to_string()).malformed(Malformed::Cursor)
    }
}

/// So that `?` boxes.
macro_rules! boxed {
    ($($error:ty)*) => {
        $(impl From<$error> for Box<Problem> {
            fn from(error: $error) -> Self {
                Self::new(error.into())
            }
        })*
    };
}

boxed! {
    AdmissionError BodyError EventError HandshakeError HeadError LineError PublishError QueryError Refusal
    TargetError TopicError
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Epoch, Offset};

    #[test]
    fn a_problem_names_the_field_and_the_limit() {
        let problem = Problem::from(TopicError::TooLong { bytes: 300 });
        assert_eq!(
            String::from_utf8(problem.to_json()).unwrap(),
            "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\
             \"detail\":\"topic of 300 bytes; at most 256 are allowed\",\"field\":\"topic\",\"limit\":256}\n"
        );
    }

    #[test]
    fn what_a_peer_wrote_cannot_break_the_json() {
        let problem = Problem::parameter("a\"b".to_owned(), "\u{7}\"\n</script>");
        let value: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(value["field"], "a\"b");
        assert_eq!(value["detail"], "\u{7}\"\n</script>");
    }

    #[test]
    fn each_status_has_its_close_code() {
        for (status, code) in [
            (400, 4400),
            (401, 4401),
            (403, 4403),
            (404, 4400),
            (410, 4410),
            (413, 4400),
            (421, 4403),
            (429, 4429),
            (500, 1011),
            (503, 1013),
        ] {
            assert_eq!(Problem::new(status, Refused::Other, "").close_code(), code, "{status}");
        }
        assert_eq!(Problem::draining().close_code(), 1001);
    }

    #[test]
    fn a_gone_cursor_is_the_reason_of_the_close() {
        let mut problem = Problem::new(410, Refused::Gone, "gone");
        problem.cursor = Some(Cursor { epoch: Epoch(20), offset: Offset(7) });
        assert_eq!(problem.close_reason(), "k-7");
        assert!(String::from_utf8(problem.to_json()).unwrap().contains("\"cursor\":\"k-7\""));
    }

    #[test]
    fn faults_of_each_kind_have_the_status_of_the_interface() {
        let cases: [(Problem, u16, Option<&str>); 8] = [
            (HeadError::MissingHost.into(), 400, Some("Host")),
            (HeadError::TooLong { max: 10 }.into(), 431, Some("head")),
            (HeadError::UnsupportedVersion { major: 2, minor: 0 }.into(), 505, Some("version")),
            (BodyError::TooLong { max: 10 }.into(), 413, Some("body")),
            (HandshakeError::Version.into(), 426, Some("Sec-WebSocket-Version")),
            (PublishError::KeyReused.into(), 422, Some("Idempotency-Key")),
            (PublishError::Busy { topic: None, retry_after_seconds: 2 }.into(), 503, None),
            (AdmissionError::Address { limit: 3 }.into(), 429, None),
        ];
        for (problem, status, field) in cases {
            assert_eq!((problem.status, problem.field.as_deref()), (status, field), "{}", problem.detail);
            assert_ne!(reason_of(problem.status), Refused::Other, "{}", problem.detail);
        }
    }
}
