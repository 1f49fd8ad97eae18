//! Polling and long polling: one whole HTTP response an answer. Both are answered the same; they differ in
//! when.

use std::io::Write;

use crate::transport::{Answer, Encoding, envelope};

/// `{"cursor":…,"gap":{…},"events":[…],"more":true}`; `gap` and `more` only where there is one.
pub(super) fn encode_answer(encoding: &Encoding, answer: &Answer<'_>, out: &mut Vec<u8>) {
    let mut body = String::from("{\"cursor\":");
    envelope::encode_cursor(answer.cursor, &mut body);
    if let Some(gap) = &answer.gap {
        body.push_str(",\"gap\":");
        envelope::encode_gap(gap, &mut body);
    }
    body.push_str(",\"events\":[");
    for (index, event) in answer.events.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        envelope::encode(encoding.format, answer.epoch, event, &mut body);
    }
    body.push(']');
    if answer.has_more {
        body.push_str(",\"more\":true");
    }
    body.push_str("}\n");

    out.reserve(body.len() + 512);
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n");
    write!(out, "Content-Length: {}\r\n", body.len()).expect("a Vec takes everything");
    encode_fields(answer, out);
    if !answer.is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

/// A 304 has no body, and repeats the fields of the 200 that a cache would use (RFC 9110 §15.4.5).
pub(super) fn encode_not_modified(answer: &Answer<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    encode_fields(answer, out);
}

/// The fields that both have, and the empty line.
fn encode_fields(answer: &Answer<'_>, out: &mut Vec<u8>) {
    let connection = match (answer.is_keep_alive, answer.is_http10) {
        (false, _) => "Connection: close\r\n",
        (true, true) => "Connection: keep-alive\r\n",
        (true, false) => "",
    };
    write!(
        out,
        "ETag: \"{}\"\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{connection}{}\r\n",
        answer.cursor, answer.extra_head,
    )
    .expect("a Vec takes everything");
}
