//! Finds the right code in a repository; knows git, syntax and ranking, not LSP, HTTP or tokio.

pub mod fit;
mod path;
mod repo;
mod store;
mod syntax;
mod text;
mod walk;

pub use self::path::RepoPath;
