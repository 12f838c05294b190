//! Methods beyond the protocol's standard: our own (`pairwright/…`), and the ones that clients of
//! another completion server send under its names.

use serde::{Deserialize, Serialize};
use tower_lsp_server::gen_lsp_types::{
    LspNotificationMethod, MessageDirection, Notification, Position, SelectedCompletionInfo, Uri,
};

/// `textDocument/inlineCompletion` as clients really send it: any number as trigger kind (0, 1 and
/// 2 occur), and the version that some add.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InlineCompletionParams {
    pub(super) text_document: VersionedDocument,
    pub(super) position: Position,
    #[serde(default)]
    pub(super) context: InlineCompletionContext,
}

#[derive(Debug, Deserialize)]
pub(super) struct VersionedDocument {
    pub(super) uri: Uri,
    pub(super) version: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct InlineCompletionContext {
    pub(super) trigger_kind: Option<u32>,
    pub(super) selected_completion_info: Option<SelectedCompletionInfo>,
}

/// `pairwright/context/explain`: what is or would be used and sent at a place.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExplainParams {
    pub(super) text_document: VersionedDocument,
    pub(super) position: Position,
}

/// `textDocument/didFocus`: the user looks at a document now, or at none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DidFocusParams {
    pub(super) text_document: Option<VersionedDocument>,
}

/// `textDocument/didShowCompletion` and `textDocument/didPartiallyAcceptCompletion`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownItemParams {
    pub(super) item: ShownItem,
    /// UTF-16 units from the start of the item's text.
    #[serde(default)]
    pub(super) accepted_length: u64,
}

/// The part of an item that names it: the first argument of its command.
#[derive(Debug, Deserialize)]
pub(super) struct ShownItem {
    pub(super) command: Option<ShownCommand>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownCommand {
    #[serde(default)]
    pub(super) arguments: Vec<serde_json::Value>,
}

/// State of the server in words, for a status line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// Something is being learnt or asked that the user may want to wait for.
    pub(super) busy: bool,
    pub(super) kind: StatusKind,
    pub(super) message: String,
    /// What the task under way may do, the one that began last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    /// What separated the last command of a task from the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sandbox: Option<String>,
    /// Files that the index has yet to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending_files: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StatusKind {
    Normal,
    /// Works, but not as configured.
    Warning,
    Error,
    /// Silent by the user's choice.
    Inactive,
}

/// `didChangeStatus`, sent when the status changes, to clients that announced that they take it.
pub(super) enum DidChangeStatus {}

impl Notification for DidChangeStatus {
    type Params = Status;
    const METHOD: LspNotificationMethod<'static> = LspNotificationMethod::Custom("didChangeStatus");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}
