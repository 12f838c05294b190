//! What the client tells about documents. All of it takes effect before the next message is read.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;

use super::ext::{DidFocusParams, ShownItemParams};
use super::{Server, convert};
use crate::config::sources::WORKSPACE_FILE;
use crate::session::document::{Document, path_of};

impl Server {
    pub(super) async fn did_open(&self, params: Value) {
        let Some(params) = read::<lsp::DidOpenTextDocumentParams>("didOpen", params) else {
            return;
        };
        // A client that never says `initialized` is served all the same.
        self.start();
        let item = params.text_document;
        let language = String::from(item.language_id);
        let document = Document::new(&item.uri.0, &language, item.version, &item.text);
        let document = self.session.open(document);
        self.edits.forget(&document.uri);
        self.completer.opened(&document);
    }

    pub(super) async fn did_change(&self, params: Value) {
        let Some(params) = read::<lsp::DidChangeTextDocumentParams>("didChange", params) else {
            return;
        };
        let document = params.text_document;
        let uri = &document.text_document_identifier.uri.0;
        let changes: Vec<_> = params
            .content_changes
            .into_iter()
            .map(convert::change)
            .collect();
        let Some(changed) = self.session.change(uri, document.version, &changes) else {
            tracing::warn!("a change to {uri}, which is not open, is ignored");
            return;
        };
        if changes.is_empty() && document.version == changed.previous {
            // Neovim 0.7 says so between two keys; the answer under way is still wanted.
            return;
        }
        if document.version <= changed.previous {
            let previous = changed.previous;
            tracing::warn!(
                "{uri} went from version {previous} back to {}; going on with it",
                document.version
            );
        }
        self.edits.changed(&changed);
        self.take_back_late(&changed.document);
        self.completer.edited(&changed);
    }

    pub(super) async fn did_close(&self, params: Value) {
        let Some(params) = read::<lsp::DidCloseTextDocumentParams>("didClose", params) else {
            return;
        };
        let uri = &params.text_document.uri.0;
        let snapshot = self.session.snapshot();
        if let Some(document) = snapshot.document(uri) {
            self.session.close(uri);
            self.edits.forget(uri);
            self.completer.closed(document);
        }
    }

    pub(super) async fn did_save(&self, params: Value) {
        let Some(params) = read::<lsp::DidSaveTextDocumentParams>("didSave", params) else {
            return;
        };
        self.files_changed([params.text_document.uri]);
    }

    pub(super) async fn did_change_watched_files(&self, params: Value) {
        let params = read::<lsp::DidChangeWatchedFilesParams>("didChangeWatchedFiles", params);
        self.files_changed(
            params
                .into_iter()
                .flat_map(|p| p.changes)
                .map(|event| event.uri),
        );
    }

    fn files_changed(&self, uris: impl IntoIterator<Item = lsp::Uri>) {
        let paths: Vec<_> = uris.into_iter().filter_map(|uri| path_of(&uri.0)).collect();
        if paths
            .iter()
            .any(|p| p.file_name().is_some_and(|name| name == WORKSPACE_FILE))
        {
            self.settings.reload();
        }
        let engines = self.completer.engines();
        if let Some(index) = &engines.index {
            index.changed(&paths);
        }
        if let Some(local) = &engines.local {
            local.changed(paths);
        }
    }

    pub(super) async fn did_focus(&self, params: Value) {
        let params = read::<DidFocusParams>("didFocus", params);
        if let Some(document) = params.and_then(|p| p.text_document) {
            self.session.focus(&document.uri.0);
        }
        if let Some(model) = self.completer.engines().model() {
            model.warm();
        }
    }

    pub(super) async fn did_show_completion(&self, params: Value) {
        if let Some(id) = shown_item("didShowCompletion", params).and_then(|(id, _)| id) {
            self.completer.was_shown(id);
        }
    }

    pub(super) async fn did_partially_accept_completion(&self, params: Value) {
        if let Some((Some(id), length)) = shown_item("didPartiallyAcceptCompletion", params) {
            self.completer.was_partially_accepted(id, length);
        }
    }

    pub(super) async fn set_trace(&self, _: Value) {}
}

fn shown_item(method: &str, params: Value) -> Option<(Option<u64>, u64)> {
    let params = read::<ShownItemParams>(method, params)?;
    let id = params
        .item
        .command
        .and_then(|command| convert::item_id(&command.arguments));
    Some((id, params.accepted_length))
}

/// Reads the parameters of a notification. A notification cannot be answered, so the log says
/// what is wrong with it.
pub(super) fn read<P: DeserializeOwned>(method: &str, params: Value) -> Option<P> {
    serde_json::from_value(params)
        .inspect_err(|why| {
            tracing::warn!("{method} with parameters that cannot be read is ignored: {why}");
        })
        .ok()
}
