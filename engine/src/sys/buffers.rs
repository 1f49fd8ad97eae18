//! The buffers that received bytes lie in until the shard has read them. The kernel writes them only while a
//! system call of this thread runs: receives never wait.

use std::ptr::NonNull;

use super::ParkedEventKind;

/// A fixed number of buffers of one size, in one piece of memory.
#[derive(Debug)]
pub(super) struct Buffers {
    base: NonNull<u8>,
    size: u32,
    count: u16,
    /// The buffers that nobody holds; the one used last is taken first, while it is still in the cache.
    free: Vec<u16>,
}

/// Bytes that a receive got: read them with [`super::ParkedSet::bytes`], then give them to
/// [`super::ParkedSet::release`].
#[derive(Debug)]
#[must_use = "a buffer that is not released is lost to all receives"]
pub(crate) struct Received {
    buffer: u16,
    len: u32,
}

/// A buffer that a receive is to write. Given back with [`Buffers::put_back`] or [`Buffers::answer`].
#[derive(Debug)]
pub(super) struct BufferId(u16);

impl BufferId {
    /// The number by which [`BufferId::of_number`] finds it again.
    pub(super) fn number(&self) -> u16 {
        self.0
    }

    pub(super) fn of_number(number: u16) -> Self {
        Self(number)
    }
}

impl Buffers {
    /// Makes `count` buffers of `size` bytes.
    pub(super) fn new(count: u16, size: u32) -> Self {
        assert!(count > 0 && size > 0, "{count} buffers of {size} bytes");
        let bytes = vec![0u8; count as usize * size as usize].into_boxed_slice();
        let base = NonNull::from(Box::leak(bytes)).cast();
        Self { base, size, count, free: (0..count).rev().collect() }
    }

    /// Bytes of one buffer.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Takes a free one.
    pub(super) fn take(&mut self) -> Option<BufferId> {
        self.free.pop().map(BufferId)
    }

    /// Where a receive into `buffer` writes, and how much it may: valid until the set is dropped.
    pub(super) fn space(&mut self, buffer: &BufferId) -> (*mut u8, u32) {
        (self.start(buffer.0).as_ptr(), self.size)
    }

    /// The same as a slice, for a receive that is a system call of its own.
    pub(super) fn space_mut(&mut self, buffer: &BufferId) -> &mut [u8] {
        let start = self.start(buffer.0);
        // SAFETY: `start` has `size` bytes of initialised memory; who holds the `BufferId` is the only one
        // that may read or write them, and it gives them to nobody else while `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.size as usize) }
    }

    /// The kernel wrote nothing.
    pub(super) fn put_back(&mut self, buffer: BufferId) {
        self.give(buffer.0);
    }

    /// What a receive into `buffer` came to: the result of `recv(2)`, an error number negated.
    pub(super) fn answer(&mut self, buffer: BufferId, result: i32) -> ParkedEventKind {
        if let Ok(len @ 1..) = u32::try_from(result) {
            assert!(len <= self.size, "{len} bytes in a buffer of {}", self.size);
            return ParkedEventKind::Received(Received { buffer: buffer.0, len });
        }
        self.put_back(buffer);
        match -result {
            0 => ParkedEventKind::End,
            libc::EAGAIN => ParkedEventKind::Drained,
            error => ParkedEventKind::Failed(error),
        }
    }

    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        assert!(received.len <= self.size, "{received:?} of another set");
        let start = self.start(received.buffer);
        // SAFETY: `start` has `size` bytes of initialised memory that lives as long as `self`, `len` of them
        // are asked for (asserted). The kernel writes only buffers that are not held by a `Received`, and
        // only during a system call.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), received.len as usize) }
    }

    pub(super) fn release(&mut self, received: Received) {
        self.give(received.buffer);
    }

    /// Buffers that nobody holds.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    fn give(&mut self, buffer: u16) {
        assert!(self.free.len() < usize::from(self.count), "a buffer of another set");
        self.free.push(buffer);
    }

    fn start(&self, buffer: u16) -> NonNull<u8> {
        assert!(buffer < self.count, "buffer {buffer} of {}", self.count);
        let offset = buffer as usize * self.size as usize;
        // SAFETY: the memory has `count * size` bytes, and `buffer` is less than `count` (asserted).
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let bytes =
            std::ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.count as usize * self.size as usize);
        // SAFETY: this is the boxed slice that `new` leaked, of the same length; nothing borrows it, as
        // `self` is going.
        drop(unsafe { Box::from_raw(bytes) });
    }
}
