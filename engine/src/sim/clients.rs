//! The clients of the simulated world: they connect, read a little at a time, ask for more, and are cut.

use stentor_protocol::ws::frame::{Opcode, encode_masked_frame};

use super::network::Socket;
use super::world::{Connection, LISTS, World, token};
use crate::config::SlowPolicy;
use crate::cursor::{Cursor, Offset, Start};
use crate::shard::{HeadVariant, Join};
use crate::topic::Matcher;
use crate::transport::decode::{Item, StreamDecoder};
use crate::transport::{Encoding, Format, Transport};

impl World {
    pub(super) fn client_step(&mut self, number: usize) -> Result<(), String> {
        let Some(connection) = &self.clients[number].connection else {
            if self.random.is(40) {
                self.connect(number)?;
            }
            return Ok(());
        };
        if connection.is_dying {
            let count = self.random.below(60);
            self.read(number, count)?;
            self.cut(number);
            return Ok(());
        }
        match self.random.below(100) {
            0..=2 => {
                if let Some(connection) = &mut self.clients[number].connection {
                    connection.is_dying = true;
                }
                Ok(())
            }
            3..=8 => {
                self.ask(number);
                Ok(())
            }
            _ => {
                let count = if self.clients[number].is_healthy {
                    20 + self.random.below(400)
                } else {
                    self.random.below(30)
                };
                self.read(number, count)?;
                self.ask_again(number)
            }
        }
    }

    /// A `stentor.v1` client changes what it hears.
    fn ask(&mut self, number: usize) {
        let list: Vec<String> = LISTS[self.random.below(LISTS.len())].iter().map(|m| (*m).into()).collect();
        let client = &mut self.clients[number];
        let hearing = client.checker.hearing;
        if hearing.transport != Transport::WebSocket || hearing.format != Format::Json {
            return;
        }
        let had = client.checker.matchers.clone();
        let Some(connection) = &mut client.connection else { return };
        if connection.asked.is_some() {
            return;
        }
        let named: Vec<Matcher> = list.iter().map(|m| m.parse().expect("a matcher")).collect();
        let is_more = self.random.is(60);
        let mut after: Vec<Matcher> = had.clone();
        if is_more {
            after.extend(named.iter().filter(|m| !had.contains(m)).cloned());
        } else {
            after.retain(|m| !named.contains(m));
        }
        let word = if is_more { "subscribe" } else { "unsubscribe" };
        let text = format!(
            "{{\"{word}\":[{}],\"ref\":1}}",
            list.iter().map(|m| format!("\"{m}\"")).collect::<Vec<_>>().join(",")
        );
        connection.asked = Some(after);
        let mut bytes = Vec::new();
        encode_masked_frame(Opcode::Text, [1, 2, 3, 4], text.as_bytes(), &mut bytes);
        if let Some(socket) = self.shards[connection.shard].sockets.get_mut(&connection.socket) {
            socket.write(&bytes);
        }
        self.tally.changes += 1;
    }

    /// The next request of a long poll, on the same connection or on a new one.
    pub(super) fn ask_again(&mut self, number: usize) -> Result<(), String> {
        if !std::mem::take(&mut self.clients[number].has_answer) {
            return Ok(());
        }
        let Some(connection) = &self.clients[number].connection else { return Ok(()) };
        let (shard, socket) = (connection.shard, connection.socket);
        if let Some(socket) = self.shards[shard].sockets.get_mut(&socket) {
            // Whatever it is: the shard gives the connection back to a task with it.
            socket.write(b"GET");
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, number: usize) -> Result<(), String> {
        let shard = self.random.below(self.shards.len());
        let start = match self.clients[number].checker.position {
            Some(cursor) => Start::After(cursor),
            None if self.random.is(30) => Start::Earliest,
            None => Start::Now,
        };
        self.connect_to(number, shard, start)
    }

    /// Connects to a certain shard; a position that the client's transport cannot keep is forgotten.
    pub(super) fn connect_to(&mut self, number: usize, shard: usize, start: Start) -> Result<(), String> {
        let client = &mut self.clients[number];
        let hearing = client.checker.hearing;
        let is_resumed = client.checker.position.is_some() && hearing.has_ids();
        client.checker.reconnected(is_resumed);
        client.checker.matchers = client.matchers.clone();
        let start = if client.checker.position.is_none() && matches!(start, Start::After(_)) {
            Start::Now
        } else {
            start
        };
        client.has_answer = false;
        let resolved = self
            .sequencer
            .resolve(start, &client.matchers)
            .map_err(|e| format!("resume at {start:?}: {e}"))?;
        let (transport, format, framing) = (hearing.transport, hearing.format, hearing.framing);
        let is_live = transport.is_poll();
        if is_live && client.checker.position.is_none() {
            // A long poll is not told where it starts: the task that answers a first poll at once would.
            client.checker.position = Some(self.sequencer.cursor(resolved.after));
        }
        let join = Join {
            permit: 0,
            matchers: client.matchers.clone(),
            encoding: Encoding { transport, format, framing, head: 0, limit: 3 },
            variant: HeadVariant { lines: "".into(), keeps_alive: true, is_http10: false },
            head: None,
            after: resolved.after,
            told: Offset::START,
            old: resolved.old,
            wait_seconds: 2,
            max_age_seconds: 0,
            policy: client.policy,
            publish: Vec::new(),
            data: None,
            request: None,
            inflates: matches!(framing, crate::transport::Framing::Deflate(_)),
            leftover: Vec::new(),
        };
        let capacity = if self.random.is(30) { 6_000 } else { 40 + self.random.below(1_500) };
        let shard_ = &mut self.shards[shard];
        let slot = shard_.core.handle_join(join);
        let socket = shard_.sockets_made;
        shard_.sockets_made += 1;
        shard_.core.set_socket(slot, socket);
        shard_.sockets.insert(socket, Socket::new(token(slot), capacity));
        let decoder = StreamDecoder::new(transport, format, framing);
        let client = &mut self.clients[number];
        client.connection = Some(Connection { shard, socket, decoder, is_dying: false, asked: None });
        self.log(|| format!("client {number} connects to shard {shard} {start:?} {transport:?} {format:?}"));
        Ok(())
    }

    pub(super) fn read(&mut self, number: usize, count: usize) -> Result<(), String> {
        let Some(connection) = &self.clients[number].connection else { return Ok(()) };
        let (shard, socket) = (connection.shard, connection.socket);
        let Some(socket) = self.shards[shard].sockets.get_mut(&socket) else { return Ok(()) };
        let bytes = socket.read(count);
        self.decode(number, &bytes)
    }

    pub(super) fn decode(&mut self, number: usize, bytes: &[u8]) -> Result<(), String> {
        let mut items = Vec::new();
        let client = &mut self.clients[number];
        let Some(connection) = &mut client.connection else { return Ok(()) };
        connection
            .decoder
            .decode(bytes, &mut items)
            .map_err(|error| format!("client {number} cannot read its stream: {error}"))?;
        for item in items {
            self.item(number, &item).map_err(|error| format!("client {number}: {error}"))?;
        }
        Ok(())
    }

    fn item(&mut self, number: usize, item: &Item) -> Result<(), String> {
        self.log(|| format!("   client {number} got {item:?}"));
        let client = &mut self.clients[number];
        let (shard, socket) = match &client.connection {
            Some(connection) => (connection.shard, connection.socket),
            None => return Ok(()),
        };
        match item {
            Item::Answer { .. } => client.has_answer = true,
            Item::End { .. } => {
                if let Some(connection) = &mut client.connection {
                    connection.is_dying = true;
                }
            }
            Item::Heartbeat if client.checker.hearing.transport == Transport::WebSocket => {
                let mut pong = Vec::new();
                encode_masked_frame(Opcode::Pong, [9, 8, 7, 6], b"", &mut pong);
                if let Some(socket) = self.shards[shard].sockets.get_mut(&socket) {
                    socket.write(&pong);
                }
            }
            Item::Gap { resumed, .. } if client.policy == SlowPolicy::Latest => {
                client.checker.skips_to_resumed(resumed.offset);
            }
            Item::Message(text) => return self.message(number, text),
            _ => {}
        }
        let (sequencer, truth) = (&self.sequencer, &self.truth);
        let is_gone = |at: Cursor| {
            let Some(event) = truth.at(at) else { return false };
            let matchers = [Matcher::from(event.topic().clone())];
            sequencer.read(&matchers, at.offset.previous(), at.offset, 1, 1).events.is_empty()
        };
        let (events, gaps) = (client.checker.events, client.checker.gaps);
        client.checker.item(item, truth, &is_gone)?;
        self.tally.delivered += client.checker.events - events;
        self.tally.gaps += client.checker.gaps - gaps;
        Ok(())
    }

    /// The answer to a command.
    fn message(&mut self, number: usize, text: &str) -> Result<(), String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("{text}: {e}"))?;
        let is_answer = value.get("subscribed").is_some() || value.get("unsubscribed").is_some();
        let cursor = value.get("cursor").and_then(|c| c.as_str()).and_then(|c| c.parse::<Cursor>().ok());
        let client = &mut self.clients[number];
        let asked = client.connection.as_mut().and_then(|connection| connection.asked.take());
        match (is_answer, cursor, asked) {
            (true, Some(cursor), Some(matchers)) => client.checker.subscribed(matchers, cursor, &self.truth),
            _ => Err(format!("a message that is no answer: {text}")),
        }
    }

    pub(super) fn cut(&mut self, number: usize) {
        let Some(connection) = self.clients[number].connection.take() else { return };
        self.log(|| format!("client {number} is cut"));
        let is_reset = self.random.is(50);
        if let Some(socket) = self.shards[connection.shard].sockets.get_mut(&connection.socket) {
            socket.client_reset = is_reset;
            socket.client_ended = true;
            socket.is_readable = true;
            // Nobody reads any more: what is sent from here on is lost.
            socket.capacity = usize::MAX / 2;
        }
        self.tally.cuts += 1;
    }
}
