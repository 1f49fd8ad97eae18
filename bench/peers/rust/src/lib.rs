//! What the servers here have in common: their arguments, their listener, and the control port at which lines
//! are published.

use std::io;

use axum::serve::Listener;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::broadcast;

/// Events that a subscriber may be behind before it loses some.
const EVENTS_MAX: usize = 4_096;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 65_535;

/// What each of the servers is given: `PROGRAM PORT CONTROL_PORT`.
pub struct Arguments {
    /// The port of the subscribers, on all addresses.
    pub port: u16,
    /// The port at which lines are published, on loopback.
    pub control_port: u16,
}

impl Arguments {
    /// Reads those of the process.
    ///
    /// # Errors
    /// There are not two, or one is no port.
    pub fn read() -> io::Result<Self> {
        let ports: Vec<u16> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
        match ports[..] {
            [port, control_port] => Ok(Self { port, control_port }),
            _ => Err(io::Error::other("usage: PROGRAM PORT CONTROL_PORT")),
        }
    }
}

/// Runs `server` on one thread.
///
/// # Errors
/// What it failed of.
pub fn run(server: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(server)
}

/// A listener on all addresses, with the longest backlog that the kernel allows.
///
/// # Errors
/// The port is taken.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([0, 0, 0, 0], port).into())?;
    socket.listen(BACKLOG)
}

/// Starts to publish what comes as lines at the control port: each is made into an event once, which all
/// subscribers share.
///
/// # Errors
/// The port is taken.
pub async fn publish<E, F>(control_port: u16, event: F) -> io::Result<broadcast::Sender<E>>
where
    E: Clone + Send + 'static,
    F: Fn(String) -> E + Send + Copy + 'static,
{
    let (sender, _) = broadcast::channel(EVENTS_MAX);
    let mut listener = TcpListener::bind(("127.0.0.1", control_port)).await?;
    let events = sender.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = Listener::accept(&mut listener).await;
            let events = events.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(stream).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    // Without subscribers nobody takes it, which is no fault.
                    let _ = events.send(event(line));
                }
            });
        }
    });
    Ok(sender)
}
