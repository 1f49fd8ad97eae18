//! What parked connections send us: next requests, WebSocket frames, FIN; and what we make of it there.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::value::RawValue;
use stentor_protocol::ws::Side;
use stentor_protocol::ws::close::CloseCode;
use stentor_protocol::ws::deflate::Params;
use stentor_protocol::ws::message::{Incoming, Limits, MessageDecoder};

use super::control::{Control, Farewell};
use super::slots::{SlotId, State, flag};
use super::{Action, Closing, OwnedMessage, Shard};
use crate::app::Refusal;
use crate::cursor::Start;
use crate::metrics::Ended;
use crate::publish::Publisher;
use crate::topic::Matcher;
use crate::transport::websocket::{self, Command};
use crate::transport::{Encoding, Format, Transport};

/// Bytes that a one-way subscriber may send before it is closed.
const ONE_WAY_BYTES_MAX: usize = 4 << 10;
/// Bytes of a next request that are kept until the answer that is due is sent.
const LEFTOVER_BYTES_MAX: usize = 16 << 10;

/// Controls that may wait before no more input is taken, of anybody.
const CONTROLS_MAX: usize = 65_536;

/// Changed subscriptions of one WebSocket that may wait for their answers.
const ANSWERS_DUE_MAX: u16 = 1_000;

/// What the driver received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// Bytes; whether there may be more at once.
    Bytes(&'a [u8], bool),
    /// Nothing at the moment.
    Nothing,
    /// FIN.
    End,
    /// The connection is broken.
    Failed,
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has sent FIN.
    pub(crate) hung_up: bool,
    /// The connection is broken.
    pub(crate) failed: bool,
}

/// A rate limit: so many a second, and a burst of as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    used: u32,
    at_ms: u64,
}

impl Bucket {
    /// Whether nothing of it is used up any more.
    pub(super) fn is_full(&self, per_second: u32, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        u64::from(self.used) * 1_000 <= passed_ms.saturating_mul(u64::from(per_second))
    }

    /// Takes one of `per_second`; false if there is none left.
    fn take(&mut self, per_second: u32, now_ms: u64) -> bool {
        let regained = (now_ms - self.at_ms).saturating_mul(u64::from(per_second)) / 1_000;
        if regained > 0 {
            self.used = self.used.saturating_sub(u32::try_from(regained).unwrap_or(u32::MAX));
            self.at_ms = now_ms;
        }
        if self.used >= per_second {
            return false;
        }
        self.used += 1;
        true
    }
}

impl Shard {
    /// The poll of a socket has something to say.
    pub(crate) fn handle_ready(&mut self, id: SlotId, ready: Ready) {
        let Some(slot) = self.slots.get(id) else { return };
        if ready.failed {
            self.close(id.index, Closing::Plain, Ended::Reset);
            return;
        }
        if ready.hung_up && slot.is(flag::HALF_SENT) && slot.state != State::Answered {
            // FIN ends a subscription; what is half sent to it is of no use to anybody.
            self.close(id.index, Closing::Graceful, Ended::Peer);
            return;
        }
        if ready.readable || ready.hung_up {
            slot.put(flag::READABLE, true);
        }
        if ready.writable {
            self.writable(id);
        }
        self.receive_if_readable(id);
    }

    /// Has the driver receive, where bytes have arrived and may be read.
    pub(super) fn receive_if_readable(&mut self, id: SlotId) {
        let is_full = self.extra_of_id(id).is_some_and(|extra| extra.leftover.len() >= LEFTOVER_BYTES_MAX);
        let Some(slot) = self.slots.get(id) else { return };
        if is_full || self.controls.len() > CONTROLS_MAX || slot.answers_due > ANSWERS_DUE_MAX {
            // A next request that is longer than what is kept of it is read on when its turn comes, and who
            // makes us answer faster than we can send is heard later.
            return;
        }
        let stops = flag::HALF_SENT | flag::RECEIVING | flag::AUTHORIZING;
        if !slot.is(flag::READABLE)
            || slot.flags & stops != 0
            || !slot.is(flag::STARTED) && slot.state == State::Behind
        {
            return;
        }
        slot.put(flag::READABLE, false);
        slot.put(flag::RECEIVING, true);
        let socket = slot.socket;
        self.actions.push_back(Action::Receive { socket });
    }

    fn extra_of_id(&mut self, id: SlotId) -> Option<&mut super::Extra> {
        self.slots.get(id)?;
        self.extra_of(id.index)
    }

    fn has_leftover(&mut self, index: u32) -> bool {
        self.extra_of(index).is_some_and(|extra| !extra.leftover.is_empty())
    }

    /// A receive is over.
    pub(crate) fn handle_received(&mut self, id: SlotId, received: Received<'_>) {
        let Some(slot) = self.slots.get(id) else { return };
        slot.put(flag::RECEIVING, false);
        match received {
            Received::Nothing => {}
            Received::Failed => {
                self.close(id.index, Closing::Plain, Ended::Reset);
                return;
            }
            Received::End => {
                slot.put(flag::HALF_CLOSED, true);
                let has_request = slot.state == State::Idle && self.has_leftover(id.index);
                if self.slots[id.index].state != State::Answered && !has_request {
                    // A WebSocket without a closing handshake, an idle connection, or a subscription: over.
                    // All that the peer sent is read, so nothing is left that would make of a plain close a
                    // reset.
                    self.close(id.index, Closing::Plain, Ended::Peer);
                    return;
                }
            }
            // The usual next request goes on without being kept here.
            Received::Bytes(bytes, _) if slot.state == State::Idle && !slot.is(flag::HAS_EXTRA) => {
                self.resume(id.index, bytes.to_vec());
                return;
            }
            Received::Bytes(bytes, has_more) => {
                slot.put(flag::READABLE, has_more || slot.is(flag::READABLE));
                self.take_input(id, bytes);
            }
        }
        if self.slots.get(id).is_some_and(|slot| slot.state == State::Idle) && self.has_leftover(id.index) {
            let read = std::mem::take(&mut self.extra(id.index).leftover);
            self.resume(id.index, read);
        }
        self.receive_if_readable(id);
    }

    /// Bytes of the peer.
    pub(super) fn take_input(&mut self, id: SlotId, bytes: &[u8]) {
        let Some(slot) = self.slots.get(id) else { return };
        let state = slot.state;
        let transport = self.encoding_of(id.index).map(|encoding| encoding.transport);
        match (state, transport) {
            (State::Idle | State::Answered, _) | (_, Some(Transport::Poll | Transport::LongPoll)) => {
                self.extra(id.index).leftover.extend_from_slice(bytes);
            }
            (State::Closing, _) => self.closing_input(id, bytes),
            _ if self.slots[id.index].is(flag::ENDS) => {}
            // What follows a command that waits for the application's word waits behind it.
            (_, Some(Transport::WebSocket)) if self.slots[id.index].is(flag::AUTHORIZING) => {
                self.extra(id.index).leftover.extend_from_slice(bytes);
            }
            (_, Some(Transport::WebSocket)) => self.websocket_input(id, bytes),
            _ => {
                let slot = &mut self.slots[id.index];
                slot.input_bytes = slot.input_bytes.saturating_add(bytes.len().min(u16::MAX.into()) as u16);
                if usize::from(slot.input_bytes) > ONE_WAY_BYTES_MAX {
                    self.counters.malformed_frames += 1;
                    self.close(id.index, Closing::Graceful, Ended::Protocol);
                }
            }
        }
    }

    /// A WebSocket that is closing: only the peer's close is of interest.
    fn closing_input(&mut self, id: SlotId, bytes: &[u8]) {
        if !self.slots[id.index].is(flag::PEER_CLOSE_DUE) {
            return;
        }
        let mut decoder = self.decoder(id.index);
        let mut rest = bytes;
        loop {
            match decoder.decode(rest) {
                Ok((used, Some(Incoming::Close(_)))) => {
                    let _ = used;
                    self.close(id.index, Closing::Graceful, Ended::Peer);
                    return;
                }
                Ok((used, incoming)) => {
                    rest = rest.get(used..).unwrap_or_default();
                    if incoming.is_none() || rest.is_empty() {
                        break;
                    }
                }
                Err(_) => {
                    self.close(id.index, Closing::Graceful, Ended::Peer);
                    return;
                }
            }
        }
        self.put_decoder(id.index, decoder);
    }

    fn decoder(&mut self, index: u32) -> Box<MessageDecoder> {
        let bytes_max = self.config.limits.event_bytes + (16 << 10);
        let deflate = self.slots[index].is(flag::INFLATES).then_some(Params {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: None,
            client_max_window_bits: None,
        });
        let extra = self.extra_of(index);
        extra.and_then(|extra| extra.decoder.take()).unwrap_or_else(|| {
            Box::new(MessageDecoder::new(Side::Server, Limits { message_bytes_max: bytes_max }, deflate))
        })
    }

    /// Keeps a decoder only as long as it holds a part of a message.
    fn put_decoder(&mut self, index: u32, decoder: Box<MessageDecoder>) {
        if !decoder.is_idle() {
            self.extra(index).decoder = Some(decoder);
        }
    }

    fn websocket_input(&mut self, id: SlotId, bytes: &[u8]) {
        let mut decoder = self.decoder(id.index);
        let mut rest = bytes;
        loop {
            match decoder.decode(rest) {
                Ok((used, incoming)) => {
                    rest = rest.get(used..).unwrap_or_default();
                    let Some(incoming) = incoming else { break };
                    if !self.take_incoming(id, incoming) {
                        return;
                    }
                    if self.slots[id.index].is(flag::AUTHORIZING) {
                        // What follows the command waits for its answer.
                        self.put_decoder(id.index, decoder);
                        self.extra(id.index).leftover = rest.to_vec();
                        return;
                    }
                }
                Err(error) => {
                    self.counters.malformed_frames += 1;
                    self.end_websocket(id.index, error.close_code().0, error.to_string());
                    return;
                }
            }
        }
        self.put_decoder(id.index, decoder);
        self.drop_empty_extra(id.index);
    }

    /// Ends a WebSocket from our side.
    fn end_websocket(&mut self, index: u32, code: u16, mut reason: String) {
        reason.truncate(reason.floor_char_boundary(123));
        self.slots[index].put(flag::ENDS, true);
        self.control(index, Control::End(Farewell::Close { code, reason }));
    }

    /// One whole message or control frame; false if the slot takes no more input.
    fn take_incoming(&mut self, id: SlotId, incoming: Incoming) -> bool {
        match incoming {
            Incoming::Ping(payload) => {
                if !self.take_message_token(id.index) {
                    return false;
                }
                let mut bytes = Vec::new();
                websocket::encode_pong_frame(&payload, &mut bytes);
                self.control(id.index, Control::Bytes(bytes));
            }
            Incoming::Pong(_) => {
                let slot = &mut self.slots[id.index];
                slot.put(flag::PONG_DUE | flag::PONG_MISSED, false);
            }
            Incoming::Close(said) => {
                // "When an endpoint sends a Close frame in response, it typically echos the status code" (RFC
                // 6455 §5.5.1).
                let code = if said.code == CloseCode::NO_STATUS { 1_000 } else { said.code.0 };
                self.slots[id.index].put(flag::HALF_CLOSED | flag::ENDS, true);
                self.control(id.index, Control::End(Farewell::Close { code, reason: String::new() }));
                return false;
            }
            Incoming::Text(text) => {
                if !self.take_message_token(id.index) {
                    return false;
                }
                let Some(encoding) = self.encoding_of(id.index) else { return false };
                if encoding.format == Format::Json {
                    self.take_command(id, encoding, &text);
                } else if !text.is_empty() && text == self.config.websocket.heartbeat_text {
                    let mut bytes = Vec::new();
                    websocket::encode_message(&encoding, crate::app::Message::Text(&text), &mut bytes);
                    self.control(id.index, Control::Bytes(bytes));
                } else {
                    self.tell_message(id, OwnedMessage::Text(text));
                }
            }
            Incoming::Binary(bytes) => {
                if !self.take_message_token(id.index) {
                    return false;
                }
                if self.encoding_of(id.index).is_some_and(|encoding| encoding.format == Format::Json) {
                    self.counters.malformed_frames += 1;
                    self.end_websocket(id.index, 1_003, "stentor.v1 takes text messages only".into());
                    return false;
                }
                self.tell_message(id, OwnedMessage::Binary(bytes));
            }
        }
        true
    }

    fn take_message_token(&mut self, index: u32) -> bool {
        let (per_second, now_ms) = (self.config.limits.messages_per_second, self.now_ms);
        if per_second == 0 || self.extra(index).messages.take(per_second, now_ms) {
            return true;
        }
        self.counters.over_rate += 1;
        self.end_websocket(index, 4_429, format!("more than {per_second} messages a second"));
        false
    }

    fn take_command(&mut self, id: SlotId, encoding: Encoding, text: &str) {
        let command = match websocket::parse_command(text, &self.config.limits) {
            Ok(command) => command,
            Err(error) => {
                self.counters.malformed_commands += 1;
                let reference = error.reference.as_deref();
                self.error(id.index, reference, error.status, error.field.as_deref(), &error.detail);
                return;
            }
        };
        let mut bytes = Vec::new();
        match command {
            Command::Ping { value } => {
                websocket::encode_pong(&encoding, &value, &mut bytes);
                self.control(id.index, Control::Bytes(bytes));
            }
            Command::Publish { event, reference } => self.publish(id, encoding, event, reference.as_deref()),
            Command::Unsubscribe { matchers, reference } => {
                let set = self.slots[id.index].set;
                let left =
                    self.sets[set].matchers.iter().filter(|m| !matchers.contains(m)).cloned().collect();
                let place = self.change_matchers(id.index, left);
                let cursor = self.cursor(place);
                websocket::encode_unsubscribed(
                    &encoding,
                    reference.as_deref(),
                    &matchers,
                    cursor,
                    &mut bytes,
                );
                self.slots[id.index].answers_due += 1;
                self.control(id.index, Control::Changed(bytes));
            }
            Command::Subscribe { ref matchers, .. } => {
                let matchers = matchers.clone();
                let packed = self.given_to(id.index).and_then(|given| given.request.as_ref());
                let request = packed.map(|packed| Rc::new(packed.unpack()));
                self.extra(id.index).command = Some(command);
                self.slots[id.index].put(flag::AUTHORIZING, true);
                self.actions.push_back(Action::Authorize { slot: id, request, matchers });
            }
        }
    }

    fn publish(
        &mut self,
        id: SlotId,
        encoding: Encoding,
        event: crate::event::Event,
        reference: Option<&RawValue>,
    ) {
        let (per_second, now_ms) = (self.config.limits.publishes_per_second, self.now_ms);
        let may_publish = self
            .given_to(id.index)
            .is_some_and(|given| given.publish.iter().any(|matcher| matcher.matches(event.topic().as_str())));
        if !may_publish {
            let detail = format!("this connection may not publish to {}", event.topic());
            self.error(id.index, reference, 403, Some("topic"), &detail);
        } else if per_second != 0 && !self.extra(id.index).publishes.take(per_second, now_ms) {
            self.counters.over_rate += 1;
            let detail = format!("more than {per_second} publishes a second");
            self.error(id.index, reference, 429, None, &detail);
        } else {
            match Publisher::new(Arc::clone(&self.sequencer)).publish(event) {
                Ok(cursor) => {
                    self.counters.published += 1;
                    let mut bytes = Vec::new();
                    websocket::encode_published(&encoding, reference, cursor, &mut bytes);
                    self.control(id.index, Control::Bytes(bytes));
                }
                Err(error) => self.error(id.index, reference, error.status(), None, &error.to_string()),
            }
        }
    }

    fn error(
        &mut self,
        index: u32,
        reference: Option<&RawValue>,
        status: u16,
        field: Option<&str>,
        detail: &str,
    ) {
        let Some(encoding) = self.encoding_of(index) else { return };
        let mut bytes = Vec::new();
        websocket::encode_error(&encoding, reference, status, field, detail, &mut bytes);
        self.control(index, Control::Bytes(bytes));
    }

    /// The application has said whether a WebSocket may hear more: the matchers that it may, or why not.
    pub(crate) fn handle_authorized(&mut self, id: SlotId, answer: Result<Vec<Matcher>, Refusal>) {
        let Some(slot) = self.slots.get(id) else { return };
        slot.put(flag::AUTHORIZING, false);
        let command = self.extra_of(id.index).and_then(|extra| extra.command.take());
        let (Some(encoding), Some(Command::Subscribe { cursor, reference, .. })) =
            (self.encoding_of(id.index), command)
        else {
            return self.receive_if_readable(id);
        };
        let reference = reference.as_deref();
        match answer {
            Err(refusal) => {
                self.counters.malformed_commands += 1;
                self.error(id.index, reference, refusal.status, refusal.field.as_deref(), &refusal.detail);
            }
            Ok(matchers) => self.subscribe(id.index, encoding, matchers, cursor, reference),
        }
        let leftover =
            self.extra_of(id.index).map(|extra| std::mem::take(&mut extra.leftover)).unwrap_or_default();
        if !leftover.is_empty() {
            self.take_input(id, &leftover);
        }
        self.receive_if_readable(id);
    }

    fn subscribe(
        &mut self,
        index: u32,
        encoding: Encoding,
        mut added: Vec<Matcher>,
        start: Option<Start>,
        reference: Option<&RawValue>,
    ) {
        added.sort_unstable();
        added.dedup();
        let set = self.slots[index].set;
        let had = self.sets[set].matchers.to_vec();
        let mut all = had.clone();
        all.extend(added.iter().filter(|matcher| !had.contains(matcher)).cloned());
        let limit = self.config.limits.matchers;
        if all.len() > limit {
            let detail = format!("{} matchers; at most {limit} are allowed", all.len());
            self.error(index, reference, 400, Some("subscribe"), &detail);
            return;
        }
        let is_first = had.is_empty() && !self.slots[index].is(flag::HAS_SUBSCRIBED);
        let mut resolved = None;
        match start {
            Some(_) if !is_first => {
                let detail =
                    "only the first subscribe of a connection that named no topic may bring a cursor";
                self.error(index, reference, 400, Some("cursor"), detail);
                return;
            }
            Some(start) => match self.sequencer.resolve(start, &all) {
                Ok(found) => resolved = Some(found),
                Err(error) => {
                    self.error(index, reference, 400, Some("cursor"), &error.to_string());
                    return;
                }
            },
            None => {}
        }
        self.slots[index].put(flag::HAS_SUBSCRIBED, true);
        self.change_matchers(index, all);
        let mut cursor = self.cursor(self.slots[index].place);
        if let Some(resolved) = resolved {
            self.slots[index].place = resolved.after;
            self.extra(index).old = resolved.old;
            cursor = resolved.old.unwrap_or_else(|| self.cursor(resolved.after));
        }
        let mut bytes = Vec::new();
        websocket::encode_subscribed(&encoding, reference, &added, cursor, &mut bytes);
        self.slots[index].answers_due += 1;
        self.control(index, Control::Changed(bytes));
        self.serve_soon(index);
    }

    /// Moves a subscriber to the set of other matchers; it goes on from its place, which is returned.
    fn change_matchers(&mut self, index: u32, mut matchers: Vec<Matcher>) -> crate::cursor::Offset {
        matchers.sort_unstable();
        matchers.dedup();
        let place = self.place_of(index);
        let Some(encoding) = self.encoding_of(index) else { return place };
        // The new set is made first: a matcher that both have then keeps its interest.
        let set = self.set_of(matchers.into(), encoding);
        self.leave_set(index);
        self.sets.begin_behind(&mut self.slots, set, index);
        self.subscribers[encoding.transport as usize] += 1;
        let slot = &mut self.slots[index];
        slot.place = place;
        slot.told = crate::cursor::Offset::START;
        slot.put(flag::FELL | flag::LATEST | flag::WAITS | flag::UNSETTLED, false);
        self.serve_soon(index);
        place
    }
}
