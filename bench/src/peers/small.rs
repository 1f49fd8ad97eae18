//! Small servers of ours on libraries that a user could build on: `bench/peers`. They have one topic, and are
//! published to by lines at a control port.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::install::{self, NODE, NPM};
use super::{CONTROL_PORT, Folder, PORT, UPGRADE, connections_max, get};
use crate::target::{Publish, Subscribe, Target, Wire};

/// WebSockets with ws on node.
pub(super) fn ws(folder: &Folder) -> Result<Target, String> {
    install::ensure(&[NODE, NPM])?;
    let program = NODE.path().ok_or("node is not here")?;
    let folder = folder.make("node")?;
    install::npm_packages(&source("node"), &folder)?;
    let script = folder.join("server.mjs");
    let node = install::said(&program, "--version").trim().trim_start_matches('v').to_owned();
    let list = read(&source("node/package.json"))?;
    let version = between(&list, "\"ws\": \"", "\"").ok_or("package.json does not name ws")?;
    let name = format!("ws {version} on node {node} (WebSocket)");
    Ok(target(name, Wire::WebSocket, program, [script.into()].into()))
}

/// Server-Sent Events with axum and a broadcast channel of tokio.
pub(super) fn axum(folder: &Folder) -> Result<Target, String> {
    rust(folder, "axum", "axum-sse", Wire::Sse)
}

/// WebSockets with tokio-tungstenite and a broadcast channel of tokio.
pub(super) fn tungstenite(folder: &Folder) -> Result<Target, String> {
    rust(folder, "tokio-tungstenite", "tungstenite-ws", Wire::WebSocket)
}

fn rust(folder: &Folder, package: &str, program: &str, wire: Wire) -> Result<Target, String> {
    let built = folder.make("rust")?;
    install::build_peers(&source("rust/Cargo.toml"), &built)?;
    let lock = read(&source("rust/Cargo.lock"))?;
    let version = between(&lock, &format!("name = \"{package}\"\nversion = \""), "\"")
        .ok_or_else(|| format!("Cargo.lock does not name {package}"))?;
    let way = if wire == Wire::Sse { "SSE" } else { "WebSocket" };
    let name = format!("{package} {version} ({way})");
    Ok(target(name, wire, built.join("release").join(program), Vec::new()))
}

fn target(name: String, wire: Wire, program: PathBuf, mut arguments: Vec<OsString>) -> Target {
    arguments.extend([PORT.to_string().into(), CONTROL_PORT.to_string().into()]);
    let more = if wire == Wire::Sse { "Accept: text/event-stream\r\n" } else { UPGRADE };
    let opening = move |_: &str| vec![get("/events", more)];
    Target {
        name,
        program,
        arguments,
        environment: Vec::new(),
        port: PORT,
        subscribe: Subscribe { wire, opening: Box::new(opening), again: None },
        publish: Publish::Lines { port: CONTROL_PORT },
        has_topics: false,
        connections_max: connections_max(),
    }
}

/// A path in `bench/peers`.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(path)
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// What stands after the first `start`, up to the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_the_tables_name_are_found() {
        let lock = read(&source("rust/Cargo.lock")).unwrap();
        for package in ["axum", "tokio-tungstenite"] {
            let version = between(&lock, &format!("name = \"{package}\"\nversion = \""), "\"").unwrap();
            assert!(version.starts_with("0."), "{package} {version}");
        }
        let list = read(&source("node/package.json")).unwrap();
        assert!(between(&list, "\"ws\": \"", "\"").unwrap().starts_with("8."));
    }
}
