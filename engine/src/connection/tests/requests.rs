//! Heads, methods, paths, and how connections go on.

use super::*;

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        let requests = [
            post("/events?topic=a", "", "one"),
            get("/events?topic=a&cursor=earliest", ""),
            post("/events?topic=a", "", ""),
            get("/health", ""),
        ];
        client.send(requests.concat());
        assert!(client.reply().text().contains("-1\""));
        assert_eq!(client.reply().json()["events"][0]["data"], "one");
        assert!(client.reply().text().contains("-2\""));
        assert_eq!(client.reply().json()["status"], "ok");
    });
}

#[test]
fn a_head_cut_anywhere_and_a_body_cut_anywhere_are_read_the_same() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let request = "POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                       2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n";
        let mut client = Client::new(address);
        for cut in 0..=request.len() {
            client.send(&request[..cut]);
            if cut % 16 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            client.send(&request[cut..]);
            let reply = client.reply();
            assert_eq!((reply.status, reply.header("connection")), (200, None), "cut at {cut}");
        }
        let poll = ask(address, get("/events?topic=a&cursor=earliest", ""));
        let events = poll.json()["events"].as_array().unwrap().clone();
        assert_eq!(events.len(), request.len() + 1);
        assert!(events.iter().all(|event| event["data"] == "abc"));
    });
}

#[test]
fn a_kept_connection_is_parked_between_requests_and_comes_back() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        for _ in 0..3 {
            assert_eq!(client.ask(get("/health", "")).status, 200);
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    assert!(rig.parked.idle_count.get() >= 3, "{}", rig.parked.idle_count.get());
    assert_eq!(rig.figure("stentor_responses_total", "2xx"), 3);
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_to_be_kept() {
    let rig = Rig::new(Config::default());
    rig.publish("a", &["x"]);
    rig.serve(|address| {
        let mut client = Client::new(address);
        let reply = client.ask("GET /events?topic=a HTTP/1.0\r\n\r\n");
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert_eq!(client.rest(), b"");
        let mut client = Client::new(address);
        for _ in 0..2 {
            let reply = client.ask("GET /events?topic=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            assert_eq!(reply.header("connection"), Some("keep-alive"));
        }
    });
}

#[test]
fn without_io_uring_it_is_the_same() {
    let timing = crate::config::Timing { head_seconds: 1, ..Default::default() };
    let limits = crate::config::Limits { publishes_per_second: 2, ..Default::default() };
    let mut rig = Rig::new(Config { timing, limits, ..Config::default() });
    rig.backend = Backend::Epoll;
    rig.serve(|address| {
        let mut client = Client::new(address);
        for status in [200, 200, 429] {
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(client.ask(post("/events?topic=a", "", &"x".repeat(50_000))).status, status);
            if status == 429 {
                assert_eq!(client.rest(), b"", "the body was not read");
            }
        }
        let mut client = Client::new(address);
        for _ in 0..2 {
            assert_eq!(client.ask(get("/health", "")).status, 200);
            std::thread::sleep(Duration::from_millis(30));
        }
        client.send("GET /heal");
        assert_eq!(client.reply().status, 408);
        let mut client = Client::new(address);
        client.send(get("/events?topic=a&transport=sse", ""));
        assert_eq!(client.head().status, 200);
    });
    assert_eq!(rig.subscriptions().len(), 1);
    assert!(rig.parked.idle_count.get() >= 2);
}

#[test]
fn connection_close_is_kept_to() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        client.send(get("/health", "Connection: close\r\n") + &get("/health", ""));
        assert_eq!(client.reply().header("connection"), Some("close"));
        assert_eq!(client.rest(), b"", "what follows is not answered");
    });
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        client.send(get("/health", ""));
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.reply().status, 200);
        assert_eq!(client.rest(), b"");
    });
}

#[test]
fn head_gets_the_head_of_the_answer_and_no_body() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        let head = |target: &str, lines: &str| get(target, lines).replacen("GET", "HEAD", 1);
        client.send(head("/events?topic=a", ""));
        let reply = client.head();
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
        assert_ne!(reply.header("content-length"), Some("0"));
        for (transport, content_type) in [
            ("sse", "text/event-stream"),
            ("stream", "application/x-ndjson"),
            ("iframe", "text/html; charset=utf-8"),
        ] {
            client.send(head(&format!("/events?topic=a&transport={transport}"), ""));
            let reply = client.head();
            assert_eq!((reply.status, reply.header("transfer-encoding")), (200, Some("chunked")));
            assert_eq!(reply.header("content-type"), Some(content_type));
        }
        client.send(head("/health", ""));
        assert_eq!(client.head().status, 200, "nothing stood between the heads");
    });
    assert!(rig.subscriptions().is_empty());
}

#[test]
fn paths_and_methods_are_told_apart() {
    let rig = Rig::new(Config::default());
    rig.publish("prices/eurusd", &["1", "2"]);
    rig.serve(|address| {
        let request = |method: &str, target: &str| {
            let reply = ask(
                address,
                format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
            );
            (reply.status, reply.header("allow").map(str::to_owned))
        };
        let read = Some("GET, HEAD, OPTIONS".to_owned());
        let all = Some("GET, HEAD, POST, OPTIONS".to_owned());
        assert_eq!(request("OPTIONS", "/events"), (204, all.clone()));
        assert_eq!(request("OPTIONS", "*"), (204, all.clone()));
        assert_eq!(request("OPTIONS", "/health"), (204, read.clone()));
        assert_eq!(request("DELETE", "/events"), (405, all));
        assert_eq!(request("POST", "/health"), (405, read.clone()));
        assert_eq!(request("PUT", "/topics/a"), (405, read));
        assert_eq!(request("BREW", "/events").0, 501);
        assert_eq!(request("BREW", "/nowhere").0, 501);
        assert_eq!(request("GET", "/nowhere"), (404, None));
        assert_eq!(request("PUT", "/nowhere"), (404, None));
        assert_eq!(request("GET", "/%65vents?topic=a").0, 200, "a path is what it decodes to");
        assert_eq!(request("GET", "/ready").0, 200);
        assert_eq!(request("GET", "http://localhost/health").0, 200);
        let own = ask(address, post("/own", "", "hello"));
        assert_eq!((own.status, own.text()), (200, "hello"));
        let topic = ask(address, get("/topics/prices%2Feurusd", "")).json();
        assert_eq!((&topic["topic"], &topic["events"]), (&"prices/eurusd".into(), &2.into()));
        assert_eq!(topic["subscribers"], "prices/eurusd".len());
        assert!(topic["first"].as_str().unwrap().ends_with("-1"), "{topic}");
        assert!(topic["last"].as_str().unwrap().ends_with("-2"), "{topic}");
        let unknown = ask(address, get("/topics/none", "")).json();
        assert!(unknown["first"].is_null() && unknown["last"].is_null(), "{unknown}");
        let bad = ask(address, get("/topics/a//b", ""));
        assert_eq!((bad.status, bad.json()["field"].as_str().unwrap().to_owned()), (400, "topic".into()));
    });
}

#[test]
fn a_slow_head_ends_after_its_time_however_it_drips() {
    let config = Config {
        timing: crate::config::Timing { head_seconds: 1, ..Default::default() },
        ..Default::default()
    };
    let rig = Rig::new(config);
    let seconds = rig.serve(|address| {
        let mut client = Client::new(address);
        let mut writer = client.stream.try_clone().unwrap();
        let start = Instant::now();
        let drip = std::thread::spawn(move || {
            for byte in get("/health", "X: a rather long field\r\n").repeat(2).bytes() {
                if writer.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
        let seconds = start.elapsed().as_secs_f64();
        drop(client);
        drip.join().unwrap();
        seconds
    });
    assert!((1.0..2.5).contains(&seconds), "{seconds}");
    assert_eq!(rig.figure("stentor_refusals_total", "timeout"), 1);
}

#[test]
fn a_client_that_never_stops_asking_does_not_keep_others_waiting() {
    let rig = Rig::new(Config::default());
    let slowest = rig.serve(|address| {
        let flood = std::thread::spawn(move || {
            let mut client = Client::new(address);
            let mut reader = client.stream.try_clone().unwrap();
            let drain = std::thread::spawn(move || {
                let mut space = vec![0; 1 << 20];
                while reader.read(&mut space).is_ok_and(|count| count > 0) {}
            });
            let burst = get("/health", "").repeat(2_000);
            let end = Instant::now() + Duration::from_millis(1_500);
            while Instant::now() < end {
                client.send(&burst);
            }
            client.stream.shutdown(std::net::Shutdown::Both).unwrap();
            drain.join().unwrap();
        });
        let mut slowest = Duration::ZERO;
        let mut client = Client::new(address);
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(client.ask(get("/health", "")).status, 200);
            slowest = slowest.max(start.elapsed());
        }
        flood.join().unwrap();
        slowest
    });
    assert!(slowest < Duration::from_millis(700), "{slowest:?}");
}

#[test]
fn a_connection_that_says_nothing_is_parked() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        let mut client = Client::new(address);
        std::thread::sleep(Duration::from_millis(1_300));
        assert_eq!(client.ask(get("/health", "")).status, 200);
    });
    assert!(rig.parked.idle_count.get() >= 1);
}

#[test]
fn permits_and_tasks_are_given_back() {
    let rig = Rig::new(Config::default());
    rig.serve(|address| {
        for n in 0..50 {
            let mut client = Client::new(address);
            match n % 5 {
                0 => assert_eq!(client.ask(get("/health", "")).status, 200),
                1 => client.send("GET / HT"),
                2 => client.send("garbage\r\n\r\n"),
                3 => client.send(&post("/events?topic=a", "", "0123456789")[..75]),
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1_500));
    });
    assert_eq!(rig.context.admissions.connections(), 0);
    assert_eq!(rig.figure("stentor_connection_tasks", ""), 0);
}
