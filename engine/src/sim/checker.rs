//! The checker: reads what one subscriber's decoder got, and says what was lost, doubled, disordered, made
//! up, or missing without a gap being told. The simulation, the tests with real sockets and the harness have
//! the same one.

use std::collections::HashMap;

use crate::cursor::{Cursor, Epoch, Offset};
use base64::Engine as _;

use crate::event::{Data, Event};
use crate::topic::Matcher;
use crate::transport::decode::{Item, as_delivered};
use crate::transport::{Format, Framing, Transport};

/// How a subscriber hears, as far as that changes what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// Its transport.
    pub transport: Transport,
    /// Envelopes or data alone.
    pub format: Format,
    /// What stands around each item.
    pub framing: Framing,
}

impl Hearing {
    /// Whether events come with their cursor, so that the subscriber can resume.
    pub fn has_ids(&self) -> bool {
        self.format == Format::Json || !matches!(self.transport, Transport::Stream | Transport::WebSocket)
    }
}

/// All that was published, in the order of its offsets.
#[derive(Debug, Default)]
pub struct Truth {
    epochs: HashMap<Epoch, Vec<Event>>,
    /// Where data stands that only one event has, for transports without ids.
    by_data: HashMap<Vec<u8>, Cursor>,
}

impl Truth {
    /// Notes an event that was published and answered with `cursor`.
    ///
    /// # Panics
    /// If offsets of an epoch do not go up one by one.
    pub fn published(&mut self, cursor: Cursor, event: &Event) {
        let events = self.epochs.entry(cursor.epoch).or_default();
        assert_eq!(events.len() as u64 + 1, cursor.offset.0, "offsets go up one by one");
        let data = event.data().bytes();
        self.by_data.insert(data.to_vec(), cursor);
        if let Data::Binary(bytes) = event.data() {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            self.by_data.insert(text.into_bytes(), cursor);
        }
        events.push(event.clone());
    }

    /// The event at a place.
    pub fn at(&self, cursor: Cursor) -> Option<&Event> {
        self.epochs.get(&cursor.epoch)?.get(cursor.offset.0.checked_sub(1)? as usize)
    }

    /// The newest offset of an epoch.
    pub fn head(&self, epoch: Epoch) -> Offset {
        Offset(self.epochs.get(&epoch).map_or(0, Vec::len) as u64)
    }
}

/// Follows one subscriber, over all its connections.
#[derive(Debug)]
pub struct Checker {
    /// What it hears.
    pub matchers: Vec<Matcher>,
    /// How it hears it.
    pub hearing: Hearing,
    /// Its place, as far as it has been told; none as long as it has not.
    pub position: Option<Cursor>,
    /// The highest `resumed` that it was told.
    told: Offset,
    /// Up to here a gap may leave out what the log still has (policy `latest`, and the end of a raw stream).
    lenient: Offset,
    /// Events that it got.
    pub events: u64,
    /// Gaps that it was told.
    pub gaps: u64,
}

impl Checker {
    /// A checker of a subscriber that has got nothing yet.
    pub fn new(matchers: Vec<Matcher>, hearing: Hearing) -> Self {
        Self {
            matchers,
            hearing,
            position: None,
            told: Offset::START,
            lenient: Offset::START,
            events: 0,
            gaps: 0,
        }
    }

    /// The subscriber connects again: with its position as cursor, or, where its transport gave it none, from
    /// now.
    pub fn reconnected(&mut self, is_resumed: bool) {
        self.told = Offset::START;
        self.lenient = Offset::START;
        if !is_resumed {
            self.position = None;
        }
    }

    /// Gaps of this subscriber may leave out what the log still has, up to what they name as resumed.
    pub fn skips_to_resumed(&mut self, resumed: Offset) {
        self.lenient = self.lenient.max(resumed);
    }

    /// The subscriber hears other matchers from `cursor` on.
    ///
    /// # Errors
    /// A sentence that says what went wrong.
    pub fn subscribed(
        &mut self,
        matchers: Vec<Matcher>,
        cursor: Cursor,
        truth: &Truth,
    ) -> Result<(), String> {
        self.advance(cursor, true, "answer to subscribe", truth, &|_| true)?;
        self.matchers = matchers;
        self.told = Offset::START;
        Ok(())
    }

    /// Takes one item. `is_gone` answers whether the log of the newest epoch has dropped the event at an
    /// offset.
    ///
    /// # Errors
    /// A sentence that says what went wrong.
    pub fn item(
        &mut self,
        item: &Item,
        truth: &Truth,
        is_gone: &dyn Fn(Cursor) -> bool,
    ) -> Result<(), String> {
        match item {
            Item::Cursor(cursor) => self.advance(*cursor, true, "place", truth, is_gone),
            Item::Answer { cursor, .. } => self.advance(*cursor, true, "answer", truth, is_gone),
            Item::Gap { after, resumed, cursor } => self.gap(*after, *resumed, *cursor, truth, is_gone),
            Item::Event { id, data, .. } => {
                let cursor = match id {
                    Some(cursor) => *cursor,
                    None => *truth.by_data.get(data).ok_or_else(|| format!("unknown data {data:?}"))?,
                };
                let published =
                    truth.at(cursor).ok_or_else(|| format!("an event {cursor} that nobody published"))?;
                let is_wanted = self.matchers.iter().any(|m| m.matches(published.topic().as_str()));
                if !is_wanted {
                    return Err(format!("event {cursor} of {}, which was not asked for", published.topic()));
                }
                let Hearing { transport, format, framing } = self.hearing;
                let expected = as_delivered(transport, format, framing, cursor, published);
                if expected != std::slice::from_ref(item) {
                    return Err(format!("{item:?} came for {cursor}, not {expected:?}"));
                }
                self.events += 1;
                self.advance(cursor, false, "event", truth, is_gone)
            }
            Item::Head { .. } | Item::Heartbeat | Item::Retry(_) | Item::Message(_) | Item::End { .. } => {
                Ok(())
            }
        }
    }

    fn gap(
        &mut self,
        after: Cursor,
        resumed: Cursor,
        cursor: Option<Cursor>,
        truth: &Truth,
        is_gone: &dyn Fn(Cursor) -> bool,
    ) -> Result<(), String> {
        self.gaps += 1;
        if let Some(position) = self.position
            && position.epoch == after.epoch
        {
            self.advance(after, true, "gap's after", truth, is_gone)?;
        }
        self.told = resumed.offset;
        let Some(cursor) = cursor else {
            // The answer of a poll has its cursor at its end.
            if resumed.epoch != after.epoch {
                self.position = Some(Cursor { epoch: resumed.epoch, offset: Offset::START });
            }
            return Ok(());
        };
        if cursor.epoch != after.epoch {
            self.position = Some(cursor);
            return Ok(());
        }
        self.advance(cursor, true, "gap's cursor", truth, is_gone)
    }

    /// Goes on to `to`: every event in between that was asked for must have been told as gone, and be gone.
    fn advance(
        &mut self,
        to: Cursor,
        is_inclusive: bool,
        what: &str,
        truth: &Truth,
        is_gone: &dyn Fn(Cursor) -> bool,
    ) -> Result<(), String> {
        let Some(position) = self.position else {
            self.position = Some(to);
            return Ok(());
        };
        if position.epoch != to.epoch {
            return Err(format!("{what} {to} of another epoch than {position}, and no gap was told"));
        }
        if to.offset < position.offset || (!is_inclusive && to.offset == position.offset) {
            return Err(format!("{what} {to} does not come after {position}: twice, or out of order"));
        }
        let last = if is_inclusive { to.offset } else { to.offset.previous() };
        for offset in position.offset.0 + 1..=last.0 {
            let at = Cursor { epoch: to.epoch, offset: Offset(offset) };
            let Some(published) = truth.at(at) else {
                return Err(format!("{what} {to} is beyond all that was published"));
            };
            if at.offset <= self.lenient
                || !self.matchers.iter().any(|m| m.matches(published.topic().as_str()))
            {
                continue;
            }
            if at.offset > self.told {
                return Err(format!("LOST {at} of {}: {what} {to} came after {position}", published.topic()));
            }
            if !is_gone(at) {
                return Err(format!(
                    "{at} of {} was left out under a gap, but the log has it",
                    published.topic()
                ));
            }
        }
        self.position = Some(to);
        Ok(())
    }

    /// What it still has to get of the epoch, if it is alive and nothing more is published.
    pub fn missing(&self, epoch: Epoch, truth: &Truth) -> Option<Cursor> {
        let position = self.position?;
        if position.epoch != epoch {
            return Some(position);
        }
        (position.offset.0 + 1..=truth.head(epoch).0).map(|o| Cursor { epoch, offset: Offset(o) }).find(
            |at| {
                at.offset > self.told
                    && truth
                        .at(*at)
                        .is_some_and(|p| self.matchers.iter().any(|m| m.matches(p.topic().as_str())))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(offset: u64) -> Cursor {
        Cursor { epoch: Epoch(7), offset: Offset(offset) }
    }

    fn truth() -> Truth {
        let mut truth = Truth::default();
        for (n, topic) in ["a", "b", "a", "a"].iter().enumerate() {
            truth.published(cursor(n as u64 + 1), &Event::text(topic, format!("data {n}")).unwrap());
        }
        truth
    }

    fn event(offset: u64) -> Item {
        let data = format!("data {}", offset - 1).into_bytes();
        let topic = Some(if offset == 2 { "b" } else { "a" }.into());
        Item::Event { id: Some(cursor(offset)), topic, name: None, data, is_binary: false }
    }

    fn check(items: &[Item]) -> Result<(), String> {
        let truth = truth();
        let (transport, format, framing) = (Transport::Stream, Format::Json, Framing::Chunked);
        let hearing = Hearing { transport, format, framing };
        let mut checker = Checker::new(vec!["a".parse().unwrap()], hearing);
        items.iter().try_for_each(|item| checker.item(item, &truth, &|at| at.offset <= Offset(3)))
    }

    #[test]
    fn what_is_in_order_and_whole_passes() {
        check(&[Item::Cursor(cursor(0)), event(1), event(3), Item::Cursor(cursor(3)), event(4)]).unwrap();
    }

    #[test]
    fn loss_repetition_disorder_and_invention_are_found() {
        let start = Item::Cursor(cursor(0));
        for items in [
            vec![start.clone(), event(3)],
            vec![start.clone(), event(1), event(1)],
            vec![start.clone(), event(1), event(3), event(1)],
            vec![start.clone(), event(1), event(2)],
            vec![start.clone(), Item::Cursor(cursor(1))],
            vec![start.clone(), event(1), Item::Cursor(cursor(9))],
            vec![event(9)],
        ] {
            assert!(check(&items).is_err(), "{items:?}");
        }
    }

    #[test]
    fn a_gap_excuses_what_is_gone_and_nothing_else() {
        let start = Item::Cursor(cursor(0));
        let gap = |resumed| Item::Gap { after: cursor(0), resumed: cursor(resumed), cursor: Some(cursor(0)) };
        check(&[start.clone(), gap(3), event(4)]).unwrap();
        assert!(check(&[start.clone(), gap(1), event(4)]).is_err(), "3 is not excused");
        assert!(check(&[start, gap(4), Item::Cursor(cursor(4))]).is_err(), "4 is not gone");
    }
}
