//! The binary where the system allows it little: few descriptors, no memory for rings, no io_uring at all.

use std::io::Read as _;
use std::time::{Duration, Instant};

use crate::process::{Peer, Stentor};

const SSE: &str = "GET /events?topic=a HTTP/1.1\r\nAccept: text/event-stream\r\nHost: localhost\r\n\r\n";
/// Makes epoll park the connections, whatever the system has.
const EPOLL: [&str; 2] = ["--set", "io_uring=false"];

fn subscribe(stentor: &Stentor) -> Peer {
    let mut peer = Peer::to(stentor.address());
    peer.send(SSE);
    peer
}

fn publish(stentor: &Stentor) -> u16 {
    let head = "POST /events?topic=a HTTP/1.1\r\nContent-Length: 1";
    Peer::to(stentor.address()).request(head, "x").status
}

fn figure(stentor: &Stentor, name: &str) -> Option<u64> {
    let page = stentor.get("/metrics").body;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 20 seconds");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_parks_connections_and_why_is_said_at_start_and_in_the_figures() {
    let stentor = Stentor::start(&EPOLL);
    assert_eq!(stentor.description(), "(2 shards, epoll because epoll was asked for)");
    assert_eq!(figure(&stentor, "stentor_parked_by_info{parked_by=\"epoll\"}"), Some(1));
    assert_eq!(figure(&stentor, "stentor_fallback_info{reason=\"epoll was asked for\"}"), Some(1));
    let mut subscriber = subscribe(&stentor);
    subscriber.read_until("event: stentor.cursor");
    until("its subscriber is counted", || figure(&stentor, "stentor_connections_parked_by_epoll") >= Some(1));

    let stentor = Stentor::start(&[]);
    let page = stentor.get("/metrics").body;
    if stentor.description() == "(2 shards, io_uring)" {
        assert!(page.contains("stentor_parked_by_info{parked_by=\"io_uring\"} 1\n"), "{page}");
        assert!(!page.contains("stentor_fallback_info{"), "{page}");
    } else {
        assert!(stentor.description().starts_with("(2 shards, epoll because io_uring is refused"));
        assert!(page.contains("stentor_fallback_info{reason=\"io_uring is refused"), "{page}");
    }
}

#[test]
fn the_limit_of_descriptors_is_raised_as_far_as_it_goes() {
    let mut stentor = Stentor::start_within("ulimit -Sn 64;", &[]);
    stentor.signal("TERM");
    assert_eq!(stentor.wait(Duration::from_secs(20)), Some(0));
    let mut log = String::new();
    stentor.log().read_to_string(&mut log).unwrap();
    assert!(log.contains("the limit of descriptors is raised") && log.contains("64"), "{log}");
}

/// Each connection has a descriptor: those over the limit are told to come again, and not cut.
#[test]
fn with_epoll_and_few_descriptors_those_who_have_no_place_are_told_so() {
    let stentor = Stentor::start_within("ulimit -n 160;", &EPOLL);
    // 160, less 64 and 16 a shard; the half is more.
    let room = 80;
    let mut inside: Vec<Peer> = (0..room).map(|_| subscribe(&stentor)).collect();
    for peer in &mut inside {
        peer.read_until("event: stentor.cursor");
    }
    let answer = subscribe(&stentor).read_to_end();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("retry: "), "{answer:?}");
    let refused = stentor.get("/health");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("80 connections are open"), "{refused:?}");
    // One leaves: a publisher finds its place.
    drop(inside.pop());
    until("there is a place again", || publish(&stentor) == 200);
    for peer in &mut inside {
        peer.read_until("data: x");
    }
    assert_eq!(stentor.end("TERM"), Some(0));
}

/// Whoever says nothing takes a descriptor too. The server refuses the next ones, loses none that it has, and
/// serves again as soon as there is room.
#[test]
fn out_of_descriptors_it_goes_on_and_serves_again() {
    for flags in [&EPOLL[..], &[]] {
        let stentor = Stentor::start_within("ulimit -n 48;", flags);
        let mut subscriber = subscribe(&stentor);
        subscriber.read_until("event: stentor.cursor");
        let silent: Vec<Peer> = (0..200).map(|_| Peer::to(stentor.address())).collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(silent);
        until("it publishes again", || {
            let mut peer = Peer::to(stentor.address());
            peer.send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
            // In the rush it may be cut, or told to come again.
            peer.answer_if_any().is_some_and(|response| response.status == 200)
        });
        subscriber.read_until("data: x");
        assert_eq!(stentor.end("TERM"), Some(0), "{flags:?}");
    }
}

/// Rings are locked memory, where the kernel counts so and the user is an ordinary one. The probe needs
/// little of it, the shards need more: at each step between them the server has to start, and to serve.
#[test]
fn with_any_limit_of_locked_memory_it_starts_and_serves() {
    for kibibytes in [0, 64, 256, 400, 800, 1_500] {
        let stentor = Stentor::start_within(&format!("ulimit -l {kibibytes};"), &[]);
        let is_epoll = stentor.description().starts_with("(2 shards, epoll because io_uring is refused");
        assert!(is_epoll || stentor.description() == "(2 shards, io_uring)", "{}", stentor.description());
        let mut subscriber = subscribe(&stentor);
        subscriber.read_until("event: stentor.cursor");
        assert_eq!(publish(&stentor), 200);
        subscriber.read_until("data: x");
        assert_eq!(stentor.end("TERM"), Some(0), "{kibibytes} KiB");
    }
}
