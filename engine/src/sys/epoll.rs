//! Parked sockets with epoll.
use std::io;
use std::os::fd::OwnedFd;

use super::buffers::Buffers;
use super::*;

#[derive(Debug)]
pub(super) struct Epoll {
    pub(super) buffers: Buffers,
}

impl Epoll {
    pub(super) fn new(_eventfd: &EventFd, _options: &ParkedOptions) -> io::Result<Self> {
        unimplemented!()
    }
    pub(super) fn add(&mut self, _fd: OwnedFd, _token: u64) -> io::Result<SocketId> {
        unimplemented!()
    }
    pub(super) fn send_batch(&mut self, _sends: &[Send<'_>], _failed: &mut Vec<(usize, SendOutcome)>) {
        unimplemented!()
    }
    pub(super) fn watch_writable(&mut self, _socket: SocketId, _on: bool) {
        unimplemented!()
    }
    pub(super) fn receive(&mut self, _socket: SocketId) {
        unimplemented!()
    }
    pub(super) fn take_back(&mut self, _socket: SocketId) -> io::Result<OwnedFd> {
        unimplemented!()
    }
    pub(super) fn close(&mut self, _socket: SocketId, _how: Closing) {
        unimplemented!()
    }
    pub(super) fn harvest(&mut self, _max: usize, _events: &mut Vec<ParkedEvent>) -> bool {
        unimplemented!()
    }
    pub(super) fn has_work(&mut self) -> bool {
        unimplemented!()
    }
    pub(super) fn sleeper(&self) -> io::Result<Sleeper> {
        unimplemented!()
    }
    pub(super) fn len(&self) -> usize {
        unimplemented!()
    }
}
