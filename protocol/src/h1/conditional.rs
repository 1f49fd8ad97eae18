//! Entity tags and `If-None-Match` (RFC 9110 §8.8.3, §13.1.2).

use alloc::vec::Vec;
use core::fmt;

/// Why an entity tag or a list of them is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionalError {
    /// An entity tag that is neither `"opaque"`, `W/"opaque"` nor a bare word that can be read in one way.
    InvalidEntityTag,
    /// `*` together with entity tags.
    AnyInList,
}

impl fmt::Display for ConditionalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidEntityTag => "If-None-Match: not a list of entity tags",
            Self::AnyInList => "If-None-Match: \"*\" must stand alone",
        })
    }
}

impl core::error::Error for ConditionalError {}

/// One entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'b> {
    /// What stands between the quotes.
    pub opaque: &'b str,
    /// Whether `W/` stands before them. `If-None-Match` compares weakly, so it may be ignored there (RFC 9110
    /// §13.1.2).
    pub is_weak: bool,
}

/// Appends `"opaque"`, the strong entity tag.
///
/// # Errors
/// [`ConditionalError::InvalidEntityTag`] if `opaque` has a quote, white space or a control character; `out`
/// is then unchanged.
pub fn encode_etag(opaque: &str, out: &mut Vec<u8>) -> Result<(), ConditionalError> {
    if !opaque.bytes().all(is_opaque_byte) {
        return Err(ConditionalError::InvalidEntityTag);
    }
    out.push(b'"');
    out.extend_from_slice(opaque.as_bytes());
    out.push(b'"');
    Ok(())
}

/// What a value of `If-None-Match` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfNoneMatch<'b> {
    /// `*`: whatever there is.
    Any,
    /// The tags, in their order. If the field is given more than once, each value is a part of one list.
    Tags(EntityTags<'b>),
}

/// Reads one value of `If-None-Match`.
///
/// # Examples
/// ```
/// use stentor_protocol::h1::conditional::{IfNoneMatch, if_none_match};
///
/// let IfNoneMatch::Tags(tags) = if_none_match("\"k3-42\", W/\"k3-43\"") else { panic!() };
/// let opaque: Vec<_> = tags.map(|tag| tag.unwrap().opaque).collect();
/// assert_eq!(opaque, ["k3-42", "k3-43"]);
/// ```
pub fn if_none_match(value: &str) -> IfNoneMatch<'_> {
    match super::fields::trim(value) {
        "*" => IfNoneMatch::Any,
        value => IfNoneMatch::Tags(EntityTags { rest: value }),
    }
}

/// The entity tags of a list. After an error there are no more.
///
/// A tag without quotes, as people type it, is taken if it is a word of letters, digits, `-`, `_` and `.`:
/// quoted or not, it can mean one thing only. So `W/abc` is refused, which may be weak `abc` or strong
/// `W/abc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTags<'b> {
    rest: &'b str,
}

impl<'b> Iterator for EntityTags<'b> {
    type Item = Result<EntityTag<'b>, ConditionalError>;

    fn next(&mut self) -> Option<Self::Item> {
        // "A recipient MUST parse and ignore a reasonable number of empty list elements" (RFC 9110 §5.6.1).
        let text = self.rest.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return None;
        }
        let tag = read_tag(text);
        self.rest = tag.map_or("", |(_, rest)| rest);
        Some(tag.map(|(tag, _)| tag))
    }
}

/// The tag at the start of `text`, and what follows its comma.
fn read_tag(text: &str) -> Result<(EntityTag<'_>, &str), ConditionalError> {
    let (quoted, is_weak) = match text.strip_prefix("W/") {
        Some(quoted) => (quoted, true),
        None => (text, false),
    };
    let (opaque, rest) = match quoted.strip_prefix('"') {
        Some(inner) => inner.split_once('"').ok_or(ConditionalError::InvalidEntityTag)?,
        // Of `W/abc` this reads `W`, and what follows it is no comma.
        None => read_word(text)?,
    };
    if !opaque.bytes().all(is_opaque_byte) {
        return Err(ConditionalError::InvalidEntityTag);
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    match rest.strip_prefix(',') {
        Some(rest) => Ok((EntityTag { opaque, is_weak }, rest)),
        None if rest.is_empty() => Ok((EntityTag { opaque, is_weak }, rest)),
        None => Err(ConditionalError::InvalidEntityTag),
    }
}

fn read_word(text: &str) -> Result<(&str, &str), ConditionalError> {
    let is_word_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let length = text.bytes().take_while(|&byte| is_word_byte(byte)).count();
    match length {
        0 if text.starts_with('*') => Err(ConditionalError::AnyInList),
        0 => Err(ConditionalError::InvalidEntityTag),
        _ => Ok(text.split_at(length)),
    }
}

/// `etagc` (RFC 9110 §8.8.3).
fn is_opaque_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7E | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags of a value: opaque text and whether weak.
    fn tags(value: &str) -> Result<Vec<(&str, bool)>, ConditionalError> {
        match if_none_match(value) {
            IfNoneMatch::Any => panic!("any"),
            IfNoneMatch::Tags(tags) => tags.map(|tag| tag.map(|tag| (tag.opaque, tag.is_weak))).collect(),
        }
    }

    #[test]
    fn lists_of_tags_are_read_in_their_order() {
        // RFC 9110 §8.8.3 and §13.1.2, with its examples; §5.6.1 for empty elements.
        let cases: [(&str, &[(&str, bool)]); 11] = [
            ("", &[]),
            ("\"xyzzy\"", &[("xyzzy", false)]),
            (
                "\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\"",
                &[("xyzzy", false), ("r2d2xxxx", false), ("c3piozzzz", false)],
            ),
            ("W/\"xyzzy\",\tW/\"r2d2xxxx\"", &[("xyzzy", true), ("r2d2xxxx", true)]),
            ("\"\"", &[("", false)]),
            ("\"a,b\" ,\"*\"", &[("a,b", false), ("*", false)]),
            ("\"W/\"", &[("W/", false)]),
            ("\"caf\u{e9}\"", &[("caf\u{e9}", false)]),
            (" , \"a\",, \"b\" ,", &[("a", false), ("b", false)]),
            // Without quotes, as people type it.
            ("k3-42", &[("k3-42", false)]),
            ("k3-42,\"a\", b_.", &[("k3-42", false), ("a", false), ("b_.", false)]),
        ];
        for (value, expected) in cases {
            assert_eq!(tags(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_could_mean_two_tags_or_none_is_refused() {
        for value in [
            "\"a",
            "a\"",
            "\"a\"b",
            "\"a\" \"b\"",
            "a b",
            "W/a",
            "w/\"a\"",
            "W/ \"a\"",
            "\"a b\"",
            "\"a\tb\"",
            "'a'",
            "a/b",
            "\u{e9}",
        ] {
            assert_eq!(tags(value), Err(ConditionalError::InvalidEntityTag), "{value}");
        }
        for value in ["*, \"a\"", "*,*", "**"] {
            assert_eq!(tags(value), Err(ConditionalError::AnyInList), "{value}");
        }
        assert_eq!(tags("\"a\", *"), Err(ConditionalError::AnyInList));
    }

    #[test]
    fn after_a_fault_there_are_no_more_tags() {
        let IfNoneMatch::Tags(mut list) = if_none_match("\"a\", b c, \"d\"") else { panic!("any") };
        assert!(list.next().is_some_and(|tag| tag.is_ok()));
        assert!(list.next().is_some_and(|tag| tag.is_err()));
        assert_eq!(list.next(), None);
    }

    #[test]
    fn a_star_alone_is_any() {
        for value in ["*", " *\t"] {
            assert_eq!(if_none_match(value), IfNoneMatch::Any, "{value:?}");
        }
    }

    #[test]
    fn a_written_tag_is_read_back_and_an_impossible_one_is_not_written() {
        let mut out = b"ETag: ".to_vec();
        encode_etag("k3-42", &mut out).unwrap();
        assert_eq!(out, b"ETag: \"k3-42\"");
        assert_eq!(tags("\"k3-42\""), Ok([("k3-42", false)].to_vec()));
        for opaque in ["a\"b", "a b", "a\r\n", "\0", "\x7F"] {
            assert_eq!(encode_etag(opaque, &mut out), Err(ConditionalError::InvalidEntityTag), "{opaque:?}");
        }
        assert_eq!(out, b"ETag: \"k3-42\"", "nothing was written");
    }
}
