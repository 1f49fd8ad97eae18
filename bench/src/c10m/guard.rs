//! Watches the machine while a run grows: the run stops before the machine suffers.

use std::io;

use crate::machine;

/// Bytes that a run leaves free, unless it is told otherwise.
pub const LEFT: u64 = 1_536 << 20;

/// Bytes that one connection takes in all: the server's socket with its poll, ours, and the ghost.
pub const A_GHOST: u64 = 4_300 + 100 + 80;
/// The same with a kernel's socket on the other side.
pub const A_SOCKET: u64 = 2 * 4_200 + 100 + 120;

/// An error once less than `left` bytes are free. What counts is free memory and the files' cache:
/// `MemAvailable` takes the sockets' own inodes for memory that could be had.
///
/// # Errors
/// Less is free.
pub fn check(left: u64) -> io::Result<()> {
    let free = machine::free_memory();
    if free >= left {
        return Ok(());
    }
    let message = format!("{} MiB of memory are left, and the run leaves {} MiB", free >> 20, left >> 20);
    Err(io::Error::new(io::ErrorKind::OutOfMemory, message))
}
