//! What the tests need from others: Debian packages, npm packages, Python packages. Installs what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::step;

const MINUTE: Duration = Duration::from_secs(60);

/// A program, and the Debian package that has it.
pub(super) struct Tool {
    /// Its names, the first that is there counts.
    pub(super) programs: &'static [&'static str],
    pub(super) package: &'static str,
}

pub(super) const CURL: Tool = Tool { programs: &["curl"], package: "curl" };
pub(super) const NODE: Tool = Tool { programs: &["node"], package: "nodejs" };
pub(super) const NPM: Tool = Tool { programs: &["npm"], package: "npm" };
pub(super) const PYTHON: Tool = Tool { programs: &["python3"], package: "python3-venv" };
pub(super) const NGINX: Tool = Tool { programs: &["nginx"], package: "nginx-light" };
pub(super) const CHROMIUM: Tool = Tool { programs: &["chromium"], package: "chromium" };
pub(super) const FIREFOX: Tool = Tool { programs: &["firefox-esr"], package: "firefox-esr" };

impl Tool {
    /// Where the program is, if it is here.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps servers where only root looks.
        let folders: Vec<PathBuf> =
            std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]).collect();
        self.programs
            .iter()
            .find_map(|program| folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file()))
    }
}

/// Makes sure that `tools` are here.
///
/// # Errors
/// What is missing and could not be installed, with the command that would.
pub(super) fn ensure(tools: &[Tool]) -> Result<(), String> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| tool.path().is_none()).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("install by hand: apt-get install {}", missing.join(" "));
    let Some(root) = root_prefix() else {
        return Err(format!("neither root nor passwordless sudo; {by_hand}"));
    };
    let apt = |words: &[&str]| {
        let mut all = root.to_vec();
        all.extend(["apt-get", "-o", "DPkg::Lock::Timeout=120"]);
        all.extend(words);
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    if step::run("install", &mut apt(&install), 15 * MINUTE).is_ok {
        return Ok(());
    }
    // The list of packages may be old or not there at all.
    step::run("package list", &mut apt(&["update"]), 5 * MINUTE);
    match step::run("install", &mut apt(&install), 15 * MINUTE) {
        ended if ended.is_ok => Ok(()),
        ended => Err(format!("apt-get: {}; {by_hand}", ended.how)),
    }
}

/// What to put before a command that needs root; nothing if we are root.
fn root_prefix() -> Option<&'static [&'static str]> {
    let id = step::run_quietly(Command::new("id").arg("-u"), MINUTE);
    if id.output.trim() == "0" {
        return Some(&[]);
    }
    step::run_quietly(Command::new("sudo").args(["-n", "true"]), MINUTE).is_ok.then_some(&["sudo", "-n"])
}

/// Makes sure that the packages of `tests/package-lock.json` are in `tests/node_modules`.
///
/// # Errors
/// Why they are not.
pub(super) fn ensure_npm_packages(root: &Path) -> Result<(), String> {
    let folder = root.join("tests");
    let mut command = Command::new("npm");
    command.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
    once(&folder.join("package-lock.json"), &folder.join("node_modules/.installed"), || {
        match step::run("npm packages", &mut command, 10 * MINUTE) {
            ended if ended.is_ok => Ok(()),
            ended => Err(format!("npm ci: {}", ended.how)),
        }
    })
}

/// Makes sure that the packages of `tests/requirements.txt` are in a virtual environment; its Python.
///
/// # Errors
/// Why they are not.
pub(super) fn ensure_python_packages(root: &Path) -> Result<PathBuf, String> {
    let environment = root.join("target/python");
    let python = environment.join("bin/python3");
    let requirements = root.join("tests/requirements.txt");
    once(&requirements, &environment.join(".installed"), || {
        let make = || {
            let mut command = Command::new("python3");
            command.args(["-m", "venv", "--clear"]).arg(&environment);
            step::run("python environment", &mut command, 5 * MINUTE).is_ok
        };
        if !make() {
            // Debian has the module apart from Python itself.
            ensure(&[Tool { programs: &[], package: "python3-venv" }])?;
            if !make() {
                return Err("python3 -m venv failed".into());
            }
        }
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        match step::run("python packages", command.arg(&requirements), 10 * MINUTE) {
            ended if ended.is_ok => Ok(()),
            ended => Err(format!("pip install: {}", ended.how)),
        }
    })?;
    Ok(python)
}

/// Does `work` unless `mark` says that it was done for just this `list`.
fn once(list: &Path, mark: &Path, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wanted = std::fs::read(list).map_err(|e| format!("cannot read {}: {e}", list.display()))?;
    if std::fs::read(mark).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    work()?;
    std::fs::write(mark, wanted).map_err(|e| format!("cannot write {}: {e}", mark.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_or_is_not() {
        assert!(Tool { programs: &["nowhere-to-be-found", "sh"], package: "dash" }.path().is_some());
        assert!(Tool { programs: &["nowhere-to-be-found"], package: "none" }.path().is_none());
    }

    #[test]
    fn packages_are_installed_once_a_list_and_again_when_it_changes() {
        let folder = std::env::temp_dir().join(format!("xtask-once-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (list, mark) = (folder.join("list"), folder.join("mark"));
        let mut runs = 0;
        std::fs::write(&list, "a==1").unwrap();
        assert!(once(&list, &mark, || Err("no network".into())).is_err());
        for text in ["a==1", "a==1", "a==2"] {
            std::fs::write(&list, text).unwrap();
            once(&list, &mark, || {
                runs += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(runs, 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
