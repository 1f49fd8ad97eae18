//! The beginning of a connection: the request's head, and the fixed answer to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// Bytes of the answer to an upgrade.
pub(super) const UPGRADE_BYTES: usize = UPGRADE.len() + ACCEPT_BYTES + 4;

const SSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: ";
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

/// Bytes of a SHA-1 in base64.
const ACCEPT_BYTES: usize = 28;
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Most fields of a request that is an upgrade.
const FIELDS_MAX: usize = 32;

/// What is sent back for a head.
pub(super) enum Answer {
    /// The same to everybody.
    Fixed(&'static [u8]),
    /// The answer to one upgrade.
    Upgrade([u8; UPGRADE_BYTES]),
}

/// The answer to what came so far; none if that is not the whole head.
///
/// Only the handshake of a WebSocket needs that the head is understood. One that cannot be is refused.
pub(super) fn answer(is_websocket: bool, head: &[u8]) -> Option<Answer> {
    if !is_websocket {
        return memchr::memmem::find(head, b"\r\n\r\n").map(|_| Answer::Fixed(SSE));
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Some(Answer::Fixed(REFUSAL)),
    }
    let key = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-key"));
    let Some(key) = key else { return Some(Answer::Fixed(REFUSAL)) };
    let mut hash = Sha1::new();
    hash.update(key.value);
    hash.update(GUID);
    let mut bytes = [0; UPGRADE_BYTES];
    bytes[..UPGRADE.len()].copy_from_slice(UPGRADE);
    let rest = &mut bytes[UPGRADE.len()..];
    STANDARD.encode_slice(hash.finalize(), rest).expect("20 bytes are 28 in base64");
    rest[ACCEPT_BYTES..].copy_from_slice(b"\r\n\r\n");
    Some(Answer::Upgrade(bytes))
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Upgrade(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_answered_as_the_rfc_does_once_the_head_is_whole() {
        let head: &[u8] =
            b"GET /chat HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        for cut in 0..head.len() {
            assert!(answer(true, &head[..cut]).is_none(), "cut at {cut}");
            assert!(answer(false, &head[..cut]).is_none(), "cut at {cut}");
        }
        let answered = answer(true, head).expect("it is whole");
        let text = std::str::from_utf8(answered.as_ref()).expect("it is text");
        assert!(text.ends_with("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"), "{text}");
        assert_eq!(answer(false, head).expect("it is whole").as_ref(), SSE);
        assert_eq!(answer(true, b"GET / HTTP/1.1\r\n\r\n").expect("it is whole").as_ref(), REFUSAL);
    }
}
