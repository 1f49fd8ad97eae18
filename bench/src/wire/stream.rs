//! Lines, messages and answers to polls: payloads alone, or in the project's envelopes.

use memchr::memmem;

use super::Found;

/// Decodes all lines that are whole; answers how many bytes they took.
pub(super) fn decode(text: &[u8], found: &mut dyn FnMut(Found<'_>)) -> usize {
    let mut at = 0;
    while let Some(length) = memchr::memchr(b'\n', &text[at..]) {
        let line = text[at..at + length].trim_ascii();
        if !line.is_empty() {
            message(line, found);
        }
        at += length + 1;
    }
    at
}

/// One payload alone, or one envelope.
pub(super) fn message(text: &[u8], found: &mut dyn FnMut(Found<'_>)) {
    if text.first() != Some(&b'{') {
        return found(Found::Event(text));
    }
    if text.starts_with(b"{\"gap\"") {
        found(Found::Gap);
    }
    for name in [&b"\"data\":\""[..], b"\"id\":\"", b"\"cursor\":\""] {
        if let Some(value) = string(text, name) {
            found(if name[1] == b'd' { Found::Event(value) } else { Found::Cursor(value) });
        }
    }
}

/// An answer to a poll: a cursor, and events.
pub(super) fn poll(body: &[u8], found: &mut dyn FnMut(Found<'_>)) {
    if memmem::find(body, b"\"gap\":").is_some() {
        found(Found::Gap);
    }
    if let Some(cursor) = string(body, b"\"cursor\":\"") {
        found(Found::Cursor(cursor));
    }
    for at in memmem::find_iter(body, b"\"data\":\"") {
        if let Some(data) = string(&body[at..], b"\"data\":\"") {
            found(Found::Event(data));
        }
    }
}

/// The string that follows the first `name`. Payloads and cursors have nothing that is escaped.
fn string<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = &text[memmem::find(text, name)? + name.len()..];
    Some(&rest[..memchr::memchr(b'"', rest)?])
}
