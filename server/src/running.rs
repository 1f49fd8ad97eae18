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
    let engine = stentor::Engine::builder().config(config).start(app).map_err(|error| error.to_string())?;
    Ok(Arc::new(engine))
}

impl Running for stentor::Engine {
    fn is_draining(&self) -> bool {
        stentor::Engine::is_draining(self)
    }

    fn drain(&self, time: Duration) -> Result<(), String> {
        stentor::Engine::drain(self, time).map_err(|error| error.to_string())
    }

    fn write_metrics(&self, page: &mut Page) {
        for family in self.metrics() {
            let kind = match family.kind {
                stentor::Kind::Counter => "counter",
                _ => "gauge",
            };
            let samples = family.samples.iter().map(|sample| (sample.label, sample.value));
            page.family(family.name, kind, family.help, samples);
        }
    }

    fn local_addrs(&self) -> Vec<SocketAddr> {
        stentor::Engine::local_addrs(self).to_vec()
    }

    fn description(&self) -> String {
        let shards = self.shards();
        let (parked_by, reason) = self.parked_by();
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{shards} shard{}, {parked_by}{reason}", if shards == 1 { "" } else { "s" })
    }
}
