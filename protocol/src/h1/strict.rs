//! Which bytes a head may have where, stricter than `httparse`, and with the name of the field at fault.
//!
//! `httparse` reads a head fast but tolerates more than we do and does not say which field is at fault. So a
//! head that it accepts is checked for what it tolerates ([`has_strict_line_ends`] and the byte classes), and
//! a head that is partial or refused is walked byte by byte ([`first_fault`]). The walk stops at the first
//! fault, so a fault is told as soon as its byte has come, and the same one is told when more bytes are
//! there.

use alloc::boxed::Box;

use super::head::{HeadError, HeadLimits, METHOD_BYTES_MAX};

/// Which start line a head has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    RequestLine,
    StatusLine,
}

/// The first fault of `head`, which may be cut anywhere; `None` if what is there can still become a valid
/// head. Judges bytes and their number, not what the fields say.
pub(super) fn first_fault(head: &[u8], start: Start, limits: &HeadLimits) -> Option<HeadError> {
    let mut walk = Walk { rest: head };
    let walked = match start {
        Start::RequestLine => walk.request_line(),
        Start::StatusLine => walk.status_line(),
    };
    match walked.and_then(|()| walk.fields(limits.fields_max())) {
        Err(Stop::Fault(fault)) => Some(fault),
        Err(Stop::Cut) | Ok(()) => None,
    }
}

/// Why a walk ended before the end of the head.
enum Stop {
    /// No more bytes.
    Cut,
    Fault(HeadError),
}

impl From<HeadError> for Stop {
    fn from(fault: HeadError) -> Self {
        Self::Fault(fault)
    }
}

struct Walk<'b> {
    rest: &'b [u8],
}

impl<'b> Walk<'b> {
    fn request_line(&mut self) -> Result<(), Stop> {
        // More than the limit is a fault even before the byte that ends the method has come.
        let method = self.take_while(is_token_byte);
        if method.len() > METHOD_BYTES_MAX {
            return Err(HeadError::MethodTooLong { max: METHOD_BYTES_MAX }.into());
        }
        let byte = self.next()?;
        if method.is_empty() || byte != b' ' {
            return Err(HeadError::InvalidMethod { byte }.into());
        }
        let target = self.take_while(is_target_byte);
        match self.next()? {
            b' ' if !target.is_empty() => {}
            b' ' | b'\r' | b'\n' => return Err(HeadError::InvalidRequestLine.into()),
            byte => return Err(HeadError::InvalidTargetByte { byte }.into()),
        }
        self.version(HeadError::InvalidRequestLine)?;
        self.line_end(|_| HeadError::InvalidRequestLine)
    }

    fn status_line(&mut self) -> Result<(), Stop> {
        self.version(HeadError::InvalidStatusLine)?;
        if self.next()? != b' ' {
            return Err(HeadError::InvalidStatusLine.into());
        }
        for _ in 0..3 {
            self.digit(&HeadError::InvalidStatusLine)?;
        }
        // The SP belongs to the line even where the reason is empty (RFC 9112 §4), but many servers leave it
        // out.
        if self.rest.first() == Some(&b' ') {
            self.take_while(is_value_byte);
        }
        self.line_end(|_| HeadError::InvalidStatusLine)
    }

    fn version(&mut self, otherwise: HeadError) -> Result<(), Stop> {
        for expected in *b"HTTP/" {
            if self.next()? != expected {
                return Err(otherwise.into());
            }
        }
        let major = self.digit(&otherwise)?;
        if self.next()? != b'.' {
            return Err(otherwise.into());
        }
        let minor = self.digit(&otherwise)?;
        match (major, minor) {
            (1, 0 | 1) => Ok(()),
            _ => Err(HeadError::UnsupportedVersion { major, minor }.into()),
        }
    }

    fn digit(&mut self, otherwise: &HeadError) -> Result<u8, Stop> {
        match self.next()? {
            byte @ b'0'..=b'9' => Ok(byte - b'0'),
            _ => Err(otherwise.clone().into()),
        }
    }

    fn fields(&mut self, max: usize) -> Result<(), Stop> {
        let mut count = 0;
        while *self.rest.first().ok_or(Stop::Cut)? != b'\r' {
            if count == max {
                return Err(HeadError::TooManyFields { max }.into());
            }
            self.field()?;
            count += 1;
        }
        self.line_end(|_| HeadError::BareCarriageReturn)
    }

    fn field(&mut self) -> Result<(), Stop> {
        match self.rest.first() {
            Some(b'\n') => return Err(HeadError::BareLineFeed.into()),
            Some(b' ' | b'\t') => return Err(HeadError::FoldedField.into()),
            _ => {}
        }
        let name = self.take_while(is_token_byte);
        match self.next()? {
            b':' if !name.is_empty() => {}
            b' ' | b'\t' => return Err(HeadError::SpaceBeforeColon { field: name_of(name) }.into()),
            byte => return Err(HeadError::InvalidFieldName { byte }.into()),
        }
        self.take_while(is_value_byte);
        self.line_end(|byte| HeadError::InvalidFieldValue { field: name_of(name), byte })
    }

    /// Takes CR LF; another byte than these two is the fault that `otherwise` names.
    fn line_end(&mut self, otherwise: impl FnOnce(u8) -> HeadError) -> Result<(), Stop> {
        match self.next()? {
            b'\r' if self.next()? == b'\n' => Ok(()),
            b'\r' => Err(HeadError::BareCarriageReturn.into()),
            b'\n' => Err(HeadError::BareLineFeed.into()),
            byte => Err(otherwise(byte).into()),
        }
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let (&byte, rest) = self.rest.split_first().ok_or(Stop::Cut)?;
        self.rest = rest;
        Ok(byte)
    }

    fn take_while(&mut self, belongs: fn(u8) -> bool) -> &'b [u8] {
        let length = self.rest.iter().position(|&byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Whether every LF of `head` follows a CR. (That every CR precedes an LF is what `httparse` checks.)
pub(super) fn has_strict_line_ends(head: &[u8]) -> bool {
    let is_bare = |(&before, &byte): (&u8, &u8)| byte == b'\n' && before != b'\r';
    let pairs = head.iter().zip(head.iter().skip(1));
    // All of it without a branch, so that many bytes are looked at in one step.
    let has_bare = pairs.fold(false, |has_bare, pair| has_bare | is_bare(pair));
    !has_bare && head.first() != Some(&b'\n')
}

/// `tchar` (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Visible ASCII but `#`: no target has a fragment (RFC 9112 §3.2). What browsers send unencoded though RFC
/// 3986 would have it encoded (`{`, `|`, `"` …) has one reading only, so it is taken.
pub(super) fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// `field-vchar`, SP and HTAB (RFC 9110 §5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=0x7E | 0x80..)
}

fn name_of(name: &[u8]) -> Box<str> {
    core::str::from_utf8(name).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 3 };

    fn fault(head: &[u8]) -> Option<HeadError> {
        first_fault(head, Start::RequestLine, &LIMITS)
    }

    #[test]
    fn a_fault_is_told_with_its_very_byte() {
        let cases: [(&[u8], HeadError); 25] = [
            // RFC 9112 §3: method SP target SP version CRLF.
            (b"\x16", HeadError::InvalidMethod { byte: 0x16 }),
            (b"\n", HeadError::InvalidMethod { byte: b'\n' }),
            (b" ", HeadError::InvalidMethod { byte: b' ' }),
            (b"GE\xC3", HeadError::InvalidMethod { byte: 0xC3 }),
            (b"GET\t", HeadError::InvalidMethod { byte: b'\t' }),
            (b"GET  ", HeadError::InvalidRequestLine),
            (b"GET /\r", HeadError::InvalidRequestLine),
            (b"GET /\n", HeadError::InvalidRequestLine),
            (b"GET /a#", HeadError::InvalidTargetByte { byte: b'#' }),
            (b"GET /\xC3", HeadError::InvalidTargetByte { byte: 0xC3 }),
            (b"GET /\x7F", HeadError::InvalidTargetByte { byte: 0x7F }),
            (b"GET / h", HeadError::InvalidRequestLine),
            (b"GET / HTTP/x", HeadError::InvalidRequestLine),
            (b"GET / HTTP/1,", HeadError::InvalidRequestLine),
            (b"GET / HTTP/1.1 ", HeadError::InvalidRequestLine),
            (b"GET / HTTP/1.2", HeadError::UnsupportedVersion { major: 1, minor: 2 }),
            (b"GET / HTTP/1.1\n", HeadError::BareLineFeed),
            (b"GET / HTTP/1.1\rH", HeadError::BareCarriageReturn),
            // RFC 9112 §5: name ":" OWS value OWS CRLF.
            (b"GET / HTTP/1.1\r\n ", HeadError::FoldedField),
            (b"GET / HTTP/1.1\r\n\n", HeadError::BareLineFeed),
            (b"GET / HTTP/1.1\r\n:", HeadError::InvalidFieldName { byte: b':' }),
            (b"GET / HTTP/1.1\r\na ", HeadError::SpaceBeforeColon { field: "a".into() }),
            (b"GET / HTTP/1.1\r\na: b\0", HeadError::InvalidFieldValue { field: "a".into(), byte: 0 }),
            (b"GET / HTTP/1.1\r\na: b\r\n\t", HeadError::FoldedField),
            (b"GET / HTTP/1.1\r\na: b\r\n\rx", HeadError::BareCarriageReturn),
        ];
        for (head, expected) in cases {
            let (_, before) = head.split_last().unwrap();
            assert_eq!(fault(before), None, "{}", before.escape_ascii());
            assert_eq!(fault(head), Some(expected), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn the_field_over_the_limit_is_told_by_its_first_byte() {
        let full = b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc: 3\r\n";
        assert_eq!(fault(full), None);
        assert_eq!(fault(&[full, &b"\r\n"[..]].concat()), None);
        assert_eq!(fault(&[full, &b"d"[..]].concat()), Some(HeadError::TooManyFields { max: 3 }));
    }

    #[test]
    fn the_method_over_the_limit_is_told_before_it_ends() {
        assert_eq!(fault(&[b'A'; METHOD_BYTES_MAX]), None);
        let too_long = HeadError::MethodTooLong { max: METHOD_BYTES_MAX };
        assert_eq!(fault(&[b'A'; METHOD_BYTES_MAX + 1]), Some(too_long));
    }

    #[test]
    fn byte_classes_are_those_of_the_rfc() {
        // RFC 9110 §5.6.2: any visible character but the delimiters.
        for byte in 0..=u8::MAX {
            let is_delimiter = b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(is_token_byte(byte), byte.is_ascii_graphic() && !is_delimiter, "{byte:#04x}");
            // RFC 9110 §5.5: SP, HTAB, VCHAR and obs-text.
            let is_control = byte != b'\t' && byte.is_ascii_control();
            assert_eq!(is_value_byte(byte), !is_control, "{byte:#04x}");
        }
    }

    #[test]
    fn a_line_feed_without_carriage_return_is_seen_anywhere() {
        assert!(has_strict_line_ends(b"a\r\nb\r\n\r\n"));
        assert!(has_strict_line_ends(b""));
        for head in [&b"\n"[..], b"a\nb\r\n", b"a\r\n\n", b"a\r\nb\n\r\n"] {
            assert!(!has_strict_line_ends(head), "{}", head.escape_ascii());
        }
    }
}
