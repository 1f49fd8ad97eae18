//! Parked sockets on real connections, the same tests with rings and with epoll.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
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

mod accepting;
mod leaving;
mod receiving;
mod sending;
mod spilling;
mod waking;

const PATIENCE: Duration = Duration::from_secs(10);

struct Shard {
    /// Lives as long as the rings that are registered with it.
    _eventfd: EventFd,
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
        Self { _eventfd: eventfd, parked, events: Vec::new() }
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

    /// Fills the socket, and what the peer's kernel takes, until nothing more goes in; answers how many bytes
    /// went in.
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
    OPTIONS.set(server.as_fd()).unwrap();
    (server, client)
}

/// Of the server's ends: a small send buffer.
const OPTIONS: SocketOptions =
    SocketOptions { stalled: Duration::from_secs(60), unsent_bytes: 16 << 10, send_buffer_bytes: 64 << 10 };

/// What the client reads up to the end of the connection.
fn rest(client: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).map_err(|error| error.kind())?;
    Ok(bytes)
}
