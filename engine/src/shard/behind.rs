//! Those that are behind: new subscribers, ones with a cursor, ones whose matchers changed, slow ones, ones
//! after a gap. One path: served from the log, coalesced, when the socket is writable, and only up to the
//! position of the set.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use stentor_protocol::h1::response::ImfFixdate;

use super::control::{Control, Farewell};
use super::prepared::{HeadVariant, Run};
use super::slots::{NONE, SlotId, State, flag};
use super::walk::RUN_BYTES_MAX;
use super::{Batch, Closing, HalfSent, Outcome, Purpose, Shard};
use crate::cursor::{Cursor, Offset};
use crate::event::Event;
use crate::log::Read;
use crate::metrics::Ended;
use crate::transport::{self, Answer, Encoding, Ending, Gap};

/// Reads of the log that `latest` makes at most to find the newest event of each topic.
const LATEST_READS_MAX: usize = 1_024;

/// A run for one that is served from the log is not made longer than this by a further event.
const CATCH_UP_BYTES_MAX: usize = 64 << 10;
/// Joiners of one walk that are looked at in a fill, those that take nothing included.
const JOINERS_LOOKED_AT: usize = 4_096;

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
    has_more: bool,
}

/// What there is to send to one that is behind.
enum Next {
    Send(Run, Served),
    /// Nothing; its place moves.
    Level(Offset),
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

    /// Fills the batch with those whose turn has come; at most half of it, so that walks go on too.
    pub(super) fn fill_from_behind(&mut self, batch: &mut Batch) {
        let until = batch.sends.len() + self.pace.batch_sends.div_ceil(2);
        // Slots that need no send cost little, but not nothing.
        for _ in 0..self.to_serve.len().min(4 * self.pace.batch_sends) {
            if batch.sends.len() >= until || batch.is_full() {
                break;
            }
            let Some(id) = self.to_serve.pop_front() else { break };
            let Some(slot) = self.slots.get(id) else { continue };
            slot.put(flag::QUEUED, false);
            if slot.is(flag::IN_BATCH) {
                self.serve_soon(id.index);
                continue;
            }
            self.serve(id.index, 1, batch);
        }
    }

    /// Walks that have visited their members serve their joiners up to their own end, first come first.
    pub(super) fn fill_from_joiners(&mut self, batch: &mut Batch) {
        for _ in 0..self.joining.len() {
            let Some((number, mut slot)) = self.joining.pop_front() else { return };
            let Some((end, events)) = self.walk_end_of(number) else { continue };
            let mut left = self.joiners_left(number);
            let mut is_waiting = false;
            let mut looks = 0;
            while left > 0 && slot != NONE && !batch.is_full() {
                // Only the list is followed: a slot that left it since takes the walk to its end early, which
                // is allowed.
                if self.slots[slot].state != State::Behind || self.slots[slot].set != number {
                    slot = NONE;
                    break;
                }
                let next = self.slots[slot].next;
                looks += 1;
                if self.slots[slot].flags & (flag::UNWRITABLE | flag::HALF_SENT) != 0
                    && looks < JOINERS_LOOKED_AT
                {
                    // Who takes nothing uses up nobody's turn.
                    slot = next;
                    continue;
                }
                if self.slots[slot].is(flag::IN_BATCH) {
                    is_waiting = true;
                } else if self.slots[slot].place < end {
                    self.serve(slot, events, batch);
                    is_waiting = true;
                }
                left -= 1;
                slot = next;
            }
            if left == 0 || slot == NONE {
                if is_waiting {
                    // The results come first: the walk ends in the next fill.
                    self.set_joiners_left(number, 0);
                    self.joining.push_back((number, NONE));
                } else {
                    self.end_walk(number);
                }
            } else {
                self.set_joiners_left(number, left);
                self.joining.push_back((number, slot));
            }
        }
    }

    fn walk_end_of(&self, number: u32) -> Option<(Offset, usize)> {
        let walk = self.sets.get(number)?.walk.as_ref()?;
        walk.joiners_left.map(|_| (walk.end, walk.events))
    }

    fn joiners_left(&self, number: u32) -> usize {
        self.sets.get(number).and_then(|s| s.walk.as_ref()).and_then(|w| w.joiners_left).unwrap_or(0)
    }

    fn set_joiners_left(&mut self, number: u32, left: usize) {
        if let Some(walk) = self.sets.get_mut(number).and_then(|s| s.walk.as_mut()) {
            walk.joiners_left = Some(left);
        }
    }

    /// Serves one that is behind with what the log has for it, at least `events_min` events in a run if there
    /// are.
    fn serve(&mut self, index: u32, events_min: usize, batch: &mut Batch) {
        let slot = &self.slots[index];
        if slot.state != State::Behind
            || slot.answers_due > 0
            || slot.flags & (flag::HALF_SENT | flag::UNWRITABLE | flag::IN_BATCH) != 0
        {
            return;
        }
        match self.next_for(index, events_min) {
            Next::Level(place) => {
                let slot = &mut self.slots[index];
                slot.place = slot.place.max(place);
                if !slot.is(flag::STARTED) {
                    slot.put(flag::STARTED, true);
                    if !self.started(index) {
                        return;
                    }
                }
                self.settle(index);
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
            self.sequencer.read(&self.sets[number].matchers, place, until, events_max, bytes_max)
        } else {
            Read {
                events: Vec::new(),
                dropped: Offset::START,
                end: until,
                has_more: false,
                remains_in_gap: false,
            }
        };
        let resumed = read.dropped;
        let is_gap = old.is_some() || (resumed > place && resumed > told);
        let has_fallen = self.slots[index].is(flag::FELL);
        if is_gap && has_fallen && old.is_none() {
            if self.slots[index].is(flag::POLICY_CLOSE) {
                return Next::Close;
            }
            if self.slots[index].is(flag::POLICY_LATEST) && !is_poll {
                return self.latest_for(index, position, resumed);
            }
        }
        let gap = is_gap.then(|| self.gap(place, old, &read));
        let mut end = read.end.max(place);
        if let Some(gap) = &gap
            && read.events.is_empty()
        {
            end = end.max(gap.cursor.offset);
        }
        let served = Served {
            end,
            told: if is_gap { resumed } else { told },
            events: read.events.len(),
            is_last: false,
            is_gap,
            has_more: read.has_more,
        };
        if is_poll {
            if gap.is_none() && read.events.is_empty() {
                return Next::Level(end);
            }
            let answer = self.answer(encoding, gap, &read.events, end, read.has_more);
            return Next::Send(Run::new(answer), served);
        }
        let has_prefix = gap.is_some() || !self.slots[index].is(flag::STARTED);
        if is_tight && has_prefix && !read.events.is_empty() {
            let place = gap.as_ref().map_or(place, |gap| gap.cursor.offset.max(place));
            let served = Served { end: place, events: 0, has_more: true, ..served };
            return self.stream_bytes(index, encoding, gap, &[], served);
        }
        self.stream_bytes(index, encoding, gap, &read.events, served)
    }

    /// The notice for a subscriber at `place`, or with the cursor `old` of another epoch.
    fn gap(&self, place: Offset, old: Option<Cursor>, read: &Read) -> Gap {
        let cursor = if old.is_some() {
            Offset::START
        } else if read.remains_in_gap {
            place
        } else {
            read.dropped.max(place)
        };
        Gap {
            after: old.unwrap_or_else(|| self.cursor(place)),
            resumed: self.cursor(read.dropped),
            cursor: self.cursor(cursor),
        }
    }

    fn stream_bytes(
        &mut self,
        index: u32,
        encoding: Encoding,
        gap: Option<Gap>,
        events: &[Arc<Event>],
        mut served: Served,
    ) -> Next {
        let mut bytes = Vec::new();
        if !self.slots[index].is(flag::STARTED) {
            let (min, max) = (self.config.timing.retry_ms_min, self.config.timing.retry_ms_max);
            let retry_ms = min + self.jitter(max.saturating_sub(min) + 1);
            let place = self.cursor(self.slots[index].place);
            let extra = self.extra_of(index);
            let is_of_old = extra.as_ref().is_some_and(|extra| extra.old.is_some());
            if let Some(extra) = extra {
                // Copied, not taken: if the socket takes nothing now, the head goes out another time.
                bytes.extend_from_slice(&extra.head);
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
            [] if bytes.is_empty() => Next::Level(served.end),
            [] => Next::Send(Run::new(bytes), served),
            // The bytes of all who are at the same place, counted once if they stay half sent.
            _ if bytes.is_empty() => Next::Send(self.prepared.run(encoding, events), served),
            _ => {
                bytes.extend_from_slice(self.prepared.run(encoding, events).bytes());
                Next::Send(Run::new(bytes), served)
            }
        }
    }

    /// Policy `latest`: a gap that carries the subscriber's own place, then the newest event of each topic,
    /// ascending.
    fn latest_for(&mut self, index: u32, position: Offset, dropped: Offset) -> Next {
        let (place, number) = (self.slots[index].place, self.slots[index].set);
        let encoding = self.sets[number].encoding;
        let mut newest: HashMap<crate::topic::Topic, Arc<Event>> = HashMap::new();
        let mut after = place;
        for _ in 0..LATEST_READS_MAX {
            let matchers = &self.sets[number].matchers;
            let read = self.sequencer.read(matchers, after, position, self.pace.run_events, RUN_BYTES_MAX);
            for event in &read.events {
                newest.insert(event.topic().clone(), Arc::clone(event));
            }
            if read.end <= after || !read.has_more {
                break;
            }
            after = read.end;
        }
        let events: BTreeMap<Offset, Arc<Event>> = newest.into_values().map(|e| (e.offset(), e)).collect();
        let events: Vec<Arc<Event>> = events.into_values().collect();
        let resumed = position.max(dropped);
        let gap =
            Gap { after: self.cursor(place), resumed: self.cursor(resumed), cursor: self.cursor(place) };
        let served = Served {
            end: position.max(place),
            told: resumed,
            events: events.len(),
            is_last: false,
            is_gap: true,
            has_more: false,
        };
        self.stream_bytes(index, encoding, Some(gap), &events, served)
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
        let is_start = !slot.is(flag::STARTED);
        slot.put(flag::STARTED, true);
        self.counters.deliveries += served.events as u64;
        self.counters.gaps += u64::from(served.is_gap);
        if let Some(extra) = self.extra_of(index) {
            extra.old = None;
            extra.head = Vec::new();
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

    /// Looks whether one that is behind may enter its set, and if not, where it waits.
    pub(super) fn settle(&mut self, index: u32) {
        let slot = &self.slots[index];
        if slot.state != State::Behind
            || slot.answers_due > 0
            || slot.flags & (flag::HALF_SENT | flag::UNWRITABLE | flag::IN_BATCH | flag::QUEUED) != 0
        {
            return;
        }
        if !slot.is(flag::STARTED) || self.extra_of(index).is_some_and(|extra| extra.old.is_some()) {
            self.serve_soon(index);
            return;
        }
        let (place, number) = (self.slots[index].place, self.slots[index].set);
        if self.sets[number].walk.is_some() {
            // The end of the walk looks at it again.
            return;
        }
        let position = self.position(number);
        if place > position {
            let id = self.slots.id(index);
            let slot = &mut self.slots[index];
            if !slot.is(flag::UNSETTLED) {
                slot.put(flag::UNSETTLED, true);
                self.unsettled.push(id);
            }
        } else if place < position && place < self.sets[number].walked {
            self.serve_soon(index);
        } else if place >= self.sets[number].walked {
            self.sets.unlink_behind(&mut self.slots, index);
            self.sets.enter(&mut self.slots, number, index);
            self.slots[index].put(flag::FELL, false);
            self.stop_watching(index);
            self.drop_empty_extra(index);
        } else {
            self.serve_soon(index);
        }
    }

    /// The kernel took a part of a run: nothing else goes to the socket until the rest is sent.
    pub(super) fn hold_rest(&mut self, index: u32, run: &Run, sent: usize) {
        run.hold(self.sequencer.held_bytes());
        let since = self.second();
        self.half_sent.insert(index, HalfSent { run: run.clone(), sent, since });
        self.slots[index].put(flag::HALF_SENT, true);
        self.wait_for_room(index);
    }

    /// Has the driver say when the socket takes bytes again.
    pub(super) fn wait_for_room(&mut self, index: u32) {
        let slot = &mut self.slots[index];
        slot.put(flag::UNWRITABLE, true);
        if !slot.is(flag::POLLOUT) {
            slot.put(flag::POLLOUT, true);
            let socket = slot.socket;
            self.actions.push_back(super::Action::WatchWritable { socket, is_on: true });
        }
    }

    /// The socket takes all that there is: its writability is of no interest.
    pub(super) fn stop_watching(&mut self, index: u32) {
        let slot = &mut self.slots[index];
        if slot.is(flag::POLLOUT) {
            slot.put(flag::POLLOUT, false);
            let socket = slot.socket;
            self.actions.push_back(super::Action::WatchWritable { socket, is_on: false });
        }
    }

    fn held_bytes(&self) -> usize {
        self.sequencer.held_bytes().load(std::sync::atomic::Ordering::Relaxed)
    }

    fn held_bytes_max(&self) -> usize {
        self.config.retention.all_bytes / 100 * usize::from(self.config.limits.half_sent_percent)
    }

    /// Whether half-sent runs hold half of what they may.
    fn is_memory_tight(&self) -> bool {
        self.held_bytes() > self.held_bytes_max() / 2
    }

    /// Half-sent runs hold memory that the log's limit counts: past a share of it the one that is slow
    /// longest is reset.
    pub(super) fn bound_half_sent(&mut self) {
        if self.half_sent.is_empty() {
            return;
        }
        for _ in 0..16 {
            if self.held_bytes() <= self.held_bytes_max() {
                return;
            }
            let Some(index) = self.half_sent.iter().min_by_key(|(_, half)| half.since).map(|(&i, _)| i)
            else {
                return;
            };
            self.close(index, Closing::Abort, Ended::Memory);
        }
    }

    /// Sends the rests of half-sent runs whose sockets take bytes again.
    pub(super) fn fill_from_rests(&mut self, batch: &mut Batch) {
        for _ in 0..self.to_resume.len() {
            if batch.is_half_full() {
                batch.is_cut_short = true;
                return;
            }
            let Some(id) = self.to_resume.pop_front() else { return };
            let Some(slot) = self.slots.get(id) else { continue };
            let Some(half) = self.half_sent.get(&id.index) else { continue };
            if slot.flags & (flag::IN_BATCH | flag::UNWRITABLE) != 0 {
                continue;
            }
            slot.put(flag::IN_BATCH, true);
            let run = batch.run(&half.run);
            batch.push(slot.socket, id.index, run, half.sent, half.run.len() - half.sent, Purpose::Rest);
        }
    }

    /// The rest of a half-sent run was sent, or a further part of it.
    pub(super) fn rest_sent(&mut self, index: u32, outcome: Outcome) {
        match outcome {
            Outcome::Short(bytes) => {
                if let Some(half) = self.half_sent.get_mut(&index) {
                    half.sent += bytes;
                    assert!(half.sent < half.run.len(), "a short send is shorter than what was to be sent");
                }
                self.wait_for_room(index);
            }
            Outcome::Full | Outcome::Failed => self.wait_for_room(index),
            Outcome::Whole => {
                self.half_sent.remove(&index);
                self.slots[index].put(flag::HALF_SENT, false);
                self.whole_again(index);
            }
        }
    }

    /// Nothing is half sent any more: what waited for that goes on.
    fn whole_again(&mut self, index: u32) {
        let id = self.slots.id(index);
        if self.slots[index].is(flag::ABORT_WHEN_SENT) {
            self.close(index, Closing::Abort, Ended::Slow);
            return;
        }
        let waiting =
            self.extra_of(index).map(|extra| std::mem::take(&mut extra.waiting)).unwrap_or_default();
        for control in waiting.into_iter().rev() {
            self.controls.push_front((id, control));
        }
        match self.slots[index].state {
            State::Behind => self.serve_soon(index),
            State::Answered => {
                let place = self.slots[index].place;
                self.answer_sent(index, place);
            }
            State::Closing => self.end_closing(index),
            _ => {}
        }
        if self.slots.get(id).is_some() {
            self.receive_if_readable(id);
        }
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.index];
        slot.put(flag::UNWRITABLE, false);
        if slot.is(flag::HALF_SENT) {
            self.to_resume.push_back(id);
        } else if slot.state == State::Behind {
            self.serve_soon(id.index);
        }
    }
}
