//! Numbered things in pages: what grows copies nothing, a number stays good as long as its thing is there,
//! and a page of which nothing is left is given back.

/// Things of `T` under numbers from 0, `ITEMS` a page (a multiple of 64). The lowest vacant number is taken
/// first, so that the last pages become empty when few are left.
#[derive(Debug)]
pub(crate) struct Pages<T, const ITEMS: usize> {
    /// Without items where the page is given back.
    pages: Vec<Box<[T]>>,
    marks: Vec<Mark>,
    /// One bit a page: it has vacant numbers.
    spacious: Vec<u64>,
    /// No word of `spacious` before this one has a bit.
    first: usize,
    used: usize,
    /// A page of which nothing is in use, kept so that one thing that comes and goes makes no page each time.
    spare: Option<usize>,
}

/// Which numbers of a page are in use.
#[derive(Debug)]
struct Mark {
    /// One bit a number: it is vacant.
    vacant: Box<[u64]>,
    used: u32,
}

impl<T, const ITEMS: usize> Default for Pages<T, ITEMS> {
    fn default() -> Self {
        const { assert!(ITEMS.is_multiple_of(64) && ITEMS > 0) };
        Self { pages: Vec::new(), marks: Vec::new(), spacious: Vec::new(), first: 0, used: 0, spare: None }
    }
}

impl<T, const ITEMS: usize> Pages<T, ITEMS> {
    /// Numbers in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Numbers are below.
    pub(crate) fn capacity(&self) -> u32 {
        (self.pages.len() * ITEMS) as u32
    }

    /// Takes a vacant number. What stands there is what the number's last life left; `fresh` makes the things
    /// of a new page.
    pub(crate) fn take(&mut self, mut fresh: impl FnMut() -> T) -> u32 {
        let page = self.page_with_room();
        if self.pages[page].is_empty() {
            self.pages[page] = (0..ITEMS).map(|_| fresh()).collect();
            self.marks[page].vacant = vec![u64::MAX; ITEMS / 64].into();
        }
        if self.spare == Some(page) {
            self.spare = None;
        }
        let mark = &mut self.marks[page];
        let (word, bits) = mark
            .vacant
            .iter_mut()
            .enumerate()
            .find(|(_, bits)| **bits != 0)
            .expect("a page that is marked as spacious has a vacant number");
        let bit = bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        mark.used += 1;
        if mark.used as usize == ITEMS {
            self.spacious[page / 64] &= !(1 << (page % 64));
        }
        self.used += 1;
        (page * ITEMS + word * 64 + bit) as u32
    }

    /// The first page with a vacant number; a new one if there is none.
    fn page_with_room(&mut self) -> usize {
        while let Some(&word) = self.spacious.get(self.first) {
            if word != 0 {
                return self.first * 64 + word.trailing_zeros() as usize;
            }
            self.first += 1;
        }
        let page = self.pages.len();
        self.pages.push(Box::default());
        self.marks.push(Mark { vacant: Box::default(), used: 0 });
        if page.is_multiple_of(64) {
            self.spacious.push(0);
        }
        self.spacious[page / 64] |= 1 << (page % 64);
        self.first = page / 64;
        page
    }

    /// Gives a number back. Returns a page's things where nothing is left in it and it is not kept.
    ///
    /// # Panics
    /// If the number is vacant.
    pub(crate) fn give_back(&mut self, number: u32) -> Option<Box<[T]>> {
        let (page, item) = (number as usize / ITEMS, number as usize % ITEMS);
        let mark = &mut self.marks[page];
        let bits = &mut mark.vacant[item / 64];
        assert_eq!(*bits & 1 << (item % 64), 0, "a number is given back once");
        *bits |= 1 << (item % 64);
        mark.used -= 1;
        self.used -= 1;
        self.spacious[page / 64] |= 1 << (page % 64);
        self.first = self.first.min(page / 64);
        if self.marks[page].used > 0 {
            return None;
        }
        let dropped = match self.spare.replace(page) {
            None => return None,
            Some(spare) => {
                self.spare = Some(spare.min(page));
                spare.max(page)
            }
        };
        let things = std::mem::take(&mut self.pages[dropped]);
        self.marks[dropped].vacant = Box::default();
        self.shorten();
        Some(things)
    }

    /// Drops what is left of pages at the end that were given back.
    fn shorten(&mut self) {
        while self.pages.last().is_some_and(|page| page.is_empty()) {
            self.pages.pop();
            self.marks.pop();
            let page = self.pages.len();
            self.spacious[page / 64] &= !(1 << (page % 64));
            self.spacious.truncate(page.div_ceil(64));
        }
        self.first = self.first.min(self.spacious.len());
        if self.pages.capacity() > 64 && self.pages.len() < self.pages.capacity() / 4 {
            let keep = self.pages.len() * 2;
            self.pages.shrink_to(keep);
            self.marks.shrink_to(keep);
            self.spacious.shrink_to(keep.div_ceil(64));
        }
    }

    /// The thing of this number, whether in use or not; none where its page is not there.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.pages.get(number as usize / ITEMS)?.get(number as usize % ITEMS)
    }

    /// The things from this number on, whether in use or not, to the end of its page; none where the page is
    /// not there.
    pub(crate) fn page_from(&self, number: u32) -> &[T] {
        let page = self.pages.get(number as usize / ITEMS).map_or(&[][..], |page| page);
        page.get(number as usize % ITEMS..).unwrap_or_default()
    }

    /// As [`Pages::get`], to be changed.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.pages.get_mut(number as usize / ITEMS)?.get_mut(number as usize % ITEMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Pages<u64, 64>;

    fn put(pages: &mut Small, value: u64) -> u32 {
        let number = pages.take(|| 0);
        *pages.get_mut(number).unwrap() = value;
        number
    }

    #[test]
    fn every_number_is_given_once_and_keeps_its_thing_whatever_comes_and_goes() {
        let mut pages = Small::default();
        let mut held: Vec<(u32, u64)> = Vec::new();
        let mut random = 7u64;
        for step in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // It grows for a while, then shrinks, and so on.
            let grows = (step / 2_000).is_multiple_of(2);
            let is_taken = (random >> 33) % 100 < if grows { 70 } else { 30 };
            if is_taken || held.is_empty() {
                let number = put(&mut pages, step);
                assert!(held.iter().all(|(other, _)| *other != number), "{number} is in use");
                held.push((number, step));
            } else {
                let (number, value) = held.swap_remove((random >> 40) as usize % held.len());
                assert_eq!(pages.get(number), Some(&value));
                pages.give_back(number);
            }
            assert_eq!(pages.used(), held.len());
        }
        for (number, value) in held {
            assert_eq!(pages.get(number), Some(&value));
        }
    }

    #[test]
    fn pages_of_which_nothing_is_left_are_given_back_all_but_one() {
        let mut pages = Small::default();
        let numbers: Vec<u32> = (0..640).map(|n| put(&mut pages, n)).collect();
        assert_eq!(pages.capacity(), 640);
        let mut dropped = 0;
        for &number in numbers.iter().rev() {
            dropped += usize::from(pages.give_back(number).is_some());
        }
        assert_eq!((dropped, pages.capacity(), pages.used()), (9, 64, 0));
        assert!(pages.get(64).is_none());
        assert_eq!(put(&mut pages, 1), 0, "the lowest vacant number is taken");
    }

    #[test]
    fn one_thing_that_comes_and_goes_makes_no_page_each_time() {
        let mut pages = Small::default();
        let full: Vec<u32> = (0..64).map(|n| put(&mut pages, n)).collect();
        let mut made = 0;
        for _ in 0..10 {
            let number = pages.take(|| {
                made += 1;
                0
            });
            assert_eq!(number, 64);
            assert!(pages.give_back(number).is_none());
        }
        assert_eq!(made, 64, "the page was made once");
        for number in full {
            pages.give_back(number);
        }
        assert_eq!(pages.capacity(), 64);
    }

    #[test]
    fn a_page_in_the_middle_that_was_given_back_is_made_again() {
        let mut pages = Small::default();
        let numbers: Vec<u32> = (0..256).map(|n| put(&mut pages, n)).collect();
        for &number in &numbers[..192] {
            pages.give_back(number);
        }
        assert!(pages.get(64).is_none() && pages.get(130).is_none());
        assert_eq!((pages.get(5).is_some(), pages.get(200)), (true, Some(&200)));
        for n in 0..192 {
            assert_eq!(put(&mut pages, n), n as u32);
        }
        assert_eq!(pages.capacity(), 256);
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn a_number_is_given_back_once() {
        let mut pages = Small::default();
        let number = put(&mut pages, 1);
        put(&mut pages, 2);
        pages.give_back(number);
        pages.give_back(number);
    }
}
