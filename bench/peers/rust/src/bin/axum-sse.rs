//! Server-Sent Events with axum, as its documentation shows them: a stream of a broadcast channel. An event
//! is encoded once, and cloned for each subscriber.

use std::convert::Infallible;
use std::io;

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use futures_util::{Stream, StreamExt as _};
use stentor_peers::{Arguments, listen, publish, run};
use tokio::sync::broadcast::Sender;
use tokio_stream::wrappers::BroadcastStream;

fn main() -> io::Result<()> {
    let Arguments { port, control_port } = Arguments::read()?;
    run(async move {
        let events = publish(control_port, |line| Event::default().data(line)).await?;
        let listener = listen(port)?.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, Router::new().route("/events", get(subscribe)).with_state(events)).await
    })
}

async fn subscribe(
    State(events): State<Sender<Event>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // Who is too far behind ends, and asks again.
    let events =
        BroadcastStream::new(events.subscribe()).take_while(|event| std::future::ready(event.is_ok()));
    Sse::new(events.filter_map(|event| std::future::ready(event.ok().map(Ok))))
}
