//! What the tests with real sockets share: an engine on a free port of loopback, and blocking clients whose
//! every wait ends.

#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(unused_macros, unused_imports, reason = "each test takes what it needs")]

use std::collections::VecDeque;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use stentor::config::Config;
use stentor::sim::checker::Hearing;
use stentor::transport::decode::{Item, StreamDecoder};
use stentor::transport::{Format, Framing, Transport};
use stentor::{
    Admission, App, Cursor, Engine, Event, Matcher, Message, Refusal, Request, Shards, Subscriber, Topic,
};
use stentor_protocol::ws::frame::{Opcode, encode_masked_frame};

/// Longest that a client waits for anything that must come.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Names, in the environment, what has to park the connections of every engine; else that is not asked. Who
/// runs the tests where io_uring is refused so knows that it was.
const PARKED_BY: &str = "STENTOR_TEST_PARKED_BY";

/// What parks the connections of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// io_uring where the system has it.
    Ring,
    /// epoll.
    Epoll,
}

/// Makes a test of each function that takes a [`Backing`], on both.
macro_rules! on_both_backings {
    ($($name:ident;)*) => {
        mod ring { $(#[test] fn $name() { super::$name(crate::common::Backing::Ring) })* }
        mod epoll { $(#[test] fn $name() { super::$name(crate::common::Backing::Epoll) })* }
    };
}
pub(crate) use on_both_backings;

/// An embedder whose answers a request can choose: `?app=STATUS` is refused so, `?app=later` with a
/// `Retry-After`. Everybody else may hear and publish everything, but for what begins with `secret`. A raw
/// message is echoed.
pub struct Choosing;

fn refusal(word: &str) -> Refusal {
    match word {
        "later" => Refusal::new(429, "too often").retry_after(9),
        status => Refusal::new(status.parse().expect("a status"), "the application says no").field("app"),
    }
}

impl App for Choosing {
    async fn subscribe(&self, request: &Request<'_>) -> Admission {
        if let Some(word) = request.param("app") {
            return Admission::Refuse(refusal(word));
        }
        if request.matchers.iter().any(|matcher| matcher.as_str().starts_with("secret")) {
            return Admission::refuse(403, "that is secret");
        }
        let open = ["open", "open/**"].map(|text| Matcher::new(text).expect("a matcher"));
        Admission::as_asked(request).publishing(open.to_vec())
    }

    async fn publish(&self, request: &Request<'_>, topic: Option<&Topic>) -> Result<(), Refusal> {
        if let Some(word) = request.param("app") {
            return Err(refusal(word));
        }
        match request.bearer() {
            Some("wrong") => {
                Err(Refusal::new(401, "the token is not known").header("WWW-Authenticate", "Bearer"))
            }
            _ if topic.is_some_and(|topic| topic.as_str().starts_with("secret")) => {
                Err(Refusal::new(403, "that is secret").field("topic"))
            }
            _ => Ok(()),
        }
    }

    fn received(&self, subscriber: &mut Subscriber<'_>, message: Message<'_>) {
        subscriber.reply(message);
    }
}

/// Starts an engine with two shards on a free port.
pub fn start(config: Config, backing: Backing) -> Engine {
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let builder = Engine::builder().config(config).listen(loopback).shards(Shards::Count(2));
    let builder = match backing {
        Backing::Ring => builder,
        Backing::Epoll => builder.epoll(),
    };
    let engine = builder.start(Choosing).expect("the engine starts");
    if let Some(wanted) = std::env::var_os(PARKED_BY) {
        assert_eq!(engine.parked_by().0, wanted, "{:?}", engine.parked_by().1);
    }
    engine
}

/// A configuration, changed.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

pub fn address(engine: &Engine) -> SocketAddr {
    engine.local_addrs()[0]
}

/// The figure of a family with this label; the sum of all where the label is none.
pub fn figure(engine: &Engine, name: &str, label: Option<&str>) -> u64 {
    let families = engine.metrics();
    let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("{name}"));
    let is_it = |sample: &&stentor::Sample| {
        label.is_none_or(|label| sample.label.is_some_and(|(_, value)| value == label))
    };
    family.samples.iter().filter(is_it).map(|sample| sample.value).sum()
}

/// Waits until `is_so`, at most [`PATIENCE`].
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, at most [`PATIENCE`] long.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let begun = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(begun.elapsed() < PATIENCE, "the future is not ready within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {} {:?}", self.head, self.body))
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the engine accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, buffer: Vec::new() }
    }

    /// Whoever is refused in the middle of a long body is cut off while it still sends: the answer is there
    /// to be read all the same.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        match self.stream.write_all(bytes.as_ref()) {
            Err(error) if !matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                panic!("the engine does not read: {error}")
            }
            _ => {}
        }
    }

    /// Reads more into the buffer; false at the end, and also where the connection was reset.
    pub fn read(&mut self) -> bool {
        let mut space = [0; 65_536];
        match self.stream.read(&mut space) {
            Ok(count) => {
                self.buffer.extend_from_slice(&space[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => {
                panic!("nothing came: {error}; until then {:?}", String::from_utf8_lossy(&self.buffer))
            }
        }
    }

    /// Reads what comes within `time`; `None` if nothing came, 0 bytes at the end.
    pub fn read_within(&mut self, time: Duration) -> Option<usize> {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let mut space = [0; 65_536];
        let read = self.stream.read(&mut space);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        match read {
            Ok(count) => {
                self.buffer.extend_from_slice(&space[..count]);
                Some(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads what is there, of a stream that does not block; `None` if there is nothing, 0 bytes at the end.
    pub fn read_now(&mut self) -> Option<usize> {
        let mut space = [0; 16_384];
        match self.stream.read(&mut space) {
            Ok(count) => {
                self.buffer.extend_from_slice(&space[..count]);
                Some(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(0),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next head, and nothing after it.
    pub fn head(&mut self) -> Reply {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.read(), "the end came before a head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("a head is ASCII");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Reply { status: status.unwrap_or_else(|| panic!("no status: {head:?}")), head, body: Vec::new() }
    }

    /// The next answer, to a request whose answer has its body.
    pub fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        let length = reply.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            assert!(self.read(), "a body of {length} bytes ended early: {:?}", reply.head);
        }
        reply.body = self.buffer.drain(..length).collect();
        reply
    }

    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        self.send(request);
        self.reply()
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.buffer)
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        reset(self.stream);
    }
}

/// Closes a socket with RST.
pub fn reset(stream: TcpStream) {
    let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("linger");
}

/// One request on a connection of its own.
pub fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Reply {
    Client::new(address).ask(request)
}

pub fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

pub fn post(target: &str, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{lines}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The header lines of an opening handshake (RFC 6455 §1.3).
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub const V1: &str = "Sec-WebSocket-Protocol: stentor.v1\r\n";
pub const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// A frame as a client sends it.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked_frame(opcode, [1, 2, 3, 4], payload, &mut out);
    out
}

pub const fn hearing(transport: Transport, format: Format, framing: Framing) -> Hearing {
    Hearing { transport, format, framing }
}

/// Every way to hear a stream.
pub const STREAMS: [Hearing; 14] = [
    hearing(Transport::Iframe, Format::Json, Framing::Chunked),
    hearing(Transport::Iframe, Format::Raw, Framing::Chunked),
    hearing(Transport::Iframe, Format::Json, Framing::UntilClose),
    hearing(Transport::Stream, Format::Json, Framing::Chunked),
    hearing(Transport::Stream, Format::Raw, Framing::Chunked),
    hearing(Transport::Stream, Format::Json, Framing::UntilClose),
    hearing(Transport::Stream, Format::Raw, Framing::UntilClose),
    hearing(Transport::Sse, Format::Json, Framing::Chunked),
    hearing(Transport::Sse, Format::Raw, Framing::Chunked),
    hearing(Transport::Sse, Format::Raw, Framing::UntilClose),
    hearing(Transport::WebSocket, Format::Json, Framing::Frames),
    hearing(Transport::WebSocket, Format::Raw, Framing::Frames),
    hearing(Transport::WebSocket, Format::Json, Framing::Deflate(15)),
    hearing(Transport::WebSocket, Format::Raw, Framing::Deflate(15)),
];

/// A subscriber and what it has got.
pub struct Listener {
    pub client: Client,
    pub hearing: Hearing,
    decoder: StreamDecoder,
    pub items: VecDeque<Item>,
    is_over: bool,
    /// Why the end of the connection is no clean end of the subscription.
    pub cut: Option<String>,
}

impl Listener {
    /// Subscribes: `query` names topics and more, `lines` are header lines.
    pub fn open(address: SocketAddr, hearing: Hearing, query: &str, lines: &str) -> Self {
        let mut listener = Self::on(Client::new(address), hearing);
        listener.request(query, lines);
        listener
    }

    /// Hears on a connection that has asked, or will.
    pub fn on(client: Client, hearing: Hearing) -> Self {
        let decoder = StreamDecoder::with_head(hearing.transport, hearing.format, hearing.framing);
        Self { client, hearing, decoder, items: VecDeque::new(), is_over: false, cut: None }
    }

    pub fn request(&mut self, query: &str, lines: &str) {
        self.client.send(subscribe(self.hearing, query, lines));
    }

    /// Reads once, and decodes what came; false at the end.
    pub fn read(&mut self) -> bool {
        let is_more = self.client.read();
        self.decode(is_more);
        is_more
    }

    /// Reads what comes within `time`; `None` if nothing came.
    pub fn read_within(&mut self, time: Duration) -> Option<usize> {
        let count = self.client.read_within(time)?;
        self.decode(count > 0);
        Some(count)
    }

    /// Reads what is there, of a stream that does not block; `None` if there is nothing.
    pub fn read_now(&mut self) -> Option<usize> {
        let count = self.client.read_now()?;
        self.decode(count > 0);
        Some(count)
    }

    fn decode(&mut self, is_more: bool) {
        let mut items = Vec::new();
        let decoded = self.decoder.decode(&self.client.buffer, &mut items);
        decoded.unwrap_or_else(|error| panic!("{:?}: {error}", self.hearing));
        self.client.buffer.clear();
        if !is_more && !self.is_over {
            self.is_over = true;
            self.cut = self.decoder.finish(&mut items).err().map(|error| error.to_string());
        }
        self.items.extend(items);
    }

    /// The next item, heartbeats included.
    pub fn next_item(&mut self) -> Item {
        loop {
            if let Some(item) = self.items.pop_front() {
                return item;
            }
            assert!(
                self.read() || !self.items.is_empty(),
                "{:?}: the end came: {:?}",
                self.hearing,
                self.cut
            );
        }
    }

    /// The next item that is neither head nor heartbeat nor reconnection time.
    pub fn next(&mut self) -> Item {
        loop {
            match self.next_item() {
                Item::Head { .. } | Item::Heartbeat | Item::Retry(_) => {}
                item => return item,
            }
        }
    }

    /// The place that the start of a stream tells, once it is there: in its first item or in its head.
    pub fn start(&mut self) -> Cursor {
        let mut told = None;
        let head = match self.next_item() {
            Item::Head { status: 200 | 101, headers } => headers,
            other => panic!("{:?}: {other:?}", self.hearing),
        };
        for (name, value) in head {
            if name == "stentor-cursor" {
                told = Some(value.parse().expect("a cursor"));
            }
        }
        let has_item = self.hearing.format == Format::Json
            || !matches!(self.hearing.transport, Transport::Stream | Transport::WebSocket);
        if !has_item {
            return told.expect("the head names the place");
        }
        match self.next() {
            Item::Cursor(cursor) => {
                assert!(told.is_none_or(|told| told == cursor), "head and start differ");
                cursor
            }
            other => panic!("{:?}: {other:?}", self.hearing),
        }
    }

    /// The text of the next message that is no event.
    pub fn message(&mut self) -> serde_json::Value {
        match self.next() {
            Item::Message(text) => serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")),
            other => panic!("{other:?}"),
        }
    }

    /// The data of the next event.
    pub fn data(&mut self) -> Vec<u8> {
        match self.next() {
            Item::Event { data, .. } => data,
            other => panic!("{:?}: {other:?}", self.hearing),
        }
    }

    pub fn say(&mut self, text: &str) {
        self.client.send(frame(Opcode::Text, text.as_bytes()));
    }

    /// The close code and reason of a WebSocket, after whatever else came.
    pub fn close(&mut self) -> (Option<u16>, String) {
        loop {
            if let Item::End { code, reason } = self.next_item() {
                return (code, reason);
            }
        }
    }
}

/// The request of a subscription.
pub fn subscribe(hearing: Hearing, query: &str, lines: &str) -> String {
    let Hearing { transport, format, framing } = hearing;
    let version = if framing == Framing::UntilClose { "1.0" } else { "1.1" };
    let format = match (format, transport) {
        (Format::Json, _) => "json",
        (Format::Raw, _) => "raw",
    };
    let own = match (transport, framing) {
        (Transport::WebSocket, Framing::Deflate(_)) => UPGRADE.to_owned() + DEFLATE,
        (Transport::WebSocket, _) => UPGRADE.to_owned(),
        _ => String::new(),
    };
    let v1 = if transport == Transport::WebSocket && format == "json" { V1 } else { "" };
    format!(
        "GET /events?{query}&transport={}&format={format} HTTP/{version}\r\n\
         Host: localhost\r\n{own}{v1}{lines}\r\n",
        transport.as_str()
    )
}

pub fn text(topic: &str, data: &str) -> Event {
    Event::text(topic, data).expect("an event")
}

/// Bytes of this process that are in memory.
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// File descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a process has descriptors").count()
}
