//! `cargo xtask test`: the project's Rust tests, then clients and browsers that others wrote, against the
//! binary.

mod browsers;
mod echo;
mod nginx;
mod refused;
mod rust;
mod scripts;
mod server;
mod tools;

use std::path::Path;

/// A part of the tests that can be run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subset {
    /// `cargo test` of the workspace.
    Rust,
    /// The tests with sockets once more, where io_uring is refused, and as an ordinary user.
    Refused,
    /// The tests that loom runs through every order of steps.
    Loom,
    /// The scripts of `tests/clients`.
    Clients,
    /// The scripts of `tests/browsers`, in each browser.
    Browsers,
    /// The scripts of `tests/nginx`, through the configuration of `docs/`.
    Nginx,
}

impl Subset {
    /// All of them, in the order in which they are run.
    pub(crate) const ALL: [Self; 6] =
        [Self::Rust, Self::Refused, Self::Loom, Self::Clients, Self::Browsers, Self::Nginx];

    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Refused => "refused",
            Self::Loom => "loom",
            Self::Clients => "clients",
            Self::Browsers => "browsers",
            Self::Nginx => "nginx",
        }
    }

    /// The subsets called `names`; all if there are none.
    ///
    /// # Errors
    /// The first name that is none.
    pub(crate) fn named(names: &[&str]) -> Result<Vec<Self>, String> {
        if names.is_empty() {
            return Ok(Self::ALL.to_vec());
        }
        let one = |name: &&str| {
            let known = Self::ALL.into_iter().find(|subset| subset.name() == *name);
            known.ok_or_else(|| {
                format!("{name} is no subset; those are {}", Self::ALL.map(Self::name).join(", "))
            })
        };
        names.iter().map(one).collect()
    }
}

/// How many tests passed and failed, and the names of those that failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    failures: Vec<String>,
}

impl Tally {
    fn count(&mut self, name: impl Into<String>, is_ok: bool) {
        if is_ok {
            self.passed += 1;
        } else {
            self.fail(name);
        }
    }

    fn fail(&mut self, name: impl Into<String>) {
        self.failed += 1;
        self.failures.push(name.into());
    }
}

/// Runs `subsets` on the project at `root`, also what comes after a failure.
///
/// # Errors
/// How many tests failed. The last line on standard output says the same: `N passed, N failed`.
pub(crate) fn run(root: &Path, subsets: &[Subset]) -> Result<(), String> {
    let mut tally = Tally::default();
    for subset in subsets {
        match subset {
            Subset::Rust => rust::run(root, &mut tally),
            Subset::Refused => refused::run(root, &mut tally),
            Subset::Loom => rust::run_loom(root, &mut tally),
            Subset::Clients => scripts::run_clients(root, &mut tally),
            Subset::Browsers => browsers::run(root, &mut tally),
            Subset::Nginx => nginx::run(root, &mut tally),
        }
    }
    for failure in &tally.failures {
        println!("failed: {failure}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    match tally.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_named_and_none_means_all() {
        assert_eq!(Subset::named(&[]).unwrap(), Subset::ALL);
        assert_eq!(Subset::named(&["nginx", "rust"]).unwrap(), [Subset::Nginx, Subset::Rust]);
        assert!(Subset::named(&["rust", "browser"]).unwrap_err().starts_with("browser is no subset"));
    }

    #[test]
    fn a_tally_knows_what_failed() {
        let mut tally = Tally::default();
        tally.count("a", true);
        tally.count("b", false);
        assert_eq!(tally, Tally { passed: 1, failed: 1, failures: vec!["b".into()] });
    }
}
