//! Every example is started as the program that it is, and talked to over real sockets.

mod auth;
mod chat;
mod clock;
mod echo;
mod http;
mod minimal;
mod program;
mod resume;
mod websocket;

use std::time::Duration;

/// Nothing here takes so long unless it has failed.
const WAIT: Duration = Duration::from_secs(20);
