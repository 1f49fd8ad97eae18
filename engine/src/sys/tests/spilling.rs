//! What becomes of sockets when the system makes no more rings: epoll holds them beside those that there are.
//! The filter that refuses rings holds for one thread, so each test has its own.

use super::waking::refuse_io_uring;
use super::*;

/// Sockets of the only ring that there is.
const IN_RING: usize = 4;

/// Runs `claim` on a thread that has one ring and gets no other; not where there is none at all.
fn with_one_ring(claim: fn(Shard)) {
    if let Err(reason) = crate::sys::probe() {
        return eprintln!("not tested: {reason}");
    }
    let alone = std::thread::spawn(move || {
        let options = ParkedOptions { table_sockets: IN_RING as u32, ..ParkedOptions::default() };
        let shard = Shard::with(&options);
        refuse_io_uring();
        claim(shard);
    });
    alone.join().unwrap();
}

fn connect(shard: &mut Shard, count: usize) -> Vec<(SocketId, TcpStream)> {
    (0..count).map(|token| shard.connect(token as u64)).collect()
}

#[test]
fn every_socket_is_served_whoever_holds_it() {
    with_one_ring(|mut shard| {
        let mut ends = connect(&mut shard, 3 * IN_RING);
        assert_eq!((shard.parked.rings(), shard.parked.len()), (1, 3 * IN_RING));
        assert_eq!(shard.parked.by_epoll(), 2 * IN_RING);
        let sends: Vec<_> =
            ends.iter().rev().map(|(socket, _)| Send { socket: *socket, bytes: b"all" }).collect();
        let mut failed = Vec::new();
        shard.parked.send_batch(&sends, &mut failed);
        assert_eq!(failed, []);
        for (token, (socket, client)) in ends.iter_mut().enumerate() {
            client.read_exact(&mut [0; 3]).unwrap();
            client.write_all(&[token as u8; 9_000]).unwrap();
            assert_eq!(shard.until_ready("an arrival", |ready| ready.readable), token as u64);
            assert_eq!(shard.receive_all(*socket).0, [token as u8; 9_000]);
        }
    });
}

#[test]
fn a_send_that_fails_is_told_under_its_place_in_the_batch() {
    with_one_ring(|mut shard| {
        let ends = connect(&mut shard, 2 * IN_RING);
        let full = [1, IN_RING + 2];
        for at in full {
            shard.fill(ends[at].0);
        }
        // Those of epoll stand first in the batch. The kernel may find a little room again, but not for so
        // much.
        let much = vec![b'x'; 100_003];
        let bytes = |at: usize| if full.contains(&at) { &much[..] } else { b"x" };
        let sends: Vec<_> =
            (0..ends.len()).rev().map(|at| Send { socket: ends[at].0, bytes: bytes(at) }).collect();
        let mut failed = vec![(99, SendOutcome::Full)];
        shard.parked.send_batch(&sends, &mut failed);
        let mut places: Vec<_> = failed.into_iter().map(|(at, _)| at).collect();
        assert_eq!(places.remove(0), 99, "what stood there before is left alone");
        places.sort_unstable();
        assert_eq!(places, [ends.len() - 1 - full[1], ends.len() - 1 - full[0]]);
        // Room is told to those that asked, and to nobody else.
        for at in full {
            shard.parked.watch_writable(ends[at].0, true);
            // Until the shard is dropped with this test.
            let mut client = ends[at].1.try_clone().unwrap();
            std::thread::spawn(move || while client.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {});
            let token = shard.until("room", |event| {
                matches!(event.kind, ParkedEventKind::Ready(ready) if ready.writable).then_some(event.token)
            });
            assert_eq!(token, at as u64);
        }
    });
}

#[test]
fn sockets_leave_in_every_way_and_places_in_the_ring_are_taken_first_again() {
    with_one_ring(|mut shard| {
        let ends = connect(&mut shard, IN_RING + 4);
        let mut clients = Vec::new();
        for (at, (socket, client)) in ends.into_iter().enumerate() {
            match at.checked_sub(IN_RING) {
                None => shard.parked.close(socket, Closing::Graceful),
                Some(0) => shard.parked.close(socket, Closing::Plain),
                Some(1) => shard.parked.close(socket, Closing::Graceful),
                Some(2) => shard.parked.close(socket, Closing::Abort),
                Some(_) => {
                    let mut own = TcpStream::from(shard.parked.take_back(socket).unwrap());
                    own.write_all(b"mine").unwrap();
                }
            }
            clients.push(client);
        }
        shard.parked.harvest(64, &mut shard.events);
        for (at, client) in clients.iter_mut().enumerate() {
            let expected = match at.checked_sub(IN_RING) {
                Some(2) => Err(ErrorKind::ConnectionReset),
                Some(3) => Ok(b"mine".to_vec()),
                _ => Ok(Vec::new()),
            };
            assert_eq!(rest(client), expected, "socket {at}");
        }
        drop(clients);
        shard.until_empty();
        assert_eq!(shard.events.len(), 0, "a socket that was closed has no more to say");
        let ends = connect(&mut shard, IN_RING + 1);
        assert_eq!((shard.parked.len(), shard.parked.by_epoll()), (IN_RING + 1, 1));
        drop(ends);
    });
}

#[test]
fn a_sleeping_shard_is_woken_by_a_socket_that_epoll_holds() {
    if let Err(reason) = crate::sys::probe() {
        return eprintln!("not tested: {reason}");
    }
    let alone = std::thread::spawn(move || {
        // The runtime's ring and one of ours, and then no more.
        let eventfd = EventFd::new().unwrap();
        let options = ParkedOptions { table_sockets: 1, ..ParkedOptions::default() };
        let (mut parked, runtime) = crate::sys::parked_and_runtime(&eventfd, &options).unwrap();
        refuse_io_uring();
        let (in_ring, _first) = pair();
        parked.add(in_ring.into(), 0).unwrap();
        let (server, mut client) = pair();
        let socket = parked.add(server.into(), 1).unwrap();
        assert_eq!(parked.by_epoll(), 1);
        let outside = std::thread::spawn(move || {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(10));
                client.write_all(b"x").unwrap();
            }
            client
        });
        let sleeps = runtime.block_on(async move {
            let sleeper = parked.sleeper(&eventfd).unwrap();
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
        });
        let sleeps = sleeps.unwrap();
        // A slow machine has several bytes come at once.
        assert!((2..200).contains(&sleeps), "{sleeps} sleeps for 20 wake-ups");
        drop(outside.join().unwrap());
    });
    alone.join().unwrap();
}
