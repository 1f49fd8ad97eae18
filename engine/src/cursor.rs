//! Offsets, epochs, and the cursor that is made of both: a place in the log, valid on every transport.

use std::fmt;

/// A place in the log: every event gets the next one, from 1 up. Offset 0 stands before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first event of an epoch.
    pub const START: Self = Self(0);
    /// After every event that can be.
    pub const MAX: Self = Self(u64::MAX);

    /// The offset that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The offset before; [`Offset::START`] has none and stays.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of the log an offset belongs to. A process that starts with an empty log takes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// An epoch that no earlier log of this machine had: the microseconds since 1970 with the process id
    /// mixed in.
    pub fn fresh() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self((now.as_micros() as u64) << 8 ^ u64::from(std::process::id() & 0xff))
    }
}

/// Opaque text `epoch-offset`: SSE `id`, `ETag`, `Last-Event-ID` and `?cursor=` carry it. The epoch is in
/// base 36, the offset in decimal.
///
/// # Examples
/// ```
/// let cursor: stentor::Cursor = "k3-42".parse()?;
/// assert_eq!(cursor.offset.0, 42);
/// assert_eq!(cursor.to_string(), "k3-42");
/// # Ok::<(), stentor::CursorError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The life of the log.
    pub epoch: Epoch,
    /// The place in it: the last event that was sent, or that needs not be.
    pub offset: Offset,
}

/// Longest cursor as text: 13 digits in base 36, a hyphen, 20 in decimal.
pub const CURSOR_BYTES_MAX: usize = 34;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 13];
        let mut start = digits.len();
        let mut rest = self.epoch.0;
        loop {
            start -= 1;
            digits[start] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        let epoch = std::str::from_utf8(&digits[start..]).map_err(|_| fmt::Error)?;
        write!(f, "{epoch}-{}", self.offset)
    }
}

impl std::str::FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError::Malformed);
        }
        let (epoch, offset) = text.split_once('-').ok_or(CursorError::Malformed)?;
        let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_plain(epoch) || !is_plain(offset) {
            return Err(CursorError::Malformed);
        }
        Ok(Self {
            epoch: Epoch(u64::from_str_radix(epoch, 36).map_err(|_| CursorError::Malformed)?),
            offset: Offset(offset.parse().map_err(|_| CursorError::Malformed)?),
        })
    }
}

/// Where a subscriber wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the next event that is published.
    #[default]
    Now,
    /// With the oldest event that the log retains.
    Earliest,
    /// After this place.
    After(Cursor),
}

/// Why a cursor is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CursorError {
    /// Not of the form `epoch-offset`.
    Malformed,
    /// Of this epoch, but beyond the head of the log: nobody can have got it from here.
    BeyondHead {
        /// What was asked for.
        offset: Offset,
        /// The newest offset of the log.
        head: Offset,
    },
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("cursor is not of the form `epoch-offset`"),
            Self::BeyondHead { offset, head } => {
                write!(f, "cursor names offset {offset}, beyond the head of the log, {head}")
            }
        }
    }
}

impl std::error::Error for CursorError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_what_it_writes() {
        for (epoch, offset) in [(0, 0), (35, 1), (36, 42), (u64::MAX, u64::MAX)] {
            let cursor = Cursor { epoch: Epoch(epoch), offset: Offset(offset) };
            assert!(cursor.to_string().len() <= CURSOR_BYTES_MAX);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            "-",
            "a-",
            "-1",
            "a-b",
            "a--1",
            "a-+1",
            "+a-1",
            "a-1 ",
            "zzzzzzzzzzzzzz-1",
            "a-99999999999999999999",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError::Malformed), "{text:?}");
        }
    }
}
