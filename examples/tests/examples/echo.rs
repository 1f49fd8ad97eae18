use std::net::SocketAddr;

use stentor_protocol::ws::close::CloseCode;
use stentor_protocol::ws::frame::Opcode;
use stentor_protocol::ws::message::Incoming;

use crate::http::ask;
use crate::program::Program;
use crate::websocket::WebSocket;

const MIB: usize = 1 << 20;

fn binary(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn text_and_binary_of_every_size_come_back_compressed_or_not() {
    let (_program, address) = Program::serve("echo");
    let offers = [
        (None, false),
        (Some("permessage-deflate; client_max_window_bits"), true),
        (Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"), true),
        (Some("permessage-deflate; server_max_window_bits=8"), true),
        (Some("permessage-deflate; mystery, permessage-deflate"), true),
        (Some("permessage-deflate; server_max_window_bits=16"), false),
        (Some("x-other"), false),
    ];
    for (offer, is_compressed) in offers {
        let mut socket = WebSocket::open(address, "/", offer);
        assert_eq!(socket.is_compressed(), is_compressed, "{offer:?}");
        for len in [0, 1, 125, 126, 65_535, 65_536, 70_000, MIB] {
            let text = "añ€😀".repeat(len / 10);
            socket.send_text(&text);
            assert_eq!(socket.next(), Some(Incoming::Text(text)), "{offer:?}, {len}");
            socket.send(Opcode::Binary, &binary(len));
            assert_eq!(socket.next(), Some(Incoming::Binary(binary(len))), "{offer:?}, {len}");
        }
    }
}

#[test]
fn the_context_is_taken_over_where_the_client_permits_it() {
    let (_program, address) = Program::serve("echo");
    let received = |offer| {
        let mut socket = WebSocket::open(address, "/", Some(offer));
        let mut bytes = [0; 2];
        for count in &mut bytes {
            let before = socket.received_bytes;
            socket.send(Opcode::Binary, &binary(4_000));
            assert_eq!(socket.next(), Some(Incoming::Binary(binary(4_000))));
            *count = socket.received_bytes - before;
        }
        bytes
    };
    let [first, second] = received("permessage-deflate");
    assert!(second * 10 < first, "{first} bytes, then {second} for the same again");
    let [first, second] = received("permessage-deflate; server_no_context_takeover");
    assert_eq!(first, second);
}

#[test]
fn pings_are_answered_between_fragments() {
    let (_program, address) = Program::serve("echo");
    let mut socket = WebSocket::open(address, "/", None);
    // Cut within characters: a fragment of a text need be no text (RFC 6455 section 5.6).
    let text = "añ€😀";
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let opcode = if at == 0 { Opcode::Text } else { Opcode::Continuation };
        socket.send_frame(opcode, at + 1 == bytes.len(), &[*byte]);
        if at + 1 < bytes.len() {
            socket.send_frame(Opcode::Ping, true, &[at as u8]);
        }
    }
    for at in 0..bytes.len() - 1 {
        assert_eq!(socket.next(), Some(Incoming::Pong(vec![at as u8])));
    }
    assert_eq!(socket.next(), Some(Incoming::Text(text.into())));
    // A pong that nobody asked for is not answered (section 5.5.3).
    socket.send_frame(Opcode::Pong, true, b"unasked");
    socket.send_text("last");
    assert_eq!(socket.next_text(), "last");
}

#[test]
fn a_message_of_16_mib_comes_back_and_one_byte_more_is_refused_by_its_head() {
    let (_program, address) = Program::serve("echo");
    let mut socket = WebSocket::open(address, "/", None);
    let message = binary(16 * MIB);
    let mut fragments = message.chunks(MIB).peekable();
    let mut opcode = Opcode::Binary;
    while let Some(fragment) = fragments.next() {
        socket.send_frame(opcode, fragments.peek().is_none(), fragment);
        opcode = Opcode::Continuation;
    }
    assert!(socket.next() == Some(Incoming::Binary(message)), "what came back is not what was sent");
    // 16,777,217 bytes are announced; none of them is sent.
    socket.send_bytes(b"\x82\xff\x00\x00\x00\x00\x01\x00\x00\x01\x37\xfa\x21\x3d");
    assert_eq!(socket.closed().0, CloseCode::TOO_BIG);
}

#[test]
fn a_fault_is_answered_with_its_close_code_as_soon_as_it_is_seen() {
    let (_program, address) = Program::serve("echo");
    // Every frame here has the masking key 0, so that it stands as it is meant.
    let cases: [(&str, &[u8], CloseCode); 17] = [
        ("not masked", b"\x81\x01a", CloseCode::PROTOCOL_ERROR),
        ("RSV1 that was not agreed on", b"\xc1\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("RSV2", b"\xa1\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("a reserved opcode", b"\x83\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("a reserved control opcode", b"\x8b\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("a fragmented ping", b"\x09\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("a ping of 126 bytes", b"\x89\xfe\x00\x7e", CloseCode::PROTOCOL_ERROR),
        ("a continuation of nothing", b"\x80\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("a text within a text", b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
        ("a length in too long a form", b"\x81\xfe\x00\x05", CloseCode::PROTOCOL_ERROR),
        ("a close frame of one byte", b"\x88\x81\0\0\0\0\x03", CloseCode::PROTOCOL_ERROR),
        ("close code 1005", b"\x88\x82\0\0\0\0\x03\xed", CloseCode::PROTOCOL_ERROR),
        ("close code 999", b"\x88\x82\0\0\0\0\x03\xe7", CloseCode::PROTOCOL_ERROR),
        ("close code 5000", b"\x88\x82\0\0\0\0\x13\x88", CloseCode::PROTOCOL_ERROR),
        ("a reason that is not UTF-8", b"\x88\x84\0\0\0\0\x03\xe8\xc3\x28", CloseCode::INVALID_DATA),
        // 100 bytes are announced, and the fault is in the first three.
        ("text that is not UTF-8", b"\x81\xe4\0\0\0\0\xed\xa0\x80", CloseCode::INVALID_DATA),
        ("text that ends in a character", b"\x81\x81\0\0\0\0\xc3", CloseCode::INVALID_DATA),
    ];
    for (fault, bytes, code) in cases {
        let mut socket = WebSocket::open(address, "/", None);
        // What is whole before a fault is still answered, though it comes at once with it.
        socket.send_bytes(&[&b"\x81\x82\0\0\0\0ok"[..], bytes].concat());
        assert_eq!(socket.next_text(), "ok", "{fault}");
        let (given, reason) = socket.closed();
        assert_eq!(given, code, "{fault}: {reason}");
        assert!(!reason.is_empty(), "{fault}");
    }
    let mut socket = WebSocket::open(address, "/", Some("permessage-deflate"));
    socket.send_bytes(b"\xc2\x83\0\0\0\0\xff\xff\xff");
    assert_eq!(socket.closed().0, CloseCode::INVALID_DATA, "a compressed message that is none");
    serves_still(address);
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_nothing_after_it_is_read() {
    let (_program, address) = Program::serve("echo");
    for (payload, code) in [
        (&b""[..], CloseCode::NO_STATUS),
        (b"\x03\xe8", CloseCode::NORMAL),
        (b"\x03\xe9going", CloseCode::GOING_AWAY),
        (b"\x0b\xb8", CloseCode(3000)),
        (b"\x13\x87", CloseCode(4999)),
    ] {
        let mut socket = WebSocket::open(address, "/", None);
        socket.send_frame(Opcode::Close, true, payload);
        socket.send_text("too late");
        assert_eq!(socket.closed(), (code, String::new()));
    }
}

#[test]
fn a_request_that_is_no_opening_handshake_is_refused_with_its_status() {
    let (_program, address) = Program::serve("echo");
    let upgrade = ["Host: a", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
    let status = |line: &str, headers: &[&str]| ask(address, line, headers, "").0;
    assert_eq!(status("GET /", &["Host: a"]), 400, "HTTP/1.0");
    assert_eq!(status("POST /", &upgrade), 405);
    assert_eq!(status("nonsense", &[]), 400);
    let http11 = |headers: &[&str]| ask(address, "GET / HTTP/1.1\r\nX-Rest:", headers, "");
    assert_eq!(http11(&["Host: a"]).0, 426);
    assert_eq!(http11(&upgrade).0, 400, "no key");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let (status, head, _) = http11(&[upgrade[0], upgrade[1], upgrade[2], "Sec-WebSocket-Version: 8", key]);
    assert_eq!(status, 426);
    assert!(head.contains("Sec-WebSocket-Version: 13"), "{head}");
    serves_still(address);
}

fn serves_still(address: SocketAddr) {
    let mut socket = WebSocket::open(address, "/", None);
    socket.send_text("still there?");
    assert_eq!(socket.next_text(), "still there?");
}
