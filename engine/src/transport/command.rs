//! The subprotocol `stentor.v1`: what a client asks for over its WebSocket, and what it is answered.

use serde_json::value::RawValue;

use crate::config::Limits;
use crate::cursor::{Cursor, Start};
use crate::event::Event;
use crate::topic::Matcher;
use crate::transport::fields::{FieldError, Fields};
use crate::transport::{Encoding, envelope, websocket};

/// The subprotocol that speaks JSON both ways.
pub(crate) const SUBPROTOCOL: &str = "stentor.v1";

/// Longest `ref`, in bytes as it is written.
const REFERENCE_BYTES_MAX: usize = 256;

/// Longest value of a `ping`, in bytes as it is written.
const PING_BYTES_MAX: usize = 4096;

const COMMANDS: [&str; 4] = ["subscribe", "unsubscribe", "publish", "ping"];

/// What a client asks for. `reference` is its `ref`, any JSON value, which the answer repeats as it is written.
#[derive(Debug)]
pub(crate) enum Command {
    /// `{"subscribe":[…],"cursor":…,"ref":…}`.
    Subscribe {
        /// At least one, at most `limits.matchers`.
        matchers: Vec<Matcher>,
        /// None if it does not say.
        cursor: Option<Start>,
        reference: Option<Box<RawValue>>,
    },
    /// `{"unsubscribe":[…],"ref":…}`.
    Unsubscribe {
        /// At least one, at most `limits.matchers`.
        matchers: Vec<Matcher>,
        reference: Option<Box<RawValue>>,
    },
    /// `{"publish":{"topic":…,"name":…,"data":…},"ref":…}`, or `"base64"`.
    Publish { event: Event, reference: Option<Box<RawValue>> },
    /// `{"ping":…}`.
    Ping { value: Box<RawValue> },
}

/// Why a message is no command.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// The `ref` of the message, if it could be read.
    pub reference: Option<Box<RawValue>>,
    /// The field that is wrong, as `publish.topic` or `subscribe[2]`; none if the message is no JSON object.
    pub field: Option<String>,
    /// A sentence that says why.
    pub detail: String,
    /// 400, or 413 for what is too large.
    pub status: u16,
}

/// Reads one text message of a client.
///
/// # Errors
/// [`CommandError`] names the field; it is answered with [`encode_error`], and the connection goes on.
pub(crate) fn parse_command(text: &str, limits: &Limits) -> Result<Command, CommandError> {
    let mut reference = None;
    let command = || {
        let fields = Fields::parse(text).map_err(|mut error| {
            error.detail = format!("the message {}", error.detail);
            error
        })?;
        reference = fields.get_short("ref", REFERENCE_BYTES_MAX)?.map(RawValue::to_owned);
        parse_fields(&fields, reference.clone(), limits)
    };
    let result: Result<Command, FieldError> = command();
    result.map_err(|FieldError { field, detail, status }| CommandError { reference, field, detail, status })
}

fn parse_fields(
    fields: &Fields<'_>,
    reference: Option<Box<RawValue>>,
    limits: &Limits,
) -> Result<Command, FieldError> {
    match fields.present(&COMMANDS)[..] {
        ["subscribe"] => {
            fields.allow(&["subscribe", "cursor", "ref"])?;
            let matchers = matchers(fields, "subscribe", limits)?;
            Ok(Command::Subscribe { matchers, cursor: start(fields)?, reference })
        }
        ["unsubscribe"] => {
            fields.allow(&["unsubscribe", "ref"])?;
            Ok(Command::Unsubscribe { matchers: matchers(fields, "unsubscribe", limits)?, reference })
        }
        ["publish"] => {
            fields.allow(&["publish", "ref"])?;
            let inner = fields.get("publish")?.map_or("", RawValue::get);
            let event = Fields::parse(inner)
                .and_then(|inner| inner.event(limits))
                .map_err(|error| error.inside("publish"))?;
            Ok(Command::Publish { event, reference })
        }
        ["ping"] => {
            fields.allow(&["ping"])?;
            let value = fields.get_short("ping", PING_BYTES_MAX)?;
            let value = value.ok_or_else(|| FieldError::new("ping", "`ping` is missing"))?;
            Ok(Command::Ping { value: value.to_owned() })
        }
        [] => Err(FieldError {
            field: None,
            detail: "the message has none of `subscribe`, `unsubscribe`, `publish` and `ping`".into(),
            status: 400,
        }),
        [first, second, ..] => {
            Err(FieldError::new(second, format!("`{first}` and `{second}` exclude each other")))
        }
        [_] => unreachable!("every command has its arm"),
    }
}

fn matchers(fields: &Fields<'_>, name: &str, limits: &Limits) -> Result<Vec<Matcher>, FieldError> {
    let value = fields.get(name)?.map_or("", RawValue::get);
    let values: Vec<&RawValue> = serde_json::from_str(value)
        .map_err(|_| FieldError::new(name, format!("`{name}` is no array of strings")))?;
    if values.is_empty() || values.len() > limits.matchers {
        let (count, max) = (values.len(), limits.matchers);
        return Err(FieldError::new(name, format!("`{name}` has {count} matchers; 1 to {max} are allowed")));
    }
    let matcher = |(index, value): (usize, &RawValue)| {
        let field = format!("{name}[{index}]");
        let text: String = serde_json::from_str(value.get())
            .map_err(|_| FieldError::new(&field, format!("`{field}` is no string")))?;
        Matcher::new(&text).map_err(|error| FieldError::new(&field, error.to_string()))
    };
    values.into_iter().enumerate().map(matcher).collect()
}

fn start(fields: &Fields<'_>) -> Result<Option<Start>, FieldError> {
    match fields.string("cursor")?.as_deref() {
        None => Ok(None),
        Some("earliest") => Ok(Some(Start::Earliest)),
        Some(text) => match text.parse() {
            Ok(cursor) => Ok(Some(Start::After(cursor))),
            Err(error) => Err(FieldError::new("cursor", format!("{error}"))),
        },
    }
}

/// Appends `{"ref":…,"subscribed":[…],"cursor":…}`.
pub(crate) fn encode_subscribed(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    matchers: &[Matcher],
    cursor: Cursor,
    out: &mut Vec<u8>,
) {
    encode_changed(encoding, reference, "subscribed", matchers, cursor, out);
}

/// Appends `{"ref":…,"unsubscribed":[…],"cursor":…}`.
pub(crate) fn encode_unsubscribed(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    matchers: &[Matcher],
    cursor: Cursor,
    out: &mut Vec<u8>,
) {
    encode_changed(encoding, reference, "unsubscribed", matchers, cursor, out);
}

fn encode_changed(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    change: &str,
    matchers: &[Matcher],
    cursor: Cursor,
    out: &mut Vec<u8>,
) {
    encode_reply(encoding, reference, out, |json| {
        envelope::encode_string(change, json);
        json.push_str(":[");
        for (index, matcher) in matchers.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            envelope::encode_string(matcher.as_str(), json);
        }
        json.push_str("],\"cursor\":");
        envelope::encode_cursor(cursor, json);
    });
}

/// Appends `{"ref":…,"id":…}`: the event that was to be published stands at `id`.
pub(crate) fn encode_published(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    id: Cursor,
    out: &mut Vec<u8>,
) {
    encode_reply(encoding, reference, out, |json| {
        json.push_str("\"id\":");
        envelope::encode_cursor(id, json);
    });
}

/// Appends `{"ref":…,"error":{"status":…,"field":…,"detail":…}}`; `status` is that of HTTP for the same fault.
pub(crate) fn encode_error(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    status: u16,
    field: Option<&str>,
    detail: &str,
    out: &mut Vec<u8>,
) {
    encode_reply(encoding, reference, out, |json| {
        json.push_str("\"error\":{\"status\":");
        json.push_str(&status.to_string());
        if let Some(field) = field {
            json.push_str(",\"field\":");
            envelope::encode_string(field, json);
        }
        json.push_str(",\"detail\":");
        envelope::encode_string(detail, json);
        json.push('}');
    });
}

/// Appends `{"pong":…}`.
pub(crate) fn encode_pong(encoding: &Encoding, value: &RawValue, out: &mut Vec<u8>) {
    encode_reply(encoding, None, out, |json| {
        json.push_str("\"pong\":");
        envelope::encode_line(value.get(), json);
    });
}

fn encode_reply(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut String),
) {
    websocket::encode_text(encoding, out, |json| {
        json.push('{');
        if let Some(reference) = reference {
            json.push_str("\"ref\":");
            envelope::encode_line(reference.get(), json);
            json.push(',');
        }
        write(json);
        json.push('}');
    });
}
