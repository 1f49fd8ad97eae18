//! The running engine as the rest of the binary sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::app::ServerApp;
use crate::metrics_page::Page;

/// A running engine. The routes ask it how it is, and `supervise` ends it.
pub(crate) trait Running: Send + Sync {
    /// Whether it lets no new subscriber in, because it is about to end.
    fn is_draining(&self) -> bool;
    /// What is broken, if anything is: then the process must end.
    fn failure(&self) -> Option<String>;
    /// Ends all connections, spread over at most `time`.
    fn drain(&self, time: Duration) -> Result<(), String>;
    /// Appends its figures.
    fn write_metrics(&self, page: &mut Page);
    /// Where it listens.
    fn local_addrs(&self) -> Vec<SocketAddr>;
    /// How it runs, in a few words: "2 shards, io_uring".
    fn description(&self) -> String;
}

/// Starts an engine with `app`.
///
/// # Errors
/// Why it cannot be started, in one line.
pub(crate) fn start(config: stentor::Config, app: ServerApp) -> Result<Arc<dyn Running>, String> {
    let _ = (config, app);
    Err("the engine cannot be started yet".into())
}
