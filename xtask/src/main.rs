//! The project's own commands: `cargo xtask test`, `ci`, `tidy`.

mod ci;
mod launch;
mod step;
mod test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test [rust|refused|loom|clients|browsers|nginx …]
    Runs the tests, all of them or those named. Installs what is missing.
cargo xtask ci
    Runs what every change must pass: format, lints, documentation, tidy, and all tests.
cargo xtask tidy [--wrap]
    Checks arrows between modules, dead files, leftovers, lengths; --wrap breaks long comment lines first.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [launch::COMMAND, words @ ..] => launch::run(words),
        ["test", subsets @ ..] => {
            test::Subset::named(subsets).and_then(|subsets| test::run(root(), &subsets))
        }
        ["ci"] => ci::run(root()),
        ["tidy"] => tidy::run(root()),
        ["tidy", "--wrap"] => tidy::wrap_comments(root()).and_then(|()| tidy::run(root())),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(format!("unknown command: {}\n\n{HELP}", words.join(" "))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the project: the folder above this crate's.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}
