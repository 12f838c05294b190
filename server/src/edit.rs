//! Edits: from what a model wrote to bytes in files and buffers, and back again.
//!
//! `parse` reads the answer in whatever dialect it is written, `locate` finds the places it means,
//! `plan` turns both into new file contents, `transaction` writes them all or none of them, and
//! the journal can take them back later without touching anybody else's work.
//!
//! Holds: similarity never decides; a place is found by equality under a named transform and is
//! unique, or the edit is refused. Nothing here is half done: one refused edit refuses the whole
//! answer. Bytes outside the changed lines stay as they are.
//! Not here: tokio, models, LSP types. Open buffers come in through [`worlds::Documents`].

pub mod apply_set;
pub mod diff;
pub mod elide;
pub mod locate;
pub mod merge;
pub mod parse;
pub mod path;
pub mod plan;
pub mod text;
pub mod tree;

pub mod disk;
pub mod faults;
pub mod follow;
pub mod hunks;
pub mod journal;
pub mod rollback;
mod spelling;
pub mod transaction;
pub mod workspace;
pub mod worlds;

use std::fmt;

use serde::Serialize;

/// What kept an edit from being done, in the words of `pairwright apply --batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The text to change is not in the file.
    NoMatch,
    /// The text to change is in the file more than once, and nothing says which is meant.
    AmbiguousMatch,
    /// The file was changed in the same place since the model read it.
    Conflict,
    /// The file reads already as the edit would make it.
    AlreadyApplied,
    /// The answer stops in the middle of an edit.
    TruncatedOutput,
    /// Two edits of one answer change the same lines.
    OverlappingEdits,
    /// An edit is begun but not written as its format asks.
    Malformed,
    FileNotFound,
    /// The path leads out of the workspace, or to a place no edit may touch.
    PathDenied,
    /// Text to find is empty, in a file that is not.
    EmptySearch,
    /// Old and new text are the same.
    NoChange,
    IsDirectory,
    /// The answer holds no edit at all.
    NoEdits,
    Other,
}

/// A refused edit: what was attempted, on what, and what would help.
///
/// The message is written for the model that has to repair its edit as much as for the user; it
/// names lines from one, and quotes at most a few of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub kind: Kind,
    /// The file, as the answer names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub message: String,
}

impl Refusal {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            path: None,
            message: message.into(),
        }
    }

    /// Names the file this is about, unless one is named already.
    pub fn in_file(mut self, path: &str) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{path}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Refusal {}
