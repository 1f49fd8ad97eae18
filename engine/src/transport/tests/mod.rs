//! All transports at once: what is written, byte for byte, and that the matching decoder gives back what went
//! in.

mod bytes;
mod round_trip;

use crate::cursor::{Cursor, Epoch, Offset};
use crate::event::{Data, Event};
use crate::topic::Topic;
use crate::transport::{Encoding, Format, Framing, Gap, Transport};

const EPOCH: Epoch = Epoch(723);

fn cursor(offset: u64) -> Cursor {
    Cursor { epoch: EPOCH, offset: Offset(offset) }
}

fn gap() -> Gap {
    Gap { after: cursor(3), resumed: cursor(9), cursor: cursor(3) }
}

fn encoding(transport: Transport, format: Format, framing: Framing) -> Encoding {
    Encoding { transport, format, framing, head: 0, limit: 1_000 }
}

fn event(offset: u64, topic: &str, name: Option<&str>, data: Data) -> Event {
    let mut event = Event::new(Topic::new(topic).unwrap(), data);
    if let Some(name) = name {
        event = event.named(name).unwrap();
    }
    event.offset = Offset(offset);
    event
}

/// Every encoding of a stream that there is.
fn streams() -> Vec<Encoding> {
    let mut all = Vec::new();
    for format in [Format::Json, Format::Raw] {
        for transport in [Transport::Iframe, Transport::Stream, Transport::Sse] {
            for framing in [Framing::Chunked, Framing::UntilClose] {
                all.push(encoding(transport, format, framing));
            }
        }
        all.push(encoding(Transport::WebSocket, format, Framing::Frames));
        for window_bits in 8..=15 {
            all.push(encoding(Transport::WebSocket, format, Framing::Deflate(window_bits)));
        }
    }
    all
}
