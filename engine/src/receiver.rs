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

/// Hears the events of its matchers, in order, none lost, none twice. It costs nothing while it is behind:
/// what it has still to hear stands in the log, and what the log drops before it is heard, it is told of as a
/// gap.
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

    /// Waits for the next event, or the next gap. Nothing is lost where the future is dropped before it is
    /// ready.
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::config::Config;
    use crate::cursor::Epoch;
    use crate::publish::Publisher;
    use crate::sequencer::tests::{Bell, block_on};

    fn sequencer(events: usize) -> (Arc<Sequencer>, Publisher) {
        let mut config = Config::default();
        config.retention.events = events;
        let sequencer = Sequencer::with_clock(&config, Vec::new(), Epoch(7), Box::new(|| 0));
        (Arc::clone(&sequencer), Publisher::new(sequencer))
    }

    fn subscribe(sequencer: &Arc<Sequencer>, names: &[&str], start: Start) -> Receiver {
        let matchers = names.iter().map(|name| name.parse().unwrap()).collect();
        sequencer.subscribe(matchers, start).unwrap()
    }

    fn publish(publisher: &Publisher, topics: &[&str]) {
        for topic in topics {
            publisher.publish(Event::text(topic, "x").unwrap()).unwrap();
        }
    }

    fn cursor(offset: u64) -> Cursor {
        Cursor { epoch: Epoch(7), offset: Offset(offset) }
    }

    /// What it gives now, as text: an offset, or a gap.
    fn all(receiver: &mut Receiver) -> Vec<String> {
        let text = |received| match received {
            Received::Event(event) => event.offset().to_string(),
            Received::Gap { after, resumed } => format!("gap {after} {resumed}"),
        };
        std::iter::from_fn(|| receiver.try_next()).map(text).collect()
    }

    #[test]
    fn it_hears_its_events_from_where_it_began() {
        let (sequencer, publisher) = sequencer(1_000);
        publish(&publisher, &["a", "b", "a"]);
        let mut now = subscribe(&sequencer, &["a"], Start::Now);
        let mut earliest = subscribe(&sequencer, &["a"], Start::Earliest);
        let mut after = subscribe(&sequencer, &["*"], Start::After(cursor(1)));
        publish(&publisher, &["a", "b"]);
        assert_eq!(all(&mut now), ["4"]);
        assert_eq!(all(&mut earliest), ["1", "3", "4"]);
        assert_eq!(all(&mut after), ["2", "3", "4", "5"]);
        assert_eq!((now.cursor(), after.cursor()), (cursor(5), cursor(5)));
        assert!(sequencer.subscribe(Vec::new(), Start::After(cursor(6))).is_err());
    }

    #[test]
    fn its_cursor_is_that_of_the_last_event_given_out_not_of_the_last_one_read() {
        let (sequencer, publisher) = sequencer(1_000);
        let mut receiver = subscribe(&sequencer, &["a"], Start::Now);
        publish(&publisher, &["a", "a", "b"]);
        assert_eq!(receiver.cursor(), cursor(0));
        receiver.try_next();
        assert_eq!(receiver.cursor(), cursor(1));
        assert_eq!(all(&mut receiver), ["2"]);
        assert_eq!(receiver.cursor(), cursor(3));
    }

    #[test]
    fn a_gap_comes_once_before_what_remains_of_it() {
        let (sequencer, publisher) = sequencer(2);
        let mut receiver = subscribe(&sequencer, &["a", "b"], Start::Now);
        publish(&publisher, &["a", "b", "b", "b", "a", "a"]);
        // a: 5 6 of 1 5 6; b: 3 4 of 2 3 4.
        let Some(Received::Gap { after, resumed }) = receiver.try_next() else { panic!("no gap") };
        assert_eq!((after, resumed, receiver.cursor()), (cursor(0), cursor(2), cursor(2)));
        assert_eq!(all(&mut receiver), ["3", "4", "5", "6"]);
    }

    #[test]
    fn after_an_epoch_change_the_gap_comes_before_any_cursor_of_the_new_one() {
        let (sequencer, publisher) = sequencer(10);
        publish(&publisher, &["a"]);
        let old = Cursor { epoch: Epoch(3), offset: Offset(99) };
        let mut receiver = subscribe(&sequencer, &["a"], Start::After(old));
        assert_eq!(receiver.cursor(), old);
        assert_eq!(all(&mut receiver), [format!("gap {old} {}", cursor(0)), "1".into()]);
    }

    #[test]
    fn it_sleeps_until_an_event_of_its_own_topics() {
        let (sequencer, publisher) = sequencer(10);
        let mut receiver = subscribe(&sequencer, &["a/*"], Start::Now);
        let bell = Arc::<Bell>::default();
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        assert!(receiver.poll_next(&mut context).is_pending());
        assert!(receiver.poll_next(&mut context).is_pending());
        publish(&publisher, &["a", "b", "a/b/c"]);
        assert_eq!(bell.rings(), 0);
        publish(&publisher, &["a/b", "a/c"]);
        assert_eq!(bell.rings(), 1, "woken once, until it sleeps again");
        assert!(receiver.poll_next(&mut context).is_ready() && receiver.poll_next(&mut context).is_ready());
        assert!(receiver.poll_next(&mut context).is_pending());
        drop(receiver);
        publish(&publisher, &["a/b"]);
        assert_eq!(bell.rings(), 1, "nobody is there to be woken");
    }

    #[test]
    fn one_that_is_gone_leaves_its_number_to_the_next_without_its_matchers() {
        let (sequencer, publisher) = sequencer(10);
        drop(subscribe(&sequencer, &["a"], Start::Now));
        let mut receiver = subscribe(&sequencer, &["b"], Start::Now);
        assert_eq!(receiver.listener, 0);
        let bell = Arc::<Bell>::default();
        assert!(receiver.poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(&bell)))).is_pending());
        publish(&publisher, &["a"]);
        assert_eq!(bell.rings(), 0);
        publish(&publisher, &["b"]);
        assert_eq!(bell.rings(), 1);
    }

    #[test]
    fn it_gives_what_is_left_and_then_its_end() {
        let (sequencer, publisher) = sequencer(10);
        let mut receiver = subscribe(&sequencer, &["a"], Start::Now);
        let mut waiting = subscribe(&sequencer, &["b"], Start::Now);
        publish(&publisher, &["a"]);
        let closer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            sequencer.close();
        });
        assert_eq!(block_on(waiting.next()).0, Err(Closed));
        closer.join().unwrap();
        assert!(matches!(block_on(receiver.next()).0, Ok(Received::Event(_))));
        assert_eq!(block_on(receiver.next()).0, Err(Closed));
        assert!(publisher.publish(Event::text("a", "x").unwrap()).is_err());
    }

    #[test]
    fn it_can_be_sent_to_another_thread() {
        fn is_send<T: Send>(_: &T) {}
        let (sequencer, publisher) = sequencer(10);
        let mut receiver = subscribe(&sequencer, &["a"], Start::Now);
        is_send(&receiver.next());
        is_send(&publisher.publish_wait(Event::text("a", "x").unwrap()));
    }
}
