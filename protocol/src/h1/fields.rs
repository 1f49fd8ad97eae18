//! Fields of a head: lookups, lists, and what they say of body and connection (RFC 9110 §5, RFC 9112 §6,
//! §9.3).

use alloc::vec::Vec;

use super::body::BodyFraming;
use super::head::{HeadError, Version};
use super::strict::is_token_byte;

/// The fields of a head as text.
pub(super) fn from_parsed<'b>(parsed: &[httparse::Header<'b>]) -> Result<Vec<(&'b str, &'b str)>, HeadError> {
    let mut fields = Vec::with_capacity(parsed.len());
    for field in parsed {
        // Of what this trims, a value has only SP and HTAB.
        let value = core::str::from_utf8(field.value.trim_ascii())
            .map_err(|_| HeadError::FieldNotUtf8 { field: field.name.into() })?;
        fields.push((field.name, value));
    }
    Ok(fields)
}

/// Without the optional white space around it (RFC 9110 §5.6.3).
pub(super) fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// The values of all fields called `name`, whatever their case, in their order.
pub(super) fn named<'h, 'b: 'h>(
    fields: &'h [(&'b str, &'b str)],
    name: &'h str,
) -> impl Iterator<Item = &'b str> + 'h {
    fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
}

/// Whether the lists of all fields called `name` have `token`, whatever its case (RFC 9110 §5.6.1).
pub(super) fn lists(fields: &[(&str, &str)], name: &str, token: &str) -> bool {
    named(fields, name).flat_map(|value| value.split(',')).any(|item| trim(item).eq_ignore_ascii_case(token))
}

/// Whether another message may follow on the connection (RFC 9112 §9.3).
pub(super) fn keeps_alive(version: Version, fields: &[(&str, &str)]) -> bool {
    !lists(fields, "Connection", "close")
        && (version == Version::Http11 || lists(fields, "Connection", "keep-alive"))
}

/// How the body ends by what `fields` say; [`BodyFraming::None`] if they say nothing (RFC 9112 §6.3).
pub(super) fn framing(version: Version, fields: &[(&str, &str)]) -> Result<BodyFraming, HeadError> {
    if is_chunked(version, fields)? {
        return Ok(BodyFraming::Chunked);
    }
    Ok(content_length(fields)?.map_or(BodyFraming::None, BodyFraming::Length))
}

fn is_chunked(version: Version, fields: &[(&str, &str)]) -> Result<bool, HeadError> {
    let mut values = named(fields, "Transfer-Encoding").peekable();
    let Some(first) = values.peek().copied() else { return Ok(false) };
    if version == Version::Http10 {
        return Err(HeadError::TransferEncodingInHttp10);
    }
    // "ought to be handled as an error" (RFC 9112 §6.3): it is how requests are smuggled past a proxy.
    if named(fields, "Content-Length").next().is_some() {
        return Err(HeadError::LengthAndTransferEncoding);
    }
    if named(fields, "Transfer-Encoding").count() == 1 && first.eq_ignore_ascii_case("chunked") {
        return Ok(true);
    }
    let codings: Vec<&str> = values.flat_map(|value| value.split(',')).map(trim).collect();
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    let is_token = |coding: &&str| !coding.is_empty() && coding.bytes().all(is_token_byte);
    match codings.split_last() {
        // Whoever does not know the other codings still knows where such a body ends, so 501 is an honest
        // answer; all else has no known end (RFC 9112 §6.3).
        Some((last, others))
            if is_chunked(last) && others.iter().all(is_token) && !others.iter().any(is_chunked) =>
        {
            Err(HeadError::UnsupportedTransferEncoding)
        }
        _ => Err(HeadError::InvalidTransferEncoding),
    }
}

fn content_length(fields: &[(&str, &str)]) -> Result<Option<u64>, HeadError> {
    let mut values = named(fields, "Content-Length");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || value.contains(',') {
        return Err(HeadError::RepeatedContentLength);
    }
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeadError::InvalidContentLength);
    }
    value.parse().map(Some).map_err(|_| HeadError::ContentLengthTooLarge)
}
