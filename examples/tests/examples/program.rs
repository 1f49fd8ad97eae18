//! A running example, ended with the test that started it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::WAIT;

pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Program {
    /// Starts the example `name`.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("example {name}: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // Reads to the end, so that no full pipe stops the example.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { input: child.stdin.take(), child, lines }
    }

    /// Starts a server at a free port, and waits until it says which.
    pub(crate) fn serve(name: &str) -> (Self, SocketAddr) {
        let program = Self::start(name, &["127.0.0.1:0"]);
        let line = program.line();
        let address = line.split('/').find_map(|part| part.parse().ok());
        (program, address.unwrap_or_else(|| panic!("example {name} says {line:?}, which has no address")))
    }

    /// The next line that it writes.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(WAIT).expect("the example writes a line")
    }

    /// Gives it a line to read.
    pub(crate) fn type_line(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Ends its input, and waits until it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.input = None;
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the example does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo puts examples beside the folder that this test runs from, but tells no test where. It does not build
/// them when only some tests are asked for, and an old example would prove nothing.
fn path(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let is_fresh = modified(&path).is_ok_and(|built| modified(&source).is_ok_and(|written| built >= written));
    assert!(is_fresh, "{} is to be built first: cargo build -p stentor-examples --examples", path.display());
    path
}
