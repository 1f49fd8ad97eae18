use stentor_protocol::ws::close::CloseCode;
use stentor_protocol::ws::frame::Opcode;

use crate::http::{EventStream, ask};
use crate::program::Program;
use crate::websocket::WebSocket;

#[test]
fn what_one_says_all_in_the_room_hear_in_one_order() {
    let (_program, address) = Program::serve("chat");
    let mut listener = EventStream::open(address, "topic=chat/lobby", &[]);
    let mut said = |text: &str| assert_eq!(listener.next().expect("an event").1, text);
    let mut ada = WebSocket::open(address, "/events?topic=chat/lobby&name=ada", None);
    said("ada is here");
    let mut bob = WebSocket::open(address, "/events?topic=chat/lobby&name=bob", Some("permessage-deflate"));
    said("bob is here");
    let mut elsewhere = WebSocket::open(address, "/events?topic=chat/attic&name=eve", None);

    ada.send_text("Hello, añ€😀");
    said("ada: Hello, añ€😀");
    bob.send_text("Hi Ada");
    said("bob: Hi Ada");
    elsewhere.send_text("Nobody there?");

    // Whether one hears that oneself is here depends on which of the two came first.
    let heard_by = |socket: &mut WebSocket, own: &str| {
        let mut texts: Vec<String> = Vec::new();
        while texts.last().is_none_or(|text| text != "bob: Hi Ada") {
            texts.push(socket.next_text());
        }
        texts.retain(|text| text != own);
        texts
    };
    let hello = ["ada: Hello, añ€😀", "bob: Hi Ada"];
    assert_eq!(heard_by(&mut ada, "ada is here"), ["bob is here", hello[0], hello[1]]);
    assert_eq!(heard_by(&mut bob, "bob is here"), hello);

    ada.send_text("/quit");
    assert_eq!(ada.closed(), (CloseCode::NORMAL, "bye".into()));
    said("ada has left");
    assert_eq!(bob.next_text(), "ada has left");
    drop(bob);
    said("bob has left");
}

#[test]
fn whoever_sends_what_is_not_taken_is_told_and_nobody_else_hears_of_it() {
    let (_program, address) = Program::serve("chat");
    let mut listener = EventStream::open(address, "topic=chat/lobby", &[]);
    let mut ada = WebSocket::open(address, "/events?topic=chat/lobby&name=ada", None);
    ada.send(Opcode::Binary, &[0, 1, 2]);
    while ada.next_text() != "only text can be said here" {}
    let mut nameless = WebSocket::open(address, "/events?topic=chat/lobby", None);
    nameless.send_text("psst");
    assert_eq!(nameless.closed().0, CloseCode(4403));
    ada.send_text("that is all");
    assert_eq!(listener.next().unwrap().1, "ada is here");
    assert_eq!(listener.next().unwrap().1, "ada: that is all");
}

#[test]
fn a_room_and_a_name_are_checked() {
    let (_program, address) = Program::serve("chat");
    let long = format!("topic=chat/lobby&name={}", "n".repeat(33));
    for (query, field) in [
        ("topic=chat/*", "topic"),
        ("topic=chat/a&topic=chat/b", "topic"),
        ("topic=news", "topic"),
        ("topic=chat/lobby&name=", "name"),
        (&long, "name"),
    ] {
        let (status, _, body) = ask(address, &format!("GET /events?{query}"), &[], "");
        assert_eq!(status, 400, "{query}: {body}");
        assert!(body.contains(&format!(r#""{field}""#)), "{query}: {body}");
        let mut socket = WebSocket::open(address, &format!("/events?{query}"), None);
        assert_eq!(socket.closed().0, CloseCode(4400), "{query}");
    }
    assert!(ask(address, "GET /", &[], "").2.contains("new WebSocket"));
}
