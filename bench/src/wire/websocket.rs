//! Frames from servers (RFC 6455, section 5.2).

/// The next frame.
pub(super) enum Frame<'a> {
    /// It is not whole yet.
    Partial,
    /// Masked, fragmented (which no benchmark sends), of an unknown opcode, or with reserved bits.
    Malformed,
    /// A text or binary message.
    Message { data: &'a [u8], used: usize },
    /// To be answered.
    Ping { data: &'a [u8], used: usize },
    /// To be passed over.
    Pong { used: usize },
    /// The end.
    Close,
}

pub(super) fn frame(bytes: &[u8]) -> Frame<'_> {
    let [first, second, ..] = *bytes else { return Frame::Partial };
    let (length, start): (usize, usize) = match second {
        0..=125 => (usize::from(second), 2),
        126 => match bytes.get(2..4) {
            Some(length) => (usize::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Frame::Partial,
        },
        127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from_be_bytes(length) as usize, 10),
            None => return Frame::Partial,
        },
        _ => return Frame::Malformed,
    };
    let Some(data) = start.checked_add(length).and_then(|end| bytes.get(start..end)) else {
        return Frame::Partial;
    };
    let used = start + length;
    match first {
        0x81 | 0x82 => Frame::Message { data, used },
        0x88 => Frame::Close,
        0x89 => Frame::Ping { data, used },
        0x8a => Frame::Pong { used },
        _ => Frame::Malformed,
    }
}

/// A pong of a client, masked with a key of zeros: the key needs no secret here, and the data stay readable.
pub(crate) fn pong(data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x8a, 0x80 | data.len().min(125) as u8, 0, 0, 0, 0];
    frame.extend_from_slice(&data[..data.len().min(125)]);
    frame
}

/// A binary message of a client, of at most 125 bytes, masked with a key of zeros.
pub fn binary(data: &[u8]) -> Vec<u8> {
    assert!(data.len() <= 125, "openings are short");
    let mut frame = vec![0x82, 0x80 | data.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(data);
    frame
}
