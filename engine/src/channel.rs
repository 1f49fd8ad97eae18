//! The bounded channel into one shard, its command queue, and the flag by which the shard sleeps.
//!
//! Events come in under the sequencer's lock, so there is one producer at a time and offsets ascend. Commands
//! come from anywhere, through a queue of their own, so that a channel full of events stops none of them.
//! Both wake the shard by the same flag, once for however many things were put in while it slept.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use self::sync::{AtomicBool, fence};
pub(crate) use crate::arrears::Arrears;
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
    /// Called after something was put into a queue: either the sleeper's own look finds it, or this finds the
    /// sleeper.
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
        self.arrears.release(&self.event);
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

    /// One holder let go. The last one's leave uncounts the event, and is answered by true.
    pub(crate) fn release(&self, event: &Event) -> bool {
        let is_last = event.shares.release();
        if is_last {
            self.0.fetch_sub(event.cost_bytes(), Ordering::Relaxed);
        }
        is_last
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

/// Anybody's end: commands into one shard. Unbounded, because what sends them (accepting, draining, the
/// embedder's calls) is bounded itself.
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

    /// Announces that the shard is about to sleep; false if something came meanwhile, and then it must not.
    /// After true, whatever is put into either queue wakes it. Call [`awake`](Self::awake) after the sleep.
    pub(crate) fn prepare_to_sleep(&self) -> bool {
        // A swap, not a store: it is ordered after a sender's late swap of an earlier sleep.
        self.sleep.is_asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.events.is_empty() && self.commands.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says that the shard is awake, whoever woke it, so that no sender spends a wake on it.
    pub(crate) fn awake(&self) {
        self.sleep.is_asleep.swap(false, Ordering::AcqRel);
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

#[cfg(not(all(loom, test)))]
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, fence};
}

#[cfg(all(loom, test))]
mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, fence};
}

#[cfg(not(all(loom, test)))]
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

#[cfg(all(loom, test))]
mod queue {
    //! A stand-in for crossbeam's queues that loom can follow, as weak as a queue of one producer and one
    //! consumer can be: what is pushed is seen by a release store and an acquire load, and by nothing
    //! stronger.

    use loom::sync::Arc;
    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    struct Ring<T> {
        slots: Vec<Mutex<Option<T>>>,
        pushed: AtomicUsize,
        taken: AtomicUsize,
    }

    pub(super) struct EventSender<T>(Arc<Ring<T>>);
    pub(super) struct EventReceiver<T>(Arc<Ring<T>>);

    pub(super) fn events<T>(capacity: usize) -> (EventSender<T>, EventReceiver<T>) {
        let ring = Arc::new(Ring {
            slots: (0..capacity).map(|_| Mutex::new(None)).collect(),
            pushed: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        });
        (EventSender(Arc::clone(&ring)), EventReceiver(ring))
    }

    impl<T> EventSender<T> {
        pub(super) fn capacity(&self) -> usize {
            self.0.slots.len()
        }

        pub(super) fn room(&self) -> usize {
            let (pushed, taken) =
                (self.0.pushed.load(Ordering::Relaxed), self.0.taken.load(Ordering::Acquire));
            self.capacity() - (pushed - taken)
        }

        pub(super) fn push(&self, value: T) -> bool {
            if self.room() == 0 {
                return false;
            }
            let pushed = self.0.pushed.load(Ordering::Relaxed);
            *self.0.slots[pushed % self.capacity()].lock().unwrap() = Some(value);
            self.0.pushed.store(pushed + 1, Ordering::Release);
            true
        }
    }

    impl<T> EventReceiver<T> {
        pub(super) fn try_recv(&self) -> Option<T> {
            if self.is_empty() {
                return None;
            }
            let taken = self.0.taken.load(Ordering::Relaxed);
            let value = self.0.slots[taken % self.0.slots.len()].lock().unwrap().take();
            self.0.taken.store(taken + 1, Ordering::Release);
            value
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.pushed.load(Ordering::Acquire) == self.0.taken.load(Ordering::Relaxed)
        }
    }

    pub(super) struct CommandSender<C>(std::sync::Arc<EventSender<C>>);
    pub(super) struct CommandReceiver<C>(EventReceiver<C>);

    pub(super) fn commands<C>() -> (CommandSender<C>, CommandReceiver<C>) {
        let (sender, receiver) = events(4);
        (CommandSender(std::sync::Arc::new(sender)), CommandReceiver(receiver))
    }

    impl<C> Clone for CommandSender<C> {
        fn clone(&self) -> Self {
            Self(std::sync::Arc::clone(&self.0))
        }
    }

    impl<C> CommandSender<C> {
        pub(super) fn send(&self, command: C) -> Result<(), C> {
            assert!(self.0.push(command), "a model sends at most four commands");
            Ok(())
        }
    }

    impl<C> CommandReceiver<C> {
        pub(super) fn try_recv(&self) -> Option<C> {
            self.0.try_recv()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}

#[cfg(test)]
fn delivery(text: &str) -> Delivery {
    let arrears = Arrears::new(1, Arc::default(), Arc::default());
    Delivery { event: Arc::new(Event::text("a", text).unwrap()), arrears: Arc::new(arrears) }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p stentor --lib --target-dir target/loom channel::`
#[cfg(all(loom, test))]
mod models {
    use loom::sync::Notify;
    use loom::thread;

    use super::*;

    /// loom's `Notify` is what an eventfd is: a wake before the sleep ends the sleep at once.
    struct Bell(Notify);

    impl Wake for loom::sync::Arc<Bell> {
        fn wake(&self) {
            self.0.notify();
        }
    }

    fn bell() -> (loom::sync::Arc<Bell>, Arc<dyn Wake>) {
        let bell = loom::sync::Arc::new(Bell(Notify::new()));
        (bell.clone(), Arc::new(bell))
    }

    /// If a wake-up could be lost, the shard would sleep for ever in some order of the steps, which loom
    /// reports.
    #[test]
    fn a_sleeping_shard_is_woken_by_an_event_in_every_order_of_steps() {
        loom::model(|| {
            let (bell, wake) = bell();
            let (sender, _commands, receiver) = channel::<()>(2, wake);
            let publisher = thread::spawn(move || {
                for text in ["x", "y"] {
                    sender.push(delivery(text));
                    sender.wake();
                }
            });
            let mut taken = 0;
            while taken < 2 {
                while receiver.try_recv().is_some() {
                    taken += 1;
                }
                if taken < 2 && receiver.prepare_to_sleep() {
                    bell.0.wait();
                    receiver.awake();
                }
            }
            publisher.join().unwrap();
        });
    }

    #[test]
    fn a_sleeping_shard_is_woken_by_a_command_beside_an_event() {
        let mut model = loom::model::Builder::new();
        // Two senders and no bound would take minutes.
        model.preemption_bound = Some(2);
        model.check(|| {
            let (bell, wake) = bell();
            let (sender, commands, receiver) = channel::<u8>(1, wake);
            let publisher = thread::spawn(move || {
                sender.push(delivery("x"));
                sender.wake();
            });
            let commander = thread::spawn(move || commands.send(7).unwrap());
            let (mut events, mut command) = (0, None);
            while events == 0 || command.is_none() {
                events += usize::from(receiver.try_recv().is_some());
                command = receiver.try_command().or(command);
                if (events == 0 || command.is_none()) && receiver.prepare_to_sleep() {
                    bell.0.wait();
                    receiver.awake();
                }
            }
            publisher.join().unwrap();
            commander.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Arc<Count> {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted(capacity: usize) -> (Arc<Count>, Sender, CommandSender<u8>, Receiver<u8>) {
        let count = Arc::<Count>::default();
        let (sender, commands, receiver) = channel(capacity, Arc::new(Arc::clone(&count)));
        (count, sender, commands, receiver)
    }

    #[test]
    fn a_shard_that_is_awake_costs_no_wake_and_one_asleep_costs_one() {
        let (count, sender, commands, receiver) = counted(8);
        let wakes = || count.0.load(Ordering::SeqCst);
        sender.push(delivery("x"));
        sender.wake();
        assert_eq!(wakes(), 0);
        assert!(!receiver.prepare_to_sleep(), "an event is there");
        assert!(receiver.try_recv().is_some());
        assert!(receiver.prepare_to_sleep());
        commands.send(1).unwrap();
        sender.push(delivery("y"));
        sender.wake();
        assert_eq!(wakes(), 1, "the first of both woke it");
        receiver.awake();
        assert_eq!(receiver.try_recv().map(|d| d.event.data().bytes().to_vec()), Some(b"y".to_vec()));
        assert!(!receiver.prepare_to_sleep(), "a command is there");
        assert_eq!(receiver.try_command(), Some(1));
        sender.wake();
        assert_eq!(wakes(), 1, "it did not go to sleep");
    }

    #[test]
    fn room_is_what_is_left_of_the_capacity() {
        let (_, sender, _, receiver) = counted(2);
        assert_eq!((sender.capacity(), sender.room()), (2, 2));
        sender.push(delivery("x"));
        sender.push(delivery("y"));
        assert_eq!(sender.room(), 0);
        drop(receiver.try_recv());
        assert_eq!(sender.room(), 1);
    }

    #[test]
    fn a_command_to_a_shard_that_is_gone_comes_back_and_an_event_is_let_go() {
        let (_, sender, commands, receiver) = counted(1);
        drop(receiver);
        assert_eq!(commands.send(3), Err(3));
        sender.push(delivery("x"));
        sender.push(delivery("y"));
    }

    #[test]
    fn a_shard_announces_room_when_it_has_emptied_the_channel_and_now_and_then_before() {
        struct Flag(Count);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let flag = Arc::new(Flag(Count::default()));
        let told = || flag.0.0.load(Ordering::SeqCst);
        let waker = std::task::Waker::from(Arc::clone(&flag));
        let (_, sender, _, receiver) = counted(1_000);
        let room = Arc::<Room>::default();
        sender.announce_to(&room);
        for _ in 0..ANNOUNCE_EVERY + 1 {
            sender.push(delivery("x"));
        }
        room.wait(&waker);
        for _ in 1..ANNOUNCE_EVERY {
            drop(receiver.try_recv());
        }
        assert_eq!(told(), 0);
        drop(receiver.try_recv());
        assert_eq!(told(), 1);
        room.wait(&waker);
        drop(receiver.try_recv());
        assert!(receiver.try_recv().is_none());
        assert_eq!(told(), 2);
    }

    #[test]
    fn two_threads_hand_over_everything_in_order_with_a_wake_for_each_sleep() {
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(&self) {
                self.0.unpark();
            }
        }
        const EVENTS: usize = 20_000;
        let (sender, _commands, receiver) = channel::<()>(64, Arc::new(Unpark(thread::current())));
        let publisher = thread::spawn(move || {
            for number in 0..EVENTS {
                while sender.room() == 0 {
                    thread::yield_now();
                }
                sender.push(delivery(&number.to_string()));
                sender.wake();
            }
        });
        let mut next = 0;
        while next < EVENTS {
            while let Some(delivery) = receiver.try_recv() {
                assert_eq!(delivery.event.data().bytes(), next.to_string().as_bytes());
                next += 1;
            }
            if next < EVENTS && receiver.prepare_to_sleep() {
                let before = std::time::Instant::now();
                thread::park_timeout(Duration::from_secs(10));
                assert!(before.elapsed() < Duration::from_secs(9), "a wake was lost at {next}");
                receiver.awake();
            }
        }
        publisher.join().unwrap();
    }
}
