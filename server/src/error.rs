//! The one shape in which a problem reaches a person.
//!
//! Holds: a message names what was attempted and on what; the hint is the next step. Neither
//! contains a key, a prompt or the text of a file.

use std::fmt;

/// A problem in the words of the person who can act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    pub kind: Kind,
    /// What was attempted, on what, and what went wrong, as one sentence.
    pub message: String,
    /// The next step, when there is one.
    pub hint: Option<String>,
}

/// Who can act on a problem; decides the error code, popup or log, and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is wrong or missing.
    Settings,
    /// A server Pairwright talks to failed or refused.
    Upstream,
    /// A file or folder of the workspace.
    Workspace,
    /// A budget, deadline or size was reached.
    Limit,
    /// Pairwright itself.
    Bug,
}

impl UserError {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UserError {}
