//! Publishing over real sockets: bodies of every kind and size, and what happens before they are read.

use super::*;
use crate::config::Limits;

#[test]
fn a_mebibyte_goes_through_as_it_is_in_one_piece_or_in_chunks() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let data: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut client = Client::new(address);
        client.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n");
        client.send(format!("Content-Length: {}\r\n\r\n", data.len()));
        client.send(&data);
        assert_eq!(client.reply().status, 200);
        client.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n");
        client.send("Transfer-Encoding: chunked\r\n\r\n");
        for chunk in data.chunks(9_999) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    });
    let matchers = [Matcher::new("a").unwrap()];
    let head = rig.context.sequencer.head();
    assert_eq!(head, Offset(2));
    let read = rig.context.sequencer.read(&matchers, Offset(1), head, 10, usize::MAX);
    assert_eq!(read.events.len(), 1, "the topic's limit keeps the newest");
    let data: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    assert!(read.events[0].data().bytes() == data);
}

#[test]
fn a_body_is_asked_for_only_after_the_embedder_has_said_yes() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let expecting = |query: &str, length: usize| {
            format!(
                "POST /events?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
                 Expect: 100-continue\r\n\r\n"
            )
        };
        let mut client = Client::new(address);
        client.send(expecting("topic=a", 5));
        assert_eq!(client.head().status, 100);
        assert_eq!(client.ask("hello").status, 200);
        for (query, length, status) in
            [("topic=a&app=403", 5, 403), ("topic=a*", 5, 400), ("topic=a", (1 << 20) + 1, 413)]
        {
            let mut client = Client::new(address);
            let reply = client.ask(expecting(query, length));
            assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{query}");
            assert_eq!(client.rest(), b"");
        }
    });
    assert_eq!(rig.context.sequencer.head(), Offset(1));
}

#[test]
fn a_refused_body_does_not_cost_the_client_its_answer() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        for _ in 0..20 {
            let body = "x".repeat(50_000);
            let mut client = Client::new(address);
            client.send(post("/events?topic=a&app=401", "", &body));
            std::thread::sleep(Duration::from_millis(2));
            let reply = client.reply();
            assert_eq!(reply.status, 401);
            assert_eq!(client.rest(), b"");
        }
        // Who still sends when the answer comes is not cut off in the middle.
        let mut client = Client::new(address);
        client.send(
            "POST /events?topic=a&app=401 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n",
        );
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(20));
            client.send("x".repeat(5_000));
        }
        assert_eq!(client.reply().status, 401);
        assert_eq!(client.rest(), b"");
        // What is there whole is passed over, and the connection goes on.
        let mut client = Client::new(address);
        client.send(post("/events?topic=a&app=401", "", "small") + &get("/health", ""));
        assert_eq!(client.reply().status, 401);
        assert_eq!(client.reply().status, 200);
    });
}

#[test]
fn each_kind_of_data_comes_back_as_it_was() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        for (lines, body) in [
            ("", "plain \u{20ac}"),
            ("Content-Type: application/x-www-form-urlencoded\r\n", "a=1&b=2"),
            ("Content-Type: application/json\r\n", "{\"n\": 1.0}"),
            ("Content-Type: application/octet-stream\r\n", "\u{0}\u{1}"),
            ("", ""),
        ] {
            assert_eq!(client.ask(post("/events?topic=a&name=tick", lines, body)).status, 200);
        }
        let poll = client.ask(get("/events?topic=a&cursor=earliest", ""));
        let events = poll.json()["events"].as_array().unwrap().clone();
        let data: Vec<_> = events.iter().map(|event| event["data"].clone()).collect();
        let json = serde_json::json!({"n": 1.0});
        assert_eq!(
            data,
            ["plain \u{20ac}".into(), "a=1&b=2".into(), json, serde_json::Value::Null, "".into()]
        );
        assert_eq!(events[3]["base64"], "AAE=");
        assert!(events.iter().all(|event| event["name"] == "tick" && event["topic"] == "a"));
    });
    assert_eq!(rig.context.sequencer.head(), Offset(5));
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let lines = "Content-Type: application/x-ndjson\r\n";
        let good = "{\"topic\":\"a\",\"data\":\"x\"}\n{\"topic\":\"b\",\"name\":\"n\",\"data\":[1]}\n";
        let reply = ask(address, post("/events", lines, good));
        assert_eq!((reply.status, reply.json()["ids"].as_array().unwrap().len()), (200, 2));
        let bad = "{\"topic\":\"a\",\"data\":\"x\"}\n{\"topic\":\"b*\",\"data\":1}\n";
        let reply = ask(address, post("/events", lines, bad));
        let problem = reply.json();
        assert_eq!((reply.status, &problem["field"], &problem["line"]), (400, &"topic".into(), &2.into()));
    });
    assert_eq!(rig.context.sequencer.head(), Offset(2));
}

#[test]
fn an_idempotency_key_answers_again_and_refuses_another_body() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let lines = "Idempotency-Key: 7d\r\n";
        let first = ask(address, post("/events?topic=a", lines, "x"));
        let again = ask(address, post("/events?topic=a", lines, "x"));
        assert_eq!((first.status, first.text()), (again.status, again.text()));
        let other = ask(address, post("/events?topic=a", lines, "y"));
        assert_eq!((other.status, other.json()["field"].as_str()), (422, Some("Idempotency-Key")));
    });
    assert_eq!(rig.context.sequencer.head(), Offset(1));
    assert_eq!(rig.context.sequencer.statistics().repeated, 1);
}

#[test]
fn publishes_of_one_connection_are_counted_however_they_come() {
    let limits = Limits { publishes_per_second: 3, ..Limits::default() };
    let rig = Rig::new(Config { limits, ..Config::default() });
    rig.serve(|address| {
        let mut client = Client::new(address);
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(client.ask(post("/events?topic=a", "", "x")).status);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(statuses, [200, 200, 200, 429, 429], "a pause between them does not reset the count");
        let refused = client.ask(post("/events?topic=a", "", "x"));
        assert_eq!((refused.header("retry-after"), refused.json()["limit"].as_u64()), (Some("1"), Some(3)));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(client.ask(post("/events?topic=a", "", "x")).status, 200);
        assert_eq!(ask(address, post("/events?topic=a", "", "x")).status, 200, "others have their own");
    });
}

#[test]
fn a_body_that_never_comes_ends_after_its_time() {
    let timing = crate::config::Timing { body_seconds: 1, ..Default::default() };
    let rig = Rig::new(Config { timing, ..Config::default() });
    rig.serve(|address| {
        let mut client = Client::new(address);
        client.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
        let start = Instant::now();
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
        assert!(start.elapsed() >= Duration::from_millis(900));
    });
    assert_eq!(rig.context.sequencer.head(), Offset(0));
}
