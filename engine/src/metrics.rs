//! What the engine counts. Every shard counts for itself, so that no two cores write to one line of memory; a
//! snapshot adds the shards up. Knows no format: a page that shows a [`Sample`] a line is the server's.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sequencer::Statistics;
use crate::transport::Transport;

/// One figure of one shard. Relaxed: figures say nothing of each other's order.
#[derive(Debug, Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// For gauges. One shard may count up and another down: the sum over all is right all the same.
    pub(crate) fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows, as long as the engine lives.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Figures of one name: one, or one a value of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// As Prometheus has it: `stentor_connections`.
    pub name: &'static str,
    /// A sentence that says what is counted.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// The figures.
    pub samples: Vec<Sample>,
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Name and value of its label; none where the family has one figure.
    pub label: Option<(&'static str, &'static str)>,
    /// The figure.
    pub value: u64,
}

/// Declares the figures of a shard, each with its kind, name and help, and how a snapshot lists them.
macro_rules! figures {
    (
        plain { $($plain:ident: $plain_kind:ident, $plain_name:literal, $plain_help:literal;)* }
        labelled { $($field:ident[$key:ty]: $kind:ident, $name:literal, $label:literal, $help:literal;)* }
    ) => {
        /// The figures of one shard, on cache lines of its own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Figures {
            $(#[doc = $plain_help] pub(crate) $plain: Figure,)*
            $(#[doc = $help] pub(crate) $field: ByLabel<{ <$key>::ALL.len() }>,)*
        }

        impl Figures {
            $(#[doc = $help] pub(crate) fn $field(&self, of: $key) -> &Figure {
                &self.$field.0[of as usize]
            })*
        }

        fn families(shards: &[Figures]) -> Vec<Family> {
            let sum = |read: &dyn Fn(&Figures) -> u64| shards.iter().map(read).fold(0, u64::wrapping_add);
            vec![
                $(Family {
                    name: $plain_name,
                    help: $plain_help,
                    kind: Kind::$plain_kind,
                    samples: vec![Sample { label: None, value: sum(&|shard| shard.$plain.get()) }],
                },)*
                $(Family {
                    name: $name,
                    help: $help,
                    kind: Kind::$kind,
                    samples: <$key>::ALL
                        .iter()
                        .map(|&of| Sample {
                            label: Some(($label, of.as_str())),
                            value: sum(&|shard| shard.$field(of).get()),
                        })
                        .collect(),
                },)*
            ]
        }
    };
}

/// One figure a value of a label.
#[derive(Debug)]
pub(crate) struct ByLabel<const N: usize>([Figure; N]);

impl<const N: usize> Default for ByLabel<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Figure::default()))
    }
}

figures! {
    plain {
        connections_accepted: Counter, "stentor_connections_accepted_total",
            "Connections that were accepted.";
        connections: Gauge, "stentor_connections", "Connections that are open, parked ones included.";
        tasks: Gauge, "stentor_connection_tasks", "Connections that are being talked to, and not parked.";
        parked: Gauge, "stentor_connections_parked",
            "Connections that are parked: subscribers, and idle ones.";
        published: Counter, "stentor_published_over_websocket_total",
            "Events that were published over WebSockets.";
        deliveries: Counter, "stentor_deliveries_total", "Events that were sent to a subscriber.";
        sent_bytes: Counter, "stentor_sent_bytes_total",
            "Bytes that the kernel took to be sent to subscribers.";
        walks: Counter, "stentor_walks_total", "Walks over the subscribers of a set.";
        turns: Counter, "stentor_turns_total", "Turns of topics with unfinished events.";
        wakes: Counter, "stentor_wakes_total", "Times that a shard was woken.";
        heartbeats: Counter, "stentor_heartbeats_total", "Heartbeats that were sent.";
        gaps: Counter, "stentor_gaps_total", "Gaps that were told to a subscriber.";
        fell_behind: Counter, "stentor_fell_behind_total",
            "Times that a subscriber was too slow for its set and was served from the log instead.";
        behind: Gauge, "stentor_subscribers_behind", "Subscribers that are being served from the log.";
        half_sent_bytes: Gauge, "stentor_half_sent_bytes", "Bytes of events that are half sent.";
        messages_received: Counter, "stentor_messages_received_total",
            "Messages that came over WebSockets, commands included.";
        rings: Gauge, "stentor_rings", "Rings that hold parked connections; 0 where epoll does.";
        parked_by_epoll: Gauge, "stentor_connections_parked_by_epoll",
            "Parked connections with a descriptor each: all without io_uring, else those beside full rings.";
        descriptors_spent: Counter, "stentor_descriptors_spent_total",
            "Times that no descriptor was free for a new connection.";
    }
    labelled {
        subscribers[Transport]: Gauge, "stentor_subscribers", "transport", "Subscribers that are parked.";
        subscriptions[Transport]: Counter, "stentor_subscriptions_total", "transport",
            "Subscriptions that were admitted, each poll counted.";
        responses[StatusClass]: Counter, "stentor_responses_total", "status",
            "Responses by class of their status.";
        refusals[Refused]: Counter, "stentor_refusals_total", "reason",
            "Requests and connections that were refused.";
        malformed[Malformed]: Counter, "stentor_malformed_total", "kind",
            "Input that broke a rule, by what was wrong.";
        ended[Ended]: Counter, "stentor_subscriptions_ended_total", "reason",
            "Subscriptions that are over, by why.";
    }
}

/// Declares the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

label! {
    /// The class of a response's status.
    StatusClass {
        Informational = "1xx",
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
    }
}

label! {
    /// Why a request or a connection was refused.
    Refused {
        BadRequest = "bad-request",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        Origin = "origin",
        Host = "host",
        NotFound = "not-found",
        Method = "method",
        Timeout = "timeout",
        Gone = "gone",
        TooLarge = "too-large",
        MediaType = "media-type",
        KeyReused = "key-reused",
        Upgrade = "upgrade",
        Rate = "rate",
        Connections = "connections",
        Address = "address",
        Busy = "busy",
        Draining = "draining",
        Unsupported = "unsupported",
        Other = "other",
    }
}

label! {
    /// What was wrong with malformed input.
    Malformed {
        Head = "head",
        Body = "body",
        Query = "query",
        Topic = "topic",
        Cursor = "cursor",
        Parameter = "parameter",
        Event = "event",
        Batch = "batch",
        Handshake = "handshake",
        Frame = "frame",
        Command = "command",
    }
}

label! {
    /// Why a subscription is over.
    Ended {
        Answered = "answered",
        Peer = "peer",
        Reset = "reset",
        Stalled = "stalled",
        Silent = "silent",
        Slow = "slow",
        Memory = "memory",
        Protocol = "protocol",
        Closed = "closed",
        MaxAge = "max-age",
        Drain = "drain",
    }
}

impl StatusClass {
    pub(crate) fn of(status: u16) -> Self {
        match status {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// All figures of an engine.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[Figures]>,
}

impl Metrics {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| Figures::default()).collect() }
    }

    /// The figures that a shard counts in.
    ///
    /// # Panics
    /// If there is no such shard.
    pub(crate) fn shard(&self, shard: usize) -> &Figures {
        &self.shards[shard]
    }

    /// Every figure of the shards as it stands now, always in the same order. The figures are read one after
    /// the other while the engine goes on, so two of them may differ by what happened in between.
    pub fn snapshot(&self) -> Vec<Family> {
        families(&self.shards)
    }
}

/// What the sequencer and the log count, which are one for all shards.
pub(crate) fn log_families(statistics: &Statistics) -> Vec<Family> {
    let log = &statistics.log;
    let family =
        |name, help, kind, value| Family { name, help, kind, samples: vec![Sample { label: None, value }] };
    let counter = |name, help, value| family(name, help, Kind::Counter, value);
    let gauge = |name, help, value: usize| family(name, help, Kind::Gauge, value as u64);
    vec![
        counter("stentor_published_total", "Events that were published.", statistics.head.0),
        counter(
            "stentor_publish_busy_total",
            "Publishes that were refused because earlier events are not sent yet.",
            statistics.busy,
        ),
        counter(
            "stentor_publish_repeats_total",
            "Publishes that were answered as before, by their idempotency key.",
            statistics.repeated,
        ),
        gauge("stentor_log_topics", "Topics that the log knows.", log.topics),
        gauge("stentor_log_events", "Events that the log retains.", log.events),
        gauge("stentor_log_bytes", "Bytes of the events that the log retains.", log.bytes),
        gauge(
            "stentor_log_bytes_outside",
            "Bytes of events that the log dropped and that are still being sent, and of those half sent.",
            statistics.bytes_outside,
        ),
        counter("stentor_log_dropped_total", "Events that the log dropped.", log.events_dropped),
        counter("stentor_log_forgotten_total", "Topics that the log forgot.", log.topics_forgotten),
        gauge("stentor_arrears_topics", "Topics with unfinished events.", statistics.arrears_topics),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, name: &str, label: Option<&str>) -> u64 {
        let families = metrics.snapshot();
        let family = families.iter().find(|family| family.name == name).expect(name);
        let samples = &family.samples;
        samples.iter().find(|sample| sample.label.map(|(_, value)| value) == label).expect(name).value
    }

    #[test]
    fn a_snapshot_adds_the_shards_up() {
        let metrics = Metrics::new(2);
        metrics.shard(0).connections_accepted.add(3);
        metrics.shard(1).connections_accepted.add(4);
        assert_eq!(value(&metrics, "stentor_connections_accepted_total", None), 7);
        metrics.shard(0).subscribers(Transport::Sse).add(2);
        metrics.shard(1).subscribers(Transport::Sse).sub(1);
        assert_eq!(
            value(&metrics, "stentor_subscribers", Some("sse")),
            1,
            "one shard may count what another began"
        );
        assert_eq!(value(&metrics, "stentor_subscribers", Some("websocket")), 0);
    }

    #[test]
    fn no_name_and_no_label_stands_twice() {
        let mut families = Metrics::new(1).snapshot();
        families.extend(log_families(&Statistics::default()));
        for (index, family) in families.iter().enumerate() {
            assert!(families[..index].iter().all(|other| other.name != family.name), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            for (place, sample) in family.samples.iter().enumerate() {
                assert!(family.samples[..place].iter().all(|other| other.label != sample.label));
            }
        }
    }

    #[test]
    fn each_value_of_a_label_counts_where_it_is_shown() {
        let metrics = Metrics::new(1);
        for (index, &ended) in Ended::ALL.iter().enumerate() {
            metrics.shard(0).ended(ended).add(index as u64 + 1);
        }
        for (index, &ended) in Ended::ALL.iter().enumerate() {
            let shown = value(&metrics, "stentor_subscriptions_ended_total", Some(ended.as_str()));
            assert_eq!(shown, index as u64 + 1, "{ended:?}");
        }
    }
}
