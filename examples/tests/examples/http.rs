//! HTTP/1.0 as the simplest client speaks it: one request, and an answer that ends with the connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use stentor_protocol::sse::{Decoder, Item};

use crate::WAIT;

/// Sends a request, with `headers` and a body; what comes is read from the stream that is returned.
pub(crate) fn send(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    write!(stream, "{line} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}").unwrap();
    stream
}

/// The whole answer to a request: its status, its head and its body.
pub(crate) fn ask(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> (u16, String, String) {
    let mut text = String::new();
    send(address, line, headers, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, head.into(), body.into())
}

/// A subscriber over Server-Sent Events.
pub(crate) struct EventStream {
    stream: TcpStream,
    decoder: Decoder,
    /// What was read and not decoded yet.
    rest: Vec<u8>,
}

impl EventStream {
    /// Subscribes with this query, and waits until the stream has begun.
    pub(crate) fn open(address: SocketAddr, query: &str, headers: &[&str]) -> Self {
        let mut stream = send(address, &format!("GET /events?{query}&transport=sse"), headers, "");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer has a head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut opened = Self { stream, decoder: Decoder::new(1 << 20), rest: Vec::new() };
        assert_eq!(opened.next_any().map(|(name, _)| name).as_deref(), Some("stentor.cursor"));
        opened
    }

    /// The name and data of the next event; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<(String, String)> {
        loop {
            match self.next_any() {
                // A place without an event: a heartbeat.
                Some((name, _)) if name == "stentor.cursor" => {}
                next => return next,
            }
        }
    }

    fn next_any(&mut self) -> Option<(String, String)> {
        loop {
            let mut bytes = self.rest.as_slice();
            let item = self.decoder.decode(&mut bytes).unwrap();
            self.rest = bytes.to_vec();
            match item {
                Some(Item::Event { name, data, .. }) => return Some((name, data)),
                Some(_) => continue,
                None => {}
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).expect("an event within the time");
            if count == 0 {
                return None;
            }
            self.rest.extend_from_slice(&buffer[..count]);
        }
    }
}
