//! Log lines on standard error, in the form and from the level on that the configuration says.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Server};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What `level` lets through.
///
/// # Errors
/// Why `level` is neither a level nor directives.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, String> {
    // The filter itself takes a bare word for the name of a module, so that a misspelt level would silence
    // everything.
    for part in level.split(',') {
        let named = part.rsplit('=').next().unwrap_or(part).trim();
        if !LEVELS.contains(&named.to_ascii_lowercase().as_str()) {
            return Err(format!("{named:?} is no level; those are off, error, warn, info, debug and trace"));
        }
    }
    EnvFilter::try_new(level).map_err(|e| e.to_string())
}

/// Starts logging, for the whole process and once.
pub(crate) fn start(server: &Server) {
    // The level was checked with the rest of the configuration.
    let filter = filter(&server.log_level).unwrap_or_default();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match server.log_format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_directives_are_taken_and_a_misspelt_level_is_not() {
        for level in ["info", "off", "info,stentor=debug", "warn,stentor::shard=trace"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["", "inof", "info,", "stentor", "loud=", "stentor=loud", "3"] {
            assert!(filter(level).is_err(), "{level}");
        }
    }
}
