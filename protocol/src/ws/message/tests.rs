use alloc::string::ToString;
use alloc::vec;

use super::super::deflate::{Compressor, Params};
use super::super::frame::{encode_frame, encode_frame_with, encode_masked_frame};
use super::*;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const LIMITS: Limits = Limits { message_bytes_max: 1000 };
const NO_TAKEOVER: Params = Params {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: None,
    client_max_window_bits: None,
};
const TAKEOVER: Params =
    Params { server_no_context_takeover: false, client_no_context_takeover: false, ..NO_TAKEOVER };

fn server() -> MessageDecoder {
    MessageDecoder::new(Side::Server, LIMITS, None)
}

/// Reads a server's frames, which are easier to write down.
fn client() -> MessageDecoder {
    MessageDecoder::new(Side::Client, LIMITS, None)
}

fn client_with(params: Params) -> MessageDecoder {
    MessageDecoder::new(Side::Client, LIMITS, Some(params))
}

/// A client's frame of any kind.
fn masked(fin: bool, rsv1: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHead { fin, rsv1, opcode, mask: Some(KEY), len: payload.len() as u64 }.encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::unmask(&mut out[start..], KEY, 0);
    out
}

fn text(text: &str) -> Incoming {
    Incoming::Text(text.into())
}

/// All that comes of `pieces`, read one after the other.
fn decode_pieces<'a>(
    decoder: &mut MessageDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Incoming>, MessageError> {
    let mut all = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let (used, incoming) = decoder.decode(rest)?;
            assert!(used > 0, "a decoder that is given bytes uses some");
            assert!(incoming.is_some() || used == rest.len(), "without a message all is used");
            rest = &rest[used..];
            all.extend(incoming);
        }
    }
    Ok(all)
}

fn decode_all(decoder: &mut MessageDecoder, input: &[u8]) -> Result<Vec<Incoming>, MessageError> {
    decode_pieces(decoder, [input])
}

/// The byte at which `input` is refused, and why.
fn refused_at(mut decoder: MessageDecoder, input: &[u8]) -> Option<(usize, MessageError)> {
    (0..input.len()).find_map(|i| match decoder.decode(&input[i..=i]) {
        Ok(_) => None,
        Err(error) => Some((i, error)),
    })
}

#[test]
fn the_examples_of_section_5_7_are_read() {
    assert_eq!(decode_all(&mut client(), b"\x81\x05Hello"), Ok(vec![text("Hello")]));
    let masked_hello = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
    assert_eq!(decode_all(&mut server(), &masked_hello), Ok(vec![text("Hello")]));
    assert_eq!(decode_all(&mut client(), b"\x01\x03Hel\x80\x02lo"), Ok(vec![text("Hello")]));
    assert_eq!(decode_all(&mut client(), b"\x89\x05Hello"), Ok(vec![Incoming::Ping(b"Hello".into())]));
    let masked_pong = [0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
    assert_eq!(decode_all(&mut server(), &masked_pong), Ok(vec![Incoming::Pong(b"Hello".into())]));
    for len in [256, 65536] {
        let mut frame = Vec::new();
        encode_frame(Opcode::Binary, &vec![7; len], &mut frame);
        let mut decoder = MessageDecoder::new(Side::Client, Limits::default(), None);
        assert_eq!(decode_all(&mut decoder, &frame), Ok(vec![Incoming::Binary(vec![7; len])]));
    }
}

/// A conversation with everything that is allowed, as a client sends it, and what comes of it.
fn conversation() -> (Vec<u8>, Vec<Incoming>) {
    let long = "\u{20ac}\u{1f600}".repeat(50);
    let mut compressor = Compressor::new(&TAKEOVER, Side::Client, 6);
    let mut compressed = Vec::new();
    compressor.compress(long.as_bytes(), &mut compressed);
    let mut again = Vec::new();
    compressor.compress(long.as_bytes(), &mut again);
    assert!(again.len() < compressed.len(), "the second message refers to the first");
    let frames = [
        masked(true, false, Opcode::Text, b"Hello"),
        masked(true, false, Opcode::Binary, b""),
        masked(true, false, Opcode::Text, b""),
        masked(false, false, Opcode::Text, "gr\u{fc}".as_bytes().split_last().unwrap().1),
        masked(true, false, Opcode::Ping, b"are you there"),
        masked(false, false, Opcode::Continuation, b""),
        masked(true, false, Opcode::Pong, b""),
        masked(true, false, Opcode::Continuation, b"\xBCn"),
        masked(true, true, Opcode::Text, &compressed),
        masked(false, true, Opcode::Text, &again[..4]),
        masked(true, false, Opcode::Ping, &[9; 125]),
        masked(true, false, Opcode::Continuation, &again[4..]),
        masked(false, false, Opcode::Binary, &[1; 200]),
        masked(true, false, Opcode::Continuation, &[2; 300]),
        masked(true, true, Opcode::Binary, &[0x00]),
        masked(true, true, Opcode::Binary, &[]),
        masked(true, false, Opcode::Close, b"\x03\xE8bye"),
    ];
    let mut binary = vec![1; 200];
    binary.extend_from_slice(&[2; 300]);
    let incoming = vec![
        text("Hello"),
        Incoming::Binary(vec![]),
        text(""),
        Incoming::Ping(b"are you there".into()),
        Incoming::Pong(vec![]),
        text("gr\u{fc}n"),
        text(&long),
        Incoming::Ping(vec![9; 125]),
        text(&long),
        Incoming::Binary(binary),
        Incoming::Binary(vec![]),
        Incoming::Binary(vec![]),
        Incoming::Close(CloseFrame { code: CloseCode::NORMAL, reason: "bye".into() }),
    ];
    (frames.concat(), incoming)
}

#[test]
fn a_conversation_cut_at_any_byte_reads_the_same() {
    let (input, expected) = conversation();
    let decoder = || MessageDecoder::new(Side::Server, LIMITS, Some(TAKEOVER));
    for cut in 0..=input.len() {
        let (first, second) = input.split_at(cut);
        assert_eq!(decode_pieces(&mut decoder(), [first, second]).as_ref(), Ok(&expected), "cut at {cut}");
    }
    for size in [1, 2, 3, 7, 64] {
        let all = decode_pieces(&mut decoder(), input.chunks(size));
        assert_eq!(all.as_ref(), Ok(&expected), "in pieces of {size}");
    }
}

#[test]
fn each_breach_of_the_protocol_is_1002() {
    let table: &[(&str, &[u8])] = &[
        ("5.2 a reserved opcode", b"\x83\x00"),
        ("5.2 a reserved bit", b"\xC1\x00"),
        ("5.4 a continuation of nothing", b"\x80\x00"),
        ("5.4 an unfinished continuation of nothing", b"\x00\x01a"),
        ("5.4 a continuation after the end", b"\x81\x01a\x80\x01b"),
        ("5.4 a text in a text", b"\x01\x01a\x81\x01b"),
        ("5.4 a binary in a text", b"\x01\x01a\x02\x01b"),
        ("5.4 a text in an empty fragment", b"\x01\x00\x81\x00"),
        ("5.5 a fragmented ping", b"\x09\x00"),
        ("5.5 a ping of 126 bytes", b"\x89\x7E\x00\x7E"),
        ("5.1 a mask from a server", b"\x81\x80\x00\x00\x00\x00"),
        ("5.5.1 half a code", b"\x88\x01\x03"),
        ("7.4.1 close code 1005", b"\x88\x02\x03\xED"),
        ("7.4.2 close code 999", b"\x88\x02\x03\xE7"),
    ];
    for (name, input) in table {
        let error = decode_all(&mut client(), input).unwrap_err();
        assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR, "{name}");
        assert!(!error.to_string().is_empty());
    }
    let unmasked = decode_all(&mut server(), b"\x81\x05Hello");
    assert_eq!(unmasked, Err(MessageError::Frame(FrameError::MaskMissing)));
}

#[test]
fn rsv1_breaches_of_rfc_7692_section_6_are_1002() {
    for input in [
        &b"\xC9\x00"[..],
        b"\xC8\x00",
        b"\xC0\x00",
        b"\x41\x00\xC0\x00",
        b"\x01\x00\xC0\x00",
        b"\xA1\x00",
        b"\x91\x00",
    ] {
        let error = decode_all(&mut client_with(NO_TAKEOVER), input).unwrap_err();
        assert!(matches!(error, MessageError::Frame(FrameError::ReservedBits { .. })), "{input:x?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_the_first_byte_that_cannot_be() {
    // The bytes of a text, and the index of the one that cannot stand there. Section 8.1; the overlong forms
    // and surrogates of RFC 3629 section 3 among them.
    let table: &[(&[u8], usize)] = &[
        (b"Hello \xFF world", 6),
        (b"\x80", 0),
        (b"\xC0\x80", 0),
        (b"\xC1\xBF", 0),
        (b"\xC3\x28", 1),
        (b"\xE0\x80\x80", 1),
        (b"\xE2\x82\x28", 2),
        (b"\xED\xA0\x80", 1),
        (b"\xED\xBF\xBF", 1),
        (b"\xF0\x80\x80\x80", 1),
        (b"\xF4\x8F\xBF\xBFx\xF4\x90\x80\x80", 6),
        (b"\xF5\x80", 0),
        (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90\x80\x80edited", 12),
    ];
    for (bytes, bad) in table {
        // In a fragment: with more to come in the frame, and in the message.
        let mut fragment = vec![0x01, 0x7D];
        fragment.extend_from_slice(bytes);
        let expected = Some((2 + bad, MessageError::NotUtf8));
        assert_eq!(refused_at(client(), &fragment), expected, "{bytes:x?} in one frame");

        let mut frames = Vec::new();
        for (i, byte) in bytes.iter().enumerate() {
            frames.extend_from_slice(&[if i == 0 { 0x01 } else { 0x00 }, 0x01, *byte]);
        }
        let expected = Some((3 * bad + 2, MessageError::NotUtf8));
        assert_eq!(refused_at(client(), &frames), expected, "{bytes:x?} in a frame a byte");

        // Compressed, with a stored block, so that the bytes stand in the payload as they are.
        let len = bytes.len() as u8;
        let mut stored = vec![0x41, 0x7D, 0x00, len, 0x00, !len, 0xFF];
        stored.extend_from_slice(bytes);
        let (at, error) = refused_at(client_with(NO_TAKEOVER), &stored).unwrap();
        assert_eq!((at, error), (7 + bad, MessageError::NotUtf8), "{bytes:x?} compressed");

        // And whole.
        let mut whole = vec![0x81, len];
        whole.extend_from_slice(bytes);
        assert_eq!(decode_all(&mut client(), &whole), Err(MessageError::NotUtf8));
    }
    assert_eq!(MessageError::NotUtf8.close_code(), CloseCode::INVALID_DATA);
}

#[test]
fn a_text_that_ends_within_a_character_is_refused_at_its_end() {
    for input in [&b"\x81\x01\xC3"[..], b"\x01\x02\xE2\x82\x80\x00", b"\x81\x03\xF0\x9F\x98"] {
        assert_eq!(refused_at(client(), input), Some((input.len() - 1, MessageError::NotUtf8)), "{input:x?}");
    }
    assert_eq!(
        decode_all(&mut client(), b"\x82\x01\xC3"),
        Ok(vec![Incoming::Binary(vec![0xC3])]),
        "binary is any bytes"
    );
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_head() {
    let too_big = MessageError::TooBig { bytes_max: 1000 };
    assert_eq!(too_big.close_code(), CloseCode::TOO_BIG);
    let mut limit = vec![0x82, 0x7E];
    limit.extend_from_slice(&1000u16.to_be_bytes());
    limit.extend_from_slice(&[0; 1000]);
    assert_eq!(decode_all(&mut client(), &limit), Ok(vec![Incoming::Binary(vec![0; 1000])]));

    let one_more = [0x82, 0x7E, 0x03, 0xE9];
    assert_eq!(refused_at(client(), &one_more), Some((3, too_big)));
    let largest = [0x82, 0x7F, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(refused_at(client(), &largest), Some((9, too_big)));
    assert_eq!(
        refused_at(client_with(NO_TAKEOVER), &[0xC2, largest[1], 0x7F, 0xFF, 0, 0, 0, 0, 0, 0]),
        Some((9, too_big))
    );

    // In fragments it is the sum that counts.
    let mut fragments = vec![0x02, 0x7E, 0x02, 0x58];
    fragments.extend_from_slice(&[0; 600]);
    fragments.extend_from_slice(&[0x80, 0x7E, 0x01, 0x91]);
    assert_eq!(refused_at(client(), &fragments), Some((fragments.len() - 1, too_big)));
}

#[test]
fn the_limit_counts_what_a_message_inflates_to() {
    let mut bomb = Vec::new();
    let mut compressor = Compressor::new(&NO_TAKEOVER, Side::Server, 9);
    encode_frame_with(Opcode::Binary, true, &mut bomb, |out| compressor.compress(&[0; 1_000_000], out));
    let mut decoder =
        MessageDecoder::new(Side::Client, Limits { message_bytes_max: 100_000 }, Some(NO_TAKEOVER));
    let error = decode_all(&mut decoder, &bomb).unwrap_err();
    assert_eq!(error, MessageError::Deflate(DecompressError::TooBig { bytes_max: 100_000 }));
    assert_eq!(error.close_code(), CloseCode::TOO_BIG);
    assert!(decoder.is_idle(), "nothing of it is held");

    // Noise as long as the limit is a little longer when compressed, and is taken.
    let mut next = random();
    let noise: Vec<u8> = (0..1000).map(|_| (next() >> 32) as u8).collect();
    let mut frame = Vec::new();
    encode_frame_with(Opcode::Binary, true, &mut frame, |out| compressor.compress(&noise, out));
    assert!(frame.len() > 1000);
    assert_eq!(decode_all(&mut client_with(NO_TAKEOVER), &frame), Ok(vec![Incoming::Binary(noise)]));
}

#[test]
fn a_payload_that_does_not_come_takes_no_memory() {
    let mut decoder = MessageDecoder::new(Side::Client, Limits { message_bytes_max: 1 << 30 }, None);
    decoder.decode(&[0x82, 0x7F, 0, 0, 0, 0, 0x3F, 0xFF, 0xFF, 0xFF, 1, 2, 3]).unwrap();
    let held = decoder.message.as_ref().unwrap().data.capacity();
    assert!(held < 64, "{held} bytes held for 3");
}

#[test]
fn a_frame_that_is_there_in_whole_is_held_in_its_exact_size() {
    let frame = masked(true, false, Opcode::Binary, &[7; 300]);
    let Ok((_, Some(Incoming::Binary(data)))) = server().decode(&frame) else { panic!("a binary message") };
    assert_eq!((data.len(), data.capacity()), (300, 300));
}

#[test]
fn between_messages_nothing_is_held_but_a_window_that_was_agreed_on() {
    let mut frame = Vec::new();
    encode_frame(Opcode::Text, b"Hello", &mut frame);
    let mut decoder = client();
    assert!(decoder.is_idle());
    for cut in 1..frame.len() {
        decoder.decode(&frame[..cut]).unwrap();
        assert!(!decoder.is_idle(), "cut at {cut}");
        decoder.decode(&frame[cut..]).unwrap();
        assert!(decoder.is_idle(), "cut at {cut}");
    }
    decoder.decode(b"\x01\x01a").unwrap();
    assert!(!decoder.is_idle(), "between fragments");
    decoder.decode(b"\x89\x01a").unwrap();
    assert!(!decoder.is_idle(), "a ping ends no message");

    for (params, is_idle) in [(NO_TAKEOVER, true), (TAKEOVER, false)] {
        let mut decoder = client_with(params);
        let hello = [0xC1, 0x07, 0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(decode_all(&mut decoder, &hello), Ok(vec![text("Hello")]));
        assert_eq!(decoder.is_idle(), is_idle, "{params:?}");
    }
}

#[test]
fn what_is_sent_after_a_close_frame_counts_for_nothing() {
    let mut decoder = client();
    let input = b"\x88\x02\x03\xE8\x81\x05Hello\xFF\xFF";
    let (used, incoming) = decoder.decode(input).unwrap();
    assert!(matches!(incoming, Some(Incoming::Close(_))));
    assert!(decoder.has_ended());
    assert_eq!(decoder.decode(&input[used..]), Ok((input.len() - used, None)));
}

#[test]
fn an_error_stays_and_holds_nothing() {
    let mut decoder = client();
    decoder.decode(b"\x01\x03Hel").unwrap();
    let error = decoder.decode(b"\x81\x01a").unwrap_err();
    assert_eq!(error, MessageError::MessageInMessage);
    assert_eq!(decoder.decode(b"\x81\x01a"), Err(error));
    assert_eq!(decoder.decode(b""), Err(error));
    assert!(decoder.has_ended() && decoder.is_idle());
}

#[test]
fn compressed_and_plain_messages_may_alternate() {
    // RFC 7692 section 6.2: RSV1 decides for each message.
    let hello = [0xC1, 0x07, 0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    let again = [0xC1, 0x05, 0xF2, 0x00, 0x11, 0x00, 0x00];
    // The third is not what section 7.2.3.6 asks for an empty message, but it harms no window.
    let input = [&hello[..], b"\x81\x05plain", b"\xC1\x00", &again].concat();
    let all = decode_all(&mut client_with(TAKEOVER), &input);
    assert_eq!(all, Ok(vec![text("Hello"), text("plain"), text(""), text("Hello")]));
    let error = decode_all(&mut client_with(NO_TAKEOVER), &input).unwrap_err();
    assert_eq!(error.close_code(), CloseCode::INVALID_DATA, "the window is not kept");
}

#[test]
fn what_a_client_writes_a_server_reads() {
    let mut frame = Vec::new();
    encode_masked_frame(Opcode::Text, KEY, "gr\u{fc}n".as_bytes(), &mut frame);
    encode_masked_frame(Opcode::Ping, KEY, b"", &mut frame);
    let all = decode_all(&mut server(), &frame);
    assert_eq!(all, Ok(vec![text("gr\u{fc}n"), Incoming::Ping(vec![])]));
}

fn random() -> impl FnMut() -> u64 {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn noise_never_panics_and_reads_the_same_however_it_is_cut() {
    let mut next = random();
    // Heads of valid frames with noise in and between them, so that it goes deeper than the first byte.
    let firsts = [0x01, 0x81, 0x02, 0x82, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0x41, 0xC2];
    for round in 0..3000 {
        let mut input = Vec::new();
        for _ in 0..next() % 6 + 1 {
            let first =
                if next().is_multiple_of(16) { next() as u8 } else { firsts[next() as usize % firsts.len()] };
            let len = next() % 40;
            input.extend_from_slice(&[first, len as u8]);
            input.extend((0..len).map(|_| if next().is_multiple_of(4) { next() as u8 } else { b'a' }));
        }
        let decoder = || client_with(if round % 2 == 0 { TAKEOVER } else { NO_TAKEOVER });
        let whole = decode_all(&mut decoder(), &input);
        for size in [1, 5] {
            assert_eq!(decode_pieces(&mut decoder(), input.chunks(size)), whole, "round {round}, {input:x?}");
        }
    }
}
