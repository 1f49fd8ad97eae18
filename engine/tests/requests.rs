//! Requests of connections that are parked between them, and of those that have sent nothing yet.

mod common;

use std::time::Duration;

use common::*;

on_both_backings! {
    a_long_poller_goes_on_however_its_requests_are_cut;
    requests_that_came_together_are_answered_in_their_order;
    a_head_beyond_one_receive_is_read_whole;
    a_long_poll_whose_client_has_sent_fin_is_still_answered_or_ended;
    short_requests_of_one_connection_are_all_answered;
}

fn publish(engine: &stentor::Engine, topic: &str, text: &str) {
    engine.publisher().publish(stentor::Event::text(topic, text).unwrap()).unwrap();
}

fn waiting(engine: &stentor::Engine) -> u64 {
    figure(engine, "stentor_subscriptions_total", Some("long-poll"))
}

fn a_long_poller_goes_on_however_its_requests_are_cut(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut client = Client::new(address(&engine));
    let request = get("/events?topic=a&wait=30", "");
    for cut in (0..request.len()).step_by(7) {
        let asked = waiting(&engine);
        client.send(&request[..cut]);
        if cut % 2 == 0 {
            // Sometimes the first part is looked at alone.
            std::thread::sleep(Duration::from_millis(3));
        }
        client.send(&request[cut..]);
        eventually("it waits", || waiting(&engine) > asked);
        publish(&engine, "a", &format!("cut at {cut}"));
        let reply = client.reply();
        assert_eq!(reply.status, 200, "cut at {cut}");
        assert_eq!(reply.json()["events"][0]["data"], format!("cut at {cut}"));
    }
    assert_eq!(figure(&engine, "stentor_connections_accepted_total", None), 1);
}

fn requests_that_came_together_are_answered_in_their_order(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut client = Client::new(address(&engine));
    let long_poll = get("/events?topic=a&wait=30", "");
    client.send([get("/health", ""), long_poll.clone(), get("/ready", ""), long_poll].concat());
    assert_eq!(client.reply().json()["status"], "ok");
    for (round, text) in ["one", "two"].into_iter().enumerate() {
        eventually("it waits", || waiting(&engine) > round as u64);
        publish(&engine, "a", text);
        assert_eq!(client.reply().json()["events"][0]["data"], text);
        if round == 0 {
            assert_eq!(client.reply().json()["status"], "ready");
        }
    }
}

fn a_head_beyond_one_receive_is_read_whole(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut client = Client::new(address(&engine));
    for bytes in [3_900, 4_000, 4_096, 9_000, 15_000] {
        let line = format!("X-Long: {}\r\n", "x".repeat(bytes));
        assert_eq!(client.ask(get("/events?topic=a&transport=poll", &line)).status, 200, "{bytes}");
    }
}

fn a_long_poll_whose_client_has_sent_fin_is_still_answered_or_ended(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    for rounds in 0..3 {
        let mut client = Client::new(address(&engine));
        for _ in 0..rounds {
            assert_eq!(client.ask(get("/health", "")).status, 200);
        }
        client.send(get("/events?topic=a&wait=30", ""));
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.rest().is_empty(), "FIN ends a subscription");
    }
    eventually("all are gone", || figure(&engine, "stentor_connections", None) == 0);
}

fn short_requests_of_one_connection_are_all_answered(backing: Backing) {
    let engine = start(config(|_| {}), backing);
    let mut client = Client::new(address(&engine));
    for round in 0..50 {
        let reply = client.ask(get("/events?topic=a&transport=poll&cursor=earliest", ""));
        assert_eq!(reply.json()["events"].as_array().unwrap().len(), round);
        let reply = client.ask(post("/events?topic=a", "", "data"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        // As long as a publisher's connection is waited for, and longer.
        std::thread::sleep(Duration::from_millis(if round % 10 == 0 { 70 } else { 0 }));
    }
    assert_eq!(figure(&engine, "stentor_connections_accepted_total", None), 1);
}
