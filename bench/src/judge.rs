//! Judges what subscribers got: each must get the events of its topic in order, none lost, none twice.

use serde::{Deserialize, Serialize};

use crate::payload::Payload;

/// What was wrong over all subscribers. A run in which anything was wrong is a failed run, not a fast one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Events that came, each counted at each subscriber.
    pub events: u64,
    /// Events that were left out before a later one came.
    pub lost: u64,
    /// Events that came again, or after a later one.
    pub doubled: u64,
    /// Events of another topic, or that are not what was published.
    pub foreign: u64,
    /// Framing that no decoder can read.
    pub malformed: u64,
    /// Notices of a gap.
    pub gaps: u64,
    /// Connections that the server ended, or that it refused.
    pub ended: u64,
}

impl Judgement {
    /// Whether every subscriber got what it should so far.
    pub fn is_clean(&self) -> bool {
        !self.is_bad() && self.ended == 0
    }

    /// Whether a subscriber got what it should not, or missed something. That the server ended a connection
    /// is not bad in itself: it may where a subscriber does not read.
    pub fn is_bad(&self) -> bool {
        self.lost + self.doubled + self.foreign + self.malformed + self.gaps > 0
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            foreign: self.foreign + other.foreign,
            malformed: self.malformed + other.malformed,
            gaps: self.gaps + other.gaps,
            ended: self.ended + other.ended,
        }
    }

    /// Takes one event at one subscriber: `next` is the number that it must have, 0 if any will do.
    pub(crate) fn event(&mut self, next: &mut u32, topic: u32, text: &[u8]) -> Option<Payload> {
        let Some(payload) = Payload::decode(text).filter(|payload| payload.topic == topic) else {
            self.foreign += 1;
            return None;
        };
        let number = payload.number as u32;
        if *next != 0 && number < *next {
            self.doubled += 1;
            return None;
        }
        if *next != 0 {
            self.lost += u64::from(number - *next);
        }
        *next = number + 1;
        self.events += 1;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_foreign_is_seen() {
        let text = |number, topic| Payload { number, sent: 0, topic }.encode(50);
        let mut judgement = Judgement::default();
        let mut next = 0;
        for number in [5, 6, 9, 9, 8, 10] {
            judgement.event(&mut next, 1, &text(number, 1));
        }
        judgement.event(&mut next, 1, &text(11, 2));
        assert_eq!((judgement.events, judgement.lost, judgement.doubled, judgement.foreign), (4, 2, 2, 1));
        assert!(!judgement.is_clean() && judgement.is_bad());
        let ended = Judgement { ended: 1, ..Judgement::default() };
        assert!(!ended.is_clean() && !ended.is_bad());
    }
}
