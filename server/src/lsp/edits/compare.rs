//! `pairwright/diff/compare`: a file beside what its undecided hunks would make of it.

use serde::{Deserialize, Serialize};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use super::failed;
use super::requests::error;
use crate::edit::text::{Breaks, Text};
use crate::lsp::Server;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::lsp) struct CompareParams {
    text_document: lsp::TextDocumentIdentifier,
}

/// Texts with `\n` for every line end; `None` where no file is.
#[derive(Debug, Serialize)]
pub(in crate::lsp) struct CompareResponse {
    before: Option<String>,
    after: Option<String>,
}

impl Server {
    pub(in crate::lsp) async fn diff_compare(
        &self,
        params: CompareParams,
    ) -> jsonrpc::Result<CompareResponse> {
        let (root, path) = self.within(&params.text_document.uri.0).ok_or_else(|| {
            jsonrpc::Error::invalid_params("the document is in no folder that is open")
        })?;
        self.with_workspace(root, move |workspace, documents| {
            let compared = workspace.compare(documents, &path);
            let compared = compared.map_err(|why| error(&why))?;
            Ok(CompareResponse {
                before: compared.before.map(text).transpose()?,
                after: compared.after.map(text).transpose()?,
            })
        })
        .await
    }
}

fn text(bytes: Vec<u8>) -> jsonrpc::Result<String> {
    let text = Text::decode(bytes, Breaks::Lf).map_err(|why| failed(&why.to_string()))?;
    Ok(text.content().to_owned())
}
