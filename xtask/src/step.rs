//! Runs one command: says which, how long it took, and ends it when its time is over.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often a running command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the rest of its output may take once a command has ended: a child that it left behind may hold
/// the pipe.
const OUTPUT_REST: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Whether it said that all went well, within its time.
    pub(crate) is_ok: bool,
    /// What it wrote on standard output.
    pub(crate) output: String,
    /// "exit status: 1", "over its time of 60 s".
    pub(crate) how: String,
}

/// Runs `command` for at most `limit` and shows what it writes.
pub(crate) fn run(name: &str, command: &mut Command, limit: Duration) -> Ended {
    announce(name, command);
    let began = Instant::now();
    let ended = run_shown(command, limit, true);
    conclude(name, &ended.how, ended.is_ok, began.elapsed());
    ended
}

/// Runs `command` for at most `limit` and shows nothing of it.
pub(crate) fn run_quietly(command: &mut Command, limit: Duration) -> Ended {
    run_shown(command.stderr(Stdio::null()), limit, false)
}

/// Does `work` as a step of its own.
pub(crate) fn inside<T>(name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    println!("── {name}");
    let began = Instant::now();
    let result = work();
    let how = result.as_ref().err().map_or("", String::as_str);
    conclude(name, how, result.is_ok(), began.elapsed());
    result
}

fn announce(name: &str, command: &Command) {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let variables: String = command
        .get_envs()
        .filter_map(|(key, value)| Some(format!("{}={:?} ", key.to_string_lossy(), value?.to_string_lossy())))
        .collect();
    println!("── {name}: {variables}{}", words.join(" "));
    let _ = std::io::stdout().flush();
}

fn conclude(name: &str, how: &str, is_ok: bool, took: Duration) {
    let word = if is_ok { "ok".to_owned() } else { format!("FAILED ({how})") };
    println!("── {name}: {word}, {:.1} s", took.as_secs_f64());
}

fn run_shown(command: &mut Command, limit: Duration, is_shown: bool) -> Ended {
    let failed = |how: String| Ended { is_ok: false, output: String::new(), how };
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            return failed(format!("cannot run {}: {error}", command.get_program().to_string_lossy()));
        }
    };
    let Some(stdout) = child.stdout.take() else { return failed("no standard output".into()) };
    let lines = lines_of(stdout, is_shown);
    let status = wait(&mut child, limit);
    let output = collect(&lines);
    match status {
        Ok(Some(status)) => Ended { is_ok: status.success(), output, how: status.to_string() },
        Ok(None) => Ended { is_ok: false, output, how: format!("over its time of {} s", limit.as_secs()) },
        Err(error) => Ended { is_ok: false, output, how: format!("cannot wait for it: {error}") },
    }
}

/// Reads lines on a thread of its own, so that a full pipe never stops the one who writes.
pub(crate) fn lines_of(stdout: impl Read + Send + 'static, is_shown: bool) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            if is_shown {
                print!("{text}");
            }
            // The rest is still read when nobody listens any more.
            let _ = sender.send(text);
            line.clear();
        }
    });
    lines
}

fn collect(lines: &Receiver<String>) -> String {
    let mut output = String::new();
    while let Ok(line) = lines.recv_timeout(OUTPUT_REST) {
        output.push_str(&line);
    }
    output
}

/// Waits for at most `limit`, then ends the command and everything that it started. `None` when its time was
/// over.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            end_family(child.id());
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Ends a process and all its descendants, by their ids.
fn end_family(root: u32) {
    let mut family = vec![root];
    let parents = parents();
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    for pid in family {
        signal(pid, "KILL");
    }
}

/// Each process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may have any character, so what follows its last one counts.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect()
}

/// Sends a signal to a process that we started. The shell's own `kill` is on every system.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ended {
        run_quietly(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn a_command_says_how_it_ended_and_what_it_wrote() {
        let ended = shell("echo one; echo two", Duration::from_secs(20));
        assert!(ended.is_ok);
        assert_eq!(ended.output, "one\ntwo\n");
        assert!(!shell("exit 3", Duration::from_secs(20)).is_ok);
        let missing = run_quietly(&mut Command::new("/nowhere/tool"), Duration::from_secs(20));
        assert!(!missing.is_ok && missing.how.starts_with("cannot run /nowhere/tool"), "{}", missing.how);
    }

    #[test]
    fn a_command_over_its_time_is_ended_with_all_that_it_started() {
        let began = Instant::now();
        let ended = shell("sleep 50 & echo $!; wait", Duration::from_millis(300));
        assert!(!ended.is_ok && ended.how.starts_with("over its time"), "{}", ended.how);
        assert!(began.elapsed() < Duration::from_secs(20));
        let sleeper: u32 = ended.output.trim().parse().unwrap();
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{sleeper}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        while !is_gone() {
            assert!(began.elapsed() < Duration::from_secs(20), "the child of a command outlived it");
            thread::sleep(LOOK_EVERY);
        }
    }

    #[test]
    fn much_output_does_not_stop_a_command() {
        let ended = shell(
            "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done",
            Duration::from_secs(60),
        );
        assert!(ended.is_ok);
        assert_eq!(ended.output.len(), 220_000);
    }
}
