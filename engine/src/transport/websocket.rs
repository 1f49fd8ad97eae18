//! WebSocket messages: events and notices as frames (RFC 6455 §5), a message a frame; with the commands and
//! answers of the subprotocol `stentor.v1`.

use std::cell::RefCell;

use stentor_protocol::ws::close::{CloseCode, CloseFrame};
use stentor_protocol::ws::deflate::Compressor;
use stentor_protocol::ws::frame::{CONTROL_PAYLOAD_MAX, Opcode, encode_frame, encode_frame_with};

use crate::app::Message;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Data, Event};
use crate::transport::{Encoding, End, Ending, Format, Framing, Gap, envelope};

pub(crate) use crate::transport::command::{
    Command, SUBPROTOCOL, encode_error, encode_pong, encode_published, encode_subscribed,
    encode_unsubscribed, parse_command,
};

/// The close code that tells a raw client of a gap; the reason is the cursor to come back with.
pub(crate) const CLOSE_GAP: u16 = 4410;

/// Raw: text as a text message, bytes as a binary one. Enveloped: always text.
pub(super) fn encode_event(encoding: &Encoding, epoch: Epoch, event: &Event, out: &mut Vec<u8>) {
    match (encoding.format, event.data()) {
        (Format::Raw, Data::Text(text) | Data::Json(text)) => {
            encode_payload(encoding, Opcode::Text, text.as_bytes(), out);
        }
        (Format::Raw, Data::Binary(bytes)) => encode_payload(encoding, Opcode::Binary, bytes, out),
        (Format::Json, _) => {
            encode_text(encoding, out, |json| envelope::encode(encoding.format, epoch, event, json));
        }
    }
}

/// Raw messages are data and nothing else, so there is none for a place.
pub(super) fn encode_cursor(encoding: &Encoding, cursor: Cursor, out: &mut Vec<u8>) {
    if encoding.format == Format::Json {
        encode_text(encoding, out, |json| envelope::encode_cursor_notice(cursor, json));
    }
}

/// A client has no other way to see that the server is gone than silence, and the server sees a client that
/// is gone by a missing pong.
pub(super) fn encode_heartbeat(out: &mut Vec<u8>) {
    encode_frame(Opcode::Ping, b"", out);
}

pub(super) fn encode_gap(encoding: &Encoding, gap: &Gap, out: &mut Vec<u8>) -> Ending {
    if encoding.format == Format::Raw {
        encode_close(CLOSE_GAP, &gap.resumed.to_string(), out);
        return Ending::Close;
    }
    encode_text(encoding, out, |json| envelope::encode_gap_notice(gap, json));
    Ending::None
}

pub(super) fn encode_end(reason: End<'_>, out: &mut Vec<u8>) {
    match reason {
        End::Drain => encode_close(1001, "the server goes away", out),
        End::MaxAge => encode_close(1001, "the connection has reached its greatest age", out),
        End::Slow => encode_close(1013, "too slow: events were lost", out),
        End::Close { code, reason } => encode_close(code, reason, out),
    }
}

/// Appends a message of the embedder's own.
pub(crate) fn encode_message(encoding: &Encoding, message: Message<'_>, out: &mut Vec<u8>) {
    match message {
        Message::Text(text) => encode_payload(encoding, Opcode::Text, text.as_bytes(), out),
        Message::Binary(bytes) => encode_payload(encoding, Opcode::Binary, bytes, out),
    }
}

/// Appends a pong frame (RFC 6455 §5.5.3); `payload`, which came in a ping, is cut to 125 bytes.
pub(crate) fn encode_pong_frame(payload: &[u8], out: &mut Vec<u8>) {
    encode_frame(Opcode::Pong, &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)], out);
}

/// Appends a close frame (RFC 6455 §5.5.1); `reason` is cut to 123 bytes, at a character. A code that may not
/// be sent, of which an embedder can ask, becomes 1011.
pub(crate) fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let code = CloseCode(code);
    let code = if code.is_sendable() { code } else { CloseCode::INTERNAL_ERROR };
    CloseFrame { code, reason: reason.into() }.encode(out);
}

pub(super) fn encode_text(encoding: &Encoding, out: &mut Vec<u8>, write: impl FnOnce(&mut String)) {
    let mut json = String::new();
    write(&mut json);
    encode_payload(encoding, Opcode::Text, json.as_bytes(), out);
}

/// Below this a message does not get shorter.
const DEFLATE_BYTES_MIN: usize = 64;

/// zlib's level for messages: one event is compressed once and sent to all, but its shard waits for it.
const DEFLATE_LEVEL: u8 = 4;

fn encode_payload(encoding: &Encoding, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    match encoding.framing {
        Framing::Deflate(window_bits) if payload.len() >= DEFLATE_BYTES_MIN => {
            let compressed = compress(window_bits, payload);
            // What does not get shorter may be sent as it is (RFC 7692 §6): inflating is the client's work.
            if compressed.len() < payload.len() {
                encode_frame_with(opcode, true, out, |out| out.extend_from_slice(&compressed));
            } else {
                encode_frame(opcode, payload, out);
            }
        }
        _ => encode_frame(opcode, payload, out),
    }
}

thread_local! {
    /// A compressor for each window, 8 to 15 bits, made when it is needed: some hundred KB each, a shard.
    /// Without context takeover one serves all connections.
    static COMPRESSORS: RefCell<[Option<Compressor>; 8]> = const { RefCell::new([const { None }; 8]) };
}

fn compress(window_bits: u8, payload: &[u8]) -> Vec<u8> {
    let window_bits = window_bits.clamp(8, 15);
    let mut compressed = Vec::new();
    COMPRESSORS.with_borrow_mut(|compressors| {
        compressors[usize::from(window_bits - 8)]
            .get_or_insert_with(|| Compressor::with_window_bits(window_bits, false, DEFLATE_LEVEL))
            .compress(payload, &mut compressed);
    });
    compressed
}
