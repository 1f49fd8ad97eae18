//! The sequencer: one short critical section that gives an event its offset, appends it to the log and pushes
//! it into the channels of the shards that have interest in it, or does nothing of all that.
//!
//! Owns the lock, and with it interest, arrears, idempotency keys and the waiting [`Receiver`]s. Who reads
//! without the lock sees only the head, which is stored when an event is in all its channels: a shard that
//! sees the head and *then* its channel empty has taken every event up to it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::arrears::ArrearsTable;
use crate::channel::{Delivery, LiveBytes, Sender};
use crate::config::{Config, Limits};
use crate::cursor::{Cursor, CursorError, Epoch, Offset, Start};
use crate::event::Event;
use crate::interest::{Interest, SHARDS_MAX, Shards};
use crate::keys::{Earlier, KeyHashers, KeyedUse, Keys, Recorded};
use crate::listeners::Listeners;
use crate::log::{Log, LogStatistics, MemoryLog, Query, Read, TopicInfo};
use crate::publish::PublishError;
use crate::receiver::Receiver;
use crate::room::Room;
use crate::topic::Matcher;

/// When a publisher that was told `Busy` comes back, in seconds.
const BUSY_SECONDS: u32 = 1;

/// What one hold of the lock sweeps, so that publishing never waits long for it.
const SWEPT_PER_HOLD: usize = 1_024;

/// What a [`Start`] means for certain matchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The place to begin at.
    pub(crate) after: Offset,
    /// The cursor asked for, where it is of another epoch: then a gap from it is to be told before anything
    /// else.
    pub(crate) old: Option<Cursor>,
}

/// The sequencer in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Statistics {
    pub(crate) log: LogStatistics,
    pub(crate) head: Offset,
    /// Bytes of events that the log dropped and a shard has not finished, and of half-sent runs.
    pub(crate) bytes_outside: usize,
    /// Topics with events that a shard has not finished, and some that were finished lately.
    pub(crate) arrears_topics: usize,
    /// Publishes answered `Busy`, since the start.
    pub(crate) busy: u64,
    /// Publishes answered from an idempotency key, since the start.
    pub(crate) repeated: u64,
}

/// What `publish` answers with, before it is made into cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) recorded: Recorded,
    pub(crate) is_repeat: bool,
}

type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The one way into the log.
pub(crate) struct Sequencer {
    epoch: Epoch,
    limits: Limits,
    /// Events of a batch, at most: what `limits` says, or what a channel can ever take.
    events_max: usize,
    /// Events of a topic that a shard may be behind before the topic is `Busy`.
    arrears_max: u32,
    /// Bytes outside the log before everything is `Busy`.
    outside_max: usize,
    clock: Clock,
    hashers: KeyHashers,
    head: AtomicU64,
    /// Only the holder of the lock pushes.
    shards: Vec<Sender>,
    live: Arc<LiveBytes>,
    held: Arc<AtomicUsize>,
    room: Arc<Room>,
    state: Mutex<State>,
}

struct State {
    log: MemoryLog,
    /// The head, known before it is stored for all.
    head: Offset,
    /// Of the newest event, in milliseconds: the log's time never goes back, whatever the clock does.
    time_ms: u64,
    interest: Interest,
    arrears: ArrearsTable,
    keys: Keys,
    listeners: Listeners,
    is_closed: bool,
    busy: u64,
    repeated: u64,
    /// Of the running publish: the shards of each event. Kept for its memory.
    targets: Vec<Shards>,
    /// Of the running publish: the events of each shard. Kept for its memory.
    needs: Vec<usize>,
}

impl Sequencer {
    /// A sequencer with an empty log of a fresh epoch, that feeds `shards`.
    pub(crate) fn new(config: &Config, shards: Vec<Sender>) -> Arc<Self> {
        let clock = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
        };
        Self::with_clock(config, shards, Epoch::fresh(), Box::new(clock))
    }

    /// The same in an epoch and with a clock of the caller's, in milliseconds since 1970.
    ///
    /// # Panics
    /// If there are more than [`SHARDS_MAX`] shards.
    pub(crate) fn with_clock(config: &Config, shards: Vec<Sender>, epoch: Epoch, clock: Clock) -> Arc<Self> {
        assert!(shards.len() <= SHARDS_MAX, "{} shards; at most {SHARDS_MAX} are possible", shards.len());
        let (live, held, room) = (Arc::<LiveBytes>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        for shard in &shards {
            shard.announce_to(&room);
        }
        let (limits, retention) = (config.limits.clone(), config.retention.clone());
        let capacity = shards.iter().map(Sender::capacity).min().unwrap_or(usize::MAX);
        let arrears_max = if limits.arrears > 0 { limits.arrears } else { retention.events / 2 };
        let state = State {
            log: MemoryLog::new(retention.clone(), Arc::clone(&live), Arc::clone(&held)),
            head: Offset::START,
            time_ms: 0,
            interest: Interest::default(),
            arrears: ArrearsTable::new(shards.len(), Arc::clone(&live), Arc::clone(&room)),
            keys: Keys::default(),
            listeners: Listeners::default(),
            is_closed: false,
            busy: 0,
            repeated: 0,
            targets: Vec::new(),
            needs: vec![0; shards.len()],
        };
        Arc::new(Self {
            epoch,
            events_max: limits.batch_lines.min(capacity),
            limits,
            arrears_max: u32::try_from(arrears_max.max(1)).unwrap_or(u32::MAX),
            outside_max: (retention.all_bytes / 2).max(1),
            clock,
            hashers: KeyHashers::default(),
            head: AtomicU64::new(0),
            shards,
            live,
            held,
            room,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The clock's time, in seconds since 1970.
    pub(crate) fn now_seconds(&self) -> u64 {
        (self.clock)() / 1_000
    }

    /// The newest offset, without the lock. It is stored last: each event up to it is in the log and in the
    /// channels.
    pub(crate) fn head(&self) -> Offset {
        Offset(self.head.load(Ordering::Acquire))
    }

    pub(crate) fn cursor(&self, offset: Offset) -> Cursor {
        Cursor { epoch: self.epoch, offset }
    }

    /// Bytes of half-sent runs, which count as log bytes: the shards add and subtract.
    pub(crate) fn held_bytes(&self) -> &Arc<AtomicUsize> {
        &self.held
    }

    /// Where publishers wait while everything is `Busy`.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn hashers(&self) -> &KeyHashers {
        &self.hashers
    }

    /// Gives `shard` the events that `matchers` name, and returns the head `h`: all events beyond it come
    /// through its channel; one at or before it may, if it had interest before. A second time for a matcher
    /// changes nothing, so the shard counts what it needs each for.
    pub(crate) fn add_interest(&self, shard: usize, matchers: &[Matcher]) -> Offset {
        debug_assert!(shard < self.shards.len());
        let mut state = self.lock();
        state.interest.add(shard, matchers);
        state.head
    }

    /// Takes from `shard` the events that only `matchers` name. What is in its channel stays there.
    pub(crate) fn remove_interest(&self, shard: usize, matchers: &[Matcher]) {
        self.lock().interest.remove(shard, matchers);
    }

    /// The retained events of the topics that `matchers` name in (`after`, `until`], as many as the limits
    /// and one short hold of the lock allow. `until` is a head seen before, or less.
    pub(crate) fn read(
        &self,
        matchers: &[Matcher],
        after: Offset,
        until: Offset,
        events_max: usize,
        bytes_max: usize,
    ) -> Read {
        self.lock().log.read(matchers, Query { after, until, events_max, bytes_max })
    }

    /// Says where a subscriber of `matchers` begins. `Earliest` is the place before the first event of theirs
    /// that is retained: what is gone before it was not asked for, so no gap is told for it. What is gone
    /// between retained events of several topics is a gap as any other.
    ///
    /// # Errors
    /// [`CursorError::BeyondHead`] for a cursor of this epoch that no event has reached.
    pub(crate) fn resolve(&self, start: Start, matchers: &[Matcher]) -> Result<Resolved, CursorError> {
        let after = match start {
            Start::Now => self.head(),
            Start::Earliest => self.before_earliest(matchers),
            Start::After(cursor) if cursor.epoch != self.epoch => {
                return Ok(Resolved { after: Offset::START, old: Some(cursor) });
            }
            Start::After(cursor) => {
                self.check_known(cursor.offset)?;
                cursor.offset
            }
        };
        Ok(Resolved { after, old: None })
    }

    fn before_earliest(&self, matchers: &[Matcher]) -> Offset {
        let state = self.lock();
        let query = Query { after: Offset::START, until: state.head, events_max: 1, bytes_max: 0 };
        let read = state.log.read(matchers, query);
        read.events.first().map_or(read.end, |event| event.offset.previous())
    }

    /// Another shard may have sent an event whose offset is not stored as the head yet, so a cursor beyond
    /// the head is judged again under the lock.
    fn check_known(&self, offset: Offset) -> Result<(), CursorError> {
        if offset <= self.head() {
            return Ok(());
        }
        let head = self.lock().head;
        if offset <= head { Ok(()) } else { Err(CursorError::BeyondHead { offset, head }) }
    }

    /// What the log has of `topic`; none where it knows nothing of it.
    pub(crate) fn topic(&self, topic: &str) -> Option<TopicInfo> {
        self.lock().log.topic(topic)
    }

    /// Drops what is too old, and wakes the publishers that wait, for whatever made room without telling. To
    /// be called about once a second.
    pub(crate) fn sweep(&self) {
        let now_ms = (self.clock)();
        let arrears_looked_at = self.statistics().arrears_topics;
        let mut looked_at = 0;
        while {
            let mut state = self.lock();
            let State { log, keys, interest, arrears, time_ms, .. } = &mut *state;
            let now_ms = now_ms.max(*time_ms);
            let has_keys = keys.forget(now_ms, SWEPT_PER_HOLD);
            let has_interest = |topic: &str| interest.shards(topic) != Shards::default();
            let has_events = log.sweep(now_ms, SWEPT_PER_HOLD, &has_interest);
            arrears.tidy(SWEPT_PER_HOLD);
            looked_at += SWEPT_PER_HOLD;
            has_keys || has_events || looked_at < arrears_looked_at
        } {}
        self.room.announce();
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let state = self.lock();
        Statistics {
            log: state.log.statistics(),
            head: state.head,
            bytes_outside: state.log.bytes_outside(),
            arrears_topics: state.arrears.len(),
            busy: state.busy,
            repeated: state.repeated,
        }
    }

    /// Refuses all further publishing. Receivers get what is published, and then their end.
    pub(crate) fn close(&self) {
        let wakers = {
            let mut state = self.lock();
            state.is_closed = true;
            state.listeners.take_all()
        };
        wakers.into_iter().for_each(Waker::wake);
        self.room.announce();
    }

    /// Publishes `events`, all or none, in one critical section. They are the caller's own: no other `Arc` of
    /// them.
    ///
    /// # Errors
    /// As [`PublishError`] says; then nothing is published, and the caller may try again with the same.
    pub(crate) fn publish(
        &self,
        events: &mut [Arc<Event>],
        keyed: Option<KeyedUse>,
    ) -> Result<Appended, PublishError> {
        self.check_sizes(events)?;
        let now_ms = (self.clock)();
        let mut wakers = Vec::new();
        let (appended, shards) = {
            let mut state = self.lock();
            let state = &mut *state;
            state.time_ms = state.time_ms.max(now_ms);
            if let Some(earlier) = keyed.and_then(|keyed| state.keys.earlier(keyed, state.time_ms)) {
                return state.repeat(earlier);
            }
            if let Err(error) = self.judge(state, events) {
                state.busy += u64::from(matches!(error, PublishError::Busy { .. }));
                return Err(error);
            }
            let recorded = Recorded { first: state.head.next(), count: events.len() as u32 };
            let shards = self.append(state, events);
            if let Some(keyed) = keyed {
                state.keys.record(keyed, recorded, state.time_ms);
            }
            for event in events.iter() {
                state.listeners.take(event.topic().as_str(), &mut wakers);
            }
            self.head.store(state.head.0, Ordering::Release);
            (Appended { recorded, is_repeat: false }, shards)
        };
        for shard in shards.iter() {
            self.shards[shard].wake();
        }
        wakers.into_iter().for_each(Waker::wake);
        Ok(appended)
    }

    fn check_sizes(&self, events: &[Arc<Event>]) -> Result<(), PublishError> {
        if events.len() > self.events_max {
            return Err(PublishError::BatchTooLong { events: events.len(), events_max: self.events_max });
        }
        let mut all_bytes = 0usize;
        for event in events {
            let (bytes, bytes_max) = (event.data().bytes().len(), self.limits.event_bytes);
            if bytes > bytes_max {
                return Err(PublishError::EventTooLarge { bytes, bytes_max });
            }
            all_bytes = all_bytes.saturating_add(bytes);
        }
        let bytes_max = self.limits.batch_bytes;
        if events.len() > 1 && all_bytes > bytes_max {
            return Err(PublishError::BatchTooLarge { bytes: all_bytes, bytes_max });
        }
        Ok(())
    }

    /// Whether there is room for all of `events`; fills `targets`. A topic whose arrears are below the limit
    /// takes them whole, and counts them whole then.
    fn judge(&self, state: &mut State, events: &[Arc<Event>]) -> Result<(), PublishError> {
        let busy = |topic| Err(PublishError::Busy { topic, retry_after_seconds: BUSY_SECONDS });
        if state.is_closed {
            return Err(PublishError::Closed);
        }
        if state.log.bytes_outside() >= self.outside_max {
            return busy(None);
        }
        state.targets.clear();
        state.needs.fill(0);
        for event in events {
            let topic = event.topic();
            if state.arrears.most(topic) >= self.arrears_max {
                return busy(Some(topic.clone()));
            }
            let shards = state.interest.shards(topic.as_str());
            for shard in shards.iter() {
                state.needs[shard] += 1;
            }
            state.targets.push(shards);
        }
        let has_room = |(shard, need): (&Sender, &usize)| *need == 0 || shard.room() >= *need;
        if !self.shards.iter().zip(&state.needs).all(has_room) {
            return busy(None);
        }
        Ok(())
    }

    /// Appends and pushes what was judged; returns the shards that got something.
    fn append(&self, state: &mut State, events: &mut [Arc<Event>]) -> Shards {
        let State { log, interest, arrears, targets, head, time_ms, .. } = state;
        let has_interest = |topic: &str| interest.shards(topic) != Shards::default();
        let mut all = Shards::default();
        for (event, shards) in events.iter_mut().zip(targets.iter()) {
            *head = head.next();
            let fresh = Arc::make_mut(event);
            fresh.offset = *head;
            fresh.time_ms = *time_ms;
            self.live.hold(event, 1 + shards.len() as u8);
            log.append(Arc::clone(event), &has_interest);
            if *shards == Shards::default() {
                continue;
            }
            let arrears = arrears.of(event.topic());
            for shard in shards.iter() {
                arrears.begin(shard);
                self.shards[shard].push(Delivery { event: Arc::clone(event), arrears: Arc::clone(arrears) });
            }
            all.union(*shards);
        }
        all
    }

    /// A subscriber inside this process.
    ///
    /// # Errors
    /// [`CursorError::BeyondHead`] for a cursor of this epoch that no event has reached.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        matchers: Vec<Matcher>,
        start: Start,
    ) -> Result<Receiver, CursorError> {
        Receiver::new(Arc::clone(self), matchers, start)
    }

    /// Enters a receiver of `matchers`; returns its number.
    pub(crate) fn listen(&self, matchers: &[Matcher]) -> u32 {
        self.lock().listeners.add(matchers)
    }

    pub(crate) fn unlisten(&self, listener: u32, matchers: &[Matcher]) {
        let waker = self.lock().listeners.remove(listener, matchers);
        drop(waker);
    }

    /// Has `listener` woken by the next event of its matchers. Not done where there are events beyond `place`
    /// to read first, or where none will come.
    pub(crate) fn wake_later(&self, listener: u32, place: Offset, waker: &Waker) -> Armed {
        let waker = waker.clone();
        // What it replaces is dropped when the lock is released: a waker is foreign code.
        let (armed, _replaced) = {
            let mut state = self.lock();
            if state.head > place {
                (Armed::HasMore, Some(waker))
            } else if state.is_closed {
                (Armed::Closed, Some(waker))
            } else {
                (Armed::Waits, state.listeners.arm(listener, waker))
            }
        };
        armed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|_| {
            // Whoever panicked under the lock left it in an unknown state; no half-dead engine.
            tracing::error!("a thread panicked while it held the sequencer's lock; the process ends");
            std::process::abort()
        })
    }
}

/// What came of [`Sequencer::wake_later`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Armed {
    Waits,
    HasMore,
    Closed,
}

impl State {
    fn repeat(&mut self, earlier: Earlier) -> Result<Appended, PublishError> {
        match earlier {
            Earlier::Same(recorded) => {
                self.repeated += 1;
                Ok(Appended { recorded, is_repeat: true })
            }
            Earlier::Other => Err(PublishError::KeyReused),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
