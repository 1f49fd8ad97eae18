//! A publisher over one kept connection: requests are pipelined, answers are counted as they come.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::target::Publish;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A publisher.
pub struct Publisher<'a> {
    stream: TcpStream,
    how: &'a Publish,
    unanswered: usize,
    /// What came of an answer that is not whole.
    rest: Vec<u8>,
}

impl<'a> Publisher<'a> {
    /// Connects.
    ///
    /// # Errors
    /// The server does not accept, or refuses the MQTT connection.
    pub fn connect(how: &'a Publish) -> io::Result<Self> {
        let (Publish::Http { port, .. } | Publish::Lines { port } | Publish::Mqtt { port }) = how;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
        stream.set_nodelay(true)?;
        if let Publish::Mqtt { .. } = how {
            stream.write_all(&mqtt_connect("publisher"))?;
            let mut answer = [0; 4];
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            stream.read_exact(&mut answer)?;
            if answer[3] != 0 {
                return Err(io::Error::other(format!("MQTT connection refused with code {}", answer[3])));
            }
        }
        Ok(Self { stream, how, unanswered: 0, rest: Vec::new() })
    }

    /// Publishes each payload to a topic, in one write.
    ///
    /// # Errors
    /// The connection is gone, or takes no more for 30 s.
    pub fn publish<'p>(&mut self, payloads: impl IntoIterator<Item = (&'p str, Vec<u8>)>) -> io::Result<()> {
        if self.unanswered == 0 && self.was_closed() {
            *self = Self::connect(self.how)?;
        }
        let mut bytes = Vec::new();
        for (topic, payload) in payloads {
            match self.how {
                Publish::Http { request, .. } => {
                    bytes.extend(request(topic, &payload));
                    self.unanswered += 1;
                }
                Publish::Lines { .. } => {
                    bytes.extend(payload);
                    bytes.push(b'\n');
                }
                Publish::Mqtt { .. } => bytes.extend(mqtt_publish(topic, &payload)),
            }
        }
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(ANSWER_MAX))?;
        self.stream.write_all(&bytes)
    }

    /// Whether the server has ended the connection between two requests, as it may where the next one comes
    /// late: after a million have connected.
    fn was_closed(&self) -> bool {
        self.stream.set_nonblocking(true).is_ok() && matches!(self.stream.peek(&mut [0]), Ok(0))
    }

    /// Requests that were not answered yet, once what has come is read.
    ///
    /// # Errors
    /// An answer is not 2xx, or the server has closed the connection.
    pub fn unanswered(&mut self) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let mut buffer = [0; 16_384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the server closed the publisher's connection")),
                Ok(count) => {
                    self.rest.extend_from_slice(&buffer[..count]);
                    self.count_answers()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(self.unanswered),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until everything is answered.
    ///
    /// # Errors
    /// As [`Publisher::unanswered`], and after 30 s.
    pub fn settle(&mut self) -> io::Result<()> {
        let started = Instant::now();
        while self.unanswered()? > 0 {
            if started.elapsed() > ANSWER_MAX {
                return Err(io::Error::other("publishes were not answered within 30 s"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn count_answers(&mut self) -> io::Result<()> {
        let mut at = 0;
        while let Some(head) = memchr::memmem::find(&self.rest[at..], b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&self.rest[at..at + head]);
            let status = text.split(' ').nth(1).unwrap_or_default();
            if !status.starts_with('2') {
                return Err(io::Error::other(format!("a publish was answered with:\n{text}")));
            }
            let length = crate::wire::content_length(text.as_bytes());
            let whole = match length {
                Some(length) => at + head + 4 + length,
                // Chunked answers of these servers end with the last chunk.
                None => match memchr::memmem::find(&self.rest[at + head + 4..], b"0\r\n\r\n") {
                    Some(end) => at + head + 4 + end + 5,
                    None if status == "204" => at + head + 4,
                    None => break,
                },
            };
            if self.rest.len() < whole {
                break;
            }
            at = whole;
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        self.rest.drain(..at);
        Ok(())
    }
}

/// An MQTT 3.1.1 CONNECT with a clean session and no keep-alive.
pub fn mqtt_connect(client: &str) -> Vec<u8> {
    let mut packet = vec![0x10, 12 + client.len() as u8];
    packet.extend(b"\0\x04MQTT\x04\x02\0\0\0");
    packet.push(client.len() as u8);
    packet.extend(client.as_bytes());
    packet
}

/// An MQTT 3.1.1 SUBSCRIBE to one topic, QoS 0.
pub fn mqtt_subscribe(topic: &str) -> Vec<u8> {
    let mut packet = vec![0x82, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8];
    packet.extend(topic.as_bytes());
    packet.push(0);
    packet
}

fn mqtt_publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut rest = 2 + topic.len() + payload.len();
    let mut packet = vec![0x30];
    while rest >= 128 {
        packet.push(rest as u8 & 127 | 128);
        rest >>= 7;
    }
    packet.push(rest as u8);
    packet.extend([0, topic.len() as u8]);
    packet.extend(topic.as_bytes());
    packet.extend(payload);
    packet
}
