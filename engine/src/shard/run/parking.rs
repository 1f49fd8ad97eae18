//! What connection tasks ask of the shard of their thread.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;

use super::{Asked, Command, Count, Local};
use crate::connection::{Handle, Park, Permit, Subscription};
use crate::shard::{HeadVariant, Join};
use crate::sys::{self, SendOutcome, SocketId};
use crate::topic::Topic;
use crate::transport::Encoding;

pub(super) struct Parking(pub(super) Rc<Local>);

impl Park for Parking {
    fn subscribe(&self, socket: Handle, permit: Permit, subscription: Box<Subscription>) {
        let config = &self.0.shared.config;
        let subscription = *subscription;
        let grant = subscription.grant;
        let join = Join {
            permit: permit.into_raw().0,
            matchers: subscription.matchers,
            encoding: Encoding {
                transport: subscription.transport,
                format: subscription.format,
                framing: subscription.framing,
                head: 0,
                limit: subscription.limit,
            },
            variant: HeadVariant {
                lines: subscription.extra_head.into(),
                keeps_alive: subscription.keeps_alive,
                is_http10: subscription.is_http10,
            },
            head: subscription.head,
            after: subscription.after,
            told: subscription.told,
            old: subscription.old,
            wait_seconds: subscription.wait_seconds,
            max_age_seconds: grant.max_age_seconds.unwrap_or(config.timing.max_age_seconds),
            policy: grant.slow_policy.unwrap_or(config.slow_policy),
            publish: grant.publish,
            data: grant.data,
            request: subscription.request.map(Rc::from),
            inflates: subscription.deflate.is_some(),
            leftover: subscription.leftover,
        };
        let slot = self.0.core.borrow_mut().handle_join(join);
        self.0.park(socket, slot);
        self.0.wake();
    }

    fn subscribers_of<'a>(&'a self, topic: &'a Topic) -> Pin<Box<dyn Future<Output = u64> + 'a>> {
        let local = &self.0;
        let question = local.counts_made.get();
        local.counts_made.set(question + 1);
        let commands = &local.shared.commands;
        let asker = local.number;
        local.counts.borrow_mut().insert(question, Count { left: commands.len(), ..Count::default() });
        for command in commands {
            let topic = topic.clone();
            let ask: Command = Box::new(move |shard: &Rc<Local>| {
                let found = shard.subscribers_of(&topic) as u64;
                let answer: Command = Box::new(move |local: &Rc<Local>| local.add_count(question, found));
                let _ = shard.shared.commands[asker].send(answer);
            });
            if command.send(ask).is_err() {
                // The engine ends.
                local.add_count(question, 0);
            }
        }
        let asked = Asked { local, question };
        Box::pin(std::future::poll_fn(move |context| asked.local.poll_count(asked.question, context)))
    }

    fn wait_for_request(&self, socket: Handle, permit: Permit) {
        let slot = self.0.core.borrow_mut().handle_idle(permit.into_raw().0);
        if self.0.park(socket, slot) {
            self.0.wake();
        }
    }

    fn may_be_readable(&self, socket: SocketId) -> bool {
        self.0.parked.borrow_mut().may_be_readable(socket)
    }

    fn send(&self, socket: SocketId, bytes: &[u8]) -> Option<SendOutcome> {
        let mut failed = Vec::new();
        self.0.parked.borrow_mut().send_batch(&[sys::Send { socket, bytes }], &mut failed);
        failed.pop().map(|(_, outcome)| outcome)
    }

    fn take_back(&self, socket: SocketId) -> std::io::Result<OwnedFd> {
        let mut parked = self.0.parked.borrow_mut();
        let taken = parked.take_back(socket);
        // The ring lets go of it with the loop's next round.
        self.0.wake();
        if let Err(error) = &taken {
            // Out of descriptors: the connection cannot be served, and says so by its reset.
            tracing::warn!(shard = self.0.number, %error, "a parked connection could not be taken back");
            parked.close(socket, sys::Closing::Abort);
        }
        taken
    }

    fn close(&self, socket: SocketId) {
        self.0.parked.borrow_mut().close(socket, sys::Closing::Plain);
        self.0.wake();
    }
}
