use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::metrics_page::Page;

/// Answers that wait for nothing: the first poll has them.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an answer of the server waits"),
    }
}

fn request<'a>(method: &'a str, path: &'a str, headers: &'a [(String, String)]) -> Request<'a> {
    let peer = ([127, 0, 0, 1], 1).into();
    Request { method, path, query: &[], headers, peer, matchers: &[], transport: None, body: &[] }
}

fn with_tokens() -> ServerApp {
    ServerApp::new(PublishRight::Tokens(Tokens::parse("one\ntwo\n").unwrap()), true)
}

fn authorization(value: &str) -> Vec<(String, String)> {
    vec![("authorization".into(), value.into())]
}

#[derive(Default)]
struct Engine {
    is_draining: AtomicBool,
}

impl Running for Engine {
    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
    fn drain(&self, _time: Duration) -> Result<(), String> {
        Ok(())
    }
    fn write_metrics(&self, page: &mut Page) {
        page.gauge("stentor_connections", "Connections.", 7);
    }
}

fn get(app: &ServerApp, path: &str) -> Option<(u16, String)> {
    let response = now(app.request(&request("GET", path, &[])))?;
    Some((response.status, String::from_utf8(response.body).unwrap()))
}

#[test]
fn a_publisher_shows_a_token_where_tokens_are_wanted() {
    let app = with_tokens();
    for good in ["Bearer one", "bearer two"] {
        assert_eq!(now(app.publish(&request("POST", "/events", &authorization(good)), None)), Ok(()));
    }
    for (bad, challenge) in [
        (vec![], "Bearer realm=\"publish\""),
        (authorization("Basic one"), "Bearer realm=\"publish\""),
        (authorization("Bearer"), "Bearer realm=\"publish\""),
        (authorization("Bearer on"), "Bearer realm=\"publish\", error=\"invalid_token\""),
        (authorization("Bearer one two"), "Bearer realm=\"publish\", error=\"invalid_token\""),
    ] {
        let refusal = now(app.publish(&request("POST", "/events", &bad), None)).unwrap_err();
        assert_eq!(refusal.status, 401, "{bad:?}");
        assert_eq!(refusal.headers, [("WWW-Authenticate".to_owned(), challenge.to_owned())]);
    }
}

#[test]
fn a_websocket_may_publish_what_a_post_may() {
    let app = with_tokens();
    let granted = |headers: &[(String, String)]| match now(app.subscribe(&request("GET", "/events", headers)))
    {
        Admission::Admit(grant) => grant.publish.iter().map(|m| m.as_str().to_owned()).collect::<Vec<_>>(),
        Admission::Refuse(refusal) => panic!("{refusal:?}"),
    };
    assert_eq!(granted(&authorization("Bearer two")), ["**"]);
    assert!(granted(&[]).is_empty());
    assert!(granted(&authorization("Bearer three")).is_empty());
    let open = ServerApp::new(PublishRight::Everyone, true);
    assert_eq!(now(open.publish(&request("POST", "/events", &[]), None)), Ok(()));
}

#[test]
fn readiness_follows_the_engine() {
    let app = ServerApp::new(PublishRight::Everyone, true);
    assert_eq!(get(&app, "/ready"), Some((503, "starting\n".into())));
    assert_eq!(get(&app, "/health"), Some((200, "ok\n".into())));
    let fake = Arc::new(Engine::default());
    let engine: Arc<dyn Running> = fake.clone();
    app.attach(&engine);
    assert_eq!(get(&app, "/ready"), Some((200, "ready\n".into())));
    fake.is_draining.store(true, Ordering::Relaxed);
    assert_eq!(get(&app, "/ready"), Some((503, "draining\n".into())));
    assert_eq!(get(&app, "/health"), Some((200, "ok\n".into())));
}

#[test]
fn the_figures_are_the_engines_and_the_servers() {
    let app = ServerApp::new(PublishRight::Everyone, true);
    let engine: Arc<dyn Running> = Arc::new(Engine::default());
    app.attach(&engine);
    let (status, text) = get(&app, "/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("\nstentor_connections 7\n"), "{text}");
    assert!(text.contains("\nstentor_messages_dropped_total 0\n"), "{text}");
}

#[test]
fn only_what_is_there_is_answered_and_only_to_be_read() {
    let app = ServerApp::new(PublishRight::Everyone, true);
    assert_eq!(get(&app, "/nothing"), None);
    assert_eq!(get(&app, "/health/"), None);
    assert_eq!(get(&app, "/").unwrap().0, 200);
    for path in ["/", "/health", "/ready", "/metrics", "/app.js"] {
        let response = now(app.request(&request("POST", path, &[]))).unwrap();
        assert_eq!(response.status, 405);
        assert!(response.headers.contains(&("Allow".into(), "GET, HEAD".into())));
        assert_ne!(now(app.request(&request("HEAD", path, &[]))).unwrap().status, 405);
    }
    let without_page = ServerApp::new(PublishRight::Everyone, false);
    assert_eq!(get(&without_page, "/"), None);
    assert_eq!(get(&without_page, "/app.js"), None);
}
