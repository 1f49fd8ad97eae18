//! Parked sockets on real connections, the same tests with rings and with epoll.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;

/// Runs each claim with both backends; with rings only where the kernel has them.
macro_rules! with_both {
    ($($claim:ident)*) => {
        mod ring {
            $(#[test]
            fn $claim() {
                match crate::sys::probe() {
                    Ok(()) => super::$claim(crate::sys::Backend::Ring),
                    Err(reason) => eprintln!("not tested: {reason}"),
                }
            })*
        }
        mod epoll {
            $(#[test]
            fn $claim() {
                super::$claim(crate::sys::Backend::Epoll);
            })*
        }
    };
}

with_both! {
    a_send_that_succeeds_says_nothing_and_arrives
    what_the_kernel_took_of_a_long_send_is_told_to_the_byte
    a_send_to_a_peer_that_has_reset_fails
    a_drained_socket_is_reported_writable
    room_to_send_is_reported_at_once_and_only_while_watched
    a_watch_begins_though_an_arrival_was_not_harvested
    a_batch_of_failures_is_told_whole_whatever_its_size
    a_hang_up_is_seen
    bytes_come_before_the_fin_that_followed_them
    an_arrival_after_drained_is_reported_again
    what_is_there_before_parking_is_reported
    nothing_of_a_closed_socket_reaches_the_next_one_in_its_place
    receives_wait_for_buffers_and_none_is_lost
    closing_while_a_receive_waits_loses_no_buffer
    a_socket_taken_back_has_its_unread_bytes_and_is_not_watched
    a_plain_close_says_fin_though_a_poll_is_armed
    an_abort_resets
    a_graceful_close_lets_the_peer_read_the_end
    a_graceful_close_ends_when_the_peer_does_not
    a_graceful_close_ends_when_the_peer_sends_too_much
    a_storm_of_hang_ups_comes_in_slices_and_whole
    a_full_table_is_followed_by_another
    five_thousand_sockets_come_and_go_and_leave_nothing
    a_sleeping_task_is_woken_by_a_publisher_and_by_a_socket
}

const PATIENCE: Duration = Duration::from_secs(10);

struct Shard {
    eventfd: EventFd,
    parked: ParkedSet,
    events: Vec<ParkedEvent>,
}

impl Shard {
    fn new(backend: Backend) -> Self {
        Self::with(&ParkedOptions { backend, table_sockets: 1024, ..ParkedOptions::default() })
    }

    fn with(options: &ParkedOptions) -> Self {
        let eventfd = EventFd::new().unwrap();
        let parked = ParkedSet::new(&eventfd, options).unwrap();
        Self { eventfd, parked, events: Vec::new() }
    }

    /// Parks the server's end of a new connection; answers its name and the client's end.
    fn connect(&mut self, token: u64) -> (SocketId, TcpStream) {
        let (server, client) = pair();
        (self.parked.add(server.into(), token).unwrap(), client)
    }

    /// All events until there is none for a moment.
    fn settle(&mut self) -> Vec<ParkedEvent> {
        let mut quiet = 0;
        while quiet < 20 {
            let more = self.parked.harvest(64, &mut self.events);
            quiet = if more { 0 } else { quiet + 1 };
            std::thread::sleep(Duration::from_millis(1));
        }
        std::mem::take(&mut self.events)
    }

    /// The first event that `wanted` takes something from; those before it are dropped, those after it kept.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(ParkedEvent) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            self.parked.harvest(64, &mut self.events);
            while !self.events.is_empty() {
                if let Some(found) = wanted(self.events.remove(0)) {
                    return found;
                }
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn until_ready(&mut self, what: &str, wanted: impl Fn(Readiness) -> bool) -> u64 {
        self.until(what, |event| match event.kind {
            ParkedEventKind::Ready(readiness) if wanted(readiness) => Some(event.token),
            _ => None,
        })
    }

    /// Receives until there is nothing more; answers the bytes, and how that was said.
    fn receive_all(&mut self, socket: SocketId) -> (Vec<u8>, ParkedEventKind) {
        let mut bytes = Vec::new();
        loop {
            self.parked.receive(socket);
            let kind = self.until("the answer to a receive", |event| match event.kind {
                ParkedEventKind::Ready(_) => None,
                kind => Some(kind),
            });
            match kind {
                ParkedEventKind::Received(received) => {
                    bytes.extend_from_slice(self.parked.bytes(&received));
                    self.parked.release(received);
                }
                kind => return (bytes, kind),
            }
        }
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8]) -> Option<SendOutcome> {
        let mut failed = Vec::new();
        self.parked.send_batch(&[Send { socket, bytes }], &mut failed);
        assert!(failed.len() <= 1);
        failed.pop().map(|(at, outcome)| {
            assert_eq!(at, 0);
            outcome
        })
    }

    /// Fills the socket, and what the peer's kernel takes, until nothing more goes in; answers how many bytes went in.
    fn fill(&mut self, socket: SocketId) -> usize {
        let bytes = vec![b'x'; 100_003];
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..1000 {
            match self.send(socket, &bytes) {
                None => taken += bytes.len(),
                Some(SendOutcome::Short(count)) => {
                    assert!((1..bytes.len()).contains(&count));
                    taken += count;
                }
                // The peer's receive window grows a little later.
                Some(SendOutcome::Full) if refused < 10 => {
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Some(SendOutcome::Full) => return taken,
                Some(failed) => panic!("{failed:?}"),
            }
            refused = 0;
        }
        panic!("the socket takes everything");
    }

    fn until_empty(&mut self) {
        let start = Instant::now();
        while self.parked.len() > 0 || self.parked.has_work() {
            self.parked.harvest(64, &mut self.events);
            assert!(start.elapsed() < PATIENCE, "{} sockets do not go", self.parked.len());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Both ends of a connection over loopback, the server's with a small send buffer.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (server, _) = listener.accept().unwrap();
    let options = SocketOptions {
        stalled: Duration::from_secs(60),
        unsent_bytes: 16 << 10,
        send_buffer_bytes: 64 << 10,
    };
    options.set(server.as_fd()).unwrap();
    (server, client)
}

/// What the client reads up to the end of the connection.
fn rest(client: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).map_err(|error| error.kind())?;
    Ok(bytes)
}

fn inode(fd: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn a_send_that_succeeds_says_nothing_and_arrives(backend: Backend) {
    let mut shard = Shard::new(backend);
    let mut ends: Vec<_> = (0..100).map(|token| shard.connect(token)).collect();
    let texts: Vec<_> = (0..ends.len()).map(|at| format!("event {at}")).collect();
    let sends: Vec<_> = ends
        .iter()
        .zip(&texts)
        .map(|((socket, _), text)| Send { socket: *socket, bytes: text.as_bytes() })
        .collect();
    let mut failed = Vec::new();
    shard.parked.send_batch(&sends, &mut failed);
    assert_eq!(failed, []);
    for ((_, client), text) in ends.iter_mut().zip(&texts) {
        let mut read = vec![0; text.len()];
        client.read_exact(&mut read).unwrap();
        assert_eq!(read, text.as_bytes());
    }
    assert!(shard.settle().is_empty(), "nothing happened to the sockets");
}

fn what_the_kernel_took_of_a_long_send_is_told_to_the_byte(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    let taken = shard.fill(socket);
    assert_eq!(shard.send(socket, b"y"), Some(SendOutcome::Full));
    shard.parked.close(socket, Closing::Plain);
    shard.until_empty();
    assert_eq!(rest(&mut client).unwrap().len(), taken);
}

fn a_send_to_a_peer_that_has_reset_fails(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (good, mut other) = shard.connect(1);
    let (broken, client) = shard.connect(2);
    reset_on_close(client.as_fd()).unwrap();
    drop(client);
    assert_eq!(shard.until_ready("the reset", |ready| ready.error), 2);
    let mut failed = Vec::new();
    let sends = [Send { socket: broken, bytes: b"a" }, Send { socket: good, bytes: b"b" }];
    shard.parked.send_batch(&sends, &mut failed);
    assert_eq!(failed.len(), 1);
    assert!(matches!(failed[0], (0, SendOutcome::Failed(libc::ECONNRESET | libc::EPIPE))), "{failed:?}");
    shard.parked.close(broken, Closing::Plain);
    shard.parked.close(good, Closing::Plain);
    shard.until_empty();
    assert_eq!(rest(&mut other).unwrap(), b"b");
}

fn a_drained_socket_is_reported_writable(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(7);
    let taken = shard.fill(socket);
    shard.parked.watch_writable(socket, true);
    let before = shard.settle();
    assert!(before.is_empty(), "it is full, and yet: {before:?}");
    client.read_exact(&mut vec![0; taken]).unwrap();
    assert_eq!(shard.until_ready("room to send", |ready| ready.writable), 7);
    // It stays watched.
    let taken = shard.fill(socket);
    assert!(taken > 0);
    shard.settle();
    client.read_exact(&mut vec![0; taken]).unwrap();
    assert_eq!(shard.until_ready("room again", |ready| ready.writable), 7);
}

fn room_to_send_is_reported_at_once_and_only_while_watched(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(7);
    shard.settle();
    shard.parked.watch_writable(socket, true);
    shard.until_ready("room to send", |ready| ready.writable);
    shard.parked.watch_writable(socket, false);
    shard.settle();
    // What the kernel found before it was told to stop is not reported either.
    shard.parked.watch_writable(socket, true);
    shard.parked.watch_writable(socket, false);
    client.write_all(b"x").unwrap();
    for _ in 0..2 {
        let events = shard.settle();
        for event in events {
            let ParkedEventKind::Ready(readiness) = event.kind else { panic!("{event:?}") };
            assert!(!readiness.writable, "{readiness:?}");
        }
        assert!(shard.fill(socket) > 0);
        let _ = client.read(&mut vec![0; 1 << 20]).unwrap();
    }
}

fn a_watch_begins_though_an_arrival_was_not_harvested(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(7);
    shard.settle();
    for _ in 0..30 {
        client.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(1));
        shard.parked.watch_writable(socket, true);
        shard.until_ready("room to send", |ready| ready.writable);
        client.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(1));
        shard.parked.watch_writable(socket, false);
        let (bytes, _) = shard.receive_all(socket);
        assert!(!bytes.is_empty());
    }
}

fn a_batch_of_failures_is_told_whole_whatever_its_size(backend: Backend) {
    // More than the completion queue of a ring holds; with arrivals among them that must not get lost.
    const SENDS: usize = 20_000;
    let mut shard = Shard::new(backend);
    let (broken, client) = shard.connect(1);
    let others: Vec<_> = (2..100).map(|token| shard.connect(token)).collect();
    reset_on_close(client.as_fd()).unwrap();
    drop(client);
    shard.until_ready("the reset", |ready| ready.error);
    others.iter().for_each(|(_, client)| drop((&*client).write_all(b"x")));
    let mut failed = Vec::new();
    shard.parked.send_batch(&[Send { socket: broken, bytes: b"a" }; SENDS], &mut failed);
    let mut told: Vec<_> = failed.iter().map(|(at, _)| *at).collect();
    told.sort_unstable();
    assert!(told.into_iter().eq(0..SENDS), "each once");
    let mut arrived: Vec<_> =
        shard.settle().iter().map(|event| event.token).filter(|token| *token > 1).collect();
    arrived.sort_unstable();
    arrived.dedup();
    assert!(arrived.into_iter().eq(2..100), "each socket has its arrival");
}

fn a_hang_up_is_seen(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (_, half) = shard.connect(1);
    let (_, whole) = shard.connect(2);
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!(shard.until_ready("FIN", |ready| ready.hung_up && ready.readable), 1);
    drop(whole);
    assert_eq!(shard.until_ready("FIN", |ready| ready.hung_up && ready.readable), 2);
}

fn bytes_come_before_the_fin_that_followed_them(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    let sent: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    shard.until_ready("FIN", |ready| ready.hung_up);
    let (bytes, end) = shard.receive_all(socket);
    assert!(matches!(end, ParkedEventKind::End), "{end:?}");
    assert_eq!(bytes, sent);
}

fn an_arrival_after_drained_is_reported_again(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    for text in [b"one".as_slice(), b"two", b"three"] {
        client.write_all(text).unwrap();
        shard.until_ready("an arrival", |ready| ready.readable && !ready.hung_up);
        let (bytes, end) = shard.receive_all(socket);
        assert!(matches!(end, ParkedEventKind::Drained), "{end:?}");
        assert_eq!(bytes, text);
    }
}

fn what_is_there_before_parking_is_reported(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (server, mut client) = pair();
    client.write_all(b"early").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let socket = shard.parked.add(server.into(), 3).unwrap();
    assert_eq!(shard.until_ready("what was there", |ready| ready.readable && ready.hung_up), 3);
    assert_eq!(shard.receive_all(socket).0, b"early");
}

fn nothing_of_a_closed_socket_reaches_the_next_one_in_its_place(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (mut socket, mut client) = shard.connect(0);
    for token in 1..50 {
        // An arrival and a hang-up that nobody has harvested, and a receive under way.
        client.write_all(b"late").unwrap();
        drop(client);
        shard.parked.receive(socket);
        shard.parked.watch_writable(socket, true);
        shard.parked.close(socket, Closing::Plain);
        let mut events = Vec::new();
        while shard.parked.harvest(1, &mut events) {}
        let next = shard.connect(token);
        assert_eq!(next.0, socket, "the place is used again");
        events.extend(shard.settle());
        assert!(events.is_empty(), "{events:?}");
        (socket, client) = next;
    }
    client.write_all(b"mine").unwrap();
    assert_eq!(shard.until_ready("an arrival", |ready| ready.readable), 49);
    assert_eq!(shard.receive_all(socket).0, b"mine");
}

fn receives_wait_for_buffers_and_none_is_lost(backend: Backend) {
    let options = ParkedOptions { backend, table_sockets: 64, buffers: 4, buffer_bytes: 64 };
    let mut shard = Shard::with(&options);
    let ends: Vec<_> = (0..50).map(|token| shard.connect(token)).collect();
    for (at, (_, client)) in ends.iter().enumerate() {
        (&*client).write_all(format!("text {at}").as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(20));
    ends.iter().for_each(|(socket, _)| shard.parked.receive(*socket));
    let mut answers = HashMap::new();
    let mut held = Vec::new();
    while answers.len() < ends.len() {
        let (token, received) = shard.until("a receive", |event| match event.kind {
            ParkedEventKind::Received(received) => Some((event.token, received)),
            ParkedEventKind::Ready(_) => None,
            kind => panic!("{kind:?}"),
        });
        let text = String::from_utf8(shard.parked.bytes(&received).to_vec()).unwrap();
        assert_eq!(answers.insert(token, text), None, "one answer each");
        held.push(received);
        if held.len() == 4 {
            // All buffers are held: the others wait.
            assert!(shard.settle().iter().all(|event| matches!(event.kind, ParkedEventKind::Ready(_))));
            held.drain(..).for_each(|received| shard.parked.release(received));
            assert!(shard.parked.has_work(), "nobody sleeps while a receive can go on");
        }
    }
    assert!(answers.iter().all(|(token, text)| *text == format!("text {token}")));
}

fn closing_while_a_receive_waits_loses_no_buffer(backend: Backend) {
    let options = ParkedOptions { backend, table_sockets: 64, buffers: 2, buffer_bytes: 64 };
    let mut shard = Shard::with(&options);
    for round in 0..20 {
        let ends: Vec<_> = (0..5).map(|token| shard.connect(token)).collect();
        for (at, (socket, client)) in ends.iter().enumerate() {
            (&*client).write_all(b"x").unwrap();
            shard.parked.receive(*socket);
            let how = [Closing::Plain, Closing::Graceful, Closing::Abort][(at + round) % 3];
            shard.parked.close(*socket, how);
        }
        drop(ends);
        shard.until_empty();
    }
    assert!(shard.events.is_empty(), "{:?}", shard.events);
    let (socket, mut client) = shard.connect(9);
    client.write_all(&[b'y'; 200]).unwrap();
    assert_eq!(shard.receive_all(socket).0.len(), 200);
}

fn a_socket_taken_back_has_its_unread_bytes_and_is_not_watched(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    client.write_all(b"unread").unwrap();
    shard.until_ready("an arrival", |ready| ready.readable);
    let mut server = TcpStream::from(shard.parked.take_back(socket).unwrap());
    assert_eq!(shard.parked.len(), 0);
    assert!(shard.settle().is_empty());
    client.write_all(b" more").unwrap();
    assert!(shard.settle().is_empty(), "nobody watches it");
    let mut bytes = [0; 11];
    server.set_nonblocking(false).unwrap();
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"unread more");
    // And back again.
    let socket = shard.parked.add(server.into(), 2).unwrap();
    client.write_all(b"third").unwrap();
    assert_eq!(shard.until_ready("an arrival", |ready| ready.readable), 2);
    let server = shard.parked.take_back(socket).unwrap();
    shard.settle();
    drop(server);
    assert_eq!(rest(&mut client), Err(ErrorKind::ConnectionReset), "closed with unread bytes");
}

fn a_plain_close_says_fin_though_a_poll_is_armed(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    shard.settle();
    assert_eq!(shard.send(socket, b"end"), None);
    shard.parked.close(socket, Closing::Plain);
    while shard.parked.harvest(64, &mut shard.events) {}
    assert_eq!(rest(&mut client).unwrap(), b"end");
    assert_eq!(shard.parked.len(), 0);
}

fn an_abort_resets(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    shard.parked.close(socket, Closing::Abort);
    shard.until_empty();
    assert_eq!(rest(&mut client), Err(ErrorKind::ConnectionReset));
}

/// The client has sent what nobody reads, and reads the answer late: a plain close resets, and takes the answer away.
fn answer_with_unread_request(backend: Backend, how: Closing) -> Result<usize, ErrorKind> {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    client.write_all(&[b'q'; 8_192]).unwrap();
    shard.until_ready("the request", |ready| ready.readable);
    assert_eq!(shard.send(socket, &[b'a'; 20_000]), None);
    shard.parked.close(socket, how);
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        let bytes = rest(&mut client);
        drop(client);
        bytes
    });
    shard.until_empty();
    reader.join().unwrap().map(|bytes| bytes.len())
}

fn a_graceful_close_lets_the_peer_read_the_end(backend: Backend) {
    assert_eq!(answer_with_unread_request(backend, Closing::Graceful), Ok(20_000));
    assert_eq!(answer_with_unread_request(backend, Closing::Plain), Err(ErrorKind::ConnectionReset));
}

fn a_graceful_close_ends_when_the_peer_does_not(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    shard.parked.close(socket, Closing::Graceful);
    assert_eq!(rest_while(&mut shard, &mut client), b"", "FIN came");
    let start = Instant::now();
    assert_eq!(shard.parked.len(), 1, "it waits for the peer's FIN");
    shard.until_empty();
    assert!((500..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(shard.events.is_empty(), "{:?}", shard.events);
}

/// Reads to the FIN while the shard works.
fn rest_while(shard: &mut Shard, client: &mut TcpStream) -> Vec<u8> {
    client.set_nonblocking(true).unwrap();
    let (mut bytes, start) = (Vec::new(), Instant::now());
    loop {
        shard.parked.harvest(64, &mut shard.events);
        match client.read_to_end(&mut bytes) {
            Ok(_) => return bytes,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn a_graceful_close_ends_when_the_peer_sends_too_much(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, client) = shard.connect(1);
    shard.parked.close(socket, Closing::Graceful);
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let start = Instant::now();
    let writer = std::thread::spawn(move || while (&client).write_all(&[b'f'; 4096]).is_ok() {});
    shard.until_empty();
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    writer.join().unwrap();
}

fn a_storm_of_hang_ups_comes_in_slices_and_whole(backend: Backend) {
    const SOCKETS: u64 = 300;
    let mut shard = Shard::with(&ParkedOptions { backend, table_sockets: 100, ..ParkedOptions::default() });
    let ends: Vec<_> = (0..SOCKETS).map(|token| shard.connect(token)).collect();
    assert!(shard.settle().is_empty());
    let sockets: Vec<_> = ends.iter().map(|(socket, _)| *socket).collect();
    drop(ends);
    let mut hung_up = vec![false; sockets.len()];
    let start = Instant::now();
    while hung_up.contains(&false) {
        let mut events = Vec::new();
        shard.parked.harvest(16, &mut events);
        assert!(events.len() <= 16, "{} events", events.len());
        for event in events {
            assert!(
                matches!(event.kind, ParkedEventKind::Ready(Readiness { hung_up: true, .. })),
                "{event:?}"
            );
            if !std::mem::replace(&mut hung_up[event.token as usize], true) {
                shard.parked.close(sockets[event.token as usize], Closing::Plain);
            }
        }
        assert!(start.elapsed() < PATIENCE, "some hang-ups do not come");
    }
    shard.until_empty();
}

fn a_full_table_is_followed_by_another(backend: Backend) {
    let mut shard = Shard::with(&ParkedOptions { backend, table_sockets: 8, ..ParkedOptions::default() });
    let mut ends: Vec<_> = (0..20).map(|token| shard.connect(token)).collect();
    assert_eq!(shard.parked.rings(), if backend == Backend::Ring { 3 } else { 0 });
    assert_eq!(shard.parked.len(), 20);
    let sends: Vec<_> = ends.iter().map(|(socket, _)| Send { socket: *socket, bytes: b"all" }).collect();
    let mut failed = Vec::new();
    shard.parked.send_batch(&sends, &mut failed);
    assert_eq!(failed, []);
    for (token, (socket, client)) in ends.iter_mut().enumerate() {
        client.read_exact(&mut [0; 3]).unwrap();
        client.write_all(&[token as u8]).unwrap();
        assert_eq!(shard.until_ready("an arrival", |ready| ready.readable), token as u64);
        assert_eq!(shard.receive_all(*socket).0, [token as u8]);
    }
    // Places of the first table are used again before there is a fourth.
    for (socket, _) in ends.drain(..8) {
        shard.parked.close(socket, Closing::Plain);
    }
    while shard.parked.harvest(64, &mut shard.events) {}
    let more: Vec<_> = (20..32).map(|token| shard.connect(token)).collect();
    assert_eq!(shard.parked.rings(), if backend == Backend::Ring { 3 } else { 0 });
    assert_eq!(shard.parked.len(), 24);
    drop(more);
}

fn five_thousand_sockets_come_and_go_and_leave_nothing(backend: Backend) {
    let mut shard = Shard::new(backend);
    for wave in 0..10u64 {
        let mut files = Vec::new();
        let mut ends = Vec::new();
        for token in 0..500 {
            let (server, client) = pair();
            files.push(inode(server.as_raw_fd()).unwrap());
            ends.push((shard.parked.add(server.into(), wave << 32 | token).unwrap(), client));
        }
        assert_eq!(shard.parked.len(), 500);
        if backend == Backend::Ring {
            assert_eq!(open_among(&files), 0, "a parked socket has no descriptor");
        }
        let mut clients = Vec::new();
        for (at, (socket, client)) in ends.into_iter().enumerate() {
            match (at + wave as usize) % 4 {
                0 => shard.parked.close(socket, Closing::Plain),
                1 => shard.parked.close(socket, Closing::Graceful),
                2 => shard.parked.close(socket, Closing::Abort),
                _ => drop(shard.parked.take_back(socket).unwrap()),
            }
            clients.push(client);
        }
        while shard.parked.harvest(64, &mut shard.events) {}
        for (at, client) in clients.iter_mut().enumerate() {
            let end = rest(client);
            let expected =
                if (at + wave as usize) % 4 == 2 { Err(ErrorKind::ConnectionReset) } else { Ok(vec![]) };
            assert_eq!(end, expected, "wave {wave}, socket {at}");
        }
        drop(clients);
        shard.until_empty();
        assert_eq!(open_among(&files), 0, "wave {wave}");
    }
    assert!(shard.parked.rings() <= 1);
}

/// How many descriptors of this process are of one of these files. (Other tests open and close descriptors meanwhile, but
/// not of these files; a number can be given again.)
fn open_among(files: &[String]) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| inode(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(|file| files.contains(file))
        .count()
}

fn a_sleeping_task_is_woken_by_a_publisher_and_by_a_socket(backend: Backend) {
    let eventfd = Arc::new(EventFd::new().unwrap());
    let publisher = Arc::clone(&eventfd);
    let (server, mut client) = pair();
    let outside = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            publisher.wake();
            std::thread::sleep(Duration::from_millis(5));
            client.write_all(b"x").unwrap();
        }
        client
    });
    let main = async move {
        let mut parked =
            ParkedSet::new(&eventfd, &ParkedOptions { backend, ..ParkedOptions::default() }).unwrap();
        let sleeper = parked.sleeper(&eventfd).unwrap();
        let socket = parked.add(server.into(), 1).unwrap();
        let (mut sleeps, mut bytes, mut events) = (0, 0, Vec::new());
        while bytes < 20 {
            while parked.harvest(16, &mut events) {}
            for event in events.drain(..) {
                match event.kind {
                    ParkedEventKind::Ready(_) => parked.receive(socket),
                    ParkedEventKind::Received(received) => {
                        bytes += parked.bytes(&received).len();
                        parked.release(received);
                    }
                    kind => panic!("{kind:?}"),
                }
            }
            eventfd.drain();
            if bytes < 20 && !parked.has_work() {
                let timeout = monoio::time::timeout(PATIENCE, sleeper.wait()).await;
                timeout.expect("a wake-up is lost").unwrap();
                sleeps += 1;
            }
        }
        sleeps
    };
    let sleeps = block_on(backend, main).unwrap();
    assert!((20..200).contains(&sleeps), "{sleeps} sleeps for 40 wake-ups");
    drop(outside.join().unwrap());
}

/// Refuses io_uring to this thread and those that it starts, as container runtimes do.
pub(crate) fn refuse_io_uring() {
    const LOAD_SYSCALL: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_SYSCALL, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel reads the program and its steps during the call.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn where_io_uring_is_refused_epoll_takes_its_place() {
    let refused = std::thread::spawn(|| {
        refuse_io_uring();
        let (backend, reason) = Backend::available();
        assert_eq!(backend, Backend::Epoll);
        assert!(reason.unwrap().contains("not allowed"));
        a_sleeping_task_is_woken_by_a_publisher_and_by_a_socket(backend);
    });
    refused.join().unwrap();
}

#[test]
fn a_second_engine_cannot_listen_where_one_does() {
    let options = SocketOptions {
        stalled: Duration::from_secs(5),
        unsent_bytes: 16 << 10,
        send_buffer_bytes: 256 << 10,
    };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listeners = match listen(address.parse().unwrap(), 3, 64, &options) {
            Ok(listeners) => listeners,
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => continue,
            Err(error) => panic!("{error}"),
        };
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(listen(address, 3, 64, &options).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listeners);
        assert!(listen(address, 1, 64, &options).is_ok(), "and can when it has gone");
    }
}

#[test]
fn connections_are_spread_over_the_shards_and_have_the_options() {
    let options = SocketOptions {
        stalled: Duration::from_secs(5),
        unsent_bytes: 16 << 10,
        send_buffer_bytes: 128 << 10,
    };
    let listeners = listen("127.0.0.1:0".parse().unwrap(), 2, 128, &options).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let clients: Vec<_> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut counts = vec![0; listeners.len()];
    for (listener, count) in listeners.iter().zip(&mut counts) {
        while let Some((fd, peer)) = accept(listener).unwrap() {
            *count += 1;
            assert_eq!(peer_address(fd.as_fd()).unwrap(), peer);
            assert!(clients.iter().any(|client| client.local_addr().unwrap() == peer));
            assert_connection(fd);
        }
    }
    assert_eq!(counts.iter().sum::<i32>(), 60);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

fn assert_connection(fd: OwnedFd) {
    // SAFETY: takes no pointer.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    for (level, option, expected) in [
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 5_000),
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 16 << 10),
        (libc::SOL_SOCKET, libc::SO_SNDBUF, 128 << 10),
    ] {
        let (mut value, mut len) = (-1i32, 4);
        // SAFETY: the kernel writes at most the four bytes of `value`.
        let done =
            unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len) };
        assert_eq!((done, value), (0, expected), "option {option}");
    }
}

#[test]
fn the_limits_and_processors_are_those_of_this_process() {
    let raised = raise_descriptor_limit().unwrap();
    assert_eq!(raised.soft, raised.hard);
    assert_eq!(descriptor_limit().unwrap(), raised);
    let cpus = allowed_cpus().unwrap();
    assert!(!cpus.is_empty() && cpus.is_sorted());
    let last = *cpus.last().unwrap();
    std::thread::spawn(move || {
        pin_thread(last).unwrap();
        assert_eq!(allowed_cpus().unwrap(), [last]);
        assert!(pin_thread(1_000_000).is_err());
    })
    .join()
    .unwrap();
}

#[test]
fn both_signals_are_waited_for() {
    let mut signals = Signals::install().unwrap();
    assert_eq!(Signals::install().unwrap_err().kind(), ErrorKind::AlreadyExists);
    for (number, signal) in [(libc::SIGTERM, Signal::Terminate), (libc::SIGINT, Signal::Interrupt)] {
        // SAFETY: the handler of this process is the one that was just installed.
        assert_eq!(unsafe { libc::raise(number) }, 0);
        assert_eq!(signals.wait().unwrap(), signal);
    }
}
