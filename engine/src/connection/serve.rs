//! The life of a task: requests are served until the connection is parked or over.

use std::rc::Rc;
use std::task::{self, Waker};
use std::time::Duration;

use super::answer::Answer;
use super::http1::{Conversation, Incoming, Next, NoHead};
use super::socket::{Read, Socket};
use super::{AdmissionError, Context, Handle, Permit, Subscription};
use crate::error::Problem;
use crate::metrics::StatusClass;

/// Connections that are being refused at once, on one shard; more are closed without a word.
const REFUSING_MAX: usize = 256;

/// How long a connection that is refused may take for its request.
const REFUSING: Duration = Duration::from_secs(1);

/// Serves the requests of a connection until it is parked or over. `read` holds bytes that were read from it
/// already: what came while it was parked, or after the request that it waited with.
///
/// A request that has come whole and waits for nothing is answered before this returns, which saves the
/// making and the waking of a task. Whatever waits becomes a task.
pub(crate) fn begin(context: Rc<Context>, socket: Handle, permit: Permit, read: Vec<u8>) {
    let mut serving = Box::pin(serve(context, socket, permit, read));
    // What is woken by then is looked at again at once: a new task is run without being woken.
    let mut nobody = task::Context::from_waker(Waker::noop());
    if serving.as_mut().poll(&mut nobody).is_pending() {
        monoio::spawn(serving);
    }
}

async fn serve(context: Rc<Context>, socket: Handle, permit: Permit, read: Vec<u8>) {
    let _task = Counted::new(&context);
    let is_new = read.is_empty();
    let mut conversation = Conversation::new(&context, socket, Some(permit), read);
    let mut patience = if is_new { Conversation::first_byte() } else { Duration::ZERO };
    loop {
        let mut incoming = match conversation.head_or_none(patience).await {
            Ok(incoming) => incoming,
            Err(NoHead::Idle) => return conversation.park_idle(),
            Err(NoHead::Over) => return,
            Err(NoHead::Refused(problem)) => return conversation.refuse_head(&problem).await,
        };
        match conversation.route(&mut incoming).await {
            (Next::Request, _) => {}
            (Next::Subscribe, Some(subscription)) => return conversation.park_subscriber(subscription),
            (Next::Close | Next::Subscribe, _) => return conversation.socket.close().await,
        }
        patience = conversation.patience();
    }
}

/// Answers one request of a connection that is not let in, as its transport would have it said, and ends it.
/// Only so many at once: one too many is closed without a word.
pub(crate) async fn refuse(context: Rc<Context>, socket: Handle, reason: AdmissionError) {
    let refusing = &context.local.refusing;
    let problem = Problem::from(reason);
    if refusing.get() >= REFUSING_MAX {
        context.metrics.shard(context.shard).refusals(problem.reason).add(1);
        return;
    }
    refusing.set(refusing.get() + 1);
    let mut conversation = Conversation::new(&context, socket, None, Vec::new());
    let deadline = std::time::Instant::now() + REFUSING;
    match context.local.deadlines.within(deadline, conversation.next_head(REFUSING)).await {
        Ok(Ok(mut incoming)) => {
            conversation.refuse_as_asked(&mut incoming, &problem).await;
        }
        Ok(Err(_)) | Err(_) => conversation.count(&problem),
    }
    conversation.socket.close().await;
    refusing.set(refusing.get() - 1);
}

/// A task that is counted while it lives.
struct Counted<'a>(&'a Context);

impl<'a> Counted<'a> {
    fn new(context: &'a Context) -> Self {
        context.metrics.shard(context.shard).tasks.add(1);
        Self(context)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.shard(self.0.shard).tasks.sub(1);
    }
}

impl Conversation {
    fn new(context: &Rc<Context>, socket: Handle, permit: Option<Permit>, read: Vec<u8>) -> Self {
        let stalled = Duration::from_secs(context.config.timing.stalled_seconds.into());
        let deadlines = context.local.deadlines.clone();
        Self {
            context: Rc::clone(context),
            socket: Socket::new(socket, read, deadlines, stalled),
            permit,
            publishes: None,
            out: Vec::new(),
            refuses_head: false,
        }
    }

    /// The next head. Without patience, and without a byte that is there already, there is none.
    async fn head_or_none(&mut self, patience: Duration) -> Result<Incoming, NoHead> {
        if self.socket.buffer.is_empty() && patience.is_zero() {
            match self.socket.receive_now() {
                Some(Read::Data) => {}
                Some(_) => return Err(NoHead::Over),
                None => return Err(NoHead::Idle),
            }
        }
        self.next_head(patience).await
    }

    /// What is no head gets an answer, whose form it could not ask for, and nothing after it can be
    /// understood.
    async fn refuse_head(mut self, problem: &Problem) {
        self.count(problem);
        self.figures().responses(StatusClass::of(problem.status)).add(1);
        let manner = super::answer::Manner {
            is_http10: false,
            is_head: self.refuses_head,
            keeps_alive: false,
            extra_head: "",
        };
        self.out.clear();
        Answer::from(problem).encode(&manner, &mut self.out);
        let out = std::mem::take(&mut self.out);
        self.socket.send_all(&out).await;
        self.socket.close().await;
    }

    fn park_idle(self) {
        let Self { context, socket, permit, .. } = self;
        // While the engine drains there is no next request: the end of the connection says so.
        if context.is_draining() {
            return;
        }
        if let (Some((socket, _)), Some(permit)) = (socket.into_parts(), permit) {
            context.park.wait_for_request(socket, permit);
        }
    }

    fn park_subscriber(self, mut subscription: Box<Subscription>) {
        let Self { context, socket, permit, .. } = self;
        if let (Some((socket, leftover)), Some(permit)) = (socket.into_parts(), permit) {
            subscription.leftover = leftover;
            context.park.subscribe(socket, permit, subscription);
        }
    }
}
