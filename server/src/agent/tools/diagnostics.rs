//! `diagnostics`: what the user's editor shows as wrong.
//!
//! Holds: the editor is asked when the model wants to know, and is waited for a while; nothing is
//! kept of it. What it tells of files that may not be read is left out.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Said, bounded, path};
use crate::agent::desk::Desk;
use crate::agent::{Diagnostic, Severity};
use crate::edit::path::RepoPath;

pub(in crate::agent) const NAME: &str = "diagnostics";
pub(in crate::agent) const ABOUT: &str = "Lists what the user's editor shows as wrong: errors and warnings of compilers, linters and language servers. It is about the user's files as they are, without your changes; run the tests to check those.";

/// How long the editor is waited for.
pub(in crate::agent) const PATIENCE: Duration = Duration::from_secs(5);

const SHOWN: usize = 100;
/// Characters of a message.
const WIDTH: usize = 500;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    /// One file; all that the editor knows of when not given.
    #[serde(default)]
    pub(in crate::agent) path: Option<String>,
}

/// The file that is asked about.
///
/// # Errors
/// When it leads out of the folder, in words for the model.
pub(in crate::agent) fn file(
    desk: &Desk,
    arguments: &Arguments,
) -> Result<Option<RepoPath>, String> {
    match &arguments.path {
        Some(text) => path(text, desk.root()),
        None => Ok(None),
    }
}

/// Tells what the editor told, the worst first.
pub(in crate::agent) fn told(desk: &Desk, mut found: Vec<Diagnostic>) -> Said {
    found.retain(|diagnostic| desk.may_read(&diagnostic.path).is_ok());
    found.sort_by(|a, b| (a.severity, &a.path, a.line).cmp(&(b.severity, &b.path, b.line)));
    if found.is_empty() {
        return Ok("the editor shows nothing as wrong".into());
    }
    let mut text = String::new();
    for Diagnostic {
        path,
        line,
        severity,
        source,
        message,
    } in found.iter().take(SHOWN)
    {
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Information => "information",
            Severity::Hint => "hint",
        };
        let source = match source {
            Some(source) => format!(" ({source})"),
            None => String::new(),
        };
        let words: Vec<&str> = message.split_whitespace().collect();
        let message: String = words.join(" ").chars().take(WIDTH).collect();
        text.push_str(&format!("{path}:{line}: {severity}{source}: {message}\n"));
    }
    if let Some(n_more @ 1..) = found.len().checked_sub(SHOWN) {
        text.push_str(&format!("[{n_more} more; ask for one file]\n"));
    }
    Ok(bounded(text))
}
