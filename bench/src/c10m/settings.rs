//! What a large run changes on the machine, and how it is put back: also after a crash, by the next start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A key of the kernel's that no namespace has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Below `/proc/sys`.
    pub path: &'static str,
    /// Why a run of this size wants it.
    pub why: &'static str,
}

const TCP_MEM: Key = Key {
    path: "net/ipv4/tcp_mem",
    why: "pages that all TCP sockets may hold: an event on its way to each of a million takes two gigabytes",
};
const BACKLOG: Key = Key {
    path: "net/core/netdev_max_backlog",
    why: "packets that may wait for a processor: the pair's queue, which would drop a burst",
};
const FILE_MAX: Key = Key { path: "fs/file-max", why: "open files of the machine: a socket is one" };

/// What a run of `connections` wants set, with the value.
pub fn wanted(connections: usize) -> Vec<(Key, String)> {
    let pages = (connections as u64).max(250_000) * 3 / 2;
    vec![
        (TCP_MEM, format!("{} {} {}", pages, pages * 5 / 3, pages * 8 / 3)),
        (BACKLOG, "200000".to_owned()),
        (FILE_MAX, (connections * 11 / 5 + 100_000).to_string()),
    ]
}

/// Whether a value is at least another, number by number.
fn suffices(is: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split_whitespace().map(|number| number.parse().unwrap_or(u64::MAX)).collect()
    };
    let (is, wanted) = (numbers(is), numbers(wanted));
    is.len() == wanted.len() && is.iter().zip(&wanted).all(|(is, wanted)| is >= wanted)
}

/// The value of a key now; none if it may not be read here.
pub fn value(key: Key) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/{}", key.path)).ok()?.trim().replace('\t', " "))
}

/// Keys that a run of this size should have otherwise, with what they are and what they should be.
pub fn missing(connections: usize) -> Vec<(Key, String, String)> {
    let one = |(key, wanted): (Key, String)| {
        let is = value(key)?;
        (!suffices(&is, &wanted)).then_some((key, is, wanted))
    };
    wanted(connections).into_iter().filter_map(one).collect()
}

/// Keys that were changed. Dropping it puts them back.
#[derive(Debug)]
pub struct Changed {
    record: PathBuf,
    were: Were,
}

/// What is written down before anything is changed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Were {
    process: u32,
    keys: BTreeMap<String, String>,
}

/// Where it is written down.
fn record() -> PathBuf {
    std::env::temp_dir().join("stentor-c10m.json")
}

impl Changed {
    /// Puts back what a run before this one has left, if it ended without doing so; then sets what a run of
    /// `connections` wants, as far as it may.
    ///
    /// # Errors
    /// Another run is under way, or what was cannot be written down.
    pub fn make(connections: usize) -> io::Result<Self> {
        clean_up()?;
        let record = record();
        let mut were = Were { process: std::process::id(), keys: BTreeMap::new() };
        let missing = missing(connections);
        for (key, is, _) in &missing {
            were.keys.insert(key.path.to_owned(), is.clone());
        }
        fs::write(&record, serde_json::to_vec(&were)?)?;
        for (key, _, wanted) in missing {
            if let Err(error) = fs::write(format!("/proc/sys/{}", key.path), &wanted) {
                eprintln!("{} stays as it is ({error}); wanted: {wanted} ({})", key.path, key.why);
                were.keys.remove(key.path);
            }
        }
        Ok(Self { record, were })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        put_back(&self.were);
        let _ = fs::remove_file(&self.record);
    }
}

/// Puts back what an earlier run has left. Answers whether there was something.
///
/// # Errors
/// That run is still under way.
pub fn clean_up() -> io::Result<bool> {
    let record = record();
    let Ok(text) = fs::read(&record) else { return Ok(false) };
    let Ok(were) = serde_json::from_slice::<Were>(&text) else { return Ok(false) };
    if were.process != std::process::id() && crate::machine::is_alive(were.process) {
        let message = format!("process {} is measuring: two runs at once would spoil both", were.process);
        return Err(io::Error::other(message));
    }
    put_back(&were);
    fs::remove_file(&record)?;
    Ok(true)
}

fn put_back(were: &Were) {
    for (key, value) in &were.keys {
        let _ = fs::write(format!("/proc/sys/{key}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_large_enough_stays() {
        assert!(suffices("300 400 500", "300 400 500"));
        assert!(!suffices("300 399 500", "300 400 500"));
        assert!(!suffices("300", "300 400 500"));
        assert!(suffices("9223372036854775807", "1000"));
    }
}
