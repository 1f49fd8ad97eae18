//! What stands around the parts of a body: chunks (RFC 9112 §7.1), or nothing where it ends with the
//! connection.

use stentor_protocol::h1::chunked;

use crate::transport::Framing;

/// Appends `payload` as one part of a body; nothing if it is empty.
pub(super) fn encode_part(framing: Framing, payload: &[u8], out: &mut Vec<u8>) {
    if framing == Framing::Chunked {
        chunked::encode_chunk(payload, out);
    } else {
        out.extend_from_slice(payload);
    }
}

/// Appends the clean end of a body; one that ends with the connection has none.
pub(super) fn encode_last_part(framing: Framing, out: &mut Vec<u8>) {
    if framing == Framing::Chunked {
        out.extend_from_slice(chunked::LAST_CHUNK);
    }
}
