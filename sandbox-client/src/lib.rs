//! Runs a command somewhere safe and returns its output and the files it changed.
//!
//! A [`client::Client`] speaks the E2B protocol to any service of that kind. The [`service`] is
//! one: it makes sandboxes on this machine, and the same client talks to it over a private socket,
//! so there is one path for near and far. To a sandbox that cannot see this machine a workspace is
//! [copied](copy). What a sandbox changed comes back as data
//! ([`changes`]); nothing here writes to a workspace.
//!
//! Holds: every sandbox says which [`tier::Tier`] it really is; a request for at least one tier is
//! never met by a weaker one.

pub mod capacity;
pub mod changes;
pub mod client;
pub mod copy;
pub mod ignored;
pub mod output;
pub mod protocol;
#[cfg(target_os = "linux")]
pub mod service;
pub mod tier;
