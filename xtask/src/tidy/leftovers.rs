//! What was meant to be done later, or to be looked at only once; and paths of the machine that a file was
//! written on.

use super::lexer::blank;
use super::{File, Finding, line_of, words};

// In two parts, so that this file is not found by itself.
const MACROS: [&str; 3] = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];
const IGNORED: &str = concat!("#[ig", "nore");
const NOTES: [&str; 3] = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")];
const MACHINE: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        if file.is_rust() {
            rust(file, findings);
        } else {
            notes(file, &file.text, findings);
        }
        for path in MACHINE {
            for (at, _) in file.text.match_indices(path) {
                // In the middle of a longer path or an address it is another's.
                if !file.text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-*".contains(c)) {
                    let what = format!("a path of one machine, {path}");
                    findings.push(Finding::new(file, line_of(&file.text, at), what));
                }
            }
        }
    }
}

fn rust(file: &File, findings: &mut Vec<Finding>) {
    let blanked = blank(&file.text);
    for found in MACROS {
        let (name, code) = (found.trim_end_matches('!'), &blanked.code);
        for at in words(code, name).filter(|at| code[at + name.len()..].starts_with('!')) {
            findings.push(Finding::new(file, line_of(code, at), format!("leftover {found}")));
        }
    }
    for (at, _) in blanked.code.match_indices(IGNORED) {
        findings.push(Finding::new(file, line_of(&blanked.code, at), "a test that is never run"));
    }
    notes(file, &blanked.without_literals, findings);
}

fn notes(file: &File, text: &str, findings: &mut Vec<Finding>) {
    for note in NOTES {
        for at in words(text, note) {
            findings.push(Finding::new(file, line_of(text, at), format!("leftover {note}")));
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
        findings.sort();
        findings.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn what_was_left_for_later_is_found() {
        for macro_ in MACROS {
            assert_eq!(found("a.rs", &format!("fn f() {{\n    {macro_}();\n}}")), [2], "{macro_}");
            assert_eq!(found("a.rs", &format!("let a = \"{macro_}\"; // {macro_}")), [], "{macro_}");
        }
        assert_eq!(found("a.rs", &format!("{IGNORED} = \"slow\"]\nfn f() {{}}")), [1]);
        for note in NOTES {
            assert_eq!(found("a.rs", &format!("\n// {note}: later")), [2]);
            assert_eq!(found("a.md", note), [1]);
            assert_eq!(found("a.rs", &format!("let {note}_A = \"{note}\";")), [], "{note}");
        }
    }

    #[test]
    fn a_path_of_one_machine_is_found_everywhere() {
        for path in MACHINE {
            assert_eq!(found("a.rs", &format!("let a = \"{path}x\";")), [1]);
            assert_eq!(found("a.md", &format!("see {path}x")), [1]);
            assert_eq!(found("a.md", &format!("https://example.com{path}x")), []);
        }
    }
}
