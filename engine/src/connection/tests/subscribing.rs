//! What becomes of requests for a subscription: a poll's answer, or what the shard is given.

use super::*;
use crate::config::Retention;

#[test]
fn each_transport_is_parked_with_its_head_and_its_place() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x", "y"]);
    let (one, two) = (rig.cursor(1), rig.cursor(2));
    rig.serve(move |address| {
        let mut clients = Vec::new();
        for (target, content_type, cursor) in [
            (format!("/events?topic=a&transport=sse&cursor={one}"), "text/event-stream", None),
            (format!("/events?topic=a&transport=stream&cursor={one}"), "application/x-ndjson", Some(&one)),
            ("/events?topic=a&transport=stream".into(), "application/x-ndjson", Some(&two)),
            ("/events?topic=a&transport=iframe&callback=f".into(), "text/html; charset=utf-8", None),
        ] {
            let mut client = Client::new(address);
            client.send(get(&target, ""));
            let reply = client.head();
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{target}");
            assert_eq!(reply.header("stentor-cursor"), cursor.map(String::as_str), "{target}");
            assert_eq!(reply.header("x-accel-buffering"), Some("no"));
            let policy = reply.header("content-security-policy").unwrap_or_default();
            assert_eq!(policy.contains("frame-ancestors 'self'"), content_type.starts_with("text/html"));
            clients.push(client);
        }
    });
    let subscriptions = rig.subscriptions();
    let told: Vec<_> = subscriptions.iter().map(|s| (s.transport, s.format, s.framing, s.after)).collect();
    let chunked = Framing::Chunked;
    assert_eq!(
        told,
        [
            (Transport::Sse, Format::Raw, chunked, Offset(1)),
            (Transport::Stream, Format::Json, chunked, Offset(1)),
            (Transport::Stream, Format::Json, chunked, Offset(2)),
            (Transport::Iframe, Format::Json, chunked, Offset(2)),
        ]
    );
    assert!(subscriptions.iter().all(|s| s.old.is_none() && !s.is_v1 && s.request.is_none()));
}

#[test]
fn http_1_0_streams_have_no_chunks() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        client.send("GET /events?topic=a&transport=sse HTTP/1.0\r\n\r\n");
        let head = client.head();
        assert_eq!((head.header("transfer-encoding"), head.header("connection")), (None, Some("close")));
    });
    let subscription = rig.subscriptions().pop().unwrap();
    assert_eq!((subscription.framing, subscription.is_http10), (Framing::UntilClose, true));
}

#[test]
fn a_websocket_chooses_its_subprotocol_and_keeps_the_frames_that_came_along() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    let (zero, one) = (rig.cursor(0), rig.cursor(1));
    rig.serve(move |address| {
        let mut clients = Vec::new();
        for (query, lines, cursor, subprotocol, extension) in [
            ("?topic=a&cursor=earliest", "", &zero, None, None),
            ("", "Sec-WebSocket-Protocol: chat, stentor.v1\r\n", &one, Some("stentor.v1"), None),
            (
                "?topic=a",
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
                &one,
                None,
                Some("permessage-deflate"),
            ),
        ] {
            let mut client = Client::new(address);
            client.send(get(&format!("/events{query}"), &(WEBSOCKET.to_owned() + lines)) + "frames");
            let reply = client.head();
            assert_eq!((reply.status, reply.header("stentor-cursor")), (101, Some(&**cursor)));
            assert_eq!(reply.header("sec-websocket-protocol"), subprotocol);
            let accepted =
                reply.header("sec-websocket-extensions").map(|text| text.split(';').next().unwrap());
            assert_eq!(accepted, extension);
            clients.push(client);
        }
    });
    let subscriptions = rig.subscriptions();
    assert!(subscriptions.iter().all(|s| s.leftover == b"frames"));
    let [raw, v1, deflate] = &subscriptions[..] else { panic!() };
    assert_eq!((raw.format, raw.framing, raw.is_v1), (Format::Raw, Framing::Frames, false));
    assert_eq!((v1.format, v1.is_v1, v1.matchers.len()), (Format::Json, true, 0));
    assert_eq!(v1.request.as_ref().unwrap().path, "/events");
    assert!(matches!(deflate.framing, Framing::Deflate(8..=15)) && deflate.deflate.is_some());
}

#[test]
fn a_long_poll_is_answered_at_once_if_the_log_has_something_and_parked_otherwise() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    rig.publish("b", &["y"]);
    let (zero, one) = (rig.cursor(0), rig.cursor(1));
    rig.serve(move |address| {
        let mut client = Client::new(address);
        let reply = client.ask(get(&format!("/events?topic=a&wait=9&cursor={zero}"), ""));
        assert_eq!((reply.status, reply.json()["events"][0]["data"].as_str()), (200, Some("x")));
        let reply = client.ask(get(&format!("/events?topic=a&wait=0&cursor={one}"), ""));
        assert_eq!((reply.status, reply.json()["events"].as_array().unwrap().len()), (200, 0));
        let until = client.ask(get(&format!("/events?topic=a&wait=9&cursor={one}&until={one}"), ""));
        assert_eq!(until.json()["cursor"].as_str(), Some(&*one), "nothing can come before its end");
        let listed = "Origin: http://localhost\r\n";
        let target = format!("/events?topic=a&wait=9&limit=5&cursor={one}");
        client.send(get(&target, listed) + &get("/health", ""));
        std::thread::sleep(Duration::from_millis(100));
    });
    let subscription = rig.subscriptions().pop().unwrap();
    assert_eq!((subscription.transport, subscription.framing), (Transport::LongPoll, Framing::Length));
    assert_eq!((subscription.wait_seconds, subscription.limit, subscription.keeps_alive), (9, 5, true));
    assert_eq!((subscription.after, subscription.old), (Offset(2), None), "nothing lies between");
    assert_eq!(&*subscription.extra_head, "Vary: Origin\r\n");
    assert!(subscription.head.is_none());
    assert_eq!(subscription.leftover, get("/health", "").as_bytes(), "the next request waits for the answer");
}

#[test]
fn a_poll_that_follows_its_tag_gets_304_while_there_is_nothing() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    let publisher = rig.publisher();
    rig.serve(move |address| {
        let mut client = Client::new(address);
        let first = client.ask(get("/events?topic=a&cursor=earliest", ""));
        let tag = first.header("etag").unwrap().to_owned();
        assert_eq!(format!("\"{}\"", first.json()["cursor"].as_str().unwrap()), tag);
        let lines = format!("If-None-Match: W/{tag}\r\n");
        for _ in 0..2 {
            let reply = client.ask(get("/events?topic=a", &lines));
            assert_eq!((reply.status, reply.header("etag")), (304, Some(&*tag)));
        }
        let weak = client.ask(get("/events?topic=a&format=json", "If-None-Match: \"*\"\r\n"));
        assert_eq!(weak.status, 400);
        publisher.publish(Event::text("b", "y").unwrap()).unwrap();
        let reply = client.ask(get("/events?topic=a", &lines));
        assert_eq!(reply.status, 304, "a topic of others changes nothing for a place that is young");
        publisher.publish(Event::text("a", "z").unwrap()).unwrap();
        let reply = client.ask(get("/events?topic=a", &lines));
        assert_eq!((reply.status, reply.json()["events"][0]["data"].as_str()), (200, Some("z")));
    });
}

#[test]
fn a_gap_is_in_the_answer_of_a_poll_and_a_refusal_of_a_raw_stream() {
    let retention = Retention { events: 2, ..Retention::default() };
    let rig = Rig::new(Config { retention, ..Config::default() });
    rig.publish("a", &["1", "2", "3", "4", "5"]);
    let (one, three) = (rig.cursor(1), rig.cursor(3));
    rig.serve(move |address| {
        let poll = ask(address, get(&format!("/events?topic=a&cursor={one}"), "")).json();
        assert_eq!(poll["gap"]["after"].as_str(), Some(&*one), "{poll}");
        assert_eq!(poll["gap"]["resumed"].as_str(), Some(&*three), "{poll}");
        assert_eq!(poll["events"].as_array().unwrap().len(), 2);
        let earliest = ask(address, get("/events?topic=a&cursor=earliest", "")).json();
        assert!(earliest["gap"].is_null() && earliest["events"].as_array().unwrap().len() == 2);
        let raw = ask(address, get(&format!("/events?topic=a&transport=stream&format=raw&cursor={one}"), ""));
        assert_eq!((raw.status, raw.json()["cursor"].as_str()), (410, Some(&*three)));
        let held = ask(address, get(&format!("/events?topic=a&wait=20&cursor={one}"), "")).json();
        assert_eq!(held["gap"]["resumed"].as_str(), Some(&*three), "a gap is something to tell at once");
    });
}

#[test]
fn a_cursor_of_another_epoch_goes_with_the_subscription_and_into_no_head() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    rig.serve(|address| {
        let mut client = Client::new(address);
        client.send(get("/events?topic=a&transport=stream&cursor=k-9", ""));
        assert_eq!(client.head().header("stentor-cursor"), None);
        let poll = ask(address, get("/events?topic=a&cursor=k-9", "")).json();
        assert_eq!(poll["gap"]["after"], "k-9");
    });
    let subscription = rig.subscriptions().pop().unwrap();
    assert_eq!(subscription.old.unwrap().to_string(), "k-9");
    assert_eq!((subscription.after, subscription.old.is_some()), (Offset(0), true));
}

#[test]
fn the_embedder_decides_what_is_heard() {
    let rig = Rig::new(Config::default());
    rig.publish("other", &["x"]);
    rig.serve(|address| {
        let poll = ask(address, get("/events?topic=a&app=other&cursor=earliest", "")).json();
        assert_eq!(poll["events"][0]["topic"], "other");
        let mut client = Client::new(address);
        client.send(get("/events?topic=a&app=other&transport=sse", ""));
        client.head();
    });
    assert_eq!(rig.subscriptions().pop().unwrap().matchers, [Matcher::new("other").unwrap()]);
    assert_eq!(rig.figure("stentor_subscriptions_total", "poll"), 1);
    assert_eq!(rig.figure("stentor_subscriptions_total", "sse"), 1);
}

#[test]
fn a_poll_has_more_until_it_has_read_all() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["1", "2", "3", "4", "5"]);
    rig.serve(|address| {
        let mut client = Client::new(address);
        let mut cursor = "earliest".to_owned();
        let mut seen = Vec::new();
        loop {
            let poll = client.ask(get(&format!("/events?topic=a&limit=2&cursor={cursor}"), "")).json();
            let events = poll["events"].as_array().unwrap().clone();
            seen.extend(events.iter().map(|event| event["data"].as_str().unwrap().to_owned()));
            cursor = poll["cursor"].as_str().unwrap().to_owned();
            if poll["more"] != true {
                break;
            }
        }
        assert_eq!(seen, ["1", "2", "3", "4", "5"]);
    });
}
