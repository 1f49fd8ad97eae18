//! The log in memory.
pub(crate) struct MemoryLog;
