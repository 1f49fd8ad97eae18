//! Publishers that wait for room: who waits, and the word that there may be some.
//!
//! The same order of steps as the shard's sleep: a publisher enters, says so, and then looks once more; a
//! shard makes room, and then looks whether anybody waits. So one of them sees the other, and a shard pays
//! one load where nobody waits.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// The publishers that wait.
#[derive(Debug, Default)]
pub(crate) struct Room {
    has_waiters: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Room {
    /// Enters a publisher, which then looks for room once more before it sleeps. It is woken once.
    pub(crate) fn wait(&self, waker: &Waker) {
        {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiters.iter().any(|other| other.will_wake(waker)) {
                waiters.push(waker.clone());
            }
            self.has_waiters.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Says that there may be room: wakes all that wait. Called by whoever made some, after it did.
    pub(crate) fn announce(&self) {
        fence(Ordering::SeqCst);
        if !self.has_waiters.load(Ordering::Relaxed) {
            return;
        }
        let waiters = {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            self.has_waiters.store(false, Ordering::Relaxed);
            std::mem::take(&mut *waiters)
        };
        for waiter in waiters {
            waiter.wake();
        }
    }
}
