//! Rust files that no crate reaches: nothing compiles them, so nothing tells when they rot.

use std::collections::{HashMap, HashSet};

use super::lexer::blank;
use super::{File, Finding, words};

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let rust: HashMap<&str, &File> =
        files.iter().filter(|file| file.is_rust()).map(|file| (file.path.as_str(), file)).collect();
    let mut to_visit: Vec<String> = Vec::new();
    for manifest in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        to_visit.extend(roots(manifest, &rust));
    }
    let mut reached: HashMap<String, bool> = to_visit.iter().map(|root| (root.clone(), true)).collect();
    while let Some(path) = to_visit.pop() {
        let Some(file) = rust.get(path.as_str()) else { continue };
        let is_root = reached.get(&path).copied().unwrap_or(false);
        for module in modules(file, is_root) {
            if let Some(found) = module.into_iter().find(|candidate| rust.contains_key(candidate.as_str()))
                && !reached.contains_key(&found)
            {
                reached.insert(found.clone(), false);
                to_visit.push(found);
            }
        }
    }
    let reached: HashSet<&str> = reached.keys().map(String::as_str).collect();
    for (path, file) in rust {
        if !reached.contains(path) {
            findings.push(Finding::new(file, 1, "no crate reaches this file by a `mod`"));
        }
    }
}

/// The files at which the crates of a package begin: those that cargo finds by itself, and those that the
/// manifest names.
fn roots(manifest: &File, rust: &HashMap<&str, &File>) -> Vec<String> {
    let folder = manifest.path.trim_end_matches("Cargo.toml");
    let mut roots: Vec<String> =
        ["src/lib.rs", "src/main.rs", "build.rs"].into_iter().map(|path| format!("{folder}{path}")).collect();
    for line in manifest.text.lines() {
        if let Some(path) = line.trim().strip_prefix("path").and_then(quoted)
            && path.ends_with(".rs")
        {
            roots.push(format!("{folder}{path}"));
        }
    }
    for targets in ["src/bin/", "examples/", "tests/", "benches/"] {
        let prefix = format!("{folder}{targets}");
        roots.extend(rust.keys().filter_map(|path| {
            let name = path.strip_prefix(&prefix)?;
            let is_target =
                !name.contains('/') || (name.ends_with("/main.rs") && name.matches('/').count() == 1);
            is_target.then(|| (*path).to_owned())
        }));
    }
    roots.retain(|root| rust.contains_key(root.as_str()));
    roots
}

/// The text between the first two quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// Each `mod name;` of a file, as the paths where it may be.
fn modules(file: &File, is_root: bool) -> Vec<Vec<String>> {
    let code = blank(&file.text).code;
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let own = match name.trim_end_matches(".rs") {
        "mod" => folder.to_owned(),
        _ if is_root => folder.to_owned(),
        stem => format!("{folder}/{stem}"),
    };
    let mut found = Vec::new();
    for at in words(&code, "mod") {
        let rest = code[at + "mod".len()..].trim_start();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() || !rest[name.len()..].trim_start().starts_with(';') {
            continue;
        }
        if let Some(path) = path_attribute(&file.text, &code, at) {
            found.push(vec![normal(&format!("{folder}/{path}"))]);
            continue;
        }
        let mut base = own.clone();
        for outer in enclosing(&code, at) {
            base = format!("{base}/{outer}");
        }
        found.push(vec![format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")]);
    }
    found
}

/// The value of a `#[path = "…"]` that stands before the `mod` at `at`.
fn path_attribute<'a>(text: &'a str, code: &str, at: usize) -> Option<&'a str> {
    let before = &code[..at];
    let begin = before.rfind([';', '}', '{']).map_or(0, |end| end + 1);
    let attribute = before[begin..].find("#[path")?;
    quoted(&text[begin + attribute..at])
}

/// The inline modules around `at`, outermost first.
fn enclosing(code: &str, at: usize) -> Vec<String> {
    let mut stack: Vec<Option<String>> = Vec::new();
    let mut last_brace = 0;
    for (brace, c) in code[..at].char_indices().filter(|(_, c)| matches!(c, '{' | '}' | ';')) {
        match c {
            '{' => {
                let head = code[last_brace..brace].trim();
                let name = words(head, "mod").last().map(|mod_at| head[mod_at + 3..].trim().to_owned());
                stack.push(name.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')));
            }
            '}' => drop(stack.pop()),
            _ => {}
        }
        last_brace = brace + 1;
    }
    stack.into_iter().flatten().collect()
}

/// Without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn dead(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| file(path, text)).collect();
        let mut findings = Vec::new();
        check(&files, &mut findings);
        findings.sort();
        findings.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn a_file_without_its_mod_is_dead_and_so_is_what_it_alone_names() {
        let files = [
            ("a/Cargo.toml", ""),
            ("a/src/lib.rs", "mod b;\npub mod c; // mod d;\n"),
            ("a/src/b.rs", "mod inner;"),
            ("a/src/b/inner.rs", ""),
            ("a/src/c/mod.rs", "mod inner;"),
            ("a/src/c/inner.rs", ""),
            ("a/src/d.rs", "mod e;"),
            ("a/src/d/e.rs", ""),
        ];
        assert_eq!(dead(&files), ["a/src/d.rs", "a/src/d/e.rs"]);
    }

    #[test]
    fn targets_and_attributes_and_inline_modules_reach_files_too() {
        let files = [
            ("a/Cargo.toml", "[[example]]\nname = \"x\"\npath = \"lessons/x.rs\"\n"),
            ("a/lessons/x.rs", ""),
            ("a/lessons/y.rs", ""),
            ("a/src/main.rs", "mod outer { mod inner; }\n#[cfg(test)]\n#[path = \"../odd/z.rs\"]\nmod z;"),
            ("a/src/outer/inner.rs", ""),
            ("a/odd/z.rs", ""),
            ("a/src/bin/tool.rs", "mod help;"),
            ("a/src/bin/help.rs", ""),
            ("a/tests/all/main.rs", "mod one;"),
            ("a/tests/all/one.rs", ""),
            ("a/tests/all/two.rs", ""),
            ("a/benches/codec.rs", ""),
            ("a/build.rs", ""),
        ];
        assert_eq!(dead(&files), ["a/lessons/y.rs", "a/tests/all/two.rs"]);
    }
}
