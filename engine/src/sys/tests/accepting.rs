//! Connections that go from a listener into a parked set.

use super::*;

with_both! {
    those_who_wait_are_parked_and_served
    more_than_a_ring_has_places_for_are_parked_in_the_next
    a_look_for_more_than_wait_costs_no_place
    a_listener_that_is_shut_has_nobody
}

fn listener() -> TcpListener {
    listen("127.0.0.1:0".parse().unwrap(), 1, 64, &OPTIONS).unwrap().remove(0)
}

/// So many clients that the listener's queue holds.
fn clients(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    let before = waiting(listener);
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    let start = Instant::now();
    while waiting(listener) < before + count {
        assert!(start.elapsed() < PATIENCE, "{} wait", waiting(listener));
        std::thread::sleep(Duration::from_millis(1));
    }
    clients.iter().for_each(|client| client.set_read_timeout(Some(PATIENCE)).unwrap());
    clients
}

impl Shard {
    /// Accepts up to `max`, one by one where the set cannot; their names by the port of the client.
    fn accept(&mut self, listener: &TcpListener, max: usize) -> HashMap<u16, SocketId> {
        let mut connections = Vec::new();
        if !self.parked.accept(listener, max, &mut connections).unwrap() {
            assert!(connections.is_empty(), "it said that it cannot");
            for _ in 0..max {
                let Some((fd, peer)) = accept(listener).unwrap() else { break };
                connections.push((self.parked.add(fd, u64::MAX).unwrap(), peer));
            }
        }
        assert!(connections.len() <= max);
        connections.into_iter().map(|(socket, peer)| (peer.port(), socket)).collect()
    }
}

fn those_who_wait_are_parked_and_served(backend: Backend) {
    let mut shard = Shard::new(backend);
    let listener = listener();
    let mut clients = clients(&listener, 10);
    // What was said before anybody listened is heard as well.
    for (number, client) in clients.iter_mut().enumerate() {
        write!(client, "{number}").unwrap();
    }
    let mut sockets = shard.accept(&listener, 4);
    assert_eq!((sockets.len(), waiting(&listener)), (4, 6), "as many as were asked for");
    sockets.extend(shard.accept(&listener, 6));
    assert_eq!((sockets.len(), shard.parked.len(), waiting(&listener)), (10, 10, 0));
    for (number, client) in clients.iter_mut().enumerate() {
        let socket = sockets[&client.local_addr().unwrap().port()];
        shard.parked.hand_on(socket, number as u64);
        let (bytes, end) = shard.receive_all(socket);
        assert_eq!(bytes, number.to_string().as_bytes());
        assert!(matches!(end, ParkedEventKind::Drained), "{end:?}");
        assert_eq!(shard.send(socket, b"heard"), None);
        let mut heard = [0; 5];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"heard");
    }
    drop(clients.remove(3));
    assert_eq!(shard.until_ready("a hang-up", |ready| ready.hung_up), 3, "under the token that it was given");
}

fn more_than_a_ring_has_places_for_are_parked_in_the_next(backend: Backend) {
    let mut shard = Shard::with(&ParkedOptions { backend, table_sockets: 4, ..ParkedOptions::default() });
    let listener = listener();
    let _clients = clients(&listener, 10);
    let mut sockets = HashMap::new();
    for _ in 0..10 {
        sockets.extend(shard.accept(&listener, waiting(&listener)));
    }
    assert_eq!((sockets.len(), shard.parked.len(), waiting(&listener)), (10, 10, 0));
    assert_eq!(shard.parked.rings(), if backend == Backend::Ring { 3 } else { 0 });
}

fn a_look_for_more_than_wait_costs_no_place(backend: Backend) {
    let mut shard = Shard::with(&ParkedOptions { backend, table_sockets: 4, ..ParkedOptions::default() });
    let listener = listener();
    for _ in 0..20 {
        assert!(shard.accept(&listener, 64).is_empty());
    }
    let clients = clients(&listener, 3);
    let sockets = shard.accept(&listener, 64);
    assert_eq!(sockets.len(), 3);
    assert!(shard.parked.rings() <= 1, "nobody needs another ring");
    drop(clients);
    for socket in sockets.into_values() {
        shard.parked.close(socket, Closing::Plain);
    }
    shard.until_empty();
}

fn a_listener_that_is_shut_has_nobody(backend: Backend) {
    let mut shard = Shard::new(backend);
    let listener = listener();
    let stream = TcpStream::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
    stream.shutdown(Shutdown::Both).unwrap();
    let mut connections = Vec::new();
    assert!(!shard.parked.accept(&listener, 1, &mut connections).unwrap());
    assert!(accept(&listener).is_err());
    assert_eq!((connections.len(), shard.parked.len()), (0, 0));
}
