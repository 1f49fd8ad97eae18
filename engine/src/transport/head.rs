//! The response head of a stream: 200, and the fields that keep caches and proxies from holding it back.

use std::io::Write;

use crate::transport::{Encoding, Framing, StreamHead, Transport, iframe, sse, stream};

/// Nothing for polls, whose head is part of the answer, and for WebSockets, whose head is that of the
/// handshake.
pub(super) fn encode(encoding: &Encoding, head: &StreamHead<'_>, out: &mut Vec<u8>) {
    let content_type = match encoding.transport {
        Transport::Iframe => iframe::CONTENT_TYPE,
        Transport::Stream => stream::content_type(encoding.format),
        Transport::Sse => sse::CONTENT_TYPE,
        Transport::Poll | Transport::LongPoll | Transport::WebSocket => return,
    };
    // nginx buffers answers unless it is told not to; `no-transform` keeps proxies from compressing, which
    // buffers too.
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nCache-Control: no-cache, no-transform\r\n\
         X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nVary: Origin\r\n"
    )
    .expect("a Vec takes everything");
    if let (Transport::Stream, Some(cursor)) = (encoding.transport, head.cursor) {
        write!(out, "Stentor-Cursor: {cursor}\r\n").expect("a Vec takes everything");
    }
    out.extend_from_slice(match encoding.framing {
        Framing::Chunked => b"Transfer-Encoding: chunked\r\n",
        _ => b"Connection: close\r\n",
    });
    out.extend_from_slice(head.extra_head.as_bytes());
    out.extend_from_slice(b"\r\n");
}
