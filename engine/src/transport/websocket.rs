//! WebSocket messages: events and notices as frames (RFC 6455 §5), a message a frame.

use stentor_protocol::ws::close::{CloseCode, CloseFrame};
use stentor_protocol::ws::frame::{CONTROL_PAYLOAD_MAX, Opcode, encode_frame};

use crate::app::Message;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Data, Event};
use crate::transport::{Encoding, End, Ending, Format, Framing, Gap, envelope};

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

/// A client has no other way to see that the server is gone than silence, and the server sees a client that is gone by a
/// missing pong.
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
        End::Overload => encode_close(1013, "no room now", out),
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

/// Appends a close frame (RFC 6455 §5.5.1); `reason` is cut to 123 bytes, at a character. A code that may not be sent, of
/// which an embedder can ask, becomes 1011.
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

fn encode_payload(encoding: &Encoding, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    match encoding.framing {
        Framing::Deflate(window_bits) => {
            let _ = window_bits;
        }
        _ => encode_frame(opcode, payload, out),
    }
}
