//! Faults that were found once, each with its story. What the simulation can see is tested there.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use stentor::{Admission, App, Config, Engine, Event, Open, Request, Shards};

const SSE: &str = "GET /events?topic=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n";
const WEBSOCKET: &str = "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn start(config: Config) -> (Engine, SocketAddr) {
    let address = "127.0.0.1:0".parse().unwrap();
    let builder = Engine::builder().config(config).listen(address).shards(Shards::Count(1));
    let engine = builder.start(Open).unwrap();
    let address = engine.local_addrs()[0];
    (engine, address)
}

fn ask(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// What comes next; nothing at the end, however it came.
fn next(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return buffer;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Vec::new(),
            Err(error) => panic!("nothing came for ten seconds: {error}"),
        }
    }
}

fn read_to_end(mut stream: TcpStream) {
    let begun = Instant::now();
    while !next(&mut stream).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the stream does not end");
    }
}

/// The notice of a gap has no bytes on a raw stream. One that fell off the log while it was live was sent
/// just that: a send of nothing, which the ring refuses by a panic. Anybody could end the process.
#[test]
fn a_raw_stream_that_falls_off_the_log_is_cut_and_the_engine_goes_on() {
    let mut config = Config::default();
    config.limits.send_buffer_bytes = 8_192;
    config.retention.events = 8;
    let (engine, address) = start(config);
    let mut slow =
        ask(address, "GET /events?topic=a&transport=stream&format=raw HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!next(&mut slow).is_empty());
    let publisher = engine.publisher();
    let data = "x".repeat(20_000);
    let begun = Instant::now();
    let mut published = 0;
    while published < 400 {
        assert!(begun.elapsed() < Duration::from_secs(30), "only {published} were published");
        match publisher.publish(Event::text("a", &*data).unwrap()) {
            Ok(_) => published += 1,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    read_to_end(slow);
    assert!(next(&mut ask(address, SSE)).starts_with(b"HTTP/1.1 200"), "the next subscriber is served");
}

/// What was pipelined behind the request of a one-way stream is looked at when the stream starts. More than
/// it may send closed it there, and the slot that was free already was queued again: the next connection in
/// it was never served.
#[test]
fn a_stream_that_is_closed_as_it_starts_leaves_its_slot_usable() {
    let (engine, address) = start(Config::default());
    let publisher = engine.publisher();
    for _ in 0..600 {
        publisher.publish(Event::text("a", "hello").unwrap()).unwrap();
    }
    for _ in 0..3 {
        let long_poll = "GET /events?topic=z&transport=long-poll&wait=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut stream = ask(address, long_poll);
        thread::sleep(Duration::from_millis(100));
        let mut request = SSE.replace("topic=a", "topic=a&cursor=earliest");
        request.push_str(&"z".repeat(9_000));
        stream.write_all(request.as_bytes()).unwrap();
        read_to_end(stream);
    }
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut stream = ask(address, SSE);
        assert!(next(&mut stream).starts_with(b"HTTP/1.1 200"));
        kept.push(stream);
    }
}

/// Each receive that a flood asked for made the loop of the shard go round without a pause, and no other task
/// of its runtime had a turn: no handshake, no request.
#[test]
fn a_flood_of_pongs_does_not_keep_others_from_being_served() {
    let (_engine, address) = start(Config::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let flooders: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = ask(address, WEBSOCKET);
            assert!(next(&mut stream).starts_with(b"HTTP/1.1 101"));
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let pongs = [0x8a, 0x80, 0, 0, 0, 0].repeat(50_000);
                while !is_over.load(Ordering::Relaxed) && stream.write_all(&pongs).is_ok() {}
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    for _ in 0..10 {
        let mut stream =
            ask(address, "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert!(next(&mut stream).starts_with(b"HTTP/1.1 404"));
    }
    is_over.store(true, Ordering::Relaxed);
    for flooder in flooders {
        flooder.join().unwrap();
    }
}

/// The shard and the context of its tasks held each other: a dropped engine kept its connections and its
/// address.
#[test]
fn a_dropped_engine_lets_go_of_its_connections_and_its_address() {
    let (engine, address) = start(Config::default());
    let mut stream = ask(address, SSE);
    assert!(!next(&mut stream).is_empty());
    drop(engine);
    assert!(next(&mut stream).is_empty(), "its end is seen");
    let begun = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the address still accepts");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for another thread.
struct Thinks;

impl App for Thinks {
    async fn subscribe(&self, request: &Request<'_>) -> Admission {
        let shared: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
        let other = Arc::clone(&shared);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut shared = other.lock().unwrap();
            shared.0 = true;
            if let Some(waker) = shared.1.take() {
                waker.wake();
            }
        });
        std::future::poll_fn(|context| {
            let mut shared = shared.lock().unwrap();
            if shared.0 {
                return Poll::Ready(());
            }
            shared.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        Admission::as_asked(request)
    }
}

/// The runtime's wakers panicked on any thread but their own, so an application could wait for nothing
/// outside it.
#[test]
fn an_application_may_wait_for_another_thread() {
    let address = "127.0.0.1:0".parse().unwrap();
    let engine = Engine::builder().listen(address).shards(Shards::Count(1)).start(Thinks).unwrap();
    assert!(next(&mut ask(engine.local_addrs()[0], SSE)).starts_with(b"HTTP/1.1 200"));
}

/// Deadlines were counted in whole seconds from the beginning of the one that ran: `wait=1` was over at once.
#[test]
fn a_long_poll_is_held_as_long_as_it_asks() {
    let (_engine, address) = start(Config::default());
    for delay in [0, 170, 340, 510] {
        thread::sleep(Duration::from_millis(delay));
        let begun = Instant::now();
        let long_poll = "GET /events?topic=a&transport=long-poll&wait=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(next(&mut ask(address, long_poll)).starts_with(b"HTTP/1.1 200"));
        assert!(begun.elapsed() >= Duration::from_secs(1), "answered after {:?}", begun.elapsed());
    }
}
