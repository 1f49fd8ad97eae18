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

/// What a client asks for. `reference` is its `ref`, any JSON value, which the answer repeats as it is
/// written.
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
    let mut command = || {
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

/// Appends `{"ref":…,"error":{"status":…,"field":…,"detail":…}}`; `status` is that of HTTP for the same
/// fault.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;
    use crate::transport::{Format, Framing, Transport};

    fn parse(text: &str) -> Result<Command, CommandError> {
        parse_command(text, &Limits { event_bytes: 8, matchers: 2, ..Limits::default() })
    }

    fn texts(matchers: &[Matcher]) -> Vec<&str> {
        matchers.iter().map(Matcher::as_str).collect()
    }

    fn written(reference: &Option<Box<RawValue>>) -> Option<&str> {
        reference.as_deref().map(RawValue::get)
    }

    #[test]
    fn a_command_is_read_with_its_ref_as_it_is_written() {
        let Ok(Command::Subscribe { matchers, cursor, reference }) =
            parse(r#" {"ref": {"a" : 1.0} , "cursor":"k3-42", "subscribe":["a","b/*"]} "#)
        else {
            panic!("no subscribe");
        };
        assert_eq!(texts(&matchers), ["a", "b/*"]);
        assert_eq!(cursor, Some(Start::After("k3-42".parse().unwrap())));
        assert_eq!(written(&reference), Some(r#"{"a" : 1.0}"#));

        let earliest = parse(r#"{"subscribe":["a"],"cursor":"earliest"}"#).unwrap();
        assert!(matches!(
            earliest,
            Command::Subscribe { cursor: Some(Start::Earliest), reference: None, .. }
        ));
        let now = parse(r#"{"subscribe":["a"],"ref":null}"#).unwrap();
        assert!(matches!(now, Command::Subscribe { cursor: None, reference: Some(_), .. }));

        let Ok(Command::Unsubscribe { matchers, reference }) = parse(r#"{"unsubscribe":["a"],"ref":3}"#)
        else {
            panic!("no unsubscribe");
        };
        assert_eq!((texts(&matchers), written(&reference)), (vec!["a"], Some("3")));

        for (inner, data) in [
            (r#"{"topic":"a","name":"n","data":"x\ny"}"#, Data::Text("x\ny".into())),
            (r#"{"topic":"a","name":"n","data":{"k":1}}"#, Data::Json(r#"{"k":1}"#.into())),
            (r#"{"topic":"a","name":"n","base64":"/w=="}"#, Data::Binary([255].into())),
        ] {
            let Ok(Command::Publish { event, reference }) =
                parse(&format!("{{\"publish\":{inner},\"ref\":\"r\"}}"))
            else {
                panic!("no publish");
            };
            assert_eq!((event.topic().as_str(), event.name(), event.data()), ("a", Some("n"), &data));
            assert_eq!(written(&reference), Some("\"r\""));
        }
        let Ok(Command::Ping { value }) = parse(r#"{"ping":[1, 2]}"#) else { panic!("no ping") };
        assert_eq!(value.get(), "[1, 2]");
    }

    #[test]
    fn what_is_no_command_is_told_by_field_and_with_the_ref_where_it_can_be_read() {
        for (text, reference, field, status) in [
            ("", None, None, 400),
            ("hello", None, None, 400),
            ("[]", None, None, 400),
            ("{\"ping\":1", None, None, 400),
            ("{\"ping\":1} x", None, None, 400),
            ("{}", None, None, 400),
            (r#"{"ref":1}"#, Some("1"), None, 400),
            (r#"{"ref":1,"ping":1}"#, Some("1"), Some("ref"), 400),
            (r#"{"ref":1,"subscribe":["a"],"publish":{}}"#, Some("1"), Some("publish"), 400),
            (r#"{"ref":1,"subscribe":["a"],"subscribe":["b"]}"#, Some("1"), Some("subscribe"), 400),
            (r#"{"ref":1,"ref":2,"subscribe":["a"]}"#, None, Some("ref"), 400),
            (r#"{"ref":1,"subscribe":["a"],"until":"k-1"}"#, Some("1"), Some("until"), 400),
            (r#"{"ref":1,"subscribe":"a"}"#, Some("1"), Some("subscribe"), 400),
            (r#"{"ref":1,"subscribe":null}"#, Some("1"), Some("subscribe"), 400),
            (r#"{"ref":1,"subscribe":[]}"#, Some("1"), Some("subscribe"), 400),
            (r#"{"ref":1,"subscribe":["a","b","c"]}"#, Some("1"), Some("subscribe"), 400),
            (r#"{"ref":1,"subscribe":["a",1]}"#, Some("1"), Some("subscribe[1]"), 400),
            (r#"{"ref":1,"subscribe":["a","b/"]}"#, Some("1"), Some("subscribe[1]"), 400),
            (r#"{"ref":1,"subscribe":["a"],"cursor":"x"}"#, Some("1"), Some("cursor"), 400),
            (r#"{"ref":1,"subscribe":["a"],"cursor":1}"#, Some("1"), Some("cursor"), 400),
            (r#"{"ref":1,"unsubscribe":["a"],"cursor":"k-1"}"#, Some("1"), Some("cursor"), 400),
            (r#"{"ref":1,"publish":1}"#, Some("1"), Some("publish"), 400),
            (r#"{"ref":1,"publish":{"topic":"a"}}"#, Some("1"), Some("publish.data"), 400),
            (r#"{"ref":1,"publish":{"topic":"*","data":1}}"#, Some("1"), Some("publish.topic"), 400),
            (r#"{"ref":1,"publish":{"topic":"a","data":"123456789"}}"#, Some("1"), Some("publish.data"), 413),
            (r#"{"ref":1,"publish":{"topic":"a","data":1,"x":1}}"#, Some("1"), Some("publish.x"), 400),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(written(&error.reference), reference, "{text}");
            assert_eq!((error.field.as_deref(), error.status), (field, status), "{text}");
            assert!(!error.detail.is_empty(), "{text}");
        }
        let long = format!(r#"{{"subscribe":["a"],"ref":"{}"}}"#, "x".repeat(255));
        let error = parse(&long).unwrap_err();
        assert_eq!(
            (error.field.as_deref(), error.status, error.reference.is_none()),
            (Some("ref"), 413, true)
        );
        let long = format!(r#"{{"ping":"{}"}}"#, "x".repeat(4095));
        assert_eq!(parse(&long).unwrap_err().field.as_deref(), Some("ping"));
    }

    #[test]
    fn the_answers_are_these() {
        let encoding = Encoding {
            transport: Transport::WebSocket,
            format: Format::Json,
            framing: Framing::Frames,
            head: 0,
            limit: 0,
        };
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = Vec::new();
            write(&mut frame);
            assert_eq!((frame[0], usize::from(frame[1])), (0x81, frame.len() - 2), "one short text frame");
            String::from_utf8(frame.split_off(2)).unwrap()
        };
        let reference = RawValue::from_string("{\n\"a\":1}".into()).unwrap();
        let value = &*reference;
        let reference = Some(value);
        let matchers = [Matcher::new("a").unwrap(), Matcher::new("\"/**").unwrap()];
        let cursor: Cursor = "k3-42".parse().unwrap();
        for (text, expected) in [
            (
                written(&|out| encode_subscribed(&encoding, reference, &matchers, cursor, out)),
                r#"{"ref":{ "a":1},"subscribed":["a","\"/**"],"cursor":"k3-42"}"#,
            ),
            (
                written(&|out| encode_unsubscribed(&encoding, None, &matchers[..1], cursor, out)),
                r#"{"unsubscribed":["a"],"cursor":"k3-42"}"#,
            ),
            (
                written(&|out| encode_published(&encoding, reference, cursor, out)),
                r#"{"ref":{ "a":1},"id":"k3-42"}"#,
            ),
            (
                written(&|out| encode_error(&encoding, None, 400, Some("a\"b"), "it \\ is", out)),
                r#"{"error":{"status":400,"field":"a\"b","detail":"it \\ is"}}"#,
            ),
            (
                written(&|out| encode_error(&encoding, reference, 503, None, "busy", out)),
                r#"{"ref":{ "a":1},"error":{"status":503,"detail":"busy"}}"#,
            ),
            (written(&|out| encode_pong(&encoding, value, out)), r#"{"pong":{ "a":1}}"#),
        ] {
            assert_eq!(text, expected);
            assert!(Fields::parse(&text).is_ok());
        }
    }
}
