//! `run`: a command in the task's sandbox.

use schemars::JsonSchema;
use serde::Deserialize;

pub const NAME: &str = "run";
pub const ABOUT: &str = "Runs a shell command in a sandbox: a copy of the folder with the changes of this task, without network. What it writes stays there, unless keepChanges is set: then changed files become part of the proposal. Prefer the tests tool for tests and the other tools for reading.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arguments {
    /// A line for bash.
    pub command: String,
    /// Whether files that the command changes are part of the proposal, as after a formatter.
    #[serde(default)]
    pub keep_changes: bool,
    /// Seconds until it is killed.
    #[serde(default)]
    pub seconds: Option<u64>,
}
