use alloc::string::{String, ToString};
use alloc::vec;

use super::super::handshake::parse_extensions;
use super::*;

mod reference;

const NO_TAKEOVER: Params = Params {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: None,
    client_max_window_bits: None,
};
const TAKEOVER: Params =
    Params { server_no_context_takeover: false, client_no_context_takeover: false, ..NO_TAKEOVER };

fn answer(offer: &str, policy: &Policy) -> Option<String> {
    let offers = parse_extensions(&[("Sec-WebSocket-Extensions", offer)]).unwrap();
    negotiate(&offers, policy).map(|params| params.to_string())
}

fn inflate(
    decompressor: &mut Decompressor,
    payload: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    decompressor.decompress(payload, &mut out, bytes_max)?;
    decompressor.finish(&mut out, bytes_max)?;
    Ok(out)
}

fn inflate_once(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    inflate(&mut Decompressor::new(&NO_TAKEOVER, Side::Client), payload, bytes_max)
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn noise() -> impl Iterator<Item = u8> {
    let mut next = random(1);
    core::iter::repeat_with(move || (next() >> 32) as u8)
}

/// The same bytes for the same seed: words that repeat at all distances, runs, and noise.
fn sample(seed: u64, len: usize) -> Vec<u8> {
    let mut next = random(seed);
    let mut data: Vec<u8> = Vec::with_capacity(len + 300);
    while data.len() < len {
        let (kind, count) = (next() % 8, (next() % 300) as usize + 1);
        match kind {
            0 => data.extend((0..count).map(|_| next() as u8)),
            1 => data.extend(core::iter::repeat_n(next() as u8, count)),
            2 | 3 => data.extend((0..count / 4).map(|_| b'a' + (next() % 6) as u8)),
            _ if data.is_empty() => {}
            _ => {
                // A copy from anywhere before, near or far, so that every window size has matches at its
                // edge.
                let reach = 1 << (next() % 16);
                let distance = (next() as usize % data.len().min(reach)) + 1;
                let from = data.len() - distance;
                for i in 0..count {
                    data.push(data[from + i]);
                }
            }
        }
    }
    data.truncate(len);
    data
}

#[test]
fn without_takeover_every_readable_offer_gets_the_shared_answer() {
    let shared = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    // What browsers and libraries send, and the offers of RFC 7692 section 7.1.3.
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
        "Permessage-Deflate",
    ] {
        assert_eq!(answer(offer, &Policy::SHARED).as_deref(), Some(shared), "{offer}");
    }
}

#[test]
fn an_offered_window_is_kept_to_and_said() {
    for bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        let offer = alloc::format!("permessage-deflate; server_max_window_bits={bits}");
        let expected = alloc::format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(answer(&offer, &Policy::TAKEOVER), Some(expected));
    }
    let quoted = r#"permessage-deflate; server_max_window_bits="10""#;
    assert_eq!(answer(quoted, &Policy::TAKEOVER).unwrap(), "permessage-deflate; server_max_window_bits=10");
}

#[test]
fn takeover_is_answered_as_the_client_permits() {
    for (offer, expected) in [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"),
    ] {
        assert_eq!(answer(offer, &Policy::TAKEOVER).as_deref(), Some(expected));
    }
}

#[test]
fn smaller_windows_of_the_policy_are_said_where_they_may_be() {
    let small = Policy { server_max_window_bits: 10, client_max_window_bits: 9, ..Policy::TAKEOVER };
    for (offer, expected) in [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=10"),
        // Section 7.1.2.2: only where the client offers it.
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; client_max_window_bits=8; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=8",
        ),
    ] {
        assert_eq!(answer(offer, &small).as_deref(), Some(expected));
    }
}

#[test]
fn an_offer_that_section_7_1_calls_invalid_is_declined_and_the_next_is_taken() {
    for offer in [
        "x-webkit-deflate-frame",
        "permessage-bzip2",
        "permessage-deflate; foo",
        "permessage-deflate; mem_level=3",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=ten",
        "permessage-deflate; server_max_window_bits=1000000000000000000000",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=010",
        "permessage-deflate; SERVER_NO_CONTEXT_TAKEOVER",
    ] {
        assert_eq!(answer(offer, &Policy::TAKEOVER), None, "{offer}");
        let list =
            alloc::format!("{offer}, permessage-deflate; server_max_window_bits=12, permessage-deflate");
        let expected = "permessage-deflate; server_max_window_bits=12";
        assert_eq!(answer(&list, &Policy::TAKEOVER).as_deref(), Some(expected), "{list}");
    }
    assert_eq!(answer("", &Policy::TAKEOVER), None);
}

#[test]
fn a_client_reads_the_answers_that_a_server_may_give_and_no_others() {
    let read =
        |value| Params::from_answer(&parse_extensions(&[("Sec-WebSocket-Extensions", value)]).unwrap());
    assert_eq!(read(""), Ok(None));
    assert_eq!(read("permessage-deflate"), Ok(Some(TAKEOVER)));
    let shared = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(read(shared), Ok(Some(NO_TAKEOVER)));
    let windows = read("permessage-deflate; server_max_window_bits=10; client_max_window_bits=9");
    let windows = windows.unwrap().unwrap();
    assert_eq!((windows.window_bits(Side::Server), windows.window_bits(Side::Client)), (10, 9));
    for value in [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; foo=1",
        "permessage-deflate, permessage-deflate",
        "x-other",
    ] {
        assert_eq!(read(value), Err(AnswerError), "{value}");
    }
}

#[test]
fn the_examples_of_section_7_2_3_inflate() {
    let examples: &[(&str, &[u8], &[u8])] = &[
        ("7.2.3.1 one block", b"Hello", &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]),
        (
            "7.2.3.3 a block with no compression",
            b"Hello",
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
        ),
        ("7.2.3.4 BFINAL set to 1", b"Hello", &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00]),
        (
            "7.2.3.5 two blocks",
            b"Hello",
            &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
        ),
        ("7.2.3.6 an empty fragment", b"", &[0x00]),
    ];
    for (name, plain, payload) in examples {
        assert_eq!(inflate_once(payload, 100).as_deref(), Ok(*plain), "{name}");
        for cut in 0..=payload.len() {
            for params in [NO_TAKEOVER, TAKEOVER] {
                let mut decompressor = Decompressor::new(&params, Side::Client);
                let mut out = Vec::new();
                decompressor.decompress(&payload[..cut], &mut out, 100).unwrap();
                decompressor.decompress(&payload[cut..], &mut out, 100).unwrap();
                decompressor.finish(&mut out, 100).unwrap();
                assert_eq!(out, *plain, "{name} cut at {cut}");
                // The next message is read as if nothing had been.
                let next = inflate(&mut decompressor, examples[0].2, 100);
                assert_eq!(next.as_deref(), Ok(&b"Hello"[..]), "after {name}");
            }
        }
    }
}

#[test]
fn the_sliding_window_of_section_7_2_3_2_is_kept_under_takeover_alone() {
    let first = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    let second = [0xF2, 0x00, 0x11, 0x00, 0x00];
    let mut kept = Decompressor::new(&TAKEOVER, Side::Server);
    assert_eq!(inflate(&mut kept, &first, 100).as_deref(), Ok(&b"Hello"[..]));
    assert_eq!(inflate(&mut kept, &second, 100).as_deref(), Ok(&b"Hello"[..]));

    let mut dropped = Decompressor::new(&NO_TAKEOVER, Side::Server);
    assert_eq!(inflate(&mut dropped, &first, 100).as_deref(), Ok(&b"Hello"[..]));
    assert_eq!(inflate(&mut dropped, &second, 100), Err(DecompressError::Invalid));
}

#[test]
fn the_compressor_writes_the_examples_of_section_7_2_3() {
    let mut out = Vec::new();
    let mut alone = Compressor::new(&NO_TAKEOVER, Side::Server, 6);
    for _ in 0..2 {
        out.clear();
        alone.compress(b"Hello", &mut out);
        assert_eq!(out, [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], "each message by itself");
    }
    let mut kept = Compressor::new(&TAKEOVER, Side::Server, 6);
    for expected in [&[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..], &[0xF2, 0x00, 0x11, 0x00, 0x00]] {
        out.clear();
        kept.compress(b"Hello", &mut out);
        assert_eq!(out, expected);
    }
    for _ in 0..3 {
        out.clear();
        kept.compress(b"", &mut out);
        assert_eq!(out, [0x00], "section 7.2.3.6");
    }
}

#[test]
fn compressing_appends() {
    let mut out = b"before".to_vec();
    Compressor::new(&NO_TAKEOVER, Side::Server, 6).compress(b"Hello", &mut out);
    assert_eq!(&out[..6], b"before");
    assert_eq!(inflate_once(&out[6..], 100).as_deref(), Ok(&b"Hello"[..]));
}

/// An inflater with a window of exactly `window_bits`, which writes byte by byte, so that it can refer to its
/// window alone and not to what happens to stand in the output.
fn inflate_in_window(payload: &[u8], window_bits: u8) -> Vec<u8> {
    let mut inflate = Inflate::new(false, window_bits);
    let mut input = payload.to_vec();
    input.extend_from_slice(&TAIL);
    let mut out = Vec::new();
    loop {
        let mut byte = [0];
        let (total_in, total_out) = (inflate.total_in() as usize, inflate.total_out());
        inflate.decompress(&input[total_in..], &mut byte, InflateFlush::SyncFlush).unwrap();
        if inflate.total_out() > total_out {
            out.extend_from_slice(&byte);
        } else if inflate.total_in() as usize == total_in {
            return out;
        }
    }
}

#[test]
fn what_a_window_compresses_an_inflater_of_exactly_that_window_reads() {
    let mut reaches_far = [false; 16];
    for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        for level in [1, 2, 3, 6, 9] {
            let mut compressor = Compressor::with_window_bits(window_bits, false, level);
            for (seed, len) in [(1, 1), (2, 100), (3, 511), (4, 5000), (5, 90_000)] {
                let data = sample(seed + u64::from(level), len);
                let mut payload = Vec::new();
                compressor.compress(&data, &mut payload);
                let (plain, distance) = reference::inflate(&payload);
                assert!(plain == data, "{window_bits} bits, level {level}, {len} bytes: other bytes");
                assert!(
                    distance <= 1 << window_bits,
                    "{window_bits} bits, level {level}: reaches {distance}"
                );
                reaches_far[usize::from(window_bits)] |= distance > 1 << (window_bits - 1);
                assert!(
                    inflate_in_window(&payload, window_bits) == data,
                    "{window_bits} bits, level {level}, {len} bytes: not readable in its window"
                );
            }
        }
        // Not for 9 bits: zlib's room for a match and its lookahead leaves 250 of 512 bytes.
        let is_used = reaches_far[usize::from(window_bits)];
        assert!(is_used || window_bits == 9, "a window of {window_bits} bits is made use of");
    }
}

#[test]
fn messages_under_takeover_inflate_in_their_order_for_every_window() {
    for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
        let params = Params { server_max_window_bits: Some(window_bits), ..TAKEOVER };
        let mut compressor = Compressor::new(&params, Side::Server, 6);
        let mut decompressor = Decompressor::new(&params, Side::Server);
        let mut stream = Vec::new();
        let mut all = Vec::new();
        for (seed, len) in [10, 0, 700, 40_000, 0, 0, 3, 300, 66_000, 1].into_iter().enumerate() {
            let data = sample(seed as u64 % 3, len);
            let mut payload = Vec::new();
            compressor.compress(&data, &mut payload);
            assert!(inflate(&mut decompressor, &payload, 100_000).as_ref() == Ok(&data), "message {seed}");
            stream.extend_from_slice(if seed == 0 { &[] } else { &TAIL });
            stream.extend_from_slice(&payload);
            all.extend_from_slice(&data);
        }
        let (plain, distance) = reference::inflate(&stream);
        assert!(plain == all && distance <= 1 << window_bits, "{window_bits} bits: reaches {distance}");
    }
}

#[test]
fn what_cannot_be_compressed_grows_by_little() {
    for level in 1..=9 {
        // Noise of bytes for which the fixed code, of which level 1 makes all its blocks, takes nine bits.
        let data: Vec<u8> = noise().take(100_000).map(|byte| 144 + byte % 112).collect();
        let mut payload = Vec::new();
        Compressor::with_window_bits(15, false, level).compress(&data, &mut payload);
        assert!(payload.len() <= data.len() + data.len() / 8 + 64, "level {level}: {} bytes", payload.len());
        assert!(inflate_once(&payload, data.len()) == Ok(data), "level {level}");
    }
}

#[test]
fn a_message_may_inflate_to_the_limit_and_not_a_byte_more() {
    for len in [0, 1, 255, 256, 257, 4096, 70_000] {
        let data = sample(7, len);
        let mut payload = Vec::new();
        Compressor::with_window_bits(15, false, 6).compress(&data, &mut payload);
        assert!(inflate_once(&payload, len) == Ok(data), "{len} bytes");
        if let Some(bytes_max) = len.checked_sub(1) {
            assert_eq!(inflate_once(&payload, bytes_max), Err(DecompressError::TooBig { bytes_max }));
        }
    }
}

#[test]
fn a_bomb_is_refused_before_it_takes_more_than_the_limit() {
    // 64 MiB of zeroes in 64 KiB.
    let mut bomb = Vec::new();
    Compressor::with_window_bits(15, false, 9).compress(&vec![0; 64 << 20], &mut bomb);
    assert!(bomb.len() < 70_000, "{} bytes", bomb.len());
    let bytes_max = 1 << 20;
    let mut out = Vec::new();
    let mut decompressor = Decompressor::new(&NO_TAKEOVER, Side::Client);
    let error = decompressor.decompress(&bomb, &mut out, bytes_max).unwrap_err();
    assert_eq!(error, DecompressError::TooBig { bytes_max });
    assert_eq!(error.close_code(), CloseCode::TOO_BIG);
    assert!(out.len() == bytes_max && out.capacity() <= 2 * bytes_max, "{} bytes held", out.capacity());
}

#[test]
fn streams_that_end_at_once_a_million_times_cost_time_in_proportion() {
    // An empty final block of two bytes, again and again: each begins a stream.
    let payload = [0x03, 0x00].repeat(500_000);
    assert_eq!(inflate_once(&payload, 10).as_deref(), Ok(&b""[..]));
}

#[test]
fn what_is_no_deflate_stream_is_refused() {
    for payload in [&[0x07][..], &[0x00, 0x05, 0x00, 0xFA, 0xFE, 0x48], &[0xF2, 0x00, 0x11, 0x00, 0x00]] {
        assert_eq!(inflate_once(payload, 100), Err(DecompressError::Invalid), "{payload:x?}");
    }
    assert_eq!(DecompressError::Invalid.close_code(), CloseCode::INVALID_DATA);
}

#[test]
fn a_final_block_without_an_empty_one_behind_it_is_read_too() {
    for params in [NO_TAKEOVER, TAKEOVER] {
        let mut decompressor = Decompressor::new(&params, Side::Client);
        for _ in 0..2 {
            let payload = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
            assert_eq!(inflate(&mut decompressor, &payload, 100).as_deref(), Ok(&b"Hello"[..]));
        }
    }
}

#[test]
fn noise_is_refused_or_read_but_never_over_the_limit() {
    for seed in 0..2000 {
        let noise: Vec<u8> = sample(seed, 200).into_iter().map(|byte| byte ^ seed as u8).collect();
        for params in [NO_TAKEOVER, TAKEOVER] {
            let mut decompressor = Decompressor::new(&params, Side::Client);
            if let Ok(out) = inflate(&mut decompressor, &noise, 1000) {
                assert!(out.len() <= 1000, "seed {seed}");
            }
        }
    }
}
