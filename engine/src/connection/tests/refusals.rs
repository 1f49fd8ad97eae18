//! What is refused: the status, the field, the figure, and how each transport is told.

use std::sync::atomic::Ordering;

use super::*;
use crate::config::{Cors, Limits};

#[test]
fn every_refusal_names_its_field_and_is_counted() {
    let rig = Rig::new(Config::default());
    let many = (0..129).map(|n| format!("topic=t{n}&")).collect::<String>();
    let long = format!("/events?topic={}", "x".repeat(20_000));
    let fields = "X: y\r\n".repeat(200);
    let large = format!("X: {}\r\n", "y".repeat(20_000));
    let cases: Vec<(String, u16, Option<&str>)> = vec![
        (get("/events", ""), 400, Some("topic")),
        (get("/events?topic=a%00", ""), 400, Some("topic")),
        (get("/events?topic=%zz", ""), 400, Some("topic")),
        (get("/events?topic=a&topic=b*", ""), 400, Some("topic")),
        (get(&format!("/events?{many}"), ""), 400, Some("topic")),
        (get("/events?topic=a&cursor=x", ""), 400, Some("cursor")),
        (get("/events?topic=a&cursor=k", ""), 400, Some("cursor")),
        (get("/events?topic=a", "Last-Event-ID: ?\r\n"), 400, Some("Last-Event-ID")),
        (get("/events?topic=a", "If-None-Match: \"?\"\r\n"), 400, Some("If-None-Match")),
        (get("/events?topic=a&transport=fax", ""), 400, Some("transport")),
        (get("/events?topic=a&format=xml", ""), 400, Some("format")),
        (get("/events?topic=a&wait=1000", ""), 400, Some("wait")),
        (get("/events?topic=a&limit=-1", ""), 400, Some("limit")),
        (get("/events?topic=a&transport=iframe&callback=a-b", ""), 400, Some("callback")),
        (get("/events?topic=a&transport=iframe&origin=x", ""), 400, Some("origin")),
        (get("/events?topic=a&app=401", ""), 401, None),
        (get("/events?topic=a&app=403", ""), 403, None),
        (get("/events?topic=a&app=nothing", ""), 500, None),
        (get("/events?topic=a&transport=websocket", ""), 426, Some("Upgrade")),
        (get("/events?topic=a", &WEBSOCKET.replace("13", "8")), 426, Some("Sec-WebSocket-Version")),
        (get("/events?topic=a", &WEBSOCKET.replace("dGhl", "!")), 400, Some("Sec-WebSocket-Key")),
        (post("/events", "", "x"), 400, Some("topic")),
        (post("/events?topic=a&name=stentor.x", "", "x"), 400, Some("name")),
        (post("/events?topic=a", "Content-Type: application/json\r\n", "{"), 400, Some("data")),
        (post("/events?topic=a", "Content-Type: nonsense\r\n", "x"), 415, Some("Content-Type")),
        (post("/events?topic=a&app=404", "", "x"), 404, None),
        ("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 411, Some("Content-Length")),
        ("GET /x HTTP/1.1\r\n\r\n".into(), 400, Some("Host")),
        ("GET /x HTTP/1.1\r\nHost : a\r\n\r\n".into(), 400, Some("Host")),
        ("GET /x HTTP/1.1\nHost: a\n\n".into(), 400, Some("head")),
        ("GET /x HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505, Some("version")),
        (get("/x", "A: b\r\n folded\r\n"), 400, Some("head")),
        (post("/x", "Transfer-Encoding: chunked\r\n", "x"), 400, Some("Transfer-Encoding")),
        (get("/x", "Transfer-Encoding: gzip, chunked\r\n"), 501, Some("Transfer-Encoding")),
        (get("/x", "Expect: miracle\r\n"), 417, Some("Expect")),
        (get("/events?topic=a", "Content-Length: 3\r\n") + "abc", 400, Some("Content-Length")),
        (get(&long, ""), 414, Some("target")),
        (get("/x", &fields), 431, Some("head")),
        (get("/x", &large), 431, Some("head")),
        ("\u{16}\u{3}\u{1}\u{2}\n".into(), 400, Some("head")),
    ];
    let count = cases.len() as u64;
    let cases: Vec<_> =
        cases.into_iter().map(|(request, s, field)| (request, s, field.map(str::to_owned))).collect();
    rig.serve(move |address| {
        for (request, status, field) in cases {
            let shown = &request[..request.len().min(90)];
            let reply = ask(address, &request);
            let problem = reply.json();
            assert_eq!((reply.status, problem["status"].as_u64()), (status, Some(status.into())), "{shown}");
            assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{shown}");
            let named = problem["field"].as_str();
            assert_eq!(named, field.as_deref(), "{shown} {problem}");
            assert!(!problem["detail"].as_str().unwrap().is_empty() && problem["title"] != "", "{shown}");
            if status == 426 {
                assert_eq!(reply.header("sec-websocket-version"), Some("13"));
            }
        }
        assert_eq!(ask(address, get("/health", "")).status, 200, "and the process goes on");
    });
    let families = rig.context.metrics.snapshot();
    let refusals = families.iter().find(|family| family.name == "stentor_refusals_total").unwrap();
    assert_eq!(refusals.samples.iter().map(|sample| sample.value).sum::<u64>(), count);
    assert!(rig.figure("stentor_malformed_total", "head") >= 8);
    assert!(rig.figure("stentor_malformed_total", "cursor") >= 4);
}

#[test]
fn a_cursor_beyond_the_head_is_refused_by_its_name() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    let beyond = rig.cursor(2);
    rig.serve(move |address| {
        for (target, lines, field) in [
            (format!("/events?topic=a&cursor={beyond}"), String::new(), "cursor"),
            ("/events?topic=a".into(), format!("Last-Event-ID: {beyond}\r\n"), "Last-Event-ID"),
            ("/events?topic=a".into(), format!("If-None-Match: W/\"{beyond}\"\r\n"), "If-None-Match"),
            (format!("/events?topic=a&until={beyond}"), String::new(), "until"),
        ] {
            let reply = ask(address, get(&target, &lines));
            assert_eq!((reply.status, reply.json()["field"].as_str()), (400, Some(field)));
        }
    });
}

/// The code and reason of the close frame that follows a 101.
fn refused_upgrade(address: SocketAddr, target: &str, lines: &str) -> (u16, String) {
    let mut client = Client::new(address);
    client.send(get(target, &(WEBSOCKET.to_owned() + lines)));
    let reply = client.head();
    assert_eq!(reply.status, 101, "{}", reply.head);
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let frames = client.rest();
    assert_eq!((frames[0], usize::from(frames[1])), (0x88, frames.len() - 2), "one close frame: {frames:?}");
    let code = u16::from_be_bytes([frames[2], frames[3]]);
    (code, String::from_utf8(frames[4..].to_vec()).unwrap())
}

#[test]
fn a_websocket_is_refused_by_a_close_that_its_page_can_see() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    let start = rig.cursor(0);
    rig.serve(move |address| {
        for (target, code) in [
            ("/events", 4400),
            ("/events?topic=a**", 4400),
            ("/events?topic=a&cursor=x", 4400),
            ("/events?topic=a&app=401", 4401),
            ("/events?topic=a&app=403", 4403),
            ("/events?topic=a&app=later", 4429),
            ("/events?topic=a&app=503", 1013),
        ] {
            let (told, reason) = refused_upgrade(address, target, "");
            assert_eq!(told, code, "{target}: {reason}");
            assert!(!reason.is_empty());
        }
        let (code, reason) = refused_upgrade(address, "/events?topic=a&cursor=k-7", "");
        assert_eq!(
            (code, reason),
            (4410, start),
            "a cursor of another epoch: the log goes on from the start"
        );
    });
}

#[test]
fn an_event_source_is_told_to_come_back_and_strictness_tells_the_code() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let accept = "Accept: text/event-stream\r\n";
        let reply = ask(address, get("/events?topic=a&app=later", accept));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
        let retry = reply.text().strip_prefix("retry: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!((9_000..=11_000).contains(&retry.parse::<u32>().unwrap()), "{retry}");
        let strict = ask(address, get("/events?topic=a&app=later&status=strict", accept));
        assert_eq!((strict.status, strict.header("retry-after")), (429, Some("9")));
        let lasting = ask(address, get("/events?topic=a&app=403", accept));
        assert_eq!(lasting.status, 403, "what will not change is told at once");
        let poll = ask(address, get("/events?topic=a&app=later", ""));
        assert_eq!(poll.status, 429);
    });
}

#[test]
fn a_draining_engine_lets_nothing_new_in_and_ends_connections() {
    let rig = Rig::new(Config::default());
    rig.context.is_draining.store(true, Ordering::Relaxed);
    rig.serve(|address| {
        let ready = ask(address, get("/ready", ""));
        assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
        assert_eq!(ask(address, get("/health", "")).header("connection"), Some("close"));
        for target in ["/events?topic=a", "/events?topic=a&wait=5", "/events?topic=a&transport=stream"] {
            let reply = ask(address, get(target, ""));
            assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{target}");
        }
        assert_eq!(ask(address, post("/events?topic=a", "", "x")).status, 503);
        let source = ask(address, get("/events?topic=a", "Accept: text/event-stream\r\n"));
        assert!(source.status == 200 && source.text().starts_with("retry: "));
        assert_eq!(refused_upgrade(address, "/events?topic=a", "").0, 1001);
    });
    assert_eq!(rig.context.sequencer.head(), Offset(0));
}

#[test]
fn a_connection_too_many_is_told_so_in_its_own_way() {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let rig = Rig::new(Config { limits, ..Config::default() });
    rig.serve(|address| {
        let mut first = Client::new(address);
        assert_eq!(first.ask(get("/health", "")).status, 200);
        let reply = ask(address, get("/events?topic=a", ""));
        assert_eq!((reply.status, reply.json()["limit"].as_u64()), (429, Some(1)));
        assert_eq!(reply.header("connection"), Some("close"));
        let source = ask(address, get("/events?topic=a", "Accept: text/event-stream\r\n"));
        assert!(source.status == 200 && source.text().starts_with("retry: "));
        assert_eq!(refused_upgrade(address, "/events?topic=a", "").0, 4429);
        drop(first);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ask(address, get("/health", "")).status, 200);
    });
    assert_eq!(rig.figure("stentor_refusals_total", "address"), 3);
}

#[test]
fn a_page_of_another_origin_may_neither_publish_nor_upgrade_nor_ask_beforehand() {
    let cors = Cors { origins: vec!["https://shop.example".into()], credentials: true };
    let rig = Rig::new(Config { cors, ..Config::default() });
    rig.serve(|address| {
        let evil = "Origin: https://evil.example\r\n";
        let shop = "Origin: https://shop.example\r\n";
        for (request, status) in [
            (post("/events?topic=a", evil, "x"), 403),
            (post("/events?topic=a", shop, "x"), 200),
            (post("/events?topic=a", "Origin: http://localhost\r\n", "x"), 200),
            (get("/events?topic=a", &(evil.to_owned() + WEBSOCKET)), 403),
            (get("/events?topic=a&transport=iframe&origin=https://evil.example", ""), 403),
        ] {
            let reply = ask(address, &request);
            assert_eq!(reply.status, status, "{request}");
            if status == 403 {
                assert!(reply.header("access-control-allow-origin").is_none());
            }
        }
        let preflight = |origin: &str| {
            let lines = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-key\r\n";
            ask(address, get("/events", &(origin.to_owned() + lines)).replacen("GET", "OPTIONS", 1))
        };
        assert_eq!(preflight(evil).status, 403);
        let good = preflight(shop);
        assert_eq!(good.status, 204);
        for (name, value) in [
            ("Access-Control-Allow-Origin", "https://shop.example"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Headers", "x-key"),
            ("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"),
            ("Vary", "Origin, Access-Control-Request-Headers"),
        ] {
            assert_eq!(good.header(name), Some(value));
        }
        let poll = ask(address, get("/events?topic=a", shop));
        assert_eq!(poll.header("access-control-expose-headers"), Some("ETag, Retry-After, Stentor-Cursor"));
        assert_eq!((poll.header("vary"), poll.status), (Some("Origin"), 200));
        let poll = ask(address, get("/events?topic=a", evil));
        assert_eq!(
            (poll.status, poll.header("access-control-allow-origin")),
            (200, None),
            "it cannot be read"
        );
    });
    assert_eq!(rig.figure("stentor_refusals_total", "origin"), 4);
}

#[test]
fn a_loopback_listener_does_not_answer_to_a_name_that_a_stranger_owns() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let rebound = get("/events?topic=a", "").replace("localhost", "evil.example:8080");
        let reply = ask(address, rebound);
        assert_eq!((reply.status, reply.json()["field"].as_str()), (421, Some("Host")));
    });
}
