//! Cases that seeds come upon too rarely: each is led there.

use super::world::World;
use crate::config::Config;
use crate::cursor::Start;
use crate::event::Event;

/// Everything that can be done is done, and the clients read all they are sent.
fn settle(world: &mut World) {
    for _ in 0..20 {
        world.take(0, 100);
        world.send(0).unwrap();
        world.network_step(0);
        world.send(0).unwrap();
        for client in 0..world.clients.len() {
            world.read(client, usize::MAX).unwrap();
        }
    }
}

fn publish(world: &mut World, topic: &str) {
    let data = format!("{topic} {}", world.head().next());
    world.publish_event(Event::text(topic, data).unwrap()).unwrap();
}

fn events(world: &World, client: usize) -> u64 {
    world.clients[client].checker.events
}

#[test]
fn who_joins_a_set_that_lingers_gets_what_is_after_its_place_and_nothing_twice() {
    let mut world = World::still(Config::default(), &[&["a"], &["a"], &["a"]]);
    world.connect_to(0, 0, Start::Now).unwrap();
    settle(&mut world);
    let cursor = world.clients[0].checker.position.unwrap();
    world.cut(0);
    world.network_step(0);
    world.send(0).unwrap();
    // The set is empty and still has its interest: the event comes to the shard.
    publish(&mut world, "a");
    world.connect_to(1, 0, Start::Now).unwrap();
    world.clients[2].checker.position = Some(cursor);
    world.connect_to(2, 0, Start::After(cursor)).unwrap();
    settle(&mut world);
    assert_eq!((events(&world, 1), events(&world, 2)), (0, 1), "one came after the event, one before it");
    publish(&mut world, "a");
    settle(&mut world);
    assert_eq!((events(&world, 1), events(&world, 2)), (1, 2));
}

#[test]
fn a_set_that_lingered_too_long_is_made_again_and_misses_nothing() {
    let mut config = Config::default();
    config.timing.empty_set_seconds = 1;
    let mut world = World::still(config, &[&["a"]]);
    world.connect_to(0, 0, Start::Now).unwrap();
    settle(&mut world);
    let cursor = world.clients[0].checker.position.unwrap();
    world.cut(0);
    world.network_step(0);
    world.send(0).unwrap();
    for _ in 0..4 {
        world.pass_time(1_000);
    }
    // Without a set there is no interest: the event is in the log alone.
    publish(&mut world, "a");
    world.connect_to(0, 0, Start::After(cursor)).unwrap();
    publish(&mut world, "a");
    settle(&mut world);
    assert_eq!(events(&world, 0), 2);
}

#[test]
fn a_new_set_does_not_take_what_the_channel_held_when_it_was_made() {
    let mut world = World::still(Config::default(), &[&["a"], &["a", "b"]]);
    world.connect_to(0, 0, Start::Now).unwrap();
    settle(&mut world);
    publish(&mut world, "a");
    publish(&mut world, "a");
    // Both stand in the channel; the second set is made beyond them.
    world.connect_to(1, 0, Start::Now).unwrap();
    settle(&mut world);
    assert_eq!((events(&world, 0), events(&world, 1)), (2, 0));
    publish(&mut world, "b");
    publish(&mut world, "a");
    settle(&mut world);
    assert_eq!((events(&world, 0), events(&world, 1)), (3, 2));
}

#[test]
fn a_topic_that_is_forgotten_and_made_again_tells_its_gap() {
    let mut config = Config::default();
    config.retention.topics = 1;
    config.retention.age_seconds = 1;
    let mut world = World::still(config, &[&["a"]]);
    world.connect_to(0, 0, Start::Now).unwrap();
    settle(&mut world);
    let cursor = world.clients[0].checker.position.unwrap();
    world.cut(0);
    publish(&mut world, "a");
    world.pass_time(3_000);
    // The log knows one topic: this one takes the place of the other.
    publish(&mut world, "b");
    publish(&mut world, "a");
    world.connect_to(0, 0, Start::After(cursor)).unwrap();
    settle(&mut world);
    assert_eq!(
        (events(&world, 0), world.clients[0].checker.gaps),
        (1, 1),
        "the first is gone, and that is told"
    );
}
