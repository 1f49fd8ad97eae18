//! Connections that go from the listener into the table of a ring, without a descriptor of the process: that
//! saves its making, its closing, and a system call for each.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use super::super::SocketId;
use super::super::sockopt::{PeerName, is_of_listener};
use super::{GENERATION_MASK, INDEX_BITS, Place, Rings, State, What, buffer_of, data, index_of};
use crate::sys::ring::Completion;

/// Most connections that one call takes.
const ACCEPTS_MAX: usize = 64;

/// What accepting needs.
#[derive(Debug)]
pub(super) struct Accepting {
    /// The kernel does not know how (before Linux 6.10).
    is_unknown: bool,
    /// Where the kernel writes the addresses of the peers.
    peers: Box<[PeerName]>,
    /// Kept for its memory.
    completions: Vec<Completion>,
}

impl Default for Accepting {
    fn default() -> Self {
        let peers = (0..ACCEPTS_MAX).map(|_| PeerName::empty()).collect();
        Self { is_unknown: false, peers, completions: Vec::new() }
    }
}

impl Rings {
    /// See [`super::super::ParkedSet::accept`].
    pub(in crate::sys) fn accept(
        &mut self,
        listener: &TcpListener,
        max: usize,
        connections: &mut Vec<(SocketId, SocketAddr)>,
    ) -> io::Result<bool> {
        if self.accepting.is_unknown || !self.has_place() && self.add_table().is_err() {
            return Ok(false);
        }
        let number = self.spacious;
        self.hush(number);
        let table = &mut self.tables[number];
        let Accepting { peers, completions, .. } = &mut self.accepting;
        let mut asked = 0;
        for (at, peer) in peers.iter_mut().enumerate().take(max) {
            if table.is_full() {
                break;
            }
            let index = table.take_free();
            *peer = PeerName::empty();
            let (name, len) = peer.pointers();
            let data = data(What::Accept, 0, index, at as u16);
            // SAFETY: nobody touches `peers` until the ring was submitted, below. Should a panic come
            // between, they live as long as the ring, as part of the same `Rings`.
            unsafe { table.ring.push_accept(data, listener.as_fd(), index, name, len) };
            // Operations begin in the order of the queue, and the accept is over by then.
            table.arm(index);
            asked += 1;
        }
        table.ring.submit();
        completions.clear();
        let is_accept = |completion: &Completion| completion.data >> 56 == What::Accept as u64;
        table.ring.take_completions(is_accept, |completion| completions.push(completion));
        assert_eq!(completions.len(), asked, "an accept does not wait, so it completes with its submission");
        let mut problem = None;
        for at in 0..asked {
            let Completion { data, result, .. } = self.accepting.completions[at];
            let index = index_of(data);
            let table = &mut self.tables[number];
            if result < 0 {
                let place = &mut table.places[index as usize];
                // Its poll found no socket, and will say so.
                let generation = (place.generation + 1) & GENERATION_MASK;
                *place = Place { generation, is_armed: false, ..*place };
                table.give_free(index);
                let error = io::Error::from_raw_os_error(-result);
                if is_of_listener(&error) {
                    problem = Some(error);
                }
                continue;
            }
            let place = &mut table.places[index as usize];
            *place = Place { token: NO_TOKEN, state: State::Parked, ..*place };
            self.parked += 1;
            let socket = SocketId((number as u32) << INDEX_BITS | index);
            match self.accepting.peers[usize::from(buffer_of(data))].address() {
                Some(address) => connections.push((socket, address)),
                None => self.free(socket),
            }
        }
        match problem {
            // Also that of a listener which is shut: whoever accepts otherwise hears it again.
            Some(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.accepting.is_unknown = true;
                Ok(false)
            }
            Some(error) => Err(error),
            None => Ok(true),
        }
    }
}

/// The token of a socket that nobody was told of yet: no slot has it.
const NO_TOKEN: u64 = u64::MAX;
