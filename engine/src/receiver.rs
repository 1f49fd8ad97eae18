//! A subscriber inside the process: a cursor into the log, and not a queue. Needs no runtime of its own.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::cursor::{Cursor, CursorError, Offset, Start};
use crate::event::Event;
use crate::sequencer::{Armed, Sequencer};
use crate::topic::Matcher;

/// Events that a receiver reads from the log at once.
const READ_EVENTS: usize = 64;
/// Their bytes, but for one larger event.
const READ_BYTES: usize = 256 * 1024;

/// Hears the events of its matchers, in order, none lost, none twice. It costs nothing while it is behind: what it has
/// still to hear stands in the log, and what the log drops before it is heard, it is told of as a gap.
pub struct Receiver {
    sequencer: Arc<Sequencer>,
    matchers: Box<[Matcher]>,
    listener: u32,
    /// All its events up to here were given out.
    place: Offset,
    /// All its events up to here were given out or stand in `events`.
    read: Offset,
    /// Read from the log, ascending; at most [`READ_EVENTS`].
    events: VecDeque<Arc<Event>>,
    /// It was told of all gaps up to here.
    told: Offset,
    /// The cursor of another epoch that it began with, until the gap is told.
    old: Option<Cursor>,
}

/// What a [`Receiver`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// The next event.
    Event(Arc<Event>),
    /// Some events beyond `after`, up to `resumed`, are gone; those of them that remain still come.
    Gap {
        /// The place before the gap; of another epoch where the receiver began with such a cursor.
        after: Cursor,
        /// The highest offset that is gone.
        resumed: Cursor,
    },
}

/// The engine is shut down, and all events were given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the engine is shut down")
    }
}

impl std::error::Error for Closed {}

impl Receiver {
    pub(crate) fn new(
        sequencer: Arc<Sequencer>,
        matchers: Vec<Matcher>,
        start: Start,
    ) -> Result<Self, CursorError> {
        let resolved = sequencer.resolve(start, &matchers)?;
        Ok(Self {
            listener: sequencer.listen(&matchers),
            matchers: matchers.into(),
            place: resolved.after,
            read: resolved.after,
            events: VecDeque::new(),
            told: Offset::START,
            old: resolved.old,
            sequencer,
        })
    }

    /// Waits for the next event, or the next gap. Nothing is lost where the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`Closed`] when the engine is shut down and all was given out.
    pub async fn next(&mut self) -> Result<Received, Closed> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`next`](Self::next) for who polls by hand, such as a `Stream`.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Closed>> {
        loop {
            if let Some(received) = self.try_next() {
                return Poll::Ready(Ok(received));
            }
            match self.sequencer.wake_later(self.listener, self.read, context.waker()) {
                Armed::Waits => return Poll::Pending,
                Armed::Closed => return Poll::Ready(Err(Closed)),
                Armed::HasMore => {}
            }
        }
    }

    /// The next event or gap, if there is one now.
    pub fn try_next(&mut self) -> Option<Received> {
        loop {
            if let Some(event) = self.events.pop_front() {
                self.place = event.offset();
                return Some(Received::Event(event));
            }
            self.place = self.place.max(self.read);
            let head = self.sequencer.head();
            if self.read >= head && self.old.is_none() {
                return None;
            }
            if let Some(gap) = self.read_on(head) {
                return Some(gap);
            }
        }
    }

    /// Reads from the log, and answers the gap that is to be told before what was read.
    fn read_on(&mut self, head: Offset) -> Option<Received> {
        let after = self.read;
        let read = self.sequencer.read(&self.matchers, after, head, READ_EVENTS, READ_BYTES);
        self.read = read.end;
        self.events.extend(read.events.iter().cloned());
        let old = self.old.take();
        let gap = read.gap(after, self.told);
        if let Some(gap) = gap {
            self.told = gap.resumed;
            self.place = gap.cursor;
            self.read = self.read.max(gap.cursor);
        } else if old.is_none() {
            return None;
        }
        Some(Received::Gap {
            after: old.unwrap_or(self.sequencer.cursor(after)),
            resumed: self.sequencer.cursor(gap.map_or(after, |gap| gap.resumed)),
        })
    }

    /// Its place: who subscribes after it hears what this one has still to hear.
    pub fn cursor(&self) -> Cursor {
        self.old.unwrap_or(self.sequencer.cursor(self.place))
    }

    /// What it hears.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.sequencer.unlisten(self.listener, &self.matchers);
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("matchers", &self.matchers)
            .field("cursor", &self.cursor().to_string())
            .finish_non_exhaustive()
    }
}
