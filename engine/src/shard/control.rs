//! What is sent to one subscriber beside its events: heartbeats, replies, empty answers, the end. And how a
//! connection leaves its slot: closed, or back to a task with its next request.

use std::sync::Arc;

use super::prepared::Run;
use super::slots::{NONE, SlotId, State, flag};
use super::{Action, Batch, Closing, Extra, Outcome, OwnedMessage, Purpose, Shard};
use crate::app::{Message, Reply};
use crate::cursor::Offset;
use crate::metrics::Ended;
use crate::transport::{self, Encoding, End, Framing, Transport};

/// Seconds that the peer of a closing handshake has to say its close.
const CLOSING_SECONDS: u32 = 5;
/// Replies that may wait behind a half-sent run, before the subscriber is reset: it sends but does not read.
const WAITING_MAX: usize = 256;
/// Replies are joined to one send up to so many bytes.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// What is sent to one subscriber beside its events.
#[derive(Debug)]
pub(super) enum Control {
    /// The shortest proof that the connection lives.
    Heartbeat,
    /// A heartbeat that carries the place.
    Place,
    /// Bytes that are ready: a pong, a reply.
    Bytes(Vec<u8>),
    /// The answer to a changed subscription; see [`super::slots::Slot::answers_due`].
    Changed(Vec<u8>),
    /// The answer of a long poll to which nothing came.
    EmptyAnswer,
    /// The clean end of a stream.
    End(Farewell),
}

/// Why we end a stream; see [`End`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Farewell {
    Drain,
    MaxAge,
    /// It fell off the log, and its policy is to be closed.
    Slow,
    Close {
        code: u16,
        reason: String,
    },
}

impl Shard {
    /// Has a control sent as soon as the batch has room.
    pub(super) fn control(&mut self, index: u32, control: Control) {
        let id = self.slots.id(index);
        // One send for the replies to what came in one piece.
        if let Control::Bytes(more) = &control
            && let Some((last, Control::Bytes(bytes))) = self.controls.back_mut()
            && *last == id
            && bytes.len() + more.len() <= JOINED_BYTES_MAX
        {
            bytes.extend_from_slice(more);
            return;
        }
        self.controls.push_back((id, control));
    }

    /// Fills the batch with the controls that wait.
    pub(super) fn fill_from_controls(&mut self, batch: &mut Batch) {
        let mut deferred = Vec::new();
        for _ in 0..self.controls.len().min(batch.looks_max()) {
            if batch.is_full() {
                break;
            }
            let Some((id, control)) = self.controls.pop_front() else { break };
            self.look();
            let Some(slot) = self.slots.get(id) else { continue };
            if slot.is(flag::IN_BATCH) {
                deferred.push((id, control));
                continue;
            }
            if slot.is(flag::HALF_SENT) {
                self.control_waits(id.index, control);
                continue;
            }
            let Some(run) = self.control_run(id.index, &control) else { continue };
            let number = batch.run(&run);
            let slot = &mut self.slots[id.index];
            slot.put(flag::IN_BATCH, true);
            let purpose = Purpose::Control(batch.controls.len() as u32);
            batch.push(slot.socket, id.index, number, 0, run.len(), purpose);
            batch.controls.push(control);
        }
        for entry in deferred.into_iter().rev() {
            self.controls.push_front(entry);
        }
    }

    /// A control for a socket on which a run is half sent: a heartbeat is left out, the rest waits.
    fn control_waits(&mut self, index: u32, control: Control) {
        if matches!(control, Control::Heartbeat | Control::Place) || self.slots[index].state == State::Closing
        {
            return;
        }
        let waiting = &mut self.extra(index).waiting;
        waiting.push_back(control);
        if waiting.len() > WAITING_MAX {
            self.close(index, Closing::Abort, Ended::Memory);
        }
    }

    /// What is sent for a control, if it still applies; states change with it. Heartbeats are the same for
    /// all.
    fn control_run(&mut self, index: u32, control: &Control) -> Option<Run> {
        if !matches!(control, Control::Heartbeat | Control::Place) {
            return self.control_bytes(index, control).map(Run::new);
        }
        let slot = &self.slots[index];
        let is_live = matches!(slot.state, State::Behind | State::Member);
        if !is_live || !slot.is(flag::STARTED) || slot.is(flag::UNWRITABLE) || self.has_old(index) {
            return None;
        }
        let encoding = self.encoding_of(index)?;
        self.counters.heartbeats += 1;
        let run = match control {
            Control::Place => self.prepared.place(encoding, self.place_of(index)),
            _ => self.prepared.heartbeat(encoding),
        };
        (run.len() > 0).then_some(run)
    }

    fn has_old(&mut self, index: u32) -> bool {
        self.extra_of(index).is_some_and(|extra| extra.old.is_some())
    }

    /// The bytes of a control other than a heartbeat, if it still applies; states change with it.
    fn control_bytes(&mut self, index: u32, control: &Control) -> Option<Vec<u8>> {
        let state = self.slots[index].state;
        let is_live = matches!(state, State::Behind | State::Member);
        let mut bytes = Vec::new();
        if let Control::Changed(_) = control {
            self.slots[index].answers_due -= 1;
        }
        if let Control::Bytes(ready) | Control::Changed(ready) = control {
            if is_live {
                bytes.extend_from_slice(ready);
            }
            return (!bytes.is_empty()).then_some(bytes);
        }
        if !is_live {
            return None;
        }
        let encoding = self.encoding_of(index)?;
        match control {
            Control::EmptyAnswer => {
                if self.has_old(index) {
                    // The gap comes first; it is an answer too.
                    self.serve_soon(index);
                    return None;
                }
                let place = self.place_of(index);
                bytes = self.answer(encoding, None, &[], place, false);
                self.answer_under_way(index, place);
            }
            Control::End(why) => {
                if !self.slots[index].is(flag::STARTED)
                    && let Some(head) = self.first_head(index)
                {
                    bytes.extend_from_slice(head);
                    self.forget_head(index);
                }
                let end = match why {
                    Farewell::Drain => End::Drain,
                    Farewell::MaxAge => End::MaxAge,
                    Farewell::Slow => End::Slow,
                    Farewell::Close { code, reason } => End::Close { code: *code, reason },
                };
                transport::encode_end(&encoding, end, &mut bytes);
                let ended = match why {
                    Farewell::Drain => Ended::Drain,
                    Farewell::MaxAge => Ended::MaxAge,
                    Farewell::Slow => Ended::Slow,
                    Farewell::Close { .. } => Ended::Closed,
                };
                self.begin_closing(index, encoding, ended);
                if bytes.is_empty() {
                    self.end_closing(index);
                }
            }
            Control::Bytes(_) | Control::Changed(_) | Control::Heartbeat | Control::Place => {}
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    pub(super) fn encoding_of(&self, index: u32) -> Option<Encoding> {
        self.sets.get(self.slots[index].set).map(|set| set.encoding)
    }

    /// A control was sent.
    pub(super) fn control_sent(&mut self, index: u32, control: Control, outcome: Outcome, run: &Run) {
        let sent = match outcome {
            Outcome::Whole => {
                match self.slots[index].state {
                    State::Answered => {
                        let place = self.slots[index].place;
                        self.answer_sent(index, place);
                    }
                    State::Closing => self.end_closing(index),
                    // A walk may have ended while this was under way, and found it busy.
                    State::Behind => self.serve_soon(index),
                    _ => {}
                }
                return;
            }
            Outcome::Short(bytes) => bytes,
            Outcome::Full | Outcome::Failed if matches!(control, Control::Heartbeat | Control::Place) => {
                // Nothing of it went out: a full socket needs no proof that it lives.
                if self.slots[index].state == State::Behind {
                    self.serve_soon(index);
                }
                return;
            }
            Outcome::Full | Outcome::Failed => 0,
        };
        if self.slots[index].state == State::Member {
            let place = self.place_of(index);
            self.fall_behind(index, place);
        }
        self.hold_rest(index, run, sent);
    }

    /// An answer of a poll goes out: the connection is in no set any more.
    pub(super) fn answer_under_way(&mut self, index: u32, place: Offset) {
        self.leave_set(index);
        let slot = &mut self.slots[index];
        slot.state = State::Answered;
        slot.place = place;
        slot.deadline = NONE;
    }

    /// An answer of a poll is sent whole: the connection waits for its next request, or has it already, or
    /// ends.
    pub(super) fn answer_sent(&mut self, index: u32, place: Offset) {
        if self.slots[index].state != State::Answered {
            self.answer_under_way(index, place);
        }
        let is_over = !self.slots[index].is(flag::KEEPS_ALIVE)
            || self.slots[index].is(flag::HALF_CLOSED)
            || self.drain.is_some();
        if is_over {
            self.close(index, Closing::Graceful, Ended::Answered);
            return;
        }
        self.stop_watching(index);
        let deadline = self.second() + self.config.timing.idle_seconds.max(1);
        self.counters.ended[Ended::Answered as usize] += 1;
        let slot = &mut self.slots[index];
        slot.state = State::Idle;
        slot.deadline = deadline;
        let leftover =
            self.extra_of(index).map(|extra| std::mem::take(&mut extra.leftover)).unwrap_or_default();
        self.forget_beside(index);
        if leftover.is_empty() {
            let id = self.slots.id(index);
            self.receive_if_readable(id);
        } else if self.slots[index].is(flag::RECEIVING) {
            // The socket is taken back once that is over.
            self.extra(index).leftover = leftover;
        } else {
            self.resume(index, leftover);
        }
    }

    /// Gives the connection back to a task, with what was read of its next request.
    pub(super) fn resume(&mut self, index: u32, read: Vec<u8>) {
        let (socket, permit) = (self.slots[index].socket, self.slots[index].permit);
        self.free(index);
        self.actions.push_back(Action::Resume { socket, permit, read });
    }

    /// Nothing more is said to a stream but what is under way; a WebSocket has a while to say its close.
    fn begin_closing(&mut self, index: u32, encoding: Encoding, why: Ended) {
        self.subscription_ended(index, why);
        self.leave_set(index);
        let deadline = self.second() + CLOSING_SECONDS;
        let slot = &mut self.slots[index];
        slot.state = State::Closing;
        slot.deadline = deadline;
        slot.beat = NONE;
        slot.put(flag::PEER_CLOSE_DUE, encoding.transport == Transport::WebSocket);
    }

    /// The end of a stream is sent: the socket is closed, but for a WebSocket whose peer's close is still to
    /// come.
    pub(super) fn end_closing(&mut self, index: u32) {
        let slot = &self.slots[index];
        if slot.is(flag::PEER_CLOSE_DUE) && !slot.is(flag::HALF_CLOSED) {
            let id = self.slots.id(index);
            self.receive_if_readable(id);
        } else {
            self.close(index, Closing::Graceful, Ended::Closed);
        }
    }

    /// What was sent is the last: the transport has no way to tell a gap and go on.
    pub(super) fn end_when_sent(&mut self, index: u32) {
        let Some(encoding) = self.encoding_of(index) else { return };
        self.begin_closing(index, encoding, Ended::Slow);
        // A body without a length that ends with FIN would look complete.
        let is_cut = encoding.framing == Framing::UntilClose;
        if self.slots[index].is(flag::HALF_SENT) {
            self.slots[index].put(flag::ABORT_WHEN_SENT, is_cut);
        } else if is_cut {
            self.close(index, Closing::Abort, Ended::Slow);
        } else {
            self.end_closing(index);
        }
    }

    /// Closes the connection and frees its slot.
    ///
    /// `why` counts where a subscription ends with it.
    pub(super) fn close(&mut self, index: u32, how: Closing, why: Ended) {
        if self.slots[index].state == State::Free {
            return;
        }
        self.subscription_ended(index, why);
        self.leave_set(index);
        let (socket, permit) = (self.slots[index].socket, self.slots[index].permit);
        self.free(index);
        self.actions.push_back(Action::Close { socket, permit, how });
    }

    /// Frees the slot of a connection whose socket is closed already; its admission goes back to the driver.
    pub(crate) fn abandon(&mut self, id: SlotId) -> u64 {
        let permit = self.slots[id.index].permit;
        self.leave_set(id.index);
        self.free(id.index);
        permit
    }

    fn free(&mut self, index: u32) {
        self.half_sent.remove(index);
        self.forget_beside(index);
        self.slots.give_back(index);
    }

    /// The start of a stream is sent.
    ///
    /// False if what it had sent already has ended it.
    pub(super) fn started(&mut self, index: u32) -> bool {
        let id = self.slots.id(index);
        self.slots[index].put(flag::OPENED, true);
        self.actions.push_back(Action::Opened { slot: id });
        let leftover =
            self.extra_of(index).map(|extra| std::mem::take(&mut extra.leftover)).unwrap_or_default();
        if !leftover.is_empty() {
            self.take_input(id, &leftover);
        }
        self.receive_if_readable(id);
        self.slots.get(id).is_some_and(|slot| slot.state == State::Behind)
    }

    /// Counts a subscription that is over, and tells the application.
    fn subscription_ended(&mut self, index: u32, why: Ended) {
        if matches!(self.slots[index].state, State::Behind | State::Member | State::Answered) {
            self.counters.ended[why as usize] += 1;
        }
        if !self.slots[index].is(flag::OPENED) {
            return;
        }
        self.slots[index].put(flag::OPENED, false);
        let id = self.slots.id(index);
        if let Some((id, transport, data)) = self.subscriber(id) {
            self.actions.push_back(Action::Closed { id, transport, data });
        }
    }

    /// Frees what is beside a slot when nothing of it is needed any more.
    pub(super) fn drop_empty_extra(&mut self, index: u32) {
        if !self.slots[index].is(flag::HAS_EXTRA) {
            return;
        }
        let (config, now_ms) = (Arc::clone(&self.config), self.now_ms);
        if self.extra_of(index).is_some_and(|extra| extra.is_empty(&config.limits, now_ms)) {
            self.extras.remove(&index);
            self.slots[index].put(flag::HAS_EXTRA, false);
        }
    }

    /// The application, or a rule, has something for one subscriber.
    pub(crate) fn handle_reply(&mut self, id: SlotId, reply: Reply) {
        if self.slots.get(id).is_none() {
            return;
        }
        let Some(encoding) = self.encoding_of(id.index) else { return };
        let is_websocket = encoding.transport == Transport::WebSocket;
        let mut bytes = Vec::new();
        match reply {
            Reply::Close { code, reason } => {
                self.control(id.index, Control::End(Farewell::Close { code, reason }));
                return;
            }
            _ if !is_websocket => return,
            Reply::Text(text) => {
                transport::websocket::encode_message(&encoding, Message::Text(&text), &mut bytes)
            }
            Reply::Binary(data) => {
                transport::websocket::encode_message(&encoding, Message::Binary(&data), &mut bytes);
            }
        }
        self.control(id.index, Control::Bytes(bytes));
    }

    /// Tells the application of a message.
    pub(super) fn tell_message(&mut self, id: SlotId, message: OwnedMessage) {
        self.counters.messages += 1;
        self.actions.push_back(Action::Message { slot: id, message });
    }
}

impl Extra {
    fn is_empty(&self, limits: &crate::config::Limits, now_ms: u64) -> bool {
        self.old.is_none()
            && self.command.is_none()
            && self.leftover.is_empty()
            && self.decoder.is_none()
            && self.waiting.is_empty()
            && self.messages.is_full(limits.messages_per_second, now_ms)
            && self.publishes.is_full(limits.publishes_per_second, now_ms)
    }
}
