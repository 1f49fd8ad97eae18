//! The JSON that every transport but the raw ones speaks: the envelope of an event, and the notices.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cursor::{Cursor, Epoch};
use crate::event::{Data, Event};
use crate::transport::{Format, Gap};

/// Appends `{"id":…,"topic":…,"name":…,"data":…}`; without `name` where the event has none.
///
/// In [`Format::Json`] `data` is a string for text and the value itself for JSON, as it was written (with a
/// space for each raw line break between its tokens, so that the envelope is one line). In [`Format::Raw`],
/// where polls and iframes cannot do without an envelope, `data` is always a string: the text, or the JSON
/// text, as it was published. In both, bytes stand in `base64` instead.
pub(super) fn encode(format: Format, epoch: Epoch, event: &Event, out: &mut String) {
    out.push_str("{\"id\":");
    encode_cursor(Cursor { epoch, offset: event.offset() }, out);
    out.push_str(",\"topic\":");
    encode_string(event.topic().as_str(), out);
    if let Some(name) = event.name() {
        out.push_str(",\"name\":");
        encode_string(name, out);
    }
    match (event.data(), format) {
        (Data::Json(json), Format::Json) => {
            out.push_str(",\"data\":");
            encode_line(json, out);
        }
        (Data::Text(text) | Data::Json(text), _) => {
            out.push_str(",\"data\":");
            encode_string(text, out);
        }
        (Data::Binary(bytes), _) => {
            out.push_str(",\"base64\":\"");
            STANDARD.encode_string(bytes, out);
            out.push('"');
        }
    }
    out.push('}');
}

/// Appends `{"cursor":…}`.
pub(super) fn encode_cursor_notice(cursor: Cursor, out: &mut String) {
    out.push_str("{\"cursor\":");
    encode_cursor(cursor, out);
    out.push('}');
}

/// Appends `{"gap":{"after":…,"resumed":…},"cursor":…}`: the last is the place that the client has from now
/// on.
pub(super) fn encode_gap_notice(gap: &Gap, out: &mut String) {
    out.push_str("{\"gap\":");
    encode_gap(gap, out);
    out.push_str(",\"cursor\":");
    encode_cursor(gap.cursor, out);
    out.push('}');
}

/// Appends `{"after":…,"resumed":…}`.
pub(super) fn encode_gap(gap: &Gap, out: &mut String) {
    out.push_str("{\"after\":");
    encode_cursor(gap.after, out);
    out.push_str(",\"resumed\":");
    encode_cursor(gap.resumed, out);
    out.push('}');
}

/// Appends a cursor as a JSON string; it has no character that needs an escape.
pub(super) fn encode_cursor(cursor: Cursor, out: &mut String) {
    write!(out, "\"{cursor}\"").expect("a String takes everything");
}

/// The data as a raw transport sends it that can carry text only: bytes as base64.
pub(super) fn raw_text(data: &Data) -> std::borrow::Cow<'_, str> {
    match data {
        Data::Text(text) | Data::Json(text) => (&**text).into(),
        Data::Binary(bytes) => STANDARD.encode(bytes).into(),
    }
}

/// Appends a JSON text as one line: a raw line break can stand only between tokens, where a space means the
/// same.
pub(super) fn encode_line(json: &str, out: &mut String) {
    let mut rest = json;
    while let Some(at) = rest.find(['\n', '\r']) {
        out.push_str(&rest[..at]);
        out.push(' ');
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Appends `text` as a JSON string (RFC 8259 §7), with no escape but those that must be.
pub(super) fn encode_string(text: &str, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => write!(out, "\\u{control:04x}").expect("a String takes everything"),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Offset;
    use crate::topic::Topic;

    fn envelope(format: Format, data: Data, name: Option<&str>) -> String {
        let mut event = Event::new(Topic::new("a/\"b").unwrap(), data);
        if let Some(name) = name {
            event = event.named(name).unwrap();
        }
        event.offset = Offset(42);
        let mut out = String::new();
        encode(format, Epoch(723), &event, &mut out);
        out
    }

    #[test]
    fn an_envelope_has_these_fields_in_this_order() {
        let json = Data::Json("{\r\n\"x\" : 1.0 }".into());
        for (format, data, name, rest) in [
            (Format::Json, Data::Text("x\n\0".into()), None, r#""data":"x\n\u0000"}"#),
            (Format::Json, Data::Text("".into()), Some("n\\"), r#""name":"n\\","data":""}"#),
            (Format::Json, json.clone(), None, r#""data":{  "x" : 1.0 }}"#),
            (Format::Raw, json, None, r#""data":"{\r\n\"x\" : 1.0 }"}"#),
            (Format::Json, Data::Binary([255, 0].into()), None, r#""base64":"/wA="}"#),
            (Format::Raw, Data::Binary([].into()), None, r#""base64":""}"#),
        ] {
            assert_eq!(
                envelope(format, data, name),
                format!("{{\"id\":\"k3-42\",\"topic\":\"a/\\\"b\",{rest}")
            );
        }
    }

    #[test]
    fn every_character_of_a_string_reads_back_from_one_line() {
        let text: String =
            (0..0x3000).chain([0xfeff, 0xffff, 0x10_ffff]).filter_map(char::from_u32).collect();
        let mut out = String::new();
        encode_string(&text, &mut out);
        assert!(!out.contains(['\n', '\r']));
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }
}
