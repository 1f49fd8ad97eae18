//! The binary as a child process, and a peer that speaks to it over a plain socket.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that is waited for here takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

fn command(limits: &str, words: &[&str]) -> Command {
    // The shell sets the limits, which the standard library cannot, and becomes the binary.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{limits} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_stentor")]);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear();
    command
}

/// Runs the binary to its end: its exit status, standard output and standard error.
pub fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let output = command("", words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A running server, killed if it is dropped.
pub struct Stentor {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    /// What it says of itself beside its first address.
    description: String,
    addresses: Vec<SocketAddr>,
}

impl Stentor {
    /// Starts one on a free port of 127.0.0.1, with two shards and these flags, and waits until it is ready.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_within("", flags)
    }

    /// The same after the shell was told of `limits`, such as `ulimit -n 64;`.
    pub fn start_within(limits: &str, flags: &[&str]) -> Self {
        let all = [&["--listen", "127.0.0.1:0", "--shards", "2"], flags].concat();
        let mut child = command(limits, &all).spawn().unwrap();
        let output = child.stdout.take().map(BufReader::new);
        let mut stentor = Self { child, output, description: String::new(), addresses: Vec::new() };
        let mut line = String::new();
        // The lines to paste come last.
        while !line.starts_with("publish:") {
            line.clear();
            let count = stentor.output.as_mut().unwrap().read_line(&mut line).unwrap();
            assert!(count > 0, "{flags:?}: ended with {:?}", stentor.child.wait());
            if let Some(rest) = line.strip_prefix("listening on http://") {
                if let (true, Some((_, text))) = (stentor.addresses.is_empty(), rest.split_once(' ')) {
                    stentor.description = text.trim().to_owned();
                }
                stentor.addresses.push(rest.split(' ').next().unwrap().trim().parse().unwrap());
            }
        }
        assert_eq!(stentor.get("/ready").status, 200, "{flags:?}");
        stentor
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Such as `(2 shards, io_uring)`.
    pub fn description(&self) -> &str {
        &self.description
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn get(&self, target: &str) -> Response {
        Peer::to(self.address()).request(&format!("GET {target} HTTP/1.1"), "")
    }

    pub fn signal(&mut self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }

    /// The exit status; none if it is not over within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Ends it with a signal.
    pub fn end(mut self, name: &str) -> Option<i32> {
        self.signal(name);
        self.wait(PATIENCE)
    }

    pub fn close_output(&mut self) {
        self.output = None;
    }

    pub fn log(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }
}

impl Drop for Stentor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
    head: String,
}

impl Response {
    /// The value of the first header field called `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// One connection.
pub struct Peer {
    stream: TcpStream,
    /// What was read and not yet asked for.
    read: Vec<u8>,
}

impl Peer {
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Sends a request whose head is `head` (without `Host` and its end) and reads the answer.
    pub fn request(&mut self, head: &str, body: &str) -> Response {
        self.send(&format!("{head}\r\nHost: localhost\r\n\r\n{body}"));
        self.response(head.starts_with("HEAD")).expect("an answer")
    }

    /// The answer to a request that was sent; none if the connection ends before it.
    pub fn answer_if_any(&mut self) -> Option<Response> {
        self.response(false)
    }

    fn response(&mut self, is_head_only: bool) -> Option<Response> {
        let end = self.fill_until(b"\r\n\r\n")?;
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut response = Response { status, head, body: String::new() };
        if is_head_only || status == 304 {
            return Some(response);
        }
        let length: usize = response.field("Content-Length").expect("a length").parse().unwrap();
        while self.read.len() < length {
            self.fill()?;
        }
        response.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Some(response)
    }

    /// Reads up to the end of `text`.
    pub fn read_until(&mut self, text: &str) {
        let end = self.fill_until(text.as_bytes());
        let end = end.unwrap_or_else(|| panic!("no {text:?} in {:?}", String::from_utf8_lossy(&self.read)));
        self.read.drain(..end);
    }

    /// Everything up to the end of the connection.
    pub fn read_to_end(&mut self) -> String {
        while self.fill().is_some() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// The code of the close frame that the other side sends (RFC 6455 §5.5.1), after what else it sends, and
    /// answers it. The frames before it must be short.
    pub fn close_code(&mut self) -> Option<u16> {
        self.read_until("\r\n\r\n");
        loop {
            while self.read.len() < 2 || self.read.len() < 2 + usize::from(self.read[1]) {
                self.fill()?;
            }
            let frame: Vec<u8> = self.read.drain(..2 + usize::from(self.read[1])).collect();
            if frame[0] == 0x88 {
                // Masked with zeros, which is a mask too.
                let answer = [0x88, 0x82, 0, 0, 0, 0, *frame.get(2)?, *frame.get(3)?];
                self.stream.write_all(&answer).unwrap();
                return Some(u16::from_be_bytes([*frame.get(2)?, *frame.get(3)?]));
            }
        }
    }

    /// Where `text` ends in what was read.
    fn fill_until(&mut self, text: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.read.windows(text.len()).position(|found| found == text) {
                return Some(at + text.len());
            }
            self.fill()?;
        }
    }

    /// Reads some more; none at the end of the connection.
    fn fill(&mut self) -> Option<()> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => None,
            Ok(count) => {
                self.read.extend_from_slice(&part[..count]);
                Some(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.read)),
        }
    }
}
