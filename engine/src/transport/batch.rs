//! Batches of events: newline-delimited JSON, an event a line: `{"topic":…,"name":…,"data":…}`, or `"base64"`
//! for bytes.
//!
//! `data` may be any JSON value: a string is text, everything else stays the JSON text that it is.

use std::fmt;

use crate::config::Limits;
use crate::event::Event;
use crate::transport::fields::{FieldError, Fields};

/// Why a batch, or a line of it, is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineError {
    /// From 1; 0 where it is the batch as a whole.
    pub line: usize,
    /// The field that is wrong; none if the line is no JSON object.
    pub field: Option<String>,
    /// A clause that says why.
    pub detail: String,
    /// 400, or 413 for what is too large.
    pub status: u16,
}

impl LineError {
    fn of_batch(status: u16, detail: String) -> Self {
        Self { line: 0, field: None, detail, status }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "batch {}", self.detail),
            line => write!(f, "line {line}: {}", self.detail),
        }
    }
}

impl std::error::Error for LineError {}

/// Reads every line of a batch; blank lines are passed over, but counted.
///
/// # Errors
/// [`LineError`] of the first line that is no event or one too many, or of a batch that is too long or has no
/// event.
pub(crate) fn parse(body: &[u8], limits: &Limits) -> Result<Vec<Event>, LineError> {
    if body.len() > limits.batch_bytes {
        let detail = format!("has {} bytes; at most {} are allowed", body.len(), limits.batch_bytes);
        return Err(LineError::of_batch(413, detail));
    }
    let mut events = Vec::new();
    for (index, line) in body.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if events.len() == limits.batch_lines {
            let detail = format!("the batch has more than {} lines", limits.batch_lines);
            return Err(LineError { line: index + 1, field: None, detail, status: 413 });
        }
        events.push(parse_line(index + 1, line, limits)?);
    }
    if events.is_empty() {
        return Err(LineError::of_batch(400, "has no event".into()));
    }
    Ok(events)
}

/// Reads one line, the `line`th from 1.
///
/// # Errors
/// [`LineError`] names the line and the field.
pub(crate) fn parse_line(line: usize, bytes: &[u8], limits: &Limits) -> Result<Event, LineError> {
    let event = || {
        let text = std::str::from_utf8(bytes).map_err(|error| FieldError {
            field: None,
            detail: format!("is not UTF-8 from byte {} on", error.valid_up_to() + 1),
            status: 400,
        })?;
        Fields::parse(text)?.event(limits)
    };
    event().map_err(|error| LineError {
        line,
        field: error.field,
        detail: error.detail,
        status: error.status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;

    #[test]
    fn a_line_is_an_event_of_the_kind_that_its_data_has() {
        for (line, name, data) in [
            (r#"{"topic":"a/b","data":"x\n"}"#, None, Data::Text("x\n".into())),
            (r#"{"data":"","name":"n","topic":"a/b"}"#, Some("n"), Data::Text("".into())),
            (r#" {"topic":"a\/b","data": {"k" : 1.0} } "#, None, Data::Json(r#"{"k" : 1.0}"#.into())),
            (r#"{"topic":"a/b","data":null}"#, None, Data::Json("null".into())),
            (r#"{"topic":"a/b","data":-1e3}"#, None, Data::Json("-1e3".into())),
            (r#"{"topic":"a/b","base64":"/wA="}"#, None, Data::Binary([255, 0].into())),
            (r#"{"topic":"a/b","base64":"/wA"}"#, None, Data::Binary([255, 0].into())),
            (r#"{"topic":"a/b","base64":""}"#, None, Data::Binary([].into())),
        ] {
            let event = parse_line(1, line.as_bytes(), &Limits::default()).unwrap();
            assert_eq!((event.topic().as_str(), event.name(), event.data()), ("a/b", name, &data), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        for (line, field, status) in [
            (&b"x"[..], None, 400),
            (b"[]", None, 400),
            (b"\xff{}", None, 400),
            (b"{\"topic\":\"a\",\"data\":1} 2", None, 400),
            (b"{\"topic\":\"a\",\"data\":01}", None, 400),
            (b"{}", Some("topic"), 400),
            (b"{\"topic\":1,\"data\":1}", Some("topic"), 400),
            (b"{\"topic\":\"a/*\",\"data\":1}", Some("topic"), 400),
            (b"{\"topic\":\"a\"}", Some("data"), 400),
            (b"{\"topic\":\"a\",\"data\":\"\\ud800\"}", Some("data"), 400),
            (b"{\"topic\":\"a\",\"data\":1,\"data\":2}", Some("data"), 400),
            (b"{\"topic\":\"a\",\"data\":1,\"base64\":\"\"}", Some("base64"), 400),
            (b"{\"topic\":\"a\",\"base64\":\"*\"}", Some("base64"), 400),
            (b"{\"topic\":\"a\",\"base64\":1}", Some("base64"), 400),
            (b"{\"topic\":\"a\",\"data\":1,\"name\":\"stentor.x\"}", Some("name"), 400),
            (b"{\"topic\":\"a\",\"data\":1,\"name\":null}", Some("name"), 400),
            (b"{\"topic\":\"a\",\"data\":1,\"id\":\"k-1\"}", Some("id"), 400),
            (b"{\"topic\":\"a\",\"data\":\"12345\"}", Some("data"), 413),
            (b"{\"topic\":\"a\",\"data\":[1,2,3]}", Some("data"), 413),
            (b"{\"topic\":\"a\",\"base64\":\"AAAAAAA=\"}", Some("base64"), 413),
        ] {
            let limits = Limits { event_bytes: 4, ..Limits::default() };
            let error = parse_line(7, line, &limits).unwrap_err();
            let line = String::from_utf8_lossy(line);
            assert_eq!((error.line, error.field.as_deref(), error.status), (7, field, status), "{line}");
            assert!(error.to_string().starts_with("line 7: "), "{error}");
        }
    }

    #[test]
    fn a_batch_counts_its_lines_and_keeps_its_limits() {
        let limits = Limits { batch_lines: 2, batch_bytes: 60, ..Limits::default() };
        let line =
            |body: &str| parse(body.as_bytes(), &limits).map(|e| e.len()).map_err(|e| (e.line, e.status));
        let event = "{\"topic\":\"a\",\"data\":1}";
        assert_eq!(line(event), Ok(1));
        assert_eq!(line(&format!("\n{event}\r\n  \n{event}\n\n")), Ok(2));
        assert_eq!(line(&format!("{event}\n\n{{}}")), Err((3, 400)));
        assert_eq!(line(""), Err((0, 400)));
        assert_eq!(line(" \r\n\n"), Err((0, 400)));
        assert_eq!(line(&" ".repeat(61)), Err((0, 413)));
        let limits = Limits { batch_lines: 2, ..Limits::default() };
        let error = parse(format!("{event}\n{event}\n{event}").as_bytes(), &limits).unwrap_err();
        assert_eq!((error.line, error.status), (3, 413));
    }

    #[test]
    fn an_object_of_very_many_fields_or_levels_is_refused_or_kept_without_harm() {
        let many = format!("{{{}\"topic\":\"a\"}}", "\"x\":1,".repeat(100_000));
        assert_eq!(parse_line(1, many.as_bytes(), &Limits::default()).unwrap_err().field, None);
        let deep = format!("{{\"topic\":\"a\",\"data\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse_line(1, deep.as_bytes(), &Limits::default()).unwrap().data().bytes().len(), 200_001);
    }
}
