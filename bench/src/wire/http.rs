//! Heads and chunks of HTTP/1.1 answers (RFC 9112).

/// What the decoder must know of a head.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) is_chunked: bool,
    pub(super) length: Option<usize>,
}

impl Head {
    /// Reads a whole head. The status is 0 if there is none.
    pub(super) fn read(head: &[u8]) -> Self {
        let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let is_chunked = fields(head).any(|(name, value)| {
            name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked")
        });
        Self { status: status.unwrap_or(0), is_chunked, length: content_length(head) }
    }
}

/// `Content-Length` of a head.
pub fn content_length(head: &[u8]) -> Option<usize> {
    let (_, value) = fields(head).find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|&byte| byte == b'\n').skip(1).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// The next chunk (RFC 9112, section 7.1).
pub(super) enum Chunk<'a> {
    /// It is not whole yet.
    Partial,
    /// Its size cannot be read, or nothing ends it.
    Malformed,
    /// Its data, empty for the last one, and the bytes that it took.
    Whole { data: &'a [u8], used: usize },
}

pub(super) fn chunk(bytes: &[u8]) -> Chunk<'_> {
    let mut size = 0_usize;
    let mut at = 0;
    loop {
        match bytes.get(at) {
            None => return Chunk::Partial,
            Some(b'\r') if at > 0 => break,
            Some(digit) => match (*digit as char).to_digit(16) {
                Some(digit) if at < 8 => size = size << 4 | digit as usize,
                _ => return Chunk::Malformed,
            },
        }
        at += 1;
    }
    let start = at + 2;
    let Some(end) = bytes.get(start + size..start + size + 2) else { return Chunk::Partial };
    if bytes[at + 1] != b'\n' || end != b"\r\n" {
        return Chunk::Malformed;
    }
    Chunk::Whole { data: &bytes[start..start + size], used: start + size + 2 }
}
