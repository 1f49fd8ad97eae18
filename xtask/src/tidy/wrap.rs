//! Breaks comment lines that are too long: `cargo fmt` leaves comments as they are.

use super::lengths::LINE_COLUMNS_MAX;

/// `text` with each comment line that is too long broken between words. What is over goes to the front of the
/// next line of the same comment, unless that begins a paragraph, a list item or code.
pub(super) fn wrap(text: &str) -> String {
    let mut out = Vec::new();
    let mut lines: Vec<String> = text.lines().rev().map(str::to_owned).collect();
    let mut is_code = false;
    while let Some(line) = lines.pop() {
        let Some((prefix, words)) = comment(&line) else {
            is_code = false;
            out.push(line);
            continue;
        };
        is_code ^= words.starts_with("```");
        let at = if is_code || words.starts_with('|') { None } else { break_of(&line, prefix.len()) };
        let Some(at) = at else {
            out.push(line);
            continue;
        };
        let (kept, over) = (line[..at].trim_end().to_owned(), line[at..].trim());
        let next = lines.last().and_then(|next| comment(next));
        match next {
            Some((same, rest)) if same == prefix && goes_on(rest) => {
                let joined = format!("{prefix}{over} {rest}");
                lines.pop();
                lines.push(joined);
            }
            _ => lines.push(format!("{prefix}{}{over}", hang(words))),
        }
        out.push(kept);
    }
    out.join("\n") + "\n"
}

/// The prefix of a comment line, with its indentation and one blank, and what follows.
fn comment(line: &str) -> Option<(&str, &str)> {
    let indent = line.len() - line.trim_start().len();
    let marker = ["/// ", "//! ", "// "].into_iter().find(|marker| line[indent..].starts_with(marker))?;
    Some(line.split_at(indent + marker.len()))
}

/// Where a line that is too long is broken: at its last blank within the limit.
fn break_of(line: &str, prefix: usize) -> Option<usize> {
    let (end, _) = line.char_indices().nth(LINE_COLUMNS_MAX)?;
    line[..=end].rfind(' ').filter(|&at| at >= prefix && !line[prefix..at].trim().is_empty())
}

/// Whether a line goes on with the sentence before it.
fn goes_on(words: &str) -> bool {
    !words.starts_with([' ', '-', '*', '#', '|', '>']) && !words.starts_with("```") && !is_numbered(words)
}

fn is_numbered(words: &str) -> bool {
    words.split_once(". ").is_some_and(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))
}

/// What stands before the second line of a list item.
fn hang(words: &str) -> &'static str {
    if words.starts_with("- ") || words.starts_with("* ") { "  " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_comment_is_broken_and_goes_on_in_the_next_line() {
        let long = format!("    /// {}end of it", "word ".repeat(20));
        let text = format!("{long}\n    /// and more.\n    fn f() {{}}\n");
        let kept = format!("    /// {}end", "word ".repeat(20));
        assert_eq!(kept.len(), 111);
        let kept = format!("    /// {}", "word ".repeat(20));
        let expected = format!("{}\n    /// end of it and more.\n    fn f() {{}}\n", kept.trim_end());
        assert_eq!(wrap(&text), expected);
        assert_eq!(wrap(&expected), expected);
    }

    #[test]
    fn items_paragraphs_code_and_short_lines_stay_apart() {
        let words = "word ".repeat(22);
        let words = words.trim_end();
        let broken = |prefix: &str, hang: &str, next: &str| {
            let line = format!("{prefix}{words}");
            let at = line[..=LINE_COLUMNS_MAX].rfind(' ').unwrap();
            format!("{}\n// {hang}{}\n{next}\n", &line[..at], &line[at + 1..])
        };
        assert_eq!(wrap(&format!("// - {words}\n// - next\n")), broken("// - ", "  ", "// - next"));
        assert_eq!(wrap(&format!("// {words}\n//\n")), broken("// ", "", "//"));
        let code = format!("/// ```\n/// {words}\n/// ```\n");
        assert_eq!(wrap(&code), code);
        let string = format!("let a = \"// {words}\";\n");
        assert_eq!(wrap(&string), string);
    }
}
