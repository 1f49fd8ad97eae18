//! What each key of the configuration means: the text of `--print-config`, and the list of keys that exist.

/// A key of the configuration with its meaning. Keys without a dot come first, as TOML wants it.
pub(crate) struct Key {
    /// The key: `limits.matchers`.
    pub(crate) name: &'static str,
    /// What it means, in one line; units, limits and special values.
    pub(crate) meaning: &'static str,
}

const fn key(name: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning }
}

/// Every key that there is.
pub(crate) const KEYS: &[Key] = &[
    key("listen", "Where to listen: a list of addresses with ports."),
    key("shards", "Shards, each a thread on a core; 0 for one a core. At most 128."),
    key("path", "The resource that one publishes to and subscribes at."),
    key(
        "slow_policy",
        "A live subscriber that falls off the log: \"gap\" tells it and goes on with what is left, \
        \"latest\" tells it and goes on with the newest event of each topic, \"close\" ends it.",
    ),
    key("publish_token_file", "Who publishes must show a token of this file (one a line, # for comments)."),
    key(
        "open_publish",
        "Everyone may publish. Without a token file this is so on loopback, and needed elsewhere.",
    ),
    key("page", "Whether the live page is served at `/`."),
    key(
        "io_uring",
        "Whether io_uring holds waiting connections where the kernel allows it; else epoll does.",
    ),
    key("drain_seconds", "How long connections may take to end after SIGTERM or SIGINT."),
    key("log_level", "error, warn, info, debug, trace, or directives such as \"info,stentor=debug\"."),
    key("log_format", "\"text\" or \"json\"."),
    key("retention.events", "Events that the log keeps of a topic."),
    key("retention.bytes", "Bytes that the log keeps of a topic; the newest event stays, however large."),
    key("retention.age_seconds", "Age up to which the log keeps an event."),
    key("retention.all_bytes", "Bytes that the log keeps of all topics; the oldest event of all goes first."),
    key("retention.topics", "Topics that the log knows at once."),
    key("limits.connections", "Connections in all."),
    key("limits.connections_per_address", "Connections from one address."),
    key("limits.head_bytes", "Bytes of a request head."),
    key("limits.event_bytes", "Bytes of the data of one event."),
    key("limits.batch_bytes", "Bytes of a batch of events."),
    key("limits.batch_lines", "Lines of a batch of events."),
    key("limits.matchers", "Matchers of one subscriber."),
    key(
        "limits.messages_per_second",
        "Application messages from one WebSocket; a burst of as many is allowed.",
    ),
    key("limits.publishes_per_second", "Publishes from one connection; a burst of as many is allowed."),
    key(
        "limits.arrears",
        "Events of a topic that a shard may have taken and not finished before publishing to the \
        topic is answered 503; 0 for half of retention.events.",
    ),
    key(
        "limits.channel_events",
        "Events that may wait in the channel into a shard; at least limits.batch_lines.",
    ),
    key("limits.send_buffer_bytes", "Ceiling of the kernel's send buffer of a connection."),
    key(
        "limits.unsent_bytes",
        "Bytes that the kernel may hold unsent of a subscriber before it counts as slow.",
    ),
    key(
        "limits.half_sent_percent",
        "Share of retention.all_bytes that half-sent events may hold; past it the \
        slowest subscriber is reset.",
    ),
    key(
        "timing.heartbeat_seconds",
        "Silence after which a stream gets a heartbeat; jittered by up to a tenth.",
    ),
    key("timing.wait_seconds", "How long a long poll is held when it does not say."),
    key("timing.wait_seconds_max", "How long a long poll may ask to be held."),
    key("timing.head_seconds", "Time for a request head to be complete."),
    key("timing.body_seconds", "Time for a request body to be complete."),
    key("timing.idle_seconds", "Time that a connection may stay open without a request."),
    key("timing.retry_ms_min", "Shortest reconnection time that a stream is given, in milliseconds."),
    key("timing.retry_ms_max", "Longest reconnection time that a stream is given, in milliseconds."),
    key("timing.max_age_seconds", "Age at which a stream is ended, jittered by up to a tenth; 0 for never."),
    key("timing.stalled_seconds", "Time after which a subscriber that takes nothing is reset."),
    key("timing.empty_set_seconds", "How long a set without a subscriber is kept."),
    key(
        "cors.origins",
        "Origins whose pages may subscribe and publish (\"https://example.com\"), or \"*\" for all; \
        the server's own needs no entry.",
    ),
    key("cors.credentials", "Whether pages of those origins may send cookies; not with \"*\"."),
    key("websocket.heartbeat_text", "A text message equal to this is returned as it is; \"\" for none."),
    key("websocket.deflate", "Whether permessage-deflate is accepted when it is offered."),
];

/// The name of the environment variable that sets `key`.
pub(crate) fn variable(key: &str) -> String {
    format!("STENTOR_{}", key.to_ascii_uppercase().replace('.', "_"))
}

/// The key that was most likely meant by `name`: within two edits of it, or with the same last part.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let (edits, best) =
        KEYS.iter().map(|key| (distance(name, key.name), key.name)).min_by_key(|&(edits, _)| edits)?;
    if edits <= 2 {
        return Some(best);
    }
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    KEYS.iter().map(|key| key.name).find(|key| last(key) == last(name))
}

/// Levenshtein distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_the_one_that_was_meant() {
        assert_eq!(nearest("limits.conections"), Some("limits.connections"));
        assert_eq!(nearest("matchers"), Some("limits.matchers"));
        assert_eq!(nearest("timing.shards"), Some("shards"));
        assert_eq!(nearest("colour"), None);
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let variables: std::collections::HashSet<_> = KEYS.iter().map(|key| variable(key.name)).collect();
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.contains("STENTOR_LIMITS_CONNECTIONS"));
    }
}
