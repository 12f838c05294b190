//! Finds the right code in a repository; knows git, syntax and ranking, not LSP, HTTP or tokio.

mod path;
mod syntax;
mod text;
