//! Every limit, wait and default, together, with the arithmetic that ties them.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What an engine is started with. Each field has the default that `stentor` documents; units stand last in
/// names.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ResourcePath(pub String);

impl Default for ResourcePath {
    fn default() -> Self {
        Self("/events".into())
    }
}

/// What the log keeps of each topic, and of all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
    /// Bytes that the kernel may hold unsent of a subscriber before it counts as not writable
    /// (`TCP_NOTSENT_LOWAT`).
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins as browsers send them (`https://example.com`), or `*` for all. The server's own origin needs
    /// no entry.
    pub origins: Vec<String>,
    /// Whether pages of those origins may send cookies; not with `*`.
    pub credentials: bool,
}

/// WebSocket settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
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

/// Most shards of one engine.
pub const SHARDS_MAX: usize = 128;
/// Longest that a wait or period may be, in seconds: a day.
pub const SECONDS_MAX: u32 = 86_400;

impl Config {
    /// Checks that every value is in its range and that those which are tied to each other agree.
    ///
    /// # Errors
    /// The first value that does not, by its key in a configuration file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_most("shards", self.shards as u64, SHARDS_MAX as u64)?;
        self.path.validate()?;
        self.retention.validate()?;
        self.limits.validate(&self.retention)?;
        self.timing.validate()?;
        self.cors.validate()?;
        self.websocket.validate(&self.limits)
    }
}

impl ResourcePath {
    fn validate(&self) -> Result<(), ConfigError> {
        let path = self.0.as_str();
        let reason = if !path.starts_with('/') {
            "does not begin with `/`"
        } else if path == "/" {
            "is `/`, which belongs to the routes of the application"
        } else if path.ends_with('/') || path.contains("//") {
            "has an empty segment"
        } else if path.contains(['?', '#', '%', '*']) {
            "has one of `?`, `#`, `%` and `*`"
        } else if !path.bytes().all(|b| b.is_ascii_graphic()) {
            "has a byte that is no visible ASCII character"
        } else {
            return Ok(());
        };
        Err(ConfigError::new("path", format!("{path:?} {reason}")))
    }
}

impl Retention {
    fn validate(&self) -> Result<(), ConfigError> {
        at_least("retention.events", self.events as u64, 1)?;
        at_least("retention.bytes", self.bytes as u64, 1)?;
        at_least("retention.age_seconds", self.age_seconds, 1)?;
        // Ages are reckoned in milliseconds and added to the clock: a century leaves room for both.
        at_most("retention.age_seconds", self.age_seconds, 100 * 365 * 86_400)?;
        at_least("retention.topics", self.topics as u64, 1)?;
        if self.all_bytes < self.bytes {
            return Err(ConfigError::new(
                "retention.all_bytes",
                format!("is {}, below retention.bytes, {}", self.all_bytes, self.bytes),
            ));
        }
        Ok(())
    }
}

impl Limits {
    fn validate(&self, retention: &Retention) -> Result<(), ConfigError> {
        for (key, value) in [
            ("limits.connections", self.connections as u64),
            ("limits.connections_per_address", self.connections_per_address as u64),
            ("limits.batch_lines", self.batch_lines as u64),
            ("limits.matchers", self.matchers as u64),
            ("limits.messages_per_second", self.messages_per_second.into()),
            ("limits.publishes_per_second", self.publishes_per_second.into()),
            ("limits.event_bytes", self.event_bytes as u64),
            ("limits.unsent_bytes", self.unsent_bytes as u64),
            ("limits.half_sent_percent", self.half_sent_percent.into()),
        ] {
            at_least(key, value, 1)?;
        }
        // Shorter heads would refuse ordinary browsers; the ceiling bounds what one connection may have us
        // hold.
        at_least("limits.head_bytes", self.head_bytes as u64, 1 << 10)?;
        at_most("limits.head_bytes", self.head_bytes as u64, 1 << 20)?;
        at_most("limits.event_bytes", self.event_bytes as u64, 256 << 20)?;
        at_most("limits.batch_bytes", self.batch_bytes as u64, 1 << 30)?;
        at_most("limits.matchers", self.matchers as u64, 1 << 16)?;
        at_most("limits.channel_events", self.channel_events as u64, 1 << 24)?;
        at_most("limits.half_sent_percent", self.half_sent_percent.into(), 100)?;
        // The kernel doubles what it is asked for and keeps no less than a few kilobytes.
        at_least("limits.send_buffer_bytes", self.send_buffer_bytes as u64, 4 << 10)?;
        at_most("limits.send_buffer_bytes", self.send_buffer_bytes as u64, i32::MAX as u64 / 2)?;
        at_most("limits.unsent_bytes", self.unsent_bytes as u64, i32::MAX as u64)?;
        not_below("limits.batch_bytes", self.batch_bytes, "limits.event_bytes", self.event_bytes)?;
        // A batch goes into a channel whole or not at all, so an empty channel must have room for the
        // largest.
        not_below("limits.channel_events", self.channel_events, "limits.batch_lines", self.batch_lines)?;
        // The log drops an event that is larger than all of it: such an event would be accepted and never
        // kept.
        not_below("retention.all_bytes", retention.all_bytes, "limits.event_bytes", self.event_bytes)
    }
}

impl Timing {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("timing.heartbeat_seconds", self.heartbeat_seconds),
            ("timing.wait_seconds", self.wait_seconds),
            ("timing.wait_seconds_max", self.wait_seconds_max),
            ("timing.head_seconds", self.head_seconds),
            ("timing.body_seconds", self.body_seconds),
            ("timing.idle_seconds", self.idle_seconds),
            ("timing.stalled_seconds", self.stalled_seconds),
            ("timing.empty_set_seconds", self.empty_set_seconds),
        ] {
            at_least(key, value.into(), 1)?;
            at_most(key, value.into(), SECONDS_MAX.into())?;
        }
        at_most("timing.max_age_seconds", self.max_age_seconds.into(), 365 * u64::from(SECONDS_MAX))?;
        at_least("timing.retry_ms_min", self.retry_ms_min.into(), 1)?;
        at_most("timing.retry_ms_max", self.retry_ms_max.into(), u64::from(SECONDS_MAX) * 1_000)?;
        let (wait, wait_max) = (self.wait_seconds as usize, self.wait_seconds_max as usize);
        not_below("timing.wait_seconds_max", wait_max, "timing.wait_seconds", wait)?;
        let (retry_min, retry_max) = (self.retry_ms_min as usize, self.retry_ms_max as usize);
        not_below("timing.retry_ms_max", retry_max, "timing.retry_ms_min", retry_min)
    }
}

impl Cors {
    fn validate(&self) -> Result<(), ConfigError> {
        for origin in &self.origins {
            if origin == "*" {
                if self.credentials {
                    return Err(ConfigError::new(
                        "cors.credentials",
                        "cannot be true with the origin `*`: name the origins that may send cookies",
                    ));
                }
            } else if let Err(reason) = check_origin(origin) {
                return Err(ConfigError::new("cors.origins", format!("{origin:?} {reason}")));
            }
        }
        Ok(())
    }
}

/// Whether `origin` is written as browsers serialize one (WHATWG HTML, "ASCII serialization of an origin"):
/// anything else would never be equal to what they send.
fn check_origin(origin: &str) -> Result<(), &'static str> {
    const FORM: &str = "is no origin; it is `scheme://host` or `scheme://host:port`";
    let (scheme, authority) = origin.split_once("://").ok_or(FORM)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme {
        return Err(FORM);
    }
    if origin.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("has an upper case letter; browsers send origins in lower case");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("goes on after its host and port; an origin has no path, not even `/`");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    if !is_host {
        return Err(FORM);
    }
    match (port, scheme) {
        (None, _) => Ok(()),
        (Some("80"), "http") | (Some("443"), "https") => {
            Err("names the default port of its scheme, which browsers leave out")
        }
        (Some(port), _) => {
            let is_port =
                port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
            is_port.then_some(()).ok_or(FORM)
        }
    }
}

impl WebSocket {
    fn validate(&self, limits: &Limits) -> Result<(), ConfigError> {
        let bytes = self.heartbeat_text.len();
        // Answered in the ring, without a task: it has to fit a frame head of two bytes (RFC 6455 §5.2).
        if bytes > 125 || bytes > limits.event_bytes {
            return Err(ConfigError::new("websocket.heartbeat_text", format!("is {bytes} bytes, over 125")));
        }
        Ok(())
    }
}

fn at_least(key: &'static str, value: u64, least: u64) -> Result<(), ConfigError> {
    if value < least {
        return Err(ConfigError::new(key, format!("is {value}, below the least, {least}")));
    }
    Ok(())
}

fn at_most(key: &'static str, value: u64, most: u64) -> Result<(), ConfigError> {
    if value > most {
        return Err(ConfigError::new(key, format!("is {value}, over the most, {most}")));
    }
    Ok(())
}

fn not_below(key: &'static str, value: usize, other: &str, least: usize) -> Result<(), ConfigError> {
    if value < least {
        return Err(ConfigError::new(key, format!("is {value}, below {other}, {least}")));
    }
    Ok(())
}

/// A value that the engine cannot be started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands in a configuration file: `limits.matchers`.
    pub key: &'static str,
    /// What is wrong with it, so that key and reason read as a sentence: "is 0, below the least, 1".
    pub reason: String,
}

impl ConfigError {
    fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_refused(change: impl FnOnce(&mut Config)) -> Option<&'static str> {
        let mut config = Config::default();
        change(&mut config);
        config.validate().err().map(|error| error.key)
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_its_range_is_refused_by_its_key() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 38] = [
            ("shards", |c| c.shards = 129),
            ("path", |c| c.path.0 = "events".into()),
            ("path", |c| c.path.0 = "/".into()),
            ("path", |c| c.path.0 = "/a//b".into()),
            ("path", |c| c.path.0 = "/a?b".into()),
            ("path", |c| c.path.0 = "/a b".into()),
            ("retention.events", |c| c.retention.events = 0),
            ("retention.bytes", |c| c.retention.bytes = 0),
            ("retention.age_seconds", |c| c.retention.age_seconds = 0),
            ("retention.age_seconds", |c| c.retention.age_seconds = u64::MAX),
            ("retention.topics", |c| c.retention.topics = 0),
            ("retention.all_bytes", |c| c.retention.all_bytes = c.retention.bytes - 1),
            ("retention.all_bytes", |c| (c.retention.bytes, c.retention.all_bytes) = (1_000, 1_000)),
            ("limits.connections", |c| c.limits.connections = 0),
            ("limits.connections_per_address", |c| c.limits.connections_per_address = 0),
            ("limits.head_bytes", |c| c.limits.head_bytes = 100),
            ("limits.event_bytes", |c| c.limits.event_bytes = 0),
            ("limits.batch_bytes", |c| c.limits.batch_bytes = c.limits.event_bytes - 1),
            ("limits.batch_lines", |c| c.limits.batch_lines = 0),
            ("limits.matchers", |c| c.limits.matchers = 0),
            ("limits.messages_per_second", |c| c.limits.messages_per_second = 0),
            ("limits.publishes_per_second", |c| c.limits.publishes_per_second = 0),
            ("limits.channel_events", |c| c.limits.channel_events = c.limits.batch_lines - 1),
            ("limits.send_buffer_bytes", |c| c.limits.send_buffer_bytes = 1),
            ("limits.unsent_bytes", |c| c.limits.unsent_bytes = 0),
            ("limits.half_sent_percent", |c| c.limits.half_sent_percent = 0),
            ("limits.half_sent_percent", |c| c.limits.half_sent_percent = 101),
            ("timing.heartbeat_seconds", |c| c.timing.heartbeat_seconds = 0),
            ("timing.wait_seconds", |c| c.timing.wait_seconds = 0),
            ("timing.wait_seconds_max", |c| c.timing.wait_seconds = 121),
            ("timing.head_seconds", |c| c.timing.head_seconds = 0),
            ("timing.body_seconds", |c| c.timing.body_seconds = 86_401),
            ("timing.idle_seconds", |c| c.timing.idle_seconds = 0),
            ("timing.retry_ms_min", |c| c.timing.retry_ms_min = 0),
            ("timing.retry_ms_max", |c| c.timing.retry_ms_min = 3_001),
            ("timing.stalled_seconds", |c| c.timing.stalled_seconds = 0),
            ("timing.empty_set_seconds", |c| c.timing.empty_set_seconds = 0),
            ("websocket.heartbeat_text", |c| c.websocket.heartbeat_text = "x".repeat(126)),
        ];
        for (key, change) in cases {
            assert_eq!(key_refused(change), Some(key));
        }
    }

    #[test]
    fn the_values_at_the_ends_of_their_ranges_are_taken() {
        assert_eq!(key_refused(|c| c.shards = 128), None);
        assert_eq!(key_refused(|c| c.limits.channel_events = c.limits.batch_lines), None);
        assert_eq!(key_refused(|c| c.timing.wait_seconds = c.timing.wait_seconds_max), None);
        assert_eq!(key_refused(|c| c.timing.retry_ms_min = c.timing.retry_ms_max), None);
        assert_eq!(key_refused(|c| c.limits.half_sent_percent = 100), None);
        assert_eq!(key_refused(|c| c.limits.arrears = 0), None);
        assert_eq!(key_refused(|c| c.websocket.heartbeat_text.clear()), None);
    }

    #[test]
    fn an_origin_is_taken_only_as_browsers_write_it() {
        for origin in
            ["https://a.example", "http://localhost:3000", "http://[::1]:8080", "https://[::1]", "*"]
        {
            assert_eq!(key_refused(|c| c.cors.origins = vec![origin.into()]), None, "{origin}");
        }
        for origin in [
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://a.example/b",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+1",
            "https://a b",
            "https://*.example",
            "http://[::g]",
            "null",
        ] {
            assert_eq!(
                key_refused(|c| c.cors.origins = vec![origin.into()]),
                Some("cors.origins"),
                "{origin:?}"
            );
        }
    }

    #[test]
    fn every_origin_with_cookies_is_refused() {
        let refused = key_refused(|c| c.cors = Cors { origins: vec!["*".into()], credentials: true });
        assert_eq!(refused, Some("cors.credentials"));
    }
}
