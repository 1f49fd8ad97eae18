//! The plain loop: epoll tells of connections, heads and hang-ups, and a fan-out is one `send()` a
//! subscriber.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use super::control::Control;
use super::unsent::Unsent;
use super::{Options, Served, head, listen};

/// Events that one system call tells of.
const EVENTS: usize = 1024;
/// Connections that are accepted before anything else is looked at.
const ACCEPTS: usize = 256;

const HEAD_BYTES: usize = 4096;
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
const WATCHED: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
const HUNG_UP: i32 = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

/// No place among the live.
const NOWHERE: u32 = u32::MAX;

pub(super) fn serve(options: &Options) -> Served {
    Server::new(options)?.run()
}

struct Server {
    listener: TcpListener,
    control: Control,
    epoll: OwnedFd,
    is_websocket: bool,
    /// The sockets that get events.
    live: Vec<RawFd>,
    /// Place of each descriptor in `live`.
    places: Vec<u32>,
    /// Heads that came in part.
    heads: HashMap<RawFd, Vec<u8>>,
    /// Who could not take all; none of them is in `live`.
    unsent: HashMap<RawFd, Unsent>,
}

impl Server {
    fn new(options: &Options) -> io::Result<Self> {
        // SAFETY: takes flags only.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        let server = Self {
            control: Control::bind(options)?,
            listener: listen(options.port)?,
            // SAFETY: the kernel has just made it for us.
            epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
            is_websocket: options.websocket,
            live: Vec::new(),
            places: Vec::new(),
            heads: HashMap::new(),
            unsent: HashMap::new(),
        };
        server.watch(libc::EPOLL_CTL_ADD, server.listener.as_raw_fd(), libc::EPOLLIN)?;
        server.watch(libc::EPOLL_CTL_ADD, server.control.fd(), libc::EPOLLIN)?;
        Ok(server)
    }

    fn run(mut self) -> io::Result<Infallible> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let mut bytes = Vec::new();
        let mut control = self.control.fd();
        // More may be there than was taken.
        let mut look = false;
        loop {
            let timeout = if look { 0 } else { -1 };
            let (epoll, space) = (self.epoll.as_raw_fd(), events.as_mut_ptr());
            // SAFETY: the kernel writes at most `EVENTS` events, which are ours.
            let count = unsafe { libc::epoll_wait(epoll, space, EVENTS as i32, timeout) };
            for event in events.iter().take(count.max(0) as usize) {
                match event.u64 as RawFd {
                    fd if fd == control => look = true,
                    fd if fd == self.listener.as_raw_fd() => self.accept()?,
                    fd => self.handle(fd, event.events as i32)?,
                }
            }
            if look {
                look = self.control.take(&mut bytes)?;
                self.send_to_all(&bytes)?;
                if self.control.fd() != control {
                    let _ = self.watch(libc::EPOLL_CTL_DEL, control, 0);
                    control = self.control.fd();
                    self.watch(libc::EPOLL_CTL_ADD, control, libc::EPOLLIN)?;
                }
            }
        }
    }

    fn watch(&self, how: i32, fd: RawFd, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: the kernel reads one event.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), how, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            let listener = self.listener.as_raw_fd();
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: the address is not asked for.
            let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if fd < 0 {
                match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    error if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    error => return Err(error),
                }
            }
            self.watch(libc::EPOLL_CTL_ADD, fd, WATCHED)?;
            if self.places.len() <= fd as usize {
                self.places.resize(fd as usize + 1, NOWHERE);
            }
        }
        Ok(())
    }

    fn handle(&mut self, fd: RawFd, events: i32) -> io::Result<()> {
        if events & HUNG_UP != 0 {
            self.close(fd);
            return Ok(());
        }
        if events & libc::EPOLLOUT != 0 && self.unsent.contains_key(&fd) {
            self.send_rest(fd)?;
        }
        if events & libc::EPOLLIN != 0
            && self.places[fd as usize] == NOWHERE
            && !self.unsent.contains_key(&fd)
        {
            self.receive(fd);
        }
        Ok(())
    }

    fn receive(&mut self, fd: RawFd) {
        let mut space = [0; HEAD_BYTES];
        loop {
            // SAFETY: the kernel writes at most that many bytes, which are ours.
            let count = unsafe { libc::recv(fd, space.as_mut_ptr().cast(), space.len(), libc::MSG_DONTWAIT) };
            // A socket at its end or broken is told of as hung up.
            let Ok(count @ 1..) = usize::try_from(count) else { return };
            let bytes = &space[..count];
            let answer = match self.heads.get_mut(&fd) {
                None => head::answer(self.is_websocket, bytes),
                Some(head) => {
                    head.extend_from_slice(bytes);
                    head::answer(self.is_websocket, head)
                }
            };
            if let Some(answer) = answer {
                self.heads.remove(&fd);
                send(fd, answer.as_ref());
                return self.enter(fd);
            }
            self.heads.entry(fd).or_insert_with(|| bytes.to_vec());
        }
    }

    fn enter(&mut self, fd: RawFd) {
        self.places[fd as usize] = self.live.len() as u32;
        self.live.push(fd);
    }

    fn leave(&mut self, fd: RawFd) {
        let place = std::mem::replace(&mut self.places[fd as usize], NOWHERE);
        if place != NOWHERE {
            self.live.swap_remove(place as usize);
            if let Some(&moved) = self.live.get(place as usize) {
                self.places[moved as usize] = place;
            }
        }
    }

    fn close(&mut self, fd: RawFd) {
        self.leave(fd);
        self.heads.remove(&fd);
        self.unsent.remove(&fd);
        // SAFETY: the descriptor is ours, and nothing names it any more.
        unsafe { libc::close(fd) };
    }

    fn send_to_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        for unsent in self.unsent.values_mut() {
            unsent.extend(bytes);
        }
        let mut at = 0;
        while let Some(&fd) = self.live.get(at) {
            let sent = send(fd, bytes);
            if sent == bytes.len() {
                at += 1;
                continue;
            }
            // Another one stands at this place now.
            self.leave(fd);
            self.unsent.insert(fd, Unsent::new(&bytes[sent..]));
            self.watch(libc::EPOLL_CTL_MOD, fd, WATCHED | libc::EPOLLOUT)?;
        }
        Ok(())
    }

    fn send_rest(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(unsent) = self.unsent.get_mut(&fd) else { return Ok(()) };
        let mut is_whole = false;
        while !is_whole {
            let sent = send(fd, unsent.rest());
            if sent == 0 {
                return Ok(());
            }
            is_whole = unsent.advance(sent);
        }
        self.unsent.remove(&fd);
        self.enter(fd);
        self.watch(libc::EPOLL_CTL_MOD, fd, WATCHED)
    }
}

/// Sends what fits at once, and answers how much that was. A broken socket takes nothing; epoll tells of it.
fn send(fd: RawFd, bytes: &[u8]) -> usize {
    // SAFETY: the kernel reads as many bytes as there are.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), SEND_FLAGS) };
    usize::try_from(sent).unwrap_or(0)
}
