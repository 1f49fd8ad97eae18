//! HTTP streaming: an envelope a line (NDJSON); raw, the data and a newline, with no notices at all.

use crate::cursor::{Cursor, Epoch};
use crate::event::{Data, Event};
use crate::transport::{Encoding, Ending, Format, Gap, envelope, framing};

/// What a raw stream carries need not be JSON.
pub(super) fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/x-ndjson",
        Format::Raw => "text/plain; charset=utf-8",
    }
}

/// Some browsers give a page nothing of a body before so many bytes are there.
const PADDING: usize = 1024;

/// A space in front of the next line: JSON allows it, and no reader sees an empty line.
const HEARTBEAT: &[u8] = b" ";

/// The cursor and the padding, as one line.
pub(super) fn encode_start(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    if encoding.format == Format::Json {
        encode_line(encoding, out, |line| {
            envelope::encode_cursor_notice(cursor, line);
            line.extend(std::iter::repeat_n(' ', PADDING));
        });
    }
}

/// The padding alone: the line that it begins is the one of the notice that follows.
pub(super) fn encode_preamble(encoding: &Encoding, out: &mut Vec<u8>) {
    if encoding.format == Format::Json {
        framing::encode_part(encoding.framing, &[b' '; PADDING], out);
    }
}

pub(super) fn encode_event(encoding: &Encoding, epoch: Epoch, event: &Event, out: &mut Vec<u8>) {
    encode_line(encoding, out, |line| match (encoding.format, event.data()) {
        (Format::Json, _) => envelope::encode(encoding.format, epoch, event, line),
        (Format::Raw, Data::Json(json)) => envelope::encode_line(json, line),
        (Format::Raw, data) => line.push_str(&envelope::raw_text(data)),
    });
}

pub(super) fn encode_cursor(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    if encoding.format == Format::Json {
        encode_line(encoding, out, |line| envelope::encode_cursor_notice(cursor, line));
    }
}

pub(super) fn encode_gap(encoding: &Encoding, gap: &Gap, out: &mut Vec<u8>) -> Ending {
    if encoding.format == Format::Raw {
        return Ending::Close;
    }
    encode_line(encoding, out, |line| envelope::encode_gap_notice(gap, line));
    Ending::None
}

pub(super) fn encode_heartbeat(encoding: &Encoding, out: &mut Vec<u8>) {
    if encoding.format == Format::Json {
        framing::encode_part(encoding.framing, HEARTBEAT, out);
    }
}

fn encode_line(encoding: &Encoding, out: &mut Vec<u8>, write: impl FnOnce(&mut String)) {
    let mut line = String::new();
    write(&mut line);
    line.push('\n');
    framing::encode_part(encoding.framing, line.as_bytes(), out);
}
