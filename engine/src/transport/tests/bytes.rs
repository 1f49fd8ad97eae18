//! The bytes of each transport, as clients in other languages will read them: a change here is a change of
//! the interface.

use std::sync::Arc;

use super::{EPOCH, cursor, encoding, event, gap};
use crate::event::Data;
use crate::transport::{
    Answer, Encoding, End, Ending, Format, Framing, StreamHead, Transport, encode_answer, encode_end,
    encode_event, encode_gap, encode_heartbeat, encode_not_modified, encode_place, encode_start, stream_head,
    websocket,
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before ".to_vec();
    write(&mut out);
    assert!(out.starts_with(b"before "), "what was there before stays");
    String::from_utf8_lossy(&out[7..]).into_owned()
}

fn start(encoding: &Encoding) -> String {
    written(|out| encode_start(encoding, cursor(3), 1_500, out))
}

fn named(encoding: &Encoding) -> String {
    let event = event(4, "a/b", Some("n"), Data::Json("{\"x\":\r\n1}".into()));
    written(|out| encode_event(encoding, EPOCH, &event, out))
}

fn notices(encoding: &Encoding) -> [String; 3] {
    [
        written(|out| encode_heartbeat(encoding, out)),
        written(|out| encode_place(encoding, cursor(8), out)),
        written(|out| _ = encode_gap(encoding, &gap(), out)),
    ]
}

#[test]
fn an_event_stream_has_the_id_last_and_notices_with_our_names() {
    let raw = encoding(Transport::Sse, Format::Raw, Framing::UntilClose);
    assert_eq!(start(&raw), "retry: 1500\n\nevent: stentor.cursor\ndata:\nid: k3-3\n\n");
    assert_eq!(named(&raw), "event: n\ndata: {\"x\":\ndata: 1}\nid: k3-4\n\n");
    let [heartbeat, place, gap] = notices(&raw);
    assert_eq!(heartbeat, ":\n\n");
    assert_eq!(place, "event: stentor.cursor\ndata:\nid: k3-8\n\n");
    assert_eq!(gap, "event: stentor.gap\ndata: {\"after\":\"k3-3\",\"resumed\":\"k3-9\"}\nid: k3-3\n\n");
    let json = encoding(Transport::Sse, Format::Json, Framing::UntilClose);
    let envelope = r#"{"id":"k3-4","topic":"a/b","name":"n","data":{"x":  1}}"#;
    assert_eq!(named(&json), format!("data: {envelope}\nid: k3-4\n\n"));
    assert_eq!(notices(&json), notices(&raw));
}

#[test]
fn a_stream_is_lines_and_its_first_is_long() {
    let json = encoding(Transport::Stream, Format::Json, Framing::UntilClose);
    assert_eq!(start(&json), format!("{{\"cursor\":\"k3-3\"}}{}\n", " ".repeat(1024)));
    assert_eq!(named(&json), "{\"id\":\"k3-4\",\"topic\":\"a/b\",\"name\":\"n\",\"data\":{\"x\":  1}}\n");
    let gap = "{\"gap\":{\"after\":\"k3-3\",\"resumed\":\"k3-9\"},\"cursor\":\"k3-3\"}\n";
    assert_eq!(notices(&json), [" ", "{\"cursor\":\"k3-8\"}\n", gap]);

    let raw = encoding(Transport::Stream, Format::Raw, Framing::UntilClose);
    assert_eq!((start(&raw), named(&raw)), (String::new(), "{\"x\":  1}\n".into()));
    assert_eq!(notices(&raw), ["", "", ""]);
}

#[test]
fn an_iframe_calls_its_function() {
    for format in [Format::Json, Format::Raw] {
        let encoding = encoding(Transport::Iframe, format, Framing::UntilClose);
        assert_eq!(start(&encoding), "<script>e({\"cursor\":\"k3-3\"})</script>\n");
        let gap =
            "<script>e({\"gap\":{\"after\":\"k3-3\",\"resumed\":\"k3-9\"},\"cursor\":\"k3-3\"})</script>\n";
        assert_eq!(notices(&encoding), [" ", "<script>e({\"cursor\":\"k3-8\"})</script>\n", gap]);
        let data = if format == Format::Json { "{\"x\":  1}" } else { "\"{\\\"x\\\":\\r\\n1}\"" };
        assert_eq!(
            named(&encoding),
            format!(
                "<script>e({{\"id\":\"k3-4\",\"topic\":\"a/b\",\"name\":\"n\",\"data\":{data}}})</script>\n"
            )
        );
    }
}

#[test]
fn a_websocket_has_a_frame_an_item() {
    let json = encoding(Transport::WebSocket, Format::Json, Framing::Frames);
    let frame = |text: &str| format!("\u{fffd}{}{text}", char::from(text.len() as u8));
    let ping = "\u{fffd}\0";
    assert_eq!(start(&json), frame("{\"cursor\":\"k3-3\"}"));
    assert_eq!(
        named(&json),
        frame("{\"id\":\"k3-4\",\"topic\":\"a/b\",\"name\":\"n\",\"data\":{\"x\":  1}}")
    );
    let gap = frame("{\"gap\":{\"after\":\"k3-3\",\"resumed\":\"k3-9\"},\"cursor\":\"k3-3\"}");
    let place = frame("{\"cursor\":\"k3-8\"}") + ping;
    assert_eq!(notices(&json), [ping.into(), place, gap]);

    let raw = encoding(Transport::WebSocket, Format::Raw, Framing::Frames);
    assert_eq!((start(&raw), named(&raw)), (String::new(), frame("{\"x\":\r\n1}")));
    let mut bytes = Vec::new();
    let binary = event(4, "a", None, Data::Binary([1, 255].into()));
    encode_event(&raw, EPOCH, &binary, &mut bytes);
    assert_eq!(bytes, [0x82, 2, 1, 255]);
    bytes.clear();
    assert_eq!(encode_gap(&raw, &super::gap(), &mut bytes), Ending::Close);
    assert_eq!(bytes, b"\x88\x06\x11\x3ak3-9");
    bytes.clear();
    encode_place(&raw, cursor(8), &mut bytes);
    assert_eq!(bytes, [0x89, 0]);
}

#[test]
fn every_end_has_its_close_code_and_a_reason_that_fits() {
    let encoding = encoding(Transport::WebSocket, Format::Raw, Framing::Frames);
    let long = "é".repeat(100);
    for (end, code, reason) in [
        (End::Drain, 1001_u16, "the server goes away"),
        (End::MaxAge, 1001, "the connection has reached its greatest age"),
        (End::Slow, 1013, "too slow: events were lost"),
        (End::Close { code: 4401, reason: "no" }, 4401, "no"),
        (End::Close { code: 1005, reason: "" }, 1011, ""),
        (End::Close { code: 4000, reason: &long }, 4000, &long[..122]),
    ] {
        let mut bytes = Vec::new();
        encode_end(&encoding, end, &mut bytes);
        let mut expected = vec![0x88, 2 + reason.len() as u8];
        expected.extend(code.to_be_bytes());
        expected.extend(reason.bytes());
        assert_eq!(bytes, expected, "{end:?}");
    }
    let mut pong = Vec::new();
    websocket::encode_pong_frame(&[7; 200], &mut pong);
    assert_eq!((&pong[..2], pong.len()), (&[0x8a, 125][..], 127));
}

#[test]
fn a_long_message_is_compressed_for_deflate_and_one_that_gets_no_shorter_is_not() {
    for window_bits in 8..=15 {
        let encoding = encoding(Transport::WebSocket, Format::Raw, Framing::Deflate(window_bits));
        let frame = |data: &str| {
            let mut bytes = Vec::new();
            encode_event(&encoding, EPOCH, &event(1, "a", None, Data::Text(data.into())), &mut bytes);
            bytes
        };
        let long = frame(&"0123456789".repeat(100));
        assert_eq!(long[0], 0xc1, "FIN, RSV1 and text");
        assert!(long.len() < 200, "{} bytes", long.len());
        assert_eq!(long, frame(&"0123456789".repeat(100)), "no context is taken over");
        assert_eq!(frame("short")[0], 0x81);
        let noise: String = (0..100_u32).map(|i| char::from(32 + (i * i * 31 % 95) as u8)).collect();
        let plain = frame(&noise);
        assert!(plain[0] == 0x81 || plain.len() < 102);
    }
}

#[test]
fn an_item_is_one_chunk_and_the_end_is_the_last() {
    for transport in [Transport::Iframe, Transport::Stream, Transport::Sse] {
        for format in [Format::Json, Format::Raw] {
            let plain = encoding(transport, format, Framing::UntilClose);
            let chunked = encoding(transport, format, Framing::Chunked);
            let item = named(&plain);
            assert_eq!(named(&chunked), format!("{:x}\r\n{item}\r\n", item.len()));
            assert_eq!(written(|out| encode_end(&chunked, End::Drain, out)), "0\r\n\r\n");
            assert_eq!(written(|out| encode_end(&plain, End::Drain, out)), "");
            // What a transport has no bytes for must not become a chunk of none, which would be the last.
            for notice in notices(&chunked) {
                assert!(!notice.starts_with('0'), "{notice:?}");
            }
        }
    }
}

#[test]
fn the_head_of_a_stream_keeps_others_from_holding_it_back() {
    let extra_head = "Date: x\r\n";
    let head = StreamHead { cursor: Some(cursor(3)), target: Default::default(), is_head: true, extra_head };
    let common = "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n\
                  X-Content-Type-Options: nosniff\r\nVary: Origin\r\n";
    for (transport, format, content_type, place) in [
        (Transport::Sse, Format::Raw, "text/event-stream", ""),
        (Transport::Iframe, Format::Json, "text/html; charset=utf-8", ""),
        (Transport::Stream, Format::Json, "application/x-ndjson", "Stentor-Cursor: k3-3\r\n"),
        (Transport::Stream, Format::Raw, "text/plain; charset=utf-8", "Stentor-Cursor: k3-3\r\n"),
    ] {
        for (framing, framing_field) in
            [(Framing::Chunked, "Transfer-Encoding: chunked"), (Framing::UntilClose, "Connection: close")]
        {
            let encoding = encoding(transport, format, framing);
            assert_eq!(
                written(|out| stream_head(&encoding, &head, out)),
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{common}{place}{framing_field}\r\n\
                     Date: x\r\n\r\n"
                )
            );
            let get = StreamHead { is_head: false, cursor: None, ..head };
            let text = written(|out| stream_head(&encoding, &get, out));
            assert!(!text.contains("Stentor-Cursor"));
            assert_eq!(text.contains("function e(m)"), transport == Transport::Iframe);
        }
    }
}

#[test]
fn an_answer_is_a_whole_response() {
    let encoding = encoding(Transport::Poll, Format::Json, Framing::Length);
    let events = [
        Arc::new(event(4, "a", None, Data::Text("x".into()))),
        Arc::new(event(6, "a", None, Data::Binary([255].into()))),
    ];
    let answer = Answer {
        gap: Some(gap()),
        events: &events,
        epoch: EPOCH,
        cursor: cursor(6),
        has_more: true,
        is_keep_alive: true,
        is_http10: false,
        is_head: false,
        extra_head: "Vary: Origin\r\n",
    };
    let body = "{\"cursor\":\"k3-6\",\"gap\":{\"after\":\"k3-3\",\"resumed\":\"k3-9\"},\"events\":[\
                {\"id\":\"k3-4\",\"topic\":\"a\",\"data\":\"x\"},\
                {\"id\":\"k3-6\",\"topic\":\"a\",\"base64\":\"/w==\"}],\
                \"more\":true}\n";
    let fields = "ETag: \"k3-6\"\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
    let head = |length: usize, connection: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             {fields}{connection}Vary: Origin\r\n\r\n"
        )
    };
    let text = |answer: &Answer<'_>| written(|out| encode_answer(&encoding, answer, out));
    assert_eq!(text(&answer), head(body.len(), "") + body);
    assert_eq!(text(&Answer { is_head: true, ..answer.clone() }), head(body.len(), ""));
    let empty = Answer { gap: None, events: &[], has_more: false, ..answer };
    let body = "{\"cursor\":\"k3-6\",\"events\":[]}\n";
    let http10 = Answer { is_http10: true, ..empty.clone() };
    assert_eq!(text(&http10), head(body.len(), "Connection: keep-alive\r\n") + body);
    let last = Answer { is_keep_alive: false, ..empty };
    assert_eq!(text(&last), head(body.len(), "Connection: close\r\n") + body);
    assert_eq!(
        written(|out| encode_not_modified(&last, out)),
        format!("HTTP/1.1 304 Not Modified\r\n{fields}Connection: close\r\nVary: Origin\r\n\r\n")
    );
}
