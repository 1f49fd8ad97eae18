//! What a tool can see of how the code should look: arrows between modules, where unsafe code may stand,
//! files that nothing reaches, leftovers, long lines and long files, and paths of the machine that a file was
//! written on.

mod arrows;
mod dead;
mod leftovers;
mod lengths;
mod lexer;
mod wrap;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 5] = ["target", "node_modules", ".git", "__pycache__", ".venv"];
/// What is read: the rest is neither code nor text, or generated.
const EXTENSIONS: [&str; 14] =
    ["rs", "toml", "md", "mjs", "js", "py", "css", "html", "sh", "conf", "yml", "yaml", "json", "txt"];
const GENERATED: [&str; 2] = ["package-lock.json", "Cargo.lock"];

/// A file of the project.
#[derive(Debug)]
pub(crate) struct File {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Looks at the project at `root`.
///
/// # Errors
/// How many findings there are, after they were printed, or what cannot be read.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let files = read(root)?;
    let findings = findings(&files);
    let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    // Whoever reads only the first of them closes the pipe.
    let _ = std::io::stdout().write_all(lines.as_bytes());
    match findings.len() {
        0 => {
            println!("{} files are tidy", files.len());
            Ok(())
        }
        count => Err(format!("{count} findings")),
    }
}

/// Breaks the comment lines of the project at `root` that are too long.
///
/// # Errors
/// What cannot be read or written.
pub(crate) fn wrap_comments(root: &Path) -> Result<(), String> {
    for file in read(root)?.into_iter().filter(File::is_rust) {
        let wrapped = wrap::wrap(&file.text);
        if lengths::has_long_line(&file.text) && wrapped != file.text {
            std::fs::write(root.join(&file.path), wrapped)
                .map_err(|e| format!("cannot write {}: {e}", file.path))?;
            println!("{}", file.path);
        }
    }
    Ok(())
}

fn findings(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    arrows::check(files, &mut findings);
    dead::check(files, &mut findings);
    leftovers::check(files, &mut findings);
    lengths::check(files, &mut findings);
    findings.sort();
    findings
}

fn read(root: &Path) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if is_ours(&path, &name) {
                files.push(read_one(root, path)?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_ours(path: &Path, name: &str) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
    let is_known = extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()));
    (is_known || path.ends_with(".ci/run")) && !GENERATED.contains(&name)
}

fn read_one(root: &Path, path: PathBuf) -> Result<File, String> {
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(File { path, text })
}

/// The line, from 1, of the byte at `at`.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
}

/// Where `word` stands in `text` as a whole word: not as a part of a longer name.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_no_part_of_a_longer_one() {
        assert_eq!(words("libc alibc libcs libc", "libc").collect::<Vec<_>>(), [0, 17]);
        assert_eq!(words("a::libc::b", "libc").count(), 1);
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!(line_of("a\nb", 0), 1);
        assert_eq!(line_of("a\nb", 2), 2);
    }

    #[test]
    fn this_project_is_read_and_generated_files_are_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let files = read(root).unwrap();
        for path in ["xtask/src/tidy/mod.rs", "Cargo.toml", "engine/src/lib.rs"] {
            assert!(files.iter().any(|file| file.path == path), "{path}");
        }
        assert!(files.iter().all(|file| !file.path.starts_with("target/") && file.path != "Cargo.lock"));
    }
}
