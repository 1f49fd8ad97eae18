//! Test scripts: `node FILE.mjs BASE_URL …` and `python FILE.py BASE_URL …`, each against a server of its
//! own. The exit status says whether it passed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::server::{self, Server};
use super::{Tally, echo, tools};
use crate::step;

/// A script may take so long.
pub(super) const LIMIT: Duration = Duration::from_secs(300);
/// What is needed to run scripts.
pub(super) struct Runner {
    root: PathBuf,
    binary: PathBuf,
    python: PathBuf,
}

impl Runner {
    /// Builds the server and installs what the scripts need.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn new(root: &Path) -> Result<Self, String> {
        tools::ensure(&[tools::CURL, tools::NODE, tools::NPM, tools::PYTHON])?;
        tools::ensure_npm_packages(root)?;
        let python = tools::ensure_python_packages(root)?;
        Ok(Self { root: root.into(), binary: server::build(root)?, python })
    }

    /// Starts a server with `flags` that logs to a file named after `name`.
    ///
    /// # Errors
    /// Why it did not start.
    pub(super) fn server(&self, name: &str, flags: &[String]) -> Result<Server, String> {
        let folder = self.root.join("target/xtask");
        std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let log: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        Server::start(&self.binary, flags, &folder.join(log + ".log"))
    }

    /// Runs `script` with a server of its own, started with `flags`. `label` tells apart what is one script.
    pub(super) fn run(
        &self,
        script: &Path,
        label: &str,
        words: &[&str],
        flags: &[String],
        tally: &mut Tally,
    ) {
        self.judge(script, label, tally, |name| {
            let server = self.server(name, flags)?;
            let ended = step::run(name, &mut self.command(script, &server.base_url(), words), LIMIT);
            if !ended.is_ok {
                println!("the server's log ends with:\n{}", server.log_end());
            }
            // What went wrong in the script is told before what followed from it.
            let is_over = server.end();
            if ended.is_ok { is_over } else { Err(ended.how) }
        });
    }

    /// Counts `script`, called after itself and `label`, by what `work` says of it.
    pub(super) fn judge(
        &self,
        script: &Path,
        label: &str,
        tally: &mut Tally,
        work: impl FnOnce(&str) -> Result<(), String>,
    ) {
        let name = self.name(script, label);
        let result = work(&name);
        if let Err(reason) = &result {
            println!("── {name}: FAILED ({reason})");
        }
        tally.count(name, result.is_ok());
    }

    /// How `script` is called.
    pub(super) fn command(&self, script: &Path, base_url: &str, words: &[&str]) -> Command {
        let is_python = script.extension().is_some_and(|extension| extension == "py");
        let mut command = Command::new(if is_python { &self.python } else { Path::new("node") });
        command.arg(script).arg(base_url).args(words).current_dir(&self.root);
        // For scripts that start servers of their own.
        command.env("STENTOR", &self.binary);
        command
    }

    /// The name of a test in the output.
    fn name(&self, script: &Path, label: &str) -> String {
        let path = script.strip_prefix(&self.root).unwrap_or(script).to_string_lossy().into_owned();
        if label.is_empty() { path } else { format!("{path} ({label})") }
    }
}

/// The scripts of `tests/clients`, with connections parked in rings and then with epoll.
pub(super) fn run_clients(root: &Path, tally: &mut Tally) {
    run_each(root, "clients", tally, |runner, script, tally| {
        if echo::is_for(script) {
            return echo::run(root, runner, script, tally);
        }
        runner.run(script, "", &[], &[], tally);
        runner.run(script, "epoll", &[], &["--set=io_uring=false".into()], tally);
    });
}

/// Does `work` for each script of `tests/FOLDER`.
pub(super) fn run_each(
    root: &Path,
    folder: &str,
    tally: &mut Tally,
    mut work: impl FnMut(&Runner, &Path, &mut Tally),
) {
    let scripts = scripts(&root.join("tests").join(folder));
    if scripts.is_empty() {
        println!("── {folder}: FAILED (no script in tests/{folder})");
        return tally.fail(format!("{folder}: no script"));
    }
    match Runner::new(root) {
        Ok(runner) => scripts.iter().for_each(|script| work(&runner, script, tally)),
        Err(reason) => {
            println!("── {folder}: FAILED ({reason})");
            tally.fail(format!("{folder}: {reason}"));
        }
    }
}

/// The scripts of a folder, by name. What others of them import is no test itself.
fn scripts(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_script = |path: &PathBuf| {
        path.is_file() && path.extension().is_some_and(|extension| extension == "mjs" || extension == "py")
    };
    let mut scripts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_script).collect();
    let texts: Vec<String> =
        scripts.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect();
    scripts.retain(|path| !texts.iter().any(|text| imports(text, path)));
    scripts.sort();
    scripts
}

/// Whether a script says that it imports the one at `path`, which stands beside it.
fn imports(text: &str, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(".py") {
        Some(module) => text.lines().any(|line| {
            let mut words = line.split_whitespace();
            matches!(words.next(), Some("import" | "from")) && words.next() == Some(module)
        }),
        None => text.contains(&format!("\"./{name}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_tests_and_what_they_share_is_not() {
        let folder = std::env::temp_dir().join(format!("xtask-scripts-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("lib.mjs")).unwrap();
        for (name, text) in [
            ("b.mjs", "import { launch } from \"./launch.mjs\";"),
            ("launch.mjs", "import x from \"ws\";"),
            ("a.py", "import asyncio\nfrom common import url\n"),
            ("common.py", ""),
            ("package.json", ""),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let names: Vec<_> =
            scripts(&folder).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.py", "b.mjs"]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(scripts(&folder).is_empty());
    }

    #[test]
    fn a_script_is_called_with_the_url_and_its_words() {
        let runner = Runner { root: "/p".into(), binary: "/p/stentor".into(), python: "/p/python3".into() };
        let words = |path: &str| {
            let command = runner.command(Path::new(path), "http://a", &["firefox"]);
            let program = command.get_program().to_string_lossy().into_owned();
            (program, command.get_args().map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>())
        };
        let arguments = |path: &str| vec![path.to_owned(), "http://a".into(), "firefox".into()];
        assert_eq!(words("/p/t/a.mjs"), ("node".into(), arguments("/p/t/a.mjs")));
        assert_eq!(words("/p/t/a.py"), ("/p/python3".into(), arguments("/p/t/a.py")));
        assert_eq!(runner.name(Path::new("/p/t/a.py"), "firefox"), "t/a.py (firefox)");
        assert_eq!(runner.name(Path::new("/p/t/a.py"), ""), "t/a.py");
    }
}
