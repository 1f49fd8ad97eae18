//! The sequencer.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::channel::Sender;
use crate::config::Config;
use crate::cursor::{Cursor, CursorError, Epoch, Offset, Start};
use crate::log::{LogStatistics, Read, TopicInfo};
use crate::receiver::Receiver;
use crate::topic::Matcher;

/// What a [`Start`] means for certain matchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The place to begin at.
    pub(crate) after: Offset,
    /// What counts as told of gaps: with `Earliest` all of what is gone, because it was not asked for.
    pub(crate) told: Offset,
    /// The cursor asked for, where it is of another epoch: a gap from it to `after` is to be told.
    pub(crate) old: Option<Cursor>,
}

pub(crate) struct Sequencer {}

impl Sequencer {
    pub(crate) fn new(_config: &Config, _shards: Vec<Sender>) -> Arc<Self> {
        unimplemented!()
    }
    /// The same with a clock: milliseconds since 1970 (for the simulation).
    pub(crate) fn with_clock(
        _config: &Config,
        _shards: Vec<Sender>,
        _epoch: Epoch,
        _clock: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Arc<Self> {
        unimplemented!()
    }
    pub(crate) fn epoch(&self) -> Epoch {
        unimplemented!()
    }
    /// The newest offset, without the lock: stored last, when the event is in all channels.
    pub(crate) fn head(&self) -> Offset {
        unimplemented!()
    }
    pub(crate) fn cursor(&self, _offset: Offset) -> Cursor {
        unimplemented!()
    }
    pub(crate) fn add_interest(&self, _shard: usize, _matchers: &[Matcher]) -> Offset {
        unimplemented!()
    }
    pub(crate) fn remove_interest(&self, _shard: usize, _matchers: &[Matcher]) {
        unimplemented!()
    }
    pub(crate) fn read(
        &self,
        _matchers: &[Matcher],
        _after: Offset,
        _until: Offset,
        _max_events: usize,
        _max_bytes: usize,
    ) -> Read {
        unimplemented!()
    }
    pub(crate) fn resolve(&self, _start: Start, _matchers: &[Matcher]) -> Result<Resolved, CursorError> {
        unimplemented!()
    }
    pub(crate) fn topic(&self, _topic: &str) -> Option<TopicInfo> {
        unimplemented!()
    }
    /// Drops what is too old at the clock's time; once a second.
    pub(crate) fn sweep(&self) {
        unimplemented!()
    }
    /// Bytes of half-sent runs: the shards add and subtract.
    pub(crate) fn held_bytes(&self) -> &AtomicUsize {
        unimplemented!()
    }
    pub(crate) fn statistics(&self) -> LogStatistics {
        unimplemented!()
    }
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        _matchers: Vec<Matcher>,
        _start: Start,
    ) -> Result<Receiver, CursorError> {
        unimplemented!()
    }
    /// Refuses all further publishing; receivers end when they have all.
    pub(crate) fn close(&self) {
        unimplemented!()
    }
}
