//! Percent-encoding (RFC 3986 §2.1), and queries of `name=value` pairs (WHATWG URL,
//! "application/x-www-form-urlencoded").
//!
//! Stricter than a browser: what does not decode is an error, so a typing error in a topic is told and not
//! published to.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Longest part of a parameter's name that an error repeats, in bytes.
const NAME_BYTES_SHOWN: usize = 64;

/// What is wrong with percent-encoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodingFault {
    /// `%` without two hexadecimal digits after it.
    InvalidPercent,
    /// The decoded bytes are not UTF-8.
    NotUtf8,
    /// NUL or another control character, encoded or not: no name or value has a use for one, and a line of a
    /// log or a field that repeats it must stay one line.
    ControlCharacter,
}

impl fmt::Display for EncodingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidPercent => "\"%\" without two hexadecimal digits",
            Self::NotUtf8 => "not UTF-8",
            Self::ControlCharacter => "control character",
        })
    }
}

impl core::error::Error for EncodingFault {}

/// Why a query is refused. The answer is 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// The name of the parameter as the peer wrote it, cut to 64 bytes.
    pub parameter: Box<str>,
    /// What is wrong with its name or value.
    pub fault: EncodingFault,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameter {:?}: {}", self.parameter, self.fault)
    }
}

impl core::error::Error for QueryError {}

/// The pairs of a query, decoded, in their order; `+` is a space. A pair without `=` has an empty value; an
/// empty pair, as in `a&&b`, is none.
///
/// # Errors
/// [`QueryError`] names the first parameter that does not decode.
///
/// # Examples
/// ```
/// use stentor_protocol::h1::query::parse_query;
///
/// let pairs = parse_query("topic=prices%2Feurusd&name=a+b&wait")?;
/// let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
/// assert_eq!(pairs, [("topic", "prices/eurusd"), ("name", "a b"), ("wait", "")]);
/// # Ok::<(), stentor_protocol::h1::query::QueryError>(())
/// ```
pub fn parse_query(query: &str) -> Result<Vec<(String, String)>, QueryError> {
    query.split('&').filter(|pair| !pair.is_empty()).map(parse_pair).collect()
}

fn parse_pair(pair: &str) -> Result<(String, String), QueryError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let decode = |text| match decode(text, Plus::IsSpace) {
        Ok(text) => Ok(text.into_owned()),
        Err(fault) => Err(QueryError { parameter: shown(name).into(), fault }),
    };
    Ok((decode(name)?, decode(value)?))
}

/// Decodes a path, or a part of one. `+` is itself. `%2F` becomes `/`: decide on the route before decoding.
///
/// # Errors
/// [`EncodingFault`] if it does not decode to text without control characters.
pub fn decode_path(path: &str) -> Result<Cow<'_, str>, EncodingFault> {
    decode(path, Plus::IsItself)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsSpace,
    IsItself,
}

fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, EncodingFault> {
    let is_plain = |byte: u8| byte != b'%' && (byte != b'+' || plus == Plus::IsItself);
    let decoded = if text.bytes().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        let bytes = decode_bytes(text.as_bytes(), plus)?;
        Cow::Owned(String::from_utf8(bytes).map_err(|_| EncodingFault::NotUtf8)?)
    };
    if decoded.chars().any(char::is_control) {
        return Err(EncodingFault::ControlCharacter);
    }
    Ok(decoded)
}

fn decode_bytes(mut text: &[u8], plus: Plus) -> Result<Vec<u8>, EncodingFault> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        text = rest;
        bytes.push(match byte {
            b'+' if plus == Plus::IsSpace => b' ',
            b'%' => {
                let (pair, rest) = text.split_first_chunk().ok_or(EncodingFault::InvalidPercent)?;
                text = rest;
                octet(*pair).ok_or(EncodingFault::InvalidPercent)?
            }
            byte => byte,
        });
    }
    Ok(bytes)
}

fn octet([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// The start of `name`, cut between characters.
fn shown(name: &str) -> &str {
    let end = (0..=NAME_BYTES_SHOWN.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name.split_at(end.unwrap_or(0)).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    fn fault_of(query: &str) -> (Box<str>, EncodingFault) {
        let error = parse_query(query).expect_err(query);
        (error.parameter, error.fault)
    }

    #[test]
    fn pairs_are_decoded_in_their_order() {
        let cases: [(&str, &[(&str, &str)]); 10] = [
            ("", &[]),
            ("&&", &[]),
            ("topic=a&topic=b&topic=a", &[("topic", "a"), ("topic", "b"), ("topic", "a")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a&b=", &[("a", ""), ("b", "")]),
            ("=a", &[("", "a")]),
            ("a%20b=c+d%2B", &[("a b", "c d+")]),
            ("t=caf%C3%A9%26%3d", &[("t", "café&=")]),
            ("t=a%252F", &[("t", "a%2F")]),
            ("t=prices/*/**", &[("t", "prices/*/**")]),
        ];
        for (query, expected) in cases {
            let pairs = parse_query(query).unwrap();
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(pairs, expected, "{query}");
        }
    }

    #[test]
    fn what_does_not_decode_names_its_parameter() {
        // RFC 3986 §2.1: "%" HEXDIG HEXDIG.
        for value in ["%", "%4", "%4&x=1", "%%41", "%G0", "%0g", "%+1", "%-1", "a%"] {
            let expected = ("topic".into(), EncodingFault::InvalidPercent);
            assert_eq!(fault_of(&format!("a=1&topic={value}")), expected, "{value}");
        }
        // Cut short, over-long, a surrogate, over U+10FFFF, a lone continuation.
        for value in ["%C3", "%C3x", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "%80"] {
            assert_eq!(
                fault_of(&format!("topic={value}")),
                ("topic".into(), EncodingFault::NotUtf8),
                "{value}"
            );
        }
        for value in ["%00", "a%0D%0Ab", "%7F", "%C2%85", "\u{1}"] {
            let expected = ("topic".into(), EncodingFault::ControlCharacter);
            assert_eq!(fault_of(&format!("topic={value}")), expected, "{value:?}");
        }
        assert_eq!(fault_of("to%70ic%=1"), ("to%70ic%".into(), EncodingFault::InvalidPercent));
        let text = parse_query("topic=%").unwrap_err().to_string();
        assert_eq!(text, "parameter \"topic\": \"%\" without two hexadecimal digits");
    }

    #[test]
    fn an_error_repeats_no_more_than_the_start_of_a_name() {
        let name = "é".repeat(NAME_BYTES_SHOWN);
        assert_eq!(&*fault_of(&format!("x{name}=%")).0, &format!("x{}", "é".repeat(31)));
    }

    #[test]
    fn a_path_is_decoded_and_its_plus_is_a_plus() {
        assert_eq!(decode_path("/topics/a+b%20c%2Fd").as_deref(), Ok("/topics/a+b c/d"));
        assert!(matches!(decode_path("/a+b"), Ok(Cow::Borrowed("/a+b"))));
        assert_eq!(decode_path("/a%"), Err(EncodingFault::InvalidPercent));
        assert_eq!(decode_path("/a%FF"), Err(EncodingFault::NotUtf8));
        for path in ["/a%00", "/%0a", "/a\u{7f}"] {
            assert_eq!(decode_path(path), Err(EncodingFault::ControlCharacter), "{path:?}");
        }
    }
}
