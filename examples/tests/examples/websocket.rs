//! A WebSocket client over the codecs, which can also say what no client should.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use stentor_protocol::ws::deflate::{Compressor, Params};
use stentor_protocol::ws::frame::{FrameHead, Opcode};
use stentor_protocol::ws::handshake::parse_extensions;
use stentor_protocol::ws::mask::unmask;
use stentor_protocol::ws::message::{Incoming, Limits, MessageDecoder};
use stentor_protocol::ws::{Side, close::CloseCode};

use crate::WAIT;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) struct WebSocket {
    stream: TcpStream,
    decoder: MessageDecoder,
    compressor: Option<Compressor>,
    /// What was read and not decoded yet.
    rest: Vec<u8>,
    /// Bytes that came from the server so far.
    pub(crate) received_bytes: usize,
}

impl WebSocket {
    /// Opens a connection to `target`; `offer` is what permessage-deflate is offered with.
    pub(crate) fn open(address: SocketAddr, target: &str, offer: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let offer = offer.map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n")).unwrap_or_default();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer has a head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The answer to the key of RFC 6455 section 1.3.
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        let fields: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
        let deflate = Params::from_answer(&parse_extensions(&fields).unwrap()).unwrap();
        let limits = Limits { message_bytes_max: 64 << 20 };
        Self {
            stream,
            decoder: MessageDecoder::new(Side::Client, limits, deflate),
            compressor: deflate.map(|params| Compressor::new(&params, Side::Client, 6)),
            rest: Vec::new(),
            received_bytes: 0,
        }
    }

    /// Whether permessage-deflate was agreed on.
    pub(crate) fn is_compressed(&self) -> bool {
        self.compressor.is_some()
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        // The server may have closed the connection by now, which the reader of its close frame will see.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends one masked frame.
    pub(crate) fn send_frame(&mut self, opcode: Opcode, is_last: bool, payload: &[u8]) {
        let head =
            FrameHead { fin: is_last, rsv1: false, opcode, mask: Some(KEY), len: payload.len() as u64 };
        self.send_masked(head, payload);
    }

    /// Sends one whole message, compressed if that was agreed on.
    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let Some(compressor) = &mut self.compressor else { return self.send_frame(opcode, true, payload) };
        let mut compressed = Vec::new();
        compressor.compress(payload, &mut compressed);
        let len = compressed.len() as u64;
        self.send_masked(FrameHead { fin: true, rsv1: true, opcode, mask: Some(KEY), len }, &compressed);
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes());
    }

    fn send_masked(&mut self, head: FrameHead, payload: &[u8]) {
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        unmask(&mut bytes[start..], KEY, 0);
        self.send_bytes(&bytes);
    }

    /// What comes next; `None` when the server has ended the connection.
    pub(crate) fn next(&mut self) -> Option<Incoming> {
        loop {
            let (used, incoming) = self.decoder.decode(&self.rest).expect("the server sends valid frames");
            self.rest.drain(..used);
            if incoming.is_some() {
                return incoming;
            }
            let mut buffer = [0; 1 << 16];
            let count = self.stream.read(&mut buffer).expect("an answer within the time");
            if count == 0 {
                return None;
            }
            self.received_bytes += count;
            self.rest.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next message, which is a text.
    pub(crate) fn next_text(&mut self) -> String {
        match self.next() {
            Some(Incoming::Text(text)) => text,
            other => panic!("not a text but {other:?}"),
        }
    }

    /// The code and reason with which the server closes. It ends the connection when both sides have done so.
    pub(crate) fn closed(&mut self) -> (CloseCode, String) {
        match self.next() {
            Some(Incoming::Close(frame)) => {
                self.send_frame(Opcode::Close, true, &frame.code.0.to_be_bytes());
                assert_eq!(self.next(), None, "nothing follows a close frame");
                (frame.code, frame.reason)
            }
            other => panic!("not a close frame but {other:?}"),
        }
    }
}
