//! Every limit, wait and default, together, with the arithmetic that ties them.

use std::net::SocketAddr;

use serde::Deserialize;

/// What an engine is started with. Each field has the default that `stentor` documents; units stand last in names.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; none for an engine that only serves this process.
    pub listen: Vec<SocketAddr>,
    /// Shards, each a thread on a core; 0 for one a core. At most 128.
    pub shards: usize,
    /// The resource that one publishes to and subscribes at.
    pub path: ResourcePath,
    /// What the log keeps.
    pub retention: Retention,
    /// What is refused.
    pub limits: Limits,
    /// Waits and periods.
    pub timing: Timing,
    /// Which pages of other origins may subscribe and publish.
    pub cors: Cors,
    /// WebSocket settings.
    pub websocket: WebSocket,
    /// What happens to a live subscriber that falls off the log.
    pub slow_policy: SlowPolicy,
}

/// The path of the one resource; `/events` unless set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ResourcePath(pub String);

impl Default for ResourcePath {
    fn default() -> Self {
        Self("/events".into())
    }
}

/// What the log keeps of each topic, and of all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Events a topic.
    pub events: usize,
    /// Bytes a topic ([`crate::Event::cost_bytes`]); never drops the newest event.
    pub bytes: usize,
    /// Age of an event, in seconds.
    pub age_seconds: u64,
    /// Bytes of all topics; the oldest event of all goes first.
    pub all_bytes: usize,
    /// Topics that the log knows at once.
    pub topics: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events: 1_000, bytes: 1 << 20, age_seconds: 300, all_bytes: 256 << 20, topics: 1_000_000 }
    }
}

/// What is refused, and from when on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Bytes of the data of one event, on every way in.
    pub event_bytes: usize,
    /// Bytes of a batch.
    pub batch_bytes: usize,
    /// Lines of a batch.
    pub batch_lines: usize,
    /// Matchers of one subscriber.
    pub matchers: usize,
    /// Application messages a second from one WebSocket; a burst of as many is allowed.
    pub messages_per_second: u32,
    /// Publishes a second from one connection; a burst of as many is allowed.
    pub publishes_per_second: u32,
    /// Events of a topic that a shard may have taken and not finished; 0 for half of `retention.events`.
    pub arrears: usize,
    /// Events that may wait in the channel into one shard; at least `batch_lines`.
    pub channel_events: usize,
    /// Ceiling of the kernel's send buffer of a subscriber, in bytes.
    pub send_buffer_bytes: usize,
    /// Bytes that the kernel may hold unsent of a subscriber before it counts as not writable (`TCP_NOTSENT_LOWAT`).
    pub unsent_bytes: usize,
    /// Share of `retention.all_bytes` that half-sent runs may hold; past it the slowest subscriber is reset.
    pub half_sent_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000_000,
            connections_per_address: 1_000_000,
            head_bytes: 16 << 10,
            event_bytes: 1 << 20,
            batch_bytes: 4 << 20,
            batch_lines: 1_000,
            matchers: 128,
            messages_per_second: 100,
            publishes_per_second: 100_000,
            arrears: 0,
            channel_events: 16_384,
            send_buffer_bytes: 256 << 10,
            unsent_bytes: 16 << 10,
            half_sent_percent: 25,
        }
    }
}

/// Waits and periods.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// Between two heartbeats of a silent subscriber, in seconds; jittered by up to a tenth.
    pub heartbeat_seconds: u32,
    /// How long a long poll is held when it does not say, in seconds.
    pub wait_seconds: u32,
    /// How long a long poll may ask to be held, in seconds.
    pub wait_seconds_max: u32,
    /// A request head must be complete within so many seconds.
    pub head_seconds: u32,
    /// A request body must be complete within so many seconds.
    pub body_seconds: u32,
    /// A connection without a request is closed after so many seconds.
    pub idle_seconds: u32,
    /// Shortest reconnection time that a stream is given, in milliseconds.
    pub retry_ms_min: u32,
    /// Longest reconnection time that a stream is given, in milliseconds.
    pub retry_ms_max: u32,
    /// A stream is ended after so many seconds, jittered by up to a tenth; 0 for never.
    pub max_age_seconds: u32,
    /// A subscriber that takes nothing for so many seconds is reset (`TCP_USER_TIMEOUT`).
    pub stalled_seconds: u32,
    /// How long a set without a subscriber is kept, in seconds.
    pub empty_set_seconds: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 25,
            wait_seconds: 25,
            wait_seconds_max: 120,
            head_seconds: 10,
            body_seconds: 60,
            idle_seconds: 75,
            retry_ms_min: 1_000,
            retry_ms_max: 3_000,
            max_age_seconds: 0,
            stalled_seconds: 300,
            empty_set_seconds: 5,
        }
    }
}

/// Which pages of other origins may subscribe and publish (WHATWG Fetch, "CORS protocol").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins as browsers send them (`https://example.com`), or `*` for all. The server's own origin needs no entry.
    pub origins: Vec<String>,
    /// Whether pages of those origins may send cookies; not with `*`.
    pub credentials: bool,
}

/// WebSocket settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// A text message equal to this is returned as it is (raw subprotocol); empty for none.
    pub heartbeat_text: String,
    /// Whether permessage-deflate is accepted when it is offered.
    pub deflate: bool,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { heartbeat_text: "ping".into(), deflate: true }
    }
}

/// What happens to a live subscriber that falls off the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SlowPolicy {
    /// It is told of the gap, and gets what the log still has.
    #[default]
    Gap,
    /// It is told of the gap, and gets the newest event of each topic.
    Latest,
    /// It is closed.
    Close,
}
