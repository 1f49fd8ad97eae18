//! What of an event reaches a client: the encoders and decoders together, told once, for checkers to compare
//! with.

use crate::cursor::Cursor;
use crate::event::{Data, Event};
use crate::transport::decode::{Item, notice};
use crate::transport::{Format, Framing, Transport, envelope};

/// What a [`super::StreamDecoder`] gives for `event`, which stands at `id`.
///
/// One item, but for a raw stream without chunks, where each line of a text is one. Data changes on the way
/// as little as the transport allows: raw line breaks between the tokens of a JSON text become spaces where
/// an item is one line; a raw event stream has every line break as LF; raw text transports have bytes as
/// base64; a JSON string cannot be told from a text in an envelope.
pub fn as_delivered(
    transport: Transport,
    format: Format,
    framing: Framing,
    id: Cursor,
    event: &Event,
) -> Vec<Item> {
    let has_envelope = format == Format::Json || transport.is_poll() || transport == Transport::Iframe;
    if has_envelope {
        let (data, is_binary) = match (event.data(), format) {
            (Data::Json(json), Format::Json) => (notice::value_text(&one_line(json)).into_bytes(), false),
            (data, _) => (data.bytes().to_vec(), matches!(data, Data::Binary(_))),
        };
        let topic = Some(event.topic().as_str().to_owned());
        let name = event.name().map(str::to_owned);
        return vec![Item::Event { id: Some(id), topic, name, data, is_binary }];
    }
    let raw = |data: Vec<u8>, is_binary| Item::Event { id: None, topic: None, name: None, data, is_binary };
    let text = envelope::raw_text(event.data());
    match (transport, event.data()) {
        (Transport::WebSocket, data) => vec![raw(data.bytes().to_vec(), matches!(data, Data::Binary(_)))],
        (Transport::Stream, Data::Json(json)) => vec![raw(one_line(json).into_bytes(), false)],
        (Transport::Stream, _) if framing == Framing::Chunked => vec![raw(text.as_bytes().to_vec(), false)],
        (Transport::Stream, _) => {
            let line = |line: &str| raw(line.strip_suffix('\r').unwrap_or(line).into(), false);
            text.split('\n').map(line).collect()
        }
        _ => {
            let data = text.replace("\r\n", "\n").replace('\r', "\n").into_bytes();
            // `message` is what a browser calls an event without a name.
            let name = event.name().filter(|name| *name != "message").map(str::to_owned);
            vec![Item::Event { id: Some(id), topic: None, name, data, is_binary: false }]
        }
    }
}

fn one_line(json: &str) -> String {
    let mut line = String::new();
    envelope::encode_line(json, &mut line);
    line
}
