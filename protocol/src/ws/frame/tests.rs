use alloc::string::ToString;
use alloc::vec;

use super::*;

fn decode(input: &[u8], sender: Side) -> Result<Option<(FrameHead, usize)>, FrameError> {
    FrameHead::decode(input, sender, false)
}

#[test]
fn the_frames_of_section_5_7_are_written_and_read() {
    let mut text = Vec::new();
    encode_frame(Opcode::Text, b"Hello", &mut text);
    assert_eq!(text, b"\x81\x05Hello");

    let mut masked = Vec::new();
    encode_masked_frame(Opcode::Text, [0x37, 0xFA, 0x21, 0x3D], b"Hello", &mut masked);
    assert_eq!(masked, [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]);

    let mut ping = Vec::new();
    encode_frame(Opcode::Ping, b"Hello", &mut ping);
    assert_eq!(ping, b"\x89\x05Hello");
    let mut pong = Vec::new();
    encode_masked_frame(Opcode::Pong, [0x37, 0xFA, 0x21, 0x3D], b"Hello", &mut pong);
    assert_eq!(pong, [0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]);

    let mut binary = Vec::new();
    encode_frame(Opcode::Binary, &[0; 256], &mut binary);
    assert_eq!(binary[..4], [0x82, 0x7E, 0x01, 0x00]);
    binary.clear();
    encode_frame(Opcode::Binary, &[0; 65536], &mut binary);
    assert_eq!(binary[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);

    let head = FrameHead { fin: false, rsv1: false, opcode: Opcode::Text, mask: None, len: 3 };
    assert_eq!(decode(b"\x01\x03Hel", Side::Server), Ok(Some((head, 2))));
    let head = FrameHead { fin: true, rsv1: false, opcode: Opcode::Continuation, mask: None, len: 2 };
    assert_eq!(decode(b"\x80\x02lo", Side::Server), Ok(Some((head, 2))));
}

#[test]
fn every_head_reads_back_and_cut_at_any_byte_asks_for_more() {
    let opcodes =
        [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];
    let lens = [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 0xFFFF_FFFF, 1 << 32, (1 << 63) - 1];
    let mut count = 0;
    for opcode in opcodes {
        for len in lens {
            for (fin, rsv1, mask) in [
                (true, false, None),
                (false, false, Some([1, 2, 3, 4])),
                (true, true, Some([0; 4])),
                (false, true, None),
            ] {
                let is_impossible = opcode.is_control() && (len > 125 || !fin || rsv1);
                if is_impossible || (rsv1 && opcode == Opcode::Continuation) {
                    continue;
                }
                let head = FrameHead { fin, rsv1, opcode, mask, len };
                let sender = if mask.is_some() { Side::Client } else { Side::Server };
                let mut bytes = Vec::new();
                head.encode(&mut bytes);
                assert!(bytes.len() <= HEAD_BYTES_MAX);
                for cut in 0..bytes.len() {
                    assert_eq!(FrameHead::decode(&bytes[..cut], sender, true), Ok(None), "{head:?} at {cut}");
                }
                assert_eq!(FrameHead::decode(&bytes, sender, true), Ok(Some((head, bytes.len()))));
                bytes.extend_from_slice(b"payload");
                let (_, used) = FrameHead::decode(&bytes, sender, true).unwrap().unwrap();
                assert_eq!(used, bytes.len() - 7, "the payload is not part of the head");
                count += 1;
            }
        }
    }
    assert!(count > 80, "{count} heads");
}

#[test]
fn the_length_takes_its_shortest_form() {
    for (len, head_len) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)] {
        let mut bytes = Vec::new();
        FrameHead { fin: true, rsv1: false, opcode: Opcode::Binary, mask: None, len }.encode(&mut bytes);
        assert_eq!(bytes.len(), head_len, "{len}");
    }
}

#[test]
fn each_fault_of_sections_5_1_to_5_5_is_found_with_the_byte_that_makes_it() {
    use FrameError::*;
    // The last byte of each is the one that makes the fault: without it the head might still become valid.
    let server: &[(&[u8], FrameError)] = &[
        (b"\x83", ReservedOpcode { opcode: 3 }),
        (b"\x87", ReservedOpcode { opcode: 7 }),
        (b"\x8B", ReservedOpcode { opcode: 11 }),
        (b"\x8F", ReservedOpcode { opcode: 15 }),
        (b"\xC1", ReservedBits { bits: 4 }),
        (b"\xA1", ReservedBits { bits: 2 }),
        (b"\x91", ReservedBits { bits: 1 }),
        (b"\xF2", ReservedBits { bits: 7 }),
        (b"\x08", ControlFragmented),
        (b"\x09", ControlFragmented),
        (b"\x0A", ControlFragmented),
        (b"\x88\x7E", ControlTooLong),
        (b"\x89\x7F", ControlTooLong),
        (b"\x81\x80", MaskPresent),
        (b"\x82\x7E\x00\x7D", LengthNotMinimal { len: 125 }),
        (b"\x82\x7E\x00\x00", LengthNotMinimal { len: 0 }),
        (b"\x82\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF", LengthNotMinimal { len: 65535 }),
        (b"\x82\x7F\x80", LengthOver63Bits),
        (b"\x82\x7F\xFF", LengthOver63Bits),
    ];
    for (bytes, error) in server {
        assert_eq!(decode(&bytes[..bytes.len() - 1], Side::Server), Ok(None), "{bytes:x?}");
        assert_eq!(decode(bytes, Side::Server), Err(*error), "{bytes:x?}");
        assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
        assert!(!error.to_string().is_empty());
    }
    let client: &[(&[u8], FrameError)] = &[
        (b"\x81\x05", MaskMissing),
        (b"\x88\x00", MaskMissing),
        (b"\x88\xFE", ControlTooLong),
        (b"\x82\xFE\x00\x7D", LengthNotMinimal { len: 125 }),
    ];
    for (bytes, error) in client {
        assert_eq!(decode(&bytes[..bytes.len() - 1], Side::Client), Ok(None), "{bytes:x?}");
        assert_eq!(decode(bytes, Side::Client), Err(*error), "{bytes:x?}");
    }
}

#[test]
fn rsv1_is_for_the_first_frame_of_a_message_under_permessage_deflate() {
    // RFC 7692 section 6: not on control frames, not on later fragments; the other bits stay reserved.
    for first in [0xC1, 0xC2, 0x41, 0x42] {
        assert_eq!(FrameHead::decode(&[first], Side::Server, true), Ok(None), "{first:#x}");
    }
    for first in [0xC0, 0x40, 0xC8, 0xC9, 0xCA, 0xE1, 0xD1] {
        let error = FrameHead::decode(&[first], Side::Server, true);
        assert!(matches!(error, Err(FrameError::ReservedBits { .. })), "{first:#x}");
    }
}

#[test]
fn a_frame_written_in_place_is_the_frame_written_at_once() {
    for len in [0, 1, 125, 126, 65535, 65536] {
        let payload = vec![7; len];
        let (mut at_once, mut in_place) = (b"before".to_vec(), b"before".to_vec());
        encode_frame(Opcode::Binary, &payload, &mut at_once);
        encode_frame_with(Opcode::Binary, false, &mut in_place, |out| out.extend_from_slice(&payload));
        assert!(at_once == in_place, "{len} bytes");
    }
    let mut compressed = Vec::new();
    encode_frame_with(Opcode::Text, true, &mut compressed, |out| out.push(0));
    assert_eq!(compressed, [0xC1, 0x01, 0x00]);
}

#[test]
#[should_panic(expected = "a control frame of 126 bytes")]
fn a_control_frame_of_ours_is_never_too_long() {
    encode_frame(Opcode::Pong, &[0; 126], &mut Vec::new());
}
