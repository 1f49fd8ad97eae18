//! Topics, and the matchers by which subscribers name them. Knows nothing of who is interested.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest topic or matcher, in bytes of UTF-8.
pub const TOPIC_BYTES_MAX: usize = 256;

/// The name that one publishes to: 1 to 256 bytes of UTF-8, segments split by `/`, none empty, no control
/// characters, no `*`. Cheap to clone: all copies share the text.
///
/// # Examples
/// ```
/// let topic: stentor::Topic = "prices/eurusd".parse()?;
/// assert_eq!(topic.as_str(), "prices/eurusd");
/// assert!("prices//eurusd".parse::<stentor::Topic>().is_err());
/// # Ok::<(), stentor::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks `text` and takes it as a topic.
    ///
    /// # Errors
    /// [`TopicError`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check(text)?;
        if text.contains('*') {
            return Err(TopicError::Star);
        }
        Ok(Self(text.into()))
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a subscriber names: a topic, or a topic in which `*` stands for one whole segment, or whose last
/// segment is `**` and stands for one or more segments. So `prices/**` matches `prices/eurusd` and
/// `prices/spot/eurusd`, not `prices`.
///
/// # Examples
/// ```
/// let matcher: stentor::Matcher = "prices/*".parse()?;
/// assert!(matcher.matches("prices/eurusd"));
/// assert!(!matcher.matches("prices/spot/eurusd"));
/// # Ok::<(), stentor::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matcher(Arc<str>);

impl Matcher {
    /// Checks `text` and takes it as a matcher.
    ///
    /// # Errors
    /// [`TopicError`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check(text)?;
        let mut segments = text.split('/').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "*" => {}
                "**" if segments.peek().is_none() => {}
                "**" => return Err(TopicError::DoubleStar),
                _ if segment.contains('*') => return Err(TopicError::Star),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// The matcher as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a `*` or `**`, so that it can match more than one topic.
    pub fn is_wildcard(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether `topic` is one that this matcher names.
    pub fn matches(&self, topic: &str) -> bool {
        if !self.is_wildcard() {
            return &*self.0 == topic;
        }
        let mut topic = topic.split('/');
        for wanted in self.0.split('/') {
            let Some(segment) = topic.next() else { return false };
            match wanted {
                "**" => return true,
                "*" => {}
                _ if wanted == segment => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }
}

impl std::str::FromStr for Matcher {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl From<Topic> for Matcher {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

impl Borrow<str> for Matcher {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { bytes: text.len() });
    }
    if text.chars().any(char::is_control) {
        return Err(TopicError::Control);
    }
    if text.split('/').any(str::is_empty) {
        return Err(TopicError::EmptySegment);
    }
    Ok(())
}

/// Why a text is no topic or no matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// No text at all.
    Empty,
    /// `bytes` of UTF-8, over [`TOPIC_BYTES_MAX`].
    TooLong {
        /// The length of the text.
        bytes: usize,
    },
    /// A control character.
    Control,
    /// A segment between two `/`, before the first or after the last, is empty.
    EmptySegment,
    /// A `*` in a topic, or one in a matcher that is not a whole segment.
    Star,
    /// A `**` that is not the last segment.
    DoubleStar,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("topic is empty; it has 1 to 256 bytes"),
            Self::TooLong { bytes } => {
                write!(f, "topic of {bytes} bytes; at most {TOPIC_BYTES_MAX} are allowed")
            }
            Self::Control => f.write_str("topic has a control character"),
            Self::EmptySegment => f.write_str("topic has an empty segment"),
            Self::Star => f.write_str("`*` is allowed only in a matcher, as a whole segment"),
            Self::DoubleStar => f.write_str("`**` is allowed only as the last segment of a matcher"),
        }
    }
}

impl std::error::Error for TopicError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_checked_by_every_rule() {
        for (text, error) in [
            ("", TopicError::Empty),
            ("a\u{7}", TopicError::Control),
            ("a\n", TopicError::Control),
            ("/a", TopicError::EmptySegment),
            ("a/", TopicError::EmptySegment),
            ("a//b", TopicError::EmptySegment),
            ("a/*", TopicError::Star),
            ("a*", TopicError::Star),
        ] {
            assert_eq!(Topic::new(text), Err(error), "{text:?}");
        }
        let long = "é".repeat(129);
        assert_eq!(Topic::new(&long), Err(TopicError::TooLong { bytes: 258 }));
        assert!(Topic::new(&"é".repeat(128)).is_ok());
    }

    #[test]
    fn a_matcher_takes_whole_segments_and_a_final_rest() {
        for (matcher, topic, is_match) in [
            ("a", "a", true),
            ("a", "a/b", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("*/b", "a/b", true),
            ("*/b", "a/c", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b", false),
            ("a/*/**", "a/b", false),
            ("a/*/**", "a/b/c/d", true),
        ] {
            assert_eq!(Matcher::new(matcher).unwrap().matches(topic), is_match, "{matcher} {topic}");
        }
        assert_eq!(Matcher::new("a/**/b"), Err(TopicError::DoubleStar));
        assert_eq!(Matcher::new("a/b*"), Err(TopicError::Star));
        assert_eq!(Matcher::new("***"), Err(TopicError::Star));
    }
}
