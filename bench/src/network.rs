//! A network of the process's own: a namespace with nothing in it but loopback, which ends with the process.
//! Nothing that a benchmark does there can reach another machine, or meet another program's ports.

use std::fs;
use std::io::{self, Seek as _, Write as _};

/// Keys that are the namespace's own, below `/proc/sys/net`.
const KEYS: [(&str, &str); 5] = [
    ("ipv4/ip_local_port_range", "1024 65000"),
    ("core/somaxconn", "65535"),
    ("ipv4/tcp_max_syn_backlog", "65535"),
    ("ipv4/tcp_syncookies", "0"),
    ("ipv4/tcp_timestamps", "1"),
];

/// Ports of servers under test start here: above what clients are given.
pub const PORTS: u16 = 65_001;

/// The file that says how many buckets the next namespace's table of connections has.
const BUCKETS: &str = "/proc/sys/net/ipv4/tcp_child_ehash_entries";

/// Moves the calling thread, and all that it starts later, into a new network namespace with loopback up.
/// `connections` sizes the table of connections, where that is allowed. Call it before there are threads.
///
/// # Errors
/// Neither root nor a user namespace may be had, or a thread runs already.
pub fn enter(connections: usize) -> io::Result<()> {
    let buckets = Buckets::set((2 * connections).next_power_of_two().max(65_536));
    unshare()?;
    drop(buckets);
    bring_loopback_up()?;
    for (key, value) in KEYS {
        let _ = fs::write(format!("/proc/sys/net/{key}"), value);
    }
    Ok(())
}

/// Holds the key of the namespace that was left: its file stays that namespace's own.
struct Buckets(Option<(fs::File, String)>);

impl Buckets {
    fn set(buckets: usize) -> Self {
        let Ok(was) = fs::read_to_string(BUCKETS) else { return Self(None) };
        let Ok(mut file) = fs::OpenOptions::new().write(true).open(BUCKETS) else { return Self(None) };
        let _ = file.write_all(buckets.to_string().as_bytes());
        Self(Some((file, was)))
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        if let Some((file, was)) = &mut self.0 {
            let _ = file.seek(io::SeekFrom::Start(0)).and_then(|_| file.write_all(was.trim().as_bytes()));
        }
    }
}

fn unshare() -> io::Result<()> {
    // SAFETY: takes flags only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        return Ok(());
    }
    // SAFETY: the same; an ordinary user may do it inside a user namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: a socket that is closed below; the request is plain bytes, for which all zeros are valid, with
    // a name that ends within it, and the kernel reads and writes no more than it.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let result = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request);
        let error = io::Error::last_os_error();
        libc::close(socket);
        if result == 0 { Ok(()) } else { Err(error) }
    }
}
