//! Parts of the engine for `bench/benches`, each so that it can be measured by itself. Behind the feature
//! `bench`, and no part of the public interface: it changes with what is inside, in any version.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::arrears::Arrears;
use crate::channel::{Delivery, LiveBytes, Receiver, Sender, channel as shard_channel};
use crate::config::{Config, Retention};
use crate::cursor::Offset;
use crate::engine::WakeEventFd;
use crate::event::Event;
use crate::log::{Log as _, MemoryLog, Query};
use crate::publish::{Publisher, Sequencer};
pub use crate::shard::bench::{Members, Subscribed};
use crate::sys::{self, Backend, EventFd};
use crate::topic::Matcher;

/// Which shards have interest in a topic: what a publisher asks, under its lock.
#[derive(Default)]
pub struct Interest(crate::interest::Interest);

impl Interest {
    /// Gives `shard` interest in what `matcher` names.
    pub fn add(&mut self, shard: usize, matcher: &Matcher) {
        self.0.add(shard, std::slice::from_ref(matcher));
    }

    /// How many shards have interest in `topic`.
    pub fn shards(&self, topic: &str) -> usize {
        self.0.shards(topic).len()
    }
}

/// Gives `event` the offset that a sequencer would. Copies it if it is shared.
pub fn stamp(event: &mut Arc<Event>, offset: u64) {
    Arc::make_mut(event).offset = Offset(offset);
}

/// The log in memory, without a sequencer.
pub struct Log {
    log: MemoryLog,
    live: Arc<LiveBytes>,
}

impl Log {
    /// An empty log.
    pub fn new(retention: Retention) -> Self {
        let live = Arc::<LiveBytes>::default();
        Self { log: MemoryLog::new(retention, Arc::clone(&live), Arc::default()), live }
    }

    /// Appends an event, whose offset is beyond all others, and drops what retention no longer keeps.
    pub fn append(&mut self, event: Arc<Event>) {
        self.live.hold(&event, 1);
        self.log.append(event, &|_| false);
    }

    /// The events of `matchers` beyond `after` up to `until`, at most `events_max`.
    pub fn read(&self, matchers: &[Matcher], after: u64, until: u64, events_max: usize) -> Vec<Arc<Event>> {
        let (after, until) = (Offset(after), Offset(until));
        self.log.read(matchers, Query { after, until, events_max, bytes_max: usize::MAX }).events
    }
}

/// The sequencer's end of a shard channel.
pub struct Feeder {
    sender: Sender,
    arrears: Arc<Arrears>,
}

impl Feeder {
    /// Events that fit.
    pub fn room(&self) -> usize {
        self.sender.room()
    }

    /// Puts an event in; there is room.
    pub fn push(&self, event: Arc<Event>) {
        event.shares.set(1);
        self.arrears.begin(0);
        self.sender.push(Delivery { event, arrears: Arc::clone(&self.arrears) });
    }

    /// Wakes the shard, if it sleeps.
    pub fn wake(&self) {
        self.sender.wake();
    }
}

/// The shard's end of its channel, with the eventfd that it sleeps on.
pub struct Fed {
    receiver: Receiver<()>,
    eventfd: Arc<EventFd>,
}

impl Fed {
    /// Takes an event and finishes it; false if there is none.
    pub fn take(&self) -> bool {
        let Some(delivery) = self.receiver.try_recv() else { return false };
        delivery.arrears.finish(0);
        true
    }

    /// Takes the wakes so far, then says that the shard is about to sleep; false if it must not, because an
    /// event came.
    pub fn prepare_to_sleep(&self) -> bool {
        self.eventfd.drain();
        self.receiver.prepare_to_sleep()
    }

    /// Says that the shard is awake.
    pub fn awake(&self) {
        self.receiver.awake();
    }

    /// Calls `taken` after each event, as the loop of a shard does: as a task of the runtime, which sleeps
    /// while the channel is empty. Ends when `taken` answers false.
    ///
    /// # Panics
    /// If the system refuses the runtime.
    pub fn serve(self, mut taken: impl FnMut() -> bool) {
        let (backend, _) = Backend::available();
        let work = async {
            let sleeper = self.eventfd.sleeper().expect("a descriptor");
            loop {
                while self.take() {
                    if !taken() {
                        return;
                    }
                }
                if self.prepare_to_sleep() {
                    sleeper.wait().await.expect("a wait");
                }
                self.awake();
            }
        };
        sys::block_on(backend, work).expect("a runtime");
    }
}

impl AsFd for Fed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.eventfd).as_fd()
    }
}

/// A shard channel alone.
///
/// # Panics
/// If the system refuses an eventfd.
pub fn channel(events: usize) -> (Feeder, Fed) {
    let (sender, fed) = ends(events);
    let arrears = Arc::new(Arrears::new(1, Arc::default(), Arc::default()));
    (Feeder { sender, arrears }, fed)
}

/// A publisher, its log, and the channel into one shard, which has interest in `matchers`.
///
/// # Panics
/// If the system refuses an eventfd.
pub fn publisher(config: &Config, matchers: &[Matcher]) -> (Publisher, Fed) {
    let (sender, fed) = ends(config.limits.channel_events);
    let sequencer = Sequencer::new(config, vec![sender]);
    sequencer.add_interest(0, matchers);
    (Publisher::new(sequencer), fed)
}

fn ends(events: usize) -> (Sender, Fed) {
    let eventfd = Arc::new(EventFd::new().expect("a descriptor"));
    let (sender, _, receiver) = shard_channel(events, Arc::new(WakeEventFd(Arc::clone(&eventfd))));
    (sender, Fed { receiver, eventfd })
}
