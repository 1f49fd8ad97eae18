//! The allocator of the process.

/// Has the allocator give what this thread has freed back to the kernel, where it can be told to: with the
/// feature `mimalloc`. That keeps a page or more of every size that was ever asked for, and gives freed pages
/// back only when it is asked for more, which an idle shard does not do.
pub(crate) fn collect() {
    #[cfg(feature = "mimalloc")]
    // SAFETY: takes a flag only, and may be called by every thread at any time.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
