//! The command line. What it says is one layer of the configuration (`config`); this file only reads it.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

const AFTER_HELP: &str = "\
Each key of the configuration file can also be given in the environment, as STENTOR_ and the key in upper
case with `_` for `.`: STENTOR_LIMITS_CONNECTIONS, STENTOR_OPEN_PUBLISH; lists are split at commas.
A flag beats the environment, which beats the file, which beats the default.

Exit status: 0 after a clean drain, 1 if it cannot start, 2 for a bad command line or configuration, 3 if the
drain time was over before all connections had ended, 70 if a part of it broke, 128 and the signal's number
after a second signal.";

/// Publishes events over HTTP to subscribers on every web transport.
#[derive(Debug, Parser)]
#[command(name = "stentor", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Where to listen; may be given more than once [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<String>,

    /// Shards, each a thread on a core; 0 for one a core [default: 0]
    #[arg(long, value_name = "N")]
    shards: Option<String>,

    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "STENTOR_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Who publishes must show one of the tokens in this file, one a line, as `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE")]
    publish_token_file: Option<String>,

    /// Everyone may publish; needed to listen beyond loopback without a token file
    #[arg(long)]
    open_publish: bool,

    /// How long connections may take to end after SIGTERM or SIGINT [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<String>,

    /// error, warn, info, debug, trace, or directives such as `info,stentor=debug` [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Any key of the configuration file; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,

    /// Check the configuration, say what is wrong with it, and end
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "print_config")]
    pub(crate) check: bool,

    /// Print the configuration as it would be used, with what each key means, and end
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) print_config: bool,
}

/// One value that a flag gives: the flag, the key of the configuration, the value as text (lists split at
/// commas).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) flag: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Cli {
    /// The values given by flags. A flag of its own stands after `--set`, so it beats it.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        let mut flags: Vec<Flag> = self
            .set
            .iter()
            .map(|(key, value)| Flag { flag: format!("--set {key}"), key: key.clone(), value: value.clone() })
            .collect();
        let listen = (!self.listen.is_empty()).then(|| self.listen.join(","));
        let open_publish = self.open_publish.then(|| "true".to_owned());
        for (name, value) in [
            ("listen", &listen),
            ("shards", &self.shards),
            ("publish_token_file", &self.publish_token_file),
            ("open_publish", &open_publish),
            ("drain_seconds", &self.drain_seconds),
            ("log_level", &self.log_level),
            ("log_format", &self.log_format),
        ] {
            if let Some(value) = value {
                let flag = format!("--{}", name.replace('_', "-"));
                flags.push(Flag { flag, key: name.into(), value: value.clone() });
            }
        }
        flags
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form KEY=VALUE")?;
    Ok((key.trim().into(), value.trim().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_gives_the_key_that_it_is_named_after() {
        let cli = Cli::parse_from([
            "stentor",
            "--set=limits.matchers=7",
            "--listen=127.0.0.1:1",
            "--listen=127.0.0.1:2",
            "--shards=3",
            "--publish-token-file=tokens",
            "--open-publish",
            "--drain-seconds=5",
            "--log-level=debug",
            "--log-format=json",
        ]);
        let given: Vec<_> = cli.flags().into_iter().map(|f| (f.flag, f.key, f.value)).collect();
        let expected = [
            ("--set limits.matchers", "limits.matchers", "7"),
            ("--listen", "listen", "127.0.0.1:1,127.0.0.1:2"),
            ("--shards", "shards", "3"),
            ("--publish-token-file", "publish_token_file", "tokens"),
            ("--open-publish", "open_publish", "true"),
            ("--drain-seconds", "drain_seconds", "5"),
            ("--log-level", "log_level", "debug"),
            ("--log-format", "log_format", "json"),
        ];
        let expected = expected.map(|(flag, key, value)| (flag.to_owned(), key.to_owned(), value.to_owned()));
        assert_eq!(given, expected);
    }

    #[test]
    fn without_a_flag_nothing_is_set() {
        assert_eq!(Cli::parse_from(["stentor"]).flags(), []);
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
