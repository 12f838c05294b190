//! Where there are no sandboxes: every command is refused, none runs unprotected.

#![expect(
    clippy::unused_async,
    reason = "the same functions as where there are sandboxes"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proposed::Proposed;
use crate::edit::path::RepoPath;
use crate::edit::plan::Plan;

/// Never made here.
pub enum TaskSandbox {}
/// Never made here.
pub enum Started {}

/// A command that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub end: sandbox_client::client::End,
    pub output: sandbox_client::output::Capped,
}

impl TaskSandbox {
    /// # Errors
    /// Always.
    pub async fn open(_: &Path, _: Vec<PathBuf>, _: u64) -> anyhow::Result<Self> {
        anyhow::bail!("there are no sandboxes on this system yet")
    }

    pub fn label(&self) -> String {
        match *self {}
    }

    pub async fn bring(&mut self, _: &Proposed, _: Vec<(RepoPath, Vec<u8>)>) -> anyhow::Result<()> {
        match *self {}
    }

    pub async fn start(&self, _: &str, _: Duration) -> anyhow::Result<Started> {
        match *self {}
    }

    pub async fn run(&self, _: &str, _: Duration) -> anyhow::Result<Ran> {
        match *self {}
    }

    pub async fn changes(&mut self, _: &Proposed) -> anyhow::Result<(Option<Plan>, Vec<String>)> {
        match *self {}
    }

    pub async fn set_network(&self, _: &[String]) -> anyhow::Result<()> {
        match *self {}
    }

    pub async fn denials(&mut self) -> anyhow::Result<Vec<sandbox_client::protocol::Denial>> {
        match *self {}
    }

    pub async fn close(self) {
        match self {}
    }
}

impl Started {
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn end(self) -> anyhow::Result<Ran> {
        match self {}
    }
}
