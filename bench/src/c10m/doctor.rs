//! What this machine allows, and what a run would need.

use std::fmt::Write as _;
use std::fs;
use std::io;

use super::{guard, settings};
use crate::machine::{self, Machine};

/// Bytes of a ghost.
const A_GHOST: u64 = 80;

/// What a run of `connections` would set, and how much memory it would need.
pub fn plan(connections: usize, with_ghosts: bool, ring_bytes: usize) -> String {
    let each = if with_ghosts { guard::A_GHOST } else { guard::A_SOCKET };
    let ring = if with_ghosts { ring_bytes as u64 } else { 0 };
    let needed = connections as u64 * each + ring;
    let free = machine::free_memory();
    let mut text = format!("{connections} connections, in a network namespace of their own\n");
    let _ =
        writeln!(text, "memory: {} MiB needed ({each} bytes each), {} MiB free", needed >> 20, free >> 20);
    if with_ghosts {
        let _ = writeln!(text, "  of it packet ring: {} MiB; ghosts: {A_GHOST} bytes each", ring >> 20);
    }
    if needed + guard::LEFT > free {
        let most = free.saturating_sub(guard::LEFT + ring) / each;
        let _ = writeln!(text, "  that does not fit: about {most} would");
    }
    let missing = settings::missing(connections);
    if missing.is_empty() {
        text += "settings of the machine: all are large enough already\n";
    } else {
        text += "settings of the machine, put back at the end:\n";
    }
    for (key, is, wanted) in missing {
        let _ = writeln!(text, "  {} = {wanted} (is {is}): {}", key.path.replace('/', "."), key.why);
    }
    text += "settings of the namespace: ports 1024 to 65000, backlogs 65535, no SYN cookies, \
             a table of connections of its own\n";
    text
}

/// What this machine allows.
///
/// # Errors
/// A run is under way.
pub fn examine(connections: usize) -> io::Result<String> {
    let mut text = format!("{}\n", Machine::this());
    if settings::clean_up()? {
        text += "put back: settings that a run which was killed had left\n";
    }
    let mut say = |is_good: bool, what: &str, how: &str| {
        let _ = match is_good {
            true => writeln!(text, "ok       {what}"),
            false => writeln!(text, "MISSING  {what}\n         {how}"),
        };
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let users: u64 = read("user/max_user_namespaces").unwrap_or(0);
    let is_apparmor: u64 = read("kernel/apparmor_restrict_unprivileged_userns").unwrap_or(0);
    say(
        is_root || users > 0 && is_apparmor == 0,
        "network namespaces: root, or user namespaces",
        "run as root, or set user.max_user_namespaces (and kernel.apparmor_restrict_unprivileged_userns=0)",
    );
    let refused: u64 = read("kernel/io_uring_disabled").unwrap_or(0);
    say(
        refused == 0,
        "io_uring",
        "sysctl kernel.io_uring_disabled=0; in a container, a seccomp profile that allows it",
    );
    let limit = status_limit();
    say(
        limit >= 20_000,
        &format!("descriptors a process: {limit} (a ring's table holds as many connections)"),
        "ulimit -n 1048576; more than 20,000 only saves rings",
    );
    let (free, needed) = (machine::free_memory(), connections as u64 * guard::A_GHOST + guard::LEFT);
    say(
        free >= needed,
        &format!("memory for {connections} ghosts: {} MiB of {} MiB free", needed >> 20, free >> 20),
        "fewer connections, or a machine with more memory: 4.5 KB a connection",
    );
    for (key, is, wanted) in settings::missing(connections) {
        let name = key.path.replace('/', ".");
        say(
            is_root,
            &format!("{name}: is {is}, a run sets {wanted}"),
            &format!("sysctl -w {name}='{wanted}'"),
        );
    }
    say(
        machine::Slabs::now().since(&machine::Slabs::default()).0 > 0,
        "the kernel's accounts of its own memory (/proc/slabinfo)",
        "run as root: without them there is no figure of kernel memory",
    );
    Ok(text)
}

fn read(key: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{key}")).ok()?.trim().parse().ok()
}

/// Hard limit of descriptors.
fn status_limit() -> u64 {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(4)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_does_not_fit_says_how_many_would() {
        let text = plan(1_000_000_000, true, 1 << 30);
        assert!(text.contains("that does not fit: about "), "{text}");
        assert!(!plan(10, true, 0).contains("does not fit"));
    }
}
