//! `pairwright/diagnostics/get`: what the editor shows as wrong, asked when a task wants to know.
//!
//! A language server is not told what others found. A client that announced `diagnostics` tells it
//! when asked, so nothing is sent while nobody wants it.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tower_lsp_server::gen_lsp_types::{self as lsp, LspRequestMethod, MessageDirection, Request};

use crate::agent::{AskEditor, Diagnostic, Severity};
use crate::edit::path::RepoPath;
use crate::lsp::{Server, assist};
use crate::session::document::uri_of;

/// `pairwright/diagnostics/get`.
enum DiagnosticsRequest {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiagnosticsParams {
    /// All documents when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    text_document: Option<lsp::TextDocumentIdentifier>,
}

/// What is shown in one document.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    uri: lsp::Uri,
    diagnostics: Vec<lsp::Diagnostic>,
}

impl Request for DiagnosticsRequest {
    type Params = DiagnosticsParams;
    type Result = Vec<Shown>;
    const METHOD: LspRequestMethod<'static> =
        LspRequestMethod::Custom("pairwright/diagnostics/get");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl Server {
    /// How a task in `root` asks the client, if that answers.
    pub(super) fn ask_editor(&self, root: &Path) -> Option<AskEditor> {
        if !self.client_can().announced.diagnostics {
            return None;
        }
        let (server, root) = (self.clone(), root.to_owned());
        Some(Arc::new(move |path: Option<RepoPath>| {
            let (server, root) = (server.clone(), root.clone());
            async move { server.shown(&root, path).await }.boxed()
        }))
    }

    async fn shown(&self, root: &Path, path: Option<RepoPath>) -> Result<Vec<Diagnostic>, String> {
        let document = path.map(|path| lsp::TextDocumentIdentifier {
            uri: lsp::Uri(uri_of(&path.under(root))),
        });
        let params = DiagnosticsParams {
            text_document: document,
        };
        let asked = self.client.send_request::<DiagnosticsRequest>(params).await;
        let shown = asked.map_err(|why| why.message.into_owned())?;
        let mut found = Vec::new();
        for Shown { uri, diagnostics } in shown {
            let Some((_, path)) = self.within(&uri.0).filter(|(of, _)| of == root) else {
                continue;
            };
            found.extend(diagnostics.iter().map(|shown| Diagnostic {
                path: path.clone(),
                line: shown.range.start.line.saturating_add(1),
                severity: severity(shown.severity),
                source: shown.source.clone(),
                message: assist::message(shown),
            }));
        }
        Ok(found)
    }
}

/// What a client does not grade it shows as an error.
fn severity(severity: Option<lsp::DiagnosticSeverity>) -> Severity {
    match severity {
        Some(lsp::DiagnosticSeverity::Warning) => Severity::Warning,
        Some(lsp::DiagnosticSeverity::Information) => Severity::Information,
        Some(lsp::DiagnosticSeverity::Hint | lsp::DiagnosticSeverity::Custom(_)) => Severity::Hint,
        Some(lsp::DiagnosticSeverity::Error) | None => Severity::Error,
    }
}
