use stentor_protocol::ws::close::CloseCode;

use crate::http::{EventStream, ask};
use crate::program::Program;
use crate::websocket::WebSocket;

const ADA: &str = "Authorization: Bearer ada-secret";
const BOB: &str = "Authorization: Bearer bob-secret";

#[test]
fn who_may_hear_and_publish_what_is_decided_by_the_token() {
    let (_program, address) = Program::serve("auth");
    let mut ada = EventStream::open(address, "topic=news&topic=inbox", &[ADA]);
    let mut bob = EventStream::open(address, "topic=inbox&token=bob-secret", &[]);
    let message = |data: &str| Some(("message".to_owned(), data.to_owned()));

    let publish = |topic: &str, headers: &[&str], data: &str| {
        let (status, head, body) = ask(address, &format!("POST /events?topic={topic}"), headers, data);
        (status, head + &body)
    };
    assert_eq!(publish("news", &[ADA], "It works").0, 200);
    assert_eq!(publish("inbox/bob", &[ADA], "for Bob").0, 200);
    assert_eq!(publish("inbox/ada", &[BOB], "for Ada").0, 200);
    // Bob hears his own inbox alone, though news and Ada's inbox went before and after.
    assert_eq!(bob.next(), message("for Bob"));
    assert_eq!(ada.next(), message("It works"));
    assert_eq!(ada.next(), message("for Ada"));

    let (status, answer) = publish("news", &[BOB], "Bob was here");
    assert_eq!(status, 403);
    assert!(answer.contains("bob may not publish to news") && answer.contains(r#""topic""#), "{answer}");
    let (status, answer) = publish("news", &[], "Nobody was here");
    assert_eq!(status, 401);
    assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
    assert_eq!(publish("news", &["Authorization: Bearer wrong"], "x").0, 401);
}

#[test]
fn whoever_may_not_hear_something_is_refused_on_every_transport() {
    let (_program, address) = Program::serve("auth");
    for transport in ["poll", "long-poll", "stream", "sse", "iframe"] {
        let ask = |query: &str, headers: &[&str]| {
            ask(address, &format!("GET /events?transport={transport}&{query}"), headers, "").0
        };
        assert_eq!(ask("topic=news", &[]), 401, "{transport}");
        assert_eq!(ask("topic=inbox/ada", &[BOB]), 403, "{transport}");
        assert_eq!(ask("topic=**", &[BOB]), 403, "{transport}");
    }
    // Browsers cannot see why an upgrade is refused, so it is done and then closed.
    let close = |query: &str| WebSocket::open(address, &format!("/events?{query}"), None).closed().0;
    assert_eq!(close("topic=news"), CloseCode(4401));
    assert_eq!(close("topic=inbox/ada&token=bob-secret"), CloseCode(4403));
}
