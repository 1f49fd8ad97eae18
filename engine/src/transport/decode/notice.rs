//! Envelopes, notices and answers in JSON, as a client reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::cursor::Cursor;
use crate::transport::decode::{DecodeError, Item};
use crate::transport::fields::{FieldError, Fields};

/// Reads one JSON text: an envelope, a notice, or a message of another kind.
pub(super) fn decode(json: &str) -> Result<Item, DecodeError> {
    let fields = Fields::parse(json).map_err(|error| failed(error, json))?;
    let kinds = fields.present(&["topic", "gap", "cursor"]);
    let item = match (&kinds[..], fields.len()) {
        (["topic"], _) => event(&fields),
        (["gap", "cursor"], 2) => gap_notice(&fields),
        (["cursor"], 1) => cursor(&fields, "cursor").map(Item::Cursor),
        _ => Ok(Item::Message(json.into())),
    };
    item.map_err(|error| failed(error, json))
}

/// Reads the body of an answer and appends its gap, its events and the answer itself.
pub(super) fn decode_answer(body: &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
    let json = utf8(body)?;
    let failed = |error| failed(error, json);
    let fields = Fields::parse(json).map_err(failed)?;
    fields.allow(&["cursor", "gap", "events", "more"]).map_err(failed)?;
    if let Some(gap) = fields.get("gap").map_err(failed)? {
        let (after, resumed) = decode_gap(gap.get())?;
        items.push(Item::Gap { after, resumed, cursor: None });
    }
    let events = fields.get("events").map_err(failed)?.map_or("", RawValue::get);
    let events: Vec<&RawValue> =
        serde_json::from_str(events).map_err(|error| DecodeError::new("events", error))?;
    for event in events {
        match decode(event.get())? {
            event @ Item::Event { .. } => items.push(event),
            other => return Err(DecodeError::new("events", format!("{other:?}"))),
        }
    }
    let has_more = match fields.get("more").map_err(failed)?.map(RawValue::get) {
        None => false,
        Some("true") => true,
        Some(other) => return Err(DecodeError::new("more", other)),
    };
    items.push(Item::Answer { cursor: cursor(&fields, "cursor").map_err(failed)?, has_more });
    Ok(())
}

/// Reads `{"after":…,"resumed":…}`.
pub(super) fn decode_gap(json: &str) -> Result<(Cursor, Cursor), DecodeError> {
    let places = || {
        let fields = Fields::parse(json)?;
        fields.allow(&["after", "resumed"])?;
        Ok((cursor(&fields, "after")?, cursor(&fields, "resumed")?))
    };
    places().map_err(|error| failed(error, json))
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|error| DecodeError::new("text", error))
}

/// The data of an event as a client has it that parses the value: a string's text, or the JSON text of
/// anything else. A string that is no Unicode text (a lone surrogate) stays as it is written.
pub(super) fn value_text(json: &str) -> String {
    let json = json.trim_matches([' ', '\t', '\r', '\n']);
    match json.starts_with('"') {
        true => serde_json::from_str(json).unwrap_or_else(|_| json.into()),
        false => json.into(),
    }
}

fn event(fields: &Fields<'_>) -> Result<Item, FieldError> {
    fields.allow(&["id", "topic", "name", "data", "base64"])?;
    let (data, is_binary) = match (fields.get("data")?, fields.string("base64")?) {
        (Some(value), None) => (value_text(value.get()).into_bytes(), false),
        (None, Some(text)) => {
            let bytes =
                STANDARD.decode(text).map_err(|error| FieldError::new("base64", error.to_string()))?;
            (bytes, true)
        }
        _ => return Err(FieldError::new("data", "one of `data` and `base64` is there")),
    };
    let (id, topic, name) = (Some(cursor(fields, "id")?), fields.string("topic")?, fields.string("name")?);
    Ok(Item::Event { id, topic, name, data, is_binary })
}

fn gap_notice(fields: &Fields<'_>) -> Result<Item, FieldError> {
    let gap = fields.get("gap")?.map_or("", RawValue::get);
    let (after, resumed) = decode_gap(gap).map_err(|error| FieldError::new("gap", error.detail))?;
    Ok(Item::Gap { after, resumed, cursor: Some(cursor(fields, "cursor")?) })
}

fn cursor(fields: &Fields<'_>, name: &str) -> Result<Cursor, FieldError> {
    let text = fields.string(name)?.ok_or_else(|| FieldError::new(name, format!("`{name}` is missing")))?;
    text.parse().map_err(|error| FieldError::new(name, format!("{error}")))
}

fn failed(error: FieldError, json: &str) -> DecodeError {
    let start: String = json.chars().take(200).collect();
    DecodeError { detail: format!("{} in {start:?}", error.detail) }
}
