//! Turns of a runtime that waits with epoll. There a wait for what is ready already is over at once, without
//! a look at anybody else: a task that always finds something to do would keep its thread for itself, and
//! neither sockets nor timers of other tasks would be looked at. With the ring every wait goes through the
//! kernel, and is over when the others had their turn.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::EventFd;

thread_local! {
    /// The turns of the runtime that this thread is in; none with the ring.
    static TURNS: RefCell<Option<Rc<Turns>>> = const { RefCell::new(None) };
}

/// Who has had its turn and waits until all others had theirs.
#[derive(Debug)]
pub(super) struct Turns {
    /// Written by who gives up its turn, and read by the runtime when nobody has anything to do.
    eventfd: EventFd,
    waiting: RefCell<Vec<Waker>>,
    /// How often all who waited were let go.
    rounds: Cell<u64>,
}

/// While it lives, waits on this thread give others a turn.
pub(super) struct Entered;

impl Turns {
    /// # Errors
    /// The process is out of descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let (waiting, rounds) = (RefCell::default(), Cell::new(0));
        Ok(Self { eventfd: EventFd::new()?, waiting, rounds })
    }

    /// Begins turns on this thread. Called within the runtime.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(super) fn enter(self) -> io::Result<Entered> {
        let sleeper = self.eventfd.sleeper()?;
        let turns = Rc::new(self);
        TURNS.set(Some(Rc::clone(&turns)));
        monoio::spawn(async move {
            // It was not readable before somebody gave up its turn, so this always waits.
            while sleeper.wait_unfairly().await.is_ok() {
                turns.eventfd.drain();
                turns.rounds.set(turns.rounds.get() + 1);
                turns.waiting.take().into_iter().for_each(Waker::wake);
            }
        });
        Ok(Entered)
    }

    fn poll_round(&self, after: &mut Option<u64>, context: &Context<'_>) -> Poll<()> {
        let begun = *after.get_or_insert(self.rounds.get());
        if self.rounds.get() > begun {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.eventfd.wake();
        }
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        TURNS.set(None);
    }
}

/// Waits for `wait`, and gives the others a turn if that was over at once. Dropping the future is fine if it
/// is for `wait`.
pub(super) async fn fairly<F: Future>(wait: F) -> F::Output {
    let mut wait = pin!(wait);
    let mut has_waited = false;
    let output = poll_fn(|context| {
        let polled = wait.as_mut().poll(context);
        has_waited |= polled.is_pending();
        polled
    });
    let output = output.await;
    let turns = TURNS.with_borrow(Clone::clone);
    if let Some(turns) = turns.filter(|_| !has_waited) {
        let mut after = None;
        poll_fn(|context| turns.poll_round(&mut after, context)).await;
    }
    output
}
