//! What is published: one item with its topic, optional name and data.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::cursor::Offset;
use crate::topic::Topic;

/// Longest event name, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 256;

/// The data of an event, with its kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Data {
    /// Text.
    Text(Box<str>),
    /// One JSON text (RFC 8259), checked, as it was written.
    Json(Box<str>),
    /// Bytes.
    Binary(Box<[u8]>),
}

impl Data {
    /// The bytes, whatever the kind.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) | Self::Json(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            Self::Text(text) => ("text", text.as_bytes()),
            Self::Json(text) => ("json", text.as_bytes()),
            Self::Binary(bytes) => ("binary", &**bytes),
        };
        write!(f, "{kind}[{}] {:?}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(40)]))
    }
}

/// One published item: topic, optional name, data with its kind; the log adds offset and time.
///
/// # Examples
/// ```
/// use stentor::Event;
/// let event = Event::text("prices/eurusd", "1.0712")?.named("price")?;
/// assert_eq!(event.data().bytes(), b"1.0712");
/// # Ok::<(), stentor::EventError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    topic: Topic,
    name: Option<Box<str>>,
    data: Data,
    /// Given by the sequencer; [`Offset::START`] before.
    pub(crate) offset: Offset,
    /// Milliseconds since 1970, given by the sequencer; 0 before.
    pub(crate) time_ms: u64,
    /// Who of the log and the shards still has it.
    pub(crate) shares: Shares,
}

/// How many of the log and the shards still have an event: its bytes count until the last one lets go. What
/// an embedder keeps is not counted. A copy of an event is nobody's yet.
#[derive(Debug, Default)]
pub(crate) struct Shares(AtomicU8);

impl Shares {
    pub(crate) fn set(&self, holders: u8) {
        self.0.store(holders, Ordering::Relaxed);
    }

    /// Whether this was the last share. An event that nobody counted has none.
    pub(crate) fn release(&self) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |shares| shares.checked_sub(1)) == Ok(1)
    }
}

impl Clone for Shares {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Shares {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Shares {}

impl Event {
    /// An event of any kind of data.
    pub fn new(topic: Topic, data: Data) -> Self {
        Self { topic, name: None, data, offset: Offset::START, time_ms: 0, shares: Shares::default() }
    }

    /// An event of text.
    ///
    /// # Errors
    /// [`EventError::Topic`] if `topic` is none.
    pub fn text(topic: &str, text: impl Into<Box<str>>) -> Result<Self, EventError> {
        Ok(Self::new(Topic::new(topic)?, Data::Text(text.into())))
    }

    /// An event of one JSON text, which is checked and kept as it is written.
    ///
    /// # Errors
    /// [`EventError::Topic`] if `topic` is none, [`EventError::Json`] if `text` is no JSON text.
    pub fn json(topic: &str, text: impl Into<Box<str>>) -> Result<Self, EventError> {
        let text = text.into();
        let _: &serde_json::value::RawValue = serde_json::from_str(&text)
            .map_err(|e| EventError::Json { line: e.line(), column: e.column() })?;
        Ok(Self::new(Topic::new(topic)?, Data::Json(text)))
    }

    /// An event of bytes.
    ///
    /// # Errors
    /// [`EventError::Topic`] if `topic` is none.
    pub fn binary(topic: &str, bytes: impl Into<Box<[u8]>>) -> Result<Self, EventError> {
        Ok(Self::new(Topic::new(topic)?, Data::Binary(bytes.into())))
    }

    /// Gives the event a name, which Server-Sent Events carry as `event`.
    ///
    /// # Errors
    /// [`EventError::Name`] if `name` is empty, longer than [`NAME_BYTES_MAX`], has a control character, or
    /// begins with `stentor.`, which is ours.
    pub fn named(mut self, name: &str) -> Result<Self, EventError> {
        let reason = if name.is_empty() {
            "is empty"
        } else if name.len() > NAME_BYTES_MAX {
            "is longer than 256 bytes"
        } else if name.chars().any(char::is_control) {
            "has a control character"
        } else if name.starts_with("stentor.") {
            "begins with `stentor.`, which is reserved"
        } else {
            self.name = Some(name.into());
            return Ok(self);
        };
        Err(EventError::Name { reason })
    }

    /// What it was published to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its data.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its place in the log; [`Offset::START`] as long as it is not published.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// When it was published, in milliseconds since 1970; 0 as long as it is not.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// What it counts against limits in bytes: its data, name and topic, and what keeping it costs.
    pub fn cost_bytes(&self) -> usize {
        const KEEPING: usize = 160;
        self.data.bytes().len()
            + self.name.as_ref().map_or(0, |n| n.len())
            + self.topic.as_str().len()
            + KEEPING
    }
}

/// Why something cannot be an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The topic is none.
    Topic(crate::topic::TopicError),
    /// The name is none.
    Name {
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The data is no JSON text.
    Json {
        /// Where it stops to be one; from 1.
        line: usize,
        /// Where in that line; from 1.
        column: usize,
    },
}

impl From<crate::topic::TopicError> for EventError {
    fn from(error: crate::topic::TopicError) -> Self {
        Self::Topic(error)
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => error.fmt(f),
            Self::Name { reason } => write!(f, "name {reason}"),
            Self::Json { line, column } => write!(f, "data is no JSON text: line {line}, column {column}"),
        }
    }
}

impl std::error::Error for EventError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_ours_and_a_name_of_two_lines_are_refused() {
        let event = Event::text("a", "x").unwrap();
        for name in ["", "stentor.gap", "a\nb", "a\rb", "a\0"] {
            assert!(matches!(event.clone().named(name), Err(EventError::Name { .. })), "{name:?}");
        }
        assert_eq!(event.named("price").unwrap().name(), Some("price"));
    }

    #[test]
    fn json_is_checked_and_kept_as_written() {
        assert_eq!(Event::json("a", "{ \"b\" : 1.0 }").unwrap().data().bytes(), b"{ \"b\" : 1.0 }");
        assert!(matches!(Event::json("a", "{\"b\":}"), Err(EventError::Json { line: 1, .. })));
        assert!(Event::json("a", "1 2").is_err());
        assert!(Event::json("a", "").is_err());
    }
}
