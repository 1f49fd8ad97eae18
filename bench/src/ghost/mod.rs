//! Ghost clients: subscribers with a TCP of their own, in this process, so that millions of them cost no
//! memory of the kernel's. What they talk to is the real kernel with the real server.
//!
//! What a ghost does not exercise: no network card, no other machine, and no client's kernel; `docs/c10m.md`
//! says what that means for the figures.

mod ghosts;
mod impair;
mod link;
mod rings;
mod segment;
mod tcp;
mod wires;

pub use ghosts::{Ghosts, Leaving};
pub use impair::Impairments;
pub use link::{Pair, SERVER};
pub use tcp::Counts;
pub use wires::{News, Options, Wires};
