//! The binary under test: built once, started on a free port for each script, ended with SIGTERM.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::step;

const START: Duration = Duration::from_secs(20);
/// The drain time that the server is given, and what it may take beyond.
const DRAIN_SECONDS: u64 = 5;
const END: Duration = Duration::from_secs(DRAIN_SECONDS + 10);

/// Builds the binary. After `cargo test --workspace` there is little left to build.
///
/// # Errors
/// That it does not compile.
pub(super) fn build(root: &Path) -> Result<PathBuf, String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--workspace", "--bin", "stentor"]).current_dir(root);
    let ended = step::run("binary", &mut command, Duration::from_secs(1_800));
    if !ended.is_ok {
        return Err(format!("the binary was not built: {}", ended.how));
    }
    Ok(target(root).join("debug/stentor"))
}

/// Where cargo puts what it builds.
pub(super) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// A running server. Killed if it is dropped without having been ended.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    /// The line that says so.
    welcome: String,
}

impl Server {
    /// Starts `binary` with `flags` and waits until it is ready. It logs to `log`.
    ///
    /// # Errors
    /// Why it did not become ready, with the end of its log.
    pub(super) fn start(binary: &Path, flags: &[String], log: &Path) -> Result<Self, String> {
        Self::start_as(Command::new(binary), flags, log)
    }

    /// The same of what `command` starts.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(super) fn start_as(mut command: Command, flags: &[String], log: &Path) -> Result<Self, String> {
        let say = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let file = File::create(log).map_err(|e| say("cannot write a log", e))?;
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--drain-seconds", &DRAIN_SECONDS.to_string()])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|e| say("cannot start the server", e))?;
        let lines = child.stdout.take().map(|stdout| step::lines_of(stdout, false));
        // In place at once, so that every way out of here ends the process.
        let mut server =
            Self { child, address: ([127, 0, 0, 1], 0).into(), log: log.into(), welcome: String::new() };
        let deadline = Instant::now() + START;
        let address = lines.and_then(|lines| {
            while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                if let Some(address) = address_in(&line) {
                    return Some((address, line));
                }
            }
            None
        });
        (server.address, server.welcome) =
            address.ok_or_else(|| format!("the server did not say where it is\n{}", server.log_end()))?;
        while !is_ready(server.address) {
            if Instant::now() > deadline {
                return Err(format!("the server did not become ready\n{}", server.log_end()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line in which it said so.
    pub(super) fn welcome(&self) -> &str {
        self.welcome.trim()
    }

    /// The URL that scripts are given.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The end of its log.
    pub(super) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// If it had ended before, is not over in time, or does not end with 0.
    pub(super) fn end(mut self) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("cannot wait for the server: {error}");
        if let Some(status) = self.child.try_wait().map_err(cannot)? {
            return Err(format!("the server ended by itself: {status}\n{}", self.log_end()));
        }
        step::signal(self.child.id(), "TERM");
        let deadline = Instant::now() + END;
        loop {
            match self.child.try_wait().map_err(cannot)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(format!("after SIGTERM the server ended with {status}\n{}", self.log_end()));
                }
                None if Instant::now() > deadline => {
                    return Err(format!(
                        "the server was not over {} s after SIGTERM\n{}",
                        END.as_secs(),
                        self.log_end()
                    ));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// An address of loopback with a port that was free a moment ago.
///
/// # Errors
/// No port is free.
pub(super) fn free_address() -> Result<SocketAddr, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.map_err(|e| format!("no port is free: {e}"))
}

/// The flags that let pages of `origin` in.
pub(super) fn letting_in(origin: &str) -> [String; 2] {
    [format!("--set=cors.origins={origin}"), "--set=cors.credentials=true".into()]
}

/// The address in a line such as `listening on http://127.0.0.1:8080 (2 shards)`.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on http://")?.split_whitespace().next()?.parse().ok()
}

/// Whether `GET /ready` answers 200.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    };
    ask().is_ok_and(|head| head.ends_with(" 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_first_line() {
        let line = "listening on http://127.0.0.1:4711 (2 shards, io_uring)\n";
        assert_eq!(address_in(line), Some("127.0.0.1:4711".parse().unwrap()));
        assert_eq!(address_in("live page:  http://127.0.0.1:4711/\n"), None);
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_log() {
        let log = std::env::temp_dir().join(format!("xtask-server-{}.log", std::process::id()));
        let Err(reason) = Server::start(Path::new("/bin/false"), &[], &log) else {
            panic!("/bin/false serves")
        };
        assert!(reason.starts_with("the server did not say where it is"), "{reason}");
        let _ = std::fs::remove_file(log);
    }
}
