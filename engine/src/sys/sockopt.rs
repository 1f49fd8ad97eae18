//! Sockets: listeners, and the options of the connections that they accept.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// What every accepted connection is set to. A listener has them, and Linux lets connections inherit them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// `TCP_USER_TIMEOUT`: a peer that takes nothing for so long is gone.
    pub stalled: Duration,
    /// `TCP_NOTSENT_LOWAT`: with so much unsent a socket counts as not writable.
    pub unsent_bytes: u32,
    /// `SO_SNDBUF`: what the kernel may hold to be sent, its own overhead included.
    pub send_buffer_bytes: u32,
}

/// Listens at `address` once for each of `shards`, so that the kernel spreads connections over them (`SO_REUSEPORT`).
/// With port 0 all have the same free port.
///
/// # Errors
/// `AddrInUse` if anybody listens there, another engine with `SO_REUSEPORT` included, and whatever `bind(2)` says.
pub(crate) fn listen(
    _address: SocketAddr,
    _shards: usize,
    _backlog: u32,
    _options: &SocketOptions,
) -> io::Result<Vec<TcpListener>> {
    unimplemented!()
}

/// Takes a connection that is waiting, with `CLOEXEC`; `None` if there is none. Never waits: first wait for the listener
/// with a [`super::Sleeper`], then accept until there is none.
///
/// # Errors
/// `EMFILE` and the like; errors of the one connection (`ECONNABORTED`) are passed over.
pub(crate) fn accept(_listener: &TcpListener) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    unimplemented!()
}

/// Makes the close of a socket a reset (`SO_LINGER` with no time).
///
/// # Errors
/// `fd` is no socket.
pub(crate) fn reset_on_close(_fd: BorrowedFd<'_>) -> io::Result<()> {
    unimplemented!()
}

/// The other side of a connection.
///
/// # Errors
/// It is not connected (any more), or no TCP socket.
pub(crate) fn peer_address(_fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    unimplemented!()
}
