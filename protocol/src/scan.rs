//! Searching bytes, a block at a time: what an encoder looks for is mostly not there, and the compiler makes
//! a few wide comparisons of a block.

/// Bytes that are looked at together.
const BLOCK: usize = 32;

/// Where the first byte that `is_wanted` stands. `is_wanted` only compares: with a branch or a table in it,
/// the bytes of a block would be looked at one by one.
pub(crate) fn find(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let is_without = |block: &&[u8; BLOCK]| !block.iter().fold(false, |any, &byte| any | is_wanted(byte));
    let before = blocks.iter().take_while(is_without).count() * BLOCK;
    let (_, rest) = bytes.split_at(before);
    rest.iter().position(|&byte| is_wanted(byte)).map(|at| before + at)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_is_found_wherever_it_stands_and_whatever_the_length() {
        for length in 0..100 {
            let mut bytes = [b'.'; 100];
            let bytes = &mut bytes[..length];
            assert_eq!(find(bytes, |byte| byte == b'!'), None, "none in {length}");
            for at in (0..length).rev() {
                bytes[at] = b'!';
                assert_eq!(find(bytes, |byte| byte == b'!'), Some(at), "{at} of {length}");
            }
        }
    }
}
