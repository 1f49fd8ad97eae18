//! Subscribers on real kernel sockets, by the hundred thousand from one thread: each is a direct descriptor
//! in a ring of its own kind, parked on one poll. They count, they time, and they judge every event.

mod ring;
mod subscriber;

pub use subscriber::{Clients, Plan};
