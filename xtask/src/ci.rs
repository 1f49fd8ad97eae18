//! What every change must pass: format, lints, documentation, tidiness, and the test command of the README.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{step, test, tidy};

const MINUTE: Duration = Duration::from_secs(60);

/// Runs all of it, also what comes after a failure.
///
/// # Errors
/// The names of the steps that failed.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    let mut cargo = |name: &'static str, words: &[&str], limit: Duration| {
        let mut command = Command::new(env!("CARGO"));
        command.args(words).current_dir(root);
        if words[0] == "doc" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        if !step::run(name, &mut command, limit).is_ok {
            failed.push(name);
        }
    };
    cargo("format", &["fmt", "--all", "--check"], MINUTE);
    cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], 30 * MINUTE);
    cargo("documentation", &["doc", "--workspace", "--no-deps"], 15 * MINUTE);
    if step::inside("tidy", || tidy::run(root)).is_err() {
        failed.push("tidy");
    }
    let tests = test::run(root, &test::Subset::ALL);
    match tests {
        Ok(()) if failed.is_empty() => Ok(()),
        Ok(()) => Err(format!("failed: {}", failed.join(", "))),
        Err(reason) => {
            failed.push("test");
            Err(format!("failed: {} ({reason})", failed.join(", ")))
        }
    }
}
