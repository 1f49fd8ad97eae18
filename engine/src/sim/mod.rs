//! Simulation of shards: one seed drives publishers, subscribers on all transports, slow and dying peers,
//! full channels and retention through the real sequencer, log, shard and encoders; only sockets and time are
//! made up. What each subscriber's decoder gets is judged by the [`checker`].

pub mod checker;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod directed;
#[cfg(test)]
mod network;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
