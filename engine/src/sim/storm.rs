//! A reconnect storm: all subscribers vanish and come back at once with their cursors, while publishes go on.
//! The checker judges each of them; the work is counted.

use super::world::World;
use crate::config::Config;
use crate::cursor::Start;
use crate::event::Event;

const CLIENTS: usize = 2_000;

/// What happened while all came back.
struct Storm {
    log_reads: u64,
    /// Most sends and looks of one batch.
    looks_max: u64,
    /// Batches between a publish to a quiet topic and its arrival, at most.
    wait_max: u32,
}

fn publish(world: &mut World, topic: &str) {
    let data = format!("{topic} {}", world.head().next());
    world.publish_event(Event::text(topic, data).unwrap()).unwrap();
}

/// One batch; the most looks of it.
fn send(world: &mut World) -> u64 {
    let before = world.shards[0].core.work.looks.get();
    world.take(0, 1_000);
    world.send(0).unwrap();
    world.shards[0].core.work.looks.get() - before
}

/// The sockets have room: what is slow is the subject of the seeds.
fn make_room(world: &mut World) {
    for socket in world.shards[0].sockets.values_mut() {
        socket.capacity = 1 << 20;
    }
}

fn read_all(world: &mut World) {
    for client in 0..world.clients.len() {
        world.read(client, usize::MAX).unwrap();
    }
}

/// Brings all in, publishes, cuts all at different places, and has all come back at once while two topics are
/// published to; the last client hears a topic of its own and stays.
fn storm(lists: &[&[&str]], topics: &[&str], events: usize) -> Storm {
    let mut lists = lists.to_vec();
    lists.push(&["quiet"]);
    let mut world = World::still(Config::default(), &lists);
    let quiet = lists.len() - 1;
    for client in 0..lists.len() {
        world.connect_to(client, 0, Start::Now).unwrap();
    }
    make_room(&mut world);
    for _ in 0..200 {
        send(&mut world);
    }
    read_all(&mut world);
    // Cut in ten parts, at ten places.
    for part in 0..10 {
        for client in (part..quiet).step_by(10) {
            world.cut(client);
        }
        world.network_step(0);
        send(&mut world);
        for n in 0..events / 10 {
            publish(&mut world, topics[(part * 7 + n) % topics.len()]);
        }
        for _ in 0..40 {
            send(&mut world);
            world.network_step(0);
        }
        read_all(&mut world);
    }
    assert_eq!(world.shards[0].core.connections(), 1, "all but the quiet one are gone");
    let reads = world.shards[0].core.work.log_reads;
    for client in 0..quiet {
        let start = world.clients[client].checker.position.map_or(Start::Earliest, Start::After);
        world.connect_to(client, 0, start).unwrap();
    }
    make_room(&mut world);
    let (mut looks_max, mut wait_max, mut got) = (0, 0, world.clients[quiet].checker.events);
    let mut batches = 0;
    while world.shards[0].core.behind() > 0 || batches < 100 {
        batches += 1;
        assert!(batches < 1_000, "{} are still behind", world.shards[0].core.behind());
        if batches % 4 == 0 && batches < 80 {
            publish(&mut world, topics[batches % topics.len()]);
        }
        looks_max = looks_max.max(send(&mut world));
        world.network_step(0);
        if batches % 10 == 0 {
            publish(&mut world, "quiet");
            let mut wait = 0;
            while world.clients[quiet].checker.events == got {
                looks_max = looks_max.max(send(&mut world));
                world.network_step(0);
                world.read(quiet, usize::MAX).unwrap();
                wait += 1;
                assert!(wait < 100, "the quiet topic is not served");
            }
            wait_max = wait_max.max(wait);
            got = world.clients[quiet].checker.events;
        }
        read_all(&mut world);
    }
    for _ in 0..200 {
        send(&mut world);
        world.network_step(0);
    }
    read_all(&mut world);
    let epoch = world.sequencer.epoch();
    for (number, client) in world.clients.iter().enumerate() {
        assert_eq!(client.checker.gaps, 0, "client {number}: the log has everything, so a gap is false");
        let missing = client.checker.missing(epoch, &world.truth);
        assert!(missing.is_none(), "client {number} never got {missing:?}");
    }
    assert_eq!(world.sequencer.statistics().bytes_outside, 0, "nothing is unfinished or half sent");
    Storm { log_reads: world.shards[0].core.work.log_reads - reads, looks_max, wait_max }
}

#[test]
fn all_subscribers_of_one_topic_come_back_and_lose_nothing() {
    let lists: Vec<&[&str]> = vec![&["a"]; CLIENTS];
    let storm = storm(&lists, &["a"], 100);
    println!("reads {}, looks {}, wait {}", storm.log_reads, storm.looks_max, storm.wait_max);
    // Ten cursors, the places that a read in parts leads to, and those to which the set moves on meanwhile.
    assert!(storm.log_reads <= 400, "{} reads of the log for {CLIENTS}", storm.log_reads);
    assert!(storm.looks_max <= 16_384, "{} looks in a batch", storm.looks_max);
    assert!(storm.wait_max <= 2, "an event to one waited for {} batches", storm.wait_max);
}

#[test]
fn subscribers_of_many_topics_and_of_wildcards_come_back_and_lose_nothing() {
    let own: Vec<String> = (0..200).map(|n| format!("c/{n}")).collect();
    let own: Vec<[&str; 2]> = own.iter().map(|topic| [topic.as_str(), "a"]).collect();
    let lists: Vec<&[&str]> = (0..CLIENTS)
        .map(|n| match n % 4 {
            0 => &own[n % own.len()][..],
            1 => &["c/*"][..],
            2 => &["a", "b"][..],
            _ => &["**"][..],
        })
        .collect();
    let mut topics = vec!["a", "b"];
    topics.extend(own.iter().take(20).map(|list| list[0]));
    let storm = storm(&lists, &topics, 200);
    println!("reads {}, looks {}, wait {}", storm.log_reads, storm.looks_max, storm.wait_max);
    assert!(storm.log_reads <= 4 * CLIENTS as u64, "{} reads of the log for {CLIENTS}", storm.log_reads);
    assert!(storm.looks_max <= 32_768, "{} looks in a batch", storm.looks_max);
    // It is not alone here: those who hear everything are walked in the same turn, and may come first.
    assert!(storm.wait_max <= 12, "an event to one waited for {} batches", storm.wait_max);
}
