//! Arrivals, hang-ups and receives.

use super::*;

with_both! {
    a_hang_up_is_seen
    bytes_come_before_the_fin_that_followed_them
    an_arrival_after_drained_is_reported_again
    what_is_there_before_parking_is_reported
    receives_wait_for_buffers_and_none_is_lost
    a_storm_of_hang_ups_comes_in_slices_and_whole
    a_socket_that_is_handed_on_reports_to_its_new_holder
    what_arrived_before_a_socket_was_handed_on_is_told_with_it
}

/// Receives once; answers the bytes.
fn receive_once(shard: &mut Shard, socket: SocketId) -> Vec<u8> {
    shard.parked.receive(socket);
    let received = shard.until("a receive", |event| match event.kind {
        ParkedEventKind::Received(received) => Some(received),
        _ => None,
    });
    let bytes = shard.parked.bytes(&received).to_vec();
    shard.parked.release(received);
    bytes
}

fn a_socket_that_is_handed_on_reports_to_its_new_holder(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    for token in 1..5 {
        client.write_all(b"more").unwrap();
        assert_eq!(shard.until_ready("an arrival", |ready| ready.readable), token);
        assert_eq!(receive_once(&mut shard, socket), b"more");
        let may_be_readable = shard.parked.hand_on(socket, token + 1);
        if backend == Backend::Ring {
            assert!(!may_be_readable, "all of it was read: a needless receive");
        }
    }
    drop(client);
    assert_eq!(shard.until_ready("FIN", |ready| ready.hung_up), 5);
}

fn what_arrived_before_a_socket_was_handed_on_is_told_with_it(backend: Backend) {
    let mut shard = Shard::new(backend);
    let (socket, mut client) = shard.connect(1);
    // Reported to the holder before, who forgets it.
    client.write_all(b"one").unwrap();
    assert!(!shard.settle().is_empty());
    assert!(shard.parked.hand_on(socket, 2));
    // More than a buffer: a receive that fills it says nothing of what is left.
    client.write_all(&[b'x'; 5_000]).unwrap();
    shard.settle();
    let size = ParkedOptions::default().buffer_bytes as usize;
    let first = receive_once(&mut shard, socket);
    assert_eq!(first.len(), size);
    assert!(shard.parked.hand_on(socket, 3));
    assert_eq!(receive_once(&mut shard, socket).len(), 3 + 5_000 - size);
    // A receive of what came before FIN empties the socket but for its end.
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    shard.settle();
    assert_eq!(receive_once(&mut shard, socket), b"last");
    assert!(shard.parked.hand_on(socket, 4));
    assert!(matches!(shard.receive_all(socket), (rest, ParkedEventKind::End) if rest.is_empty()));
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
