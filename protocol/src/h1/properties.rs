//! What holds for any input: generated from seeds, so that a failure can be had again by the seed that it
//! prints.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::body::{BodyDecoder, BodyFraming};
use super::chunked::{ChunkedDecoder, LAST_CHUNK, chunk_with, encode_chunk};
use super::conditional::{IfNoneMatch, encode_etag, if_none_match};
use super::head::{HeadError, HeadLimits};
use super::query::{decode_path, parse_query};
use super::request::{RequestHead, decode_head};
use super::response;
use super::strict::{Start, first_fault, is_target_byte, is_token_byte, is_value_byte};

/// A small generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, length: usize, belongs: fn(u8) -> bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let byte = self.next() as u8;
            if belongs(byte) {
                bytes.push(byte);
            }
        }
        bytes
    }
}

const LIMITS: HeadLimits = HeadLimits { bytes: 300, fields: 6 };

/// A head that is valid, or one or two edits away from it.
fn head_of(random: &mut Random) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend_from_slice(random.one_of(&["", "", "", "\r\n"]).as_bytes());
    let method = random.one_of(&["GET", "POST", "OPTIONS", "CONNECT", "X-!"]);
    let target = random.one_of(&["/", "/", "/events?topic=a%20b", "http://a/b", "*", "a:80"]);
    let version = random.one_of(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]);
    head.extend_from_slice(format!("{method} {target} {version}\r\n").as_bytes());
    head.extend_from_slice(random.one_of(&["Host: a\r\n", "Host: a\r\n", ""]).as_bytes());
    let lines = [
        "Host: a:80",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Expect: 100-continue",
        "X-A: \t b \t",
        "X:",
        "X-C: d",
    ];
    for _ in 0..random.below(LIMITS.fields + 2) {
        head.extend_from_slice(random.one_of(&lines).as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\nBODY");
    for _ in 0..random.below(3) {
        edit(&mut head, random);
    }
    head
}

/// Puts in, takes out or changes a byte; prefers those that separate.
fn edit(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let byte = match random.below(3) {
        0 => random.next() as u8,
        _ => random.one_of(&[b"\r", b"\n", b" ", b"\t", b":", b",", b"\0", b"\x7F", b"\xC3", b"#", b"0"])[0],
    };
    match random.below(4) {
        0 => bytes.insert(at, byte),
        1 => bytes[at] = byte,
        2 => drop(bytes.remove(at)),
        _ => {
            let end = (at + random.below(40)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}

#[test]
fn a_cut_head_asks_for_more_or_says_at_once_what_the_whole_one_says() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..4000 {
        let input = head_of(&mut Random(seed));
        let whole = decode_head(&input, &LIMITS);
        let mut is_decided = false;
        for cut in 0..=input.len() {
            match decode_head(&input[..cut], &LIMITS) {
                Ok(None) => assert!(!is_decided, "seed {seed}: asks for more at {cut} after an answer"),
                answer => {
                    assert_eq!(answer, whole, "seed {seed}: cut at {cut}");
                    is_decided = true;
                }
            }
        }
        match whole {
            Ok(Some((head, used))) => {
                accepted += 1;
                check_accepted(seed, &input, &head, used);
            }
            Ok(None) => assert!(input.len() < LIMITS.bytes + 2, "seed {seed}: no answer at the limit"),
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 300 && refused > 1000, "the generator makes both: {accepted} and {refused}");
}

/// An accepted head has only what the grammar of RFC 9112 §3 and §5 has, and written anew it is read as the
/// same head.
fn check_accepted(seed: u64, input: &[u8], head: &RequestHead<'_>, used: usize) {
    let text = &input[..used];
    let text = text.strip_prefix(b"\r\n").unwrap_or(text);
    assert_eq!(first_fault(text, Start::RequestLine, &LIMITS), None, "seed {seed}: the walk disagrees");
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    let (last, lines) = lines.split_last().unwrap();
    assert!(last.is_empty() && lines.iter().all(|line| line.ends_with(b"\r")), "seed {seed}: line ends");
    assert_eq!(lines.len(), head.fields.len() + 2, "seed {seed}: a line a field");
    assert!(head.method.bytes().all(is_token_byte), "seed {seed}: method");
    assert!(head.target.bytes().all(is_target_byte), "seed {seed}: target");
    let count = |name| head.fields_named(name).count();
    assert!(count("Host") <= 1 && count("Content-Length") + count("Transfer-Encoding") <= 1, "seed {seed}");

    let mut anew = format!("{} {} {}\r\n", head.method, head.target, head.version.as_str());
    for (name, value) in &head.fields {
        assert!(!name.is_empty() && name.bytes().all(is_token_byte), "seed {seed}: {name:?}");
        assert!(value.bytes().all(is_value_byte), "seed {seed}: {value:?}");
        anew += &format!("{name}: {value}\r\n");
    }
    anew += "\r\n";
    let limits = HeadLimits { bytes: 2 * LIMITS.bytes, ..LIMITS };
    let (same, _) = decode_head(anew.as_bytes(), &limits).unwrap().unwrap();
    assert_eq!(&same, head, "seed {seed}");
}

#[test]
fn the_walk_and_httparse_take_the_same_heads_of_responses() {
    for seed in 0..4000 {
        let mut random = Random(seed);
        let status = random.one_of(&["200 OK", "101 ", "304", "20 OK", "2000 OK"]);
        let mut input = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for _ in 0..random.below(LIMITS.fields + 2) {
            input.extend_from_slice(
                random.one_of(&["A: b\r\n", "Content-Length: 5\r\n", "X:\r\n"]).as_bytes(),
            );
        }
        input.extend_from_slice(b"\r\nBODY");
        for _ in 0..random.below(3) {
            edit(&mut input, &mut random);
        }
        let whole = response::decode_head(&input, &LIMITS, "GET");
        for cut in 0..input.len() {
            match response::decode_head(&input[..cut], &LIMITS, "GET") {
                Ok(None) => {}
                answer => assert_eq!(answer, whole, "seed {seed}: cut at {cut}"),
            }
        }
        if let Ok(Some((_, used))) = whole {
            let fault = first_fault(&input[..used], Start::StatusLine, &LIMITS);
            assert_eq!(fault, None, "seed {seed}: the walk disagrees");
        }
    }
}

#[test]
fn bytes_without_sense_are_refused_by_their_first_that_is_no_token() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let length = 1 + random.below(64);
        let input = random.bytes(length, |_| true);
        let first_other = input.iter().position(|&byte| !is_token_byte(byte));
        let Some(at) = first_other.filter(|&at| at < 30 && input[at] != b' ' && input[0] != b'\r') else {
            continue;
        };
        assert_eq!(decode_head(&input[..at], &LIMITS), Ok(None), "seed {seed}");
        let fault = decode_head(&input[..=at], &LIMITS);
        assert_eq!(fault, Err(HeadError::InvalidMethod { byte: input[at] }), "seed {seed}");
    }
}

/// Gives `input` to `decode` in pieces of random sizes, until one is not wholly used.
fn in_pieces<E>(
    input: &[u8],
    random: &mut Random,
    mut decode: impl FnMut(&[u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    let mut at = 0;
    while at < input.len() {
        let end = (at + 1 + random.below(20)).min(input.len());
        let used = decode(&input[at..end])?;
        at += used;
        if at < end {
            break;
        }
    }
    Ok(at)
}

#[test]
fn what_is_written_in_chunks_is_read_back_in_any_pieces() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let (mut data, mut wire) = (Vec::new(), Vec::new());
        for _ in 0..random.below(8) {
            let length = random.one_of(&[&0, &1, &15, &16, &300, &5000]);
            let part = random.bytes(*length, |_| true);
            data.extend_from_slice(&part);
            match random.below(2) {
                0 => encode_chunk(&part, &mut wire),
                _ => chunk_with(&mut wire, |out| out.extend_from_slice(&part)),
            }
        }
        wire.extend_from_slice(LAST_CHUNK);
        let length = wire.len();
        wire.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        let mut body = BodyDecoder::new(BodyFraming::Chunked, data.len() as u64).unwrap();
        let mut read = Vec::new();
        let used = in_pieces(&wire, &mut random, |piece| body.decode(piece, &mut read));
        assert_eq!((used, body.is_done()), (Ok(length), true), "seed {seed}");
        assert_eq!(read, data, "seed {seed}");
    }
}

#[test]
fn a_broken_chunked_body_gives_the_same_answer_in_any_pieces() {
    let mut refused = 0;
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut wire = b"5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\nGET".to_vec();
        for _ in 0..1 + random.below(3) {
            edit(&mut wire, &mut random);
        }
        let (mut whole, mut whole_data) = (ChunkedDecoder::new(64), Vec::new());
        let answer = whole.decode(&wire, &mut whole_data);
        let (mut pieces, mut data) = (ChunkedDecoder::new(64), Vec::new());
        let same = in_pieces(&wire, &mut random, |piece| pieces.decode(piece, &mut data));
        assert_eq!((same, pieces.is_done()), (answer, whole.is_done()), "seed {seed}");
        assert_eq!(data, whole_data, "seed {seed}");
        assert!(data.len() <= 64, "seed {seed}: over the limit");
        refused += u32::from(answer.is_err());
    }
    assert!(refused > 1000, "the edits break some: {refused}");
}

/// Text of a few characters, of all lengths in UTF-8, none of them a control character.
fn text_of(random: &mut Random) -> String {
    let count = random.below(12);
    (0..count)
        .map(|_| *random.one_of(&[&'a', &'+', &'%', &'&', &'=', &' ', &'/', &'é', &'→', &'😀']))
        .collect()
}

fn percent_encoded(text: &str, random: &mut Random) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a' | b'/' if random.below(2) == 0 => encoded.push(byte as char),
            _ if random.below(2) == 0 => encoded += &format!("%{byte:02X}"),
            _ => encoded += &format!("%{byte:02x}"),
        }
    }
    encoded
}

#[test]
fn an_encoded_query_or_path_is_read_back() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let count = 1 + random.below(5);
        let pairs: Vec<_> = (0..count).map(|_| (text_of(&mut random), text_of(&mut random))).collect();
        let encoded: Vec<_> = pairs
            .iter()
            .map(|(name, value)| {
                let (name, value) = (percent_encoded(name, &mut random), percent_encoded(value, &mut random));
                format!("{name}={value}")
            })
            .collect();
        assert_eq!(parse_query(&encoded.join("&")), Ok(pairs.clone()), "seed {seed}");
        let path = percent_encoded(&pairs[0].0, &mut random);
        assert_eq!(decode_path(&path).as_deref(), Ok(&*pairs[0].0), "seed {seed}");
    }
}

#[test]
fn any_query_is_read_or_its_parameter_is_named() {
    for seed in 0..4000 {
        let mut random = Random(seed);
        let count = random.below(24);
        let query: String = (0..count)
            .map(|_| random.one_of(&["%", "%C3", "%a9", "4", "a", "&", "=", "+", "é", "%00"]))
            .collect();
        match parse_query(&query) {
            Ok(pairs) => {
                let controls = pairs.iter().any(|(name, value)| (name.to_string() + value).contains('\0'));
                assert!(!controls, "seed {seed}: {query}");
            }
            Err(error) => {
                let named = query.split('&').any(|pair| pair.split('=').next() == Some(&*error.parameter));
                assert!(named, "seed {seed}: {query}: {error}");
            }
        }
    }
}

#[test]
fn a_list_of_tags_is_read_back() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let count = random.below(5);
        let is_opaque = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
        let tags: Vec<(String, bool)> = (0..count)
            .map(|_| {
                let length = random.below(10);
                let opaque = String::from_utf8(random.bytes(length, is_opaque)).unwrap();
                (opaque, random.below(2) == 0)
            })
            .collect();
        let mut value = vec![];
        for (opaque, is_weak) in &tags {
            value.extend_from_slice(if *is_weak { b"W/" } else { b"" });
            encode_etag(opaque, &mut value).unwrap();
            value.extend_from_slice(random.one_of(&[",", ", ", " ,\t, "]).as_bytes());
        }
        let value = String::from_utf8(value).unwrap();
        let IfNoneMatch::Tags(list) = if_none_match(&value) else { panic!("seed {seed}: any") };
        let read: Vec<_> =
            list.map(|tag| tag.map(|tag| (tag.opaque.to_string(), tag.is_weak)).unwrap()).collect();
        assert_eq!(read, tags, "seed {seed}: {value}");
    }
}
