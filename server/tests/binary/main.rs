//! The binary as an operator meets it: what it refuses to start with, what it says, who may publish, how it
//! ends.

mod limits;
mod process;

use std::io::Read as _;
use std::time::{Duration, Instant};

use process::{Peer, Stentor, run};

#[test]
fn what_it_cannot_be_started_with_is_named_and_ends_with_2() {
    for (words, expected) in [
        (&["--listen", "0.0.0.0:0"][..], "config: listen: 0.0.0.0:0 is not a loopback address"),
        (&["--set", "limits.matchers=0"], "config: limits.matchers: is 0, below the least, 1"),
        (&["--set", "limits.matcher=1"], "did you mean limits.matchers?"),
        (&["--shards", "129"], "config: shards: is 129, over the most, 128 (set by --shards)"),
        (&["--config", "/nowhere.toml"], "config: \"/nowhere.toml\": cannot read: no such file or directory"),
        (
            &["--publish-token-file", "/nowhere/tokens"],
            "config: publish_token_file: cannot read \"/nowhere/tokens\": no such file or directory",
        ),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        // `--check`, so that what should have been refused does not serve for ever.
        let (status, _, error) = run(&[words, &["--check"]].concat());
        assert_eq!(status, Some(2), "{words:?}: {error}");
        assert!(error.contains(expected), "{words:?}: {error}");
    }
}

#[test]
fn a_printed_configuration_is_one_that_it_takes() {
    let (status, printed, _) = run(&["--print-config", "--set", "limits.matchers=7"]);
    assert_eq!(status, Some(0));
    let path = std::env::temp_dir().join(format!("stentor-printed-{}.toml", std::process::id()));
    std::fs::write(&path, &printed).unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(run(&["--config", file, "--check"]), (Some(0), "config: ok\n".into(), String::new()));
    assert_eq!(run(&["--config", file, "--print-config"]).1, printed);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_address_in_use_is_refused_by_name() {
    let first = Stentor::start(&[]);
    let address = first.address().to_string();
    let (status, _, error) = run(&["--listen", &address]);
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("cannot listen at") && error.contains(&address), "{error}");
    // The first one is none the worse for it.
    assert_eq!(first.get("/ready").status, 200);
    assert_eq!(first.end("TERM"), Some(0));
}

#[test]
fn each_address_is_listened_at() {
    let stentor = Stentor::start(&["--listen", "127.0.0.2:0"]);
    let addresses = stentor.addresses();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        assert_eq!(Peer::to(*address).request("GET /health HTTP/1.1", "").status, 200, "{address}");
    }
    assert_eq!(stentor.end("INT"), Some(0));
}

#[test]
fn with_a_token_file_only_its_tokens_publish() {
    let path = std::env::temp_dir().join(format!("stentor-tokens-binary-{}", std::process::id()));
    std::fs::write(&path, "# two\nfirst\nsecond\n").unwrap();
    let stentor = Stentor::start(&["--publish-token-file", path.to_str().unwrap()]);
    std::fs::remove_file(path).unwrap();
    for (authorization, status) in [
        ("", 401),
        ("Authorization: Bearer third\r\n", 401),
        ("Authorization: Basic first\r\n", 401),
        ("Authorization: Bearer first\r\n", 200),
        ("authorization: bearer second\r\n", 200),
    ] {
        let head = format!("POST /events?topic=a HTTP/1.1\r\n{authorization}Content-Length: 1");
        let response = Peer::to(stentor.address()).request(&head, "x");
        assert_eq!(response.status, status, "{authorization:?}: {response:?}");
        let challenge = response.field("WWW-Authenticate");
        assert_eq!(challenge.is_some_and(|text| text.starts_with("Bearer ")), status == 401, "{response:?}");
    }
    // Whom the token lets publish was never asked for by those who only listen.
    assert_eq!(stentor.get("/events?topic=a&cursor=earliest").status, 200);
    assert_eq!(stentor.end("TERM"), Some(0));
}

#[test]
fn the_page_and_its_assets_keep_to_their_policy() {
    let stentor = Stentor::start(&[]);
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/transports.js", "text/javascript"),
        ("/style.css", "text/css"),
    ] {
        let response = stentor.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.field("Content-Type").unwrap().starts_with(kind), "{response:?}");
        assert!(response.field("Content-Security-Policy").unwrap().starts_with("default-src 'none'; "));
        let tag = response.field("ETag").unwrap().to_owned();
        let head = format!("GET {path} HTTP/1.1\r\nIf-None-Match: {tag}");
        let again = Peer::to(stentor.address()).request(&head, "");
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{again:?}");
        let head = Peer::to(stentor.address()).request(&format!("HEAD {path} HTTP/1.1"), "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{head:?}");
    }
    let without = Stentor::start(&["--set", "page=false"]);
    assert_eq!(without.get("/").status, 404);
}

#[test]
fn figures_follow_what_happens() {
    let stentor = Stentor::start(&[]);
    let figure = |name: &str| -> u64 {
        let page = stentor.get("/metrics");
        assert_eq!(page.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let line = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {}", page.body)).parse().unwrap()
    };
    assert_eq!(figure("stentor_published_total"), 0);
    let mut subscriber = Peer::to(stentor.address());
    subscriber.send("GET /events?topic=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n");
    subscriber.read_until("event: stentor.cursor");
    // What goes up and down is brought up to date now and then.
    let deadline = Instant::now() + Duration::from_secs(10);
    while figure("stentor_subscribers{transport=\"sse\"}") != 1 {
        assert!(Instant::now() < deadline, "the subscriber is not counted");
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..3 {
        let head = "POST /events?topic=a HTTP/1.1\r\nContent-Length: 1";
        assert_eq!(Peer::to(stentor.address()).request(head, "x").status, 200);
    }
    subscriber.read_until("-3\n");
    assert_eq!(figure("stentor_published_total"), 3);
    while figure("stentor_deliveries_total") != 3 {
        assert!(Instant::now() < deadline, "what was delivered is not counted");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(figure("process_resident_memory_bytes") > 1_000_000);
}

#[test]
fn a_signal_ends_every_subscriber_in_its_own_way_and_the_process_with_0() {
    for flags in [&["--drain-seconds", "4"][..], &["--drain-seconds", "4", "--set", "io_uring=false"]] {
        let stentor = Stentor::start(flags);
        let mut sse = Peer::to(stentor.address());
        sse.send("GET /events?topic=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n");
        sse.read_until("event: stentor.cursor");
        let mut long_poll = Peer::to(stentor.address());
        long_poll.send("GET /events?topic=a&wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut websocket = Peer::to(stentor.address());
        websocket.send(&websocket_to("/events?topic=a"));
        websocket.read_until("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        // Held, and not only on its way.
        std::thread::sleep(Duration::from_millis(300));
        let mut stentor = stentor;
        stentor.signal("TERM");
        let answered = long_poll.read_to_end();
        assert!(answered.contains("\"events\":[]"), "{flags:?}: {answered:?}");
        let ended = sse.read_to_end();
        assert!(ended.ends_with("0\r\n\r\n"), "{flags:?}: {ended:?}");
        let closed = websocket.close_code();
        assert_eq!(closed, Some(1001), "{flags:?}");
        assert_eq!(stentor.wait(Duration::from_secs(10)), Some(0), "{flags:?}");
    }
}

#[test]
fn while_it_drains_it_says_so_and_lets_nobody_in() {
    let mut stentor = Stentor::start(&["--drain-seconds", "60"]);
    // It never answers the close that it is sent, so the drain is not over at once.
    let mut mute = Peer::to(stentor.address());
    mute.send(&websocket_to("/events?topic=a"));
    mute.read_until("\r\n\r\n");
    stentor.signal("TERM");
    let deadline = Instant::now() + Duration::from_secs(3);
    while stentor.get("/ready").status == 200 {
        assert!(Instant::now() < deadline, "it stays ready");
    }
    assert_eq!(stentor.get("/ready").body, "draining\n");
    assert_eq!(stentor.get("/health").status, 200);
    assert_eq!(stentor.get("/metrics").status, 200);
    let refused = stentor.get("/events?topic=a");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("Retry-After").is_some(), "{refused:?}");
    let head = "POST /events?topic=a HTTP/1.1\r\nContent-Length: 1";
    assert_eq!(Peer::to(stentor.address()).request(head, "x").status, 503);
    // EventSource would give up for ever on anything but 200.
    let head = "GET /events?topic=a HTTP/1.1\r\nAccept: text/event-stream\r\nHost: localhost\r\n\r\n";
    let mut event_source = Peer::to(stentor.address());
    event_source.send(head);
    let answer = event_source.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("retry: "), "{answer:?}");
    let began = Instant::now();
    stentor.signal("TERM");
    assert_eq!(stentor.wait(Duration::from_secs(10)), Some(128 + 15), "a second signal does not wait");
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// A request that opens a WebSocket.
fn websocket_to(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[test]
fn a_closed_output_does_not_end_it() {
    let mut stentor = Stentor::start(&[]);
    stentor.close_output();
    assert_eq!(stentor.get("/health").status, 200);
    assert_eq!(stentor.end("TERM"), Some(0));
}

#[test]
fn it_logs_json_where_that_is_wanted() {
    let mut stentor = Stentor::start(&["--log-format", "json"]);
    stentor.signal("TERM");
    assert_eq!(stentor.wait(Duration::from_secs(20)), Some(0));
    let mut log = String::new();
    stentor.log().read_to_string(&mut log).unwrap();
    assert!(log.lines().count() >= 2, "{log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}
