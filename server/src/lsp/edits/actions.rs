//! Code actions and code lenses over hunks, for editors without a plugin of ours.

use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use super::wire::HunkItem;
use crate::edit::hunks::HunkState;
use crate::lsp::Server;

impl Server {
    pub(in crate::lsp) async fn code_action(
        &self,
        params: lsp::CodeActionParams,
    ) -> jsonrpc::Result<Vec<lsp::CodeAction>> {
        let mut actions = self.assistance(&params);
        let only = params.context.only;
        let is_wanted = |kind: &lsp::CodeActionKind| {
            let only = only.as_ref();
            only.is_none_or(|only| only.iter().any(|of| is_within(kind, of)))
        };
        actions.retain(|action| action.kind.as_ref().is_some_and(is_wanted));
        if !is_wanted(&lsp::CodeActionKind::QuickFix) {
            return Ok(actions);
        }
        let uri = params.text_document.uri.0;
        let Some((root, _)) = self.within(&uri) else {
            return Ok(actions);
        };
        let pending = self.pending(&uri).await?;
        for hunk in pending.iter().filter(|h| overlaps(&h.range, &params.range)) {
            let id = json!(hunk.id);
            actions.push(action(
                "Accept hunk",
                "pairwright.acceptHunk",
                std::slice::from_ref(&id),
            ));
            actions.push(action("Reject hunk", "pairwright.rejectHunk", &[id]));
        }
        if !pending.is_empty() {
            let uri = json!(uri);
            actions.push(action(
                "Accept all hunks of this file",
                "pairwright.acceptAll",
                std::slice::from_ref(&uri),
            ));
            actions.push(action(
                "Reject all hunks of this file",
                "pairwright.rejectAll",
                &[uri],
            ));
            actions.push(action("Accept all", "pairwright.acceptAll", &[]));
        }
        let last = self.with_workspace(root, |workspace, _| {
            workspace
                .last()
                .map_err(|why| super::failed(&why.to_string()))
        });
        if last.await?.is_some() {
            actions.push(action(
                "Undo last Pairwright edit",
                "pairwright.undoLastEdit",
                &[],
            ));
        }
        Ok(actions)
    }

    pub(in crate::lsp) async fn code_lens(
        &self,
        params: lsp::CodeLensParams,
    ) -> jsonrpc::Result<Vec<lsp::CodeLens>> {
        let pending = self.pending(&params.text_document.uri.0).await?;
        let lenses = pending.iter().flat_map(|hunk| {
            let start = hunk.range.start;
            let range = lsp::Range { start, end: start };
            let note = if hunk.is_edited {
                " (edited since)"
            } else {
                ""
            };
            let id = json!(hunk.id);
            let titles = [
                (
                    format!("Accept hunk of {}{note}", hunk.author),
                    "pairwright.acceptHunk",
                ),
                ("Reject".to_owned(), "pairwright.rejectHunk"),
            ];
            titles.map(|(title, name)| lsp::CodeLens {
                range,
                command: Some(command(title, name, std::slice::from_ref(&id))),
                data: None,
            })
        });
        Ok(lenses.collect())
    }

    async fn pending(&self, uri: &str) -> jsonrpc::Result<Vec<HunkItem>> {
        let files = self.hunks(Some(uri.to_owned())).await?;
        let hunks = files.into_iter().flat_map(|f| f.hunks);
        Ok(hunks.filter(|h| h.state == HunkState::Pending).collect())
    }
}

/// Whether a kind is another or one below it, as `a.b` is below `a` and all are below the empty one.
fn is_within(kind: &lsp::CodeActionKind, of: &lsp::CodeActionKind) -> bool {
    let of = of.as_str();
    let rest = kind.as_str().strip_prefix(of);
    of.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a hunk's lines and a selection share a line.
fn overlaps(hunk: &lsp::Range, selection: &lsp::Range) -> bool {
    let last = hunk.end.line.saturating_sub(1).max(hunk.start.line);
    hunk.start.line <= selection.end.line && selection.start.line <= last
}

pub(in crate::lsp) fn action(title: &str, name: &str, arguments: &[Value]) -> lsp::CodeAction {
    lsp::CodeAction {
        title: title.to_owned(),
        kind: Some(lsp::CodeActionKind::QuickFix),
        command: Some(command(title.to_owned(), name, arguments)),
        ..lsp::CodeAction::default()
    }
}

fn command(title: String, name: &str, arguments: &[Value]) -> lsp::Command {
    lsp::Command {
        title,
        tooltip: None,
        command: name.to_owned(),
        arguments: Some(arguments.to_vec()),
    }
}
