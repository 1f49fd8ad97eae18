//! Whole connections: real sockets, a shard that only notes what it was given.

use std::future::Future;

use crate::sys::{self, Backend};

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    sys::block_on(Backend::available().0, future).unwrap()
}
