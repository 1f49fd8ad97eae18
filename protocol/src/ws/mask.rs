//! Masking (RFC 6455 section 5.3): every byte of a client's payload is XORed with a key of four bytes.

/// XORs `data` with `key`, in place. Masking and unmasking are the same operation.
///
/// `offset` is where in the frame's payload `data` begins, in bytes, so that a payload may be unmasked in
/// pieces of any length: byte `i` of the payload goes with byte `i % 4` of the key.
pub fn unmask(data: &mut [u8], key: [u8; 4], offset: u64) {
    let key = u32::from_ne_bytes(rotated(key, offset));
    // Both halves of the word hold the key in memory order, so the word may be XORed whatever the byte order
    // is.
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::unmask;

    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    fn octet_by_octet(data: &[u8], key: [u8; 4], offset: u64) -> Vec<u8> {
        // "transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)" (RFC 6455 section 5.3).
        data.iter().zip(offset..).map(|(byte, i)| byte ^ key[(i % 4) as usize]).collect()
    }

    #[test]
    fn every_alignment_length_and_offset_gives_what_the_definition_gives() {
        let data: Vec<u8> = (0..80u8).map(|i| i.wrapping_mul(37)).collect();
        for start in 0..8 {
            for len in 0..64 {
                for offset in 0..9 {
                    let mut bytes = data.clone();
                    unmask(&mut bytes[start..start + len], KEY, offset);
                    let expected = octet_by_octet(&data[start..start + len], KEY, offset);
                    assert_eq!(
                        bytes[start..start + len],
                        expected,
                        "{len} bytes at {start}, offset {offset}"
                    );
                    assert_eq!(bytes[..start], data[..start], "what stands before is not touched");
                    assert_eq!(
                        bytes[start + len..],
                        data[start + len..],
                        "what stands behind is not touched"
                    );
                }
            }
        }
    }

    #[test]
    fn a_payload_cut_anywhere_unmasks_to_the_same() {
        let data: Vec<u8> = (0..50).collect();
        for cut in 0..=data.len() {
            let mut bytes = data.clone();
            let (first, second) = bytes.split_at_mut(cut);
            unmask(first, KEY, 0);
            unmask(second, KEY, cut as u64);
            assert_eq!(bytes, octet_by_octet(&data, KEY, 0), "cut at {cut}");
        }
    }

    #[test]
    fn an_offset_over_32_bits_keeps_the_phase_of_the_key() {
        let mut bytes = *b"Hello";
        unmask(&mut bytes, KEY, (1 << 40) + 3);
        assert_eq!(bytes[..], octet_by_octet(b"Hello", KEY, 3));
    }
}
