//! How long lines and files may be.

use super::{File, Finding};

pub(super) const LINE_COLUMNS_MAX: usize = 110;
const FILE_LINES_MAX: usize = 700;
/// Code that people read; prose and data may be longer.
const CODE: [&str; 6] = [".rs", ".mjs", ".js", ".py", ".css", ".html"];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files.iter().filter(|file| CODE.iter().any(|end| file.path.ends_with(end))) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(Finding::new(file, lines, format!("{lines} lines, over {FILE_LINES_MAX}")));
        }
        for (number, line) in (1..).zip(file.text.lines()).filter(|_| file.is_rust()) {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                let what = format!("{columns} columns, over {LINE_COLUMNS_MAX}");
                findings.push(Finding::new(file, number, what));
            }
        }
    }
}

/// Whether any line is over the limit.
pub(super) fn has_long_line(text: &str) -> bool {
    text.lines().any(|line| line.chars().count() > LINE_COLUMNS_MAX)
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
    fn a_line_and_a_file_may_be_as_long_as_the_limit_and_no_longer() {
        assert_eq!(found("a.rs", &"é".repeat(110)), []);
        assert_eq!(found("a.rs", &format!("\n{}", "é".repeat(111))), [2]);
        assert_eq!(found("a.md", &"a".repeat(500)), []);
        assert_eq!(found("a.rs", &"\n".repeat(700)), []);
        assert_eq!(found("a.mjs", &"\n".repeat(701)), [701]);
        assert_eq!(found("a.json", &"\n".repeat(701)), []);
    }
}
