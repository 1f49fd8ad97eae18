//! Idempotency keys.
/// Longest idempotency key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 256;
