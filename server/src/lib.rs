//! Pairwright: an AI pair programmer as one language server.

pub mod error;
pub mod model;
