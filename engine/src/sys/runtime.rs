//! The monoio runtime of a shard's thread.

use std::future::Future;
use std::io;

use super::Backend;

/// Entries of the runtime's own ring. Connection tasks use it; parked connections do not.
const ENTRIES: u32 = 1_024;
/// Its completion queue: a burst of connection tasks has one operation each under way.
const COMPLETIONS: u32 = 16_384;

/// Runs a future to its end on a runtime of this thread, with timers: over io_uring, or over epoll where that is what
/// parks connections too.
///
/// # Errors
/// The system refuses the ring, or epoll.
pub(crate) fn block_on<F: Future>(backend: Backend, future: F) -> io::Result<F::Output> {
    match backend {
        Backend::Ring => {
            let mut ring = io_uring_06::IoUring::builder();
            ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_cqsize(COMPLETIONS);
            let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
                .with_entries(ENTRIES)
                .uring_builder(ring)
                .enable_timer()
                .build();
            Ok(runtime?.block_on(future))
        }
        Backend::Epoll => {
            let runtime =
                monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().with_entries(ENTRIES).enable_timer().build();
            Ok(runtime?.block_on(future))
        }
    }
}
