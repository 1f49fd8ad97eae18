//! Each wire is decoded alike however its bytes are cut.

use super::*;

fn read(wire: Wire, pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(wire, piece, &mut |found| {
            all.push(match found {
                Found::Event(data) => format!("event {}", String::from_utf8_lossy(data)),
                Found::Cursor(cursor) => format!("cursor {}", String::from_utf8_lossy(cursor)),
                Found::Ping(data) => format!("ping {}", String::from_utf8_lossy(data)),
                other => format!("{other:?}"),
            });
        });
    }
    all
}

#[track_caller]
fn reads(wire: Wire, bytes: &[u8], expected: &[&str]) {
    assert_eq!(read(wire, &[bytes]), expected);
    for cut in 1..bytes.len() {
        assert_eq!(read(wire, &[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}");
    }
    let each: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(wire, &each), expected, "byte by byte");
}

#[test]
fn sse_in_chunks_that_end_anywhere() {
    reads(
        Wire::Sse,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          1d\r\nretry: 9\n\ndata: one\nid: k-1\n\n\r\n9\r\ndata: two\r\n4\r\n\n\n:\n\r\n0\r\n\r\n",
        &["Answer", "event one", "cursor k-1", "event two", "End"],
    );
}

#[test]
fn sse_until_the_connection_closes_and_a_gap() {
    reads(
        Wire::Sse,
        b"HTTP/1.0 200 OK\r\n\r\nid: 1\r\ndata: one\r\n\r\nevent: stentor.gap\ndata: {}\nid: k-3\n\n",
        &["Answer", "event one", "cursor 1", "cursor k-3", "Gap"],
    );
}

#[test]
fn lines_in_envelopes_and_alone() {
    reads(
        Wire::Stream,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          18\r\n{\"cursor\":\"k-1\"}        \r\n1\r\n\n\r\n\
          26\r\n{\"id\":\"k-2\",\"topic\":\"t\",\"data\":\"one\"}\n\r\n6\r\n\ntwo\n\n\r\n",
        &["Answer", "cursor k-1", "event one", "cursor k-2", "event two"],
    );
}

#[test]
fn websocket_messages_and_pings() {
    reads(
        Wire::WebSocket,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x03one\x89\x01p\x82\x03two\x88\x00",
        &["Answer", "event one", "ping p", "event two", "End"],
    );
    reads(Wire::WebSocket, b"HTTP/1.1 101 S\r\n\r\n\x81\x83abcdone", &["Answer", "Malformed"]);
    reads(Wire::WebSocket, b"HTTP/1.1 503 S\r\n\r\n", &["End"]);
}

#[test]
fn mqtt_packets_across_messages() {
    reads(
        Wire::MqttWebSocket,
        b"HTTP/1.1 101 S\r\n\r\n\x82\x04\x20\x02\0\0\x82\x05\x90\x03\0\x01\0\
          \x82\x06\x30\x06\0\x01to\x82\x02ne",
        &["Answer", "Answer", "Answer", "event one"],
    );
}

#[test]
fn answers_to_polls_ask_for_the_next() {
    reads(
        Wire::LongPoll,
        b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"cursor\":\"k-1\",\"events\":[]}\n\
          HTTP/1.1 200 OK\r\ncontent-length: 46\r\n\r\n\
          {\"cursor\":\"k-2\",\"events\":[{\"data\":\"one\"} ]}    ",
        &["Answer", "cursor k-1", "Again", "Answer", "cursor k-2", "event one", "Again"],
    );
}
