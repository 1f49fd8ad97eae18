//! A subscriber inside the process: a cursor into the log, and not a queue. Executor-agnostic and `Send`.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::event::Event;

/// What a [`Receiver`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// An event.
    Event(Arc<Event>),
    /// Some events beyond `after`, up to `resumed`, are gone; those that remain of them still come.
    Gap {
        /// The place before the gap.
        after: Cursor,
        /// The highest offset that is gone.
        resumed: Cursor,
    },
}
pub struct Receiver {}
