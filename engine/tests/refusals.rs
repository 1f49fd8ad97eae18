//! Whatever a peer sends, it gets the status or close code of the interface with the field named, a figure
//! counts it, and everybody else goes on.

mod common;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::*;
use stentor::Engine;
use stentor::transport::decode::Item;
use stentor::transport::{Format, Framing, Transport};
use stentor_protocol::ws::deflate::Compressor;
use stentor_protocol::ws::frame::{Opcode, encode_frame};

on_both_backings! {
    a_malformed_request_gets_its_status_and_its_field;
    a_refused_event_source_is_told_to_come_back;
    a_refused_websocket_is_told_by_its_close_code;
    a_malformed_frame_gets_its_close_code;
    a_flood_of_messages_ends_its_own_connection;
    a_one_way_subscriber_that_talks_is_closed;
    who_is_slow_with_a_request_is_told_so;
    a_peer_that_vanishes_at_any_step_harms_nobody;
    a_subscriber_that_never_reads_costs_others_nothing;
}

const SSE: &str = "Accept: text/event-stream\r\n";

/// The process goes on, and nothing of earlier connections is left.
fn assert_well(engine: &Engine) {
    assert_eq!(ask(address(engine), get("/health", "")).status, 200);
    eventually("no connection is left", || {
        figure(engine, "stentor_connections", None) == 0
            && figure(engine, "stentor_connection_tasks", None) == 0
    });
    let mut heard = Listener::open(
        address(engine),
        hearing(Transport::Sse, Format::Raw, Framing::Chunked),
        "topic=well",
        "",
    );
    heard.start();
    engine.publisher().publish(text("well", "as ever")).expect("published");
    assert_eq!(heard.data(), b"as ever");
}

fn a_malformed_request_gets_its_status_and_its_field(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let many = (0..129).map(|n| format!("topic=t{n}&")).collect::<String>();
    let long = format!("/events?topic={}", "x".repeat(20_000));
    let websocket = |from: &str, to: &str| get("/events?topic=a", &UPGRADE.replace(from, to));
    let post = |target: &str, lines: &str, body: &str| String::from_utf8(post(target, lines, body)).unwrap();
    let chunked = "POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases: &[(String, u16, Option<&str>, Option<&str>)] = &[
        // Parameters and cursors.
        (get("/events", ""), 400, Some("topic"), Some("parameter")),
        (get("/events?topic=", ""), 400, Some("topic"), Some("topic")),
        (get("/events?topic=a%00b", ""), 400, Some("topic"), Some("query")),
        (get("/events?topic=a%0ab", ""), 400, Some("topic"), Some("query")),
        (get("/events?topic=%ff", ""), 400, Some("topic"), Some("query")),
        (get("/events?topic=%zz", ""), 400, Some("topic"), Some("query")),
        (get("/events?topic=/a", ""), 400, Some("topic"), Some("topic")),
        (get("/events?topic=a&topic=b*", ""), 400, Some("topic"), Some("topic")),
        (get("/events?topic=**/a", ""), 400, Some("topic"), Some("topic")),
        (get(&format!("/events?topic={}", "x".repeat(257)), ""), 400, Some("topic"), Some("topic")),
        (get(&format!("/events?{many}"), ""), 400, Some("topic"), Some("parameter")),
        (get("/events?topic=a&cursor=x", ""), 400, Some("cursor"), Some("cursor")),
        (get("/events?topic=a&cursor=k-1-2", ""), 400, Some("cursor"), Some("cursor")),
        (get("/events?topic=a&cursor=k-99999999999999999999", ""), 400, Some("cursor"), Some("cursor")),
        (get("/events?topic=a&cursor=k-1&cursor=k-2", ""), 400, Some("cursor"), Some("parameter")),
        (get("/events?topic=a", "Last-Event-ID: ?\r\n"), 400, Some("Last-Event-ID"), Some("cursor")),
        (get("/events?topic=a", "If-None-Match: \"?\"\r\n"), 400, Some("If-None-Match"), Some("cursor")),
        (get("/events?topic=a&until=x", ""), 400, Some("until"), Some("cursor")),
        (get("/events?topic=a&until=k-1", ""), 410, Some("until"), None),
        (get("/events?topic=a&transport=fax", ""), 400, Some("transport"), Some("parameter")),
        (get("/events?topic=a&format=xml", ""), 400, Some("format"), Some("parameter")),
        (get("/events?topic=a&wait=121", ""), 400, Some("wait"), Some("parameter")),
        (get("/events?topic=a&wait=1.5", ""), 400, Some("wait"), Some("parameter")),
        (get("/events?topic=a&limit=0", ""), 400, Some("limit"), Some("parameter")),
        (get("/events?topic=a&limit=1001", ""), 400, Some("limit"), Some("parameter")),
        (get("/events?topic=a&transport=iframe&callback=a-b", ""), 400, Some("callback"), Some("parameter")),
        (get("/events?topic=a&transport=iframe&origin=x", ""), 400, Some("origin"), Some("parameter")),
        // The embedder's word.
        (get("/events?topic=secret/a", ""), 403, None, None),
        (get("/events?topic=a&app=401", ""), 401, Some("app"), None),
        (get("/events?topic=a&app=later", ""), 429, None, None),
        // Methods and paths.
        (get("/events", "").replacen("GET", "DELETE", 1), 405, Some("method"), None),
        (get("/events", "").replacen("GET", "BREW", 1), 501, Some("method"), None),
        (get("/nowhere", ""), 404, Some("path"), None),
        (get("/topics/a*", ""), 400, Some("topic"), Some("topic")),
        (get("/events?topic=a", "").replace("localhost", "evil.example"), 421, Some("Host"), None),
        // Bodies.
        (
            "POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            411,
            Some("Content-Length"),
            None,
        ),
        (
            post("/events?topic=a", "Content-Type: application/json\r\n", "{"),
            400,
            Some("data"),
            Some("event"),
        ),
        (post("/events?topic=a", "Content-Type: nonsense\r\n", "x"), 415, Some("Content-Type"), None),
        (post("/events", "Content-Type: application/x-ndjson\r\n", "{"), 400, Some("body"), Some("batch")),
        (chunked.to_owned() + "x\r\n", 400, Some("body"), Some("body")),
        (chunked.to_owned() + "1\r\nab\r\n", 400, Some("body"), Some("body")),
        (chunked.to_owned() + "fffffffff\r\n", 413, Some("data"), Some("body")),
        (
            get("/events?topic=a", "Content-Length: 3\r\n") + "abc",
            400,
            Some("Content-Length"),
            Some("parameter"),
        ),
        // Heads (RFC 9112).
        ("GET /x HTTP/1.1\r\n\r\n".into(), 400, Some("Host"), Some("head")),
        ("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400, Some("Host"), Some("head")),
        ("GET /x HTTP/1.1\r\nHost : a\r\n\r\n".into(), 400, Some("Host"), Some("head")),
        ("GET /x HTTP/1.1\nHost: a\n\n".into(), 400, Some("head"), Some("head")),
        ("GET /x\r\n\r\n".into(), 400, Some("head"), Some("head")),
        ("GET /x HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505, Some("version"), Some("head")),
        (get("/x", "A: b\r\n folded\r\n"), 400, Some("head"), Some("head")),
        (get("/x", "A: b\rc\r\n"), 400, Some("head"), Some("head")),
        (get("/x", "A: b\0c\r\n"), 400, Some("A"), Some("head")),
        (post("/x", "Content-Length: 2\r\n", "x"), 400, Some("Content-Length"), Some("head")),
        (post("/x", "Transfer-Encoding: chunked\r\n", "x"), 400, Some("Transfer-Encoding"), Some("head")),
        (get("/x", "Transfer-Encoding: gzip, chunked\r\n"), 501, Some("Transfer-Encoding"), Some("head")),
        (get(&long, ""), 414, Some("target"), Some("head")),
        (get("/x", &"X: y\r\n".repeat(200)), 431, Some("head"), Some("head")),
        (get("/x", &format!("X: {}\r\n", "y".repeat(20_000))), 431, Some("head"), Some("head")),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".into(), 400, Some("head"), Some("head")),
        ("\0\0\0\0".repeat(100), 400, Some("head"), Some("head")),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, Some("version"), Some("head")),
        // Opening handshakes (RFC 6455 §4.2.1).
        (get("/events?topic=a&transport=websocket", ""), 426, Some("Upgrade"), Some("handshake")),
        (websocket("Version: 13", "Version: 8"), 426, Some("Sec-WebSocket-Version"), Some("handshake")),
        (websocket("dGhl", "!"), 400, Some("Sec-WebSocket-Key"), Some("handshake")),
        (websocket("Connection: Upgrade", "Connection: close"), 400, Some("Connection"), Some("handshake")),
    ];
    for (request, status, field, kind) in cases {
        let shown = &request[..request.len().min(100)];
        let refused = figure(&engine, "stentor_refusals_total", None);
        let malformed = figure(&engine, "stentor_malformed_total", *kind);
        let reply = ask(address(&engine), request);
        let problem = reply.json();
        assert_eq!((reply.status, &problem["status"]), (*status, &(*status).into()), "{shown} {problem}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{shown}");
        assert_eq!(problem["field"].as_str(), *field, "{shown} {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{shown}");
        match status {
            405 => assert!(reply.header("allow").is_some_and(|allowed| allowed.contains("POST"))),
            426 => assert_eq!(reply.header("sec-websocket-version"), Some("13")),
            429 => assert_eq!(reply.header("retry-after"), Some("9")),
            _ => {}
        }
        assert_eq!(figure(&engine, "stentor_refusals_total", None), refused + 1, "{shown}");
        if kind.is_some() {
            assert_eq!(figure(&engine, "stentor_malformed_total", *kind), malformed + 1, "{shown} {problem}");
        }
    }
    assert_well(&engine);
}

fn a_refused_event_source_is_told_to_come_back(backing: Backing) {
    let engine = start(config(|config| config.limits.connections = 3), backing);
    for target in ["/events?topic=a&app=later", "/events?topic=a&app=503"] {
        let reply = ask(address(&engine), get(target, SSE));
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("text/event-stream")),
            "{target}"
        );
        let retry = reply.text().strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
        assert!(
            retry.is_some_and(|retry| retry.parse::<u32>().is_ok_and(|ms| ms >= 1_000)),
            "{:?}",
            reply.text()
        );
        let strict = ask(address(&engine), get(&format!("{target}&status=strict"), SSE));
        assert!(matches!(strict.status, 429 | 503), "{target}");
    }
    let lasting = ask(address(&engine), get("/events?topic=a&app=403", SSE));
    assert_eq!(lasting.status, 403, "what will not change is told at once");

    eventually("there is room", || figure(&engine, "stentor_connections", None) == 0);
    let mut held: Vec<Client> = (0..3).map(|_| Client::new(address(&engine))).collect();
    for client in &mut held {
        assert_eq!(client.ask(get("/health", "")).status, 200);
    }
    let source = ask(address(&engine), get("/events?topic=a", SSE));
    assert!(source.status == 200 && source.text().starts_with("retry: "));
    let poll = ask(address(&engine), get("/events?topic=a", ""));
    assert_eq!((poll.status, &poll.json()["limit"]), (503, &3.into()));
    assert!(poll.header("retry-after").is_some());
    let mut socket = Listener::open(
        address(&engine),
        hearing(Transport::WebSocket, Format::Raw, Framing::Frames),
        "topic=a",
        "",
    );
    assert_eq!(socket.close().0, Some(1013));
    drop((held, socket));
    eventually("there is room again", || figure(&engine, "stentor_connections", None) == 0);
    assert_well(&engine);
}

fn a_refused_websocket_is_told_by_its_close_code(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    for (query, code) in [
        ("", 4400),
        ("topic=a**", 4400),
        ("topic=a&cursor=x", 4400),
        ("topic=a&app=401", 4401),
        ("topic=secret", 4403),
        ("topic=a&cursor=k-7", 4410),
        ("topic=a&app=later", 4429),
        ("topic=a&app=503", 1013),
    ] {
        let refused = figure(&engine, "stentor_refusals_total", None);
        let raw = hearing(Transport::WebSocket, Format::Raw, Framing::Frames);
        let mut socket = Listener::open(address(&engine), raw, query, "");
        let (told, reason) = socket.close();
        assert_eq!(told, Some(code), "{query}: {reason}");
        assert!(!reason.is_empty() && reason.len() <= 123, "{query}: {reason}");
        assert_eq!(figure(&engine, "stentor_refusals_total", None), refused + 1, "{query}");
    }
    assert_well(&engine);
}

/// A frame with its first byte changed.
fn with_first(mut frame: Vec<u8>, change: impl FnOnce(u8) -> u8) -> Vec<u8> {
    frame[0] = change(frame[0]);
    frame
}

fn a_malformed_frame_gets_its_close_code(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut unmasked = Vec::new();
    encode_frame(Opcode::Text, b"x", &mut unmasked);
    let text_frame = || frame(Opcode::Text, b"x");
    let start = || with_first(frame(Opcode::Text, b"x"), |first| first & 0x7f);
    let mut bomb = Vec::new();
    Compressor::with_window_bits(15, false, 4).compress(&vec![0; 32 << 20], &mut bomb);
    let bomb = with_first(frame(Opcode::Text, &bomb), |first| first | 0x40);
    let huge = [&[0x82, 0xff][..], &(1u64 << 62).to_be_bytes(), &[0; 4]].concat();
    let negative = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let endless = start();
    let mut fragments = endless.clone();
    let piece = with_first(frame(Opcode::Continuation, &vec![b'x'; 300_000]), |first| first & 0x7f);
    (0..5).for_each(|_| fragments.extend(&piece));
    let raw = (Format::Raw, Framing::Frames);
    for (what, (format, framing), bytes, code) in [
        ("no mask", raw, unmasked, 1002),
        ("a reserved bit", raw, with_first(text_frame(), |first| first | 0x20), 1002),
        ("compressed, not agreed", raw, with_first(text_frame(), |first| first | 0x40), 1002),
        ("an unknown opcode", raw, with_first(text_frame(), |_| 0x83), 1002),
        ("an unknown control opcode", raw, with_first(text_frame(), |_| 0x8b), 1002),
        ("a fragmented ping", raw, with_first(frame(Opcode::Ping, b""), |first| first & 0x7f), 1002),
        ("a long ping", raw, with_first(frame(Opcode::Text, &[0; 126]), |_| 0x89), 1002),
        ("a continuation of nothing", raw, frame(Opcode::Continuation, b"x"), 1002),
        ("text inside a message", raw, [start(), text_frame()].concat(), 1002),
        ("a length in too many bytes", raw, vec![0x81, 0xfe, 0, 5, 0, 0, 0, 0], 1002),
        ("a length beyond all", raw, negative, 1002),
        ("a length that nobody has", raw, huge, 1009),
        ("a message that does not end", raw, fragments, 1009),
        ("no UTF-8", raw, frame(Opcode::Text, b"\xc3\x28"), 1007),
        (
            "no UTF-8 in a fragment",
            raw,
            with_first(frame(Opcode::Text, b"a\xff"), |first| first & 0x7f),
            1007,
        ),
        ("a close of one byte", raw, frame(Opcode::Close, &[3]), 1002),
        ("a close code that none may send", raw, frame(Opcode::Close, &1005u16.to_be_bytes()), 1002),
        ("a close reason that is no UTF-8", raw, frame(Opcode::Close, b"\x03\xe8\xff"), 1007),
        ("a bomb", (Format::Raw, Framing::Deflate(15)), bomb, 1009),
        (
            "bytes that are not compressed",
            (Format::Raw, Framing::Deflate(15)),
            with_first(frame(Opcode::Text, &[0xff; 20]), |first| first | 0x40),
            1007,
        ),
        ("binary to stentor.v1", (Format::Json, Framing::Frames), frame(Opcode::Binary, b"x"), 1003),
    ] {
        let malformed = figure(&engine, "stentor_malformed_total", Some("frame"));
        let mut socket =
            Listener::open(address(&engine), hearing(Transport::WebSocket, format, framing), "topic=a", "");
        socket.start();
        // Large ones may be answered before they are whole.
        let _ = std::io::Write::write_all(&mut socket.client.stream, &bytes);
        let (told, reason) = socket.close();
        let is_deflate = what == "bytes that are not compressed";
        // RFC 7692 names no code for data that does not inflate.
        assert!(told == Some(code) || is_deflate && told == Some(1002), "{what}: {told:?} {reason}");
        eventually(what, || figure(&engine, "stentor_malformed_total", Some("frame")) > malformed);
    }
    assert_well(&engine);
}

fn a_flood_of_messages_ends_its_own_connection(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let raw = hearing(Transport::WebSocket, Format::Raw, Framing::Frames);
    let mut calm = Listener::open(address(&engine), raw, "topic=calm", "");
    calm.start();
    for message in [frame(Opcode::Ping, b"x"), frame(Opcode::Text, b"ping"), frame(Opcode::Text, b"other")] {
        let mut socket = Listener::open(address(&engine), raw, "topic=a", "");
        socket.start();
        let _ = std::io::Write::write_all(&mut socket.client.stream, &message.repeat(400));
        assert_eq!(socket.close().0, Some(4429));
    }
    eventually("it is counted", || figure(&engine, "stentor_refusals_total", Some("rate")) == 3);
    // Publishes have a limit of their own.
    engine.publisher().publish(text("calm", "heard")).expect("published");
    assert_eq!(calm.data(), b"heard");
    drop(calm);
    assert_well(&engine);
}

fn a_one_way_subscriber_that_talks_is_closed(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    for transport in [Transport::Sse, Transport::Stream, Transport::Iframe] {
        let hearing = hearing(transport, Format::Json, Framing::Chunked);
        let mut listener = Listener::open(address(&engine), hearing, "topic=a", "");
        listener.start();
        listener.client.send(vec![b'x'; 4_000]);
        std::thread::sleep(Duration::from_millis(20));
        engine.publisher().publish(text("a", "still there")).expect("published");
        assert_eq!(listener.data(), b"still there", "{transport:?}");
        let _ = std::io::Write::write_all(&mut listener.client.stream, &[b'x'; 200]);
        while listener.read() {}
    }
    eventually("all are counted", || {
        figure(&engine, "stentor_subscriptions_ended_total", Some("protocol")) == 3
    });
    assert_well(&engine);
}

fn who_is_slow_with_a_request_is_told_so(backing: Backing) {
    let slow = |config: &mut stentor::config::Config| {
        config.timing.head_seconds = 1;
        config.timing.body_seconds = 1;
        config.timing.idle_seconds = 2;
    };
    let engine = start(config(slow), backing);
    let begun = Instant::now();
    let mut head = Client::new(address(&engine));
    let mut drip = Client::new(address(&engine));
    let mut body = Client::new(address(&engine));
    let mut idle = Client::new(address(&engine));
    let mut silent = Client::new(address(&engine));
    head.send("GET /health HTTP/1.1\r\nHost: local");
    body.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(idle.ask(get("/health", "")).status, 200);
    for byte in b"GET /health HTTP/1.1\r\nHos" {
        if std::io::Write::write_all(&mut drip.stream, &[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for (what, client) in [("head", &mut head), ("drip", &mut drip), ("body", &mut body)] {
        assert_eq!(client.reply().status, 408, "{what}");
        assert_eq!(client.rest(), b"", "{what}");
    }
    assert_eq!((idle.rest(), silent.rest()), (Vec::new(), Vec::new()), "closed without a word");
    assert!(begun.elapsed() > Duration::from_millis(1_500), "not before its time");
    assert_eq!(figure(&engine, "stentor_refusals_total", Some("timeout")), 3);
    assert_well(&engine);
}

fn a_peer_that_vanishes_at_any_step_harms_nobody(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let publish = String::from_utf8(post("/events?topic=a", "", "data")).unwrap();
    let upgrade = get("/events?topic=a", &(UPGRADE.to_owned() + V1));
    let steps: Vec<(Vec<u8>, bool)> = vec![
        (Vec::new(), false),
        (b"G".to_vec(), false),
        (b"GET /events?topic=a HTTP/1.1\r\nHost".to_vec(), false),
        (get("/events?topic=a", "").into(), false),
        (get("/events?topic=a", "").into(), true),
        (get("/events?topic=a", SSE).into(), false),
        (get("/events?topic=a", SSE).into(), true),
        (get("/events?topic=a&transport=stream", "").into(), true),
        (get("/events?topic=a&transport=iframe", "").into(), true),
        (publish[..publish.len() - 2].into(), false),
        (publish.clone().into(), false),
        (upgrade.clone().into(), false),
        (upgrade.clone().into(), true),
        ([upgrade.as_bytes(), &frame(Opcode::Text, b"{\"ping\":1}")[..5]].concat(), true),
        ([upgrade.as_bytes(), &frame(Opcode::Text, b"{\"subscribe\":[\"b\"]}")].concat(), false),
        ([upgrade.as_bytes(), &frame(Opcode::Close, b"")].concat(), false),
    ];
    for end in ["reset", "close", "half-close"] {
        for (index, (bytes, is_answered)) in steps.iter().enumerate() {
            for _ in 0..4 {
                let mut client = Client::new(address(&engine));
                client.send(bytes);
                if *is_answered {
                    assert!(client.read(), "step {index}");
                }
                match end {
                    "reset" => client.reset(),
                    "half-close" => {
                        let _ = client.stream.shutdown(Shutdown::Write);
                        // Whatever is due comes, and then the end.
                        client.rest();
                    }
                    _ => drop(client),
                }
            }
            let _ = engine.publisher().publish(text("a", "meanwhile"));
        }
    }
    // Long polls that are held hear of nothing any more.
    let held: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = Client::new(address(&engine));
            client.send(get("/events?topic=held&wait=60", ""));
            client
        })
        .collect();
    eventually("the polls are held", || figure(&engine, "stentor_subscribers", Some("long-poll")) == 8);
    held.into_iter().for_each(Client::reset);
    assert_well(&engine);
}

fn a_subscriber_that_never_reads_costs_others_nothing(backing: Backing) {
    let limits = |config: &mut stentor::config::Config| {
        config.limits.send_buffer_bytes = 16 << 10;
        config.timing.stalled_seconds = 2;
    };
    let engine = start(config(limits), backing);
    let transports = [Transport::Sse, Transport::Stream, Transport::Iframe, Transport::WebSocket];
    let mut deaf: Vec<Listener> = transports
        .iter()
        .map(|&transport| {
            let client = Client::new(address(&engine));
            socket2::SockRef::from(&client.stream).set_recv_buffer_size(4_096).expect("a small buffer");
            let framing = if transport == Transport::WebSocket { Framing::Frames } else { Framing::Chunked };
            let mut listener = Listener::on(client, hearing(transport, Format::Json, framing));
            listener.request("topic=a", "");
            listener.start();
            listener
        })
        .collect();
    let sse = hearing(Transport::Sse, Format::Raw, Framing::Chunked);
    let mut reader = Listener::open(address(&engine), sse, "topic=a", "");
    reader.start();
    let data = "x".repeat(10_000);
    for n in 0..500 {
        block_on(engine.publisher().publish_wait(text("a", &format!("{n} {data}")))).expect("published");
        assert!(reader.data().starts_with(format!("{n} ").as_bytes()));
    }
    // One reads again before its time is over: it is told what it missed.
    let mut woken = deaf.remove(0);
    let mut has_gap = false;
    loop {
        match woken.next() {
            Item::Gap { .. } => has_gap = true,
            Item::Event { data, .. } if data.starts_with(b"499 ") => break,
            Item::Event { .. } | Item::Cursor(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(has_gap, "what the log has dropped is told");
    // The others have taken nothing for too long.
    eventually("the others are reset", || figure(&engine, "stentor_connections", None) == 2);
    drop((woken, reader, deaf));
    assert_well(&engine);
}
