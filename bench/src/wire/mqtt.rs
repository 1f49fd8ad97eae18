//! Packets of MQTT 3.1.1 (section 2.2), as far as a subscriber of QoS 0 gets them.

use super::Found;

/// Decodes all packets that are whole; answers how many bytes they took.
pub(super) fn decode(bytes: &[u8], found: &mut dyn FnMut(Found<'_>)) -> usize {
    let mut at = 0;
    while let Some((kind, body, used)) = packet(&bytes[at..]) {
        match kind {
            0x20 | 0x90 => found(match body.last() {
                Some(0) => Found::Answer,
                _ => Found::End,
            }),
            0x30 | 0x31 => {
                let topic = body.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
                found(body.get(2 + topic..).map_or(Found::Malformed, Found::Event));
            }
            _ => found(Found::Malformed),
        }
        at += used;
    }
    at
}

fn packet(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let mut length = 0;
    for (index, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            let start = index + 2;
            return Some((bytes[0], bytes.get(start..start + length)?, start + length));
        }
    }
    None
}
