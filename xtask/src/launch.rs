//! Starts a program where less is allowed than here: io_uring refused, as container runtimes refuse it, or
//! without the rights of root. A process of its own, because neither can be undone.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What the word after `cargo xtask` is. Not for people: the subset `refused` of the tests calls it.
pub(crate) const COMMAND: &str = "launch";
/// The option that refuses io_uring.
const REFUSE: &str = "--refuse-io-uring";
/// The option that makes the program that of a user, by number.
const USER: &str = "--user";

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`; they have the same numbers on all machines.
const IO_URING: [i64; 3] = [425, 426, 427];
/// What a call of them is answered: `EPERM`.
const NOT_PERMITTED: u32 = 1;
/// What an ordinary user may lock in memory, in bytes, rings of io_uring included: the default of Linux and
/// of systemd.
const LOCKED_BYTES: u64 = 8 << 20;

/// How little a program is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launch {
    /// No io_uring.
    Refused,
    /// No more than this user may, with the default limit of locked memory.
    User(u32),
}

impl Launch {
    /// The command that starts `program` so: this binary once more.
    ///
    /// # Errors
    /// This binary is not known.
    pub(crate) fn command(self, program: &std::path::Path) -> Result<Command, String> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find xtask: {error}"))?;
        let mut command = Command::new(own);
        command.arg(COMMAND);
        match self {
            Self::Refused => command.arg(REFUSE),
            Self::User(user) => command.args([USER, &user.to_string()]),
        };
        command.arg(program);
        Ok(command)
    }
}

/// Becomes the program that `words` name, after the options.
///
/// # Errors
/// What the system does not allow, or why the program cannot be started.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let (launch, words) = match words {
        [REFUSE, rest @ ..] => (Launch::Refused, rest),
        [USER, user, rest @ ..] => {
            let user = user.parse().map_err(|_| format!("{user} is no number of a user"))?;
            (Launch::User(user), rest)
        }
        _ => return Err(format!("{COMMAND} {REFUSE} | {USER} NUMBER, then a program and its arguments")),
    };
    let [program, arguments @ ..] = words else { return Err("there is no program to start".into()) };
    let mut command = Command::new(program);
    command.args(arguments);
    match launch {
        Launch::Refused => refuse_io_uring()?,
        Launch::User(user) => {
            let hard = rlimit::Resource::MEMLOCK.get_hard().map_err(|error| error.to_string())?;
            let bytes = LOCKED_BYTES.min(hard);
            let limited = rlimit::Resource::MEMLOCK.set(bytes, bytes);
            limited.map_err(|error| format!("the limit of locked memory cannot be set: {error}"))?;
            // The standard library drops the groups of root too.
            command.uid(user).gid(user);
        }
    }
    Err(format!("cannot start {program}: {}", command.exec()))
}

/// Has the kernel refuse io_uring to this process from now on, and to those that it starts.
fn refuse_io_uring() -> Result<(), String> {
    let none = |error: seccompiler::BackendError| format!("no seccomp filter for this machine: {error}");
    let filter = SeccompFilter::new(
        IO_URING.into_iter().map(|call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(NOT_PERMITTED),
        std::env::consts::ARCH.try_into().map_err(none)?,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(none)?;
    seccompiler::apply_filter(&program).map_err(|error| format!("seccomp is not allowed here: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_start_nothing_are_refused_before_anything_is_given_up() {
        for (words, wrong) in [
            (&[][..], "launch --refuse-io-uring | --user NUMBER"),
            (&["--user", "nobody", "true"], "nobody is no number"),
            (&["--refuse-io-uring"], "there is no program"),
            (&["true"], "launch --refuse-io-uring"),
        ] {
            let error = run(words).unwrap_err();
            assert!(error.starts_with(wrong), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_thread_that_has_io_uring_refused_has_the_filter_in_place() {
        let state = std::thread::spawn(|| {
            refuse_io_uring().map(|()| std::fs::read_to_string("/proc/thread-self/status").unwrap())
        });
        match state.join().unwrap() {
            Ok(status) => assert!(status.contains("Seccomp:\t2"), "{status}"),
            Err(reason) => eprintln!("not tested: {reason}"),
        }
    }
}
