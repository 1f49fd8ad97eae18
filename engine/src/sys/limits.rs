//! What the process may use, and how it is told to end.

use std::io;

/// How many descriptors the process may have open (`RLIMIT_NOFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds now.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// Reads the limit.
pub fn descriptor_limit() -> io::Result<DescriptorLimit> {
    unimplemented!()
}

/// Raises the soft limit to the hard one, and answers what holds then.
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    unimplemented!()
}

/// The processors that this process may run on.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    unimplemented!()
}

/// Lets this thread run on `cpu` only.
pub fn pin_thread(_cpu: usize) -> io::Result<()> {
    unimplemented!()
}

/// Waits for SIGTERM and SIGINT. One a process.
#[derive(Debug)]
pub struct Signals(());

/// Which signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signals {
    /// From now on both signals no longer end the process, but are answered by [`Signals::wait`].
    pub fn install() -> io::Result<Self> {
        unimplemented!()
    }

    /// Blocks the thread until the next one comes.
    pub fn wait(&mut self) -> io::Result<Signal> {
        unimplemented!()
    }
}
