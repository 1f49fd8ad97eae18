//! Answers that are whole: head, fields and body at once.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use stentor_protocol::h1::Version;
use stentor_protocol::h1::response::{ImfFixdate, write_field, write_status_line};

use crate::app::Response;
use crate::error::Problem;

/// An answer before it is known how the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub(super) body: Vec<u8>,
}

/// What of an answer depends on the request and on the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) is_http10: bool,
    pub(super) is_head: bool,
    pub(super) keeps_alive: bool,
    /// More header lines (CORS), each with its CRLF.
    pub(super) extra_head: &'a str,
}

/// Fields that say how the message is framed or the connection goes on: nobody but us writes those.
const OURS: [&str; 8] =
    ["connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    /// A 200 that no cache keeps.
    pub(super) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(200) }
            .field("Content-Type", "application/json")
            .field("Cache-Control", "no-store")
            .field("X-Content-Type-Options", "nosniff")
    }

    pub(super) fn field(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Appends the answer as it goes over the wire.
    pub(super) fn encode(&self, manner: &Manner<'_>, out: &mut Vec<u8>) {
        // The version is what we speak, not what was asked in (RFC 9110 §2.5).
        write_status_line(out, Version::Http11, self.status);
        out.extend_from_slice(date_line().as_bytes());
        // Neither has a body, and a 204 must not have a length (RFC 9110 §8.6).
        let has_body = !matches!(self.status, 204 | 304);
        if has_body {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        for (name, value) in &self.fields {
            if write_field(out, name, value).is_err() {
                let field = name.escape_debug();
                tracing::warn!(%field, "a header field that cannot be sent was left out");
            }
        }
        out.extend_from_slice(manner.extra_head.as_bytes());
        // Who offers an upgrade names it here too, since it concerns this connection only (RFC 9110 §7.8).
        let offers_upgrade = self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        let options = match (manner.keeps_alive, manner.is_http10) {
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        let options = options.into_iter().chain(offers_upgrade.then_some("Upgrade")).collect::<Vec<_>>();
        if !options.is_empty() {
            out.extend_from_slice(format!("Connection: {}\r\n", options.join(", ")).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if has_body && !manner.is_head {
            out.extend_from_slice(&self.body);
        }
    }
}

impl From<&Problem> for Answer {
    fn from(problem: &Problem) -> Self {
        let mut answer = Self { body: problem.to_json(), ..Self::new(problem.status) }
            .field("Content-Type", "application/problem+json")
            .field("Cache-Control", "no-store")
            .field("X-Content-Type-Options", "nosniff");
        if let Some(seconds) = problem.retry_after_seconds {
            answer = answer.field("Retry-After", seconds.to_string());
        }
        // An upgrade that we offer is announced, though it concerns the connection (RFC 9110 §15.5.22).
        let is_ours = |name: &str| OURS.contains(&&*name.to_ascii_lowercase()) && problem.status != 426;
        let headers = problem.headers.iter().filter(|(name, _)| !is_ours(name));
        answer.fields.extend(headers.cloned());
        answer
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        // What has no meaning as a final status is our embedder's mistake, and must not break the connection.
        let status = if (200..=599).contains(&response.status) { response.status } else { 500 };
        let is_ours = |name: &str| OURS.contains(&&*name.to_ascii_lowercase());
        let own = |(name, value): (String, String)| (Cow::Owned(name), Cow::Owned(value));
        let headers = response.headers.into_iter().filter(|(name, _)| !is_ours(name));
        Self { status, fields: headers.map(own).collect(), body: response.body }
    }
}

/// `Date`, which an origin server with a clock sends (RFC 9110 §6.6.1), with its CRLF.
pub(super) fn date_line() -> String {
    date_line_of(now_seconds())
}

/// The line of a second since 1970.
pub(super) fn date_line_of(second: u64) -> String {
    format!("Date: {}\r\n", ImfFixdate::from_unix(second))
}

pub(super) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Refused;

    const KEPT: Manner<'_> =
        Manner { is_http10: false, is_head: false, keeps_alive: true, extra_head: "Vary: Origin\r\n" };

    fn text(answer: &Answer, manner: &Manner<'_>) -> String {
        let mut out = Vec::new();
        answer.encode(manner, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, rest) = text.split_once("Date: ").unwrap();
        format!("{head}{}", rest.split_once("\r\n").unwrap().1)
    }

    #[test]
    fn an_answer_says_its_length_and_whether_the_connection_is_kept() {
        let answer = Answer::new(200).field("X", "y");
        let answer = Answer { body: b"abc".to_vec(), ..answer };
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\nVary: Origin\r\n";
        assert_eq!(text(&answer, &KEPT), format!("{head}\r\nabc"));
        assert_eq!(text(&answer, &Manner { is_head: true, ..KEPT }), format!("{head}\r\n"));
        let closing = Manner { keeps_alive: false, ..KEPT };
        assert_eq!(text(&answer, &closing), format!("{head}Connection: close\r\n\r\nabc"));
        let http10 = Manner { is_http10: true, ..KEPT };
        assert_eq!(text(&answer, &http10), format!("{head}Connection: keep-alive\r\n\r\nabc"));
    }

    #[test]
    fn a_204_has_neither_body_nor_length() {
        let answer = Answer { body: b"abc".to_vec(), ..Answer::new(204) };
        assert_eq!(text(&answer, &KEPT), "HTTP/1.1 204 No Content\r\nVary: Origin\r\n\r\n");
    }

    #[test]
    fn a_field_of_the_embedder_cannot_break_the_head_or_the_framing() {
        let response = Response::ok("text/plain", "x")
            .header("Content-Length", "7")
            .header("transfer-encoding", "chunked")
            .header("Connection", "close")
            .header("A", "b\r\nEvil: yes")
            .header("B: c", "d")
            .header("Good", "1");
        assert_eq!(
            text(&response.into(), &Manner { extra_head: "", ..KEPT }),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Type: text/plain\r\nGood: 1\r\n\r\nx"
        );
        assert_eq!(Answer::from(Response::ok("a", "").status(99)).status, 500);
    }

    #[test]
    fn an_offer_to_upgrade_is_an_option_of_the_connection() {
        let problem = Problem::from(stentor_protocol::ws::handshake::HandshakeError::Version);
        let kept = text(&Answer::from(&problem), &KEPT);
        assert!(kept.contains("Upgrade: websocket\r\n"), "{kept}");
        assert!(kept.contains("\r\nConnection: Upgrade\r\n\r\n"), "{kept}");
        let closing = text(&Answer::from(&problem), &Manner { keeps_alive: false, ..KEPT });
        assert!(closing.contains("\r\nConnection: close, Upgrade\r\n\r\n"), "{closing}");
    }

    #[test]
    fn a_problem_says_when_to_come_back() {
        let problem = Problem::new(503, Refused::Busy, "busy").retry_after(7).header("X-Why", "load");
        let text = text(&Answer::from(&problem), &KEPT);
        assert!(text.contains("Retry-After: 7\r\n") && text.contains("X-Why: load\r\n"), "{text}");
        assert!(text.contains("Content-Type: application/problem+json\r\n"), "{text}");
    }
}
