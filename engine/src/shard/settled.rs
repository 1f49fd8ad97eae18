//! When a shard has settled after many came or went: then what the allocator still holds goes back.

/// Coming and going of fewer leaves nothing behind that is worth looking for.
const CHANGES_MIN: usize = 1_024;
/// So long nobody comes or goes in a shard that has settled.
const QUIET_MS: u64 = 2_000;
/// After so long it is looked for once more: of several shards that settle at once one alone gets through
/// to what the process holds.
const ECHO_MS: u64 = 3_000;
/// Where it never settles it is looked for as often as this.
const PERIOD_MS: u64 = 30_000;

/// Watches the number of a shard's connections.
#[derive(Debug, Default)]
pub(super) struct Settled {
    connections: usize,
    /// By how much the number changed since the latest answer.
    changes: usize,
    /// When it changed last, and when the answer was last that it has settled.
    changed_ms: u64,
    settled_ms: u64,
    /// When the answer is the same once more.
    echo_ms: Option<u64>,
}

impl Settled {
    /// Whether the shard has settled since this was last answered with true, or that is long ago. Called
    /// every few milliseconds: what comes and goes in between is not seen.
    pub(super) fn has_settled(&mut self, connections: usize, now_ms: u64) -> bool {
        let change = connections.abs_diff(self.connections);
        if change > 0 {
            self.connections = connections;
            self.changes += change;
            self.changed_ms = now_ms;
        }
        let is_time =
            now_ms >= self.changed_ms + QUIET_MS || now_ms >= self.settled_ms.max(QUIET_MS) + PERIOD_MS;
        if self.changes < CHANGES_MIN || !is_time {
            return self.echo_ms.take_if(|echo_ms| now_ms >= *echo_ms).is_some();
        }
        self.echo_ms = Some(now_ms + ECHO_MS);
        self.changes = 0;
        self.settled_ms = now_ms;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_settled_once_after_many_came_or_went() {
        let mut settled = Settled::default();
        assert!(!settled.has_settled(2_000, 10_000));
        assert!(!settled.has_settled(2_000, 10_000 + QUIET_MS - 1));
        assert!(settled.has_settled(2_000, 10_000 + QUIET_MS));
        assert!(!settled.has_settled(2_000, 9_999 + QUIET_MS + ECHO_MS));
        assert!(settled.has_settled(2_000, 10_000 + QUIET_MS + ECHO_MS), "once more");
        assert!(!settled.has_settled(2_000, 90_000), "nobody came or went since");
        assert!(!settled.has_settled(1_999, 95_000) && !settled.has_settled(1_999, 99_000), "one is few");
    }

    #[test]
    fn who_comes_and_goes_without_end_is_looked_after_now_and_then() {
        let mut settled = Settled::default();
        let answers = |settled: &mut Settled, seconds: std::ops::Range<u64>| {
            let one = |ms: u64| settled.has_settled(if ms.is_multiple_of(200) { 5_000 } else { 4_000 }, ms);
            (seconds.start * 10..seconds.end * 10).map(|tenth| tenth * 100).map(one).filter(|&is| is).count()
        };
        assert_eq!(answers(&mut settled, 0..31), 0);
        assert_eq!(answers(&mut settled, 31..130), 8, "each twice");
    }
}
