//! What the server is started with: defaults, then the file, then the environment, then the flags, each over
//! the one before. Every fault names its key, and who set it.

mod keys;
mod print;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::cli::Flag;
use keys::KEYS;
pub(crate) use print::print;

/// Where the server listens if nothing is said.
pub(crate) const LISTEN: &str = "127.0.0.1:8080";
/// Longest drain, in seconds.
const DRAIN_SECONDS_MAX: u32 = 3_600;

/// Everything that the server is started with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The engine's part.
    pub(crate) engine: stentor::Config,
    /// The binary's own part.
    pub(crate) server: Server,
}

/// What belongs to the binary and not to the engine. Its keys stand at the top of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// The file of the tokens that allow publishing.
    pub(crate) publish_token_file: Option<PathBuf>,
    /// Whether everyone may publish, wherever the server listens.
    pub(crate) open_publish: bool,
    /// Whether the live page is served.
    pub(crate) page: bool,
    /// Whether connections are parked in rings where the kernel allows it; else with epoll.
    pub(crate) io_uring: bool,
    /// How long a drain may take.
    pub(crate) drain_seconds: u32,
    /// What is logged: a level, or directives.
    pub(crate) log_level: String,
    /// How a log line is written.
    pub(crate) log_format: LogFormat,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            publish_token_file: None,
            open_publish: false,
            page: true,
            io_uring: true,
            drain_seconds: 30,
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads all layers and checks the whole.
///
/// `variable` looks a name up in the environment. A configuration file is read only if one is named.
///
/// # Errors
/// The first value that cannot be used.
pub(crate) fn load(
    file: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
    flags: &[Flag],
) -> Result<Settings, ConfigError> {
    let mut layers = Layers::defaults();
    if let Some(path) = file {
        layers.add_file(path)?;
    }
    layers.add_environment(variable)?;
    for Flag { flag, key, value } in flags {
        layers.set_text(key, value, &Source(flag.clone()))?;
    }
    layers.finish()
}

/// The values so far, and who set those that are not defaults.
struct Layers {
    table: Table,
    sources: HashMap<String, Source>,
}

impl Layers {
    fn defaults() -> Self {
        let mut engine = stentor::Config::default();
        engine.listen = LISTEN.parse().into_iter().collect();
        Self { table: to_table(&Settings { engine, server: Server::default() }), sources: HashMap::new() }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = format!("{path:?}");
        let text =
            std::fs::read_to_string(path).map_err(|e| ConfigError::of_file(&shown, "cannot read", &e))?;
        let table: Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            ConfigError { key: format!("{shown}, line {line}"), reason: e.message().into(), source: None }
        })?;
        let source = Source(shown);
        for (key, value) in leaves(table) {
            self.set(&key, value, &source)?;
        }
        Ok(())
    }

    fn add_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        for key in KEYS {
            let name = keys::variable(key.name);
            if let Some(text) = variable(&name) {
                self.set_text(key.name, &text, &Source(name))?;
            }
        }
        Ok(())
    }

    /// Sets `key` from a text, which is read as what the key's default is.
    fn set_text(&mut self, key: &str, text: &str, source: &Source) -> Result<(), ConfigError> {
        let text = text.trim();
        let value = match self.current(key) {
            Some(Value::Integer(_)) => text.replace('_', "").parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => match text {
                "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
                "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
                _ => None,
            },
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.into())).collect()))
            }
            _ => None,
        };
        // What cannot be read stays a text, and `set` says what was expected instead.
        self.set(key, value.unwrap_or_else(|| Value::String(text.into())), source)
    }

    fn set(&mut self, key: &str, value: Value, source: &Source) -> Result<(), ConfigError> {
        let fault = |reason: String| ConfigError { key: key.into(), reason, source: Some(source.clone()) };
        if !KEYS.iter().any(|known| known.name == key) {
            let hint = keys::nearest(key).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(fault(format!("is no key of the configuration{hint}")));
        }
        if let Some(current) = self.current(key)
            && current.type_str() != value.type_str()
        {
            return Err(fault(format!("is {value}, {}, not {}", kind(&value), kind(current))));
        }
        // One value at a time, so that a fault can only be this one's.
        let shown = value.to_string();
        self.put(key, value);
        from_table(&self.table).map_err(|e| fault(format!("is {shown}: {}", e.message())))?;
        self.sources.insert(key.into(), source.clone());
        Ok(())
    }

    fn current(&self, key: &str) -> Option<&Value> {
        match key.split_once('.') {
            Some((section, name)) => self.table.get(section)?.get(name),
            None => self.table.get(key),
        }
    }

    fn put(&mut self, key: &str, value: Value) {
        let (table, name) = match key.split_once('.') {
            Some((section, name)) => match self.table.get_mut(section) {
                Some(Value::Table(table)) => (table, name),
                _ => return,
            },
            None => (&mut self.table, key),
        };
        table.insert(name.into(), value);
    }

    fn finish(self) -> Result<Settings, ConfigError> {
        let fault = |key: &str, reason: String| ConfigError {
            key: key.into(),
            reason,
            source: self.sources.get(key).cloned(),
        };
        let settings = from_table(&self.table).map_err(|e| fault("", e.message().into()))?;
        settings.engine.validate().map_err(|e| fault(e.key, e.reason))?;
        settings.validate().map_err(|(key, reason)| fault(key, reason))?;
        Ok(settings)
    }
}

impl Settings {
    /// Whether everyone who can reach the server may publish: said so, or nothing was said and only this
    /// machine can.
    pub(crate) fn is_publish_open(&self) -> bool {
        self.server.publish_token_file.is_none() && (self.server.open_publish || self.is_loopback())
    }

    fn is_loopback(&self) -> bool {
        self.engine.listen.iter().all(|address| is_loopback(*address))
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        let Server { publish_token_file, open_publish, drain_seconds, log_level, .. } = &self.server;
        if self.engine.listen.is_empty() {
            return Err(("listen", "is empty; a server listens somewhere".into()));
        }
        if publish_token_file.is_some() && *open_publish {
            return Err(("open_publish", "is true, which contradicts publish_token_file".into()));
        }
        if publish_token_file.is_none()
            && !open_publish
            && let Some(address) = self.engine.listen.iter().find(|address| !is_loopback(**address))
        {
            return Err((
                "listen",
                format!(
                    "{address} is not a loopback address, and everyone who reaches it could publish: name \
                     who may with --publish-token-file FILE, or say --open-publish"
                ),
            ));
        }
        if !(1..=DRAIN_SECONDS_MAX).contains(drain_seconds) {
            return Err((
                "drain_seconds",
                format!("is {drain_seconds}; 1 to {DRAIN_SECONDS_MAX} are allowed"),
            ));
        }
        crate::logs::filter(log_level)
            .map_err(|reason| ("log_level", format!("is {log_level:?}: {reason}")))?;
        Ok(())
    }
}

/// `::ffff:127.0.0.1` is loopback too.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn to_table(settings: &Settings) -> Table {
    // Neither has a map or a number beyond `i64` among its defaults: the two things that TOML cannot write.
    let mut table = Table::try_from(&settings.engine).unwrap_or_default();
    table.extend(Table::try_from(&settings.server).unwrap_or_default());
    table
}

fn from_table(table: &Table) -> Result<Settings, toml::de::Error> {
    let own = to_table_of_server_keys(table);
    let engine = table.iter().filter(|(key, _)| !own.contains_key(*key));
    let engine: Table = engine.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Settings { engine: engine.try_into()?, server: own.try_into()? })
}

fn to_table_of_server_keys(table: &Table) -> Table {
    let is_own = |key: &str| key == "publish_token_file" || SERVER_KEYS.contains(&key);
    table.iter().filter(|(key, _)| is_own(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

const SERVER_KEYS: [&str; 6] =
    ["open_publish", "page", "io_uring", "drain_seconds", "log_level", "log_format"];

/// The values of a file with their full keys. A section that is none of ours comes out with its own keys, so
/// that the first of them is refused.
fn leaves(table: Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(section) if !KEYS.iter().any(|known| known.name == key) => {
                let inner = section.into_iter().map(|(name, value)| (format!("{key}.{name}"), value));
                found.extend(inner);
            }
            value => found.push((key, value)),
        }
    }
    found
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

/// Who set a value: a file, a variable, a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source(String);

/// A value that the server cannot be started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    key: String,
    reason: String,
    source: Option<Source>,
}

impl ConfigError {
    /// A fault of a value that was found after the layers were put together.
    pub(crate) fn of_key(key: &str, reason: String) -> Self {
        Self { key: key.into(), reason, source: None }
    }

    fn of_file(path: &str, what: &str, error: &std::io::Error) -> Self {
        Self { key: path.into(), reason: format!("{what}: {}", reason_of(error)), source: None }
    }
}

/// The reason of an error of the system, without the number that Rust appends.
pub(crate) fn reason_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    reason.to_lowercase()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config: {}: {}", self.key, self.reason)?;
        match &self.source {
            Some(Source(source)) => write!(f, " (set by {source})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
