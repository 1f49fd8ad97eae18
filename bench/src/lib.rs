//! What the measuring programs of Stentor have in common: subscribers on real kernel sockets, a publisher,
//! servers to point them at, and the machine's own accounts of what that cost.
//!
//! A figure is worth what can be said against it, so: the subscribers read every byte, and judge every event
//! (in order, none lost, none twice); the server is another process, on a core of its own; and every figure
//! stands beside a floor, the barest program that does the same work, taken in the same minute.

pub mod c10m;
pub mod clients;
pub mod figure;
pub mod floor;
pub mod ghost;
mod hearing;
pub mod judge;
pub mod machine;
pub mod network;
pub mod payload;
pub mod peers;
pub mod plot;
pub mod probe;
pub mod publisher;
pub mod rows;
pub mod stentor;
pub mod target;
pub mod wire;
pub mod work;
