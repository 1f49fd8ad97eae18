//! Every transport over real sockets, over HTTP/1.1 and HTTP/1.0, parked by io_uring and by epoll.

mod common;

use std::time::{Duration, Instant};

use common::*;
use stentor::sim::checker::Hearing;
use stentor::transport::decode::{Item, as_delivered};
use stentor::transport::{Format, Framing, Transport};
use stentor::{Cursor, Engine, Event, Offset};
use stentor_protocol::ws::frame::Opcode;

on_both_backings! {
    a_stream_begins_with_its_head_and_its_place;
    every_event_arrives_as_it_was_published;
    characters_that_are_cut_by_chunks_and_frames_are_whole_again;
    a_silent_subscriber_hears_heartbeats_and_one_that_answers_none_is_closed;
    a_gap_is_told_on_every_transport;
    a_cursor_of_another_life_of_the_log_is_a_gap_first;
    a_stream_of_its_greatest_age_ends_cleanly;
    a_poll_answers_at_once_with_tags_limits_and_ends;
    a_long_poll_is_held_and_its_connection_asks_again;
    requests_that_follow_a_held_one_are_answered_in_order;
    a_v1_websocket_is_driven_by_commands;
    a_raw_websocket_speaks_with_the_application;
}

fn publish(engine: &Engine, event: Event) -> Cursor {
    engine.publisher().publish(event).expect("published")
}

fn at(cursor: Cursor, offset: u64) -> Cursor {
    Cursor { offset: Offset(offset), ..cursor }
}

fn a_stream_begins_with_its_head_and_its_place(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    assert_eq!(engine.parked_by().0 == "epoll", backing == Backing::Epoll || engine.parked_by().1.is_some());
    let place = publish(&engine, text("a", "before"));
    for hearing in STREAMS {
        let mut client = Client::new(address(&engine));
        client.send(subscribe(hearing, "topic=a", "Origin: http://localhost\r\n"));
        let head = client.head();
        let is_websocket = hearing.transport == Transport::WebSocket;
        assert_eq!(head.status, if is_websocket { 101 } else { 200 }, "{hearing:?}");
        if matches!(hearing.transport, Transport::WebSocket | Transport::Stream) {
            assert_eq!(head.header("stentor-cursor"), Some(&*place.to_string()), "{hearing:?}");
        }
        if is_websocket {
            assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            let protocol = (hearing.format == Format::Json).then_some("stentor.v1");
            assert_eq!(head.header("sec-websocket-protocol"), protocol);
            let deflate = head.header("sec-websocket-extensions");
            assert_eq!(deflate.is_some(), hearing.framing != Framing::Frames, "{deflate:?}");
        } else {
            let media = match (hearing.transport, hearing.format) {
                (Transport::Iframe, _) => "text/html; charset=utf-8",
                (Transport::Stream, Format::Json) => "application/x-ndjson",
                (Transport::Stream, Format::Raw) => "text/plain; charset=utf-8",
                _ => "text/event-stream",
            };
            assert_eq!(head.header("content-type"), Some(media), "{hearing:?}");
            assert_eq!(head.header("cache-control"), Some("no-cache, no-transform"), "{hearing:?}");
            assert_eq!(head.header("x-accel-buffering"), Some("no"), "{hearing:?}");
            assert!(head.header("vary").is_some_and(|vary| vary.contains("Origin")), "{hearing:?}");
            let chunked = (hearing.framing == Framing::Chunked).then_some("chunked");
            assert_eq!(head.header("transfer-encoding"), chunked, "{hearing:?}");
            assert_eq!(head.header("content-length"), None);
        }
        let padded = matches!(hearing.transport, Transport::Iframe)
            || (hearing.transport, hearing.format) == (Transport::Stream, Format::Json);
        while padded && client.buffer.len() < 1024 {
            assert!(client.read(), "{hearing:?}: {} bytes of padding", client.buffer.len());
        }

        let mut listener = Listener::open(address(&engine), hearing, "topic=a", "");
        assert_eq!(listener.start(), place, "{hearing:?}");

        let mut asked = Client::new(address(&engine));
        if !is_websocket {
            asked.send(subscribe(hearing, "topic=a", "").replacen("GET", "HEAD", 1));
            let only = asked.head();
            assert_eq!((only.status, only.header("content-type")), (200, head.header("content-type")));
            // Nothing follows the head; a next request, where there may be one, is answered.
            if hearing.framing == Framing::Chunked {
                assert_eq!(asked.ask(get("/health", "")).status, 200, "{hearing:?}");
            } else {
                assert_eq!(asked.rest(), b"", "{hearing:?}");
            }
        }
    }
}

/// Names, ids, lines, characters of every length, bytes, JSON, nothing, and a mebibyte of each kind.
fn events() -> Vec<Event> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend([0xff, 0xfe, 0]);
    let named = |event: Event, name: &str| event.named(name).expect("a name");
    let mebibyte: String = "ä\u{20ac}\u{1f30d}x\ny ".chars().cycle().take((1 << 20) / 4).collect();
    let large: Vec<u8> = (0..1u32 << 20).map(|n| (n % 251) as u8).collect();
    let json = format!("[\"{}\"]", "j".repeat((1 << 20) - 4));
    vec![
        text("a", "plain"),
        named(text("a", "with a name"), "price"),
        named(text("a", "named as browsers name what has none"), "message"),
        named(text("a", "</script><!-- \u{2028}\u{2029} --> & \" ' \\"), "n\u{e4}me \u{1f30d}"),
        text("a", "one\ntwo\n\nfour"),
        text("a", "cr\rcrlf\r\nlf\nend\n"),
        text("a", "\ndata: not a field\nid: 7\n\n"),
        text("a", ""),
        named(text("a", ""), "empty"),
        text("a", " leading and trailing "),
        text("a", "\u{0}\u{1}\u{7f}\u{feff}\u{fffd}\u{10ffff}"),
        Event::json("a", "{\"n\": 1.0, \"deep\": [null, true, \"\\u20ac\"]}").unwrap(),
        Event::json("a", "{\n  \"lines\":\r\n  [1,\n 2]\n}").unwrap(),
        Event::json("a", "\"a string\"").unwrap(),
        Event::json("a", "null").unwrap(),
        Event::binary("a", bytes).unwrap(),
        Event::binary("a", []).unwrap(),
        text("a", &mebibyte),
        Event::binary("a", large).unwrap(),
        Event::json("a", json).unwrap(),
        text("a", "the last"),
    ]
}

fn every_event_arrives_as_it_was_published(backing: Backing) {
    let engine = start(config(|config| config.retention.bytes = 64 << 20), backing);
    let mut listeners: Vec<Listener> =
        STREAMS.iter().map(|&hearing| Listener::open(address(&engine), hearing, "topic=a", "")).collect();
    let start = listeners.iter_mut().map(Listener::start).min_by_key(|cursor| cursor.offset).unwrap();
    let events = events();
    let cursors: Vec<Cursor> = events.iter().map(|event| publish(&engine, event.clone())).collect();
    for mut listener in listeners {
        let Hearing { transport, format, framing } = listener.hearing;
        for (cursor, event) in cursors.iter().zip(&events) {
            for expected in as_delivered(transport, format, framing, *cursor, event) {
                assert_same(&listener.next(), &expected, listener.hearing);
            }
        }
    }
    for format in [Format::Json, Format::Raw] {
        for transport in [Transport::Poll, Transport::LongPoll] {
            let hearing = hearing(transport, format, Framing::Length);
            let mut listener =
                Listener::open(address(&engine), hearing, &format!("topic=a&cursor={start}"), "");
            let mut rest = cursors.iter().zip(&events).peekable();
            while rest.peek().is_some() {
                match listener.next() {
                    Item::Answer { cursor, has_more } => {
                        assert!(has_more, "{hearing:?}");
                        listener.request(&format!("topic=a&cursor={cursor}"), "");
                    }
                    item => {
                        let (cursor, event) = rest.next().unwrap();
                        assert_same(
                            &item,
                            &as_delivered(transport, format, Framing::Length, *cursor, event)[0],
                            hearing,
                        );
                    }
                }
            }
            assert_eq!(listener.next(), Item::Answer { cursor: *cursors.last().unwrap(), has_more: false });
        }
    }
}

/// Without megabytes in the message.
fn assert_same(item: &Item, expected: &Item, hearing: Hearing) {
    let short = |item: &Item| format!("{item:?}").chars().take(200).collect::<String>();
    assert!(item == expected, "{hearing:?}: {} is not {}", short(item), short(expected));
}

fn characters_that_are_cut_by_chunks_and_frames_are_whole_again(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let said = "a\u{e4}\u{20ac}\u{1f30d}z";
    let hearing = hearing(Transport::WebSocket, Format::Json, Framing::Frames);
    let mut heard = Listener::open(address(&engine), hearing, "topic=open", "");
    heard.start();

    let mut client = Client::new(address(&engine));
    for cut in 1..said.len() {
        let chunks = [&said.as_bytes()[..cut], &said.as_bytes()[cut..]];
        client.send(
            "POST /events?topic=open HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for chunk in chunks {
            client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.reply().status, 200);
        assert_eq!(heard.data(), said.as_bytes(), "chunks cut at {cut}");
    }

    let command = format!("{{\"publish\":{{\"topic\":\"open\",\"data\":\"{said}\"}}}}");
    let mut speaker = Listener::open(address(&engine), hearing, "topic=b", "");
    speaker.start();
    let begin = command.find('a').unwrap_or_default();
    for cut in begin..command.len() {
        let mut first = frame(Opcode::Text, &command.as_bytes()[..cut]);
        first[0] &= 0x7f;
        speaker.client.send(first);
        // A control frame may stand between fragments (RFC 6455 §5.4).
        speaker.client.send(frame(Opcode::Ping, b"between"));
        speaker.client.send(frame(Opcode::Continuation, &command.as_bytes()[cut..]));
        assert!(speaker.message()["id"].is_string(), "frames cut at {cut}");
        assert_eq!(heard.data(), said.as_bytes(), "frames cut at {cut}");
    }
}

fn a_silent_subscriber_hears_heartbeats_and_one_that_answers_none_is_closed(backing: Backing) {
    let engine = start(config(|config| config.timing.heartbeat_seconds = 1), backing);
    let mut listeners: Vec<(Listener, bool)> = STREAMS
        .iter()
        .map(|&hearing| (Listener::open(address(&engine), hearing, "topic=a", ""), false))
        .collect();
    let mut poll = Listener::open(
        address(&engine),
        hearing(Transport::LongPoll, Format::Json, Framing::Length),
        "topic=a&wait=1",
        "",
    );
    for (listener, _) in &mut listeners {
        listener.start();
        while listener.read_within(Duration::from_millis(5)).is_some() {}
        listener.items.clear();
    }
    let begun = Instant::now();
    // The last socket of each format answers no ping.
    while begun.elapsed() < Duration::from_millis(4_500) {
        for (listener, is_heard) in &mut listeners {
            if listener.read_within(Duration::from_millis(10)).is_some() {
                *is_heard = true;
            }
            let is_deaf = matches!(listener.hearing.framing, Framing::Deflate(_));
            if listener.hearing.transport == Transport::WebSocket
                && !is_deaf
                && listener.items.pop_front().is_some()
            {
                listener.client.send(frame(Opcode::Pong, b""));
            }
        }
    }
    for (mut listener, is_heard) in listeners {
        let is_raw_stream =
            (listener.hearing.transport, listener.hearing.format) == (Transport::Stream, Format::Raw);
        assert_eq!(is_heard, !is_raw_stream, "{:?} after {:?}", listener.hearing, begun.elapsed());
        let is_deaf = matches!(listener.hearing.framing, Framing::Deflate(_));
        if is_deaf {
            assert!(figure(&engine, "stentor_subscriptions_ended_total", Some("silent")) >= 2);
        } else {
            publish(&engine, text("a", "still there"));
            loop {
                match listener.next() {
                    Item::Cursor(_) => {}
                    Item::Event { data, .. } => {
                        break assert_eq!(data, b"still there", "{:?}", listener.hearing);
                    }
                    other => panic!("{:?}: {other:?}", listener.hearing),
                }
            }
        }
    }
    assert!(matches!(poll.next_item(), Item::Head { status: 200, .. }));
    assert!(matches!(poll.next_item(), Item::Answer { has_more: false, .. }), "an empty answer in time");
    assert!(figure(&engine, "stentor_heartbeats_total", None) > 0);
}

fn a_gap_is_told_on_every_transport(backing: Backing) {
    let engine = start(config(|config| config.retention.events = 5), backing);
    let published: Vec<Cursor> = (1..=20).map(|n| publish(&engine, text("a", &n.to_string()))).collect();
    let (after, resumed) = (published[0], published[14]);
    let query = format!("topic=a&cursor={after}");
    let polls =
        [Transport::Poll, Transport::LongPoll].map(|poll| hearing(poll, Format::Json, Framing::Length));
    for hearing in STREAMS.into_iter().chain(polls) {
        if hearing.format == Format::Raw && hearing.transport == Transport::Stream {
            let reply = ask(address(&engine), subscribe(hearing, &query, ""));
            let problem = reply.json();
            assert_eq!((reply.status, problem["field"].as_str()), (410, Some("cursor")), "{hearing:?}");
            assert_eq!(problem["cursor"], resumed.to_string());
            continue;
        }
        let mut listener = Listener::open(address(&engine), hearing, &query, "");
        if hearing.format == Format::Raw && hearing.transport == Transport::WebSocket {
            assert_eq!(listener.close(), (Some(4410), resumed.to_string()), "{hearing:?}");
            continue;
        }
        if !hearing.transport.is_poll() {
            assert_eq!(listener.start(), after, "{hearing:?}");
        }
        match listener.next() {
            Item::Gap { after: from, resumed: to, cursor } => {
                assert_eq!((from, to), (after, resumed), "{hearing:?}");
                let told = (!hearing.transport.is_poll()).then_some(resumed);
                assert_eq!(cursor, told, "nothing of the gap remains: {hearing:?}");
            }
            other => panic!("{hearing:?}: {other:?}"),
        }
        for n in 16..=20 {
            assert_eq!(listener.data(), n.to_string().as_bytes(), "{hearing:?}");
        }
    }
    assert!(figure(&engine, "stentor_gaps_total", None) >= 12);
}

fn a_cursor_of_another_life_of_the_log_is_a_gap_first(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let first = publish(&engine, text("a", "first"));
    let old: Cursor = "z-77".parse().unwrap();
    for hearing in STREAMS {
        let lines = format!("Last-Event-ID: {old}\r\n");
        let mut listener = Listener::open(address(&engine), hearing, "topic=a", &lines);
        match (hearing.transport, hearing.format) {
            (Transport::Stream, Format::Raw) => match listener.next_item() {
                Item::Head { status: 410, .. } => continue,
                other => panic!("{other:?}"),
            },
            (Transport::WebSocket, Format::Raw) => {
                assert_eq!(listener.close().0, Some(4410));
                continue;
            }
            _ => {}
        }
        match listener.next_item() {
            Item::Head { headers, .. } => {
                assert!(headers.iter().all(|(name, _)| name != "stentor-cursor"), "{hearing:?}");
            }
            other => panic!("{other:?}"),
        }
        let start = at(first, 0);
        assert_eq!(
            listener.next(),
            Item::Gap { after: old, resumed: start, cursor: Some(start) },
            "{hearing:?}"
        );
        assert_eq!(listener.data(), b"first", "{hearing:?}");
    }
}

fn a_stream_of_its_greatest_age_ends_cleanly(backing: Backing) {
    let engine = start(config(|config| config.timing.max_age_seconds = 1), backing);
    let mut listeners = STREAMS.map(|hearing| Listener::open(address(&engine), hearing, "topic=a", ""));
    for listener in &mut listeners {
        listener.start();
        // `close` fails where the decoder finds that the body was cut.
        let code = (listener.hearing.transport == Transport::WebSocket).then_some(1001);
        assert_eq!(listener.close().0, code, "{:?}", listener.hearing);
    }
    eventually("all are counted", || {
        figure(&engine, "stentor_subscriptions_ended_total", Some("max-age")) == STREAMS.len() as u64
    });
}

fn a_poll_answers_at_once_with_tags_limits_and_ends(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let published: Vec<Cursor> = (1..=10).map(|n| publish(&engine, text("a", &n.to_string()))).collect();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let get = |target: &str, lines: &str| {
            get(target, lines).replacen("HTTP/1.1", version, 1).replacen(
                "\r\n\r\n",
                "\r\nConnection: keep-alive\r\n\r\n",
                1,
            )
        };
        let mut client = Client::new(address(&engine));
        let now = client.ask(get("/events?topic=a", ""));
        assert_eq!((now.status, now.json()["events"].as_array().unwrap().len()), (200, 0), "from now");
        assert_eq!(now.header("cache-control"), Some("no-store"));
        let tag = now.header("etag").expect("a tag").to_owned();
        assert_eq!(tag, format!("\"{}\"", published[9]));

        for tag in [tag.clone(), format!("W/{tag}"), format!("\"z-1\", {tag}")] {
            let same = client.ask(get("/events?topic=a", &format!("If-None-Match: {tag}\r\n")));
            assert_eq!(
                (same.status, same.header("etag")),
                (304, Some(&*format!("\"{}\"", published[9]))),
                "{tag}"
            );
            assert_eq!(same.header("content-length"), None);
        }

        let all = client.ask(get("/events?topic=a&cursor=earliest&limit=3", ""));
        let page = all.json();
        assert_eq!((page["events"].as_array().unwrap().len(), &page["more"]), (3, &true.into()));
        assert_eq!(page["cursor"], published[2].to_string());
        assert_eq!(all.header("etag"), Some(&*format!("\"{}\"", published[2])));
        let (mut cursor, mut seen) = (published[2], 3);
        loop {
            let page = client.ask(get(&format!("/events?topic=a&cursor={cursor}&limit=3"), "")).json();
            for event in page["events"].as_array().unwrap() {
                seen += 1;
                assert_eq!(event["data"], seen.to_string());
            }
            cursor = page["cursor"].as_str().unwrap().parse().unwrap();
            if page.get("more").is_none() {
                break;
            }
        }
        assert_eq!(seen, 10);

        let until =
            client.ask(get(&format!("/events?topic=a&cursor={}&until={}", published[1], published[4]), ""));
        let page = until.json();
        let data: Vec<_> =
            page["events"].as_array().unwrap().iter().map(|event| event["data"].clone()).collect();
        assert_eq!(
            (data, &page["cursor"]),
            (vec!["3".into(), "4".into(), "5".into()], &published[4].to_string().into())
        );
        assert!(page.get("more").is_none());

        let target = format!("/events?topic=a&cursor={}", published[4]);
        let whole = client.ask(get(&target, ""));
        client.send(get(&target, "").replacen("GET", "HEAD", 1));
        let head = client.head();
        assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")));
        assert_eq!(head.header("etag"), whole.header("etag"));
        assert_eq!(client.ask(get("/health", "")).status, 200, "a HEAD has no body");
    }
    let mut closing = Client::new(address(&engine));
    closing.send("GET /events?topic=a HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(closing.reply().status, 200);
    assert_eq!(closing.rest(), b"", "HTTP/1.0 keeps no connection unless it is asked to");
}

fn a_long_poll_is_held_and_its_connection_asks_again(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut listener = Listener::on(
        Client::new(address(&engine)),
        hearing(Transport::LongPoll, Format::Json, Framing::Length),
    );
    let mut cursor = None;
    for round in 0..100 {
        let from = cursor.map(|cursor: Cursor| format!("&cursor={cursor}")).unwrap_or_default();
        listener.request(&format!("topic=a&wait=20{from}"), "");
        if round % 3 == 0 {
            eventually("the poll is held", || figure(&engine, "stentor_subscribers", Some("long-poll")) == 1);
        }
        if cursor.is_none() {
            eventually("the first poll is held", || {
                figure(&engine, "stentor_subscribers", Some("long-poll")) == 1
            });
        }
        let id = publish(&engine, text("a", &round.to_string()));
        assert!(matches!(listener.next_item(), Item::Head { status: 200, .. }));
        assert_eq!(listener.data(), round.to_string().as_bytes());
        match listener.next_item() {
            Item::Answer { cursor: place, has_more: false } => {
                assert_eq!(place, id);
                cursor = Some(place);
            }
            other => panic!("{other:?}"),
        }
    }
    // The deadline, in steps of a second: an empty answer, and the connection goes on.
    let begun = Instant::now();
    let place = cursor.unwrap();
    listener.request(&format!("topic=a&wait=2&cursor={place}"), "");
    assert!(matches!(listener.next_item(), Item::Head { status: 200, .. }));
    assert_eq!(listener.next_item(), Item::Answer { cursor: place, has_more: false });
    let waited = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
    assert_eq!(listener.client.ask(get("/health", "")).status, 200);

    // A client that said all it had to say is still answered, but one that hangs up does not wait any more.
    let mut client = Client::new(address(&engine));
    client.send(get("/events?topic=a&cursor=earliest&wait=20", "") + &get("/health", ""));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.reply().json()["events"].as_array().is_some_and(|events| events.len() == 100));
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.rest(), b"");
    let mut client = Client::new(address(&engine));
    client.send(get("/events?topic=a&wait=20", ""));
    eventually("the poll is held", || figure(&engine, "stentor_subscribers", Some("long-poll")) == 1);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"");
}

fn requests_that_follow_a_held_one_are_answered_in_order(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut client = Client::new(address(&engine));
    let poll = get("/events?topic=a&wait=20", "");
    client.send(poll.clone() + &get("/health", "") + &poll + &get("/nowhere", ""));
    for (index, round) in ["one", "two"].into_iter().enumerate() {
        eventually("its place is taken", || {
            figure(&engine, "stentor_subscriptions_total", Some("long-poll")) == index as u64 + 1
        });
        publish(&engine, text("a", round));
        assert_eq!(client.reply().json()["events"][0]["data"], round);
        let next = client.reply();
        assert_eq!(next.status, if round == "one" { 200 } else { 404 });
        assert_ne!(next.text(), "");
    }
    let many: String = (0..500).map(|_| get("/health", "")).collect();
    client.send(many);
    for _ in 0..500 {
        assert_eq!(client.reply().status, 200);
    }
}

fn a_v1_websocket_is_driven_by_commands(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let v1 = hearing(Transport::WebSocket, Format::Json, Framing::Frames);
    let first = publish(&engine, text("a", "early"));
    let mut client = Client::new(address(&engine));
    client.send(get("/events", &(UPGRADE.to_owned() + V1)));
    let mut socket = Listener::on(client, v1);
    socket.start();

    socket.say(&format!("{{\"subscribe\":[\"a\",\"open/**\"],\"cursor\":\"{}\",\"ref\":1}}", at(first, 0)));
    let answer = socket.message();
    assert_eq!(answer["ref"], 1);
    assert_eq!(answer["subscribed"], serde_json::json!(["a", "open/**"]));
    assert_eq!(answer["cursor"], at(first, 0).to_string());
    assert_eq!(socket.data(), b"early", "the first subscription may begin in the past");

    socket.say(r#"{"publish":{"topic":"open/x","name":"n","data":{"k":[1]}},"ref":{"any":"json"}}"#);
    let (mut id, mut event) = (None, None);
    for _ in 0..2 {
        match socket.next() {
            Item::Message(answer) => {
                let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                assert_eq!(answer["ref"], serde_json::json!({"any": "json"}));
                id = answer["id"].as_str().map(str::to_owned);
            }
            Item::Event { id, topic, name, data, .. } => {
                event = Some((id.unwrap().to_string(), topic, name, data))
            }
            other => panic!("{other:?}"),
        }
    }
    let (event_id, topic, name, data) = event.expect("the event");
    assert_eq!((id, topic.as_deref(), name.as_deref()), (Some(event_id), Some("open/x"), Some("n")));
    assert_eq!(data, b"{\"k\":[1]}");

    socket.say(r#"{"ping":[1,{"a":null}]}"#);
    assert_eq!(socket.message(), serde_json::json!({"pong": [1, {"a": null}]}));

    socket.say(r#"{"unsubscribe":["a"],"ref":3}"#);
    assert_eq!(socket.message()["unsubscribed"], serde_json::json!(["a"]));
    publish(&engine, text("a", "nobody hears this"));
    socket.say(r#"{"subscribe":["b"],"ref":4}"#);
    assert_eq!(socket.message()["subscribed"], serde_json::json!(["b"]));
    publish(&engine, text("b", "heard"));
    assert_eq!(socket.data(), b"heard");

    for (command, status, field) in [
        (r#"{"subscribe":["a"],"cursor":"earliest","ref":5}"#, 400, Some("cursor")),
        (r#"{"subscribe":["a//b"],"ref":5}"#, 400, Some("subscribe[0]")),
        (r#"{"subscribe":["secret/a"],"ref":5}"#, 403, None),
        (r#"{"publish":{"topic":"a","data":1},"ref":5}"#, 403, Some("topic")),
        (r#"{"publish":{"topic":"open","name":"stentor.x","data":1},"ref":5}"#, 400, Some("publish.name")),
        (r#"{"publish":{"topic":"open","base64":"?"},"ref":5}"#, 400, Some("publish.base64")),
        (r#"{"fly":true,"ref":5}"#, 400, None),
    ] {
        socket.say(command);
        let answer = socket.message();
        assert_eq!(
            (&answer["ref"], &answer["error"]["status"]),
            (&5.into(), &status.into()),
            "{command} {answer}"
        );
        assert_eq!(answer["error"]["field"].as_str(), field, "{command} {answer}");
        assert!(answer["error"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    socket.say("no JSON");
    assert_eq!(socket.message()["error"]["status"], 400);
    publish(&engine, text("b", "after all errors"));
    assert_eq!(socket.data(), b"after all errors");
    assert!(figure(&engine, "stentor_malformed_total", Some("command")) >= 5);

    socket.client.send(frame(Opcode::Close, &[&1000u16.to_be_bytes()[..], b"bye"].concat()));
    assert_eq!(socket.close().0, Some(1000));
    assert!(!socket.read(), "the server closes first");
}

fn a_raw_websocket_speaks_with_the_application(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    for framing in [Framing::Frames, Framing::Deflate(15)] {
        let raw = hearing(Transport::WebSocket, Format::Raw, framing);
        let mut socket = Listener::open(address(&engine), raw, "topic=a", "");
        socket.start();
        socket.say("ping");
        assert_eq!(socket.data(), b"ping");
        let long = "said again and again ".repeat(1000);
        socket.say(&long);
        assert_eq!(socket.data(), long.as_bytes(), "what the application replies");
        socket.client.send(frame(Opcode::Binary, b"\0\xff"));
        match socket.next() {
            Item::Event { data, is_binary: true, .. } => assert_eq!(data, b"\0\xff"),
            other => panic!("{other:?}"),
        }
        socket.client.send(frame(Opcode::Ping, b"payload"));
        assert_eq!(socket.next_item(), Item::Heartbeat);
        publish(&engine, text("a", "an event"));
        assert_eq!(socket.data(), b"an event");
    }
}
