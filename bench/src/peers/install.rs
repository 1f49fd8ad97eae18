//! Gets what is missing, by its name: Debian's packages, npm's, and crates.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::release;

/// A file, and the Debian package that has it.
pub(super) struct Tool {
    /// A program's name, or an absolute path.
    file: &'static str,
    /// The package.
    pub(super) package: &'static str,
}

pub(super) const NGINX: Tool = Tool { file: "nginx", package: "nginx-light" };
pub(super) const NCHAN: Tool =
    Tool { file: "/usr/lib/nginx/modules/ngx_nchan_module.so", package: "libnginx-mod-nchan" };
pub(super) const MOSQUITTO: Tool = Tool { file: "mosquitto", package: "mosquitto" };
pub(super) const NODE: Tool = Tool { file: "node", package: "nodejs" };
pub(super) const NPM: Tool = Tool { file: "npm", package: "npm" };

impl Tool {
    /// Where it is, if it is here.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps servers where only root looks.
        let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
        folders.find_map(|folder| Some(folder.join(self.file)).filter(|path| path.is_file()))
    }
}

/// Makes sure that `tools` are here.
///
/// # Errors
/// What is missing and could not be installed, with the command that would.
pub(super) fn ensure(tools: &[Tool]) -> Result<(), String> {
    let missing: Vec<_> =
        tools.iter().filter(|tool| tool.path().is_none()).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("install by hand: apt-get install {}", missing.join(" "));
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-o", "DPkg::Lock::Timeout=120"]).args(words);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    // The list of packages may be old, or not there at all.
    apt(&install)
        .or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
        .map_err(|reason| format!("{reason}; {by_hand}"))
}

/// Makes sure that `folder` has the files of `source`, and the packages that its lock file lists.
///
/// # Errors
/// Why it has not.
pub(super) fn npm_packages(source: &Path, folder: &Path) -> Result<(), String> {
    let mark = folder.join("node_modules/.installed");
    for name in ["server.mjs", "package.json", "package-lock.json"] {
        std::fs::copy(source.join(name), folder.join(name))
            .map_err(|error| format!("cannot copy {name} to {}: {error}", folder.display()))?;
    }
    let wanted = std::fs::read(folder.join("package-lock.json")).map_err(|error| error.to_string())?;
    if std::fs::read(&mark).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder);
    run(&mut npm)?;
    std::fs::write(&mark, wanted).map_err(|error| format!("cannot write {}: {error}", mark.display()))
}

/// Builds the servers on crates of others with optimisation, if their source has changed since.
///
/// # Errors
/// They cannot be built.
pub(super) fn build_peers(manifest: &Path, target: &Path) -> Result<(), String> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let build = || {
        let mut cargo = cargo();
        cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(manifest);
        run(cargo.arg("--target-dir").arg(target))
    };
    BUILT.get_or_init(build).clone()
}

/// Builds the server of this workspace, with the profile and into the target folder of this program.
///
/// # Errors
/// It cannot be built.
pub(super) fn build_stentor() -> Result<(), String> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let build = || {
        let folder = release().map_err(|error| format!("cannot say where this program is: {error}"))?;
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let mut cargo = cargo();
        cargo.args(["build", "--quiet", "--package", "stentor-server", "--manifest-path"]).arg(manifest);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        if let Some(target) = folder.parent() {
            cargo.arg("--target-dir").arg(target);
        }
        run(&mut cargo)
    };
    BUILT.get_or_init(build).clone()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells this program about its own package is not for others.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"))
    {
        command.env_remove(name);
    }
    command
}

/// Runs a command, whose words go to standard error.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    eprintln!("── {name} {}", words.join(" "));
    command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name}: {status}")),
        Err(error) => Err(format!("cannot run {name}: {error}")),
    }
}

/// What a program says when it is called with `flag`.
pub(super) fn said(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

/// The version of a Debian package without what Debian adds to it; nothing if it is not installed.
pub(super) fn package_version(package: &str) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
    let text = output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into());
    upstream(&text).to_owned()
}

/// "1.3.6" of "1:1.3.6+dfsg-2".
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.split(['+', '-']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_name_or_by_path_or_is_not() {
        assert!(Tool { file: "sh", package: "dash" }.path().is_some());
        assert!(Tool { file: "/bin/sh", package: "dash" }.path().is_some());
        assert!(Tool { file: "nowhere-to-be-found", package: "none" }.path().is_none());
    }

    #[test]
    fn the_version_of_a_package_is_that_of_its_authors() {
        assert_eq!(upstream("1:1.3.6+dfsg-2"), "1.3.6");
        assert_eq!(upstream("2.0.11-1.2+deb12u2"), "2.0.11");
        assert_eq!(upstream(""), "");
    }
}
