//! Numbers found by the hash of what they stand for: a hash table of eight bytes an entry, in parts, so that
//! one that grows to millions never stops its owner for long, and the things themselves stand dense
//! elsewhere.

use hashbrown::HashTable;

const PARTS: usize = 64;

/// A part with more room than this gives some back when it is nearly empty.
const KEPT: usize = 32;

/// Numbers of things that the owner keeps, each under the hash of its key. The owner compares the keys.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Made with the first entry.
    parts: Box<[HashTable<Entry>]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Enough of the hash to grow without the things.
    hash: u32,
    number: u32,
}

fn spread(entry: &Entry) -> u64 {
    spread_hash(entry.hash)
}

/// What the table goes by: the low bits and the highest seven.
fn spread_hash(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

impl Numbers {
    /// The number under `hash` that `is` the one looked for.
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let table = self.parts.get(part(hash))?;
        let hash = hash as u32;
        table.find(spread_hash(hash), |e| e.hash == hash && is(e.number)).map(|e| e.number)
    }

    /// The same, to be replaced by a number that stands for the same key.
    pub(crate) fn find_mut(&mut self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<&mut u32> {
        let table = self.parts.get_mut(part(hash))?;
        let hash = hash as u32;
        table.find_mut(spread_hash(hash), |e| e.hash == hash && is(e.number)).map(|e| &mut e.number)
    }

    /// Adds a number whose key is not there.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        if self.parts.is_empty() {
            self.parts = (0..PARTS).map(|_| HashTable::new()).collect();
        }
        let entry = Entry { hash: hash as u32, number };
        self.parts[part(hash)].insert_unique(spread(&entry), entry, spread);
    }

    /// Takes the number out that `is` the one looked for; false if there is none.
    pub(crate) fn remove(&mut self, hash: u64, mut is: impl FnMut(u32) -> bool) -> bool {
        let Some(table) = self.parts.get_mut(part(hash)) else { return false };
        let hash = hash as u32;
        let Ok(entry) = table.find_entry(spread_hash(hash), |e| e.hash == hash && is(e.number)) else {
            return false;
        };
        entry.remove();
        if table.capacity() > KEPT && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, spread);
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash of some quality, for numbers that are their own keys.
    fn hash(number: u32) -> u64 {
        u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.find(hash(1), |_| true), None);
        for number in 0..10_000 {
            numbers.insert(hash(number), number);
        }
        for number in (0..10_000).step_by(2) {
            assert!(numbers.remove(hash(number), |n| n == number));
            assert!(!numbers.remove(hash(number), |n| n == number));
        }
        for number in 0..10_000 {
            let expected = (number % 2 == 1).then_some(number);
            assert_eq!(numbers.find(hash(number), |n| n == number), expected);
        }
        assert_eq!(numbers.len(), 5_000);
    }

    #[test]
    fn keys_of_one_hash_are_told_apart_by_their_owner() {
        let mut numbers = Numbers::default();
        (0..100).for_each(|number| numbers.insert(7, number));
        for number in 0..100 {
            assert_eq!(numbers.find(7, |n| n == number), Some(number));
        }
        *numbers.find_mut(7, |n| n == 50).unwrap() = 1_000;
        assert_eq!(numbers.find(7, |n| n == 50), None);
        assert!(numbers.remove(7, |n| n == 1_000));
        assert_eq!(numbers.len(), 99);
    }

    #[test]
    fn a_table_that_became_empty_holds_little() {
        use crate::sys::counting::held_bytes;
        let before = held_bytes();
        let mut numbers = Numbers::default();
        (0..100_000).for_each(|number| numbers.insert(hash(number), number));
        assert!(held_bytes() - before > 800_000);
        (0..100_000).for_each(|number| assert!(numbers.remove(hash(number), |n| n == number)));
        assert!(held_bytes() - before < 64 * 1_024, "{}", held_bytes() - before);
    }
}
