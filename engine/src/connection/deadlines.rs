//! Waits that end: a future that is given up at a time. One timer of the runtime serves all waits of a shard,
//! ten times a second, because a timer each costs more than the rest of a wait (1.3 KB and three
//! microseconds, measured).

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How late a wait may end.
const TICK: Duration = Duration::from_millis(100);

/// The waits of a shard. The task that looks after them lives as long as there are any.
#[derive(Default, Clone)]
pub(crate) struct Deadlines(Rc<RefCell<Waits>>);

#[derive(Default)]
struct Waits {
    waits: Vec<Option<Wait>>,
    /// Places in `waits` that nobody uses.
    free: Vec<usize>,
    /// Whether the task runs.
    is_watched: bool,
    /// Nothing is waited for any more.
    is_over: bool,
}

struct Wait {
    deadline: Instant,
    waker: Waker,
}

/// A wait was over before what it waited for had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Deadlines {
    /// Waits for `future` until `deadline`, or a tenth of a second longer; drops it then.
    pub(crate) async fn within<F: Future>(&self, deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut place: Option<Place<'_>> = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if self.0.borrow().is_over || Instant::now() >= deadline {
                return Poll::Ready(Err(Elapsed));
            }
            match &place {
                Some(place) => place.renew(cx.waker()),
                None => place = Some(self.wait(deadline, cx.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }

    /// Has every wait, also one that is yet to begin, be over at once.
    pub(super) fn end(&self) {
        let wakers: Vec<Waker> = {
            let mut waits = self.0.borrow_mut();
            waits.is_over = true;
            waits.waits.iter().flatten().map(|wait| wait.waker.clone()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn wait(&self, deadline: Instant, waker: Waker) -> Place<'_> {
        let mut waits = self.0.borrow_mut();
        let wait = Some(Wait { deadline, waker });
        let index = match waits.free.pop() {
            Some(index) => {
                waits.waits[index] = wait;
                index
            }
            None => {
                waits.waits.push(wait);
                waits.waits.len() - 1
            }
        };
        if !std::mem::replace(&mut waits.is_watched, true) {
            monoio::spawn(watch(self.clone()));
        }
        Place { deadlines: self, index }
    }
}

/// A place in the waits; given back when it is dropped.
struct Place<'a> {
    deadlines: &'a Deadlines,
    index: usize,
}

impl Place<'_> {
    fn renew(&self, waker: &Waker) {
        if let Some(wait) = &mut self.deadlines.0.borrow_mut().waits[self.index] {
            wait.waker.clone_from(waker);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waits = self.deadlines.0.borrow_mut();
        waits.waits[self.index] = None;
        waits.free.push(self.index);
    }
}

/// Wakes whoever has waited long enough, until nobody waits.
async fn watch(deadlines: Deadlines) {
    loop {
        monoio::time::sleep(TICK).await;
        let now = Instant::now();
        let due: Vec<Waker> = {
            let mut waits = deadlines.0.borrow_mut();
            if waits.free.len() == waits.waits.len() {
                // A burst leaves no memory behind.
                *waits = Waits { is_over: waits.is_over, ..Waits::default() };
                return;
            }
            let is_due = |wait: &&Wait| wait.deadline <= now;
            waits.waits.iter().flatten().filter(is_due).map(|wait| wait.waker.clone()).collect()
        };
        due.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::block_on;

    #[test]
    fn a_wait_ends_with_what_comes_or_with_its_time() {
        block_on(async {
            let deadlines = Deadlines::default();
            let soon = Instant::now() + Duration::from_millis(150);
            assert_eq!(deadlines.within(soon, async { 7 }).await, Ok(7));
            let never = std::future::pending::<()>();
            assert_eq!(deadlines.within(soon, never).await, Err(Elapsed));
            assert!(Instant::now() >= soon);
            let nap = monoio::time::sleep(Duration::from_millis(20));
            let later = Instant::now() + Duration::from_secs(60);
            assert_eq!(deadlines.within(later, nap).await, Ok(()));
        });
    }

    #[test]
    fn nothing_is_kept_once_nobody_waits() {
        block_on(async {
            let deadlines = Deadlines::default();
            let soon = Instant::now() + Duration::from_millis(10);
            let waits: Vec<_> = (0..100)
                .map(|_| {
                    let deadlines = deadlines.clone();
                    monoio::spawn(async move { deadlines.within(soon, std::future::pending::<()>()).await })
                })
                .collect();
            for wait in waits {
                assert_eq!(wait.await, Err(Elapsed));
            }
            monoio::time::sleep(3 * TICK).await;
            let waits = deadlines.0.borrow();
            assert_eq!((waits.waits.capacity(), waits.free.len(), waits.is_watched), (0, 0, false));
        });
    }
}
