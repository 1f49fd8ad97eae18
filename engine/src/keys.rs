//! Idempotency keys: which were used in the last five minutes, for what, and what was answered.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::cursor::Offset;
use crate::event::{Data, Event};

/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// How long a key is remembered, in milliseconds.
const KEPT_MS: u64 = 5 * 60 * 1_000;

/// Keys that are remembered at once: 870 new ones a second for five minutes, and about 30 MB. Past that the
/// oldest goes early, so that nobody can shut other publishers out by using up keys.
const KEYS_MAX: usize = 1 << 18;

/// Keys for which the table keeps room when it is nearly empty.
const KEPT: usize = 1_024;

/// Old keys that one use of the table forgets: more than it adds.
const FORGOTTEN_PER_USE: usize = 4;

/// A key and what it is used for, as hashes: nobody outside knows the hashers' own keys, so nobody can make
/// two alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyedUse {
    key: (u64, u64),
    events: u64,
}

/// Makes [`KeyedUse`]s; needs no lock.
#[derive(Debug, Default)]
pub(crate) struct KeyHashers {
    key: (RandomState, RandomState),
    events: RandomState,
}

impl KeyHashers {
    pub(crate) fn keyed_use(&self, key: &str, events: &[Arc<Event>]) -> KeyedUse {
        let mut hasher = self.events.build_hasher();
        events.len().hash(&mut hasher);
        for event in events {
            event.topic().hash(&mut hasher);
            event.name().hash(&mut hasher);
            match event.data() {
                Data::Text(text) => (0, text.as_bytes()).hash(&mut hasher),
                Data::Json(text) => (1, text.as_bytes()).hash(&mut hasher),
                Data::Binary(bytes) => (2, &**bytes).hash(&mut hasher),
            }
        }
        KeyedUse { key: (self.key.0.hash_one(key), self.key.1.hash_one(key)), events: hasher.finish() }
    }
}

/// What was published with a key: so many events, one after the other, beginning with `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) first: Offset,
    pub(crate) count: u32,
}

/// What a key was used for before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// The same events.
    Same(Recorded),
    /// Other events.
    Other,
}

/// The keys used lately. Time only goes forward; the caller sees to it.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    used: HashMap<(u64, u64), Entry>,
    /// Oldest first.
    order: VecDeque<(u64, (u64, u64))>,
}

#[derive(Debug)]
struct Entry {
    events: u64,
    recorded: Recorded,
    time_ms: u64,
}

impl Keys {
    /// What the key was used for within the last five minutes.
    pub(crate) fn earlier(&self, keyed: KeyedUse, now_ms: u64) -> Option<Earlier> {
        let entry = self.used.get(&keyed.key).filter(|entry| now_ms < entry.time_ms + KEPT_MS)?;
        Some(if entry.events == keyed.events { Earlier::Same(entry.recorded) } else { Earlier::Other })
    }

    /// Remembers what was published with a key.
    pub(crate) fn record(&mut self, keyed: KeyedUse, recorded: Recorded, now_ms: u64) {
        self.forget(now_ms, FORGOTTEN_PER_USE);
        if self.order.len() >= KEYS_MAX {
            self.forget_oldest();
        }
        self.used.insert(keyed.key, Entry { events: keyed.events, recorded, time_ms: now_ms });
        self.order.push_back((now_ms, keyed.key));
    }

    /// Forgets up to `keys_max` keys that are too old; whether there may be more.
    pub(crate) fn forget(&mut self, now_ms: u64, keys_max: usize) -> bool {
        for _ in 0..keys_max {
            match self.order.front() {
                Some((time_ms, _)) if now_ms >= time_ms + KEPT_MS => self.forget_oldest(),
                _ => return false,
            }
        }
        true
    }

    fn forget_oldest(&mut self) {
        let Some((time_ms, key)) = self.order.pop_front() else { return };
        // A key that was used again after its time stands in the order twice; the newer use stays.
        if self.used.get(&key).is_some_and(|entry| entry.time_ms == time_ms) {
            self.used.remove(&key);
        }
        if self.order.capacity() > KEPT && self.order.len() < self.order.capacity() / 8 {
            self.order.shrink_to(self.order.len() * 2);
            self.used.shrink_to(self.order.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Arc<Event>> {
        vec![Arc::new(Event::text("a", text).unwrap())]
    }

    const RECORDED: Recorded = Recorded { first: Offset(7), count: 1 };

    #[test]
    fn a_key_answers_the_same_for_five_minutes_and_refuses_other_events() {
        let (hashers, mut keys) = (KeyHashers::default(), Keys::default());
        let used = hashers.keyed_use("k", &events("x"));
        assert_eq!(keys.earlier(used, 1_000), None);
        keys.record(used, RECORDED, 1_000);
        assert_eq!(keys.earlier(used, 1_000 + KEPT_MS - 1), Some(Earlier::Same(RECORDED)));
        assert_eq!(keys.earlier(hashers.keyed_use("k", &events("y")), 1_000), Some(Earlier::Other));
        assert_eq!(keys.earlier(hashers.keyed_use("l", &events("x")), 1_000), None);
        assert_eq!(keys.earlier(used, 1_000 + KEPT_MS), None, "the five minutes are over");
    }

    #[test]
    fn the_same_bytes_of_another_kind_topic_or_name_are_other_events() {
        let hashers = KeyHashers::default();
        let of = |event: Event| hashers.keyed_use("k", &[Arc::new(event)]);
        let text = of(Event::text("a", "1").unwrap());
        assert_eq!(text, of(Event::text("a", "1").unwrap()));
        assert_ne!(text, of(Event::json("a", "1").unwrap()));
        assert_ne!(text, of(Event::binary("a", *b"1").unwrap()));
        assert_ne!(text, of(Event::text("b", "1").unwrap()));
        assert_ne!(text, of(Event::text("a", "1").unwrap().named("n").unwrap()));
    }

    #[test]
    fn a_key_used_again_after_its_time_is_not_forgotten_with_its_first_use() {
        let (hashers, mut keys) = (KeyHashers::default(), Keys::default());
        let used = hashers.keyed_use("k", &events("x"));
        keys.record(used, RECORDED, 0);
        // The first use stays in the order, because so much else is forgotten first.
        let again = Recorded { first: Offset(9), count: 1 };
        keys.used.insert(used.key, Entry { events: used.events, recorded: again, time_ms: KEPT_MS });
        keys.order.push_back((KEPT_MS, used.key));
        assert!(!keys.forget(KEPT_MS, 10));
        assert_eq!(keys.earlier(used, KEPT_MS + 1), Some(Earlier::Same(again)));
        assert!(!keys.forget(3 * KEPT_MS, 10));
        assert!(keys.used.is_empty() && keys.order.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_lets_the_oldest_go() {
        let mut keys = Keys::default();
        for key in 0..KEYS_MAX as u64 + 10 {
            keys.record(KeyedUse { key: (key, 0), events: 0 }, RECORDED, 1);
        }
        assert_eq!((keys.used.len(), keys.order.len()), (KEYS_MAX, KEYS_MAX));
        assert_eq!(keys.earlier(KeyedUse { key: (9, 0), events: 0 }, 1), None);
        assert!(keys.earlier(KeyedUse { key: (10, 0), events: 0 }, 1).is_some());
    }

    #[test]
    fn a_table_that_was_full_gives_its_room_back_though_some_keys_come_still() {
        let mut keys = Keys::default();
        let mut record = |key: u64, now_ms| {
            keys.record(KeyedUse { key: (key, 0), events: 0 }, RECORDED, now_ms);
            keys.forget(now_ms, 1_000);
            keys.used.capacity()
        };
        let full = (0..100_000).map(|key| record(key, 1)).max().unwrap();
        assert!(full >= 100_000);
        let after = (0..1_000).map(|key| record(1 << 32 | key, 2 + KEPT_MS)).last().unwrap();
        assert!(after < 20_000, "{after}");
    }
}
