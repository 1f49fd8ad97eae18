//! WebSocket messages: events and notices as frames, and the commands and answers of the subprotocol `stentor.v1`.

use serde_json::value::RawValue;

use crate::config::Limits;
use crate::cursor::{Cursor, Start};
use crate::event::Event;
use crate::topic::Matcher;
use crate::transport::Encoding;

/// The subprotocol that speaks JSON both ways.
pub(crate) const SUBPROTOCOL: &str = "stentor.v1";

/// What a client asks for in `stentor.v1`. `reference` is its `ref`, which the answer repeats as it is written.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe { matchers: Vec<Matcher>, cursor: Option<Start>, reference: Option<Box<RawValue>> },
    Unsubscribe { matchers: Vec<Matcher>, reference: Option<Box<RawValue>> },
    Publish { event: Event, reference: Option<Box<RawValue>> },
    Ping { value: Box<RawValue> },
}

/// Why a message is no command.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// The `ref` of the message, if it could be read.
    pub reference: Option<Box<RawValue>>,
    /// The field that is wrong; none if the message is no JSON object.
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
    let _ = (text, limits);
    Err(CommandError { reference: None, field: None, detail: String::new(), status: 400 })
}

/// Appends `{"ref":…,"subscribed":[…],"cursor":…}`.
pub(crate) fn encode_subscribed(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    matchers: &[Matcher],
    cursor: Cursor,
    out: &mut Vec<u8>,
) {
    let _ = (encoding, reference, matchers, cursor, out);
}

/// Appends `{"ref":…,"unsubscribed":[…],"cursor":…}`.
pub(crate) fn encode_unsubscribed(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    matchers: &[Matcher],
    cursor: Cursor,
    out: &mut Vec<u8>,
) {
    let _ = (encoding, reference, matchers, cursor, out);
}

/// Appends `{"ref":…,"id":…}`: the event that was asked to be published stands at `id`.
pub(crate) fn encode_published(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    id: Cursor,
    out: &mut Vec<u8>,
) {
    let _ = (encoding, reference, id, out);
}

/// Appends `{"ref":…,"error":{"status":…,"field":…,"detail":…}}`.
pub(crate) fn encode_error(
    encoding: &Encoding,
    reference: Option<&RawValue>,
    status: u16,
    field: Option<&str>,
    detail: &str,
    out: &mut Vec<u8>,
) {
    let _ = (encoding, reference, status, field, detail, out);
}

/// Appends `{"pong":…}`.
pub(crate) fn encode_pong(encoding: &Encoding, value: &RawValue, out: &mut Vec<u8>) {
    let _ = (encoding, value, out);
}

/// Appends a message of the embedder's own.
pub(crate) fn encode_message(encoding: &Encoding, message: crate::app::Message<'_>, out: &mut Vec<u8>) {
    let _ = (encoding, message, out);
}

/// Appends a pong frame (RFC 6455 §5.5.3); `payload` is cut to 125 bytes.
pub(crate) fn encode_pong_frame(payload: &[u8], out: &mut Vec<u8>) {
    let _ = (payload, out);
}

/// Appends a close frame (RFC 6455 §5.5.1); `reason` is cut to 123 bytes, at a character.
pub(crate) fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let _ = (code, reason, out);
}
