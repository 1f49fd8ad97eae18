//! The raw ring loop: the floor of every figure of the engine's parked subscribers.
//!
//! A connection is a direct descriptor in the table of one of the rings, one armed multishot poll, and one
//! bit: whether it gets events. A fan-out is a walk over those bits.

mod slots;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::control::{Control, HEARTBEAT};
use super::{Options, Served, listen};
use slots::{Slots, Space};

/// Rounds after which the control port is looked at, though nothing has slept.
const ROUNDS: u32 = 16;

/// Between two slices of the heartbeats.
const SLICE: Duration = Duration::from_secs(1);

pub(super) fn serve(options: &Options) -> Served {
    Server::new(options)?.run()
}

struct Server {
    listener: TcpListener,
    control: Control,
    /// Signalled by all rings while the loop sleeps.
    eventfd: OwnedFd,
    rings: Vec<Slots>,
    /// What all rings use.
    space: Space,
    /// What is to be sent next.
    next: Vec<u8>,
    heartbeat: Option<Heartbeat>,
}

/// Everybody hears a comment once in as many slices.
struct Heartbeat {
    slices: usize,
    slice: usize,
    due: Instant,
}

impl Server {
    fn new(options: &Options) -> io::Result<Self> {
        let control = Control::bind(options)?;
        // SAFETY: takes numbers only.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if eventfd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for us.
        let eventfd = unsafe { OwnedFd::from_raw_fd(eventfd) };
        let slices = options.heartbeat.map(|seconds| usize::from(seconds).max(1));
        Ok(Self {
            listener: listen(options.port)?,
            control,
            eventfd,
            rings: Vec::new(),
            space: Space::new(options.websocket),
            next: Vec::new(),
            heartbeat: slices.map(|slices| Heartbeat { slices, slice: 0, due: Instant::now() + SLICE }),
        })
    }

    fn run(mut self) -> io::Result<Infallible> {
        // What is readable was told by the kernel, or should be asked for.
        let mut look = true;
        let mut rounds = 0;
        loop {
            let mut is_idle = true;
            for ring in &mut self.rings {
                if ring.has_work() {
                    ring.work(&mut self.space)?;
                    is_idle = false;
                }
            }
            self.accept()?;
            if look || rounds >= ROUNDS {
                rounds = 0;
                look = self.control.take(&mut self.next)?;
                if look {
                    self.send_to_all()?;
                    is_idle = false;
                }
            }
            if self.beat()? {
                is_idle = false;
            }
            rounds += 1;
            if is_idle {
                look = self.sleep()?;
            }
        }
    }

    /// Sees to it that exactly one ring accepts, and has room.
    fn accept(&mut self) -> io::Result<()> {
        if self.rings.iter().any(Slots::is_accepting) {
            return Ok(());
        }
        let roomiest = self.rings.iter_mut().max_by_key(|ring| ring.room()).filter(|ring| ring.room() > 0);
        match roomiest {
            Some(ring) => ring.accept(self.listener.as_raw_fd()),
            None => {
                let mut ring = Slots::new(self.eventfd.as_raw_fd())?;
                ring.accept(self.listener.as_raw_fd())?;
                self.rings.push(ring);
                Ok(())
            }
        }
    }

    fn send_to_all(&mut self) -> io::Result<()> {
        self.settle()?;
        // Whoever takes it in part is known only when the completions are read: it is kept until the next.
        std::mem::swap(&mut self.next, &mut self.space.last);
        for ring in &mut self.rings {
            ring.send(&self.space.last, 0, 1)?;
        }
        Ok(())
    }

    /// Whoever did not take all of the last send gets no other before the rest of it.
    fn settle(&mut self) -> io::Result<()> {
        self.rings.iter_mut().try_for_each(|ring| ring.settle(&mut self.space))
    }

    /// Sends the comments that are due; false if none are.
    fn beat(&mut self) -> io::Result<bool> {
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(false) };
        if Instant::now() < heartbeat.due {
            return Ok(false);
        }
        heartbeat.due += SLICE;
        let (slice, slices) = (heartbeat.slice, heartbeat.slices);
        heartbeat.slice = (slice + 1) % slices;
        self.settle()?;
        self.space.last.clear();
        self.space.last.extend_from_slice(HEARTBEAT);
        for ring in &mut self.rings {
            ring.send(&self.space.last, slice, slices)?;
        }
        Ok(true)
    }

    /// Sleeps until there is something to do; true if the control port has something.
    fn sleep(&mut self) -> io::Result<bool> {
        for ring in &mut self.rings {
            ring.signal(true);
        }
        // A ring that gets work from here on signals; what it got before is seen here.
        fence(Ordering::SeqCst);
        let mut has_events = false;
        if !self.rings.iter_mut().any(Slots::has_work) {
            let mut waited = [self.eventfd.as_raw_fd(), self.control.fd()].map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            let until = self.heartbeat.as_ref().map(|heartbeat| heartbeat.due - Instant::now());
            // A millisecond more than is left, so that it is due when the sleep is over.
            let timeout = until.map_or(-1, |until| until.as_millis() as i32 + 1);
            // SAFETY: the kernel writes to as many entries as there are, all ours.
            let count = unsafe { libc::poll(waited.as_mut_ptr(), waited.len() as _, timeout) };
            if count < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(io::Error::last_os_error());
            }
            if count > 0 && waited[0].revents != 0 {
                let mut signals = 0u64;
                // SAFETY: the kernel writes 8 bytes, which are ours.
                unsafe { libc::read(self.eventfd.as_raw_fd(), (&raw mut signals).cast(), 8) };
            }
            has_events = count > 0 && waited[1].revents != 0;
        }
        for ring in &mut self.rings {
            ring.signal(false);
        }
        Ok(has_events)
    }
}
