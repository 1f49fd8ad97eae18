//! The publisher: the way into the log, for any thread and any runtime.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::cursor::{Cursor, Offset};
use crate::event::Event;
use crate::keys::{KEY_BYTES_MAX, Recorded};
pub(crate) use crate::sequencer::{Appended, Sequencer};
use crate::topic::Topic;

/// Publishes events. Cheap to clone; all copies publish into one log.
#[derive(Clone)]
pub struct Publisher(Arc<Sequencer>);

/// The answer to [`Publisher::publish_keyed`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The place of each event, in the order given.
    pub cursors: Vec<Cursor>,
    /// Whether these are the cursors of an earlier publish with the same key; nothing was published now.
    pub is_repeat: bool,
}

impl Publisher {
    pub(crate) fn new(sequencer: Arc<Sequencer>) -> Self {
        Self(sequencer)
    }

    /// Publishes one event. Never blocks beyond a short lock; the event is in the log, and on its way to
    /// every subscriber, when this returns.
    ///
    /// # Errors
    /// [`PublishError::Busy`], [`PublishError::EventTooLarge`], [`PublishError::Closed`].
    pub fn publish(&self, event: Event) -> Result<Cursor, PublishError> {
        let appended = self.0.publish(&mut [Arc::new(event)], None)?;
        Ok(self.0.cursor(appended.recorded.first))
    }

    /// Publishes events of any topics, all or none: they get consecutive offsets, in the order given. At most
    /// `limits.batch_lines` events and `limits.batch_bytes` of data.
    ///
    /// # Errors
    /// [`PublishError::Busy`], [`PublishError::EventTooLarge`], [`PublishError::BatchTooLong`],
    /// [`PublishError::BatchTooLarge`], [`PublishError::Closed`].
    pub fn publish_batch(&self, events: Vec<Event>) -> Result<Vec<Cursor>, PublishError> {
        Ok(self.cursors(self.0.publish(&mut shared(events), None)?))
    }

    /// Publishes events, all or none, unless the same were published with the same `key` within the last five
    /// minutes: then it answers what was answered then. So a publisher that does not know whether it got
    /// through may try again. A publish that fails uses no key up. `key` has 1 to
    /// [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) bytes.
    ///
    /// At most 262,144 keys are remembered; where more are used within five minutes, the oldest go earlier.
    ///
    /// # Errors
    /// [`PublishError::Key`], [`PublishError::KeyReused`], and those of
    /// [`publish_batch`](Self::publish_batch).
    pub fn publish_keyed(&self, key: &str, events: Vec<Event>) -> Result<Published, PublishError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(PublishError::Key { bytes: key.len() });
        }
        let mut events = shared(events);
        let keyed = self.0.hashers().keyed_use(key, &events);
        let appended = self.0.publish(&mut events, Some(keyed))?;
        Ok(Published { cursors: self.cursors(appended), is_repeat: appended.is_repeat })
    }

    /// Publishes one event, and waits where [`publish`](Self::publish) would answer `Busy`. Sleeps until
    /// there may be room; runs on any executor. Nothing is published where the future is dropped before it is
    /// ready.
    ///
    /// # Errors
    /// [`PublishError::EventTooLarge`], [`PublishError::Closed`].
    pub async fn publish_wait(&self, event: Event) -> Result<Cursor, PublishError> {
        let mut events = [Arc::new(event)];
        let appended = poll_fn(|context| {
            let is_busy = |answer: &Result<_, _>| matches!(answer, Err(PublishError::Busy { .. }));
            let answer = self.0.publish(&mut events, None);
            if !is_busy(&answer) {
                return Poll::Ready(answer);
            }
            // Room that was made before this publisher waited was told to nobody, so it looks once more.
            self.0.room().wait(context.waker());
            let answer = self.0.publish(&mut events, None);
            if is_busy(&answer) { Poll::Pending } else { Poll::Ready(answer) }
        });
        Ok(self.0.cursor(appended.await?.recorded.first))
    }

    fn cursors(&self, appended: Appended) -> Vec<Cursor> {
        let Recorded { first, count } = appended.recorded;
        (first.0..first.0 + u64::from(count)).map(|offset| self.0.cursor(Offset(offset))).collect()
    }
}

fn shared(events: Vec<Event>) -> Vec<Arc<Event>> {
    events.into_iter().map(Arc::new).collect()
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("head", &self.0.cursor(self.0.head()).to_string()).finish()
    }
}

/// Why something was not published. Nothing of it stands in the log then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// Its subscribers are not done with what was published before; come back later.
    Busy {
        /// The topic that is held up; none where it is a whole shard, or the memory.
        topic: Option<Topic>,
        /// When to come back, in seconds.
        retry_after_seconds: u32,
    },
    /// The data of an event is too long.
    EventTooLarge {
        /// Bytes of its data.
        bytes: usize,
        /// The limit, `limits.event_bytes`.
        bytes_max: usize,
    },
    /// A batch has too many events.
    BatchTooLong {
        /// Events in it.
        events: usize,
        /// The limit, `limits.batch_lines`.
        events_max: usize,
    },
    /// The data of a batch is too long.
    BatchTooLarge {
        /// Bytes of the data of all its events.
        bytes: usize,
        /// The limit, `limits.batch_bytes`.
        bytes_max: usize,
    },
    /// The idempotency key is empty or too long.
    Key {
        /// Its length.
        bytes: usize,
    },
    /// The idempotency key was used with other events within five minutes.
    KeyReused,
    /// The engine is shut down.
    Closed,
}

impl PublishError {
    /// The HTTP status that says the same.
    pub fn status(&self) -> u16 {
        match self {
            Self::Busy { .. } | Self::Closed => 503,
            Self::EventTooLarge { .. } | Self::BatchTooLong { .. } | Self::BatchTooLarge { .. } => 413,
            Self::Key { .. } => 400,
            Self::KeyReused => 422,
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { topic: Some(topic), .. } => {
                write!(
                    f,
                    "subscribers of topic {topic:?} are not done with its earlier events; come back later"
                )
            }
            Self::Busy { topic: None, .. } => f.write_str("too much is being sent already; come back later"),
            Self::EventTooLarge { bytes, bytes_max } => {
                write!(f, "event with data of {bytes} bytes; at most {bytes_max} are allowed")
            }
            Self::BatchTooLong { events, events_max } => {
                write!(f, "batch of {events} events; at most {events_max} are allowed")
            }
            Self::BatchTooLarge { bytes, bytes_max } => {
                write!(f, "batch with data of {bytes} bytes; at most {bytes_max} are allowed")
            }
            Self::Key { bytes } => {
                write!(f, "idempotency key of {bytes} bytes; 1 to {} are allowed", KEY_BYTES_MAX)
            }
            Self::KeyReused => f.write_str("idempotency key was used for other events within five minutes"),
            Self::Closed => f.write_str("the engine is shut down"),
        }
    }
}

impl std::error::Error for PublishError {}
