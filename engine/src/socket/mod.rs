//! Listening: one listener a shard; each connection is counted, admitted, and given a task.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use crate::connection::{self, Handle, Lent};
use crate::shard::run::Local;
use crate::sys::{self, Sleeper, SocketId};

/// Connections that are accepted before other tasks have their turn.
const ACCEPTED_MAX: usize = 64;
/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Begins to accept connections, as a task of this thread's runtime, until the shard is stopped.
///
/// # Panics
/// In the task, if the system cannot wait for the listener: a shard that accepts nobody must not look alive.
pub(crate) fn listen(local: Rc<Local>, listener: TcpListener) {
    monoio::spawn(async move {
        if let Err(error) = accept(local, listener).await {
            panic!("a shard cannot accept: {error}");
        }
    });
}

async fn accept(local: Rc<Local>, listener: TcpListener) -> io::Result<()> {
    local.keep_listener(&listener)?;
    let sleeper = Sleeper::new(listener.as_fd())?;
    let is_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    // When the process is out of descriptors this one is given up for a moment, to accept and refuse.
    let mut spare = File::open("/dev/null").ok();
    let mut connections = Vec::new();
    while !local.is_stopped() {
        sleeper.wait().await?;
        if local.is_stopped() {
            break;
        }
        let taken = take(&local, &listener, &mut connections, is_loopback);
        match taken {
            Ok(()) => {}
            Err(error) if sys::is_out_of_descriptors(&error) => {
                drop(spare.take());
                if let Ok(Some((fd, _))) = sys::accept(&listener) {
                    local.figures().descriptors_spent.add(1);
                    drop(fd);
                }
                spare = File::open("/dev/null").ok();
                tracing::warn!(shard = local.number, "out of file descriptors: a connection is refused");
                monoio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                // The system is short of memory: the next may do.
                tracing::debug!(shard = local.number, %error, "accept");
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    Ok(())
}

/// Takes those who wait, or as many as other tasks can wait for.
fn take(
    local: &Rc<Local>,
    listener: &TcpListener,
    connections: &mut Vec<(SocketId, SocketAddr)>,
    is_loopback: bool,
) -> io::Result<()> {
    // Somebody is there, or the listener would not be readable.
    let count = sys::waiting(listener).clamp(1, ACCEPTED_MAX);
    let taken = local.accept(listener, count, connections);
    for (socket, peer) in connections.drain(..) {
        accepted(local, Handle::Parked(Lent::new(local.context(), socket)), peer, is_loopback);
    }
    if taken? {
        return Ok(());
    }
    for _ in 0..count {
        let Some((fd, peer)) = sys::accept(listener)? else { break };
        accepted(local, Handle::Open(fd), peer, is_loopback);
    }
    Ok(())
}

fn accepted(local: &Rc<Local>, socket: Handle, peer: SocketAddr, is_loopback: bool) {
    let figures = local.figures();
    figures.connections_accepted.add(1);
    let context = local.context();
    match context.admissions.admit(peer, is_loopback) {
        // It waits for its first byte as it does for each later request: without a task, and without a
        // descriptor.
        Ok(permit) if !context.is_draining() => context.park.wait_for_request(socket, permit),
        Ok(permit) => connection::begin(context, socket, permit, Vec::new()),
        Err(reason) => {
            monoio::spawn(connection::refuse(context, socket, reason));
        }
    }
}
