//! The end of an engine under load: everybody is told in the way of their transport, and in time.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use stentor::sim::checker::Hearing;
use stentor::transport::decode::Item;
use stentor::transport::{Format, Framing, Transport};
use stentor::{DrainError, PublishError};

on_both_backings! {
    everybody_is_told_that_the_server_goes_away;
    a_peer_that_does_not_care_delays_nothing_beyond_the_time;
}

const WITHIN: Duration = Duration::from_secs(6);

/// Reads one subscription to its end; what it got and how it ended.
fn follow(address: SocketAddr, hearing: Hearing, is_started: &AtomicU64) -> (Hearing, Vec<u64>, Option<u16>) {
    let mut listener = Listener::open(address, hearing, "topic=a", "");
    listener.start();
    is_started.fetch_add(1, Ordering::SeqCst);
    let mut heard = Vec::new();
    loop {
        match listener.next_item() {
            Item::Event { data, .. } => heard.push(std::str::from_utf8(&data).unwrap().parse().unwrap()),
            Item::End { code, .. } => return (hearing, heard, code),
            _ => {}
        }
    }
}

/// Asks for the next events over and over; whether the last answer was one.
fn poll(address: SocketAddr, is_started: &AtomicU64) -> bool {
    let mut client = Client::new(address);
    let mut cursor = String::new();
    let mut is_counted = false;
    loop {
        let target = format!("/events?topic=rare&wait=60{cursor}");
        if std::io::Write::write_all(&mut client.stream, get(&target, "").as_bytes()).is_err() {
            return true;
        }
        if !is_counted {
            is_started.fetch_add(1, Ordering::SeqCst);
            is_counted = true;
        }
        let reply = client.reply();
        match reply.status {
            200 => cursor = format!("&cursor={}", reply.json()["cursor"].as_str().unwrap()),
            503 => return true,
            other => panic!("{other}"),
        }
        if reply.header("connection") == Some("close") {
            return client.rest().is_empty();
        }
    }
}

fn everybody_is_told_that_the_server_goes_away(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let address = address(&engine);
    let (publisher, is_draining) = (engine.publisher(), engine.draining());
    let started = Arc::new(AtomicU64::new(0));
    let mut streams = Vec::new();
    for hearing in STREAMS.into_iter().cycle().take(4 * STREAMS.len()) {
        let started = Arc::clone(&started);
        streams.push(std::thread::spawn(move || follow(address, hearing, &started)));
    }
    let polls: Vec<_> = (0..20)
        .map(|_| {
            let started = Arc::clone(&started);
            std::thread::spawn(move || poll(address, &started))
        })
        .collect();
    let mut idle: Vec<Client> = (0..20).map(|_| Client::new(address)).collect();
    for client in &mut idle {
        assert_eq!(client.ask(get("/ready", "")).status, 200);
    }
    let all = (streams.len() + polls.len()) as u64;
    eventually("all hear", || started.load(Ordering::SeqCst) == all);

    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut n: u64 = 0;
            while !is_over.load(Ordering::SeqCst) {
                match publisher.publish(text("a", &n.to_string())) {
                    Ok(_) => n += 1,
                    Err(PublishError::Busy { .. }) => {}
                    Err(PublishError::Closed) => break,
                    Err(other) => panic!("{other}"),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let draining = std::thread::spawn(move || (engine.drain(WITHIN), begun.elapsed()));
    eventually("the drain has begun", || is_draining.load(Ordering::SeqCst));

    // Who comes now is refused, each in its way. The listener may be gone already where all have left.
    for request in [get("/ready", ""), get("/events?topic=a", ""), get("/events?topic=a&wait=5", "")] {
        let reply = ask(address, request);
        assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(ask(address, post("/events?topic=a", "", "x")).status, 503);
    let source = ask(address, get("/events?topic=a", "Accept: text/event-stream\r\n"));
    assert!(source.status == 200 && source.text().starts_with("retry: "), "{source:?}");
    let raw = hearing(Transport::WebSocket, Format::Raw, Framing::Frames);
    assert_eq!(Listener::open(address, raw, "topic=a", "").close().0, Some(1001));

    for stream in streams {
        // It panics where the end was no clean one.
        let (hearing, heard, code) = stream.join().expect("a clean end");
        assert_eq!(code, (hearing.transport == Transport::WebSocket).then_some(1001), "{hearing:?}");
        let is_whole = heard.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(is_whole && heard.len() > 20, "{hearing:?}: {heard:?}");
    }
    for poll in polls {
        assert!(poll.join().expect("an answer"), "the connection of a poll ends");
    }
    for mut client in idle {
        assert_eq!(client.rest(), b"", "a connection without a request just ends");
    }
    let (drained, elapsed) = draining.join().unwrap();
    is_over.store(true, Ordering::SeqCst);
    publishing.join().unwrap();
    assert_eq!(drained, Ok(()), "after {elapsed:?}");
    assert!(elapsed <= WITHIN, "{elapsed:?}");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

fn a_peer_that_does_not_care_delays_nothing_beyond_the_time(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let address = address(&engine);
    let mut half = Client::new(address);
    half.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
    let mut deaf = Vec::new();
    for transport in [Transport::Sse, Transport::WebSocket] {
        let framing = if transport == Transport::WebSocket { Framing::Frames } else { Framing::Chunked };
        let mut listener = Listener::open(address, hearing(transport, Format::Raw, framing), "topic=a", "");
        listener.start();
        deaf.push(listener);
    }
    for _ in 0..40 {
        let _ = engine.publisher().publish(text("a", &"x".repeat(1_000_000)));
        std::thread::sleep(Duration::from_millis(5));
    }
    let within = Duration::from_secs(2);
    let begun = Instant::now();
    let drained = engine.drain(within);
    let elapsed = begun.elapsed();
    assert!(elapsed < within + Duration::from_secs(1), "{elapsed:?}");
    // Whoever is left is named.
    assert!(matches!(drained, Ok(()) | Err(DrainError::Timeout { connections: 1..=3 })), "{drained:?}");
}
