//! The running engine as the rest of the binary sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stentor::{Engine, Kind};

use crate::app::ServerApp;
use crate::config::Settings;
use crate::metrics_page::Page;

/// A running engine. The routes ask it how it is, and `supervise` ends it.
pub(crate) trait Running: Send + Sync {
    /// Whether it lets no new subscriber in, because it is about to end.
    fn is_draining(&self) -> bool;
    /// Ends all connections, spread over at most `time`.
    fn drain(&self, time: Duration) -> Result<(), String>;
    /// Appends its figures.
    fn write_metrics(&self, page: &mut Page);
}

impl Running for Engine {
    fn is_draining(&self) -> bool {
        Engine::is_draining(self)
    }

    fn drain(&self, time: Duration) -> Result<(), String> {
        Engine::drain(self, time).map_err(|error| error.to_string())
    }

    fn write_metrics(&self, page: &mut Page) {
        for family in self.metrics() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                _ => "gauge",
            };
            let samples = family.samples.iter().map(|sample| (sample.label, sample.value));
            page.family(family.name, kind, family.help, samples);
        }
        let (parked_by, reason) = self.parked_by();
        let help = "Always 1; what parks connections is the label.";
        page.family("stentor_parked_by_info", "gauge", help, [(Some(("parked_by", parked_by)), 1)]);
        let help = "Always 1; the label says why io_uring parks no connections. None where it does.";
        page.family(
            "stentor_fallback_info",
            "gauge",
            help,
            reason.map(|reason| (Some(("reason", reason)), 1)),
        );
    }
}

/// Starts an engine with `app`, and tells `app` of it.
///
/// # Errors
/// Why it cannot be started, in one line.
pub(crate) fn start(settings: &Settings, app: ServerApp) -> Result<Arc<Engine>, String> {
    let mut builder = Engine::builder().config(settings.engine.clone());
    if !settings.server.io_uring {
        builder = builder.epoll();
    }
    let engine = Arc::new(builder.start(app.clone()).map_err(|error| error.to_string())?);
    let running: Arc<dyn Running> = engine.clone();
    app.attach(&running);
    Ok(engine)
}

/// How the engine runs and where it listens.
pub(crate) struct Account {
    /// Where it listens, with the port that a 0 became.
    pub(crate) addresses: Vec<SocketAddr>,
    /// In a few words: "2 shards, io_uring".
    pub(crate) description: String,
}

impl Account {
    /// What `engine` says of itself.
    pub(crate) fn of(engine: &Engine) -> Self {
        let shards = engine.shards();
        let plural = if shards == 1 { "" } else { "s" };
        let (parked_by, reason) = engine.parked_by();
        let because = reason.map(|reason| format!(" because {reason}")).unwrap_or_default();
        Self {
            addresses: engine.local_addrs().to_vec(),
            description: format!("{shards} shard{plural}, {parked_by}{because}"),
        }
    }
}
