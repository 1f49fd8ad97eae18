//! A task of monoio for each connection: what an ordinary program of that runtime is.
//!
//! The task writes the events itself, and has a read under way to hear the end. A wake-up is one call for
//! each of the tasks, which stand in one list.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _, Splitable as _};
use monoio::net::{TcpListener, TcpStream};

use super::control::{Framer, JOINED_BYTES_MAX};
use super::{Options, Served, head, listen};

/// Completions that the ring has room for: each task may have one at a time, besides its read.
const COMPLETIONS: u32 = 65_536;
const SUBMISSIONS: u32 = 4096;

const HEAD_BYTES: usize = 1024;
/// What a subscriber says after its request is not looked at.
const SAID_BYTES: usize = 64;

pub(super) fn serve(options: &Options) -> Served {
    let mut ring = monoio_io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun().setup_cqsize(COMPLETIONS);
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(SUBMISSIONS)
        .uring_builder(ring)
        .build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> io::Result<Infallible> {
    let control = TcpListener::from_std(listen(options.control)?)?;
    let listener = TcpListener::from_std(listen(options.port)?)?;
    let everybody = Rc::new(Everybody::new());
    monoio::spawn(hear_publishers(control, Framer::new(options), options.each, Rc::clone(&everybody)));
    loop {
        let (stream, _) = listener.accept().await?;
        let (everybody, is_websocket) = (Rc::clone(&everybody), options.websocket);
        monoio::spawn(async move {
            // What a connection dies of concerns nobody else.
            let _ = subscribe(stream, is_websocket, &everybody).await;
        });
    }
}

/// What the tasks of the connections share.
struct Everybody {
    /// The last run of events, to which the next will be linked.
    last: RefCell<Rc<Run>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

/// Events that are written as one. A task holds the run that it wrote last, so that a run lives until all
/// have written it.
struct Run {
    bytes: Rc<Box<[u8]>>,
    next: RefCell<Option<Rc<Run>>>,
    /// Nobody need look at `next` before.
    has_next: Cell<bool>,
}

impl Run {
    fn new(bytes: Box<[u8]>) -> Rc<Self> {
        Rc::new(Self { bytes: Rc::new(bytes), next: RefCell::default(), has_next: Cell::new(false) })
    }
}

impl Drop for Run {
    /// One after the other: a chain may be too long to be dropped by recursion.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(run) = next {
            next = Rc::into_inner(run).and_then(|run| run.next.take());
        }
    }
}

impl Everybody {
    fn new() -> Self {
        Self {
            last: RefCell::new(Run::new(Box::default())),
            wakers: RefCell::default(),
            free: RefCell::default(),
        }
    }

    fn publish(&self, bytes: &[u8]) {
        let run = Run::new(bytes.into());
        let before = self.last.replace(Rc::clone(&run));
        before.next.replace(Some(run));
        before.has_next.set(true);
        self.wakers.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }
}

/// A task's place in the list of wakers.
struct Place<'a> {
    everybody: &'a Everybody,
    at: usize,
}

impl<'a> Place<'a> {
    fn take(everybody: &'a Everybody, waker: &Waker) -> Self {
        let mut wakers = everybody.wakers.borrow_mut();
        let at = everybody.free.borrow_mut().pop().unwrap_or(wakers.len());
        if at == wakers.len() {
            wakers.push(None);
        }
        wakers[at] = Some(waker.clone());
        Self { everybody, at }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.everybody.wakers.borrow_mut()[self.at] = None;
        self.everybody.free.borrow_mut().push(self.at);
    }
}

async fn subscribe(mut stream: TcpStream, is_websocket: bool, everybody: &Everybody) -> io::Result<()> {
    let answer = loop_for_head(&mut stream, is_websocket).await?;
    stream.write_all(answer).await.0?;
    let (mut reader, mut writer) = stream.into_split();
    // The waker of a task is the same as long as it lives.
    let _place = poll_fn(|context| Poll::Ready(Place::take(everybody, context.waker()))).await;
    let mut run = Rc::clone(&everybody.last.borrow());
    let mut end = pin!(async move {
        let mut said = Vec::with_capacity(SAID_BYTES);
        loop {
            let (count, buffer) = reader.read(said).await;
            said = buffer;
            if matches!(count, Ok(0) | Err(_)) {
                return;
            }
        }
    });
    let mut has_ended = false;
    while !has_ended {
        poll_fn(|context| {
            if run.has_next.get() {
                return Poll::Ready(());
            }
            has_ended = end.as_mut().poll(context).is_ready();
            if has_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let next = run.next.borrow().clone();
        let Some(next) = next.filter(|_| !has_ended) else { continue };
        run = next;
        if writer.write_all(Rc::clone(&run.bytes)).await.0.is_err() {
            // The socket stays open as long as the read is under way; it ends by what has broken the write.
            end.as_mut().await;
            has_ended = true;
        }
    }
    Ok(())
}

async fn loop_for_head(stream: &mut TcpStream, is_websocket: bool) -> io::Result<Vec<u8>> {
    let (count, mut head) = stream.read(Vec::with_capacity(HEAD_BYTES)).await;
    let mut count = count?;
    loop {
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(answer) = head::answer(is_websocket, &head) {
            return Ok(answer.as_ref().to_vec());
        }
        let (more, part) = stream.read(Vec::with_capacity(HEAD_BYTES)).await;
        count = more?;
        head.extend_from_slice(&part);
    }
}

async fn hear_publishers(listener: TcpListener, mut framer: Framer, is_each: bool, everybody: Rc<Everybody>) {
    let mut out = Vec::new();
    let mut space = Vec::with_capacity(JOINED_BYTES_MAX);
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut lines = Vec::new();
        loop {
            let (count, buffer) = stream.read(space).await;
            space = buffer;
            if matches!(count, Ok(0) | Err(_)) {
                break;
            }
            lines.extend_from_slice(&space);
            loop {
                out.clear();
                let used = framer.frame_lines(&lines, is_each, &mut out);
                if used == 0 {
                    break;
                }
                lines.drain(..used);
                everybody.publish(&out);
            }
        }
    }
}
