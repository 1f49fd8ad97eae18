//! Sockets: listeners, the options of the connections that they accept, and plain system calls on one socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What every accepted connection is set to. A listener has them, and Linux lets connections inherit them:
/// that saves five system calls a connection. All have `TCP_NODELAY` and `SO_KEEPALIVE` besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// `TCP_USER_TIMEOUT`: a peer that takes nothing for so long is gone.
    pub stalled: Duration,
    /// `TCP_NOTSENT_LOWAT`: with so much unsent a socket counts as not writable.
    pub unsent_bytes: u32,
    /// `SO_SNDBUF`: what the kernel may hold to be sent, its own overhead included; `net.core.wmem_max`
    /// bounds it to twice its value.
    pub send_buffer_bytes: u32,
}

/// Listens at `address` once for each of `shards`, so that the kernel spreads connections over them
/// (`SO_REUSEPORT`). With port 0 all have the same free port. An IPv6 address takes IPv4 too where the
/// system's default is so.
///
/// # Errors
/// `AddrInUse` if anybody listens there, another engine with `SO_REUSEPORT` included, and whatever `bind(2)`
/// says.
pub(crate) fn listen(
    address: SocketAddr,
    shards: usize,
    backlog: u32,
    options: &SocketOptions,
) -> io::Result<Vec<TcpListener>> {
    // The first one is bound alone, so that a second engine does not silently take half of the connections of
    // the first. Then it is opened to sharing: at no moment is the address free.
    let first = bound(address, options, false)?;
    set(first.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let first = TcpListener::from(first);
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(TcpListener::from(bound(address, options, true)?));
    }
    for listener in &listeners {
        // SAFETY: takes no pointer.
        check(unsafe { libc::listen(listener.as_raw_fd(), i32::try_from(backlog).unwrap_or(i32::MAX)) })?;
    }
    Ok(listeners)
}

fn bound(address: SocketAddr, options: &SocketOptions, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointer.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the call above made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Connections of an earlier process that are in TIME_WAIT do not hold the port.
    set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if shared {
        set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    options.set(fd.as_fd())?;
    let (name, len) = socket_address(address);
    // SAFETY: `name` is a socket address of `len` bytes that lives during the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), len) })?;
    Ok(fd)
}

impl SocketOptions {
    /// Sets them on a socket: a listener, or a connection that did not come from one of ours.
    ///
    /// # Errors
    /// `fd` is no TCP socket.
    pub(crate) fn set(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let stalled_ms = i32::try_from(self.stalled.as_millis()).unwrap_or(i32::MAX);
        set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        set(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        set(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, stalled_ms)?;
        set(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, size(self.unsent_bytes))?;
        // The kernel doubles the value, for its overhead.
        set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, size(self.send_buffer_bytes / 2))
    }
}

fn size(bytes: u32) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// How many connections wait at `listener` to be accepted; none where the system does not tell. A look costs
/// less than an accept that finds nobody, for which the kernel makes a socket all the same.
pub(crate) fn waiting(listener: &TcpListener) -> usize {
    let mut info = [0u32; TCP_INFO_UNACKED + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    let (fd, option) = (listener.as_raw_fd(), libc::TCP_INFO);
    // SAFETY: the kernel writes at most `len` bytes to `info`, whose words may have any value, and the length
    // to `len`.
    let got = check(unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, option, info.as_mut_ptr().cast(), &raw mut len)
    });
    // Of a listener `tcpi_unacked` says how many wait.
    got.map_or(0, |_| info[TCP_INFO_UNACKED] as usize)
}

/// Where `tcpi_unacked` is in a `struct tcp_info`, in words.
const TCP_INFO_UNACKED: usize = std::mem::offset_of!(libc::tcp_info, tcpi_unacked) / size_of::<u32>();

/// Takes a connection that is waiting, with `CLOEXEC`; `None` if there is none. Never waits: first wait for
/// the listener with a [`super::Sleeper`], then accept until there is none.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`: the connection stays in the backlog, so pause before the next
/// try. Errors of one connection, such as `ECONNABORTED`, are passed over.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    // Linux also passes errors of the network to `accept`; accept(2) tells to try again. Each takes one
    // connection away.
    const PASSED_OVER_MAX: usize = 64;
    for _ in 0..PASSED_OVER_MAX {
        let mut peer = PeerName::empty();
        let (name, len) = peer.pointers();
        // SAFETY: the kernel writes at most `len` bytes to `name`, and the length to `len`.
        let accepted = check(unsafe { libc::accept4(listener.as_raw_fd(), name, len, libc::SOCK_CLOEXEC) });
        match accepted {
            Ok(fd) => {
                // SAFETY: the call above made it for us.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                if let Some(address) = peer.address() {
                    return Ok(Some((fd, address)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if is_of_listener(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Whether this error of an accept is not that of the one connection.
pub(super) fn is_of_listener(error: &io::Error) -> bool {
    let number = error.raw_os_error().unwrap_or(0);
    [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF, libc::EINVAL].contains(&number)
}

/// Where an accept writes the peer's address.
pub(super) struct PeerName {
    name: Address,
    len: libc::socklen_t,
}

impl PeerName {
    pub(super) fn empty() -> Self {
        Self { name: empty_address(), len: size_of::<Address>() as libc::socklen_t }
    }

    /// The address and its length, as `accept` takes them: valid as long as this is neither moved nor used.
    pub(super) fn pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.name).cast(), &raw mut self.len)
    }

    /// None if it is no address of the internet.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        address_of(&self.name)
    }
}

impl std::fmt::Debug for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address().fmt(f)
    }
}

/// Makes the close of a socket a reset (`SO_LINGER` with no time).
///
/// # Errors
/// `fd` is no socket.
pub(crate) fn reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_value(fd, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Says FIN; receiving goes on.
pub(super) fn shutdown_sending(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// Sends what fits at once; the error is an error number.
pub(super) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, i32> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes` during the call.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| error_number())
}

/// Receives what is there now; the error is an error number.
pub(super) fn receive(fd: BorrowedFd<'_>, space: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: the kernel writes at most `space.len()` bytes to `space` during the call.
    let received =
        unsafe { libc::recv(fd.as_raw_fd(), space.as_mut_ptr().cast(), space.len(), libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| error_number())
}

/// The answer of a system call that is negative only where it failed.
pub(super) fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn error_number() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    set_value(fd, level, option, value)
}

/// `T` is what the kernel expects of `option`: a plain `int`, or the option's own structure. Another one is
/// an error.
fn set_value<T: Copy>(fd: BorrowedFd<'_>, level: i32, option: i32, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value` during the call, and that is its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) })
        .map(drop)
}

/// Both kinds of address in the room of the larger one.
#[repr(C)]
union Address {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

fn empty_address() -> Address {
    Address {
        v6: libc::sockaddr_in6 {
            sin6_family: libc::AF_UNSPEC as libc::sa_family_t,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    }
}

fn socket_address(address: SocketAddr) -> (Address, libc::socklen_t) {
    let mut name = empty_address();
    match address {
        SocketAddr::V4(address) => {
            name.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(address) => {
            name.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn address_of(name: &Address) -> Option<SocketAddr> {
    // SAFETY: every address was made by `empty_address`, so all bytes are initialised, and begins with its
    // family.
    match i32::from(unsafe { name.family }) {
        libc::AF_INET => {
            // SAFETY: as above; any bytes are a `sockaddr_in`.
            let v4 = unsafe { name.v4 };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above; any bytes are a `sockaddr_in6`.
            let v6 = unsafe { name.v6 };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

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
            let done = unsafe {
                libc::getsockopt(fd.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len)
            };
            assert_eq!((done, value), (0, expected), "option {option}");
        }
    }
}
