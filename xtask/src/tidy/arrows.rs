//! Which module may know what: `protocol` nothing of ours and no `std`; of `engine` only the modules that
//! drive a socket know the runtime and the ring; unsafe code stands in `engine/src/sys` and the bench harness
//! alone.

use super::lexer::blank;
use super::{File, Finding, line_of, words};

/// The crates whose names give away that a module does I/O.
const IO_CRATES: [&str; 3] = ["monoio", "io_uring", "libc"];
/// The modules of the engine that may name them, as a file or a folder.
const IO_MODULES: [&str; 4] = ["shard/run", "connection", "socket", "sys"];
/// Where unsafe code may stand.
const UNSAFE_ROOMS: [&str; 2] = ["engine/src/sys", "bench/"];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        if file.is_rust() {
            let code = blank(&file.text).code;
            unsafe_code(file, &code, findings);
            io_crates(file, &code, findings);
            std_in_protocol(file, &code, findings);
        } else if file.path.ends_with("Cargo.toml") {
            dependencies(file, findings);
        }
    }
}

fn unsafe_code(file: &File, code: &str, findings: &mut Vec<Finding>) {
    if UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room)) {
        return;
    }
    for at in words(code, concat!("un", "safe")) {
        findings.push(Finding::new(file, line_of(code, at), "unsafe code outside engine/src/sys and bench"));
    }
}

fn io_crates(file: &File, code: &str, findings: &mut Vec<Finding>) {
    let Some(module) = file.path.strip_prefix("engine/src/") else { return };
    let is_of = |allowed: &str| {
        module.strip_prefix(allowed).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    if IO_MODULES.into_iter().any(is_of) {
        return;
    }
    for name in IO_CRATES {
        for at in words(code, name) {
            let what = format!("{name} is for shard/run, connection, socket and sys");
            findings.push(Finding::new(file, line_of(code, at), what));
        }
    }
}

/// `protocol` is `no_std`; its tests may use what they like.
fn std_in_protocol(file: &File, code: &str, findings: &mut Vec<Finding>) {
    let Some(module) = file.path.strip_prefix("protocol/src/") else { return };
    if module == "lib.rs" {
        let says = |attribute: &str| code.contains(attribute);
        if !says("#![no_std]") && !says("#![cfg_attr(not(test), no_std)]") {
            findings.push(Finding::new(file, 1, "protocol is no_std, which its lib.rs has to say"));
        }
        if !says("#![forbid(unsafe_code)]") {
            findings.push(Finding::new(file, 1, "protocol forbids unsafe code, which its lib.rs has to say"));
        }
    }
    if module.ends_with("tests.rs") || module.contains("tests/") {
        return;
    }
    let tests_begin = code.find("#[cfg(test)]").unwrap_or(code.len());
    for at in words(&code[..tests_begin], "std") {
        findings.push(Finding::new(file, line_of(code, at), "protocol knows no std"));
    }
}

/// The arrows between the crates: `protocol` to nothing of ours, `engine` to `protocol`.
fn dependencies(file: &File, findings: &mut Vec<Finding>) {
    let allowed: &[&str] = match file.path.as_str() {
        "protocol/Cargo.toml" => &[],
        // Its own tests name it, with a feature that they alone want.
        "engine/Cargo.toml" => &["stentor-protocol", "stentor"],
        _ => return,
    };
    let mut is_in_dependencies = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.starts_with('[') {
            is_in_dependencies = line.trim().trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let is_ours = name.starts_with("stentor") || (line.contains("path") && line.contains("../"));
        if is_in_dependencies && is_ours && !allowed.contains(&name) {
            findings.push(Finding::new(file, number, format!("{name} is no crate that this one may know")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        let mut findings = Vec::new();
        check(&[file(path, text)], &mut findings);
        findings.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unsafe_code_stands_in_its_room_alone() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(found("engine/src/log.rs", text), [2]);
        assert_eq!(found("server/src/main.rs", text), [2]);
        assert_eq!(found("engine/src/sys/ring.rs", text), []);
        assert_eq!(found("bench/src/ghost/ring.rs", text), []);
        let talk = "#![deny(unsafe_code)]\n// unsafe is a word\nlet a = \"unsafe\";\n";
        assert_eq!(found("engine/src/log.rs", talk), []);
    }

    #[test]
    fn only_modules_that_drive_sockets_know_the_runtime_and_the_ring() {
        for text in ["use monoio::time;", "fn f(a: io_uring::IoUring) {}", "let a = libc::EAGAIN;"] {
            for path in ["engine/src/log/memory.rs", "engine/src/shard/walk.rs", "engine/src/system.rs"] {
                assert_eq!(found(path, text), [1], "{path}");
            }
            for path in [
                "engine/src/shard/run.rs",
                "engine/src/shard/run/turns.rs",
                "engine/src/connection/http1.rs",
                "engine/src/socket/mod.rs",
                "engine/src/sys/ring.rs",
                "engine/tests/sockets.rs",
                "bench/src/floor.rs",
            ] {
                assert_eq!(found(path, text), [], "{path}");
            }
        }
        assert_eq!(found("engine/src/log/memory.rs", "// monoio waits for this\n"), []);
    }

    #[test]
    fn protocol_knows_no_std_but_in_its_tests() {
        assert_eq!(found("protocol/src/sse.rs", "use std::fmt;\n"), [1]);
        assert_eq!(
            found("protocol/src/sse.rs", "use core::fmt;\n#[cfg(test)]\nmod tests { use std::fmt; }"),
            []
        );
        assert_eq!(found("protocol/src/ws/tests.rs", "use std::fmt;\n"), []);
        assert_eq!(found("protocol/src/lib.rs", "#![no_std]\n#![forbid(unsafe_code)]\n"), []);
        assert_eq!(found("protocol/src/lib.rs", "mod sse;\n"), [1, 1]);
    }

    #[test]
    fn crates_know_each_other_in_one_direction() {
        assert_eq!(found("protocol/Cargo.toml", "[dependencies]\nstentor.workspace = true\n"), [2]);
        assert_eq!(found("protocol/Cargo.toml", "[dev-dependencies]\na = { path = \"../engine\" }\n"), [2]);
        assert_eq!(found("engine/Cargo.toml", "[dependencies]\nstentor-protocol.workspace = true\n"), []);
        assert_eq!(
            found("engine/Cargo.toml", "[dependencies]\nstentor-server = { path = \"../server\" }\n"),
            [2]
        );
        assert_eq!(found("engine/Cargo.toml", "[package]\nname = \"stentor\"\n"), []);
        assert_eq!(found("server/Cargo.toml", "[dependencies]\nstentor.workspace = true\n"), []);
    }
}
