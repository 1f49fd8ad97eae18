//! HTTP/1.1 messages (RFC 9112): heads, bodies, chunks, conditional requests, queries.
//!
//! Framing is the strict side of the RFC: what two recipients could read in two ways is refused, never
//! repaired.

pub mod body;
pub mod chunked;
pub mod conditional;
pub mod date;
mod fields;
pub mod head;
pub mod query;
pub mod request;
pub mod response;
mod strict;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod smuggling;

pub use body::{BodyDecoder, BodyError, BodyFraming};
pub use head::{HeadError, HeadLimits, Version};
pub use request::RequestHead;
pub use response::{ResponseFraming, ResponseHead};
