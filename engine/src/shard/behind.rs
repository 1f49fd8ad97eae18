//! Those that are behind: new subscribers, ones with a cursor, ones whose matchers changed, slow ones, ones
//! after a gap. One path: served from the log, coalesced, when the socket is writable, and only up to the
//! position of the set.

use std::rc::Rc;
use std::sync::Arc;

use stentor_protocol::h1::response::ImfFixdate;

use super::control::{Control, Farewell};
use super::prepared::{FromLog, HeadVariant, Run};
use super::slots::{State, flag};
use super::walk::RUN_BYTES_MAX;
use super::{Batch, Outcome, Purpose, Shard};
use crate::cursor::{Cursor, Offset};
use crate::event::Event;
use crate::log::{Query, Read};
use crate::transport::{self, Answer, Encoding, Ending, Gap};

/// A run for one that is served from the log is not made longer than this by a further event.
const CATCH_UP_BYTES_MAX: usize = 64 << 10;
/// A run from the log that is longer goes out as it is, shared with all who are sent the same, after the
/// start of a stream or a gap, not copied behind it.
const COPIED_BYTES_MAX: usize = 2 << 10;

/// What a send from the log brings its subscriber to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    end: Offset,
    /// The highest `resumed` that it tells.
    told: Offset,
    events: usize,
    /// Nothing may follow it: the transport cannot tell a gap.
    is_last: bool,
    is_gap: bool,
    /// Of what is up to `told` the newest event of each topic follows.
    is_latest: bool,
    has_more: bool,
}

/// What there is to send to one that is behind.
enum Next {
    Send(Run, Served),
    /// Nothing; its place moves. Whether there is more to read.
    Level(Offset, bool),
    /// Its policy ends it.
    Close,
    /// There was a gap, and its transport has no bytes for that: its end says it.
    Last,
}

impl Shard {
    /// Puts a slot into the queue of those to be served, once.
    pub(super) fn serve_soon(&mut self, index: u32) {
        let id = self.slots.id(index);
        let slot = &mut self.slots[index];
        if slot.state == State::Behind && !slot.is(flag::QUEUED) {
            slot.put(flag::QUEUED, true);
            self.to_serve.push_back(id);
        }
    }

    /// Fills the batch with those whose turn has come.
    pub(super) fn fill_from_behind(&mut self, batch: &mut Batch) {
        // Slots that need no send cost little, but not nothing.
        for _ in 0..self.to_serve.len().min(batch.looks_max()) {
            if batch.is_full() {
                return;
            }
            let Some(id) = self.to_serve.pop_front() else { return };
            self.look();
            let Some(slot) = self.slots.get(id) else { continue };
            slot.put(flag::QUEUED, false);
            if slot.is(flag::IN_BATCH) {
                self.serve_soon(id.index);
                continue;
            }
            self.serve(id.index, 1, batch);
        }
    }

    /// Serves one that is behind with what the log has for it, at least `events_min` events in a run if there
    /// are.
    pub(super) fn serve(&mut self, index: u32, events_min: usize, batch: &mut Batch) {
        let slot = &self.slots[index];
        if slot.state != State::Behind
            || slot.answers_due > 0
            || slot.flags & (flag::HALF_SENT | flag::UNWRITABLE | flag::IN_BATCH) != 0
        {
            return;
        }
        match self.next_for(index, events_min) {
            Next::Level(place, has_more) => {
                let slot = &mut self.slots[index];
                slot.place = slot.place.max(place);
                if !slot.is(flag::STARTED) {
                    slot.put(flag::STARTED, true);
                    if !self.started(index) {
                        return;
                    }
                }
                if has_more {
                    self.serve_soon(index);
                } else {
                    self.settle(index);
                }
            }
            Next::Last => {
                self.counters.gaps += 1;
                self.end_when_sent(index);
            }
            Next::Close => self.control(index, Control::End(Farewell::Slow)),
            Next::Send(run, served) => {
                let number = batch.run(&run);
                let slot = &mut self.slots[index];
                slot.put(flag::IN_BATCH, true);
                let purpose = Purpose::Behind(batch.behind.len() as u32);
                batch.push(slot.socket, index, number, 0, run.len(), purpose);
                batch.behind.push(served);
            }
        }
    }

    /// What the log, and the start of its stream, have for a subscriber.
    fn next_for(&mut self, index: u32, events_min: usize) -> Next {
        let (place, number, told) = (self.slots[index].place, self.slots[index].set, self.slots[index].told);
        let encoding = self.sets[number].encoding;
        let position = self.position(number);
        let old = self.extra_of(index).and_then(|extra| extra.old);
        let is_poll = encoding.transport.is_poll();
        let until = position.max(place);
        // Then everybody gets one event at a time, whose bytes are shared and so held once, and nobody is
        // reset.
        let is_tight = self.is_memory_tight();
        let read = if position > place || old.is_some() {
            let (events_max, bytes_max) = if is_poll {
                (usize::from(encoding.limit).max(1), RUN_BYTES_MAX)
            } else if is_tight {
                (1, 1)
            } else if events_min > 1 {
                (self.pace.run_events.max(events_min), RUN_BYTES_MAX)
            } else {
                (self.pace.run_events, CATCH_UP_BYTES_MAX)
            };
            self.read_log(number, Query { after: place, until, events_max, bytes_max })
        } else {
            FromLog::nothing(until)
        };
        let read = &*read;
        let is_gap = old.is_some() || (read.dropped > place && read.dropped > told);
        let has_fallen = is_gap && old.is_none() && self.slots[index].is(flag::FELL);
        if has_fallen && self.slots[index].is(flag::POLICY_CLOSE) {
            return Next::Close;
        }
        let begins_latest = has_fallen && !is_poll && self.slots[index].is(flag::POLICY_LATEST);
        let is_latest = begins_latest || (self.slots[index].is(flag::LATEST) && place < told && !is_gap);
        let resumed = if begins_latest { position.max(read.dropped) } else { read.dropped };
        let gap = is_gap.then(|| self.gap(place, old, read, resumed, begins_latest));
        let told = if is_gap { resumed } else { told };
        let newest;
        let (events, shared) = if is_latest {
            newest = self.newest_of(&read.events, told);
            (newest.as_slice(), None)
        } else {
            (read.events.as_slice(), Some(read))
        };
        let mut end = read.end.max(place);
        if let Some(gap) = &gap
            && read.events.is_empty()
        {
            end = end.max(gap.cursor.offset);
        }
        let served = Served {
            end,
            told,
            events: events.len(),
            is_last: false,
            is_gap,
            is_latest,
            has_more: read.has_more,
        };
        if is_poll {
            if gap.is_some() {
                let answer = self.answer(encoding, gap, events, end, read.has_more);
                return Next::Send(Run::new(answer), served);
            }
            if events.is_empty() {
                return Next::Level(end, read.has_more);
            }
            return Next::Send(self.shared_answer(encoding, read, end), served);
        }
        let has_prefix = gap.is_some() || !self.slots[index].is(flag::STARTED);
        if has_prefix && !events.is_empty() {
            let is_long = || events.iter().map(|e| e.data().bytes().len()).sum::<usize>() > COPIED_BYTES_MAX;
            if is_tight || is_long() {
                let place = match &gap {
                    Some(gap) if !is_latest => gap.cursor.offset.max(place),
                    _ => place,
                };
                let served = Served { end: place, events: 0, has_more: true, ..served };
                return self.stream_bytes(index, encoding, gap, &[], None, served);
            }
        }
        self.stream_bytes(index, encoding, gap, events, shared, served)
    }

    /// What the log has for the set; one read for all who are at the same place.
    fn read_log(&mut self, number: u32, query: Query) -> Rc<FromLog> {
        if let Some(read) = self.prepared.read(number, query) {
            return read;
        }
        #[cfg(test)]
        {
            self.work.log_reads += 1;
        }
        let Query { after, until, events_max, bytes_max } = query;
        let read = self.sequencer.read(&self.sets[number].matchers, after, until, events_max, bytes_max);
        self.prepared.keep_read(number, query, read)
    }

    /// The answer of a poll that these events are, the same for all who are at the same place.
    fn shared_answer(&mut self, encoding: Encoding, read: &FromLog, end: Offset) -> Run {
        let now_seconds = self.sequencer.now_seconds();
        let is_draining = self.drain.is_some();
        if let Some(run) = read.answer(now_seconds, is_draining) {
            return run;
        }
        let run = Run::new(self.answer(encoding, None, &read.events, end, read.has_more));
        read.keep_answer(now_seconds, is_draining, &run);
        run
    }

    /// Of these events those that are beyond `told`, or the newest of their topics.
    fn newest_of(&self, events: &[Arc<Event>], told: Offset) -> Vec<Arc<Event>> {
        let is_newest = |event: &&Arc<Event>| {
            if event.offset() > told {
                return true;
            }
            let topic = self.sequencer.topic(event.topic().as_str());
            topic.is_none_or(|topic| topic.last <= event.offset())
        };
        events.iter().filter(is_newest).cloned().collect()
    }

    /// The notice for a subscriber at `place`, or with the cursor `old` of another epoch. Where the events up
    /// to `resumed` that remain are sent in part only, it carries the place.
    fn gap(&self, place: Offset, old: Option<Cursor>, read: &Read, resumed: Offset, is_latest: bool) -> Gap {
        let cursor = if old.is_some() {
            Offset::START
        } else if read.remains_in_gap || is_latest {
            place
        } else {
            read.dropped.max(place)
        };
        Gap {
            after: old.unwrap_or_else(|| self.cursor(place)),
            resumed: self.cursor(resumed),
            cursor: self.cursor(cursor),
        }
    }

    fn stream_bytes(
        &mut self,
        index: u32,
        encoding: Encoding,
        gap: Option<Gap>,
        events: &[Arc<Event>],
        read: Option<&FromLog>,
        mut served: Served,
    ) -> Next {
        let mut bytes = Vec::new();
        if !self.slots[index].is(flag::STARTED) {
            let (min, max) = (self.config.timing.retry_ms_min, self.config.timing.retry_ms_max);
            let retry_ms = min + self.jitter(max.saturating_sub(min) + 1);
            let place = self.cursor(self.slots[index].place);
            let is_of_old = self.extra_of(index).is_some_and(|extra| extra.old.is_some());
            if let Some(head) = self.first_head(index) {
                // Copied, not taken: if the socket takes nothing now, the head goes out another time.
                bytes.extend_from_slice(head);
            }
            if is_of_old {
                transport::encode_preamble(&encoding, retry_ms, &mut bytes);
            } else {
                transport::encode_start(&encoding, place, retry_ms, &mut bytes);
            }
        }
        if let Some(gap) = &gap
            && transport::encode_gap(&encoding, gap, &mut bytes) == Ending::Close
        {
            served.is_last = true;
            return if bytes.is_empty() { Next::Last } else { Next::Send(Run::new(bytes), served) };
        }
        match events {
            [] if bytes.is_empty() => Next::Level(served.end, served.has_more),
            [] => Next::Send(Run::new(bytes), served),
            _ => {
                // The bytes of all who are at the same place, counted once if they stay half sent.
                let run = match read {
                    Some(read) => read.run(|| self.prepared.run(encoding, events)),
                    None => self.prepared.run(encoding, events),
                };
                if bytes.is_empty() {
                    return Next::Send(run, served);
                }
                bytes.extend_from_slice(run.bytes());
                Next::Send(Run::new(bytes), served)
            }
        }
    }

    /// What the answers of an encoding carry, with the time (RFC 9110 §6.6.1).
    pub(super) fn answer_head(&self, encoding: Encoding) -> HeadVariant {
        let mut head = self.heads.get(encoding.head).cloned().unwrap_or_default();
        let now = ImfFixdate::from_unix(self.sequencer.now_seconds());
        head.lines = format!("{}Date: {now}\r\n", head.lines).into();
        head
    }

    /// A whole answer of a poll.
    pub(super) fn answer(
        &self,
        encoding: Encoding,
        gap: Option<Gap>,
        events: &[Arc<Event>],
        end: Offset,
        has_more: bool,
    ) -> Vec<u8> {
        let head = self.answer_head(encoding);
        let answer = Answer {
            gap,
            events,
            epoch: self.sequencer.epoch(),
            cursor: self.cursor(end),
            has_more,
            // While the engine drains, the connection ends with the answer.
            is_keep_alive: head.keeps_alive && self.drain.is_none(),
            is_http10: head.is_http10,
            is_head: false,
            extra_head: &head.lines,
        };
        let mut bytes = Vec::new();
        transport::encode_answer(&encoding, &answer, &mut bytes);
        bytes
    }

    /// A send from the log was made.
    pub(super) fn behind_sent(&mut self, index: u32, served: Served, outcome: Outcome, run: &Run) {
        if self.slots[index].state != State::Behind {
            return;
        }
        if matches!(outcome, Outcome::Full | Outcome::Failed) {
            self.wait_for_room(index);
            return;
        }
        let is_poll = self.sets[self.slots[index].set].encoding.transport.is_poll();
        let slot = &mut self.slots[index];
        slot.place = served.end;
        slot.told = slot.told.max(served.told);
        slot.put(flag::LATEST, served.is_latest);
        let is_start = !slot.is(flag::STARTED);
        slot.put(flag::STARTED, true);
        self.counters.deliveries += served.events as u64;
        self.counters.gaps += u64::from(served.is_gap);
        self.forget_head(index);
        if let Some(extra) = self.extra_of(index) {
            extra.old = None;
        }
        if let Outcome::Short(bytes) = outcome {
            self.hold_rest(index, run, bytes);
        }
        if is_poll {
            match outcome {
                Outcome::Whole => self.answer_sent(index, served.end),
                _ => self.answer_under_way(index, served.end),
            }
            return;
        }
        if is_start && !self.started(index) {
            return;
        }
        if served.is_last {
            self.end_when_sent(index);
        } else if outcome == Outcome::Whole {
            if served.has_more {
                self.serve_soon(index);
            } else {
                self.settle(index);
            }
        }
    }
}
