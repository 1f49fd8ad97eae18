//! Push engine: publish once, and every subscriber hears it, in order, nothing lost and nothing twice, over
//! whichever transport it has.

#![deny(unsafe_code)]

mod app;
mod arrears;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod channel;
pub mod config;
mod connection;
mod cursor;
mod engine;
mod error;
mod event;
mod interest;
mod keys;
mod listeners;
mod log;
mod metrics;
mod numbers;
mod pages;
mod publish;
mod receiver;
mod room;
mod sequencer;
mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod socket;
mod spare;
#[allow(unsafe_code, reason = "system calls and the rings; the face of this module is safe")]
mod sys;
mod topic;
pub mod transport;

pub use app::{Admission, App, Grant, Message, Open, Refusal, Request, Response, Subscriber, SubscriberId};
pub use config::{Config, ConfigError};
pub use cursor::{CURSOR_BYTES_MAX, Cursor, CursorError, Epoch, Offset, Start};
pub use engine::{Builder, DrainError, Engine, Shards, StartError};
pub use event::{Data, Event, EventError, NAME_BYTES_MAX};
pub use keys::KEY_BYTES_MAX;
pub use metrics::{Family, Kind, Metrics, Sample};
pub use publish::{PublishError, Published, Publisher};
pub use receiver::{Closed, Received, Receiver};
pub use sys::{
    DescriptorLimit, descriptor_limit, locked_memory_limit, raise_descriptor_limit,
    raise_locked_memory_limit, refuse_huge_pages,
};
pub use topic::{Matcher, TOPIC_BYTES_MAX, Topic, TopicError};
