//! `run`: a command in the task's sandbox.

use schemars::JsonSchema;
use serde::Deserialize;

pub(in crate::agent) const NAME: &str = "run";
pub(in crate::agent) const ABOUT: &str = "Runs a shell command in a sandbox: a copy of the folder with the changes of this task, without network. What it writes stays there, unless keepChanges is set: then changed files become part of the proposal. Prefer the tests tool for tests and the other tools for reading.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct Arguments {
    /// A line for bash.
    pub(in crate::agent) command: String,
    /// Whether files that the command changes are part of the proposal, as after a formatter.
    #[serde(default)]
    pub(in crate::agent) keep_changes: bool,
    /// Seconds until it is killed.
    #[serde(default)]
    pub(in crate::agent) seconds: Option<u64>,
}
