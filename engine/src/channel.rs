//! The bounded channel into one shard, its command queue, and the flag by which the shard sleeps.
//!
//! Events come in under the sequencer's lock, so there is one producer at a time and offsets ascend. Commands come from
//! anywhere, through a queue of their own, so that a channel full of events stops none of them. Both wake the shard by
//! the same flag, once for however many things were put in while it slept.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use self::sync::{AtomicBool, fence};
use crate::event::Event;
use crate::room::Room;

/// Wakes a shard out of its sleep: an eventfd in production, a flag in a test.
pub(crate) trait Wake: Send + Sync {
    /// Makes the shard's current or next sleep end. May be called more often than there is a sleep.
    fn wake(&self);
}

/// What [`Sender`] and [`Receiver`] agree by whether the shard sleeps.
struct Sleep {
    is_asleep: AtomicBool,
    wake: Arc<dyn Wake>,
    /// Where publishers wait for room; none as long as no sequencer has the channel.
    room: OnceLock<Arc<Room>>,
}

impl Sleep {
    /// Called after something was put into a queue: either the sleeper's own look finds it, or this finds the sleeper.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        // The load keeps the flag's cache line shared as long as the shard is awake.
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    fn announce_room(&self) {
        if let Some(room) = self.room.get() {
            room.announce();
        }
    }
}

/// An event on its way through one shard. The shard keeps it until it has finished the event, and then calls
/// [`Arrears::finish`]; while it is kept, its bytes count as log bytes, in the log or not.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) event: Arc<Event>,
    pub(crate) arrears: Arc<Arrears>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.arrears.bytes.release(&self.event);
    }
}

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

    /// Counts one event down. The shard does, once for each [`Delivery`]: when the last of its sets is done with the
    /// event or removed, or at once if no set is left for it.
    pub(crate) fn finish(&self, shard: usize) {
        if let Some(count) = self.shards.get(shard) {
            let before = count.fetch_sub(1, Ordering::SeqCst);
            debug_assert!(before > 0, "shard {shard} finished an event that it was not given");
        }
        self.room.announce();
    }

    /// The arrears of the shard that has most.
    pub(crate) fn most(&self) -> u32 {
        self.shards.iter().map(|count| count.load(Ordering::SeqCst)).max().unwrap_or(0)
    }
}

/// Bytes of the events that the log or any shard still has, each counted once.
#[derive(Debug, Default)]
pub(crate) struct LiveBytes(AtomicUsize);

impl LiveBytes {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `event`, which gets one share for each of its holders.
    pub(crate) fn hold(&self, event: &Event, holders: u8) {
        event.shares.set(holders);
        self.0.fetch_add(event.cost_bytes(), Ordering::Relaxed);
    }

    /// One holder let go; the last one's leave uncounts the event.
    pub(crate) fn release(&self, event: &Event) {
        if event.shares.release() {
            self.0.fetch_sub(event.cost_bytes(), Ordering::Relaxed);
        }
    }
}

/// The sequencer's end: events into one shard. Only the holder of the sequencer's lock pushes.
pub(crate) struct Sender {
    events: queue::EventSender<Delivery>,
    sleep: Arc<Sleep>,
}

impl Sender {
    /// Has the shard tell `room` when it takes events.
    pub(crate) fn announce_to(&self, room: &Arc<Room>) {
        // A second sequencer on one channel would be a mistake of ours; the first keeps it.
        let _ = self.sleep.room.set(Arc::clone(room));
    }

    /// Events that fit now. Only grows until the next push, because nobody else pushes.
    pub(crate) fn room(&self) -> usize {
        self.events.room()
    }

    /// The largest batch that can ever fit.
    pub(crate) fn capacity(&self) -> usize {
        self.events.capacity()
    }

    /// Puts one event in. The caller asked for [`room`](Self::room) under the same lock, and calls
    /// [`wake`](Self::wake) when it has pushed what it has.
    ///
    /// # Panics
    /// If there is no room.
    pub(crate) fn push(&self, delivery: Delivery) {
        assert!(self.events.push(delivery), "pushed into a full shard channel: the room was not asked for");
    }

    /// Wakes the shard if it sleeps.
    pub(crate) fn wake(&self) {
        self.sleep.wake();
    }
}

/// Anybody's end: commands into one shard. Unbounded, because what sends them (accepting, draining, the embedder's
/// calls) is bounded itself.
pub(crate) struct CommandSender<C> {
    commands: queue::CommandSender<C>,
    sleep: Arc<Sleep>,
}

impl<C> Clone for CommandSender<C> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone(), sleep: Arc::clone(&self.sleep) }
    }
}

impl<C> CommandSender<C> {
    /// Sends `command` and wakes the shard; gives it back when the shard is gone.
    pub(crate) fn send(&self, command: C) -> Result<(), C> {
        self.commands.send(command)?;
        self.sleep.wake();
        Ok(())
    }
}

/// The shard's end of both queues.
pub(crate) struct Receiver<C> {
    events: queue::EventReceiver<Delivery>,
    commands: queue::CommandReceiver<C>,
    sleep: Arc<Sleep>,
    /// Events taken since waiting publishers were last told of room.
    taken: Cell<u32>,
}

/// Waiting publishers are told of room at the latest after so many events were taken.
const ANNOUNCE_EVERY: u32 = 256;

impl<C> Receiver<C> {
    /// The next event, in ascending order of offsets.
    pub(crate) fn try_recv(&self) -> Option<Delivery> {
        let delivery = self.events.try_recv();
        let taken = self.taken.get() + u32::from(delivery.is_some());
        if taken >= ANNOUNCE_EVERY || (delivery.is_none() && taken > 0) {
            self.taken.set(0);
            self.sleep.announce_room();
        } else {
            self.taken.set(taken);
        }
        delivery
    }

    /// The next command.
    pub(crate) fn try_command(&self) -> Option<C> {
        self.commands.try_recv()
    }

    /// Announces that the shard is about to sleep; false if something came meanwhile, and then it must not. After true,
    /// whatever is put into either queue wakes it. Call [`awake`](Self::awake) after the sleep.
    pub(crate) fn prepare_to_sleep(&self) -> bool {
        self.sleep.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.events.is_empty() && self.commands.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says that the shard is awake, whoever woke it, so that no sender spends a wake on it.
    pub(crate) fn awake(&self) {
        self.sleep.is_asleep.store(false, Ordering::Relaxed);
    }
}

/// The channel into one shard: `capacity` events, and commands of type `C`.
pub(crate) fn channel<C>(capacity: usize, wake: Arc<dyn Wake>) -> (Sender, CommandSender<C>, Receiver<C>) {
    let sleep = Arc::new(Sleep { is_asleep: AtomicBool::new(false), wake, room: OnceLock::new() });
    let (event_sender, events) = queue::events(capacity.max(1));
    let (command_sender, commands) = queue::commands();
    (
        Sender { events: event_sender, sleep: Arc::clone(&sleep) },
        CommandSender { commands: command_sender, sleep: Arc::clone(&sleep) },
        Receiver { events, commands, sleep, taken: Cell::new(0) },
    )
}

#[cfg(not(loom))]
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, fence};
}

#[cfg(loom)]
mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, fence};
}

#[cfg(not(loom))]
mod queue {
    //! The queues of crossbeam.

    use crossbeam_channel as crossbeam;

    pub(super) struct EventSender<T>(crossbeam::Sender<T>);
    pub(super) struct EventReceiver<T>(crossbeam::Receiver<T>);

    pub(super) fn events<T>(capacity: usize) -> (EventSender<T>, EventReceiver<T>) {
        let (sender, receiver) = crossbeam::bounded(capacity);
        (EventSender(sender), EventReceiver(receiver))
    }

    impl<T> EventSender<T> {
        pub(super) fn capacity(&self) -> usize {
            self.0.capacity().unwrap_or(usize::MAX)
        }

        pub(super) fn room(&self) -> usize {
            self.capacity().saturating_sub(self.0.len())
        }

        /// False if it is full. What a shard that is gone would have got is let go.
        pub(super) fn push(&self, value: T) -> bool {
            !matches!(self.0.try_send(value), Err(crossbeam::TrySendError::Full(_)))
        }
    }

    impl<T> EventReceiver<T> {
        pub(super) fn try_recv(&self) -> Option<T> {
            self.0.try_recv().ok()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    pub(super) struct CommandSender<C>(crossbeam::Sender<C>);
    pub(super) struct CommandReceiver<C>(crossbeam::Receiver<C>);

    pub(super) fn commands<C>() -> (CommandSender<C>, CommandReceiver<C>) {
        let (sender, receiver) = crossbeam::unbounded();
        (CommandSender(sender), CommandReceiver(receiver))
    }

    impl<C> Clone for CommandSender<C> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<C> CommandSender<C> {
        pub(super) fn send(&self, command: C) -> Result<(), C> {
            self.0.send(command).map_err(|error| error.0)
        }
    }

    impl<C> CommandReceiver<C> {
        pub(super) fn try_recv(&self) -> Option<C> {
            self.0.try_recv().ok()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}
