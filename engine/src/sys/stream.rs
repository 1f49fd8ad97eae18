//! The socket of a task: system calls that never wait, and waits that may be given up.
//!
//! A task that reads by an operation of the runtime loses bytes when it gives the read up (measured), and
//! cannot give its descriptor away while one is under way. Here only polls are ever under way; bytes are
//! moved by plain system calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use monoio::net::TcpStream;

use super::sockopt;
use super::turn::fairly;

/// A connected socket. It is made known to the runtime only once there is something to wait for.
#[derive(Debug)]
pub(crate) struct Stream {
    /// None only after the runtime had no room for it.
    inner: Option<Inner>,
    /// A wait has begun and not ended.
    is_waiting: bool,
    /// A wait was given up: the runtime may hold the descriptor for some moments more.
    is_held: bool,
}

#[derive(Debug)]
enum Inner {
    Plain(OwnedFd),
    Watched(TcpStream),
}

impl Stream {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { inner: Some(Inner::Plain(socket)), is_waiting: false, is_held: false }
    }

    /// Receives what is there, at most `bytes_max`, and appends it to `buffer`: none if the peer has sent
    /// FIN.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there, and whatever `recv(2)` says.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        let start = buffer.len();
        buffer.resize(start + bytes_max, 0);
        let received = match buffer.get_mut(start..) {
            Some(space) => sockopt::receive(self.fd()?, space).map_err(io::Error::from_raw_os_error),
            None => Ok(0),
        };
        buffer.truncate(start + received.as_ref().copied().unwrap_or(0));
        received
    }

    /// Sends what fits at once.
    ///
    /// # Errors
    /// `WouldBlock` if nothing fits, and whatever `send(2)` says.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        sockopt::send(self.fd()?, bytes).map_err(io::Error::from_raw_os_error)
    }

    /// Says FIN; receiving goes on.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn shutdown_sending(&self) -> io::Result<()> {
        sockopt::shutdown_sending(self.fd()?)
    }

    /// Waits until there is something to receive: bytes, FIN or an error; the other tasks of the runtime have
    /// their turn meanwhile, also if there is something already. Dropping the future is fine.
    ///
    /// # Errors
    /// The runtime has no room for one more socket.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        fairly(self.watch()?.readable(false)).await?;
        self.is_waiting = false;
        Ok(())
    }

    /// Waits until there is room to send, as [`Stream::readable`] does. Dropping the future is fine.
    ///
    /// # Errors
    /// The runtime has no room for one more socket.
    pub(crate) async fn writable(&mut self) -> io::Result<()> {
        fairly(self.watch()?.writable(false)).await?;
        self.is_waiting = false;
        Ok(())
    }

    /// The socket again.
    ///
    /// # Errors
    /// A wait was given up and no descriptor is free for a moment; the connection is closed then.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        match self.inner.ok_or(io::ErrorKind::NotConnected)? {
            Inner::Plain(socket) => Ok(socket),
            // The poll that was given up still holds the stream: another descriptor of the socket goes out,
            // and the runtime closes its own when the poll has ended.
            Inner::Watched(stream) if self.is_waiting || self.is_held => borrow(&stream).try_clone_to_owned(),
            Inner::Watched(stream) => {
                // SAFETY: the stream was the owner and has given its descriptor up.
                Ok(unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) })
            }
        }
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.inner {
            Some(Inner::Plain(socket)) => Ok(socket.as_fd()),
            Some(Inner::Watched(stream)) => Ok(borrow(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The stream that the runtime knows; a wait is to follow.
    fn watch(&mut self) -> io::Result<&TcpStream> {
        self.is_held |= self.is_waiting;
        self.is_waiting = true;
        let inner = match self.inner.take().ok_or(io::ErrorKind::NotConnected)? {
            Inner::Plain(socket) => Inner::Watched(TcpStream::from_std(std::net::TcpStream::from(socket))?),
            watched => watched,
        };
        match self.inner.insert(inner) {
            Inner::Watched(stream) => Ok(stream),
            Inner::Plain(_) => unreachable!("it was made known to the runtime just now"),
        }
    }
}

fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns its descriptor, and the answer does not live longer than the borrow of the
    // stream.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::time::Duration;

    use super::*;
    use crate::sys::{Backend, block_on};

    fn pair() -> (Stream, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let socket = listener.accept().unwrap().0;
        (Stream::new(socket.into()), peer)
    }

    fn backends() -> impl Iterator<Item = Backend> {
        let ring = (Backend::available().0 == Backend::Ring).then_some(Backend::Ring);
        ring.into_iter().chain([Backend::Epoll])
    }

    #[test]
    fn a_wait_that_is_given_up_loses_nothing_and_leaves_the_socket_usable() {
        for backend in backends() {
            let (mut stream, mut peer) = pair();
            let (socket, received) = block_on(backend, async move {
                let mut buffer = Vec::new();
                assert_eq!(stream.receive(&mut buffer, 10).unwrap_err().kind(), io::ErrorKind::WouldBlock);
                let nap = Duration::from_millis(20);
                assert!(monoio::time::timeout(nap, stream.readable()).await.is_err());
                peer.write_all(b"hello").unwrap();
                stream.readable().await.unwrap();
                stream.receive(&mut buffer, 3).unwrap();
                assert!(monoio::time::timeout(nap, stream.writable()).await.is_ok());
                stream.receive(&mut buffer, 10).unwrap();
                (stream.into_fd().map(|socket| (socket, peer)).unwrap(), buffer)
            })
            .unwrap();
            assert_eq!(received, b"hello");
            let (socket, mut peer) = socket;
            assert_eq!(Stream::new(socket).send(b"back").unwrap(), 4);
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"back", "{backend:?}: FIN comes once both descriptors are closed");
        }
    }

    #[test]
    fn a_fin_is_read_as_nothing_and_said_without_a_close() {
        let (stream, mut peer) = pair();
        stream.send(b"x").unwrap();
        stream.shutdown_sending().unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"x");
        peer.write_all(b"late").unwrap();
        drop(peer);
        std::thread::sleep(Duration::from_millis(20));
        let mut buffer = Vec::new();
        assert_eq!(stream.receive(&mut buffer, 10).unwrap(), 4);
        assert_eq!(stream.receive(&mut buffer, 10).unwrap(), 0);
    }
}
