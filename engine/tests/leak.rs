//! Connections that come and go leave nothing behind: no descriptor, no memory.

mod common;

use std::sync::Mutex;

use common::*;
use stentor::transport::{Format, Framing, Transport};

on_both_backings! {
    ten_thousand_connections_ten_times_leave_nothing_behind;
}

/// Connections at once; both ends of each are in this process.
const WAVE: usize = 2_500;
const WAVES: usize = 4;
const ROUNDS: usize = 10;
/// How much more memory the process may have than after its first ten thousand: what an allocator keeps back.
/// If each of the 90,000 that follow left 100 bytes, it would be more.
const MARGIN_BYTES: usize = 8 << 20;

/// One at a time: each measures the process.
static ALONE: Mutex<()> = Mutex::new(());

fn ten_thousand_connections_ten_times_leave_nothing_behind(backing: Backing) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let engine = start(config(|_| {}), backing);
    let open = settled(descriptors);
    let is_empty = || figure(&engine, "stentor_connections", None) == 0;
    // The first ten thousand bring allocator and tables to the size that they keep.
    for number in 0..WAVES {
        wave(&engine, number);
        eventually("all are gone", is_empty);
    }
    let memory = resident_bytes();
    // The second backing is shown in fewer rounds.
    let waves = if backing == Backing::Ring { (ROUNDS - 1) * WAVES } else { WAVES };
    for number in WAVES..WAVES + waves {
        wave(&engine, number);
        eventually("all are gone", is_empty);
    }
    assert_eq!(figure(&engine, "stentor_connections_accepted_total", None), (WAVE * (WAVES + waves)) as u64);
    eventually("no descriptor is left", || descriptors() <= open);
    let after = resident_bytes();
    eprintln!("{backing:?}: {} KiB, then {} KiB; {open} descriptors", memory >> 10, after >> 10);
    assert!(after <= memory + MARGIN_BYTES, "{} KiB more than at first", (after - memory) >> 10);
    for parked in ["stentor_connections_parked", "stentor_subscribers", "stentor_connection_tasks"] {
        eventually(parked, || figure(&engine, parked, None) == 0);
    }
}

/// What `figure` comes to rest at: a shard that has just begun opens what it needs a little later.
fn settled(figure: impl Fn() -> usize) -> usize {
    let (mut last, mut looks) = (figure(), 0);
    while looks < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = figure();
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
    }
    last
}

/// Opens many connections that do all kinds of things, and ends them in all kinds of ways.
fn wave(engine: &stentor::Engine, number: usize) {
    let mut clients: Vec<Client> = Vec::with_capacity(WAVE);
    for index in 0..WAVE {
        let mut client = Client::new(address(engine));
        // Every tenth has a topic that nobody had before.
        let topic =
            if index % 10 == 0 { format!("own/{number}/{index}") } else { format!("topic/{}", index % 7) };
        let query = format!("topic={topic}");
        let chunked = |transport| hearing(transport, Format::Json, Framing::Chunked);
        match index % 9 {
            0 => client.send(subscribe(chunked(Transport::Sse), &query, "")),
            1 => client.send(subscribe(chunked(Transport::Stream), &query, "")),
            2 => client.send(subscribe(chunked(Transport::Iframe), &query, "")),
            3 => client.send(subscribe(
                hearing(Transport::WebSocket, Format::Json, Framing::Frames),
                &query,
                "",
            )),
            4 => client.send(get(&format!("/events?{query}&wait=60"), "")),
            5 => client.send(get("/health", "")),
            6 => client.send("GET /events HTT"),
            7 => client.send(post(&format!("/events?{query}"), "", "data")),
            _ => {}
        }
        clients.push(client);
    }
    for (index, mut client) in clients.into_iter().enumerate() {
        if matches!(index % 9, 0..=3 | 5 | 7) {
            assert!(client.read(), "connection {index}");
        }
        match index % 4 {
            0 => client.reset(),
            1 => {
                let _ = client.stream.shutdown(std::net::Shutdown::Write);
            }
            _ => drop(client),
        }
    }
}
