//! Prepared events and runs: what one send carries, encoded once and shared by all who get it.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use crate::cursor::{Cursor, Epoch, Offset};
use crate::event::Event;
use crate::log::{Query, Read};
use crate::transport::{self, Answer, Encoding};

/// Bytes that the cache of prepared events may hold before it is emptied.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// The bytes of one send. Cheap to clone: all who are sent them share them.
#[derive(Clone)]
pub(crate) struct Run(Arc<Shared>);

struct Shared {
    bytes: Box<[u8]>,
    /// Where these bytes are counted, once a half-sent subscriber holds them.
    held: OnceLock<Arc<AtomicUsize>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(held) = self.held.get() {
            held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

impl Run {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Shared { bytes: bytes.into(), held: OnceLock::new() }))
    }

    /// Whether it is the very same one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// Counts the bytes, once however many hold them, until the last one lets go.
    pub(crate) fn hold(&self, held: &Arc<AtomicUsize>) {
        self.0.held.get_or_init(|| {
            held.fetch_add(self.len(), Ordering::Relaxed);
            Arc::clone(held)
        });
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run[{}]", self.len())
    }
}

/// The header lines of an answer that differ between requests, and whether the connection goes on after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct HeadVariant {
    /// Lines that each end in CR LF.
    pub(crate) lines: Box<str>,
    pub(crate) keeps_alive: bool,
    pub(crate) is_http10: bool,
}

/// The head variants in use, by the number that an [`Encoding`] carries; number 0 is the default and always
/// there.
#[derive(Debug)]
pub(crate) struct Heads {
    variants: Vec<Option<(HeadVariant, u32)>>,
    by_variant: HashMap<HeadVariant, u32>,
    free: Vec<u32>,
}

impl Heads {
    pub(crate) fn new() -> Self {
        let mut heads = Self { variants: Vec::new(), by_variant: HashMap::new(), free: Vec::new() };
        let number = heads.number(&HeadVariant::default());
        heads.retain(number);
        heads
    }

    /// The number of a variant; it stays until it is released as often as it was retained.
    pub(crate) fn number(&mut self, variant: &HeadVariant) -> u32 {
        if let Some(&number) = self.by_variant.get(variant) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.variants.push(None);
            self.variants.len() as u32 - 1
        });
        self.variants[number as usize] = Some((variant.clone(), 0));
        self.by_variant.insert(variant.clone(), number);
        number
    }

    pub(crate) fn retain(&mut self, number: u32) {
        if let Some(Some((_, count))) = self.variants.get_mut(number as usize) {
            *count += 1;
        }
    }

    pub(crate) fn release(&mut self, number: u32) {
        let Some(entry) = self.variants.get_mut(number as usize) else { return };
        if let Some((variant, count)) = entry {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_variant.remove(variant);
                *entry = None;
                self.free.push(number);
            }
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&HeadVariant> {
        self.variants.get(number as usize)?.as_ref().map(|(variant, _)| variant)
    }
}

/// What the log answered, and the run that is made of it: for all of a set who are at the same place. As good
/// later as it was then: what is dropped meanwhile is in it still.
#[derive(Debug)]
pub(super) struct FromLog {
    read: Read,
    run: OnceCell<Run>,
    /// The answer of a poll, with the second of its date and whether it ends its connection.
    answer: RefCell<Option<(u64, bool, Run)>>,
}

impl FromLog {
    fn new(read: Read) -> Rc<Self> {
        Rc::new(Self { read, run: OnceCell::new(), answer: RefCell::new(None) })
    }

    /// What a read of no event up to `end` answers.
    pub(super) fn nothing(end: Offset) -> Rc<Self> {
        let dropped = Offset::START;
        Self::new(Read { events: Vec::new(), dropped, end, has_more: false, remains_in_gap: false })
    }

    /// The run of its events, which `make` makes where nobody was sent it yet.
    pub(super) fn run(&self, make: impl FnOnce() -> Run) -> Run {
        self.run.get_or_init(make).clone()
    }

    pub(super) fn answer(&self, now_seconds: u64, is_last: bool) -> Option<Run> {
        let answer = self.answer.borrow();
        let (_, _, run) =
            answer.as_ref().filter(|(second, last, _)| (*second, *last) == (now_seconds, is_last))?;
        Some(run.clone())
    }

    pub(super) fn keep_answer(&self, now_seconds: u64, is_last: bool, run: &Run) {
        *self.answer.borrow_mut() = Some((now_seconds, is_last, run.clone()));
    }
}

impl Deref for FromLog {
    type Target = Read;

    fn deref(&self) -> &Read {
        &self.read
    }
}

/// The events and runs that were encoded lately.
#[derive(Debug)]
pub(crate) struct Prepared {
    epoch: Epoch,
    events: HashMap<(Encoding, Offset), Run>,
    latest: HashMap<Encoding, (Vec<Offset>, Run)>,
    reads: HashMap<(u32, Query), Rc<FromLog>>,
    heartbeats: HashMap<Encoding, Run>,
    places: HashMap<Encoding, (Offset, Run)>,
    bytes: usize,
    /// Events and answers that were encoded, for tests.
    #[cfg(test)]
    pub(super) encoded: u64,
}

impl Prepared {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            events: HashMap::new(),
            latest: HashMap::new(),
            reads: HashMap::new(),
            heartbeats: HashMap::new(),
            places: HashMap::new(),
            bytes: 0,
            #[cfg(test)]
            encoded: 0,
        }
    }

    /// Events of a stream as one run.
    pub(crate) fn run(&mut self, encoding: Encoding, events: &[Arc<Event>]) -> Run {
        if let [event] = events {
            return self.event(encoding, event);
        }
        if let Some(run) = self.latest_of(encoding, events) {
            return run;
        }
        let mut bytes = Vec::new();
        for event in events {
            bytes.extend_from_slice(self.event(encoding, event).bytes());
        }
        self.keep_latest(encoding, events, bytes)
    }

    /// Events of a poll as one whole answer with the cursor `end`, the last of them.
    pub(crate) fn answer(
        &mut self,
        encoding: Encoding,
        head: &HeadVariant,
        events: &[Arc<Event>],
        end: Offset,
        has_more: bool,
    ) -> Run {
        if !has_more && let Some(run) = self.latest_of(encoding, events) {
            return run;
        }
        let answer = Answer {
            gap: None,
            events,
            epoch: self.epoch,
            cursor: Cursor { epoch: self.epoch, offset: end },
            has_more,
            is_keep_alive: head.keeps_alive,
            is_http10: head.is_http10,
            is_head: false,
            extra_head: &head.lines,
        };
        let mut bytes = Vec::new();
        transport::encode_answer(&encoding, &answer, &mut bytes);
        self.count();
        if has_more { Run::new(bytes) } else { self.keep_latest(encoding, events, bytes) }
    }

    /// Forgets what was encoded and read: nobody needs it any more.
    pub(crate) fn clear(&mut self) {
        if self.bytes == 0 {
            return;
        }
        self.events.clear();
        self.latest.clear();
        self.reads.clear();
        self.places.clear();
        self.heartbeats.clear();
        self.bytes = 0;
        if self.events.capacity() > 4_096 {
            self.events.shrink_to_fit();
        }
        if self.reads.capacity() > 4_096 {
            self.reads.shrink_to_fit();
        }
    }

    /// What the log answered to this lately.
    pub(super) fn read(&self, set: u32, query: Query) -> Option<Rc<FromLog>> {
        self.reads.get(&(set, query)).cloned()
    }

    /// Keeps what the log answered for the next of the set who asks the same.
    pub(super) fn keep_read(&mut self, set: u32, query: Query, read: Read) -> Rc<FromLog> {
        // Its events, and the run that is made of them.
        let bytes = 256 + 2 * read.events.iter().map(|event| event.cost_bytes()).sum::<usize>();
        self.make_room(bytes);
        let read = FromLog::new(read);
        self.reads.insert((set, query), Rc::clone(&read));
        read
    }

    /// Forgets what was read: a set is gone, and its number may come to another.
    pub(super) fn forget_reads(&mut self) {
        self.reads.clear();
    }

    /// A heartbeat of this encoding.
    pub(super) fn heartbeat(&mut self, encoding: Encoding) -> Run {
        if let Some(run) = self.heartbeats.get(&encoding) {
            return run.clone();
        }
        let mut bytes = Vec::new();
        transport::encode_heartbeat(&encoding, &mut bytes);
        self.count();
        let run = Run::new(bytes);
        self.make_room(run.len());
        self.heartbeats.insert(encoding, run.clone());
        run
    }

    /// A heartbeat that carries a place; subscribers in rest are all at the same.
    pub(super) fn place(&mut self, encoding: Encoding, place: Offset) -> Run {
        if let Some((at, run)) = self.places.get(&encoding)
            && *at == place
        {
            return run.clone();
        }
        let mut bytes = Vec::new();
        transport::encode_place(&encoding, Cursor { epoch: self.epoch, offset: place }, &mut bytes);
        self.count();
        let run = Run::new(bytes);
        self.make_room(run.len());
        self.places.insert(encoding, (place, run.clone()));
        run
    }

    fn count(&mut self) {
        #[cfg(test)]
        {
            self.encoded += 1;
        }
    }

    fn event(&mut self, encoding: Encoding, event: &Arc<Event>) -> Run {
        if let Some(run) = self.events.get(&(encoding, event.offset())) {
            return run.clone();
        }
        let mut bytes = Vec::new();
        transport::encode_event(&encoding, self.epoch, event, &mut bytes);
        self.count();
        let run = Run::new(bytes);
        self.make_room(run.len());
        self.events.insert((encoding, event.offset()), run.clone());
        run
    }

    fn latest_of(&self, encoding: Encoding, events: &[Arc<Event>]) -> Option<Run> {
        let (offsets, run) = self.latest.get(&encoding)?;
        offsets.iter().copied().eq(events.iter().map(|e| e.offset())).then(|| run.clone())
    }

    fn keep_latest(&mut self, encoding: Encoding, events: &[Arc<Event>], bytes: Vec<u8>) -> Run {
        let run = Run::new(bytes);
        self.make_room(run.len());
        self.latest.insert(encoding, (events.iter().map(|e| e.offset()).collect(), run.clone()));
        run
    }

    fn make_room(&mut self, bytes: usize) {
        if self.bytes + bytes > CACHE_BYTES_MAX {
            self.clear();
        }
        self.bytes += bytes + 64;
    }
}
