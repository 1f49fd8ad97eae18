//! The scripts of `tests/browsers`, each in Chromium and in Firefox: `node FILE.mjs BASE_URL BROWSER`.

use std::path::Path;

use super::{Tally, scripts, tools};

const BROWSERS: [&str; 2] = ["chromium", "firefox"];

pub(super) fn run(root: &Path, tally: &mut Tally) {
    if let Err(reason) = tools::ensure(&[tools::CHROMIUM, tools::FIREFOX]) {
        println!("── browsers: FAILED ({reason})");
        return tally.fail(format!("browsers: {reason}"));
    }
    scripts::run_each(root, "browsers", tally, |runner, script, tally| {
        for browser in BROWSERS {
            runner.run(script, &[browser], tally);
        }
    });
}
