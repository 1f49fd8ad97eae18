//! WebSockets with tokio-tungstenite: a task a connection, and a broadcast channel. A message is made once,
//! and its bytes are shared; what waits for a subscriber goes out in one write.

use std::io;

use axum::serve::Listener;
use futures_util::{SinkExt as _, StreamExt as _};
use stentor_peers::{Arguments, listen, publish, run};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// Subscribers say next to nothing, so that small buffers are enough to read it.
const READ_BUFFER: usize = 1_024;

fn main() -> io::Result<()> {
    let Arguments { port, control_port } = Arguments::read()?;
    run(async move {
        let events = publish(control_port, Utf8Bytes::from).await?;
        let mut listener = listen(port)?;
        loop {
            // axum's way to accept: it waits where descriptors have run out.
            let (stream, _) = Listener::accept(&mut listener).await;
            let _ = stream.set_nodelay(true);
            let events = events.subscribe();
            tokio::spawn(async move {
                // A peer that is gone is no fault of the server's.
                let _ = serve(stream, events).await;
            });
        }
    })
}

async fn serve(stream: TcpStream, mut events: Receiver<Utf8Bytes>) -> Result<(), Error> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    loop {
        tokio::select! {
            event = events.recv() => {
                // Who is too far behind ends, and asks again.
                let Ok(event) = event else { return socket.close(None).await };
                socket.feed(Message::Text(event)).await?;
                while let Ok(event) = events.try_recv() {
                    socket.feed(Message::Text(event)).await?;
                }
                socket.flush().await?;
            }
            message = socket.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            }
        }
    }
}
