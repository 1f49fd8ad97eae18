//! Parked sockets in rings: which socket is where, what is armed for it, and how it ends. The rings
//! themselves, and all that is unsafe about them, are in `ring`.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use accepting::Accepting;

use super::buffers::{BufferId, Buffers, Received};
use super::limits::descriptor_limit;
use super::ring::{Completion, Operation, Ring, SEND_BYTES_MAX};
use super::sockopt;
use super::{
    Closing, EventFd, LINGER, LINGER_BYTES_MAX, ParkedEvent, ParkedEventKind, ParkedOptions, Readiness, Send,
    SendOutcome, SocketId, TABLE_SOCKETS_MAX,
};
use crate::spare::shrink;

/// A [`SocketId`] is 12 bits of the ring and 20 of the place in its table.
pub(super) const INDEX_BITS: u32 = 20;
/// The last number is for the sockets that no ring holds.
const RINGS_MAX: usize = (1 << (32 - INDEX_BITS)) - 1;
/// What an operation is given, and its completions carry: 8 bits of what it is, 24 of the generation of the
/// place, then 20 of the place and 12 of the buffer; or, for a send, 32 of where in the batch it stands.
const GENERATION_MASK: u32 = (1 << 24) - 1;
const BUFFER_BITS: u32 = 12;
/// Most buffers that fit there.
pub(super) const BUFFERS_MAX: u16 = 1 << BUFFER_BITS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum What {
    Poll = 1,
    Rearm = 2,
    Disarm = 3,
    Receive = 4,
    /// A receive whose bytes nobody wants.
    Drop = 5,
    Send = 6,
    Install = 7,
    Free = 8,
    /// The poll of a descriptor that is no parked socket.
    Watch = 9,
    /// A connection is taken from a listener.
    Accept = 10,
}

impl What {
    const ALL: [Self; 10] = [
        Self::Poll,
        Self::Rearm,
        Self::Disarm,
        Self::Receive,
        Self::Drop,
        Self::Send,
        Self::Install,
        Self::Free,
        Self::Watch,
        Self::Accept,
    ];

    fn of(data: u64) -> Self {
        Self::ALL[(data >> 56) as usize - 1]
    }
}

fn data(what: What, generation: u32, index: u32, buffer: u16) -> u64 {
    u64::from(what as u8) << 56
        | u64::from(generation & GENERATION_MASK) << 32
        | u64::from(index << BUFFER_BITS)
        | u64::from(buffer)
}

fn index_of(data: u64) -> u32 {
    data as u32 >> BUFFER_BITS
}

fn buffer_of(data: u64) -> u16 {
    (data & u64::from(BUFFERS_MAX - 1)) as u16
}

/// A place in the table of a ring.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The caller's, while parked; while lingering how many bytes were dropped; while free the next free
    /// place.
    token: u64,
    /// How often this place was given; what is left of an earlier life is told by it.
    generation: u32,
    state: State,
    /// A poll is armed under this generation.
    is_armed: bool,
    /// It reports that there is room to send.
    wants_writable: bool,
    input: Input,
}

const _: () = assert!(size_of::<Place>() == 16, "millions of parked sockets pay for each byte");

/// What is known of what a socket has to read: a few bits in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Input(u8);

impl Input {
    /// A receive is queued, waits for a buffer, or has not been harvested.
    const RECEIVING: u8 = 1;
    /// Something arrived that no receive has read, as far as is known.
    const ARRIVED: u8 = 1 << 1;
    /// The peer has sent FIN, or the connection is broken: there is an end to be read after all else.
    const ENDED: u8 = 1 << 2;

    fn is(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn put(&mut self, bit: u8, is_set: bool) {
        self.0 = if is_set { self.0 | bit } else { self.0 & !bit };
    }

    /// The poll has reported something.
    fn reported(&mut self, readiness: Readiness) {
        self.put(Self::ARRIVED, self.is(Self::ARRIVED) || readiness.readable);
        self.put(Self::ENDED, self.is(Self::ENDED) || readiness.hung_up || readiness.error);
    }

    /// A receive is over. One that got less than it asked for has emptied the socket, but for its end. What
    /// arrived after it is reported after it.
    fn received(&mut self, result: i32, asked: u32) {
        self.put(Self::RECEIVING, false);
        self.put(Self::ARRIVED, result == 0 || u32::try_from(result).is_ok_and(|length| length >= asked));
    }

    fn may_be_readable(self) -> bool {
        self.is(Self::ARRIVED | Self::ENDED)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Parked,
    /// FIN is said; what still comes is read and dropped.
    Lingering,
    /// The kernel was told, or will be, to take it out of the table.
    Leaving,
}

impl Place {
    fn poll(&self, index: u32) -> u64 {
        data(What::Poll, self.generation, index, 0)
    }

    fn events(&self) -> u32 {
        let writable = if self.wants_writable { libc::POLLOUT } else { 0 };
        (libc::POLLIN | libc::POLLRDHUP | writable) as u32
    }
}

/// One ring and the places of its table.
#[derive(Debug)]
struct Table {
    ring: Ring,
    places: Vec<Place>,
    size: u32,
    /// Head of the list of free places, `u32::MAX` if there is none below `places.len()`.
    free: u32,
    /// Whether it stands in [`Rings::touched`].
    is_touched: bool,
}

#[derive(Debug)]
pub(super) struct Rings {
    tables: Vec<Table>,
    pub(super) buffers: Buffers,
    /// Where bytes go that nobody wants.
    dropped: Buffers,
    /// Receives that wait for a buffer, oldest first.
    waiting: VecDeque<(SocketId, u32)>,
    /// Sockets that linger or have lingered, with the time at which it must be over, soonest first.
    lingering: VecDeque<(Instant, SocketId, u32)>,
    /// Tables that the batch in hand has sends in. Kept for its memory.
    touched: Vec<u32>,
    /// Tables whose rings do not signal the eventfd for now.
    hushed: Vec<u32>,
    /// No table before this one has a free place.
    spacious: usize,
    /// Where the next harvest begins.
    next: usize,
    parked: usize,
    eventfd: OwnedFd,
    table_sockets: u32,
    /// The poll of [`Rings::watch`] is armed.
    is_watching: bool,
    accepting: Accepting,
    /// Rings belong to the thread that made them.
    _this_thread: PhantomData<*mut ()>,
}

impl Rings {
    pub(super) fn new(eventfd: &EventFd, options: &ParkedOptions) -> io::Result<Self> {
        assert!(
            options.buffers <= BUFFERS_MAX,
            "{} buffers; at most {BUFFERS_MAX} are allowed",
            options.buffers
        );
        let soft = u32::try_from(descriptor_limit()?.soft).unwrap_or(u32::MAX);
        let mut rings = Self {
            tables: Vec::new(),
            buffers: Buffers::new(options.buffers, options.buffer_bytes),
            dropped: Buffers::new(1, DROP_BYTES),
            waiting: VecDeque::new(),
            lingering: VecDeque::new(),
            touched: Vec::new(),
            hushed: Vec::new(),
            spacious: 0,
            next: 0,
            parked: 0,
            eventfd: eventfd.as_fd().try_clone_to_owned()?,
            table_sockets: options.table_sockets.min(TABLE_SOCKETS_MAX).min(soft).max(1),
            is_watching: false,
            accepting: Accepting::default(),
            _this_thread: PhantomData,
        };
        rings.add_table()?;
        Ok(rings)
    }

    fn add_table(&mut self) -> io::Result<()> {
        if self.tables.len() == RINGS_MAX {
            return Err(io::Error::other("the shard has all the rings that it can have"));
        }
        let ring = Ring::new(self.eventfd.as_fd(), self.table_sockets)?;
        self.tables.push(Table {
            ring,
            // Room for all: what is not used yet is not in memory yet, and nothing is copied as it fills.
            places: Vec::with_capacity(self.table_sockets as usize),
            size: self.table_sockets,
            free: NONE,
            is_touched: false,
        });
        Ok(())
    }

    /// Whether there is a place for one more socket without one more ring.
    pub(super) fn has_place(&mut self) -> bool {
        while self.tables.get(self.spacious).is_some_and(Table::is_full) {
            self.spacious += 1;
        }
        self.spacious < self.tables.len()
    }

    /// Parks a socket; gives it back if there is neither a place nor another ring to be had.
    pub(super) fn add(&mut self, fd: OwnedFd, token: u64) -> Result<SocketId, (io::Error, OwnedFd)> {
        if !self.has_place()
            && let Err(error) = self.add_table()
        {
            return Err((error, fd));
        }
        let table = &mut self.tables[self.spacious];
        let index = table.take_free();
        if let Err(error) = table.ring.register(index, fd.as_fd()) {
            table.give_free(index);
            return Err((error, fd));
        }
        let place = &mut table.places[index as usize];
        *place = Place { token, state: State::Parked, ..*place };
        table.arm(index);
        self.parked += 1;
        Ok(SocketId((self.spacious as u32) << INDEX_BITS | index))
    }

    pub(super) fn send_batch(&mut self, sends: &[Send<'_>], failed: &mut Vec<(usize, SendOutcome)>) {
        assert!(u32::try_from(sends.len()).is_ok(), "a batch of {} sends", sends.len());
        let lent = Lent { tables: &mut self.tables, touched: &mut self.touched };
        for (at, send) in sends.iter().enumerate() {
            let (number, index) = split(send.socket);
            let length = send.bytes.len();
            assert!((1..=SEND_BYTES_MAX).contains(&length), "a send of {length} bytes");
            let table = &mut lent.tables[number];
            // SAFETY: `sends` lends the bytes until this function returns. Before it does, each touched ring
            // is submitted; or, in a panic, `Lent` sees to it that none ever is.
            unsafe { table.ring.push_send(u64::from(What::Send as u8) << 56 | at as u64, index, send.bytes) };
            if !table.is_touched {
                table.is_touched = true;
                lent.touched.push(number as u32);
            }
        }
        for number in lent.touched.iter() {
            lent.tables[*number as usize].ring.submit();
        }
        drop(lent);
        for table in self.touched.drain(..) {
            let table = &mut self.tables[table as usize];
            table.is_touched = false;
            let is_send = |completion: &Completion| completion.data >> 56 == What::Send as u64;
            table.ring.take_completions(is_send, |completion| {
                let at = completion.data as u32 as usize;
                let outcome = match completion.result {
                    taken if taken > 0 => SendOutcome::Short(taken as usize),
                    0 => SendOutcome::Full,
                    error if -error == libc::EAGAIN => SendOutcome::Full,
                    error => SendOutcome::Failed(-error),
                };
                failed.push((at, outcome));
            });
        }
    }

    pub(super) fn watch_writable(&mut self, socket: SocketId, on: bool) {
        let (table, index) = self.parked(socket);
        let place = &mut table.places[index as usize];
        if place.wants_writable != on {
            place.wants_writable = on;
            table.rearm(index);
        }
    }

    pub(super) fn receive(&mut self, socket: SocketId) {
        let (table, index) = self.parked(socket);
        let place = &mut table.places[index as usize];
        assert!(!place.input.is(Input::RECEIVING), "a second receive of {socket:?}");
        place.input.put(Input::RECEIVING, true);
        let generation = place.generation;
        self.waiting.push_back((socket, generation));
        self.serve_waiting();
    }

    /// Begins the receives that wait, as far as there are buffers.
    fn serve_waiting(&mut self) {
        while let Some((socket, generation)) = self.waiting.front().copied() {
            let (table, index) = split(socket);
            let table = &mut self.tables[table];
            let place = table.places[index as usize];
            if place.generation == generation && place.state == State::Parked {
                let Some(buffer) = self.buffers.take() else { return };
                let (space, len) = self.buffers.space(&buffer);
                let data = data(What::Receive, generation, index, buffer.number());
                // SAFETY: the buffer is ours until it is put back or received, both of which wait for the
                // completion; and its memory outlives the ring: with `MSG_DONTWAIT` nothing lives on after a
                // submission.
                unsafe { table.ring.push_receive(data, index, space, len) };
            }
            self.waiting.pop_front();
        }
    }

    pub(super) fn release(&mut self, received: Received) {
        self.buffers.release(received);
        self.serve_waiting();
    }

    pub(super) fn take_back(&mut self, socket: SocketId) -> io::Result<OwnedFd> {
        let (table, index) = self.parked(socket);
        assert!(!table.is_receiving(index), "{socket:?} is taken back while it receives");
        let fd = table.install(index)?;
        self.free(socket);
        Ok(fd)
    }

    pub(super) fn hand_on(&mut self, socket: SocketId, token: u64) -> bool {
        let (table, index) = self.parked(socket);
        assert!(!table.is_receiving(index), "{socket:?} is handed on while it receives");
        let place = &mut table.places[index as usize];
        place.token = token;
        place.input.may_be_readable()
    }

    pub(super) fn may_be_readable(&mut self, socket: SocketId) -> bool {
        let (table, index) = self.parked(socket);
        table.places[index as usize].input.may_be_readable()
    }

    pub(super) fn close(&mut self, socket: SocketId, how: Closing) {
        let (table, index) = self.parked(socket);
        match how {
            Closing::Plain => {}
            Closing::Abort => {
                // An error leaves a plain close.
                let _ = table.install(index).and_then(|fd| sockopt::reset_on_close(fd.as_fd()));
            }
            Closing::Graceful => {
                if table.install(index).and_then(|fd| sockopt::shutdown_sending(fd.as_fd())).is_ok() {
                    let place = &mut table.places[index as usize];
                    let input = Input::default();
                    *place = Place { token: 0, state: State::Lingering, input, ..*place };
                    let generation = place.generation;
                    self.lingering.push_back((Instant::now() + LINGER, socket, generation));
                    self.read_and_drop(socket);
                    return;
                }
            }
        }
        self.free(socket);
    }

    /// Takes the socket out of the table: its poll first, which holds the file.
    fn free(&mut self, socket: SocketId) {
        let (table, index) = split(socket);
        let table = &mut self.tables[table];
        let place = &mut table.places[index as usize];
        let target = place.poll(index);
        let was_armed = place.is_armed;
        *place = Place {
            token: 0,
            generation: (place.generation + 1) & GENERATION_MASK,
            state: State::Leaving,
            is_armed: false,
            wants_writable: false,
            input: Input::default(),
        };
        if was_armed {
            table.ring.push(data(What::Disarm, 0, index, 0), Operation::Disarm { target });
        }
        table.ring.push(data(What::Free, 0, index, 0), Operation::Free { index });
        self.parked -= 1;
    }

    /// Reads once from a lingering socket.
    fn read_and_drop(&mut self, socket: SocketId) {
        let (table, index) = split(socket);
        let table = &mut self.tables[table];
        let place = &mut table.places[index as usize];
        if place.input.is(Input::RECEIVING) {
            return;
        }
        place.input.put(Input::RECEIVING, true);
        let (space, len) = self.dropped.space(&BufferId::of_number(0));
        let data = data(What::Drop, place.generation, index, 0);
        // SAFETY: the memory outlives the ring, and nobody ever reads it.
        unsafe { table.ring.push_receive(data, index, space, len) };
    }

    fn end_lingering(&mut self) {
        if self.lingering.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((until, socket, generation)) = self.lingering.front().copied() {
            if until > now {
                return;
            }
            self.lingering.pop_front();
            let (table, index) = split(socket);
            let place = self.tables[table].places[index as usize];
            if place.generation == generation && place.state == State::Lingering {
                self.free(socket);
            }
        }
    }

    pub(super) fn give_back(&mut self) {
        shrink(&mut self.waiting);
        shrink(&mut self.lingering);
        for table in &mut self.tables {
            table.ring.give_back();
        }
    }

    pub(super) fn harvest(&mut self, max: usize, events: &mut Vec<ParkedEvent>) -> bool {
        let mut left = max;
        self.end_lingering();
        self.serve_waiting();
        let first = self.next;
        for step in 0..self.tables.len() {
            let at = (first + step) % self.tables.len();
            if !self.tables[at].ring.has_work() {
                continue;
            }
            loop {
                while let Some(completion) = self.tables[at].ring.poll_completion() {
                    if left == 0 {
                        self.tables[at].ring.put_back(completion);
                        self.next = at;
                        return true;
                    }
                    left -= 1;
                    self.handle(at, completion, events);
                }
                if !self.tables[at].ring.wants_run() {
                    break;
                }
                self.hush(at);
                self.tables[at].ring.run();
            }
        }
        self.next = (first + 1) % self.tables.len();
        self.tables.iter_mut().any(|table| table.ring.has_work())
    }

    /// What the shard makes this ring do is no reason to wake it: it looks before it sleeps.
    fn hush(&mut self, table: usize) {
        if self.tables[table].ring.hush() {
            self.hushed.push(table as u32);
        }
    }

    /// Sees to it that an arrival at `fd` wakes the shard, as those at parked sockets do. `fd` lives as long
    /// as this set. Called before each look at what `fd` has: a poll may end by itself.
    pub(super) fn watch(&mut self, fd: BorrowedFd<'_>) {
        if !std::mem::replace(&mut self.is_watching, true) {
            let data = data(What::Watch, 0, 0, 0);
            self.tables[0].ring.push(data, Operation::Watch { fd: fd.as_raw_fd() });
        }
    }

    pub(super) fn has_work(&mut self) -> bool {
        for table in self.hushed.drain(..) {
            self.tables[table as usize].ring.signal();
        }
        self.tables.iter_mut().any(|table| table.ring.has_work())
    }

    fn handle(&mut self, at: usize, completion: Completion, events: &mut Vec<ParkedEvent>) {
        let Completion { data, result, more } = completion;
        if What::of(data) == What::Watch {
            self.is_watching = more;
            return;
        }
        let generation = (data >> 32) as u32 & GENERATION_MASK;
        let index = index_of(data);
        let socket = SocketId((at as u32) << INDEX_BITS | index);
        let table = &mut self.tables[at];
        let place = &mut table.places[index as usize];
        let is_this_life = place.generation == generation;
        match What::of(data) {
            What::Poll if is_this_life => {
                let Place { token, state, wants_writable, .. } = *place;
                if !more {
                    place.is_armed = false;
                    // A poll ends by itself when the kernel has no room for a report. What arrived meanwhile
                    // is reported when it is armed again.
                    if result >= 0 || -result == libc::ECANCELED {
                        table.arm(index);
                    }
                }
                match state {
                    State::Parked if -result != libc::ECANCELED => {
                        let readiness = readiness(result, wants_writable);
                        table.places[index as usize].input.reported(readiness);
                        if readiness != Readiness::default() {
                            events.push(ParkedEvent { token, kind: ParkedEventKind::Ready(readiness) });
                        }
                    }
                    State::Lingering => self.read_and_drop(socket),
                    _ => {}
                }
            }
            // A wake-up of the poll was under way: it is over when the kernel sees this again.
            What::Rearm if is_this_life && -result == libc::EALREADY && place.state == State::Parked => {
                table.rearm(index);
            }
            What::Receive => {
                let buffer = BufferId::of_number(buffer_of(data));
                if is_this_life && place.state == State::Parked {
                    place.input.received(result, self.buffers.size());
                    let token = place.token;
                    let kind = self.buffers.answer(buffer, result);
                    events.push(ParkedEvent { token, kind });
                } else {
                    self.buffers.put_back(buffer);
                }
                self.serve_waiting();
            }
            What::Drop if is_this_life && place.state == State::Lingering => {
                place.input.put(Input::RECEIVING, false);
                place.token += u64::try_from(result).unwrap_or(0);
                if place.token > LINGER_BYTES_MAX || result <= 0 && -result != libc::EAGAIN {
                    self.free(socket);
                } else if result > 0 {
                    self.read_and_drop(socket);
                }
            }
            What::Free => {
                debug_assert_eq!(result, 0, "the place was taken");
                table.give_free(index);
                self.spacious = self.spacious.min(at);
            }
            What::Poll | What::Rearm | What::Disarm | What::Drop => {}
            What::Send | What::Install | What::Watch | What::Accept => {
                unreachable!("those are answered before anything else is asked")
            }
        }
    }

    /// The table and place of a socket that the caller holds.
    fn parked(&mut self, socket: SocketId) -> (&mut Table, u32) {
        let (table, index) = split(socket);
        let table = &mut self.tables[table];
        assert_eq!(table.places[index as usize].state, State::Parked, "{socket:?}");
        (table, index)
    }

    pub(super) fn len(&self) -> usize {
        self.parked
    }

    pub(super) fn rings(&self) -> usize {
        self.tables.len()
    }
}

/// While it lives the queues of the rings may name memory that is lent.
struct Lent<'a> {
    tables: &'a mut Vec<Table>,
    touched: &'a mut Vec<u32>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tables.iter_mut().for_each(|table| table.ring.give_up());
        }
    }
}

/// End of the list of free places.
const NONE: u32 = u32::MAX;

/// Bytes that one read of a lingering socket drops.
const DROP_BYTES: u32 = 16 * 1024;

impl Table {
    fn is_full(&self) -> bool {
        self.free == NONE && self.places.len() == self.size as usize
    }

    fn take_free(&mut self) -> u32 {
        if self.free == NONE {
            let place = Place {
                token: 0,
                generation: 0,
                state: State::Free,
                is_armed: false,
                wants_writable: false,
                input: Input::default(),
            };
            self.places.push(place);
            return self.places.len() as u32 - 1;
        }
        let index = self.free;
        self.free = self.places[index as usize].token as u32;
        index
    }

    fn give_free(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        place.state = State::Free;
        place.token = u64::from(self.free);
        self.free = index;
    }

    fn arm(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        debug_assert!(!place.is_armed, "one poll a socket");
        place.is_armed = true;
        self.ring.push(place.poll(index), Operation::Arm { index, events: place.events() });
    }

    /// Tells the armed poll of what it is to report; one that is not armed any more learns it when it is
    /// armed again.
    fn rearm(&mut self, index: u32) {
        let place = &self.places[index as usize];
        if place.is_armed {
            let operation = Operation::Rearm { target: place.poll(index), events: place.events() };
            self.ring.push(data(What::Rearm, place.generation, index, 0), operation);
        }
    }

    fn is_receiving(&self, index: u32) -> bool {
        self.places[index as usize].input.is(Input::RECEIVING)
    }

    fn install(&mut self, index: u32) -> io::Result<OwnedFd> {
        self.ring.install(data(What::Install, 0, index, 0), index)
    }
}

fn split(socket: SocketId) -> (usize, u32) {
    ((socket.0 >> INDEX_BITS) as usize, socket.0 & ((1 << INDEX_BITS) - 1))
}

/// What the mask of a poll says; a poll that failed says that the socket is broken.
fn readiness(result: i32, wants_writable: bool) -> Readiness {
    let Ok(mask) = u16::try_from(result) else {
        return Readiness { readable: true, error: true, ..Readiness::default() };
    };
    let readiness = Readiness::of_poll(mask as i16);
    Readiness { writable: readiness.writable && wants_writable, ..readiness }
}

mod accepting;
#[cfg(test)]
mod tests;
