//! What a real network does to packets, done to the ghosts': delay, loss, and another order.

use std::collections::VecDeque;

use serde::Serialize;

/// What is done to packets, in both directions alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Impairments {
    /// One way, in milliseconds: the round trip is twice as long.
    pub delay_ms: u32,
    /// Share of the packets that are lost, 0 to 1.
    pub loss: f64,
    /// Share of the packets that wait for half as long again, and so come after later ones. Takes effect only
    /// with a delay.
    pub reordered: f64,
}

impl Impairments {
    /// Whether packets pass as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One direction of the network.
pub(super) struct Path {
    how: Impairments,
    /// Packets that are on the way, soonest first; and those that take longer.
    on_time: VecDeque<(u32, Box<[u8]>)>,
    late: VecDeque<(u32, Box<[u8]>)>,
    state: u64,
    /// Packets that were lost.
    pub(super) lost: u64,
}

impl Path {
    pub(super) fn new(how: Impairments, seed: u64) -> Self {
        Self { how, on_time: VecDeque::new(), late: VecDeque::new(), state: seed | 1, lost: 0 }
    }

    /// A number from 0 up to 1 (xorshift64).
    fn chance(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A packet sets out.
    pub(super) fn enter(&mut self, now_ms: u32, packet: &[u8]) {
        if self.how.loss > 0.0 && self.chance() < self.how.loss {
            self.lost += 1;
            return;
        }
        let delay = self.how.delay_ms;
        if self.how.reordered > 0.0 && self.chance() < self.how.reordered {
            self.late.push_back((now_ms.wrapping_add(delay + delay / 2), packet.into()));
        } else {
            self.on_time.push_back((now_ms.wrapping_add(delay), packet.into()));
        }
    }

    /// The next packet that has arrived.
    pub(super) fn leave(&mut self, now_ms: u32) -> Option<Box<[u8]>> {
        let is_there = |queue: &VecDeque<(u32, Box<[u8]>)>| {
            queue.front().is_some_and(|(due, _)| now_ms.wrapping_sub(*due) as i32 >= 0)
        };
        if is_there(&self.on_time) {
            return self.on_time.pop_front().map(|(_, packet)| packet);
        }
        if is_there(&self.late) {
            return self.late.pop_front().map(|(_, packet)| packet);
        }
        None
    }

    /// Whether nothing is on the way.
    pub(super) fn is_empty(&self) -> bool {
        self.on_time.is_empty() && self.late.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_delayed_lost_and_reordered_in_the_shares_that_were_asked_for() {
        let mut path = Path::new(Impairments { delay_ms: 10, loss: 0.1, reordered: 0.2 }, 7);
        for number in 0..10_000_u32 {
            path.enter(0, &number.to_be_bytes());
        }
        assert_eq!(path.leave(9), None, "nothing comes before the delay");
        let on_time: Vec<_> = std::iter::from_fn(|| path.leave(10)).collect();
        let late: Vec<_> = std::iter::from_fn(|| path.leave(15)).collect();
        assert!((900..1_100).contains(&path.lost), "{} lost", path.lost);
        assert!((1_600..2_000).contains(&late.len()), "{} late", late.len());
        assert_eq!(path.lost as usize + on_time.len() + late.len(), 10_000);
        assert!(on_time.is_sorted() && late.is_sorted() && path.is_empty());
    }
}
