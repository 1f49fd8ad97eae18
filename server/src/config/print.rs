//! `--print-config`: the configuration as it would be used, as a file that gives the same again.

use std::fmt::Write as _;

use toml::Value;

use super::keys::{self, KEYS};
use super::{Layers, Settings, to_table};

/// Columns of a comment.
const WIDTH: usize = 100;

/// The settings as TOML, with what each key means, its default, and the variable that sets it.
pub(crate) fn print(settings: &Settings) -> String {
    let defaults = Layers::defaults();
    let used = Layers { table: to_table(settings), sources: Default::default() };
    let mut out = String::from(
        "# The configuration of stentor. A flag beats the environment, which beats this file.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (this, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if this != section {
            section = this;
            let _ = write!(out, "\n[{section}]");
        }
        let default = defaults.current(key.name).map_or("none".into(), Value::to_string);
        out.push('\n');
        comment(key.meaning, &mut out);
        let _ = writeln!(out, "# Default {default}; {}.", keys::variable(key.name));
        let _ = match used.current(key.name) {
            Some(value) => writeln!(out, "{name} = {value}"),
            None => writeln!(out, "# {name} = \"FILE\""),
        };
    }
    out
}

/// Appends `text` as comment lines, broken between words.
fn comment(text: &str, out: &mut String) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
