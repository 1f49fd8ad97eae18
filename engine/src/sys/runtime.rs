//! The monoio runtime that a shard runs in.

use std::fmt;
use std::future::Future;
use std::io;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver};

use super::Backend;
use super::turn::Turns;

/// Completions of the runtime's ring: its tasks have one operation under way each, as a rule.
const COMPLETIONS: u32 = 16_384;

/// A monoio runtime, made and used on one thread. Timers work.
pub(crate) struct Runtime(Inner);

enum Inner {
    Ring(monoio::Runtime<TimeDriver<IoUringDriver>>),
    Epoll(monoio::Runtime<TimeDriver<LegacyDriver>>, Turns),
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Ring(_) => "Runtime(Ring)",
            Inner::Epoll(..) => "Runtime(Epoll)",
        })
    }
}

impl Runtime {
    /// Makes one.
    ///
    /// # Errors
    /// The system refuses the ring, or the epoll instance.
    pub(crate) fn new(backend: Backend) -> io::Result<Self> {
        Ok(Self(match backend {
            Backend::Ring => {
                // As the parked rings: nothing interrupts the shard, the kernel's work is done in its own
                // system calls.
                let mut ring = monoio_io_uring::IoUring::builder();
                ring.setup_single_issuer()
                    .setup_coop_taskrun()
                    .setup_defer_taskrun()
                    .setup_cqsize(COMPLETIONS);
                let builder = monoio::RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring);
                Inner::Ring(builder.enable_timer().build()?)
            }
            Backend::Epoll => {
                let runtime = monoio::RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
                Inner::Epoll(runtime, Turns::new()?)
            }
        }))
    }

    /// Runs `future`, and the tasks that it spawns.
    ///
    /// When it returns, tasks that still wait are forgotten and the peers of their sockets see no FIN: end
    /// them before.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(crate) fn block_on<F: Future>(self, future: F) -> io::Result<F::Output> {
        match self.0 {
            Inner::Ring(mut runtime) => Ok(runtime.block_on(future)),
            Inner::Epoll(mut runtime, turns) => runtime.block_on(async {
                let _entered = turns.enter()?;
                Ok(future.await)
            }),
        }
    }
}

/// Has the runtime of this thread run `future` after what is ready to run already.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    monoio::spawn(future);
}

/// Runs `future` in a runtime of its own.
///
/// # Errors
/// As [`Runtime::new`].
#[cfg(any(test, feature = "bench"))]
pub(crate) fn block_on<F: Future>(backend: Backend, future: F) -> io::Result<F::Output> {
    super::limits::patiently(|| Runtime::new(backend))?.block_on(future)
}
