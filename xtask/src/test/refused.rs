//! The tests with sockets once more, from the binaries that `cargo test` has built: where io_uring is
//! refused, so that the engine has to notice by itself and park with epoll; and as an ordinary user, who may
//! lock little memory for rings. Where the machine allows one of them not, it says so and goes on.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::server::{self, Server};
use super::{Tally, rust};
use crate::launch::Launch;
use crate::step;

const MINUTE: Duration = Duration::from_secs(60);
/// Longest that one binary may take.
const LIMIT: Duration = Duration::from_secs(300);
/// `nobody`, everywhere.
const ORDINARY: u32 = 65_534;
/// The folders of the crates whose tests have sockets.
const CRATES: [&str; 3] = ["engine", "server", "examples"];
/// What every test engine that may use io_uring is then to be parked by.
const PARKED_BY: &str = "STENTOR_TEST_PARKED_BY";

/// A test binary, and the folder that it is to run in.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    path: PathBuf,
    folder: PathBuf,
}

/// Runs all of it.
pub(super) fn run(root: &Path, tally: &mut Tally) {
    let ready = server::build(root).and_then(|stentor| Ok((stentor, build(root)?)));
    match ready {
        Ok((stentor, binaries)) => {
            without_io_uring(&stentor, &binaries, tally);
            as_ordinary_user(&binaries, tally);
        }
        Err(reason) => {
            println!("── refused: FAILED ({reason})");
            tally.fail(format!("refused: {reason}"));
        }
    }
}

fn without_io_uring(stentor: &Path, binaries: &[Binary], tally: &mut Tally) {
    if let Err(reason) = is_possible(Launch::Refused, "true", &[]) {
        return println!("── refused: not run, as nothing can be refused here ({reason})");
    }
    says_why(stentor, tally);
    for binary in binaries {
        run_one("refused", Launch::Refused, binary, tally, |command| {
            // Waiting is most of what they do.
            command.args(["--test-threads", "8"]).env(PARKED_BY, "epoll");
        });
    }
}

fn as_ordinary_user(binaries: &[Binary], tally: &mut Tally) {
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        return println!("── ordinary user: not run, as this is one, and so were the tests before");
    }
    let launch = Launch::User(ORDINARY);
    let unreachable = binaries.iter().find_map(|binary| {
        let path = binary.path.to_string_lossy().into_owned();
        is_possible(launch, "test", &["-x", &path]).err().map(|_| path)
    });
    if let Some(path) = unreachable {
        return println!("── ordinary user: not run, as it cannot reach {path}");
    }
    let home = std::env::temp_dir().join(format!("stentor-ordinary-{}", std::process::id()));
    let made = std::fs::create_dir_all(&home).and_then(|()| chown(&home, Some(ORDINARY), Some(ORDINARY)));
    if let Err(error) = made {
        return tally.fail(format!("ordinary user: cannot make {}: {error}", home.display()));
    }
    for binary in binaries {
        run_one("ordinary user", launch, binary, tally, |command| {
            // Each engine locks a megabyte of the eight for its rings.
            command.args(["--test-threads", "4"]).env("HOME", &home).env("TMPDIR", &home);
        });
    }
    let _ = std::fs::remove_dir_all(&home);
}

/// Whether a program can be started so at all; the reason why not.
fn is_possible(launch: Launch, program: &str, words: &[&str]) -> Result<(), String> {
    let ended =
        launch.command(Path::new(program))?.args(words).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    if ended.status.success() {
        Ok(())
    } else {
        Err(if said.is_empty() { ended.status.to_string() } else { said })
    }
}

/// Counts whether the server, started so, says that it parks connections with epoll, and why.
fn says_why(stentor: &Path, tally: &mut Tally) {
    let name = "refused: the server says at start why it uses epoll";
    let log = std::env::temp_dir().join(format!("stentor-refused-{}.log", std::process::id()));
    let said = Launch::Refused
        .command(stentor)
        .and_then(|command| Server::start_as(command, &[], &log))
        .and_then(|server| {
            let said = server.welcome().to_owned();
            server.end().map(|()| said)
        });
    let _ = std::fs::remove_file(&log);
    let wanted = "epoll because io_uring is refused (EPERM)";
    let wrong = match said {
        Ok(line) if line.contains(wanted) => None,
        Ok(line) => Some(format!("it says {line:?} and not {wanted:?}")),
        Err(reason) => Some(reason),
    };
    if let Some(reason) = &wrong {
        println!("── {name}: FAILED ({reason})");
    }
    tally.count(name, wrong.is_none());
}

/// Runs the tests of one binary, but for the simulation, which has no sockets, and for those that would ask
/// for epoll themselves.
fn run_one(
    name: &str,
    launch: Launch,
    binary: &Binary,
    tally: &mut Tally,
    change: impl FnOnce(&mut Command),
) {
    let file = binary.path.file_name().unwrap_or_default().to_string_lossy();
    // Cargo ends the name with a hash.
    let name = format!("{name}: {}", file.rsplit_once('-').map_or(&*file, |(stem, _)| stem));
    match launch.command(&binary.path) {
        Ok(mut command) => {
            command.args(["--skip", "sim::", "--skip", "epoll::"]).current_dir(&binary.folder);
            change(&mut command);
            rust::add(tally, &name, &step::run(&name, &mut command, LIMIT));
        }
        Err(reason) => tally.fail(format!("{name}: {reason}")),
    }
}

/// Builds the tests as `cargo test` does, and finds those with sockets.
fn build(root: &Path) -> Result<Vec<Binary>, String> {
    let cargo = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--workspace", "--no-run"]).args(words).current_dir(root);
        command
    };
    let built = step::run("test binaries", &mut cargo(&["--quiet"]), 40 * MINUTE);
    if !built.is_ok {
        return Err(format!("the tests were not built: {}", built.how));
    }
    let told = step::run_quietly(&mut cargo(&["--message-format=json"]), 40 * MINUTE);
    let binaries = binaries(root, &told.output);
    if binaries.is_empty() { Err("cargo names no test with sockets".into()) } else { Ok(binaries) }
}

/// Those of [`CRATES`] in what cargo tells, a line of JSON each.
fn binaries(root: &Path, messages: &str) -> Vec<Binary> {
    let folders = CRATES.map(|name| root.join(name));
    // Whether it was built as a test stands in its profile; whether it has tests elsewhere.
    let is_test = |line: &&str| {
        let profile = line.split_once("\"profile\":{").and_then(|(_, rest)| rest.split('}').next());
        profile.is_some_and(|profile| profile.contains("\"test\":true"))
    };
    let tests = messages.lines().filter(is_test);
    let binary = |line: &str| {
        let path = PathBuf::from(text(line, "executable")?);
        let folder = Path::new(text(line, "manifest_path")?).parent()?.to_owned();
        folders.contains(&folder).then_some(Binary { path, folder })
    };
    tests.filter_map(binary).collect()
}

/// The value of the first `"KEY":"VALUE"`. Cargo's paths have nothing to escape on this system.
fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_of_crates_with_sockets_are_found_in_what_cargo_tells() {
        let line = |folder: &str, executable: &str, is_test: bool| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/p/{folder}/Cargo.toml\",\
                 \"target\":{{\"doctest\":false,\"test\":true}},\
                 \"profile\":{{\"opt_level\":\"1\",\"test\":{is_test}}},\
                 \"executable\":{executable},\"fresh\":true}}"
            )
        };
        let messages = [
            line("engine", "\"/p/target/debug/deps/drain-0\"", true),
            line("engine", "null", false),
            line("protocol", "\"/p/target/debug/deps/stentor_protocol-0\"", true),
            line("server", "\"/p/target/debug/stentor\"", false),
            line("server", "\"/p/target/debug/deps/binary-0\"", true),
            "{\"reason\":\"build-finished\",\"success\":true}".into(),
        ];
        let found = binaries(Path::new("/p"), &messages.join("\n"));
        let binary = |name: &str, folder: &str| Binary {
            path: Path::new("/p/target/debug/deps").join(name),
            folder: Path::new("/p").join(folder),
        };
        assert_eq!(found, [binary("drain-0", "engine"), binary("binary-0", "server")]);
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let error = is_possible(Launch::User(ORDINARY), "/nowhere/program", &[]).unwrap_err();
        assert!(!error.is_empty());
    }
}
