//! The example `echo`, for the scripts `tests/clients/echo.*`: each gets one of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::scripts::{LIMIT, Runner};
use super::{Tally, server};
use crate::step;

const START: Duration = Duration::from_secs(20);

/// Whether `script` talks to the example, and not to the server.
pub(super) fn is_for(script: &Path) -> bool {
    script.file_stem().is_some_and(|stem| stem == "echo")
}

pub(super) fn run(root: &Path, runner: &Runner, script: &Path, tally: &mut Tally) {
    runner.judge(script, "", tally, |name| {
        let mut echo = Echo::start(&build(root)?)?;
        let ended = step::run(name, &mut runner.command(script, &echo.url, &[]), LIMIT);
        if !ended.is_ok {
            return Err(ended.how);
        }
        match echo.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the example ended by itself: {status}")),
            Err(error) => Err(format!("cannot look at the example: {error}")),
        }
    });
}

/// Builds the example. After `cargo test --workspace` there is nothing left to build.
fn build(root: &Path) -> Result<PathBuf, String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--workspace", "--example", "echo"]).current_dir(root);
    let ended = step::run("example echo", &mut command, Duration::from_secs(1_800));
    if !ended.is_ok {
        return Err(format!("the example was not built: {}", ended.how));
    }
    Ok(server::target(root).join("debug/examples/echo"))
}

/// The running example; ended when dropped.
struct Echo {
    child: Child,
    url: String,
}

impl Echo {
    /// Starts it at a free port.
    fn start(binary: &Path) -> Result<Self, String> {
        let mut child = Command::new(binary)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the example: {error}"))?;
        let lines = child.stdout.take().map(|stdout| step::lines_of(stdout, false));
        // In place at once, so that every way out of here ends the process.
        let mut echo = Self { child, url: String::new() };
        let url = lines.and_then(|lines| lines.recv_timeout(START).ok());
        echo.url = url.ok_or("the example did not say where it is")?.trim().to_owned();
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_called_echo_are_for_the_example() {
        assert!(is_for(Path::new("/p/tests/clients/echo.mjs")) && is_for(Path::new("echo.py")));
        assert!(
            !is_for(Path::new("/p/tests/echo/ws.mjs")) && !is_for(Path::new("/p/tests/clients/echoes.py"))
        );
    }
}
