//! How a socket leaves: closed or taken back; and how its place is used again.

use super::*;

with_both! {
    nothing_of_a_closed_socket_reaches_the_next_one_in_its_place
    closing_while_a_receive_waits_loses_no_buffer
    a_socket_taken_back_has_its_unread_bytes_and_is_not_watched
    a_plain_close_says_fin_though_a_poll_is_armed
    an_abort_resets
    a_graceful_close_lets_the_peer_read_the_end
    a_graceful_close_ends_when_the_peer_does_not
    a_graceful_close_ends_when_the_peer_sends_too_much
    a_full_table_is_followed_by_another
    five_thousand_sockets_come_and_go_and_leave_nothing
}

fn inode(fd: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
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

/// The client has sent what nobody reads, and reads the answer late: a plain close resets, and takes the
/// answer away.
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
    for wave in 0..25u64 {
        let mut files = Vec::new();
        let mut ends = Vec::new();
        for token in 0..200 {
            let (server, client) = pair();
            files.push(inode(server.as_raw_fd()).unwrap());
            ends.push((shard.parked.add(server.into(), wave << 32 | token).unwrap(), client));
        }
        assert_eq!(shard.parked.len(), 200);
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

/// How many descriptors of this process are of one of these files. (Other tests open and close descriptors
/// meanwhile, but not of these files; a number can be given again.)
fn open_among(files: &[String]) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| inode(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(|file| files.contains(file))
        .count()
}
