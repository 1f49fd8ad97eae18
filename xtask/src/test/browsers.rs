//! The scripts of `tests/browsers`, each in Chromium and in Firefox: `node FILE.mjs BASE_URL BROWSER
//! --port=N`. The server lets pages in that come from that port of loopback, for scripts that serve pages of
//! another origin.

use std::path::Path;

use super::server::{free_address, letting_in};
use super::{Tally, scripts, tools};

const BROWSERS: [&str; 2] = ["chromium", "firefox"];

pub(super) fn run(root: &Path, tally: &mut Tally) {
    let ready = tools::ensure(&[tools::CHROMIUM, tools::FIREFOX]).and_then(|()| free_address());
    let pages = match ready {
        Ok(address) => address,
        Err(reason) => {
            println!("── browsers: FAILED ({reason})");
            return tally.fail(format!("browsers: {reason}"));
        }
    };
    let port = format!("--port={}", pages.port());
    let flags = letting_in(&format!("http://{pages}"));
    scripts::run_each(root, "browsers", tally, |runner, script, tally| {
        for browser in BROWSERS {
            runner.run(script, browser, &[browser, &port], &flags, tally);
        }
    });
}
