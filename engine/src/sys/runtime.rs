//! The monoio runtime that a shard runs in.

use std::future::Future;
use std::io;

use super::Backend;

/// Completions of the runtime's ring: its tasks have one operation under way each, as a rule.
const COMPLETIONS: u32 = 16_384;

/// Runs `future`, and the tasks that it spawns, in a monoio runtime on this thread. Timers work.
///
/// When it returns, tasks that still wait are forgotten and the peers of their sockets see no FIN: end them
/// before.
///
/// # Errors
/// The system refuses the ring, or the epoll instance.
pub(crate) fn block_on<F: Future>(backend: Backend, future: F) -> io::Result<F::Output> {
    match backend {
        Backend::Ring => {
            // As the parked rings: nothing interrupts the shard, the kernel's work is done in its own system
            // calls.
            let mut ring = monoio_io_uring::IoUring::builder();
            ring.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun().setup_cqsize(COMPLETIONS);
            let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
                .uring_builder(ring)
                .enable_timer()
                .build()?;
            Ok(runtime.block_on(future))
        }
        Backend::Epoll => {
            let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build()?;
            Ok(runtime.block_on(future))
        }
    }
}
