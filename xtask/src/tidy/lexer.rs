//! Just enough of Rust's lexical grammar to tell code from comments and literals.

/// A source text with parts of it blanked out. Both keep the length and the lines of the original, so that an
/// offset in one is an offset in the other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blanked {
    /// Without comments and without what stands in literals.
    pub(crate) code: String,
    /// Without what stands in literals.
    pub(crate) without_literals: String,
}

/// What a part of a source text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// Tells the parts of `text` apart.
pub(crate) fn blank(text: &str) -> Blanked {
    let bytes = text.as_bytes();
    let mut parts = vec![Part::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let (part, end) = next(bytes, at);
        parts[at..end].fill(part);
        at = end;
    }
    let keep = |is_kept: fn(Part) -> bool| {
        let kept = bytes.iter().zip(&parts).map(
            |(&byte, &part)| {
                if byte == b'\n' || is_kept(part) { byte } else { b' ' }
            },
        );
        // A character of several bytes is always blanked whole or kept whole.
        String::from_utf8(kept.collect()).unwrap_or_default()
    };
    Blanked { code: keep(|part| part == Part::Code), without_literals: keep(|part| part != Part::Literal) }
}

/// The part that begins at `at`, and where it ends.
fn next(bytes: &[u8], at: usize) -> (Part, usize) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return (Part::Comment, find(bytes, at, |rest| rest[0] == b'\n'));
    }
    if rest.starts_with(b"/*") {
        return (Part::Comment, block_comment_end(bytes, at));
    }
    let is_name_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if !is_name_before && let Some(end) = raw_string_end(bytes, at) {
        return (Part::Literal, end);
    }
    match rest[0] {
        b'"' => (Part::Literal, quoted_end(bytes, at, b'"')),
        b'\'' if is_character(rest) => (Part::Literal, quoted_end(bytes, at, b'\'')),
        _ => (Part::Code, at + 1),
    }
}

fn find(bytes: &[u8], from: usize, is_there: impl Fn(&[u8]) -> bool) -> usize {
    (from..bytes.len()).find(|&at| is_there(&bytes[at..])).unwrap_or(bytes.len())
}

/// Block comments nest.
fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// `r"…"`, `br#"…"#`, `cr##"…"##`: ends with as many `#` as it began with.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let prefix = [&b"r"[..], b"br", b"cr"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].iter().take_while(|&&b| b == b'#').count();
    let quote = prefix.len() + hashes;
    if rest.get(quote) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    Some((find(bytes, at + quote + 1, |rest| rest.starts_with(&end)) + end.len()).min(bytes.len()))
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut at = at + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) => {
            let width = match first {
                0x00..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            rest.get(1 + width) == Some(&b'\'')
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_kept() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("a \" // b") g"#, r#"f(           ) g"#),
            ("r#\"a \"b\" c\"# d", "             d"),
            ("br\"a\\\" d", "       d"),
            ("'\"' 'a' '\\'' x", "             x"),
            ("fn f<'a>(b: &'a str) {}", "fn f<'a>(b: &'a str) {}"),
            ("'é' x", "     x"),
            ("bar\"x\"", "bar   "),
            ("\"a\nb\" c", "  \n   c"),
        ] {
            assert_eq!(blank(text).code, code, "{text}");
        }
    }

    #[test]
    fn comments_stay_where_only_literals_are_blanked() {
        assert_eq!(blank("a \"b\" // \"c\"").without_literals, "a     // \"c\"");
    }

    #[test]
    fn what_is_never_closed_ends_with_the_file() {
        for text in ["\"a", "/* a", "r#\"a", "'\\", "// a", "\"a\\"] {
            assert_eq!(blank(text).code.trim(), "", "{text}");
            assert_eq!(blank(text).code.len(), text.len());
        }
    }
}
