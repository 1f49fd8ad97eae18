//! `cargo test` of the workspace, and of what loom checks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Tally;
use crate::step;

const MINUTE: Duration = Duration::from_secs(60);

/// All tests of the workspace, in one build.
pub(super) fn run(root: &Path, tally: &mut Tally) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--no-fail-fast"]).current_dir(root);
    let ended = step::run("rust", &mut command, 40 * MINUTE);
    add(tally, "rust", &ended);
}

/// The tests that loom runs through every order of steps: those in modules called `models`. The flag would
/// rebuild everything, so they have a target folder of their own.
pub(super) fn run_loom(root: &Path, tally: &mut Tally) {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "--package", "stentor", "--lib", "--target-dir", "target/loom", "models::"])
        .env("RUSTFLAGS", "--cfg loom")
        // Compiling is most of the work here: loom itself stays optimised, as every dependency is.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(root);
    let ended = step::run("loom", &mut command, 20 * MINUTE);
    let before = tally.passed + tally.failed;
    add(tally, "loom", &ended);
    if ended.is_ok && tally.passed + tally.failed == before {
        tally.fail("loom: there is no test in a module called `models`");
    }
}

/// Adds what `cargo test`, or one of its binaries, has said to `tally`.
pub(super) fn add(tally: &mut Tally, name: &str, ended: &step::Ended) {
    let (passed, failed) = count(&ended.output);
    tally.passed += passed;
    tally.failed += failed;
    tally.failures.extend(failures(&ended.output).map(|test| format!("{name}: {test}")));
    if !ended.is_ok && failed == 0 {
        // It did not compile, or a test took the process with it.
        tally.fail(format!("{name}: {}", ended.how));
    }
}

/// The sums of the lines `test result: ok. 3 passed; 1 failed; …`.
fn count(output: &str) -> (usize, usize) {
    let results = output.lines().filter(|line| line.starts_with("test result: "));
    results.fold((0, 0), |(passed, failed), line| {
        (passed + number_before(line, " passed;"), failed + number_before(line, " failed;"))
    })
}

fn number_before(line: &str, word: &str) -> usize {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn failures(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a::b ... ok
test a::c ... FAILED
test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.01s

test src/lib.rs - f (line 3) ... ok
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
";

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        assert_eq!(count(OUTPUT), (42, 1));
        assert_eq!(failures(OUTPUT).collect::<Vec<_>>(), ["a::c"]);
    }

    #[test]
    fn a_run_that_ended_badly_without_a_failed_test_has_failed_nonetheless() {
        let mut tally = Tally::default();
        let ended = step::Ended { is_ok: false, output: String::new(), how: "exit status: 101".into() };
        add(&mut tally, "rust", &ended);
        assert_eq!((tally.passed, tally.failed), (0, 1));
    }
}
