//! Bytes to meaning and back, for every protocol that Stentor speaks: no socket, no clock, no thread.
//!
//! A decoder has three answers: a value and how many bytes it used, "not yet" (`Ok(None)`), or an error as
//! soon as the bytes cannot become valid. An encoder appends to a buffer that the caller owns.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod h1;
pub mod iframe;
pub mod ndjson;
mod scan;
pub mod sse;
pub mod ws;
