//! The subscribers of a shard for `bench/benches`: one set by itself, and a whole shard whose sockets take
//! everything.

use std::sync::Arc;

use super::{Batch, HeadVariant, Join, NONE, Shard, SlotId};
use crate::channel::{Receiver, channel};
use crate::config::{Config, SlowPolicy};
use crate::cursor::Offset;
use crate::engine::WakeEventFd;
use crate::event::{Data, Event};
use crate::publish::{Publisher, Sequencer};
use crate::sys::EventFd;
use crate::topic::{Matcher, Topic};
use crate::transport::{Encoding, Format, Framing, Transport};

const EVENT_STREAM: Encoding =
    Encoding { transport: Transport::Sse, format: Format::Raw, framing: Framing::Chunked, head: 0, limit: 0 };

/// One set and the slots that stand in it: what is left of joining and leaving when a subscriber is level.
pub struct Members {
    shard: Shard,
    set: u32,
}

impl Members {
    /// A set of one topic.
    pub fn new(topic: &Topic) -> Self {
        let mut subscribed = Subscribed::empty();
        let slot = subscribed.join(topic.clone().into());
        let mut shard = subscribed.shard;
        Self { set: shard.slots.get(slot).map_or(NONE, |slot| slot.set), shard }
    }

    /// Takes a slot and enters it into the set; its number.
    pub fn insert(&mut self) -> u32 {
        let Shard { sets, slots, .. } = &mut self.shard;
        let index = slots.take().index;
        sets.enter(slots, self.set, index);
        index
    }

    /// Takes a slot out of the set and gives it back.
    pub fn remove(&mut self, slot: u32) {
        let Shard { sets, slots, .. } = &mut self.shard;
        sets.leave(slots, slot, false);
        slots.give_back(slot);
    }
}

/// A shard with subscribers, whose sockets take all that is sent.
pub struct Subscribed {
    shard: Shard,
    channel: Receiver<()>,
    publisher: Publisher,
    batch: Batch,
}

impl Subscribed {
    fn empty() -> Self {
        let config = Arc::new(Config::default());
        let wake = WakeEventFd(Arc::new(EventFd::new().expect("a descriptor")));
        let (sender, _, channel) = channel(config.limits.channel_events, Arc::new(wake));
        let sequencer = Sequencer::new(&config, vec![sender]);
        let shard = Shard::new(0, config, Arc::clone(&sequencer), 1);
        Self { shard, channel, publisher: Publisher::new(sequencer), batch: Batch::default() }
    }

    /// A shard with a subscriber of each matcher: a set of its own, where no other has the same.
    ///
    /// # Panics
    /// If the system refuses an eventfd, or if not all stand in their sets at once.
    pub fn new(matchers: impl Iterator<Item = Matcher>) -> Self {
        let mut this = Self::empty();
        for (matcher, socket) in matchers.zip(0..) {
            let slot = this.join(matcher);
            this.shard.set_socket(slot, socket);
        }
        this.send_all();
        assert_eq!(this.shard.behind(), 0, "all stand in their sets");
        this
    }

    fn join(&mut self, matcher: Matcher) -> SlotId {
        self.shard.handle_join(Join {
            permit: 0,
            matchers: vec![matcher],
            encoding: EVENT_STREAM,
            variant: HeadVariant { lines: "".into(), keeps_alive: true, is_http10: false },
            head: None,
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
        })
    }

    /// How many sets a topic concerns: what a shard asks when the turn of a topic begins.
    pub fn sets_of(&mut self, topic: &Topic) -> usize {
        self.shard.sets.of_topic(topic).len()
    }

    /// Publishes an event of `text` to `topic`, and goes through all that a shard does for it but the system
    /// calls. How many sends that made.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn publish(&mut self, topic: &Topic, text: &str) -> usize {
        let event = Event::new(topic.clone(), Data::Text(text.into()));
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
