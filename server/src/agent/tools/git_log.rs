//! `git_log`: the latest commits.

use schemars::JsonSchema;
use serde::Deserialize;

use super::path;
use crate::agent::desk::Desk;

pub(in crate::agent) const NAME: &str = "git_log";
pub(in crate::agent) const ABOUT: &str =
    "Shows the latest commits, of the folder or of one file: hash, date, title.";

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    /// Only commits that changed this file or folder.
    #[serde(default)]
    pub(in crate::agent) path: Option<String>,
    /// How many; 10 when not given.
    #[serde(default)]
    pub(in crate::agent) count: Option<u32>,
}

/// The command that shows them, in the sandbox.
///
/// # Errors
/// When the path cannot be one.
pub(in crate::agent) fn command(desk: &Desk, arguments: &Arguments) -> Result<String, String> {
    let count = arguments.count.unwrap_or(10).clamp(1, 100);
    let below = match &arguments.path {
        Some(text) => path(text, desk.root())?,
        None => None,
    };
    let below = match below {
        Some(path) => {
            let quoted = shlex::try_quote(path.as_str()).map_err(|why| why.to_string())?;
            format!(" -- {quoted}")
        }
        None => String::new(),
    };
    Ok(format!(
        "git -c safe.directory='*' --no-pager log --no-color --no-ext-diff -n {count} --date=short --format='%h %ad %s'{below}"
    ))
}
