//! A server under test, as data: how it is started, how one subscribes to it, and how one publishes.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine;

/// What a server speaks to its subscribers, as far as the decoder must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// `text/event-stream` in an HTTP/1.1 answer, chunked or until the connection closes.
    Sse,
    /// Lines in an HTTP/1.1 answer, chunked or until the connection closes; a line holds one payload.
    Stream,
    /// RFC 6455; each text or binary message holds one payload.
    WebSocket,
    /// MQTT 3.1.1 in binary messages of a WebSocket.
    MqttWebSocket,
    /// An HTTP/1.1 answer with `Content-Length` for each request; the decoder asks again with the cursor that
    /// it read, through [`Subscribe::again`].
    LongPoll,
}

/// Bytes that a subscriber sends, made from the topic.
pub type Opening = Box<dyn Fn(&str) -> Vec<Vec<u8>> + Send + Sync>;

/// Bytes of the next request of a subscriber, made from the topic and the cursor of the last answer.
pub type Again = Box<dyn Fn(&str, &str) -> Vec<u8> + Send + Sync>;

/// The request of a publish, made from the topic and the payload.
pub type Request = Box<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;

/// How one subscribes.
pub struct Subscribe {
    /// What comes back.
    pub wire: Wire,
    /// What the subscriber sends: the first element at once, each further one when the one before was
    /// answered (an HTTP head, then one MQTT packet each). It counts as connected after as many answers.
    pub opening: Opening,
    /// The next request, with the cursor of the last: long polls, and whoever comes back after a storm.
    pub again: Option<Again>,
}

/// How one publishes.
pub enum Publish {
    /// A request each, pipelined over one connection that is kept; every answer must be 2xx.
    Http {
        /// Where.
        port: u16,
        /// The whole request, from the topic and the payload.
        request: Request,
    },
    /// One payload a line to a control port; nothing is answered. For the floors and for servers that are
    /// ours to write.
    Lines {
        /// Where.
        port: u16,
    },
    /// MQTT 3.1.1 over TCP, QoS 0; nothing is answered after the connection.
    Mqtt {
        /// Where.
        port: u16,
    },
}

/// A server under test.
pub struct Target {
    /// What the tables call it: the server, its version, and the transport.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment, beyond ours.
    pub environment: Vec<(OsString, OsString)>,
    /// The port of the subscribers, on all loopback addresses: one address has ports for about 28,000.
    pub port: u16,
    /// How one subscribes.
    pub subscribe: Subscribe,
    /// How one publishes.
    pub publish: Publish,
    /// Topics that it can hold; floors have one.
    pub has_topics: bool,
    /// Most connections that one process of it can hold under this machine's limits.
    pub connections_max: usize,
}

/// A server that runs. Dropping it ends it.
pub struct Running {
    child: Child,
    /// Kept for messages.
    name: String,
}

/// How long a server may take until it accepts.
const START_MAX: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM; then it is killed.
const END_MAX: Duration = Duration::from_secs(10);

impl Target {
    /// Starts the server on `core`, and waits until its port accepts.
    ///
    /// # Errors
    /// The program cannot be started, ended at once, or does not accept within 20 s.
    pub fn start(&self, core: usize) -> io::Result<Running> {
        wait_until_free(self.port)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("STENTOR_BENCH_VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        // SAFETY: `pin_to` and `prctl` only make system calls, which is all that is allowed between fork and
        // exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                machine::pin_to(core)
            });
        }
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.program.display())))?;
        let mut running = Running { child, name: self.name.clone() };
        let started = Instant::now();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port);
        while TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)).is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended at once: {status}", self.name)));
            }
            if started.elapsed() > START_MAX {
                return Err(io::Error::other(format!("{} does not accept on {address}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // What a start leaves to be done (caches, lazily made pages) is done before anything is measured.
        std::thread::sleep(Duration::from_millis(300));
        running.check()?;
        Ok(running)
    }
}

/// Waits until nobody listens at a port. The kernel lets go of what a killed server had in its rings of
/// io_uring, a listener too, only some time after the process has ended: until then its port is taken, and
/// even accepts.
fn wait_until_free(port: u16) -> io::Result<()> {
    let started = Instant::now();
    while let Err(error) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        if started.elapsed() > END_MAX {
            return Err(io::Error::new(error.kind(), format!("port {port} does not become free: {error}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Running {
    /// The process, and all that it started.
    pub fn processes(&self) -> Vec<u32> {
        machine::with_descendants(self.child.id())
    }

    /// Processor time of all its processes so far.
    pub fn cpu(&self) -> Duration {
        self.processes().into_iter().map(machine::cpu_of).sum()
    }

    /// Resident memory of all its processes, in bytes; pages that they share with files are left out.
    pub fn memory(&self) -> u64 {
        self.processes().into_iter().map(machine::anonymous_memory_of).sum()
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// It has, with its status.
    pub fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("{} ended by itself: {status}", self.name))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let all = self.processes();
        // SAFETY: a signal to a child that has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGKILL) };
        let _ = self.child.wait();
        let ended = Instant::now();
        // Workers of a server that is killed end by themselves, or are ended.
        for process in all.into_iter().filter(|&process| process != self.child.id()) {
            while machine::is_alive(process) && ended.elapsed() < END_MAX {
                // SAFETY: a signal to a descendant that was seen alive a moment ago.
                unsafe { libc::kill(process as i32, libc::SIGKILL) };
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
