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
        let meaning = format!("{} Default: {default}. Variable: {}.", key.meaning, keys::variable(key.name));
        out.push('\n');
        comment(&meaning, &mut out);
        let _ = match used.current(key.name) {
            Some(value) => writeln!(out, "{name} = {value}"),
            None => writeln!(out, "# {name} = \"FILE\""),
        };
    }
    out
}

/// Appends `text` as comment lines, broken between words.
fn comment(text: &str, out: &mut String) {
    let mut columns = WIDTH;
    for word in text.split_whitespace() {
        if columns + 1 + word.len() > WIDTH {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            out.push('#');
            columns = 1;
        }
        out.push(' ');
        out.push_str(word);
        columns += 1 + word.chars().count();
    }
    out.push('\n');
}
