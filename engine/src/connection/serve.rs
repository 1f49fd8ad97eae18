//! The life of a task.
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::{AdmissionError, Context, Permit};

/// Serves the requests of a connection until it is parked or over. `read` holds bytes that were read from it already,
/// when a parked connection comes back.
pub(crate) async fn serve(context: Rc<Context>, socket: OwnedFd, permit: Permit, read: Vec<u8>) {
    let _ = (context, socket, permit, read);
}

/// Answers one request of a connection that is not let in, as kindly as its transport allows, and ends it. Bounded in
/// number: a connection too many of those is closed at once.
pub(crate) async fn refuse(context: Rc<Context>, socket: OwnedFd, reason: AdmissionError) {
    let _ = (context, socket, reason);
}
