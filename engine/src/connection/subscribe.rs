//! Subscribing: what is asked for, what the embedder admits, where in the log it begins; then the answer of a
//! poll, or everything that the shard needs to know of the new subscriber.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::answer::{date_line, date_line_of, now_seconds};
use super::asked::{Asked, OwnedTarget, wants_websocket};
use super::cors::{self, Standing};
use super::http1::{Conversation, Incoming, Next};
use super::poll::{self, Found, Wanted};
use super::routes::Routed;
use super::upgrade::Handshake;
use super::{Context, Subscription};
use crate::app::{Admission, Grant};
use crate::cursor::{Offset, Start};
use crate::error::{Problem, Refusable};
use crate::metrics::Refused;
use crate::sequencer::Resolved;
use crate::topic::Matcher;
use crate::transport::{
    self, Answer, Encoding, Format, Framing, StreamHead, Transport, encode_answer, encode_not_modified,
};

/// Bytes that a head has as a rule, at most.
const HEAD_BYTES: usize = 384;

/// A subscription that the embedder has admitted, with its place in the log.
struct Admitted {
    asked: Asked,
    grant: Grant,
    start: Start,
    resolved: Resolved,
    /// What counts as told of gaps.
    told: Offset,
    until: Option<Offset>,
    format: Format,
    framing: Framing,
}

impl Conversation {
    /// Serves a `GET` or `HEAD` of the resource.
    pub(super) async fn subscribe(&mut self, incoming: &mut Incoming) -> Routed {
        if !wants_websocket(&incoming.request) {
            return match self.try_subscribe(incoming, None).await {
                Ok(routed) => routed,
                Err(problem) => (self.refuse(incoming, &problem).await, None),
            };
        }
        let handshake = match self.accept_handshake(incoming) {
            Ok(handshake) => handshake,
            Err(problem) => return (self.refuse(incoming, &problem).await, None),
        };
        match self.try_subscribe(incoming, Some(&handshake)).await {
            Ok(routed) => routed,
            // A browser tells its page nothing of a refused upgrade, so it is granted, and closed with the
            // reason.
            Err(problem) => {
                self.count(&problem);
                handshake.write_refusal(&problem, &mut self.out);
                self.send_out(101, false).await;
                (Next::Close, None)
            }
        }
    }

    /// Refuses a request of a connection that is not let in, in the way that its client understands.
    pub(super) async fn refuse_as_asked(&mut self, incoming: &mut Incoming, problem: &Problem) {
        let is_resource = incoming.request.path == self.context.config.path.0;
        if is_resource
            && wants_websocket(&incoming.request)
            && let Ok(handshake) = self.accept_handshake(incoming)
        {
            self.count(problem);
            handshake.write_refusal(problem, &mut self.out);
            self.send_out(101, false).await;
            return;
        }
        self.refuse(incoming, problem).await;
    }

    fn accept_handshake(&self, incoming: &Incoming) -> Refusable<Handshake> {
        let cors = &self.context.config.cors;
        self.check_no_body(incoming)?;
        let handshake = Handshake::accept(incoming, &self.context.config.websocket)?;
        // No browser holds a page of another origin back from opening one (RFC 6455 §10.2).
        Standing::of(cors, &incoming.request, incoming.authority.as_deref()).check("open a WebSocket")?;
        Ok(handshake)
    }

    async fn try_subscribe(
        &mut self,
        incoming: &mut Incoming,
        handshake: Option<&Handshake>,
    ) -> Refusable<Routed> {
        self.check_no_body(incoming)?;
        let admitted = admit(&self.context, incoming, handshake).await?;
        if admitted.asked.transport.is_poll() {
            if self.context.is_sending_too_much() {
                let detail = "too many answers wait for peers that do not read them";
                return Err(Box::new(Problem::new(503, Refused::Busy, detail).retry_after(1)));
            }
            return Ok(self.poll(incoming, admitted).await);
        }
        let head = self.stream_head(incoming, &admitted, handshake)?;
        if incoming.is_head() {
            self.out = head.to_vec();
            let keeps_alive = self.keeps_alive(incoming) && admitted.framing == Framing::Chunked;
            return Ok((self.send_out(200, keeps_alive).await, None));
        }
        let mut subscription = self.subscription(incoming, admitted);
        subscription.head = Some(head);
        if let Some(handshake) = handshake {
            subscription.is_v1 = handshake.is_v1();
            subscription.deflate = handshake.deflate();
            if handshake.is_v1() {
                subscription.request = Some(Box::new(incoming.request.clone()));
            }
        }
        Ok((Next::Subscribe, Some(subscription)))
    }

    /// The head of a stream, or the 101.
    fn stream_head(
        &self,
        incoming: &Incoming,
        admitted: &Admitted,
        handshake: Option<&Handshake>,
    ) -> Refusable<Rc<[u8]>> {
        let context = &self.context;
        check_raw_gap(context, admitted)?;
        // After an epoch change no head gives a cursor: the gap comes first.
        let cursor = match admitted.resolved.old {
            Some(_) => None,
            None => Some(context.sequencer.cursor(admitted.resolved.after)),
        };
        if let Some(handshake) = handshake {
            let mut out = Vec::with_capacity(HEAD_BYTES);
            handshake.write_response(cursor, &mut out);
            return Ok(out.into());
        }
        let cors = &context.config.cors;
        let authority = incoming.authority.as_deref();
        let standing = Standing::of(cors, &incoming.request, authority);
        let second = now_seconds();
        let encoding = admitted.encoding();
        let is_listed = matches!(standing, Standing::Listed(_));
        // Then its bytes depend on the encoding and the time alone.
        let is_shared = encoding.transport == Transport::Sse && !is_listed && !incoming.is_head();
        if is_shared && let Some(head) = context.local.stream_heads.borrow().get(second, &encoding) {
            return Ok(head);
        }
        let mut out = Vec::with_capacity(HEAD_BYTES);
        let mut extra_head = date_line_of(second) + &standing.header_lines(cors);
        if admitted.asked.transport == Transport::Iframe {
            if let OwnedTarget::Origin(origin) = &admitted.asked.target {
                cors::check_target(cors, authority, origin)?;
            }
            extra_head.push_str(&cors::frame_policy_line(cors));
        }
        let head = StreamHead {
            cursor,
            target: admitted.asked.target.as_target(),
            is_head: incoming.is_head(),
            extra_head: &extra_head,
        };
        transport::stream_head(&encoding, &head, &mut out);
        let head: Rc<[u8]> = out.into();
        if is_shared {
            context.local.stream_heads.borrow_mut().put(second, &encoding, Rc::clone(&head));
        }
        Ok(head)
    }

    /// Answers a poll, or a long poll for which the log has something; any other long poll is for the shard
    /// to hold.
    async fn poll(&mut self, incoming: &Incoming, admitted: Admitted) -> Routed {
        let context = self.context.clone();
        let wanted = Wanted {
            matchers: &admitted.grant.matchers,
            resolved: admitted.resolved,
            told: admitted.told,
            until: admitted.until,
            limit: admitted.asked.limit,
        };
        let found = poll::find(&context.sequencer, &wanted);
        // Where an end was named, nothing can come before it.
        let is_held = admitted.asked.transport == Transport::LongPoll
            && found.is_nothing()
            && admitted.until.is_none()
            && admitted.asked.wait_seconds > 0
            && !incoming.is_head();
        if is_held {
            let mut subscription = self.subscription(incoming, admitted);
            subscription.after = found.place;
            return (Next::Subscribe, Some(subscription));
        }
        context.metrics.shard(context.shard).gaps.add(u64::from(found.gap.is_some()));
        let status = self.encode_poll(incoming, &admitted, &found);
        let keeps_alive = self.keeps_alive(incoming);
        (self.send_out(status, keeps_alive).await, None)
    }

    /// Writes the answer of a poll to `out`; returns its status.
    fn encode_poll(&mut self, incoming: &Incoming, admitted: &Admitted, found: &Found) -> u16 {
        let context = self.context.clone();
        let lines = date_line() + &*self.cors_lines(incoming);
        let after = context.sequencer.cursor(admitted.resolved.after);
        let is_not_modified = admitted.asked.transport == Transport::Poll
            && poll::is_not_modified(found, after, &admitted.asked.tags, {
                let half = Duration::from_secs(context.config.retention.age_seconds) / 2;
                let head = context.sequencer.head();
                context.local.heads.borrow_mut().is_young(after.offset, head, Instant::now(), half)
            });
        let answer = Answer {
            gap: found.gap,
            events: &found.events,
            epoch: context.sequencer.epoch(),
            // The tag of a 304 is that of the answer which the client holds (RFC 9110 §15.4.5).
            cursor: if is_not_modified { after } else { context.sequencer.cursor(found.place) },
            has_more: found.has_more,
            is_keep_alive: self.keeps_alive(incoming),
            is_http10: incoming.is_http10,
            is_head: incoming.is_head(),
            extra_head: &lines,
        };
        self.out.clear();
        if is_not_modified {
            encode_not_modified(&answer, &mut self.out);
            return 304;
        }
        encode_answer(&admitted.encoding(), &answer, &mut self.out);
        200
    }

    fn subscription(&self, incoming: &Incoming, admitted: Admitted) -> Box<Subscription> {
        let Admitted { asked, mut grant, resolved, told, format, framing, .. } = admitted;
        let extra_head =
            if asked.transport.is_poll() { self.cors_lines(incoming) } else { Cow::Borrowed("") };
        Box::new(Subscription {
            matchers: std::mem::take(&mut grant.matchers),
            transport: asked.transport,
            format,
            framing,
            extra_head,
            limit: asked.limit,
            head: None,
            after: resolved.after,
            told,
            old: resolved.old,
            wait_seconds: asked.wait_seconds,
            keeps_alive: self.keeps_alive(incoming),
            is_http10: incoming.is_http10,
            grant,
            is_v1: false,
            deflate: None,
            leftover: Vec::new(),
            request: None,
        })
    }
}

impl Admitted {
    fn encoding(&self) -> Encoding {
        Encoding {
            transport: self.asked.transport,
            format: self.format,
            framing: self.framing,
            head: 0,
            limit: self.asked.limit,
        }
    }
}

/// Reads what is asked for, has the embedder say yes, and finds the place.
async fn admit(context: &Context, incoming: &Incoming, handshake: Option<&Handshake>) -> Refusable<Admitted> {
    let is_v1 = handshake.is_some_and(Handshake::is_v1);
    let asked = Asked::read(&incoming.request, &context.config, is_v1)?;
    if context.is_draining() {
        return Err(Box::new(Problem::draining()));
    }
    let format = match handshake {
        Some(handshake) => handshake.format(asked.format)?,
        None => asked.format_or_default(),
    };
    let framing = match handshake {
        Some(handshake) => handshake.framing(),
        None if asked.transport.is_poll() => Framing::Length,
        None if incoming.is_http10 => Framing::UntilClose,
        None => Framing::Chunked,
    };
    // A refusal of a malformed cursor comes before the embedder is asked: it may be dear to ask.
    context
        .sequencer
        .resolve(asked.start, &asked.matchers)
        .map_err(|error| Box::new(Problem::cursor(asked.start_field, error)))?;
    let request = incoming.request.subscribing(&asked.matchers, asked.transport);
    let mut grant = match context.app.subscribe(&request).await {
        Admission::Admit(grant) => *grant,
        Admission::Refuse(refusal) => return Err(refusal.into()),
    };
    settle_matchers(&mut grant.matchers, context.config.limits.matchers, is_v1)?;
    let start = grant.start.unwrap_or(asked.start);
    let resolved = context
        .sequencer
        .resolve(start, &grant.matchers)
        .map_err(|error| Box::new(Problem::cursor(asked.start_field, error)))?;
    let until = until_of(context, &asked)?;
    // Who asks for all that is retained has not asked for what is not.
    let told = match start {
        Start::Earliest => {
            let after = resolved.after;
            context.sequencer.read(&grant.matchers, after, after, 1, 0).dropped
        }
        Start::Now | Start::After(_) => Offset::START,
    };
    context.metrics.shard(context.shard).subscriptions(asked.transport).add(1);
    Ok(Admitted { asked, grant, start, resolved, told, until, format, framing })
}

/// Sets are found by their matchers, so those are sorted, and none stands twice.
fn settle_matchers(matchers: &mut Vec<Matcher>, max: usize, may_be_none: bool) -> Refusable<()> {
    matchers.sort_unstable();
    matchers.dedup();
    let is_good = matchers.len() <= max && (may_be_none || !matchers.is_empty());
    if is_good {
        return Ok(());
    }
    tracing::error!(matchers = matchers.len(), max, "the embedder admitted a subscriber to so many matchers");
    Err(Box::new(Problem::new(500, Refused::Other, "the server could not decide what this may hear")))
}

fn until_of(context: &Context, asked: &Asked) -> Refusable<Option<Offset>> {
    let Some(until) = asked.until.filter(|_| asked.transport.is_poll()) else { return Ok(None) };
    let resolved = context
        .sequencer
        .resolve(Start::After(until), &[])
        .map_err(|error| Box::new(Problem::cursor("until", error)))?;
    if resolved.old.is_some() {
        let mut problem =
            Problem::new(410, Refused::Gone, "until names a place of an earlier life of the log");
        problem.cursor = Some(context.sequencer.cursor(context.sequencer.head()));
        return Err(Box::new(problem.field("until")));
    }
    Ok(Some(resolved.after))
}

/// A raw stream and a raw WebSocket have no way to tell of a gap, so one that is known now is a refusal that
/// names where the log goes on.
fn check_raw_gap(context: &Context, admitted: &Admitted) -> Refusable<()> {
    let has_notice = admitted.format == Format::Json
        || !matches!(admitted.asked.transport, Transport::Stream | Transport::WebSocket);
    if has_notice || admitted.start == Start::Now {
        return Ok(());
    }
    let after = admitted.resolved.after;
    let read = context.sequencer.read(&admitted.grant.matchers, after, after, 1, 0);
    let gap = read.gap(after, admitted.told);
    if gap.is_none() && admitted.resolved.old.is_none() {
        return Ok(());
    }
    let resumed = context.sequencer.cursor(gap.map_or(after, |gap| gap.resumed));
    let detail = format!("events after this cursor are gone; the log goes on after {resumed}");
    let mut problem = Problem::new(410, Refused::Gone, detail).field(admitted.asked.start_field);
    problem.cursor = Some(resumed);
    context.metrics.shard(context.shard).gaps.add(1);
    Err(Box::new(problem))
}
