//! Masking (RFC 6455 section 5.3): every byte of a client's payload is XORed with a key of four bytes.

/// XORs `data` with `key`, in place. Masking and unmasking are the same operation.
///
/// `offset` is where in the frame's payload `data` begins, in bytes, so that a payload may be unmasked in pieces of
/// any length: byte `i` of the payload goes with byte `i % 4` of the key.
pub fn unmask(data: &mut [u8], key: [u8; 4], offset: u64) {
    let key = u32::from_ne_bytes(rotated(key, offset));
    // Both halves of the word hold the key in memory order, so the word may be XORed whatever the byte order is.
    let word = u64::from(key) << 32 | u64::from(key);
    let (words, tail) = data.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// The key as it stands for a payload that begins at `offset`.
fn rotated(key: [u8; 4], offset: u64) -> [u8; 4] {
    let mut key = key;
    key.rotate_left((offset % 4) as usize);
    key
}
