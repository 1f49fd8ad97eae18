//! What wakes a shard: one eventfd for publishers, commands and the parked rings, and the async wait for it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use super::turn::fairly;

/// A counter in the kernel that wakes who waits for it (`eventfd(2)`). Shared by all who wake the shard.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    /// Makes one, at zero.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above succeeded, so `fd` is open, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(File::from(fd)))
    }

    /// Wakes who waits, or who will wait next if nobody does.
    pub fn wake(&self) {
        // It fails only if the counter is full, and then the wait is over anyway.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Takes all wakes so far, so that the next wait is for later ones.
    pub fn drain(&self) {
        // It fails only if there was none.
        let _ = (&self.0).read(&mut [0; 8]);
    }

    /// What a monoio task waits on for this descriptor.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn sleeper(&self) -> io::Result<Sleeper> {
        Sleeper::new(self.0.as_fd())
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits, as a monoio task, until a descriptor is readable: an eventfd, an epoll instance, a listener.
#[derive(Debug)]
pub(crate) struct Sleeper(monoio::net::UnixStream);

impl Sleeper {
    /// Waits for `fd`, which stays the caller's. Called within the monoio runtime that is to wait.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // monoio waits for sockets and pipes only, but it asks nothing of the descriptor as long as it is
        // only polled.
        let stream = std::os::unix::net::UnixStream::from(fd.try_clone_to_owned()?);
        Ok(Self(monoio::net::UnixStream::from_std(stream)?))
    }

    /// Returns when the descriptor is readable; if it is already, when the other tasks of the runtime had
    /// their turn. Does not read it. Dropping the future is fine.
    ///
    /// # Errors
    /// The runtime cannot wait: it is out of memory.
    pub async fn wait(&self) -> io::Result<()> {
        fairly(self.wait_unfairly()).await
    }

    /// The same without a turn of others.
    pub(super) async fn wait_unfairly(&self) -> io::Result<()> {
        self.0.readable(false).await
    }
}
