use alloc::string::ToString;

use super::*;

fn close(code: u16, reason: &str) -> CloseFrame {
    CloseFrame { code: CloseCode(code), reason: reason.into() }
}

#[test]
fn the_codes_that_may_be_sent_are_those_of_section_7_4_and_its_registry() {
    let sendable = |code: u16| CloseCode(code).is_sendable();
    let named = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in 0..=u16::MAX {
        let expected = named.contains(&code) || (3000..5000).contains(&code);
        assert_eq!(sendable(code), expected, "{code}");
    }
}

#[test]
fn each_side_has_codes_of_its_own() {
    for (code, client, server) in [
        (1000, true, true),
        (1001, true, true),
        (1005, false, false),
        (1006, false, false),
        (1010, true, false),
        (1011, false, true),
        (1012, false, true),
        (1013, false, true),
        (1014, false, true),
        (1015, false, false),
        (2999, false, false),
        (4410, true, true),
    ] {
        assert_eq!(CloseCode(code).may_be_sent_by(Side::Client), client, "{code} by a client");
        assert_eq!(CloseCode(code).may_be_sent_by(Side::Server), server, "{code} by a server");
    }
}

#[test]
fn a_close_payload_is_read_as_section_5_5_1_says() {
    assert_eq!(CloseFrame::decode(b""), Ok(close(1005, "")));
    assert_eq!(CloseFrame::decode(b"\x03\xE8"), Ok(close(1000, "")));
    assert_eq!(CloseFrame::decode("\u{3}\u{f}gr\u{fc}n".as_bytes()), Err(not_allowed(783)));
    assert_eq!(CloseFrame::decode(b"\x0F\xA0gr\xC3\xBCn"), Ok(close(4000, "gr\u{fc}n")));
    assert_eq!(CloseFrame::decode(b"\x03"), Err(CloseError::CodeCut));
    assert_eq!(CloseFrame::decode(b"\x03\xE8gr\xC3"), Err(CloseError::ReasonNotUtf8));
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(CloseFrame::decode(&code.to_be_bytes()), Err(not_allowed(code)));
    }
}

fn not_allowed(code: u16) -> CloseError {
    CloseError::CodeNotAllowed { code: CloseCode(code) }
}

#[test]
fn faults_of_a_close_frame_have_their_codes() {
    assert_eq!(CloseError::CodeCut.close_code(), CloseCode::PROTOCOL_ERROR);
    assert_eq!(not_allowed(1005).close_code(), CloseCode::PROTOCOL_ERROR);
    assert_eq!(CloseError::Again.close_code(), CloseCode::PROTOCOL_ERROR);
    assert_eq!(CloseError::ReasonNotUtf8.close_code(), CloseCode::INVALID_DATA);
    assert_eq!(not_allowed(1005).to_string(), "close code 1005 may not be sent");
}

#[test]
fn a_close_frame_is_written_for_each_side() {
    let mut out = Vec::new();
    close(4410, "k3-42").encode(&mut out);
    assert_eq!(out, b"\x88\x07\x11\x3Ak3-42");
    out.clear();
    close(1005, "dropped").encode(&mut out);
    assert_eq!(out, b"\x88\x00", "without a code there is no room for a reason");
    out.clear();
    close(1000, "").encode_masked([1, 2, 3, 4], &mut out);
    assert_eq!(out, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xE8 ^ 2]);
}

#[test]
fn a_long_reason_is_cut_between_two_characters() {
    for (reason, len) in [("x".repeat(123), 123), ("x".repeat(124), 123), ("\u{20ac}".repeat(42), 123)] {
        let mut out = Vec::new();
        close(1000, &reason).encode(&mut out);
        assert_eq!(CloseFrame::decode(&out[2..]).unwrap().reason.len(), len);
    }
    let mut out = Vec::new();
    close(1000, &("x".to_string() + &"\u{20ac}".repeat(41))).encode(&mut out);
    assert_eq!(CloseFrame::decode(&out[2..]).unwrap().reason.len(), 121);
}

#[test]
fn the_handshake_is_over_when_both_have_said_it_whoever_began() {
    use Side::{Client, Server};
    /// Who speaks with which code, the code of our frame then, and whether it is over then. We are the
    /// server.
    type Step = (Side, u16, Option<u16>, bool);
    let table: &[&[Step]] = &[
        &[(Client, 1000, Some(1000), true)],
        &[(Client, 1005, Some(1005), true)],
        &[(Client, 1010, Some(1010), true)],
        &[(Server, 1001, Some(1001), false), (Client, 1001, None, true)],
        // Both at once: neither answers the other's again.
        &[(Server, 1001, Some(1001), false), (Client, 1000, None, true)],
        // Our own wish comes too late, or twice.
        &[(Client, 1000, Some(1000), true), (Server, 1001, None, true)],
        &[(Server, 4410, Some(4410), false), (Server, 1001, None, false), (Client, 4410, None, true)],
    ];
    for steps in table {
        let mut closing = ClosingHandshake::new(Server);
        assert!(!closing.has_begun() && !closing.is_over() && closing.poll_frame().is_none());
        for (from, code, frame, is_over) in *steps {
            closing.handle_close(*from, CloseCode(*code)).unwrap();
            assert!(closing.has_begun());
            let sent = closing.poll_frame().map(|frame| frame.code.0);
            assert_eq!((sent, closing.is_over()), (*frame, *is_over), "{steps:?}");
            assert_eq!(closing.poll_frame(), None, "a frame is given out once");
        }
    }
}

#[test]
fn it_is_not_over_before_our_frame_is_taken() {
    let mut closing = ClosingHandshake::new(Side::Server);
    closing.handle_close(Side::Client, CloseCode::NORMAL).unwrap();
    assert!(!closing.is_over());
    assert_eq!(closing.received(), Some(CloseCode::NORMAL));
    closing.poll_frame().unwrap();
    assert!(closing.is_over());
}

#[test]
fn a_code_that_may_not_be_said_and_a_second_close_change_nothing() {
    let mut closing = ClosingHandshake::new(Side::Server);
    for (from, code) in [(Side::Server, 1006), (Side::Server, 1010), (Side::Client, 1006), (Side::Client, 0)]
    {
        assert_eq!(closing.handle_close(from, CloseCode(code)), Err(not_allowed(code)));
    }
    assert!(!closing.has_begun());
    closing.handle_close(Side::Client, CloseCode(1011)).unwrap();
    assert_eq!(closing.handle_close(Side::Client, CloseCode::NORMAL), Err(CloseError::Again));
    assert_eq!(closing.poll_frame(), Some(close(1011, "")));
}

#[test]
fn the_reason_goes_with_our_own_frame_and_not_with_an_answer() {
    let mut closing = ClosingHandshake::new(Side::Server);
    let reason = "x".repeat(200);
    closing.handle_close_with_reason(Side::Server, CloseCode(4410), &reason).unwrap();
    assert_eq!(closing.poll_frame(), Some(close(4410, &reason[..REASON_BYTES_MAX])));

    let mut closing = ClosingHandshake::new(Side::Client);
    closing.handle_close_with_reason(Side::Server, CloseCode(4410), "why").unwrap();
    assert_eq!(closing.poll_frame(), Some(close(4410, "")));
    assert!(closing.is_over());
}
