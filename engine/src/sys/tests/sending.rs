//! Sends, and room to send.

use super::*;

with_both! {
    a_send_that_succeeds_says_nothing_and_arrives
    what_the_kernel_took_of_a_long_send_is_told_to_the_byte
    a_send_to_a_peer_that_has_reset_fails
    a_drained_socket_is_reported_writable
    room_to_send_is_reported_at_once_and_only_while_watched
    a_watch_begins_though_an_arrival_was_not_harvested
    a_batch_of_failures_is_told_whole_whatever_its_size
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
    crate::sys::sockopt::reset_on_close(client.as_fd()).unwrap();
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
    crate::sys::sockopt::reset_on_close(client.as_fd()).unwrap();
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
