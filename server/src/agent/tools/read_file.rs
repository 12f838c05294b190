//! `read_file`: lines of a file, as the task has it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{MAX_ANSWER, Said, path};
use crate::agent::desk::Desk;
use crate::edit::text::{Breaks, Text};
use crate::edit::tree::{Entry, Tree};

pub(in crate::agent) const NAME: &str = "read_file";
pub(in crate::agent) const ABOUT: &str = "Reads a file of the folder, with the changes made so far in this task. Long files are read in parts: give firstLine and lastLine.";

/// Lines read when no end is given.
const LINES: usize = 400;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct Arguments {
    /// Path below the folder.
    pub(in crate::agent) path: String,
    /// From 1.
    #[serde(default)]
    pub(in crate::agent) first_line: Option<usize>,
    /// The last one read.
    #[serde(default)]
    pub(in crate::agent) last_line: Option<usize>,
}

pub(in crate::agent) fn run(desk: &Desk, arguments: &Arguments) -> Said {
    let path = path(&arguments.path, desk.root())?.ok_or("name a file, not the folder")?;
    desk.may_read(&path)?;
    let bytes = match desk.view().read(&path).map_err(|why| why.to_string())? {
        Some(Entry::File { bytes, .. }) => bytes,
        Some(Entry::Directory) => return Err(format!("{path} is a folder; use list")),
        None => return Err(format!("there is no file {path}")),
    };
    let text = Text::decode(bytes, Breaks::Lf).map_err(|why| format!("{path} {why}"))?;
    if crate::secret::is_key_file(text.content()) {
        return Err(format!("{path} holds a private key and is not shown"));
    }
    let n_lines = text.n_lines();
    let first = arguments.first_line.unwrap_or(1).max(1) - 1;
    if first >= n_lines.max(1) {
        return Err(format!("{path} has {n_lines} lines"));
    }
    let last = arguments.last_line.unwrap_or(first + LINES).min(n_lines);
    let mut shown = String::new();
    let mut end = first;
    for line in text.lines().skip(first).take(last.saturating_sub(first)) {
        if shown.len() + line.len() > MAX_ANSWER {
            if end == first {
                return Err(format!(
                    "line {} of {path} is too long to be read",
                    first + 1
                ));
            }
            break;
        }
        shown.push_str(line);
        shown.push('\n');
        end += 1;
    }
    Ok(match (first, end == n_lines) {
        (0, true) => format!("{path}\n{shown}"),
        _ => format!("{path}, lines {} to {end} of {n_lines}\n{shown}", first + 1),
    })
}
