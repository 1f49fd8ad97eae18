//! The opening handshake (RFC 6455 section 4.2), the server's side, over fields that are parsed already.
//!
//! Says what a request asks for and writes the answer's head. Whether the origin, the topics or the number of
//! connections are welcome is for others to say.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

use super::deflate;

/// The most subprotocols, extensions, and parameters of one extension that a request may offer; browsers
/// offer a few.
pub const OFFERS_MAX: usize = 64;

/// Takes keys whose last character has bits that mean nothing: RFC 4648 section 3.5 leaves that to the
/// reader, and no one gains by refusing such a client.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What a valid opening handshake asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// The subprotocols offered, the client's favourite first, none twice.
    pub subprotocols: Vec<&'a str>,
    /// The extensions offered, the client's favourite first; one may stand several times with other
    /// parameters.
    pub extensions: Vec<Extension<'a>>,
    /// The `Origin`, which every browser sends; to be held against the list of those allowed.
    pub origin: Option<&'a str>,
}

/// One extension with its parameters, as offered or accepted in `Sec-WebSocket-Extensions` (section 9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The registered name, as `permessage-deflate`.
    pub name: &'a str,
    /// Names and values, in their order. A quoted value stands here without its quotes.
    pub params: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// Whether the fields ask for a WebSocket at all: `Upgrade` names it, whatever else may be wrong.
#[must_use]
pub fn is_upgrade(fields: &[(&str, &str)]) -> bool {
    list_contains(fields, "upgrade", "websocket")
}

/// Makes every check of section 4.2.1 on a request's head. `is_http11` is true for HTTP/1.1 and what is
/// compatible.
///
/// Field names are compared without regard to case; the values are without surrounding blanks.
///
/// # Errors
/// [`HandshakeError`] names the field; its [`status`](HandshakeError::status) is what the request is refused
/// with.
pub fn accept<'a>(
    method: &str,
    is_http11: bool,
    fields: &[(&'a str, &'a str)],
) -> Result<Upgrade<'a>, HandshakeError> {
    if method != "GET" {
        return Err(HandshakeError::Method);
    }
    if !is_http11 {
        return Err(HandshakeError::HttpVersion);
    }
    if !is_upgrade(fields) {
        return Err(HandshakeError::NoUpgrade);
    }
    if !list_contains(fields, "connection", "upgrade") {
        return Err(HandshakeError::NoConnectionUpgrade);
    }
    single(fields, "Host")?.ok_or(HandshakeError::Missing { field: "Host" })?;
    // The version first: the fields of another version may have another form.
    check_version(fields)?;
    let key =
        single(fields, "Sec-WebSocket-Key")?.ok_or(HandshakeError::Missing { field: "Sec-WebSocket-Key" })?;
    check_key(key)?;
    Ok(Upgrade {
        accept_key: accept_key(key),
        subprotocols: parse_subprotocols(fields)?,
        extensions: parse_extensions(fields)?,
        origin: single(fields, "Origin")?,
    })
}

/// The answer to a `Sec-WebSocket-Key`: base64 of the SHA-1 of the key and a fixed GUID (section 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    BASE64_STANDARD.encode(digest)
}

/// The first of the client's subprotocols that is in `supported`: the client's order of preference decides
/// (section 1.9). Names are compared exactly.
#[must_use]
pub fn choose_subprotocol<'s>(offered: &[&str], supported: &[&'s str]) -> Option<&'s str> {
    offered.iter().find_map(|offer| supported.iter().copied().find(|name| name == offer))
}

/// Appends the whole head of the 101 answer (section 4.2.2). `fields` are further fields, as
/// `Stentor-Cursor`; their names and values are written as they are.
pub fn write_response<'f>(
    out: &mut Vec<u8>,
    upgrade: &Upgrade<'_>,
    subprotocol: Option<&str>,
    extension: Option<&deflate::Params>,
    fields: impl IntoIterator<Item = (&'f str, &'f str)>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    write_field(out, "Sec-WebSocket-Accept", &upgrade.accept_key);
    if let Some(subprotocol) = subprotocol {
        write_field(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    if let Some(params) = extension {
        write_field(out, "Sec-WebSocket-Extensions", &alloc::format!("{params}"));
    }
    for (name, value) in fields {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn check_version(fields: &[(&str, &str)]) -> Result<(), HandshakeError> {
    match single(fields, "Sec-WebSocket-Version")? {
        Some("13") => Ok(()),
        Some(_) => Err(HandshakeError::Version),
        None => Err(HandshakeError::Missing { field: "Sec-WebSocket-Version" }),
    }
}

/// "a base64-encoded value that, when decoded, is 16 bytes in length" (section 4.2.1).
fn check_key(key: &str) -> Result<(), HandshakeError> {
    let mut nonce = [0; 18];
    match KEY_BASE64.decode_slice(key, &mut nonce) {
        Ok(16) => Ok(()),
        _ => Err(HandshakeError::Key),
    }
}

fn parse_subprotocols<'a>(fields: &[(&'a str, &'a str)]) -> Result<Vec<&'a str>, HandshakeError> {
    const FIELD: &str = "Sec-WebSocket-Protocol";
    let mut subprotocols = Vec::new();
    for name in values(fields, FIELD).flat_map(|value| value.split(',')).map(trim) {
        // RFC 9110 section 5.6.1: a recipient takes empty elements of a list and ignores them.
        if name.is_empty() {
            continue;
        }
        // The elements must be tokens, and all different (section 4.1).
        if !is_token(name) || subprotocols.contains(&name) {
            return Err(HandshakeError::Malformed { field: FIELD });
        }
        if subprotocols.len() == OFFERS_MAX {
            return Err(HandshakeError::TooMany { field: FIELD });
        }
        subprotocols.push(name);
    }
    Ok(subprotocols)
}

/// Reads every `Sec-WebSocket-Extensions` among `fields`; several count as one list (section 9.1).
///
/// # Errors
/// [`HandshakeError::Malformed`] where the grammar of section 9.1 is broken, [`HandshakeError::TooMany`] over
/// [`OFFERS_MAX`].
pub fn parse_extensions<'a>(fields: &[(&'a str, &'a str)]) -> Result<Vec<Extension<'a>>, HandshakeError> {
    const FIELD: &str = "Sec-WebSocket-Extensions";
    let mut extensions = Vec::new();
    for value in values(fields, FIELD) {
        let mut scanner = Scanner { rest: value };
        loop {
            scanner.skip_blanks();
            // Empty elements of a list are ignored (RFC 9110 section 5.6.1).
            if scanner.skip(',') {
                continue;
            }
            if scanner.rest.is_empty() {
                break;
            }
            if extensions.len() == OFFERS_MAX {
                return Err(HandshakeError::TooMany { field: FIELD });
            }
            let extension = scanner.extension().ok_or(HandshakeError::Malformed { field: FIELD })?;
            if extension.params.len() > OFFERS_MAX {
                return Err(HandshakeError::TooMany { field: FIELD });
            }
            extensions.push(extension);
        }
    }
    Ok(extensions)
}

/// Reads the grammar of section 9.1. Every method takes what it names off the front of `rest`.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// One extension up to, but not with, the comma that ends it; `None` where it is malformed.
    fn extension(&mut self) -> Option<Extension<'a>> {
        let name = self.token()?;
        let mut params = Vec::new();
        loop {
            self.skip_blanks();
            if !self.skip(';') {
                break;
            }
            self.skip_blanks();
            let name = self.token()?;
            self.skip_blanks();
            let value = if self.skip('=') {
                self.skip_blanks();
                Some(self.value()?)
            } else {
                None
            };
            params.push((name, value));
        }
        (self.rest.is_empty() || self.rest.starts_with(',')).then_some(Extension { name, params })
    }

    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.skip('"') {
            return self.token().map(Cow::Borrowed);
        }
        let end = quoted_end(self.rest)?;
        let (quoted, rest) = (self.rest.get(..end)?, self.rest.get(end + 1..)?);
        self.rest = rest;
        let value = unescape(quoted);
        // "the value after quoted-string unescaping MUST conform to the 'token' ABNF" (section 9.1).
        is_token(&value).then_some(value)
    }

    fn token(&mut self) -> Option<&'a str> {
        let len = self.rest.bytes().take_while(|byte| is_token_byte(*byte)).count();
        let (token, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn skip(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// Where the quote stands that ends a quoted string.
fn quoted_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn unescape(quoted: &str) -> Cow<'_, str> {
    if !quoted.contains('\\') {
        return Cow::Borrowed(quoted);
    }
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(text)
}

fn values<'a>(fields: &[(&'a str, &'a str)], name: &str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// The value of a field that may stand only once.
fn single<'a>(fields: &[(&'a str, &'a str)], name: &'static str) -> Result<Option<&'a str>, HandshakeError> {
    let mut values = values(fields, name);
    let first = values.next();
    if values.next().is_some() {
        return Err(HandshakeError::Repeated { field: name });
    }
    Ok(first.map(trim))
}

fn list_contains(fields: &[(&str, &str)], name: &str, token: &str) -> bool {
    values(fields, name)
        .flat_map(|value| value.split(','))
        .any(|element| trim(element).eq_ignore_ascii_case(token))
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// A token of RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Why an opening handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET.
    Method,
    /// The request is older than HTTP/1.1.
    HttpVersion,
    /// No `Upgrade` field names `websocket`.
    NoUpgrade,
    /// No `Connection` field has the option `upgrade`.
    NoConnectionUpgrade,
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// `Sec-WebSocket-Key` is not base64 of 16 bytes.
    Key,
    /// A field that must be there is not.
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field that may be there once is there again.
    Repeated {
        /// Its name.
        field: &'static str,
    },
    /// A field whose value breaks its grammar, or that offers a subprotocol twice.
    Malformed {
        /// Its name.
        field: &'static str,
    },
    /// A field that offers more than [`OFFERS_MAX`].
    TooMany {
        /// Its name.
        field: &'static str,
    },
}

impl HandshakeError {
    /// The status to refuse the request with: 405, 426 or 400.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            // RFC 9110 section 15.5.22 for a request that is none for an upgrade, RFC 6455 section 4.4 for
            // the version.
            Self::NoUpgrade | Self::Version => 426,
            _ => 400,
        }
    }

    /// The field at fault; `None` for the request line.
    #[must_use]
    pub const fn field(self) -> Option<&'static str> {
        Some(match self {
            Self::Method | Self::HttpVersion => return None,
            Self::NoUpgrade => "Upgrade",
            Self::NoConnectionUpgrade => "Connection",
            Self::Version => "Sec-WebSocket-Version",
            Self::Key => "Sec-WebSocket-Key",
            Self::Missing { field }
            | Self::Repeated { field }
            | Self::Malformed { field }
            | Self::TooMany { field } => field,
        })
    }

    /// Fields that the refusal must carry: what the server would have taken.
    #[must_use]
    pub const fn response_fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::NoUpgrade | Self::Version => {
                &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
            }
            _ => &[],
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method of an opening handshake is not GET"),
            Self::HttpVersion => f.write_str("opening handshake over less than HTTP/1.1"),
            Self::NoUpgrade => f.write_str("Upgrade does not name websocket"),
            Self::NoConnectionUpgrade => f.write_str("Connection does not name upgrade"),
            Self::Version => f.write_str("Sec-WebSocket-Version is not 13"),
            Self::Key => f.write_str("Sec-WebSocket-Key is not base64 of 16 bytes"),
            Self::Missing { field } => write!(f, "{field} is missing"),
            Self::Repeated { field } => write!(f, "{field} stands more than once"),
            Self::Malformed { field } => write!(f, "{field} is malformed"),
            Self::TooMany { field } => write!(f, "{field} offers too much; at most {OFFERS_MAX} are allowed"),
        }
    }
}

impl core::error::Error for HandshakeError {}

#[cfg(test)]
mod tests;
