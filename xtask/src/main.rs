//! The project's own commands: `cargo xtask test`, `ci`, `tidy`.
fn main() {}
