//! The forever-frame iframe page: an HTML document that never ends, one script element an event.
//!
//! The document's head defines a function `e` once; every item is `<script>e(…)</script>` with one JSON text
//! between the parentheses. `e` hands it to a function of the parent window, or posts it there as a message.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::scan;

/// To whom the page of a forever frame hands what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target<'a> {
    /// `parent.postMessage`, to the origin of the page itself.
    #[default]
    SameOrigin,
    /// `parent.postMessage`, to this origin; checked by [`check_origin`].
    Origin(&'a str),
    /// A function of the parent window; checked by [`check_callback`].
    Callback(&'a str),
}

/// Longest callback name, in bytes.
pub const CALLBACK_BYTES_MAX: usize = 128;

/// Longest origin, in bytes: a scheme, a domain name of 253 and a port.
pub const ORIGIN_BYTES_MAX: usize = 280;

/// Some browsers, and proxies on the way, show nothing of a document before so many bytes are there.
const PADDING: usize = 1024;

/// Checks a callback: identifiers of ASCII letters, digits, `_` and `$`, joined by dots, as seen from the
/// parent window.
///
/// What every window has is refused where calling it is never wanted, such as `document.write` or
/// `location.replace`: the page would do it with the parent for whoever wrote the URL.
///
/// # Errors
/// [`TargetError`] names the rule.
pub fn check_callback(name: &str) -> Result<(), TargetError> {
    if name.len() > CALLBACK_BYTES_MAX {
        return Err(TargetError::CallbackTooLong { bytes: name.len() });
    }
    if !name.split('.').all(is_identifier) {
        return Err(TargetError::NoIdentifier);
    }
    if name.split('.').any(|part| BUILT_IN.contains(&part)) {
        return Err(TargetError::BuiltIn);
    }
    Ok(())
}

const BUILT_IN: [&str; 21] = [
    "__proto__",
    "alert",
    "blur",
    "close",
    "constructor",
    "document",
    "eval",
    "fetch",
    "focus",
    "frames",
    "history",
    "location",
    "navigator",
    "open",
    "opener",
    "postMessage",
    "print",
    "prototype",
    "self",
    "top",
    "window",
];

fn is_identifier(part: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$';
    part.bytes().next().is_some_and(is_start) && part.bytes().all(|b| is_start(b) || b.is_ascii_digit())
}

/// Checks an origin as browsers write one (RFC 6454 §6.2): `http` or `https`, a host in lower case, a port if
/// it is not the scheme's own. `*` is none: it would show the events to any page that frames this one.
///
/// # Errors
/// [`TargetError::Origin`].
pub fn check_origin(origin: &str) -> Result<(), TargetError> {
    let is_good = || {
        let (host, own_port) = match origin.strip_prefix("https://") {
            Some(host) => (host, "443"),
            None => (origin.strip_prefix("http://")?, "80"),
        };
        // An IPv6 address stands in brackets, so that its colons are not the port's.
        let (host, rest) = match host.strip_prefix('[') {
            Some(address) => address.split_once(']').map(|(address, rest)| {
                let is_address =
                    address.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b':' | b'.'));
                (is_address.then_some(address), rest)
            })?,
            None => {
                let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
                let is_name =
                    name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.' | b'_'));
                (is_name.then_some(name), rest)
            }
        };
        let host_is_good = host.is_some_and(|host| !host.is_empty());
        let port_is_good = match rest.strip_prefix(':') {
            Some(port) => {
                // `parse` would take a sign.
                port != own_port && !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok()
            }
            None => rest.is_empty(),
        };
        (host_is_good && port_is_good).then_some(())
    };
    if origin.len() > ORIGIN_BYTES_MAX || is_good().is_none() {
        return Err(TargetError::Origin);
    }
    Ok(())
}

/// Why a callback or an origin is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// The callback is longer than [`CALLBACK_BYTES_MAX`].
    CallbackTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A part of the callback is no identifier.
    NoIdentifier,
    /// A part of the callback names what every window has.
    BuiltIn,
    /// The origin is none.
    Origin,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallbackTooLong { bytes } => {
                write!(f, "callback of {bytes} bytes; at most {CALLBACK_BYTES_MAX} are allowed")
            }
            Self::NoIdentifier => {
                f.write_str("callback is not made of identifiers (letters, digits, `_`, `$`) joined by dots")
            }
            Self::BuiltIn => f.write_str("callback names a built-in part of the window"),
            Self::Origin => {
                f.write_str("origin is not of the form `https://host` or `http://host:port`, in lower case")
            }
        }
    }
}

impl core::error::Error for TargetError {}

/// Appends the head of the document: the function `e` for `target`, and at least 1 KiB of padding, so that
/// browsers begin to run what follows.
///
/// Each script element removes itself once it has run, so that a frame that lives for days does not grow.
///
/// # Panics
/// If the target was not checked.
pub fn encode_head(target: Target<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>stentor</title>\n\
          <script>function e(m){",
    );
    out.extend_from_slice(b"var s=document.currentScript;if(s)s.parentNode.removeChild(s);");
    match target {
        Target::SameOrigin => out.extend_from_slice(b"parent.postMessage(m,location.origin)"),
        Target::Origin(origin) => {
            assert_eq!(check_origin(origin), Ok(()), "the origin was not checked");
            out.extend_from_slice(b"parent.postMessage(m,\"");
            out.extend_from_slice(origin.as_bytes());
            out.extend_from_slice(b"\")");
        }
        Target::Callback(name) => {
            assert_eq!(check_callback(name), Ok(()), "the callback was not checked");
            out.extend_from_slice(b"parent.");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"(m)");
        }
    }
    out.extend_from_slice(b"}</script>\n<!--");
    out.resize(out.len() + PADDING, b' ');
    out.extend_from_slice(b"-->\n</head><body>\n");
}

const OPEN: &[u8] = b"<script>e(";
const CLOSE: &[u8] = b")</script>\n";
const PARSE: &[u8] = b"JSON.parse(\"";

/// Appends `<script>e(…)</script>` with the JSON text `json` as the argument.
///
/// What HTML or JavaScript could read otherwise is written as an escape: `<`, `>` and `&`, which end or
/// comment out a script element, and U+2028 and U+2029, which end a line. All of them stand only in strings
/// of a JSON text.
///
/// A JSON text is an expression of JavaScript with the same value, but for a key `__proto__`, which sets the
/// prototype, and is a syntax error if it stands twice in an object. A text that may have that key is handed
/// to `JSON.parse` as a string.
pub fn encode_script(json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(OPEN);
    // Any letter of the key may be spelled as an escape.
    let holds = |text: &[u8]| scan::find_text(json.as_bytes(), text).is_some();
    if holds(b"__proto__") || holds(b"\\u") {
        out.extend_from_slice(PARSE);
        for part in json.split_inclusive(['"', '\\']) {
            let (plain, last) = part.split_at(part.len() - usize::from(part.ends_with(['"', '\\'])));
            encode_escaped(plain, out);
            if !last.is_empty() {
                out.push(b'\\');
                out.extend_from_slice(last.as_bytes());
            }
        }
        out.extend_from_slice(b"\")");
    } else {
        encode_escaped(json, out);
    }
    out.extend_from_slice(CLOSE);
}

/// What U+2028 and U+2029 begin with in UTF-8, before 0xA8 and 0xA9.
const SEPARATOR: [u8; 2] = [0xE2, 0x80];

/// Raw line breaks stand between the tokens of a JSON text, where a space means the same.
fn encode_escaped(json: &str, out: &mut Vec<u8>) {
    let is_special = |byte: u8| {
        let is_of_html = (byte == b'<') | (byte == b'>') | (byte == b'&');
        is_of_html | (byte == b'\r') | (byte == b'\n') | (byte == SEPARATOR[0])
    };
    let mut rest = json.as_bytes();
    while let Some(at) = scan::find(rest, is_special) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (escape, used): (&[u8], usize) = match special {
            [b'<', ..] => (b"\\u003c", 1),
            [b'>', ..] => (b"\\u003e", 1),
            [b'&', ..] => (b"\\u0026", 1),
            [b'\r' | b'\n', ..] => (b" ", 1),
            [a, b, 0xA8, ..] if [*a, *b] == SEPARATOR => (b"\\u2028", 3),
            [a, b, 0xA9, ..] if [*a, *b] == SEPARATOR => (b"\\u2029", 3),
            // Another character that begins with the same byte.
            _ => (&special[..1], 1),
        };
        out.extend_from_slice(escape);
        rest = &special[used..];
    }
    out.extend_from_slice(rest);
}

/// Reads the items of a forever frame, cut at any byte: finds the script elements that call `e`, and passes
/// over all else.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// What may be a part of a script element: begins with a prefix of `<script>e(`, and is no longer than
    /// `bytes_max`.
    kept: Vec<u8>,
    bytes_max: usize,
}

impl Decoder {
    /// A decoder for script elements of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { kept: Vec::new(), bytes_max }
    }

    /// Reads from the front of `bytes` up to the end of the next item, and gives the JSON text that it was
    /// written from; `None` when all are read.
    ///
    /// # Errors
    /// [`DecodeError`] if an element is too long, or no element that [`encode_script`] writes.
    pub fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<String>, DecodeError> {
        while !bytes.is_empty() {
            if self.kept.len() < OPEN.len() {
                self.handle_outside(bytes);
                continue;
            }
            // An element has one line break, its last byte, so that is where its end is looked for.
            let room = self.bytes_max.saturating_sub(self.kept.len());
            let within = bytes.get(..room).unwrap_or(bytes);
            if within.is_empty() {
                return Err(DecodeError::TooLong { bytes_max: self.bytes_max });
            }
            let taken = scan::find(within, |byte| byte == b'\n').map_or(within.len(), |at| at + 1);
            self.kept.extend_from_slice(&within[..taken]);
            *bytes = &bytes[taken..];
            let Some(element) = self.kept.strip_suffix(CLOSE) else { continue };
            let json = argument(element.get(OPEN.len()..).unwrap_or_default());
            self.kept.clear();
            return json.map(Some);
        }
        Ok(None)
    }

    fn handle_outside(&mut self, bytes: &mut &[u8]) {
        let (byte, rest) = (bytes[0], &bytes[1..]);
        if byte == OPEN[self.kept.len()] {
            self.kept.push(byte);
        } else {
            // `<` stands in the element's start only once, so nothing but this byte can begin another.
            self.kept.clear();
            if byte == OPEN[0] {
                self.kept.push(byte);
            }
        }
        *bytes = rest;
    }
}

fn argument(bytes: &[u8]) -> Result<String, DecodeError> {
    let text = core::str::from_utf8(bytes).map_err(|_| DecodeError::Script)?;
    let Some(quoted) = text.strip_prefix("JSON.parse(\"") else { return Ok(unescape(text)) };
    let quoted = quoted.strip_suffix("\")").ok_or(DecodeError::Script)?;
    let mut json = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(at) = rest.find('\\') {
        json.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (c, used) = match rest.as_bytes().first() {
            Some(b'"') => ('"', 1),
            Some(b'\\') => ('\\', 1),
            Some(b'u') => {
                let digits = rest.get(1..5).ok_or(DecodeError::Script)?;
                let value = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                (value.ok_or(DecodeError::Script)?, 5)
            }
            _ => return Err(DecodeError::Script),
        };
        json.push(c);
        rest = &rest[used..];
    }
    json.push_str(rest);
    Ok(json)
}

/// Undoes the escapes that the encoder has put in: a text that had any `\u` of its own went to `JSON.parse`.
fn unescape(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = scan::find_text(rest.as_bytes(), b"\\u") {
        json.push_str(&rest[..at]);
        rest = &rest[at..];
        let escaped = match rest.get(2..6) {
            Some("003c") => Some('<'),
            Some("003e") => Some('>'),
            Some("0026") => Some('&'),
            Some("2028") => Some('\u{2028}'),
            Some("2029") => Some('\u{2029}'),
            _ => None,
        };
        match escaped {
            Some(c) => json.push(c),
            None => json.push_str(&rest[..2]),
        }
        rest = &rest[if escaped.is_some() { 6 } else { 2 }..];
    }
    json.push_str(rest);
    json
}

/// Why a document is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// An element is longer than the reader allows.
    TooLong {
        /// What it allows.
        bytes_max: usize,
    },
    /// A call of `e` with something else than one JSON text.
    Script,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes_max } => write!(f, "script element of more than {bytes_max} bytes"),
            Self::Script => f.write_str("script element that is no call with a JSON text"),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn script(json: &str) -> String {
        let mut out = Vec::new();
        encode_script(json, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_callback_is_dotted_identifiers_and_nothing_else() {
        for name in ["f", "_", "$", "app.onEvent", "a1.b2.$c", "a.class", &"f".repeat(128)] {
            assert_eq!(check_callback(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "1a",
            "a-b",
            "a b",
            "a(",
            "a;b",
            "a[0]",
            "é",
            "a\n",
            "a\0",
            "a</script>",
            "a/**/",
            "a=b",
            "a\"",
            "a'",
            "a`",
            "a\u{2028}",
        ] {
            assert_eq!(check_callback(name), Err(TargetError::NoIdentifier), "{name:?}");
        }
        for name in
            ["document.write", "location.replace", "a.constructor", "f.__proto__", "eval", "postMessage"]
        {
            assert_eq!(check_callback(name), Err(TargetError::BuiltIn), "{name:?}");
        }
        assert_eq!(check_callback(&"f".repeat(129)), Err(TargetError::CallbackTooLong { bytes: 129 }));
    }

    #[test]
    fn an_origin_is_one_as_browsers_write_it() {
        for origin in [
            "https://example.com",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "https://[::1]:65535",
            "https://a_b.example.com",
        ] {
            assert_eq!(check_origin(origin), Ok(()), "{origin}");
        }
        for origin in [
            "",
            "*",
            "null",
            "example.com",
            "https://",
            "https://:80",
            "https://Example.com",
            "https://a/",
            "https://a:0",
            "https://a:443",
            "http://a:80",
            "http://a:080",
            "http://a:+81",
            "http://a:65536",
            "http://a:",
            "http://a:1:2",
            "http://u@a",
            "http://a\"",
            "http://a</script>",
            "http://[::1",
            "http://[]",
            "http://[g]",
            "http://é",
            "ftp://a",
            "http://a b",
            "http://a\\",
            "http://a\n",
        ] {
            assert_eq!(check_origin(origin), Err(TargetError::Origin), "{origin:?}");
        }
    }

    #[test]
    fn the_head_defines_the_function_once_and_is_longer_than_1_kib() {
        for (target, call) in [
            (Target::SameOrigin, "parent.postMessage(m,location.origin)}"),
            (Target::Origin("https://a.example"), "parent.postMessage(m,\"https://a.example\")}"),
            (Target::Callback("app.f"), "parent.app.f(m)}"),
        ] {
            let mut out = Vec::new();
            encode_head(target, &mut out);
            assert!(out.len() > 1024);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches("function e(m){").count(), 1);
            assert!(text.contains(call), "{text}");
            assert_eq!(Decoder::new(100).decode(&mut text.as_bytes()), Ok(None), "a head is no item");
        }
    }

    #[test]
    #[should_panic(expected = "the callback was not checked")]
    fn a_callback_that_was_not_checked_does_not_reach_the_page() {
        encode_head(Target::Callback("alert(1);f"), &mut Vec::new());
    }

    #[test]
    fn nothing_in_a_json_text_can_end_or_change_the_script() {
        for (json, argument) in [
            ("1", "1"),
            ("\"</script><!--]]>&\"", "\"\\u003c/script\\u003e\\u003c!--]]\\u003e\\u0026\""),
            ("\"a\u{2028}b\u{2029}c\"", "\"a\\u2028b\\u2029c\""),
            ("{\"a\":\r\n-->1}", "{\"a\":  --\\u003e1}"),
            ("\"\\\\<\"", "\"\\\\\\u003c\""),
            ("\"\u{2027}\u{202a}é\"", "\"\u{2027}\u{202a}é\""),
            ("\"€ … \u{2028}“x€\u{2028}\"", "\"€ … \\u2028“x€\\u2028\""),
            ("{\"__proto__\":\"\\\"<\"}", "JSON.parse(\"{\\\"__proto__\\\":\\\"\\\\\\\"\\u003c\\\"}\")"),
            ("\"\\u005f\"", "JSON.parse(\"\\\"\\\\u005f\\\"\")"),
        ] {
            assert_eq!(script(json), format!("<script>e({argument})</script>\n"));
        }
    }

    #[test]
    fn a_document_cut_at_any_byte_reads_the_same() {
        let mut document = Vec::new();
        encode_head(Target::Callback("f"), &mut document);
        let head = document.len();
        let texts = [
            "{\"a\":[1,\"é漢\"]}",
            "\"\\u005f\\\\ \\\"x\"",
            "{\"__proto__\":\")</scrip\"}",
            "\"\\\\</script>&\u{2028}\u{2029}\"",
        ];
        for text in texts {
            encode_script(text, &mut document);
            document.extend_from_slice(b" <script <<script>");
        }
        let read = |parts: &[&[u8]]| {
            let mut decoder = Decoder::new(200);
            let mut items = Vec::new();
            for part in parts {
                let mut rest = *part;
                while let Some(item) = decoder.decode(&mut rest).unwrap() {
                    items.push(item);
                }
            }
            items
        };
        let whole = read(&[&document]);
        assert_eq!(whole, texts);
        for cut in head..document.len() {
            assert_eq!(read(&[&document[..cut], &document[cut..]]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = document.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    #[test]
    fn what_is_no_call_with_a_json_text_is_refused() {
        for bytes in [
            &b"<script>e(\"\xff\")</script>\n"[..],
            b"<script>e(JSON.parse(\"x)</script>\n",
            b"<script>e(JSON.parse(\"\\x\"))</script>\n",
        ] {
            assert_eq!(Decoder::new(100).decode(&mut &bytes[..]), Err(DecodeError::Script));
        }
        let mut decoder = Decoder::new(20);
        let mut bytes: &[u8] = b"<script>e(12345678901234567890";
        assert_eq!(decoder.decode(&mut bytes), Err(DecodeError::TooLong { bytes_max: 20 }));
    }
}
