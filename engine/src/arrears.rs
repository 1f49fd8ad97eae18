//! Arrears: which topics have events that a shard was given and has not finished.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;

use crate::channel::LiveBytes;
use crate::event::Event;
use crate::room::Room;
use crate::topic::Topic;

/// Finished topics that one new topic makes forgotten: more than it adds, so they cannot pile up.
const TIDIED_PER_TOPIC: usize = 2;

/// Topics for which the table keeps room when it is nearly empty.
const KEPT: usize = 1_024;

/// How many events of one topic each shard was given and has not finished.
#[derive(Debug)]
pub(crate) struct Arrears {
    bytes: Arc<LiveBytes>,
    room: Arc<Room>,
    shards: Box<[AtomicU32]>,
}

impl Arrears {
    pub(crate) fn new(shards: usize, bytes: Arc<LiveBytes>, room: Arc<Room>) -> Self {
        Self { bytes, room, shards: (0..shards).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Counts one event up. Only the holder of the sequencer's lock does, at the push.
    pub(crate) fn begin(&self, shard: usize) {
        if let Some(count) = self.shards.get(shard) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one event down. The shard does, once for each [`Delivery`]: when the last of its sets is done
    /// with the event or removed, or at once if no set is left for it.
    pub(crate) fn finish(&self, shard: usize) {
        if let Some(count) = self.shards.get(shard) {
            let before = count.fetch_sub(1, Ordering::SeqCst);
            debug_assert!(before > 0, "shard {shard} finished an event that it was not given");
        }
        self.room.announce();
    }

    /// The shard let go of `event`.
    pub(crate) fn release(&self, event: &Event) {
        if self.bytes.release(event) {
            self.room.announce();
        }
    }

    /// The arrears of the shard that has most.
    pub(crate) fn most(&self) -> u32 {
        self.shards.iter().map(|count| count.load(Ordering::SeqCst)).max().unwrap_or(0)
    }
}

/// The arrears of all topics that have any.
#[derive(Debug)]
pub(crate) struct ArrearsTable {
    shards: usize,
    bytes: Arc<LiveBytes>,
    room: Arc<Room>,
    topics: HashMap<Topic, Arc<Arrears>>,
    /// The same topics, in the order in which they are looked at for being finished.
    order: VecDeque<Topic>,
}

impl ArrearsTable {
    pub(crate) fn new(shards: usize, bytes: Arc<LiveBytes>, room: Arc<Room>) -> Self {
        Self { shards, bytes, room, topics: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// The arrears of `topic` on the shard that has most.
    pub(crate) fn most(&self, topic: &Topic) -> u32 {
        self.topics.get(topic).map_or(0, |arrears| arrears.most())
    }

    /// The arrears of `topic`, to count up.
    pub(crate) fn of(&mut self, topic: &Topic) -> &Arc<Arrears> {
        if !self.topics.contains_key(topic) {
            self.tidy(TIDIED_PER_TOPIC);
            self.order.push_back(topic.clone());
        }
        self.topics.entry_ref(topic).or_insert_with(|| {
            Arc::new(Arrears::new(self.shards, Arc::clone(&self.bytes), Arc::clone(&self.room)))
        })
    }

    /// Looks at up to `topics_max` topics and forgets those without arrears. Only the lock holder counts up,
    /// so what is finished stays so as long as it looks.
    pub(crate) fn tidy(&mut self, topics_max: usize) {
        for _ in 0..topics_max.min(self.order.len()) {
            let Some(topic) = self.order.pop_front() else { return };
            if self.most(&topic) == 0 {
                self.topics.remove(&topic);
            } else {
                self.order.push_back(topic);
            }
        }
        if self.order.capacity() > KEPT && self.order.len() < self.order.capacity() / 8 {
            self.order.shrink_to(self.order.len() * 2);
            self.topics.shrink_to(self.order.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_many_topics_gives_its_room_back_though_one_stays() {
        let mut table = ArrearsTable::new(1, Arc::default(), Arc::default());
        let topic = |n: u32| Topic::new(&format!("own/{n}")).unwrap();
        for n in 0..50_000 {
            table.of(&topic(n)).begin(0);
        }
        assert_eq!((table.len(), table.most(&topic(7))), (50_000, 1));
        for n in 1..50_000 {
            table.of(&topic(n)).finish(0);
        }
        for _ in 0..60 {
            table.tidy(1_024);
        }
        assert_eq!((table.len(), table.most(&topic(0))), (1, 1), "what is not finished stays");
        assert!(table.topics.capacity() < 5_000 && table.order.capacity() < 5_000);
    }
}
