//! `textDocument/copilotPanelCompletion`: several suggestions in a panel beside the text.

use serde::{Deserialize, Serialize};
use tower_lsp_server::gen_lsp_types::{
    InlineCompletionItem, LspNotificationMethod, MessageDirection, Notification, Position,
    ProgressToken,
};
use tower_lsp_server::jsonrpc::Result;

use super::super::dispatch::off_the_reader;
use super::super::ext::VersionedDocument;
use super::super::{Server, convert};
use crate::complete::Trigger;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct PanelParams {
    text_document: VersionedDocument,
    position: Position,
    partial_result_token: Option<ProgressToken>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct PanelItems {
    items: Vec<InlineCompletionItem>,
}

/// `$/progress` with a part of a panel's items.
enum PanelProgress {}

#[derive(Debug, Serialize, Deserialize)]
struct PanelPart {
    token: ProgressToken,
    value: PanelItems,
}

impl Notification for PanelProgress {
    type Params = PanelPart;
    const METHOD: LspNotificationMethod<'static> = LspNotificationMethod::Custom("$/progress");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl Server {
    /// Answers with all suggestions. To a client that named a token they are sent one by one
    /// before the answer, which is then empty, as the protocol has it for partial results.
    pub(in super::super) async fn panel_completion(
        &self,
        params: PanelParams,
    ) -> Result<PanelItems> {
        let document = &params.text_document;
        let Some(ask) = self.ask(document, params.position, Trigger::Invoked, None)? else {
            return Ok(PanelItems::default());
        };
        let request = self.completer.begin(ask.clone());
        off_the_reader().await;
        let items = request.answer().await.unwrap_or_default();
        let items = items.iter().map(|item| convert::inline_item(&ask, item));
        let Some(token) = params.partial_result_token else {
            return Ok(PanelItems {
                items: items.collect(),
            });
        };
        for item in items {
            let part = PanelPart {
                token: token.clone(),
                value: PanelItems { items: vec![item] },
            };
            self.client.send_notification::<PanelProgress>(part).await;
        }
        Ok(PanelItems::default())
    }
}
