//! The event stream format (WHATWG HTML, "Server-sent events", §9.2.5 and §9.2.6): events to bytes, and back.
//! Knows nothing of cursors: whoever calls decides what stands in `id`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::scan;

/// One event to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event<'a> {
    /// The `event` field; without one a browser hears the event as `message`.
    pub name: Option<&'a str>,
    /// The data, of any number of lines; CR, LF and CRLF all end a line, and arrive as LF.
    pub data: &'a str,
    /// The `id` field: what the client sends as `Last-Event-ID` when it comes back.
    pub id: Option<&'a str>,
}

/// Appends `event` to `out` as one event of an event stream.
///
/// Each line of the data becomes one `data` field, so a payload can neither end the event early nor add a
/// field of its own. Empty data is one empty field: without any, a browser would drop the event. `id` stands
/// last, because some clients keep an id as soon as its line is read: one that is cut off before the data
/// would never see the event again.
///
/// # Errors
/// [`EncodeError`] if `name` or `id` is more than one line, or `id` has a NUL, which makes browsers ignore
/// it; `out` is then unchanged.
///
/// # Examples
/// ```
/// use stentor_protocol::sse::{Event, encode};
/// let mut out = Vec::new();
/// encode(&Event { id: Some("k3-42"), name: Some("price"), data: "a\r\nb" }, &mut out)?;
/// assert_eq!(out, b"event: price\ndata: a\ndata: b\nid: k3-42\n\n");
/// # Ok::<(), stentor_protocol::sse::EncodeError>(())
/// ```
pub fn encode(event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    check("event", event.name)?;
    check("id", event.id)?;
    if event.id.is_some_and(|id| id.contains('\0')) {
        return Err(EncodeError::Nul);
    }
    if let Some(name) = event.name {
        encode_field(b"event", name.as_bytes(), out);
    }
    encode_data(event.data.as_bytes(), out);
    if let Some(id) = event.id {
        encode_field(b"id", id.as_bytes(), out);
    }
    out.push(b'\n');
    Ok(())
}

fn encode_data(data: &[u8], out: &mut Vec<u8>) {
    let mut rest = data;
    while let Some(end) = line_end(rest) {
        encode_field(b"data", &rest[..end], out);
        let is_crlf = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_crlf)..];
    }
    encode_field(b"data", rest, out);
}

/// The reader removes one space after the colon, so one is written even before a value that begins with a
/// space; none before an empty value.
fn encode_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 3);
    out.extend_from_slice(name);
    out.push(b':');
    if !value.is_empty() {
        out.push(b' ');
        out.extend_from_slice(value);
    }
    out.push(b'\n');
}

fn check(field: &'static str, value: Option<&str>) -> Result<(), EncodeError> {
    match value {
        Some(value) if line_end(value.as_bytes()).is_some() => Err(EncodeError::LineBreak { field }),
        _ => Ok(()),
    }
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    scan::find(bytes, |byte| (byte == b'\n') | (byte == b'\r'))
}

/// Appends the reconnection time, in milliseconds; takes effect as soon as it is read.
pub fn encode_retry(milliseconds: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    let mut rest = milliseconds;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    encode_field(b"retry", &digits[start..], out);
    out.push(b'\n');
}

/// Appends an empty comment, which every reader ignores: bytes that prove the connection alive. The blank
/// line after it is for readers that take a stream apart at blank lines.
pub fn encode_comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// Why an event cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The field would be more than one line.
    LineBreak {
        /// `event` or `id`.
        field: &'static str,
    },
    /// The `id` has a NUL.
    Nul,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineBreak { field } => write!(f, "{field} has a line break"),
            Self::Nul => f.write_str("id has a NUL"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// What a reader gets from an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// An event that is dispatched.
    Event {
        /// Its type: `message` unless the stream says otherwise.
        name: String,
        /// Its data, lines joined by LF.
        data: String,
        /// The `id` of this very event. Without one, [`Decoder::last_event_id`] still holds that of an
        /// earlier one.
        id: Option<String>,
    },
    /// The reconnection time was set to so many milliseconds.
    Retry(u64),
    /// A comment, without its colon.
    Comment(String),
}

/// Reads an event stream as browsers do (WHATWG HTML §9.2.6), cut at any byte.
///
/// What stands after the last blank line when the stream ends is no event, and is dropped with the decoder.
///
/// # Examples
/// ```
/// use stentor_protocol::sse::{Decoder, Item};
/// let mut decoder = Decoder::new(1 << 20);
/// let mut bytes: &[u8] = b"data: a\ndata: b\nid: 7\n\n";
/// let item = decoder.decode(&mut bytes)?;
/// let (name, data, id) = ("message".into(), "a\nb".into(), Some("7".into()));
/// assert_eq!(item, Some(Item::Event { name, data, id }));
/// assert_eq!(decoder.decode(&mut bytes)?, None);
/// # Ok::<(), stentor_protocol::sse::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// Whether the last byte was a CR that ended a line, so that an LF right after it belongs to that end.
    is_after_cr: bool,
    /// Whether no line was read yet, so that it may begin with a byte order mark.
    is_first_line: bool,
    name: String,
    data: Vec<u8>,
    id: Option<String>,
    last_event_id: String,
    /// Invariant: `line` and `data` together are no longer.
    bytes_max: usize,
}

impl Decoder {
    /// A decoder at the start of a stream, for events of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            is_after_cr: false,
            is_first_line: true,
            name: String::new(),
            data: Vec::new(),
            id: None,
            last_event_id: String::new(),
            bytes_max,
        }
    }

    /// What a browser would send as `Last-Event-ID` if the stream ended here: the id of the last whole block
    /// that had one.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Reads from the front of `bytes` up to the end of the next item; `None` when all are read and none is
    /// whole.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] when an event or comment passes the limit. Nothing else is an error: the
    /// format has none.
    pub fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<Item>, DecodeError> {
        loop {
            if self.is_after_cr && !bytes.is_empty() {
                self.is_after_cr = false;
                *bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let Some(end) = line_end(bytes) else {
                self.keep(bytes)?;
                *bytes = &[];
                return Ok(None);
            };
            self.keep(&bytes[..end])?;
            self.is_after_cr = bytes[end] == b'\r';
            *bytes = &bytes[end + 1..];
            let line = core::mem::take(&mut self.line);
            let item = self.handle_line(&line);
            self.line = line;
            self.line.clear();
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.line.len() + self.data.len() + bytes.len() > self.bytes_max {
            return Err(DecodeError::TooLong { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn handle_line(&mut self, line: &[u8]) -> Option<Item> {
        let mut line = line;
        if core::mem::take(&mut self.is_first_line) {
            // "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark, if any" (§9.2.5).
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            Some(0) => return Some(Item::Comment(text(&line[1..]))),
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        self.handle_field(name, value)
    }

    fn handle_field(&mut self, name: &[u8], value: &[u8]) -> Option<Item> {
        match name {
            b"event" => self.name = text(value),
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            // "If the field value does not contain U+0000 NULL, then set the last event ID buffer to the
            // field value. Otherwise, ignore the field."
            b"id" if !value.contains(&0) => self.id = Some(text(value)),
            // "If the field value consists of only ASCII digits …. Otherwise, ignore the field." A value of
            // no digit, or beyond what a number holds, is ignored as well.
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                return core::str::from_utf8(value).ok()?.parse().ok().map(Item::Retry);
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Item> {
        let id = self.id.take();
        if let Some(id) = &id {
            // The last event ID string is set even where no event is dispatched.
            self.last_event_id.clone_from(id);
        }
        let name = core::mem::take(&mut self.name);
        // Without a `data` field there is no event; with one, the last LF is not part of the data.
        self.data.pop()?;
        let data = text(&self.data);
        self.data.clear();
        let name = if name.is_empty() { "message".into() } else { name };
        Some(Item::Event { name, data, id })
    }
}

fn text(bytes: &[u8]) -> String {
    // What is valid is seen to be so many bytes at a time; what is not, is mended one by one.
    match core::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Why a stream is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// An event or comment is longer than the reader allows.
    TooLong {
        /// What it allows.
        bytes_max: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes_max } => write!(f, "event of more than {bytes_max} bytes"),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::{format, vec};

    fn encoded(event: &Event<'_>) -> String {
        let mut out = Vec::new();
        encode(event, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn decoded(bytes: &[u8]) -> Vec<Item> {
        decoded_in_parts(&[bytes])
    }

    fn decoded_in_parts(parts: &[&[u8]]) -> Vec<Item> {
        let mut decoder = Decoder::new(4 << 20);
        let mut items = Vec::new();
        for part in parts {
            let mut rest = *part;
            while let Some(item) = decoder.decode(&mut rest).unwrap() {
                items.push(item);
            }
            assert!(rest.is_empty());
        }
        items
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> Item {
        Item::Event { name: name.to_string(), data: data.to_string(), id: id.map(ToString::to_string) }
    }

    #[test]
    fn the_bytes_of_an_event_are_these() {
        for (name, data, id, bytes) in [
            (None, "", None, "data:\n\n"),
            (None, "x", Some("k3-1"), "data: x\nid: k3-1\n\n"),
            (Some("price"), " x", None, "event: price\ndata:  x\n\n"),
            (None, "a\nb\rc\r\nd", None, "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            (None, "\n", None, "data:\ndata:\n\n"),
            (None, "a\n\r\r\n", None, "data: a\ndata:\ndata:\ndata:\n\n"),
            (None, "x\nid: 9\nevent: evil\n\ndata: y", None, {
                "data: x\ndata: id: 9\ndata: event: evil\ndata:\ndata: data: y\n\n"
            }),
            (None, "\u{2028}\u{85}\u{0}", None, "data: \u{2028}\u{85}\u{0}\n\n"),
        ] {
            assert_eq!(encoded(&Event { name, data, id }), bytes);
        }
    }

    #[test]
    fn a_name_or_id_that_would_be_another_field_is_refused_and_nothing_is_written() {
        let mut out = b"before".to_vec();
        for break_ in ["\n", "\r", "\r\n"] {
            let two_lines = format!("a{break_}data: b");
            let event = Event { name: Some(&two_lines), ..Event::default() };
            assert_eq!(encode(&event, &mut out), Err(EncodeError::LineBreak { field: "event" }));
            let event = Event { id: Some(&two_lines), ..Event::default() };
            assert_eq!(encode(&event, &mut out), Err(EncodeError::LineBreak { field: "id" }));
        }
        let event = Event { id: Some("a\0"), ..Event::default() };
        assert_eq!(encode(&event, &mut out), Err(EncodeError::Nul));
        assert_eq!(out, b"before");
    }

    #[test]
    fn retry_and_comment_are_one_block_each() {
        let mut out = Vec::new();
        encode_retry(0, &mut out);
        encode_retry(u32::MAX, &mut out);
        encode_comment(&mut out);
        assert_eq!(out, b"retry: 0\n\nretry: 4294967295\n\n:\n\n");
        let expected = vec![Item::Retry(0), Item::Retry(u64::from(u32::MAX)), Item::Comment("".into())];
        assert_eq!(decoded(&out), expected);
    }

    /// The examples of §9.2.6, and each of its rules.
    #[test]
    fn a_stream_is_read_as_the_standard_says() {
        let message = |data| event("message", data, None);
        for (bytes, items) in [
            ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![message("YHOO\n+2\n10")]),
            (": test\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n", {
                vec![
                    Item::Comment(" test".into()),
                    event("message", "first event", Some("1")),
                    event("message", "second event", Some("")),
                    message(" third event"),
                ]
            }),
            ("data\n\ndata\ndata\n\ndata:", vec![message(""), message("\n")]),
            ("data:test\n\ndata: test\n\n", vec![message("test"), message("test")]),
            // Line ends: CR, LF, CRLF, and LF CR, which is two.
            ("data: a\rdata: b\r\ndata: c\n\r", vec![message("a\nb\nc")]),
            ("data: a\r\r\ndata: b\r\n\r\n", vec![message("a"), message("b")]),
            // One byte order mark, at the very start only.
            ("\u{feff}data: a\n\n", vec![message("a")]),
            ("\u{feff}\u{feff}data: a\n\ndata: b\n\n", vec![message("b")]),
            ("data: a\n\n\u{feff}data: b\n\n", vec![message("a")]),
            // A block without data is no event, and its name does not stay.
            ("event: x\n\ndata: a\n\n", vec![message("a")]),
            ("id: 7\n\n", vec![]),
            ("event: x\nevent:\ndata: a\n\n", vec![message("a")]),
            // Unknown fields and names in another case are ignored; a field may lack its colon.
            ("Data: a\ndatax: b\n data: c\nfoo\n\n", vec![]),
            ("id: a\0b\ndata: x\n\n", vec![message("x")]),
            ("id: 1\nid: 2\ndata: x\n\n", vec![event("message", "x", Some("2"))]),
            ("retry: 10\nretry: 1x\nretry:\nretry: -1\nretry: 99999999999999999999\n", vec![Item::Retry(10)]),
            ("data: a\u{2028}b\u{85}c\n\n", vec![message("a\u{2028}b\u{85}c")]),
            // What no blank line ends is no event.
            ("data: a\n\ndata: b\n", vec![message("a")]),
        ] {
            assert_eq!(decoded(bytes.as_bytes()), items, "{bytes:?}");
        }
        assert_eq!(decoded(b"data: \xff\xc3\n\n"), vec![message("\u{fffd}\u{fffd}")]);
    }

    #[test]
    fn the_last_event_id_is_that_of_whole_blocks_and_an_empty_one_resets_it() {
        let mut decoder = Decoder::new(1024);
        for (bytes, id) in [
            ("data: a\nid: 1", ""),
            ("\n", ""),
            ("\n", "1"),
            ("data: b\n\n", "1"),
            ("id: 2\n\n", "2"),
            ("id: 3\n", "2"),
            ("\n", "3"),
            ("id\n\n", ""),
        ] {
            let mut rest = bytes.as_bytes();
            while decoder.decode(&mut rest).unwrap().is_some() {}
            assert_eq!(decoder.last_event_id(), id, "after {bytes:?}");
        }
    }

    #[test]
    fn a_stream_cut_at_any_byte_reads_the_same() {
        let bytes = "\u{feff}retry: 5\r\n\r\n: c\r\revent: é\rdata: a\r\ndata: 漢\r\nid: k-1\r\n\r\ndata\n\n"
            .as_bytes();
        let whole = decoded(bytes);
        assert_eq!(whole.len(), 4);
        for cut in 0..=bytes.len() {
            assert_eq!(decoded_in_parts(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decoded_in_parts(&single), whole);
    }

    #[test]
    fn what_is_written_reads_back_with_line_ends_as_lf() {
        let long = "é\r\n".repeat(300_000);
        for data in ["", "a", "\r", "\r\n\n", " a\n b ", ":", "data: x", "\u{feff}", "a\0b", &long] {
            let bytes = encoded(&Event { name: Some("n"), data, id: Some("k-1") });
            let expected = data.replace("\r\n", "\n").replace('\r', "\n");
            assert_eq!(decoded(bytes.as_bytes()), vec![event("n", &expected, Some("k-1"))]);
        }
    }

    #[test]
    fn an_event_beyond_the_limit_is_refused_before_it_is_kept() {
        for bytes in ["data: 123456789", "data: 1\ndata: 2\ndata: 345", ": a comment too long"] {
            let mut decoder = Decoder::new(12);
            let refused = Err(DecodeError::TooLong { bytes_max: 12 });
            let mut rest = bytes.as_bytes();
            let mut result = decoder.decode(&mut rest);
            while let Ok(Some(_)) = result {
                result = decoder.decode(&mut rest);
            }
            assert_eq!(result, refused, "{bytes:?}");
        }
    }
}
