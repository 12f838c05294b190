//! `run`: a command in the task's sandbox.

use schemars::JsonSchema;
use serde::Deserialize;

pub(in crate::agent) const NAME: &str = "run";
pub(in crate::agent) const ABOUT: &str = "Runs a shell command in a sandbox: a copy of the folder with the changes of this task, without network except for the hosts that network names. What it writes stays there, but files of the proposal are put back before the next command; with keepChanges all files changed there so far become part of the proposal. Prefer the tests tool for tests and the other tools for reading.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct Arguments {
    /// A line for bash.
    pub(in crate::agent) command: String,
    /// Whether files that the command changes are part of the proposal, as after a formatter.
    #[serde(default)]
    pub(in crate::agent) keep_changes: bool,
    /// Hosts that it must reach, over HTTPS or HTTP through the proxy of the environment: HOST,
    /// *.HOST or HOST:PORT; registries for the package registries of the folder's languages. The
    /// user is asked.
    #[serde(default)]
    pub(in crate::agent) network: Vec<String>,
    /// Seconds until it is killed.
    #[serde(default)]
    pub(in crate::agent) seconds: Option<u64>,
}

/// Hosts that one command may ask for.
pub(in crate::agent) const MAX_HOSTS: usize = 16;

/// Whether a text names one host, or all below one; ranges of addresses are not asked for.
pub(in crate::agent) fn is_host(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = match name.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => name,
    };
    !name.is_empty() && name.len() <= 253 && name.bytes().all(letters)
}
