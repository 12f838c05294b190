//! `textDocument/copilotInlineEdit`: the edit that follows from the last one.
//!
//! The request has the name and shape under which another completion server documents it, so that
//! clients written for that one show our proposals. A proposal is one edit, of any open document;
//! its command tells that it was taken.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::Result;

use super::dispatch::off_the_reader;
use super::ext::VersionedDocument;
use super::{Server, convert};
use crate::complete::Trigger;

/// Commands by which a client tells that a proposal was taken, or is not wanted.
pub(super) const ACCEPTED_COMMAND: &str = "pairwright.didAcceptEdit";
pub(super) const REJECTED_COMMAND: &str = "pairwright.didRejectEdit";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InlineEditParams {
    text_document: VersionedDocument,
    position: lsp::Position,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct InlineEdits {
    edits: Vec<InlineEdit>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InlineEdit {
    text: String,
    text_document: EditedDocument,
    range: lsp::Range,
    command: lsp::Command,
}

#[derive(Debug, Serialize)]
struct EditedDocument {
    uri: String,
    version: i32,
}

impl Server {
    pub(super) async fn inline_edit(&self, params: InlineEditParams) -> Result<InlineEdits> {
        let asked = self.ask(
            &params.text_document,
            params.position,
            Trigger::Automatic,
            None,
        )?;
        let Some(ask) = asked else {
            return Ok(InlineEdits::default());
        };
        off_the_reader().await;
        let found = self
            .completer
            .next_edit(&ask.snapshot, &ask.document, ask.offset)
            .await;
        let edits = found.into_iter().map(|(id, edit)| InlineEdit {
            range: convert::range(&edit.document, &edit.range, ask.snapshot.encoding),
            text: edit.text,
            text_document: EditedDocument {
                uri: edit.document.uri.to_string(),
                version: edit.document.version,
            },
            command: lsp::Command {
                title: "Next edit made".into(),
                tooltip: None,
                command: ACCEPTED_COMMAND.into(),
                arguments: Some(vec![id.to_string().into()]),
            },
        });
        Ok(InlineEdits {
            edits: edits.collect(),
        })
    }

    /// `textDocument/didShowInlineEdit`: proposals are counted when they are made.
    pub(super) async fn did_show_inline_edit(&self, _: Value) {}
}
