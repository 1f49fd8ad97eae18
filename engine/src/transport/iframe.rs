//! The forever frame: an HTML document that never ends, one script element an item.

use stentor_protocol::iframe;

use crate::cursor::{Cursor, Epoch};
use crate::event::Event;
use crate::transport::{Encoding, Framing, Gap, envelope, framing};

pub(super) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Whitespace between two elements.
const HEARTBEAT: &[u8] = b" ";

/// The head of the document is a part of its own, sent with the response head.
pub(super) fn encode_head(framing: Framing, target: iframe::Target<'_>, out: &mut Vec<u8>) {
    let mut document = Vec::new();
    iframe::encode_head(target, &mut document);
    framing::encode_part(framing, &document, out);
}

pub(super) fn encode_event(encoding: &Encoding, epoch: Epoch, event: &Event, out: &mut Vec<u8>) {
    encode_item(encoding, out, |json| envelope::encode(encoding.format, epoch, event, json));
}

pub(super) fn encode_cursor(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    encode_item(encoding, out, |json| envelope::encode_cursor_notice(cursor, json));
}

pub(super) fn encode_gap(encoding: &Encoding, gap: &Gap, out: &mut Vec<u8>) {
    encode_item(encoding, out, |json| envelope::encode_gap_notice(gap, json));
}

pub(super) fn encode_heartbeat(encoding: &Encoding, out: &mut Vec<u8>) {
    framing::encode_part(encoding.framing, HEARTBEAT, out);
}

fn encode_item(encoding: &Encoding, out: &mut Vec<u8>, write: impl FnOnce(&mut String)) {
    let mut json = String::new();
    write(&mut json);
    let mut script = Vec::with_capacity(json.len() + 32);
    iframe::encode_script(&json, &mut script);
    framing::encode_part(encoding.framing, &script, out);
}
