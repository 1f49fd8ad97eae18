//! The `stentor` push server: reads its configuration, starts the engine, and ends with it.

mod app;
mod cli;
mod config;
mod logs;
mod metrics_page;
mod page;
mod routes;
mod running;
mod supervise;
mod tokens;
mod welcome;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Parser as _;

use app::{PublishRight, ServerApp};
use cli::Cli;
use config::{ConfigError, Settings};
use running::Account;
use supervise::Outcome;
use tokens::Tokens;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status of a configuration that cannot be used; the same as clap has for the command line.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (settings, publish) = match configure(&cli) {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if cli.print_config {
        say(&config::print(&settings));
        return ExitCode::SUCCESS;
    }
    if cli.check {
        say("config: ok\n");
        return ExitCode::SUCCESS;
    }
    logs::start(&settings.server);
    if let Err(error) = stentor::refuse_huge_pages() {
        tracing::debug!(%error, "the kernel has no say over huge pages");
    }
    let outcome = serve(&settings, publish);
    match &outcome {
        Outcome::Drained => tracing::info!("ended"),
        Outcome::DrainedInPart(reason) => tracing::warn!("the drain time is over: {reason}"),
        Outcome::Failed(reason) => tracing::error!("{reason}"),
        Outcome::Hurried(signal) => tracing::warn!(?signal, "ended at once"),
    }
    outcome.code()
}

/// Everything that can be wrong before anything is started.
fn configure(cli: &Cli) -> Result<(Settings, PublishRight), ConfigError> {
    let variable = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
    let settings = config::load(cli.config.as_deref(), variable, &cli.flags())?;
    let publish = match &settings.server.publish_token_file {
        Some(path) => PublishRight::Tokens(Tokens::read(path)?),
        None => PublishRight::Everyone,
    };
    Ok((settings, publish))
}

fn serve(settings: &Settings, publish: PublishRight) -> Outcome {
    let (tell, events) = channel();
    // Before the engine: a signal that comes while it starts is not lost.
    if let Err(error) = supervise::listen_for_signals(tell.clone()) {
        return Outcome::Failed(format!("cannot listen for signals: {error}"));
    }
    raise_limits();
    let engine = match running::start(settings, ServerApp::new(publish, settings.server.page)) {
        Ok(engine) => engine,
        Err(reason) => return Outcome::Failed(reason),
    };
    let Account { addresses, description } = Account::of(&engine);
    tracing::info!(?addresses, description, "listening");
    say(&welcome::welcome(settings, &addresses, &description));
    let drain_time = Duration::from_secs(settings.server.drain_seconds.into());
    let outcome = supervise::supervise(&engine, &events, &tell, drain_time);
    // Dropping it would wait for its threads, and a second signal does not want to wait. The process ends
    // anyway.
    std::mem::forget(engine);
    outcome
}

/// Takes what the system allows the process at most, and says how much that is.
fn raise_limits() {
    let was = stentor::descriptor_limit().map_or(0, |limit| limit.soft);
    match stentor::raise_descriptor_limit() {
        Ok(limit) if limit.soft > was => {
            tracing::info!(
                was,
                descriptors = limit.soft,
                "the limit of descriptors is raised to the hard one"
            );
        }
        Ok(limit) => tracing::info!(descriptors = limit.soft, "the limit of descriptors"),
        Err(error) => tracing::warn!(%error, descriptors = was, "the limit of descriptors stays as it is"),
    }
    // Rings of io_uring count against it where the kernel says so.
    if let Err(error) = stentor::raise_locked_memory_limit() {
        tracing::warn!(%error, "the limit of locked memory stays as it is");
    }
}

/// Writes to standard output; whoever closed it does not want to know.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
