//! The `stentor` push server.

mod cli;
mod config;
mod logs;

fn main() {}
