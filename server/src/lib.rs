//! Pairwright: an AI pair programmer as one language server.

pub mod acp;
pub mod agent;
pub mod chat;
pub mod cli;
pub mod complete;
pub mod config;
pub mod context;
pub mod driver;
pub mod edit;
pub mod error;
pub mod index;
pub mod local;
pub mod log;
pub mod lsp;
pub mod mcp;
pub mod metrics;
pub mod model;
pub mod models;
pub mod openai;
mod program;
pub mod sandbox;
pub mod secret;
pub mod session;
pub mod shown;
pub mod store;
