//! Server-Sent Events: the cursor in `id`, the name in `event`; notices are events whose names begin with
//! `stentor.`.

use stentor_protocol::sse;

use crate::cursor::{Cursor, Epoch};
use crate::event::Event;
use crate::transport::{Encoding, Format, Gap, envelope, framing};

pub(super) const CONTENT_TYPE: &str = "text/event-stream";

/// The name of the event that tells a place; its data is empty.
pub(super) const CURSOR: &str = "stentor.cursor";

/// The name of the event that tells a gap; its data is JSON.
pub(super) const GAP: &str = "stentor.gap";

pub(super) fn encode_preamble(encoding: &Encoding, retry_ms: u32, out: &mut Vec<u8>) {
    let mut block = Vec::new();
    sse::encode_retry(retry_ms, &mut block);
    framing::encode_part(encoding.framing, &block, out);
}

/// In [`Format::Json`] the name stands in the envelope only, so that one listener for `message` hears every
/// event.
pub(super) fn encode_event(encoding: &Encoding, epoch: Epoch, event: &Event, out: &mut Vec<u8>) {
    let id = Cursor { epoch, offset: event.offset() };
    match encoding.format {
        Format::Raw => encode_block(encoding, event.name(), &envelope::raw_text(event.data()), id, out),
        Format::Json => {
            let mut data = String::new();
            envelope::encode(encoding.format, epoch, event, &mut data);
            encode_block(encoding, None, &data, id, out);
        }
    }
}

pub(super) fn encode_cursor(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    // The empty `data` line is needed: Firefox ignores a block of `id` alone.
    encode_block(encoding, Some(CURSOR), "", cursor, out);
}

pub(super) fn encode_gap(encoding: &Encoding, gap: &Gap, out: &mut Vec<u8>) {
    let mut data = String::new();
    envelope::encode_gap(gap, &mut data);
    encode_block(encoding, Some(GAP), &data, gap.cursor, out);
}

pub(super) fn encode_heartbeat(encoding: &Encoding, out: &mut Vec<u8>) {
    let mut comment = Vec::new();
    sse::encode_comment(&mut comment);
    framing::encode_part(encoding.framing, &comment, out);
}

fn encode_block(encoding: &Encoding, name: Option<&str>, data: &str, id: Cursor, out: &mut Vec<u8>) {
    let id = id.to_string();
    let mut block = Vec::with_capacity(data.len() + 128);
    sse::encode(&sse::Event { name, data, id: Some(&id) }, &mut block)
        .expect("a name has no control characters, and a cursor has none");
    framing::encode_part(encoding.framing, &block, out);
}
