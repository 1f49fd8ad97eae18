//! The scripts of `tests/nginx`, through an nginx with the configuration that the documentation shows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::{free_address, is_ready, letting_in};
use super::{Tally, scripts, tools};
use crate::step;

/// The file of the documentation: what stands in nginx's `http` block.
const SHOWN: &str = "docs/nginx.conf";
/// Where the server is in it.
const UPSTREAM: &str = "127.0.0.1:8080";
const START: Duration = Duration::from_secs(20);

pub(super) fn run(root: &Path, tally: &mut Tally) {
    let shown = std::fs::read_to_string(root.join(SHOWN)).map_err(|e| format!("cannot read {SHOWN}: {e}"));
    let shown = match shown.and_then(|shown| tools::ensure(&[tools::NGINX]).map(|()| shown)) {
        Ok(shown) => shown,
        Err(reason) => {
            println!("── nginx: FAILED ({reason})");
            return tally.fail(format!("nginx: {reason}"));
        }
    };
    scripts::run_each(root, "nginx", tally, |runner, script, tally| {
        runner.judge(script, "", tally, |name| {
            let address = free_address()?;
            let url = format!("http://{address}");
            // Pages come from nginx's address now.
            let server = runner.server(name, &letting_in(&url))?;
            let nginx = Nginx::start(root, &shown, server.address(), address)?;
            let ended = step::run(name, &mut runner.command(script, &url, &[]), scripts::LIMIT);
            drop(nginx);
            let is_over = server.end();
            if ended.is_ok { is_over } else { Err(ended.how) }
        });
    });
}

/// A running nginx; ended when dropped.
struct Nginx(Child);

impl Nginx {
    /// Starts one that listens at `address` and passes everything on to `upstream`.
    fn start(root: &Path, shown: &str, upstream: SocketAddr, address: SocketAddr) -> Result<Self, String> {
        let program = tools::NGINX.path().ok_or("nginx is not here")?;
        let folder = root.join("target/xtask/nginx");
        let say = |e: std::io::Error| format!("cannot prepare {}: {e}", folder.display());
        std::fs::create_dir_all(&folder).map_err(say)?;
        let file = folder.join("nginx.conf");
        std::fs::write(&file, whole(&folder, shown, upstream, address)?).map_err(say)?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(folder.join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start nginx: {e}"))?;
        let mut nginx = Self(child);
        let deadline = Instant::now() + START;
        while !is_ready(address) {
            let has_ended = !matches!(nginx.0.try_wait(), Ok(None));
            if has_ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
                return Err(format!("nginx did not become ready\n{log}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers on SIGTERM; a killed one would leave them behind.
        step::signal(self.0.id(), "TERM");
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The configuration shown in the documentation, with its two addresses replaced, in what nginx needs around
/// it.
fn whole(folder: &Path, shown: &str, upstream: SocketAddr, address: SocketAddr) -> Result<String, String> {
    if !shown.contains(UPSTREAM) {
        return Err(format!("{SHOWN} has no upstream {UPSTREAM}"));
    }
    let mut listens = 0;
    let lines: Vec<String> = shown
        .lines()
        .map(|line| {
            if line.trim_start().starts_with("listen ") {
                listens += 1;
                format!("listen {address};")
            } else {
                line.replace(UPSTREAM, &upstream.to_string())
            }
        })
        .collect();
    if listens != 1 {
        return Err(format!("{SHOWN} has {listens} lines with `listen`, not one"));
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .into_iter()
        .map(|kind| format!("    {kind}_temp_path {};\n", temporary_folder(folder, kind).display()))
        .collect();
    Ok(format!(
        "daemon off;\npid {pid};\nworker_processes 1;\nevents {{ worker_connections 1024; }}\nhttp {{\n    \
         access_log off;\n{temporary}{shown}\n}}\n",
        pid = folder.join("nginx.pid").display(),
        shown = lines.join("\n"),
    ))
}

fn temporary_folder(folder: &Path, kind: &str) -> PathBuf {
    folder.join(format!("{kind}_temp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_shown_is_used_with_other_addresses() {
        let shown = "upstream s { server 127.0.0.1:8080; }\nserver {\n    listen 80;\n}\n";
        let (upstream, address) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let text = whole(Path::new("/t"), shown, upstream, address).unwrap();
        assert!(text.contains("server 127.0.0.1:1;") && text.contains("listen 127.0.0.1:2;"), "{text}");
        assert!(!text.contains("listen 80") && !text.contains(UPSTREAM), "{text}");
        assert!(whole(Path::new("/t"), "listen 80;", upstream, address).is_err());
        let twice = format!("{shown}listen 81;\n");
        assert!(whole(Path::new("/t"), &twice, upstream, address).is_err());
    }
}
