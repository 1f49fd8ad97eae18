//! Admission: how many connections there may be, in all and from one address, and what each of them holds of
//! that.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use crate::config::Limits;

/// Who is connected, for all shards: a lock that is held for some dozens of nanoseconds a connection.
///
/// An address costs one entry however many connections it has, so that a connection itself holds only eight
/// bytes.
pub(crate) struct Admissions {
    connections_max: usize,
    per_address_max: u32,
    hasher: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    connections: usize,
    /// The entries in use, by their address.
    places: HashTable<u32>,
    entries: Vec<Entry>,
    /// Entries that no connection uses.
    free: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry {
    address: IpAddr,
    /// Invariant: more than 0 unless the entry is in `free`.
    connections: u32,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum AdmissionError {
    /// There are `limit` connections in all.
    All {
        /// `limits.connections`.
        limit: usize,
    },
    /// There are `limit` connections from this address.
    Address {
        /// `limits.connections_per_address`.
        limit: u32,
    },
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All { limit } => write!(f, "{limit} connections are open; no more are taken"),
            Self::Address { limit } => {
                write!(f, "{limit} connections are open from this address; no more are taken")
            }
        }
    }
}

impl std::error::Error for AdmissionError {}

impl Admissions {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections_max: limits.connections,
            per_address_max: u32::try_from(limits.connections_per_address).unwrap_or(u32::MAX),
            hasher: RandomState::new(),
            inner: Mutex::default(),
        })
    }

    /// Lets a connection from `peer` in, or not. `is_loopback` says whether it came to a listener on a
    /// loopback address, where `Host` is checked.
    ///
    /// # Errors
    /// [`AdmissionError`] names the limit that is reached.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: SocketAddr,
        is_loopback: bool,
    ) -> Result<Permit, AdmissionError> {
        // One host is one address, whether it comes over IPv4 or as IPv4 in IPv6.
        let address = peer.ip().to_canonical();
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.connections >= self.connections_max {
            return Err(AdmissionError::All { limit: self.connections_max });
        }
        let index = inner.place(address, &self.hasher);
        let entry = &mut inner.entries[index as usize];
        if entry.connections >= self.per_address_max {
            let limit = self.per_address_max;
            inner.leave_if_empty(index, &self.hasher);
            return Err(AdmissionError::Address { limit });
        }
        entry.connections += 1;
        inner.connections += 1;
        let raw = RawPermit::new(index, peer.port(), is_loopback);
        drop(guard);
        Ok(self.permit(raw))
    }

    /// A permit again of what [`Permit::into_raw`] made of one; each raw one may be given back once.
    pub(crate) fn permit(self: &Arc<Self>, raw: RawPermit) -> Permit {
        Permit { admissions: Some(Arc::clone(self)), raw }
    }

    /// Connections that hold a permit.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can leave the figures half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, index: u32) {
        let mut inner = self.lock();
        inner.connections -= 1;
        inner.entries[index as usize].connections -= 1;
        inner.leave_if_empty(index, &self.hasher);
    }
}

impl Inner {
    /// The entry of `address`, made if there is none.
    fn place(&mut self, address: IpAddr, hasher: &RandomState) -> u32 {
        let Self { places, entries, free, .. } = self;
        let is_same = |index: &u32| entries[*index as usize].address == address;
        if let Some(&index) = places.find(hasher.hash_one(address), is_same) {
            return index;
        }
        let entry = Entry { address, connections: 0 };
        let index = match free.pop() {
            Some(index) => {
                entries[index as usize] = entry;
                index
            }
            None => {
                entries.push(entry);
                u32::try_from(entries.len() - 1)
                    .expect("fewer addresses than connections, and those fit 32 bits")
            }
        };
        places.insert_unique(hasher.hash_one(address), index, |index| {
            hasher.hash_one(entries[*index as usize].address)
        });
        index
    }

    fn leave_if_empty(&mut self, index: u32, hasher: &RandomState) {
        let Entry { address, connections } = self.entries[index as usize];
        if connections > 0 {
            return;
        }
        if let Ok(place) = self.places.find_entry(hasher.hash_one(address), |other| *other == index) {
            place.remove();
        }
        self.free.push(index);
    }
}

/// One connection that is counted, in all and for its address, until this is dropped.
pub(crate) struct Permit {
    /// None once it was made raw: nothing is released then.
    admissions: Option<Arc<Admissions>>,
    raw: RawPermit,
}

/// A [`Permit`] as a parked slot keeps it: the entry of its address, its port, and how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawPermit(pub(crate) u64);

impl RawPermit {
    const LOOPBACK: u64 = 1 << 48;

    fn new(index: u32, port: u16, is_loopback: bool) -> Self {
        let flag = if is_loopback { Self::LOOPBACK } else { 0 };
        Self(u64::from(index) | u64::from(port) << 32 | flag)
    }

    fn index(self) -> u32 {
        self.0 as u32
    }

    fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }
}

impl Permit {
    /// The other side of the connection.
    pub(crate) fn peer(&self) -> SocketAddr {
        let admissions = self.admissions.as_ref().expect("a permit that was made raw is gone");
        let address = admissions.lock().entries[self.raw.index() as usize].address;
        SocketAddr::new(address, self.raw.port())
    }

    /// Whether the connection came to a listener on a loopback address.
    pub(crate) fn is_loopback(&self) -> bool {
        self.raw.0 & RawPermit::LOOPBACK != 0
    }

    /// Eight bytes instead; [`Admissions::permit`] makes a permit of them again. Whoever loses them has the
    /// connection counted for ever.
    #[must_use]
    pub(crate) fn into_raw(mut self) -> RawPermit {
        self.admissions = None;
        self.raw
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admissions) = &self.admissions {
            admissions.release(self.raw.index());
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admissions(connections: usize, per_address: usize) -> Arc<Admissions> {
        let limits = Limits { connections, connections_per_address: per_address, ..Limits::default() };
        Admissions::new(&limits)
    }

    fn peer(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], port))
    }

    #[test]
    fn a_limit_holds_until_a_permit_is_dropped() {
        let admissions = admissions(3, 2);
        let first = admissions.admit(peer(1, 1), false).unwrap();
        let _second = admissions.admit(peer(1, 2), false).unwrap();
        assert_eq!(admissions.admit(peer(1, 3), false).unwrap_err(), AdmissionError::Address { limit: 2 });
        let _other = admissions.admit(peer(2, 1), false).unwrap();
        assert_eq!(admissions.admit(peer(3, 1), false).unwrap_err(), AdmissionError::All { limit: 3 });
        drop(first);
        assert!(admissions.admit(peer(1, 3), false).is_ok());
        assert_eq!(admissions.connections(), 2);
    }

    #[test]
    fn a_raw_permit_counts_on_and_knows_the_peer() {
        let admissions = admissions(10, 10);
        for is_loopback in [false, true] {
            let peers = [peer(7, 65_535), "[2001:db8::1]:9".parse().unwrap()];
            for peer in peers {
                let raw = admissions.admit(peer, is_loopback).unwrap().into_raw();
                assert_eq!(admissions.connections(), 1);
                let permit = admissions.permit(raw);
                assert_eq!((permit.peer(), permit.is_loopback()), (peer, is_loopback));
                drop(permit);
                assert_eq!(admissions.connections(), 0);
            }
        }
        assert_eq!(size_of::<RawPermit>(), 8);
    }

    #[test]
    fn an_address_leaves_nothing_behind() {
        let admissions = admissions(1_000, 1);
        for round in 0..3 {
            let permits: Vec<_> =
                (0..=255).map(|last| admissions.admit(peer(last, 1), false).unwrap()).collect();
            assert!(permits.iter().zip(0..=255).all(|(permit, last)| permit.peer() == peer(last, 1)));
            drop(permits);
            let inner = admissions.lock();
            assert_eq!((inner.entries.len(), inner.free.len(), inner.places.len()), (256, 256, 0), "{round}");
        }
    }

    #[test]
    fn an_address_over_its_limit_of_none_leaves_nothing_behind() {
        let admissions = admissions(10, 0);
        assert!(admissions.admit(peer(1, 1), false).is_err());
        assert!(admissions.lock().places.is_empty());
    }

    #[test]
    fn ipv4_in_ipv6_is_the_same_address() {
        let admissions = admissions(10, 1);
        let _permit = admissions.admit(peer(1, 1), false).unwrap();
        assert!(admissions.admit("[::ffff:192.0.2.1]:5".parse().unwrap(), false).is_err());
    }
}
