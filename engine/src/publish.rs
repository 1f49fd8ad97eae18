//! The publisher: the way into the log, for any thread and any runtime.

use std::fmt;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::event::Event;
pub(crate) use crate::sequencer::Sequencer;
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

    pub fn publish(&self, event: Event) -> Result<Cursor, PublishError> {
        let _ = event;
        unimplemented!()
    }

    pub fn publish_batch(&self, events: Vec<Event>) -> Result<Vec<Cursor>, PublishError> {
        let _ = events;
        unimplemented!()
    }

    /// The body's fingerprint is made here, of the events.
    pub fn publish_keyed(&self, key: &str, events: Vec<Event>) -> Result<Published, PublishError> {
        let _ = (key, events);
        unimplemented!()
    }

    pub async fn publish_wait(&self, event: Event) -> Result<Cursor, PublishError> {
        let _ = event;
        unimplemented!()
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
                write!(f, "idempotency key of {bytes} bytes; 1 to {} are allowed", crate::keys::KEY_BYTES_MAX)
            }
            Self::KeyReused => f.write_str("idempotency key was used for other events within five minutes"),
            Self::Closed => f.write_str("the engine is shut down"),
        }
    }
}

impl std::error::Error for PublishError {}
