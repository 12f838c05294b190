//! What the requests about hunks take and answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use crate::edit::hunks::{Conflict, HunkState};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::lsp) struct ListParams {
    /// Only hunks of this document.
    pub(super) text_document: Option<lsp::TextDocumentIdentifier>,
}

/// A model's answer with edits in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::lsp) struct PreviewParams {
    pub(super) answer: String,
    /// How it writes them; found out when not given.
    #[serde(default)]
    pub(super) format: Option<String>,
    /// The document that edits without a path are for; says also which folder is meant.
    #[serde(default)]
    pub(super) text_document: Option<lsp::TextDocumentIdentifier>,
    #[serde(default)]
    pub(super) author: Option<String>,
    #[serde(default)]
    pub(super) step: Option<String>,
    /// The answer is still being written: shows the edits that are complete, keeps nothing.
    #[serde(default)]
    pub(super) partial: bool,
    /// What files were when the model read them, by path within the folder: a file that moved on
    /// since is merged three ways.
    #[serde(default)]
    pub(super) bases: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::lsp) struct ApplyParams {
    pub(super) proposal: Option<String>,
    pub(super) hunks: Option<Vec<String>>,
    /// All undecided hunks of this document.
    pub(super) text_document: Option<lsp::TextDocumentIdentifier>,
    /// Asking again under the same key does nothing more and answers the same.
    pub(super) request_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::lsp) struct ResolveParams {
    #[serde(flatten)]
    pub(super) which: ApplyParams,
    pub(super) action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Accept,
    Reject,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::lsp) struct RollbackParams {
    /// The last edit that stands, when not given.
    pub(super) rollback_token: Option<String>,
    pub(super) mode: RollbackMode,
    pub(super) request_id: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RollbackMode {
    #[default]
    AllOrNothing,
    CleanOnly,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::lsp) struct ListResponse {
    pub(super) files: Vec<FileHunks>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::lsp) struct PreviewResponse {
    /// `None` for a partial answer.
    pub(super) proposal: Option<String>,
    pub(super) files: Vec<FileHunks>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileHunks {
    pub(super) uri: String,
    pub(super) moved_from: Option<String>,
    pub(super) hunks: Vec<HunkItem>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HunkItem {
    pub(super) id: String,
    pub(super) proposal: String,
    pub(super) author: String,
    pub(super) kind: &'static str,
    pub(super) state: HunkState,
    /// Whole lines of the text as it is now: what gives way, or what is there if accepted.
    pub(super) range: lsp::Range,
    /// Somebody changed these lines since; deciding it may be a conflict.
    pub(super) is_edited: bool,
    pub(super) old: String,
    pub(super) new: String,
    /// Lines of all that comes.
    pub(super) new_lines: usize,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::lsp) struct ApplyResponse {
    /// The last of `rollback_tokens`.
    pub(super) rollback_token: Option<String>,
    /// One for each folder whose files changed.
    pub(super) rollback_tokens: Vec<String>,
    /// Ids of the hunks that were decided; empty where a conflict kept all of them back.
    pub(super) applied: Vec<String>,
    pub(super) paths: Vec<String>,
    pub(super) conflicts: Vec<Conflict>,
}

impl ApplyResponse {
    /// Adds what was done in another folder.
    pub(super) fn add(&mut self, other: Self) {
        self.rollback_token = other.rollback_token.or(self.rollback_token.take());
        self.rollback_tokens.extend(other.rollback_tokens);
        self.applied.extend(other.applied);
        self.paths.extend(other.paths);
        self.conflicts.extend(other.conflicts);
    }

    /// The failure in one folder, with what stays done in others as `data.done`.
    pub(super) fn with_failure(self, mut why: jsonrpc::Error) -> jsonrpc::Error {
        if self.applied.is_empty() {
            return why;
        }
        let tokens = self.rollback_tokens.join(", ");
        why.message = match tokens.is_empty() {
            true => format!("{}; what was decided in other folders stays", why.message),
            false => format!(
                "{}; other folders were changed, which {tokens} takes back",
                why.message
            ),
        }
        .into();
        let mut data = why.data.take().unwrap_or_else(|| json!({}));
        data["done"] = json!(self);
        why.data = Some(data);
        why
    }
}
