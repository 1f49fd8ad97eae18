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

/// Where `text`, which is not empty, stands for the first time.
pub(crate) fn find_text(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let first = *text.first()?;
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], |byte| byte == first) {
        if bytes[from + at..].starts_with(text) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{find, find_text};

    #[test]
    fn a_text_is_found_where_it_stands_whole_and_first() {
        let dots = [b'.'; 50];
        for (bytes, at) in
            [(&b"__proto_ ___proto__ __proto__"[..], Some(10)), (b"__proto_", None), (b"", None)]
        {
            assert_eq!(find_text(bytes, b"__proto__"), at);
            let behind = [&dots, bytes].concat();
            assert_eq!(find_text(&behind, b"__proto__"), at.map(|at| at + 50));
        }
    }

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
