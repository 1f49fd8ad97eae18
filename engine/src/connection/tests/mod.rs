//! Whole connections: real sockets, with a shard that notes what it is given to park.

mod publishing;
mod refusals;
mod requests;
mod subscribing;

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;
use crate::app::{Admission, App, Refusal, Request, Response};
use crate::event::Event;
use crate::publish::Publisher;
use crate::sys::{self, Backend, Sleeper, Stream};

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    sys::block_on(Backend::available().0, future).unwrap()
}

/// An embedder whose answers a request can choose.
struct TestApp;

impl App for TestApp {
    async fn subscribe(&self, request: &Request<'_>) -> Admission {
        match request.param("app") {
            None => Admission::as_asked(request),
            Some("other") => Admission::to(vec![Matcher::new("other").unwrap()]),
            Some("nothing") => Admission::to(Vec::new()),
            Some("later") => Admission::Refuse(Refusal::new(429, "too often").retry_after(9)),
            Some(status) => Admission::refuse(status.parse().unwrap(), "the app says no"),
        }
    }

    async fn publish(&self, request: &Request<'_>, topic: Option<&Topic>) -> Result<(), Refusal> {
        let _ = topic;
        match request.param("app") {
            None => Ok(()),
            Some(status) => Err(Refusal::new(status.parse().unwrap(), "the app says no")),
        }
    }

    async fn request(&self, request: &Request<'_>) -> Option<Response> {
        (request.path == "/own").then(|| Response::ok("text/plain", request.body.to_vec()))
    }
}

/// What the shard was given.
#[derive(Default)]
struct Parked {
    subscriptions: RefCell<Vec<(Box<Subscription>, OwnedFd)>>,
    idle: RefCell<Vec<(OwnedFd, Permit)>>,
    /// How many connections were ever parked without a request.
    idle_count: std::cell::Cell<usize>,
}

struct TestPark(Rc<Parked>);

impl Park for TestPark {
    fn subscribe(&self, socket: Handle, _permit: Permit, subscription: Box<Subscription>) {
        let socket = open(socket);
        Stream::new(socket.try_clone().unwrap()).send(subscription.head.as_deref().unwrap_or_default()).ok();
        self.0.subscriptions.borrow_mut().push((subscription, socket));
    }

    fn wait_for_request(&self, socket: Handle, permit: Permit) {
        self.0.idle_count.set(self.0.idle_count.get() + 1);
        self.0.idle.borrow_mut().push((open(socket), permit));
    }

    fn may_be_readable(&self, _socket: SocketId) -> bool {
        unreachable!("nothing is lent here")
    }

    fn send(&self, _socket: SocketId, _bytes: &[u8]) -> Option<SendOutcome> {
        unreachable!("nothing is lent here")
    }

    fn take_back(&self, _socket: SocketId) -> io::Result<OwnedFd> {
        unreachable!("nothing is lent here")
    }

    fn close(&self, _socket: SocketId) {
        unreachable!("nothing is lent here")
    }

    fn subscribers_of<'a>(&'a self, topic: &'a Topic) -> Pin<Box<dyn Future<Output = u64> + 'a>> {
        Box::pin(async move { topic.as_str().len() as u64 })
    }
}

fn open(socket: Handle) -> OwnedFd {
    match socket {
        Handle::Open(socket) => socket,
        Handle::Parked(_) => unreachable!("nothing is lent here"),
    }
}

/// An engine with everything but a shard, which serves until its client is done.
struct Rig {
    context: Rc<Context>,
    parked: Rc<Parked>,
    listener: TcpListener,
    backend: Backend,
}

impl Rig {
    fn new(config: Config) -> Self {
        let parked = Rc::<Parked>::default();
        let context = Context {
            sequencer: Sequencer::new(&config, Vec::new()),
            admissions: Admissions::new(&config.limits),
            config: Arc::new(config),
            app: Arc::new(TestApp),
            metrics: Arc::new(Metrics::new(1)),
            is_draining: Arc::new(AtomicBool::new(false)),
            shard: 0,
            park: Box::new(TestPark(Rc::clone(&parked))),
            local: Local::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { context: Rc::new(context), parked, listener, backend: Backend::available().0 }
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(self.context.sequencer.clone())
    }

    fn publish(&self, topic: &str, texts: &[&str]) {
        for &text in texts {
            self.publisher().publish(Event::text(topic, text).unwrap()).unwrap();
        }
    }

    fn cursor(&self, offset: u64) -> String {
        self.context.sequencer.cursor(Offset(offset)).to_string()
    }

    /// Serves until `client`, on a thread of its own, has ended; bounded in time.
    fn serve<T: Send + 'static>(&self, client: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let address = self.listener.local_addr().unwrap();
        let client = std::thread::spawn(move || client(address));
        let context = Rc::clone(&self.context);
        let limit = Instant::now() + Duration::from_secs(30);
        sys::block_on(self.backend, async {
            let sleeper = Sleeper::new(self.listener.as_fd()).unwrap();
            while !client.is_finished() && Instant::now() < limit {
                let _ = monoio::time::timeout(Duration::from_millis(5), sleeper.wait()).await;
                while let Some((socket, peer)) = sys::accept(&self.listener).unwrap() {
                    match context.admissions.admit(peer, true) {
                        Ok(permit) => begin(context.clone(), Handle::Open(socket), permit, Vec::new()),
                        Err(error) => {
                            drop(monoio::spawn(refuse(context.clone(), Handle::Open(socket), error)))
                        }
                    };
                }
                for (socket, permit) in self.parked.idle.take() {
                    monoio::spawn(wait(context.clone(), socket, permit));
                }
            }
            // What the tasks still say goes out.
            monoio::time::sleep(Duration::from_millis(5)).await;
        })
        .unwrap();
        assert!(client.is_finished(), "the client still waits for something");
        client.join().unwrap()
    }

    fn figure(&self, name: &str, label: &str) -> u64 {
        let families = self.context.metrics.snapshot();
        let family = families.iter().find(|family| family.name == name).unwrap();
        let is_it = |sample: &&crate::metrics::Sample| sample.label.is_none_or(|(_, value)| value == label);
        family.samples.iter().find(is_it).unwrap().value
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        self.parked.subscriptions.take().into_iter().map(|(subscription, _)| *subscription).collect()
    }
}

/// As the shard does it: the connection comes back with its first bytes.
async fn wait(context: Rc<Context>, socket: OwnedFd, permit: Permit) {
    let mut stream = Stream::new(socket);
    let _ = monoio::time::timeout(Duration::from_secs(10), stream.readable()).await;
    let mut read = Vec::new();
    if !matches!(stream.receive(&mut read, 7), Ok(0) | Err(_)) {
        begin(context, Handle::Open(stream.into_fd().unwrap()), permit, read);
    }
}

/// A client that reads answers.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.head, self.text()))
    }
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads more; false at the end.
    fn read(&mut self) -> bool {
        let mut space = [0; 65_536];
        let count = self.stream.read(&mut space).unwrap();
        self.buffer.extend_from_slice(&space[..count]);
        count > 0
    }

    fn head(&mut self) -> Reply {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.read(), "the end came before an answer: {:?}", self.buffer);
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: Vec::new() }
    }

    /// The next answer, to a request with a method that has a body in its answer.
    fn reply(&mut self) -> Reply {
        let mut reply = self.head();
        let length: usize = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            assert!(self.read(), "a body of {length} bytes ended early: {:?}", reply.head);
        }
        reply.body = self.buffer.drain(..length).collect();
        reply
    }

    fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        self.send(request);
        self.reply()
    }

    /// Everything up to the end of the connection.
    fn rest(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.buffer)
    }
}

/// One request on a connection of its own.
fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Reply {
    Client::new(address).ask(request)
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn post(target: &str, lines: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
}

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
