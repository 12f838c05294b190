//! Pairwright: an AI pair programmer as one language server.

pub mod cli;
pub mod complete;
pub mod config;
pub mod edit;
pub mod lsp;
pub mod session;
