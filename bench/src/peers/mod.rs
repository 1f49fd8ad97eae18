//! The servers that the comparison measures: Stentor itself, and what a user could pick instead. Each is set
//! up as a good user of it would: on one core, without logs, with its limits raised, Nagle's algorithm off.

mod described;
mod install;
mod mosquitto;
mod nchan;
mod small;

use std::io;
use std::path::{Path, PathBuf};

use crate::floor::{self, Kind};
use crate::network::PORTS;
use crate::stentor::{self, Options};
use crate::target::{Target, Wire};

/// The port of the subscribers.
const PORT: u16 = PORTS;
/// The port of the publisher, of servers that have one for it.
const CONTROL_PORT: u16 = PORTS + 1;
/// Descriptors that a server needs for other things than connections.
const OTHER_DESCRIPTORS: usize = 128;

/// A server that the comparison can measure.
pub struct Peer {
    /// What it is called on the command line.
    pub name: &'static str,
    prepare: fn(&Folder) -> Result<Target, String>,
}

/// All of them: Stentor on io_uring and on epoll, the floors of the same minute, and the others.
pub const ALL: [Peer; 16] = [
    Peer { name: "stentor-sse", prepare: |_| stentor(Wire::Sse, true) },
    Peer { name: "stentor-websocket", prepare: |_| stentor(Wire::WebSocket, true) },
    Peer { name: "stentor-stream", prepare: |_| stentor(Wire::Stream, true) },
    Peer { name: "stentor-long-poll", prepare: |_| stentor(Wire::LongPoll, true) },
    Peer { name: "stentor-epoll-sse", prepare: |_| stentor(Wire::Sse, false) },
    Peer { name: "stentor-epoll-websocket", prepare: |_| stentor(Wire::WebSocket, false) },
    Peer { name: "floor-ring-sse", prepare: |_| floor(Kind::Ring, Wire::Sse) },
    Peer { name: "floor-send-sse", prepare: |_| floor(Kind::Send, Wire::Sse) },
    Peer { name: "floor-monoio-sse", prepare: |_| floor(Kind::Monoio, Wire::Sse) },
    Peer { name: "nchan-sse", prepare: |folder| nchan::target(folder, Wire::Sse) },
    Peer { name: "nchan-websocket", prepare: |folder| nchan::target(folder, Wire::WebSocket) },
    Peer { name: "nchan-stream", prepare: |folder| nchan::target(folder, Wire::Stream) },
    Peer { name: "axum", prepare: small::axum },
    Peer { name: "tokio-tungstenite", prepare: small::tungstenite },
    Peer { name: "ws", prepare: small::ws },
    Peer { name: "mosquitto", prepare: mosquitto::target },
];

impl Peer {
    /// Makes sure that the server is here, installing or building what is missing, and writes its
    /// configuration. Needs the network that packages come from: call it before [`crate::network::enter`].
    ///
    /// # Errors
    /// Why it cannot be had, and the command that would get it.
    pub fn prepare(&self) -> Result<Target, String> {
        (self.prepare)(&Folder::new()?)
    }
}

/// The server called `name`, spoken to over `wire`: one of [`ALL`], without what its name says of the
/// transport, or one that a file describes whose name ends in `.toml`. Call it as [`Peer::prepare`].
///
/// # Errors
/// There is none of that name that speaks so; or as [`Peer::prepare`].
pub fn named(name: &str, wire: Wire) -> Result<Target, String> {
    if name.ends_with(".toml") {
        return described::target(Path::new(name), wire);
    }
    let way = match wire {
        Wire::Sse => "sse",
        Wire::Stream => "stream",
        Wire::WebSocket => "websocket",
        Wire::LongPoll => "long-poll",
        Wire::MqttWebSocket => "mqtt",
    };
    let full = format!("{name}-{way}");
    let Some(peer) = ALL.iter().find(|peer| peer.name == name || peer.name == full) else {
        let names: Vec<_> = ALL.iter().map(|peer| peer.name).collect();
        return Err(format!("no server {name} for {way}: a file .toml, or one of {}", names.join(", ")));
    };
    let target = peer.prepare()?;
    if target.subscribe.wire == wire {
        Ok(target)
    } else {
        Err(format!("{name} does not speak {way}: it is {}", target.name))
    }
}

/// Stentor of this source, on one core as the others are: its one shard.
fn stentor(wire: Wire, io_uring: bool) -> Result<Target, String> {
    install::build_stentor()?;
    let program = stentor::program().map_err(|error| error.to_string())?;
    let mut target = stentor::target(&Options { program, wire, shards: 1, io_uring, set: Vec::new() });
    target.name = target.name.replacen("stentor", concat!("Stentor ", env!("CARGO_PKG_VERSION")), 1);
    Ok(target)
}

fn floor(kind: Kind, wire: Wire) -> Result<Target, String> {
    let program =
        floor::this_program().map_err(|error| format!("cannot say where this program is: {error}"))?;
    let mut target = floor::target(kind, wire, program);
    target.name = format!("floor: {}", target.name);
    Ok(target)
}

/// Lets this process, and the servers that it starts, have as many descriptors as they may; how many that is.
///
/// # Errors
/// The limit cannot be read or raised.
pub fn raise_descriptors() -> io::Result<usize> {
    // SAFETY: the kernel reads and writes one limit, which is ours.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(usize::try_from(limit.rlim_max).unwrap_or(usize::MAX))
    }
}

/// Most connections of a server that spends a descriptor on each.
fn connections_max() -> usize {
    raise_descriptors().unwrap_or(1_024).saturating_sub(OTHER_DESCRIPTORS)
}

/// Where the peers are: `peers` in cargo's target folder.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let folder = release().map_err(|error| format!("cannot say where this program is: {error}"))?;
        let target = folder.parent().ok_or("this program is not in a target folder")?;
        Ok(Self(target.join("peers")))
    }

    /// A folder in it, made if need be.
    fn make(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.0.join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(folder)
    }
}

/// Writes a file of a peer.
fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The folder of the executables of this profile.
fn release() -> io::Result<PathBuf> {
    let mut folder = std::env::current_exe()?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}

/// The head of a request of HTTP/1.1 without a body; `more` are whole lines.
fn get(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").into_bytes()
}

/// What turns a request into an opening handshake (RFC 6455, section 4.1). The nonce needs no randomness: no
/// proxy caches anything here.
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: c3RlbnRvciBzdGVudG9yIQ==\r\n";

/// A request that publishes `data`.
fn post(path: &str, data: &[u8]) -> Vec<u8> {
    with_body("POST", path, "", data)
}

/// A request of HTTP/1.1 with a body; `more` are whole lines.
fn with_body(method: &str, path: &str, more: &str, data: &[u8]) -> Vec<u8> {
    let length = data.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), data].concat()
}

/// A topic as it stands in a query (RFC 3986, section 3.4).
fn in_query(topic: &str) -> String {
    let mut text = String::with_capacity(topic.len());
    for byte in topic.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = ALL.iter().map(|peer| peer.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn a_topic_that_has_meaning_in_a_query_is_encoded() {
        assert_eq!(in_query("bench/0"), "bench/0");
        assert_eq!(in_query("a&b é"), "a%26b%20%C3%A9");
    }

    #[test]
    fn a_publish_says_how_long_it_is() {
        let request = post("/p", b"12345");
        assert!(request.ends_with(b"\r\nContent-Length: 5\r\n\r\n12345"));
    }
}
