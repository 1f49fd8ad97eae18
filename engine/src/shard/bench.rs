//! The subscribers of a shard for `bench/benches`: one set by itself, and a whole shard whose sockets take
//! everything.

use std::rc::Rc;
use std::sync::Arc;

use super::sets::Sets;
use super::slots::Slots;
use super::{Batch, HeadVariant, Join, Shard};
use crate::channel::{Receiver, channel};
use crate::config::{Config, SlowPolicy};
use crate::cursor::Offset;
use crate::engine::WakeEventFd;
use crate::event::Event;
use crate::publish::{Publisher, Sequencer};
use crate::sys::EventFd;
use crate::topic::{Matcher, Topic};
use crate::transport::{Encoding, Format, Framing, Transport};

const EVENT_STREAM: Encoding =
    Encoding { transport: Transport::Sse, format: Format::Raw, framing: Framing::Chunked, head: 0, limit: 0 };

/// One set, and the slots that stand in it.
pub struct Members {
    slots: Slots,
    sets: Sets,
    set: u32,
}

impl Members {
    /// An empty set of one topic.
    pub fn new(topic: &Topic) -> Self {
        let mut sets = Sets::new();
        let set = sets.make(Rc::from([Matcher::from(topic.clone())]), EVENT_STREAM, Offset::START, 0);
        Self { slots: Slots::new(), sets, set }
    }

    /// Takes a slot and enters it into the set; its number.
    pub fn insert(&mut self) -> u32 {
        let index = self.slots.take().index;
        self.sets.enter(&mut self.slots, self.set, index);
        index
    }

    /// Takes a slot out of the set and gives it back.
    pub fn remove(&mut self, slot: u32) {
        self.sets.leave(&mut self.slots, slot, false);
        self.slots.give_back(slot);
    }
}

/// A shard whose subscribers all hear one topic, and whose sockets take all that is sent.
pub struct Subscribed {
    shard: Shard,
    channel: Receiver<()>,
    publisher: Publisher,
    topic: Topic,
    batch: Batch,
}

impl Subscribed {
    /// A shard with so many subscribers of `topic`, each of them in its set.
    ///
    /// # Panics
    /// If the system refuses an eventfd.
    pub fn new(topic: &Topic, subscribers: u32) -> Self {
        let config = Arc::new(Config::default());
        let wake = WakeEventFd(Arc::new(EventFd::new().expect("a descriptor")));
        let (sender, _, channel) = channel(config.limits.channel_events, Arc::new(wake));
        let sequencer = Sequencer::new(&config, vec![sender]);
        let shard = Shard::new(0, config, Arc::clone(&sequencer), 1);
        let publisher = Publisher::new(sequencer);
        let mut this = Self { shard, channel, publisher, topic: topic.clone(), batch: Batch::default() };
        for socket in 0..subscribers {
            this.join(socket);
        }
        this.send_all();
        assert_eq!(this.shard.behind(), 0, "all stand in the set");
        this
    }

    fn join(&mut self, socket: u32) {
        let slot = self.shard.handle_join(Join {
            permit: 0,
            matchers: vec![self.topic.clone().into()],
            encoding: EVENT_STREAM,
            variant: HeadVariant { lines: "".into(), keeps_alive: true, is_http10: false },
            head: Vec::new(),
            after: Offset::START,
            told: Offset::START,
            old: None,
            wait_seconds: 0,
            max_age_seconds: 0,
            policy: SlowPolicy::default(),
            publish: Vec::new(),
            data: None,
            request: None,
            inflates: false,
            leftover: Vec::new(),
        });
        self.shard.set_socket(slot, socket);
    }

    /// Publishes an event of `text`, and goes through all that a shard does for it but the system calls. How
    /// many sends that made.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn publish(&mut self, text: &str) -> usize {
        let event = Event::text(self.topic.as_str(), text).expect("an event");
        self.publisher.publish(event).expect("room");
        while let Some(delivery) = self.channel.try_recv() {
            self.shard.handle_event(delivery);
        }
        self.send_all()
    }

    fn send_all(&mut self) -> usize {
        let mut sends = 0;
        while self.shard.poll_batch(&mut self.batch) {
            sends += self.batch.sends.len();
            self.shard.handle_batch_sent(&mut self.batch);
            while self.shard.poll_action().is_some() {}
        }
        sends
    }
}
