//! The `stentor` push server.
fn main() {}
