//! Newline-delimited JSON: one JSON text a line. Does not parse the texts.

use alloc::vec::Vec;
use core::fmt;

use crate::scan;

/// Appends a JSON text as it is written, but for raw CR and LF, which become spaces.
///
/// A raw line break can stand in a JSON text only between its tokens (RFC 8259 §7 forbids it in strings),
/// where a space means the same; so the text stays what it was, and is one line.
pub fn encode_text(json: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in &mut out[start..] {
        // Written back in each case: the compiler then does many at once.
        *byte = if (*byte == b'\n') | (*byte == b'\r') { b' ' } else { *byte };
    }
}

/// Takes a stream apart at each LF, cut at any byte.
///
/// # Examples
/// ```
/// use stentor_protocol::ndjson::Decoder;
/// let mut decoder = Decoder::new(1024);
/// let mut bytes: &[u8] = b"{\"a\":1}\r\n[2";
/// assert_eq!(decoder.decode(&mut bytes)?.as_deref(), Some(&b"{\"a\":1}"[..]));
/// assert_eq!(decoder.decode(&mut bytes)?, None);
/// assert_eq!(decoder.unfinished(), b"[2");
/// # Ok::<(), stentor_protocol::ndjson::LineTooLong>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Invariant: no LF in it, and no longer than `bytes_max`.
    line: Vec<u8>,
    bytes_max: usize,
}

impl Decoder {
    /// A decoder for lines of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { line: Vec::new(), bytes_max }
    }

    /// Reads from the front of `bytes` up to the end of the next line, which it gives without its LF or CRLF;
    /// `None` when all are read. Empty lines are given too.
    ///
    /// # Errors
    /// [`LineTooLong`] as soon as a line passes the limit.
    pub fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, LineTooLong> {
        let end = scan::find(bytes, |byte| byte == b'\n');
        let part = end.map_or(*bytes, |end| &bytes[..end]);
        if self.line.len() + part.len() > self.bytes_max {
            return Err(LineTooLong { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(part);
        let Some(end) = end else {
            *bytes = &[];
            return Ok(None);
        };
        *bytes = &bytes[end + 1..];
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(Some(core::mem::take(&mut self.line)))
    }

    /// What came after the last LF.
    pub fn unfinished(&self) -> &[u8] {
        &self.line
    }
}

/// A line is longer than the reader allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTooLong {
    /// What it allows.
    pub bytes_max: usize,
}

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line of more than {} bytes", self.bytes_max)
    }
}

impl core::error::Error for LineTooLong {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_text_over_several_lines_becomes_one_and_escapes_stay() {
        let mut out = b"x".to_vec();
        encode_text("{\r\n\"a\\n\":\n[1,\r2]}", &mut out);
        assert_eq!(out, b"x{  \"a\\n\": [1, 2]}");
    }

    #[test]
    fn lines_cut_at_any_byte_read_the_same() {
        let bytes = b"{\"a\":1}\n\n  \r\n[\"\xc3\xa9\\n\"]\r\nrest";
        let lines: Vec<Vec<u8>> =
            vec![b"{\"a\":1}".to_vec(), vec![], b"  ".to_vec(), b"[\"\xc3\xa9\\n\"]".to_vec()];
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::new(100);
            let mut read = Vec::new();
            for mut part in [&bytes[..cut], &bytes[cut..]] {
                while let Some(line) = decoder.decode(&mut part).unwrap() {
                    read.push(line);
                }
            }
            assert_eq!(read, lines, "cut at {cut}");
            assert_eq!(decoder.unfinished(), b"rest");
        }
    }

    #[test]
    fn a_line_is_refused_at_the_first_byte_beyond_the_limit() {
        let mut decoder = Decoder::new(4);
        assert_eq!(decoder.decode(&mut &b"1234"[..]), Ok(None));
        assert_eq!(decoder.decode(&mut &b"5"[..]), Err(LineTooLong { bytes_max: 4 }));
        let mut decoder = Decoder::new(4);
        assert_eq!(decoder.decode(&mut &b"1234\n"[..]), Ok(Some(b"1234".to_vec())));
    }
}
