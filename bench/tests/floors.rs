//! The floors do their work: who measures with them relies on it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything here may take.
const WAIT_MAX: Duration = Duration::from_secs(60);

const KINDS: [&str; 3] = ["ring", "send", "monoio"];

/// A floor that runs.
struct Floor {
    process: Child,
    port: u16,
    control: u16,
    is_websocket: bool,
}

impl Floor {
    /// Starts one that may have so many descriptors, with further arguments.
    fn start(kind: &str, descriptors: u64, arguments: &[&str]) -> Self {
        // Both at once: one that is let go of may be given again.
        let free = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("there is a port"));
        let [port, control] = free.map(|free| free.local_addr().expect("it is bound").port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        command.args(["floor-serve", kind, "--port", &port.to_string(), "--control", &control.to_string()]);
        command.args(arguments);
        let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors };
        // SAFETY: system calls alone, which are allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                Ok(())
            });
        }
        let process = command.spawn().expect("it starts");
        let floor = Self { process, port, control, is_websocket: arguments.contains(&"--websocket") };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(started.elapsed() < WAIT_MAX, "{kind} does not accept");
            thread::sleep(Duration::from_millis(20));
        }
        floor
    }

    fn publisher(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.control)).expect("it hears publishers")
    }

    /// A subscriber whose head comes in pieces.
    fn subscribe(&self) -> Subscriber {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it accepts");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("any time will do");
        stream.set_nodelay(true).expect("it is TCP");
        let head =
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let (first, second) = head.split_at(self.port as usize % head.len());
        stream.write_all(first.as_bytes()).expect("it reads");
        thread::sleep(Duration::from_millis(2));
        stream.write_all(second.as_bytes()).expect("it reads");
        let mut subscriber = Subscriber { reader: BufReader::new(stream), is_websocket: self.is_websocket };
        while subscriber.line() != "" {}
        subscriber
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Subscriber {
    reader: BufReader<TcpStream>,
    is_websocket: bool,
}

impl Subscriber {
    fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).expect("it sends");
        assert!(count > 0, "it has ended the connection");
        line.trim_end().to_owned()
    }

    /// The next event's payload.
    fn event(&mut self) -> String {
        if !self.is_websocket {
            loop {
                if let Some(data) = self.line().strip_prefix("data: ") {
                    return data.to_owned();
                }
            }
        }
        let mut head = [0; 2];
        self.reader.read_exact(&mut head).expect("it sends");
        assert_eq!(head[0], 0x81, "a whole text message");
        let mut len = usize::from(head[1]);
        if len == 126 {
            self.reader.read_exact(&mut head).expect("it sends");
            len = usize::from(u16::from_be_bytes(head));
        }
        let mut payload = vec![0; len];
        self.reader.read_exact(&mut payload).expect("it sends");
        String::from_utf8(payload).expect("it is text")
    }

    fn expect(&mut self, numbers: std::ops::Range<u32>, bytes: usize) {
        for number in numbers {
            assert_eq!(self.event(), payload(number, bytes));
        }
    }
}

fn payload(number: u32, bytes: usize) -> String {
    format!("{number:.<bytes$}")
}

fn publish(publisher: &mut TcpStream, numbers: std::ops::Range<u32>, bytes: usize) {
    let lines: String = numbers.map(|number| payload(number, bytes) + "\n").collect();
    publisher.write_all(lines.as_bytes()).expect("it reads");
}

/// More than the kernel's buffers of one connection hold, to some who do not read at first, among others who
/// come and go.
fn everybody_gets_every_event(kind: &str, arguments: &[&str]) {
    const READERS: usize = 8;
    const EVENTS: u32 = 20_000;
    const BYTES: usize = 1_000;
    let floor = Floor::start(kind, 1_000, arguments);
    let mut publisher = floor.publisher();
    let start = Arc::new(Barrier::new(READERS + 1));
    let readers = (0..READERS).map(|reader| {
        let (mut subscriber, start) = (floor.subscribe(), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            if reader % 2 == 0 {
                thread::sleep(Duration::from_secs(1));
            }
            subscriber.expect(0..EVENTS, BYTES);
            subscriber
        })
    });
    let readers: Vec<_> = readers.collect();
    start.wait();
    for numbers in 0..EVENTS / 500 {
        publish(&mut publisher, numbers * 500..(numbers + 1) * 500, BYTES);
        drop(floor.subscribe());
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, floor.port)));
    }
    let mut subscribers: Vec<_> =
        readers.into_iter().map(|reader| reader.join().expect("it got all")).collect();
    // And who was slow gets the later ones with all the others.
    publish(&mut publisher, EVENTS..EVENTS + 3, BYTES);
    for subscriber in &mut subscribers {
        subscriber.expect(EVENTS..EVENTS + 3, BYTES);
    }
}

#[test]
fn everybody_gets_every_event_whoever_is_slow() {
    for kind in KINDS {
        everybody_gets_every_event(kind, &[]);
        everybody_gets_every_event(kind, &["--websocket"]);
    }
    everybody_gets_every_event("ring", &["--each"]);
}

#[test]
fn rings_are_added_when_a_table_is_full_and_used_again_when_it_is_empty() {
    // Each table has room for about 50 with this limit.
    let floor = Floor::start("ring", 128, &[]);
    let mut publisher = floor.publisher();
    let mut subscribers: Vec<_> = (0..400).map(|_| floor.subscribe()).collect();
    for round in 0..6 {
        publish(&mut publisher, round * 10..round * 10 + 10, 50);
        for subscriber in &mut subscribers {
            subscriber.expect(round * 10..round * 10 + 10, 50);
        }
        // Another part of them each time; who comes again gets what the places of those who went are for.
        let mut place = 0;
        subscribers.retain(|_| {
            place += 1;
            place % 3 != round % 3
        });
        while subscribers.len() < 400 {
            subscribers.push(floor.subscribe());
        }
    }
}

#[test]
fn who_sends_heartbeats_sends_one_to_each_in_each_period() {
    let floor = Floor::start("ring", 1_000, &["--heartbeat", "2"]);
    let mut subscribers: Vec<_> = (0..150).map(|_| floor.subscribe()).collect();
    let started = Instant::now();
    for round in 0..2 {
        for subscriber in &mut subscribers {
            while subscriber.line() != ":" {}
        }
        assert!(started.elapsed() < Duration::from_secs(2 * (round + 1) + 2), "round {round} is late");
    }
    assert!(started.elapsed() > Duration::from_secs(2), "it sends too many");
}
