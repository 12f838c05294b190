//! `pairwright/diff/history`: the edits of all folders, and whether each stands.
//!
//! Holds: a taking back, and doing again what was taken back, are no edits of their own here but
//! what became of one; the token of the last of them is what turns it round once more.
//! Not here: the journal as it is written (`pairwright edits --json`).

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tower_lsp_server::jsonrpc;

use super::failed;
use crate::edit::journal::{Entry, Kind, State, Token};
use crate::lsp::Server;
use crate::session::document::uri_of;

/// Edits answered unless told otherwise, and transactions of a folder that are looked at.
const LISTED: usize = 50;
const LOOKED_AT: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::lsp) struct HistoryParams {
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(in crate::lsp) struct HistoryResponse {
    /// Newest first.
    edits: Vec<Edit>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    token: Token,
    folder: String,
    /// Milliseconds since 1970.
    at: i64,
    author: String,
    paths: Vec<String>,
    standing: Standing,
    /// What to roll back so that the edit is taken back, or done again where it was taken back;
    /// none where nothing is kept of it.
    rollback_token: Option<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Applied,
    /// Hunks that had been accepted were taken out again.
    Rejected,
    TakenBack,
    Expired,
    Failed,
}

impl Server {
    pub(in crate::lsp) async fn diff_history(
        &self,
        params: HistoryParams,
    ) -> jsonrpc::Result<HistoryResponse> {
        let mut edits = Vec::new();
        for root in self.session.snapshot().roots.to_vec() {
            let folder = uri_of(&root);
            let of_root = self.with_workspace(root, move |workspace, _| {
                let entries = workspace.history(LOOKED_AT);
                let entries = entries.map_err(|why| failed(&why.to_string()))?;
                Ok(edits_of(&folder, &entries))
            });
            edits.extend(of_root.await?);
        }
        // Tokens sort by age.
        edits.sort_by(|a, b| b.token.cmp(&a.token));
        edits.truncate(params.limit.unwrap_or(LISTED));
        Ok(HistoryResponse { edits })
    }
}

fn edits_of(folder: &str, entries: &[Entry]) -> Vec<Edit> {
    let by_token: FxHashMap<&Token, &Entry> = entries.iter().map(|e| (&e.token, e)).collect();
    let edits = entries.iter().filter(|e| e.kind != Kind::Rollback);
    let edit = |entry: &Entry| {
        // Whatever turns a transaction round is younger than it, so it is there and this ends.
        let turned = |e: &&Entry| by_token.get(e.undone_by.as_ref()?).copied();
        let (n_turns, last) = std::iter::successors(Some(entry), turned)
            .take(entries.len())
            .enumerate()
            .last()
            .unwrap_or((0, entry));
        let standing = match entry.state {
            State::Begun | State::Undone => Standing::Failed,
            State::Done | State::Expired if n_turns % 2 == 1 => Standing::TakenBack,
            State::Expired => Standing::Expired,
            State::Done if entry.kind == Kind::Reject => Standing::Rejected,
            State::Done => Standing::Applied,
        };
        Edit {
            token: entry.token.clone(),
            folder: folder.to_owned(),
            at: entry.at,
            author: entry.author.clone(),
            paths: entry.paths.clone(),
            standing,
            rollback_token: (last.state == State::Done).then(|| last.token.clone()),
        }
    };
    edits.map(edit).collect()
}
