//! The paths beside the engine's own: how the process is, its figures, the live page.

use stentor::{Request, Response};

use crate::app::ServerApp;
use crate::metrics_page::{self, Page};
use crate::page;

/// Answers a request, or knows nothing of its path.
pub(crate) fn answer(app: &ServerApp, request: &Request<'_>) -> Option<Response> {
    let is_page = app.has_page() && page::has(request.path);
    if !is_page && !["/health", "/ready", "/metrics"].contains(&request.path) {
        return None;
    }
    if !["GET", "HEAD"].contains(&request.method) {
        let body = format!("{} is not allowed here; GET and HEAD are\n", request.method);
        return Some(
            Response::ok("text/plain; charset=utf-8", body).status(405).header("Allow", "GET, HEAD"),
        );
    }
    match request.path {
        "/health" => Some(state(200, "ok")),
        "/ready" => Some(ready(app)),
        "/metrics" => Some(metrics(app)),
        _ => page::answer(request),
    }
}

/// Whether new subscribers are welcome: what a load balancer asks.
fn ready(app: &ServerApp) -> Response {
    match app.engine() {
        None => state(503, "starting"),
        Some(engine) if engine.is_draining() => state(503, "draining"),
        Some(_) => state(200, "ready"),
    }
}

fn metrics(app: &ServerApp) -> Response {
    let mut page = Page::default();
    metrics_page::write_process(&mut page);
    if let Some(engine) = app.engine() {
        engine.write_metrics(&mut page);
    }
    page.counter(
        "stentor_messages_dropped_total",
        "Messages of raw WebSockets, which this server has no use for.",
        app.messages_dropped(),
    );
    Response::ok(metrics_page::CONTENT_TYPE, page.into_text()).header("Cache-Control", "no-store")
}

fn state(status: u16, word: &str) -> Response {
    Response::ok("text/plain; charset=utf-8", format!("{word}\n"))
        .status(status)
        .header("Cache-Control", "no-store")
}
