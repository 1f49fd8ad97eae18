//! Publishing over HTTP and its one promise: what is answered 200 stands in the log and reaches every
//! subscriber, and what is not does neither.

mod common;

use std::time::{Duration, Instant};

use common::*;
use stentor::transport::decode::Item;
use stentor::transport::{Format, Framing, Transport};
use stentor::{Cursor, PublishError};

on_both_backings! {
    what_is_answered_200_is_logged_and_heard_and_nothing_else_is;
    a_batch_is_all_or_nothing;
    a_key_makes_a_publish_happen_once;
    a_body_is_asked_for_only_where_it_will_be_read;
    a_mebibyte_goes_through_and_one_byte_more_does_not;
    a_topic_whose_subscribers_are_not_done_is_busy_and_holds_up_no_other;
}

const JSON: &str = "Content-Type: application/json\r\n";
const BATCH: &str = "Content-Type: application/x-ndjson\r\n";

fn sse(engine: &stentor::Engine, query: &str) -> Listener {
    let hearing = hearing(Transport::Sse, Format::Json, Framing::Chunked);
    let mut listener = Listener::open(address(engine), hearing, query, "");
    listener.start();
    listener
}

/// All that the log has, over a poll.
fn logged(engine: &stentor::Engine) -> Vec<serde_json::Value> {
    let reply = ask(address(engine), get("/events?topic=**&cursor=earliest", ""));
    reply.json()["events"].as_array().expect("events").clone()
}

fn what_is_answered_200_is_logged_and_heard_and_nothing_else_is(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut heard = sse(&engine, "topic=**");
    let mut client = Client::new(address(&engine));
    let mut expected = Vec::new();
    let invalid: &[u8] = b"\xff\xfe";
    for (target, lines, body, status, field) in [
        ("topic=a", "", &b"text"[..], 200, None),
        ("topic=a&name=n", "", b"named", 200, None),
        ("topic=a", JSON, b"{\"x\":1}", 200, None),
        ("topic=a", "Content-Type: image/png\r\n", invalid, 200, None),
        ("topic=a", "", b"", 200, None),
        ("topic=a", JSON, b"{\"x\":", 400, Some("data")),
        ("topic=a", JSON, invalid, 400, Some("data")),
        ("topic=a", "", invalid, 400, Some("data")),
        ("topic=a&name=stentor.gap", "", b"x", 400, Some("name")),
        ("topic=a&name=", "", b"x", 400, Some("name")),
        ("topic=a/*", "", b"x", 400, Some("topic")),
        ("topic=a&topic=b", "", b"x", 400, Some("topic")),
        ("", "", b"x", 400, Some("topic")),
        ("topic=a", "Content-Type: text/plain; charset=latin1\r\n", b"x", 415, Some("Content-Type")),
        ("topic=a", "Content-Encoding: gzip\r\n", b"x", 415, Some("Content-Encoding")),
        ("topic=a", "Authorization: Bearer wrong\r\n", b"x", 401, None),
        ("topic=secret", "", b"x", 403, Some("topic")),
        ("topic=a&app=later", "", b"x", 429, None),
        ("topic=a&app=503", "", b"x", 503, Some("app")),
        ("topic=a", "", b"last", 200, None),
    ] {
        let reply = client.ask(post(&format!("/events?{target}"), lines, body));
        let answer = reply.json();
        assert_eq!(reply.status, status, "{target} {lines} {answer}");
        if status == 200 {
            expected.push((answer["id"].as_str().expect("an id").to_owned(), body.to_vec()));
        } else {
            assert_eq!(answer["field"].as_str(), field, "{target} {answer}");
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        }
        if status == 401 {
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    for (id, body) in &expected {
        match heard.next() {
            Item::Event { id: Some(at), data, .. } => assert_eq!((&at.to_string(), &data), (id, body)),
            other => panic!("{other:?}"),
        }
    }
    let ids: Vec<_> = logged(&engine).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, expected.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
    assert_eq!(heard.read_within(Duration::from_millis(50)), None, "nothing else is heard");
    eventually("all are counted", || {
        figure(&engine, "stentor_published_total", None) == expected.len() as u64
    });
}

fn a_batch_is_all_or_nothing(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut heard = sse(&engine, "topic=**");
    let good = concat!(
        "{\"topic\":\"a\",\"data\":\"x\"}\n\n",
        "{\"topic\":\"b/c\",\"name\":\"n\",\"data\":[1]}\r\n",
        "{\"topic\":\"a\",\"base64\":\"/w==\"}"
    );
    let reply = ask(address(&engine), post("/events", BATCH, good));
    let ids: Vec<Cursor> = serde_json::from_value::<Vec<String>>(reply.json()["ids"].clone())
        .expect("ids")
        .iter()
        .map(|id| id.parse().expect("a cursor"))
        .collect();
    assert_eq!((reply.status, ids.len()), (200, 3));
    assert!(ids.windows(2).all(|pair| pair[0].offset.next() == pair[1].offset), "consecutive: {ids:?}");
    for (id, data) in ids.iter().zip([&b"x"[..], b"[1]", b"\xff"]) {
        match heard.next() {
            Item::Event { id: Some(at), data: got, .. } => assert_eq!((at, &*got), (*id, data)),
            other => panic!("{other:?}"),
        }
    }
    let first = "{\"topic\":\"a\",\"data\":1}\n";
    for (rest, status, field, line) in [
        ("{\"topic\":\"*\",\"data\":1}\n".to_owned(), 400, Some("topic"), Some(2)),
        ("{\"topic\":\"a\"}\n".into(), 400, Some("data"), Some(2)),
        ("{\"topic\":\"a\",\"data\":1,\"base64\":\"\"}\n".into(), 400, Some("base64"), Some(2)),
        ("{\"topic\":\"a\",\"data\":1,\"extra\":1}\n".into(), 400, Some("extra"), Some(2)),
        ("{\"topic\":\"a\",\"name\":\"stentor.x\",\"data\":1}\n".into(), 400, Some("name"), Some(2)),
        ("nonsense\n".into(), 400, Some("body"), Some(2)),
        ("{\"topic\":\"a\",\"data\":1}\n".repeat(1_000), 413, Some("body"), None),
    ] {
        let reply = ask(address(&engine), post("/events", BATCH, first.to_owned() + &rest));
        let problem = reply.json();
        assert_eq!((reply.status, problem["field"].as_str()), (status, field), "{problem}");
        if line.is_some() {
            assert_eq!(problem["line"].as_u64(), line, "{problem}");
        }
    }
    for query in ["?topic=a", "?name=n"] {
        let reply = ask(address(&engine), post(&format!("/events{query}"), BATCH, first));
        assert_eq!(reply.status, 400, "{query}");
    }
    // Its length alone is enough to refuse it.
    let large = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n".to_owned() + BATCH;
    assert_eq!(ask(address(&engine), large + "\r\n").status, 413);
    assert_eq!(logged(&engine).len(), 3, "nothing of what was refused");
    assert_eq!(heard.read_within(Duration::from_millis(50)), None);
}

fn a_key_makes_a_publish_happen_once(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let key = "Idempotency-Key: \"8e03978e-40d5\"\r\n";
    let first = ask(address(&engine), post("/events?topic=a", key, "x"));
    for _ in 0..3 {
        let again = ask(address(&engine), post("/events?topic=a", key, "x"));
        assert_eq!((again.status, again.json()), (200, first.json()));
    }
    for (target, body) in
        [("/events?topic=a", "y"), ("/events?topic=b", "x"), ("/events?topic=a&name=n", "x")]
    {
        let other = ask(address(&engine), post(target, key, body));
        assert_eq!(
            (other.status, other.json()["field"].as_str()),
            (422, Some("Idempotency-Key")),
            "{target}"
        );
    }
    let batch = "{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"data\":2}\n";
    let lines = format!("{BATCH}Idempotency-Key: batch\r\n");
    let answers = [0; 2].map(|_| ask(address(&engine), post("/events", &lines, batch)).json());
    assert_eq!(answers[0], answers[1]);
    for key in [String::new(), "k".repeat(1_000)] {
        let reply =
            ask(address(&engine), post("/events?topic=a", &format!("Idempotency-Key: {key}\r\n"), "x"));
        assert_eq!((reply.status, reply.json()["field"].as_str()), (400, Some("Idempotency-Key")));
    }
    // A refused publish uses no key up.
    let lines = format!("{JSON}Idempotency-Key: later\r\n");
    assert_eq!(ask(address(&engine), post("/events?topic=a", &lines, "{")).status, 400);
    assert_eq!(ask(address(&engine), post("/events?topic=a", &lines, "{}")).status, 200);
    assert_eq!(logged(&engine).len(), 4);
    eventually("repeats are counted", || figure(&engine, "stentor_publish_repeats_total", None) == 4);
}

fn a_body_is_asked_for_only_where_it_will_be_read(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let head = |target: &str, length: usize| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };
    let mut client = Client::new(address(&engine));
    for round in 0..3 {
        client.send(head("/events?topic=a", 5));
        assert_eq!(client.head().status, 100, "round {round}");
        assert_eq!(client.ask("hello").status, 200);
    }
    for (target, length, status) in [
        ("/events?topic=secret", 5, 403),
        ("/events?topic=a&app=401", 5, 401),
        ("/events?topic=a*", 5, 400),
        ("/events?topic=a", 2 << 20, 413),
    ] {
        let mut client = Client::new(address(&engine));
        let reply = client.ask(head(target, length));
        assert_eq!(reply.status, status, "{target}: not 100");
        assert_eq!(client.rest(), b"", "nobody can tell whether the body comes");
    }
    assert_eq!(logged(&engine).len(), 3);
}

fn a_mebibyte_goes_through_and_one_byte_more_does_not(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut heard = sse(&engine, "topic=a");
    let data = "\u{e4}".repeat(1 << 19);
    assert_eq!(ask(address(&engine), post("/events?topic=a", "", &data)).status, 200);
    assert!(heard.data() == data.as_bytes());
    let mut client = Client::new(address(&engine));
    client.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in data.as_bytes().chunks(65_537) {
        client.send([format!("{:X};x=y\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    client.send("0\r\nTrailer: ignored\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert!(heard.data() == data.as_bytes());
    let too_long = ask(address(&engine), post("/events?topic=a", "", data + "x"));
    let problem = too_long.json();
    assert_eq!(
        (too_long.status, &problem["field"], &problem["limit"]),
        (413, &"data".into(), &(1 << 20).into())
    );
}

fn a_topic_whose_subscribers_are_not_done_is_busy_and_holds_up_no_other(backing: Backing) {
    let engine = start(config(|config| config.limits.arrears = 4), backing);
    let mut hot: Vec<Listener> = (0..300).map(|_| sse(&engine, "topic=hot")).collect();
    let mut cold = sse(&engine, "topic=cold");
    let publisher = engine.publisher();
    let data = "x".repeat(100_000);
    let begun = Instant::now();
    let (mut published, mut busy) = (Vec::new(), 0);
    // Both ends of this machine's two cores are at work, so that sooner or later one publish finds four
    // unfinished.
    while busy < 3 {
        assert!(begun.elapsed() < PATIENCE, "never busy after {} events", published.len());
        match publisher.publish(text("hot", &data)) {
            Ok(cursor) => published.push(cursor),
            Err(PublishError::Busy { topic, retry_after_seconds }) => {
                busy += 1;
                assert_eq!(topic.as_ref().map(|topic| topic.as_str()), Some("hot"));
                assert!(retry_after_seconds >= 1);
                // The same over HTTP says so, or the topic has become free meanwhile.
                let reply = ask(address(&engine), post("/events?topic=hot", "", "y"));
                match reply.status {
                    503 => assert!(
                        reply.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0))
                    ),
                    status => assert_eq!(status, 200),
                }
                if reply.status == 200 {
                    published.push(reply.json()["id"].as_str().unwrap().parse().unwrap());
                }
                let answer = publisher.publish(text("cold", "goes on"));
                assert!(answer.is_ok(), "{answer:?}");
                assert_eq!(cold.data(), b"goes on");
            }
            Err(other) => panic!("{other}"),
        }
    }
    // What was taken is heard by all, and what was busy by none.
    let last = block_on(publisher.publish_wait(text("hot", "the last"))).unwrap();
    published.push(last);
    for listener in &mut hot {
        let mut heard = Vec::new();
        let mut told = None;
        while heard.last() != Some(&last) {
            match listener.next() {
                Item::Event { id: Some(id), .. } => heard.push(id),
                Item::Gap { resumed, .. } => told = Some(resumed),
                other => panic!("{other:?}"),
            }
        }
        // The log keeps a mebibyte of the topic: who was slower than that is told of it.
        let from = told.map_or(0, |told| published.iter().filter(|at| at.offset <= told.offset).count());
        let expected: Vec<_> =
            published.iter().filter(|at| told.is_none() || at.offset > told.unwrap().offset).collect();
        let heard: Vec<_> =
            heard.iter().filter(|at| told.is_none_or(|told| at.offset > told.offset)).collect();
        assert_eq!(heard, expected, "after {from}");
    }
}
