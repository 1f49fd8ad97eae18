//! Stentor itself as a target: the binary as a user starts it.

use std::io;
use std::path::PathBuf;

use crate::network;
use crate::target::{Publish, Subscribe, Target, Wire};

/// How the server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary.
    pub program: PathBuf,
    /// What subscribers speak.
    pub wire: Wire,
    /// Shards.
    pub shards: usize,
    /// Whether io_uring may be used.
    pub io_uring: bool,
    /// Further keys, as `--set` takes them.
    pub set: Vec<String>,
}

/// The binary `stentor` beside the running one: `cargo build --release -p stentor-server` puts it there.
///
/// # Errors
/// There is none.
pub fn program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("stentor");
    if program.exists() {
        return Ok(program);
    }
    let message = format!("there is no {}: run cargo build --release -p stentor-server", program.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// The target.
///
/// # Panics
/// For [`Wire::MqttWebSocket`], which Stentor does not speak.
pub fn target(options: &Options) -> Target {
    let port = network::PORTS;
    let mut arguments = vec![
        format!("--listen=0.0.0.0:{port}"),
        format!("--shards={}", options.shards),
        "--open-publish".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--set=io_uring={}", options.io_uring),
    ];
    arguments.extend(options.set.iter().map(|key| format!("--set={key}")));
    let ask = |query: &str, fields: &str| {
        format!("GET /events?{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
    };
    let (name, query, fields) = match options.wire {
        Wire::Sse => ("SSE", "", "Accept: text/event-stream\r\n"),
        Wire::Stream => ("stream", "&transport=stream", ""),
        Wire::WebSocket => (
            "WebSocket",
            "",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        // The first answer, at once, gives the cursor from which the next requests wait.
        Wire::LongPoll => ("long-poll", "", ""),
        Wire::MqttWebSocket => panic!("Stentor does not speak MQTT"),
    };
    let waits = if options.wire == Wire::LongPoll { "&wait=60" } else { "" };
    let backend = if options.io_uring { "" } else { ", epoll" };
    Target {
        name: format!("stentor ({name}{backend})"),
        program: options.program.clone(),
        arguments: arguments.into_iter().map(Into::into).collect(),
        environment: Vec::new(),
        port,
        subscribe: Subscribe {
            wire: options.wire,
            opening: Box::new(move |topic| vec![ask(&format!("topic={topic}{query}"), fields)]),
            again: Some(Box::new(move |topic, cursor| {
                ask(&format!("topic={topic}{query}{waits}&cursor={cursor}"), fields)
            })),
        },
        publish: Publish::Http {
            port,
            request: Box::new(|topic, payload| {
                let length = payload.len();
                let mut request = format!(
                    "POST /events?topic={topic} HTTP/1.1\r\nHost: localhost\r\n\
                     Content-Length: {length}\r\n\r\n"
                )
                .into_bytes();
                request.extend_from_slice(payload);
                request
            }),
        },
        has_topics: true,
        connections_max: if options.io_uring { usize::MAX } else { 19_000 },
    }
}
