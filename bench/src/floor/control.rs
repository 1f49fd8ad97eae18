//! The publisher's side: payloads come as lines, and go out framed.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};

use super::{Options, listen};

/// Most bytes of payloads that are joined into one send.
pub(super) const JOINED_BYTES_MAX: usize = 1 << 20;

/// What is read at a time.
const READ_BYTES: usize = 256 << 10;

/// The part of an event's `id` before the number: as many digits as the engine's epoch has.
const EPOCH: &[u8] = b"k3x9q0z1b7d4-";

/// What proves a silent connection alive, framed.
pub(super) const HEARTBEAT: &[u8] = b"3\r\n:\n\n\r\n";

/// Makes events of payloads.
pub(super) struct Framer {
    is_websocket: bool,
    /// Of the last event.
    number: u64,
}

impl Framer {
    pub(super) fn new(options: &Options) -> Self {
        Self { is_websocket: options.websocket, number: 0 }
    }

    /// Appends an event that carries `payload`, which is one line.
    pub(super) fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.number += 1;
        if self.is_websocket {
            // FIN and text; a server's frames are not masked (RFC 6455 section 5.1).
            out.push(0x81);
            match payload.len() {
                len @ ..126 => out.push(len as u8),
                len @ ..65_536 => {
                    out.push(126);
                    out.extend_from_slice(&(len as u16).to_be_bytes());
                }
                len => {
                    out.push(127);
                    out.extend_from_slice(&(len as u64).to_be_bytes());
                }
            }
            return out.extend_from_slice(payload);
        }
        let number = self.number.to_string();
        let len = "data: \nid: \n\n".len() + payload.len() + EPOCH.len() + number.len();
        write!(out, "{len:x}\r\n").expect("a vector takes all");
        for part in [b"data: ", payload, b"\nid: ", EPOCH, number.as_bytes(), b"\n\n\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// Appends the whole lines of `lines` as events, all or only the first, and answers how many bytes that
    /// took.
    pub(super) fn frame_lines(&mut self, lines: &[u8], only_first: bool, out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        for end in memchr::memchr_iter(b'\n', lines) {
            self.frame(&lines[used..end], out);
            used = end + 1;
            if only_first || used >= JOINED_BYTES_MAX {
                break;
            }
        }
        used
    }
}

/// The control port, for a loop that never waits in it.
pub(super) struct Control {
    listener: TcpListener,
    stream: Option<TcpStream>,
    framer: Framer,
    /// One send an event.
    is_each: bool,
    /// What came and was not framed.
    bytes: Vec<u8>,
    space: Box<[u8]>,
}

impl Control {
    pub(super) fn bind(options: &Options) -> io::Result<Self> {
        Ok(Self {
            listener: listen(options.control)?,
            stream: None,
            framer: Framer::new(options),
            is_each: options.each,
            bytes: Vec::new(),
            space: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// What is readable when there is something to [`Control::take`]. It changes with the publisher.
    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_ref().map_or_else(|| self.listener.as_raw_fd(), |stream| stream.as_raw_fd())
    }

    /// Puts the next events into `out`, which it empties before; false if there are none.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        out.clear();
        // What was left because it was too much for one send is not read again before it is gone.
        if !self.frame(out) {
            self.read()?;
            self.frame(out);
        }
        Ok(!out.is_empty())
    }

    fn frame(&mut self, out: &mut Vec<u8>) -> bool {
        let used = self.framer.frame_lines(&self.bytes, self.is_each, out);
        self.bytes.drain(..used);
        used > 0
    }

    fn read(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            self.stream = match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    Some(stream)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.bytes.len() < JOINED_BYTES_MAX {
            match stream.read(&mut self.space) {
                Ok(0) => {
                    self.stream = None;
                    break;
                }
                Ok(count) => {
                    self.bytes.extend_from_slice(&self.space[..count]);
                    // A short read was all: whatever came since is for the next look.
                    if count < self.space.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.stream = None;
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_framed_and_a_part_of_one_is_left() {
        let mut framer = Framer { is_websocket: false, number: 0 };
        let mut out = Vec::new();
        assert_eq!(framer.frame_lines(b"first\nsecond\nthi", false, &mut out), 13);
        let text =
            "20\r\ndata: first\nid: k3x9q0z1b7d4-1\n\n\r\n21\r\ndata: second\nid: k3x9q0z1b7d4-2\n\n\r\n";
        assert_eq!(String::from_utf8(out).expect("it is text"), text);
        let mut out = Vec::new();
        assert_eq!(framer.frame_lines(b"third\nfourth\n", true, &mut out), 6);
        assert_eq!(out, b"20\r\ndata: third\nid: k3x9q0z1b7d4-3\n\n\r\n");
    }

    #[test]
    fn a_frame_has_the_shortest_length_there_is() {
        let mut framer = Framer { is_websocket: true, number: 0 };
        for (len, head) in [
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            framer.frame(&vec![b'x'; len], &mut out);
            assert_eq!(&out[..head.len()], head);
            assert_eq!(out.len(), head.len() + len);
        }
    }
}
