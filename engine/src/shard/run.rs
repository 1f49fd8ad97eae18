//! The loop of a shard: the only place where the pure shard meets sockets, the channel and the clock.
//!
//! A thread, a monoio runtime, and in it one task that owns the parked sockets. Connection tasks of the same
//! runtime hand their sockets over when they have nothing more to think about, and get them back with the
//! next request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::input::{Ready, Received};
use super::settled::Settled;
use super::{Action, Batch, Closing, Outcome, OwnedMessage, Shard, SlotId};
use crate::app::{Admission, AnyApp, Message, Refusal, Subscriber};
use crate::channel::Receiver;
use crate::config::Config;
use crate::connection::{self, Admissions, Context, Handle, Lent, OwnedRequest, RawPermit};
use crate::metrics::{Ended, Figures, Malformed, Metrics, Refused};
use crate::publish::Sequencer;
use crate::sys::{self, EventFd, ParkedEvent, ParkedEventKind, ParkedSet, SendOutcome, SocketId};
use crate::topic::Topic;
use crate::transport::Transport;

/// Events that are harvested before they are looked at.
const HARVEST_MAX: usize = 1_024;
/// Events that are taken from the channel before sends go on.
const TAKEN_MAX: usize = 4_096;
/// How often a shard that ends looks whether its tasks have, and how many times.
const ENDING_LOOK: Duration = Duration::from_millis(5);
const ENDING_LOOKS: usize = 100;
/// Commands that are obeyed in a round.
const COMMANDS_MAX: usize = 64;
/// Actions that are done in a row, and before the clock is looked at: one may answer a request.
const ACTIONS_MAX: usize = 256;
const ACTIONS_TIMED: usize = 8;
/// How often in a row its own thread wakes the loop before the runtime looks at sockets and timers.
const LOCAL_WAKES_MAX: u32 = 16;
/// How long the loop goes on without giving the runtime's other tasks a turn.
const TURN: Duration = Duration::from_millis(2);

/// How often gauges are counted anew.
const GAUGES_PERIOD: Duration = Duration::from_millis(500);

/// Work for a shard's thread.
pub(crate) type Command = Box<dyn FnOnce(&Rc<Local>) + Send>;

/// What the threads of an engine share.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) sequencer: Arc<Sequencer>,
    pub(crate) app: Arc<dyn AnyApp>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) is_draining: Arc<AtomicBool>,
    pub(crate) commands: Vec<crate::channel::CommandSender<Command>>,
}

/// What the tasks of one shard's thread share.
pub(crate) struct Local {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    core: RefCell<Shard>,
    parked: RefCell<ParkedSet>,
    eventfd: Arc<EventFd>,
    /// The loop is, or will be, awake: no need to wake it again.
    is_woken: Cell<bool>,
    /// Wakes the loop, from its own thread, while it sleeps.
    waker: Cell<Option<Waker>>,
    is_stopped: Cell<bool>,
    context: RefCell<Option<Rc<Context>>>,
    /// The sockets that listen, to be shut at the end.
    listeners: RefCell<Vec<std::net::TcpStream>>,
    /// Questions to all shards that are not answered yet.
    counts: RefCell<HashMap<u64, Count>>,
    counts_made: Cell<u64>,
    started: Instant,
}

impl Local {
    /// The shard's part of an engine. Called on its thread.
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        parked: ParkedSet,
        eventfd: Arc<EventFd>,
    ) -> Rc<Self> {
        let seed = shared.sequencer.epoch().0.rotate_left(17) ^ number as u64;
        let core = Shard::new(number, Arc::clone(&shared.config), Arc::clone(&shared.sequencer), seed);
        let local = Rc::new(Self {
            number,
            core: RefCell::new(core),
            parked: RefCell::new(parked),
            eventfd,
            is_woken: Cell::new(false),
            waker: Cell::new(None),
            is_stopped: Cell::new(false),
            context: RefCell::new(None),
            listeners: RefCell::default(),
            counts: RefCell::new(HashMap::new()),
            counts_made: Cell::new(0),
            started: Instant::now(),
            shared,
        });
        let context = Context {
            sequencer: Arc::clone(&local.shared.sequencer),
            config: Arc::clone(&local.shared.config),
            app: Arc::clone(&local.shared.app),
            metrics: Arc::clone(&local.shared.metrics),
            admissions: Arc::clone(&local.shared.admissions),
            is_draining: Arc::clone(&local.shared.is_draining),
            shard: number,
            park: Box::new(parking::Parking(Rc::clone(&local))),
            local: connection::Local::default(),
        };
        *local.context.borrow_mut() = Some(Rc::new(context));
        local
    }

    /// What connection tasks of this shard work with.
    pub(crate) fn context(&self) -> Rc<Context> {
        Rc::clone(self.context.borrow().as_ref().expect("the context is made with the shard"))
    }

    /// The figures that this shard counts in.
    pub(crate) fn figures(&self) -> &Figures {
        self.shared.metrics.shard(self.number)
    }

    /// Connections that are parked here.
    pub(crate) fn connections(&self) -> usize {
        self.core.borrow().connections()
    }

    /// Ends the connections in an orderly way, spread over this long.
    pub(crate) fn drain(&self, over: Duration) {
        self.core.borrow_mut().handle_drain(over.as_millis() as u64);
        self.wake();
    }

    /// Ends what is left at the end of a drain, in whatever state it is.
    pub(crate) fn cut(&self) {
        self.context().local.end_waits();
        self.core.borrow_mut().handle_cut();
        self.wake();
    }

    /// Ends the loop.
    pub(crate) fn stop(&self) {
        self.is_stopped.set(true);
        self.wake();
    }

    /// Subscribers of this shard that hear `topic`.
    pub(crate) fn subscribers_of(&self, topic: &Topic) -> usize {
        self.core.borrow_mut().subscribers_of(topic)
    }

    /// Lets go of everything: tasks that still talk to somebody have a moment to see that it is over.
    async fn end(&self) {
        for listener in self.listeners.borrow_mut().drain(..) {
            // Wakes the task that accepts, and frees the address.
            let _ = listener.shutdown(std::net::Shutdown::Both);
        }
        for _ in 0..ENDING_LOOKS {
            monoio::time::sleep(ENDING_LOOK).await;
            if self.figures().tasks.get() == 0 {
                break;
            }
        }
        // The context has a way back to here: a circle that keeps all alive.
        self.context.borrow_mut().take();
    }

    /// Has a listener shut when the shard ends.
    pub(crate) fn keep_listener(&self, listener: &TcpListener) -> std::io::Result<()> {
        let listener = std::net::TcpStream::from(OwnedFd::from(listener.try_clone()?));
        self.listeners.borrow_mut().push(listener);
        Ok(())
    }

    /// Whether the loop was told to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    /// See [`ParkedSet::accept`].
    pub(crate) fn accept(
        &self,
        listener: &TcpListener,
        max: usize,
        connections: &mut Vec<(SocketId, SocketAddr)>,
    ) -> std::io::Result<bool> {
        let mut parked = self.parked.borrow_mut();
        let accepted = parked.accept(listener, max, connections);
        let has_work = parked.has_work();
        drop(parked);
        if has_work {
            self.wake();
        }
        accepted
    }

    fn wake(&self) {
        if !self.is_woken.replace(true)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Sleeps until somebody of this thread calls [`Local::wake`], or `sleep` is over; whether it is.
    async fn sleep(
        &self,
        mut sleep: Pin<&mut impl Future<Output = std::io::Result<()>>>,
    ) -> std::io::Result<bool> {
        std::future::poll_fn(|context| {
            if self.is_woken.get() {
                return Poll::Ready(Ok(false));
            }
            let slept = sleep.as_mut().poll(context);
            if slept.is_pending() {
                self.waker.set(Some(context.waker().clone()));
            }
            slept.map_ok(|()| true)
        })
        .await
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn add_count(&self, question: u64, found: u64) {
        if let Some(count) = self.counts.borrow_mut().get_mut(&question) {
            count.sum += found;
            count.left -= 1;
            if count.left == 0
                && let Some(waker) = count.waker.take()
            {
                waker.wake();
            }
        }
    }

    fn poll_count(&self, question: u64, context: &mut std::task::Context<'_>) -> Poll<u64> {
        let mut counts = self.counts.borrow_mut();
        let Some(count) = counts.get_mut(&question) else { return Poll::Ready(0) };
        if count.left == 0 {
            let sum = count.sum;
            counts.remove(&question);
            return Poll::Ready(sum);
        }
        count.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Gives a new slot its socket: one that is to be parked, or one that still is. Whether that is work for
    /// the loop.
    fn park(&self, socket: Handle, slot: SlotId) -> bool {
        let mut core = self.core.borrow_mut();
        let mut parked = self.parked.borrow_mut();
        let mut has_work = false;
        let parked = match socket {
            Handle::Open(fd) => {
                has_work = true;
                parked.add(fd, token(slot)).map(|socket| (socket, false))
            }
            Handle::Parked(lent) => match lent.into_socket() {
                Some(socket) => Ok((socket, parked.hand_on(socket, token(slot)))),
                None => Err(std::io::ErrorKind::NotConnected.into()),
            },
        };
        match parked {
            Ok((socket, may_be_readable)) => {
                core.set_socket(slot, socket.0);
                if may_be_readable {
                    has_work = true;
                    core.handle_ready(slot, Ready { readable: true, ..Ready::default() });
                }
            }
            Err(error) => {
                has_work = true;
                tracing::warn!(shard = self.number, %error, "a connection could not be parked and is closed");
                drop(self.shared.admissions.permit(RawPermit(core.abandon(slot))));
            }
        }
        has_work
    }
}

/// A sum over all shards that is being made.
#[derive(Debug, Default)]
struct Count {
    sum: u64,
    left: usize,
    waker: Option<Waker>,
}

/// A question that is forgotten with who asked it.
struct Asked<'a> {
    local: &'a Local,
    question: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.local.counts.borrow_mut().remove(&self.question);
    }
}

fn token(slot: SlotId) -> u64 {
    u64::from(slot.generation) << 32 | u64::from(slot.index)
}

fn slot_of(token: u64) -> SlotId {
    SlotId { index: token as u32, generation: (token >> 32) as u32 }
}

/// Runs the shard until it is stopped.
pub(crate) async fn run(local: Rc<Local>, channel: Receiver<Command>) -> std::io::Result<()> {
    let sleeper = local.parked.borrow().sleeper(&local.eventfd)?;
    // It goes on while the loop was woken otherwise.
    let mut sleep = std::pin::pin!(sleeper.wait());
    // Somebody may have signalled the eventfd.
    let mut is_signalled = true;
    let mut local_wakes = 0;
    monoio::spawn(tick(Rc::downgrade(&local)));
    let mut events = Vec::new();
    let mut batch = Batch::default();
    let mut last_gauges = Instant::now();
    while !local.is_stopped() {
        let round = Instant::now();
        local.figures().wakes.add(1);
        let mut has_work = local.core.borrow_mut().handle_tick(local.now_ms());
        has_work |= harvest(&local, &mut events);
        // What arrived is received at once: the answer to a lone request goes out in this round.
        if act(&local, round) || local.parked.borrow_mut().has_work() {
            has_work |= harvest(&local, &mut events);
        }
        has_work |= take(&local, &channel);
        for _ in 0..COMMANDS_MAX {
            let Some(command) = channel.try_command() else { break };
            command(&local);
        }
        has_work |= send(&local, &mut batch, round);
        report(&local, &mut last_gauges);
        has_work |= local.parked.borrow_mut().has_work();
        if has_work || local_wakes == LOCAL_WAKES_MAX {
            // A real wait on a descriptor that is ready: the other tasks of the runtime have their turn.
            local.eventfd.wake();
            sleep.as_mut().await?;
            sleep.set(sleeper.wait());
            is_signalled = true;
            local_wakes = 0;
            continue;
        }
        if std::mem::take(&mut is_signalled) {
            local.eventfd.drain();
        }
        local.is_woken.set(false);
        let may_sleep = channel.prepare_to_sleep() && !local.is_stopped();
        if may_sleep && !local.parked.borrow_mut().has_work() {
            is_signalled = local.sleep(sleep.as_mut()).await?;
            local_wakes += 1;
            if is_signalled {
                sleep.set(sleeper.wait());
                local_wakes = 0;
            }
        }
        channel.awake();
        local.is_woken.set(true);
    }
    local.end().await;
    Ok(())
}

/// Wakes the loop for its sweep; gives memory back when a mass has come or gone. Asleep it keeps nothing
/// alive: a runtime that ends forgets its tasks, and does not drop them.
async fn tick(shard: Weak<Local>) {
    let mut settled = Settled::default();
    while let Some(local) = shard.upgrade() {
        if settled.has_settled(local.connections(), local.now_ms()) {
            local.parked.borrow_mut().give_back();
            sys::collect();
        }
        let wait = if local.connections() == 0 { 500 } else { Shard::tick_ms() };
        drop(local);
        monoio::time::sleep(Duration::from_millis(wait)).await;
        if let Some(local) = shard.upgrade() {
            local.wake();
        }
    }
}

/// What the sockets have to say; whether there is more of it.
fn harvest(local: &Rc<Local>, events: &mut Vec<ParkedEvent>) -> bool {
    // When a mass hangs up, what follows from what was heard is done before more is heard.
    let max = HARVEST_MAX.saturating_sub(local.core.borrow().actions());
    if max == 0 {
        return true;
    }
    let has_more = local.parked.borrow_mut().harvest(max, events);
    for event in events.drain(..) {
        let slot = slot_of(event.token);
        let mut core = local.core.borrow_mut();
        match event.kind {
            ParkedEventKind::Ready(ready) => core.handle_ready(
                slot,
                Ready {
                    readable: ready.readable,
                    writable: ready.writable,
                    hung_up: ready.hung_up,
                    failed: ready.error,
                },
            ),
            ParkedEventKind::Received(received) => {
                let mut parked = local.parked.borrow_mut();
                core.handle_received(slot, Received::Bytes(parked.bytes(&received), true));
                parked.release(received);
            }
            ParkedEventKind::Drained => core.handle_received(slot, Received::Nothing),
            ParkedEventKind::End => core.handle_received(slot, Received::End),
            ParkedEventKind::Failed(errno) => {
                tracing::trace!(shard = local.number, errno, "a receive failed");
                core.handle_received(slot, Received::Failed);
            }
        }
    }
    has_more
}

/// Takes events from the channel; whether there may be more.
fn take(local: &Local, channel: &Receiver<Command>) -> bool {
    let mut core = local.core.borrow_mut();
    // In this order: what the channel has not got by the time it is found empty is beyond this head.
    let head = local.shared.sequencer.head();
    for _ in 0..TAKEN_MAX {
        let Some(delivery) = channel.try_recv() else {
            core.handle_channel_empty(head);
            return false;
        };
        core.handle_event(delivery);
    }
    true
}

/// Sends and acts until nothing is left to do, or the turn is over; whether there is more.
fn send(local: &Rc<Local>, batch: &mut Batch, round: Instant) -> bool {
    loop {
        if act(local, round) && round.elapsed() > TURN {
            return true;
        }
        if !local.core.borrow_mut().poll_batch(batch) {
            break;
        }
        make_sends(local, batch);
        local.core.borrow_mut().handle_batch_sent(batch);
        if round.elapsed() > TURN {
            local.core.borrow_mut().handle_turn_over();
            return true;
        }
    }
    // What they would make is for the next round, which sees it.
    local.core.borrow().actions() > 0
}

fn make_sends(local: &Local, batch: &mut Batch) {
    let mut failed = Vec::new();
    {
        let sends: Vec<sys::Send<'_>> = batch
            .sends
            .iter()
            .map(|send| sys::Send { socket: SocketId(send.socket), bytes: batch.bytes(send) })
            .collect();
        if !sends.is_empty() {
            local.parked.borrow_mut().send_batch(&sends, &mut failed);
        }
    }
    for (at, outcome) in failed {
        batch.sends[at].outcome = match outcome {
            SendOutcome::Short(bytes) => Outcome::Short(bytes),
            SendOutcome::Full => Outcome::Full,
            SendOutcome::Failed(errno) => {
                tracing::trace!(shard = local.number, errno, "a send failed");
                Outcome::Failed
            }
        };
    }
}

/// Does what the shard asks for, so much at a time and as long as the turn lasts; whether there is more.
fn act(local: &Rc<Local>, round: Instant) -> bool {
    for done in 0..ACTIONS_MAX {
        if done % ACTIONS_TIMED == ACTIONS_TIMED - 1 && round.elapsed() > TURN {
            return true;
        }
        let action = local.core.borrow_mut().poll_action();
        let Some(action) = action else { return false };
        match action {
            Action::WatchWritable { socket, is_on } => {
                local.parked.borrow_mut().watch_writable(SocketId(socket), is_on);
            }
            Action::Receive { socket } => local.parked.borrow_mut().receive(SocketId(socket)),
            Action::Close { socket, permit, how } => {
                let how = match how {
                    Closing::Graceful => sys::Closing::Graceful,
                    Closing::Abort => sys::Closing::Abort,
                    Closing::Plain => sys::Closing::Plain,
                };
                local.parked.borrow_mut().close(SocketId(socket), how);
                drop(local.shared.admissions.permit(RawPermit(permit)));
            }
            Action::Resume { socket, permit, read } => resume(local, SocketId(socket), permit, read),
            Action::Authorize { slot, request, matchers } => {
                monoio::spawn(authorize(Rc::clone(local), slot, request, matchers));
            }
            Action::Message { slot, message } => tell(local, slot, |app, subscriber| match &message {
                OwnedMessage::Text(text) => app.received(subscriber, Message::Text(text)),
                OwnedMessage::Binary(bytes) => app.received(subscriber, Message::Binary(bytes)),
            }),
            Action::Opened { slot } => tell(local, slot, |app, subscriber| app.opened(subscriber)),
            Action::Closed { id, transport, data } => {
                let subscriber = Subscriber { id, data: data.as_ref(), transport, outbox: Vec::new() };
                local.shared.app.closed(&subscriber);
            }
        }
    }
    true
}

/// Calls the application for a subscriber, and sends what it replies.
fn tell(local: &Rc<Local>, slot: SlotId, call: impl FnOnce(&dyn AnyApp, &mut Subscriber<'_>)) {
    let found = local.core.borrow_mut().subscriber(slot);
    let Some((id, transport, data)) = found else { return };
    let mut subscriber = Subscriber { id, data: data.as_ref(), transport, outbox: Vec::new() };
    call(&*local.shared.app, &mut subscriber);
    let mut core = local.core.borrow_mut();
    for reply in subscriber.outbox {
        core.handle_reply(slot, reply);
    }
}

/// Serves a connection's next request, of which this is the beginning.
fn resume(local: &Rc<Local>, socket: SocketId, permit: u64, read: Vec<u8>) {
    let permit = local.shared.admissions.permit(RawPermit(permit));
    let lent = Lent::new(local.context(), socket);
    connection::begin(local.context(), Handle::Parked(lent), permit, read);
}

/// Asks the application whether a WebSocket may hear these matchers too.
async fn authorize(
    local: Rc<Local>,
    slot: SlotId,
    request: Option<Rc<OwnedRequest>>,
    matchers: Vec<crate::topic::Matcher>,
) {
    let answer = match &request {
        None => Err(Refusal::new(403, "this connection may not subscribe to more")),
        Some(request) => {
            let request = request.subscribing(&matchers, Transport::WebSocket);
            match local.shared.app.subscribe(&request).await {
                Admission::Admit(grant) => Ok(grant.matchers),
                Admission::Refuse(refusal) => Err(refusal),
            }
        }
    };
    local.core.borrow_mut().handle_authorized(slot, answer);
    local.wake();
}

/// Adds what the shard has done to the metrics.
fn report(local: &Local, last_gauges: &mut Instant) {
    let mut core = local.core.borrow_mut();
    let counters = std::mem::take(&mut core.counters);
    let figures = local.figures();
    if counters != super::Counters::default() {
        figures.deliveries.add(counters.deliveries);
        figures.sent_bytes.add(counters.bytes_sent);
        figures.walks.add(counters.walks);
        figures.turns.add(counters.turns);
        figures.heartbeats.add(counters.heartbeats);
        figures.gaps.add(counters.gaps);
        figures.fell_behind.add(counters.slow);
        figures.messages_received.add(counters.messages);
        figures.published.add(counters.published);
        figures.malformed(Malformed::Frame).add(counters.malformed_frames);
        figures.malformed(Malformed::Command).add(counters.malformed_commands);
        figures.refusals(Refused::Rate).add(counters.over_rate);
        for (&why, &count) in Ended::ALL.iter().zip(&counters.ended) {
            figures.ended(why).add(count);
        }
    }
    if last_gauges.elapsed() > GAUGES_PERIOD {
        *last_gauges = Instant::now();
        figures.parked.set(local.parked.borrow().len() as u64);
        figures.behind.set(core.behind() as u64);
        figures.parked_by_epoll.set(local.parked.borrow().by_epoll() as u64);
        figures.rings.set(local.parked.borrow().rings() as u64);
        for (transport, count) in Transport::ALL.into_iter().zip(core.subscribers_by_transport()) {
            figures.subscribers(transport).set(count as u64);
        }
    }
}

/// Marks an engine as drained before its threads end.
pub(crate) fn begin_drain(shared: &Shared) {
    shared.is_draining.store(true, Ordering::SeqCst);
}

mod parking;
