//! Server-Sent Events (WHATWG HTML, section 9.2.6), as far as the payloads of benchmarks need it.

use super::Found;

/// Decodes all blocks that are whole; answers how many bytes they took.
pub(super) fn decode(text: &[u8], found: &mut dyn FnMut(Found<'_>)) -> usize {
    let mut used = 0;
    let mut at = 0;
    let mut data: Option<&[u8]> = None;
    let mut id: Option<&[u8]> = None;
    let mut is_gap = false;
    while let Some(length) = memchr::memchr(b'\n', &text[at..]) {
        let line = &text[at..at + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += length + 1;
        if line.is_empty() {
            match data.take() {
                Some(data) if !data.is_empty() && !is_gap => found(Found::Event(data)),
                _ => {}
            }
            if let Some(id) = id.take() {
                found(Found::Cursor(id));
            }
            if std::mem::take(&mut is_gap) {
                found(Found::Gap);
            }
            used = at;
        } else if let Some(value) = value(line, b"data:") {
            data = Some(value);
        } else if let Some(value) = value(line, b"id:") {
            id = Some(value);
        } else if let Some(value) = value(line, b"event:") {
            is_gap = value == b"stentor.gap";
        }
    }
    used
}

fn value<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(field)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
