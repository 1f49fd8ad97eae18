//! The C10M harness: scenarios with millions of real connections on one machine, and what they are allowed to
//! do to it.

pub mod crowd;
pub mod doctor;
pub mod guard;
pub mod html;
pub mod report;
pub mod run;
pub mod scenario;
pub mod settings;
