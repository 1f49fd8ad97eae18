//! The members of a set: a dense list of slot numbers that neither copies nor keeps much when it grows to
//! millions and shrinks again.

use std::ops::{Index, IndexMut};

/// Numbers of a chunk. Only the last chunk is not full.
const CHUNK: usize = 4_096;
/// A chunk with room for no more than so many is not made smaller.
const ROOM_KEPT: usize = 64;

/// Slot numbers, in a vector from the second on: a set of one takes no allocation.
#[derive(Debug, Default)]
pub(crate) enum Members {
    #[default]
    None,
    One(u32),
    /// At least two. Boxed, so that a set of one, of which there may be millions, stays small.
    Many(Box<Chunks>),
}

/// Chunks that are all full but the last.
#[derive(Debug)]
pub(crate) struct Chunks {
    chunks: Vec<Vec<u32>>,
    len: usize,
}

impl Chunks {
    fn push(&mut self, slot: u32) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(slot);
            self.len += 1;
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let is_only = self.chunks.len() == 1;
        let last = self.chunks.last_mut()?;
        let slot = last.pop()?;
        self.len -= 1;
        if last.is_empty() {
            self.chunks.pop();
            self.chunks.shrink_to(2 * self.chunks.len());
        } else if is_only && last.capacity() > ROOM_KEPT && last.len() * 4 < last.capacity() {
            last.shrink_to(last.len() * 2);
        }
        Some(slot)
    }
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&u32> {
        match self {
            Self::None => None,
            Self::One(slot) => (index == 0).then_some(slot),
            Self::Many(many) => many.chunks.get(index / CHUNK)?.get(index % CHUNK),
        }
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, slot: u32) {
        match self {
            Self::None => *self = Self::One(slot),
            // Grows as it needs: most sets are small.
            Self::One(first) => {
                *self = Self::Many(Box::new(Chunks { chunks: vec![vec![*first, slot]], len: 2 }));
            }
            Self::Many(many) => many.push(slot),
        }
    }

    /// Takes one out; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, index: usize) {
        let Self::Many(many) = self else {
            assert!(index < self.len(), "there is a member at {index}");
            *self = Self::None;
            return;
        };
        assert!(index < many.len, "there is a member at {index}");
        if let Some(last) = many.pop()
            && index < many.len
        {
            many.chunks[index / CHUNK][index % CHUNK] = last;
        }
        if many.len == 1 {
            *self = Self::One(many.chunks[0][0]);
        }
    }

    /// Members that there is room for without an allocation.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 1,
            Self::Many(many) => many.chunks.iter().map(Vec::capacity).sum(),
        }
    }
}

impl Index<usize> for Members {
    type Output = u32;

    fn index(&self, index: usize) -> &u32 {
        self.get(index).expect("a slot knows its place in its set")
    }
}

impl IndexMut<usize> for Members {
    fn index_mut(&mut self, index: usize) -> &mut u32 {
        match self {
            Self::One(slot) if index == 0 => slot,
            Self::Many(many) => &mut many.chunks[index / CHUNK][index % CHUNK],
            _ => panic!("there is no member at {index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number below `below` (xorshift64).
    fn random(state: &mut u64, below: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state % below as u64) as usize
    }

    #[test]
    fn members_are_what_a_vector_would_hold_and_give_their_room_back() {
        let (mut members, mut model) = (Members::default(), Vec::new());
        let mut state = 5;
        for round in 0..60_000 {
            // Grows to some 10,000, and then shrinks to none.
            let grows = if round < 30_000 { 70 } else { 25 };
            if model.is_empty() || random(&mut state, 100) < grows {
                members.push(round);
                model.push(round);
            } else {
                let index = random(&mut state, model.len());
                members.swap_remove(index);
                model.swap_remove(index);
            }
            assert_eq!((members.len(), members.is_empty()), (model.len(), model.is_empty()));
            let room = members.capacity();
            assert!(room <= (model.len() + CHUNK).max(ROOM_KEPT), "room for {room} with {}", model.len());
            if round % 1_000 == 0 {
                assert!(model.iter().enumerate().all(|(index, slot)| members[index] == *slot));
                assert_eq!(members.get(model.len()), None);
            }
        }
        while !members.is_empty() {
            members.swap_remove(0);
        }
        assert_eq!(members.capacity(), 1);
    }
}
