//! What the client can do, resolved once, and what the server offers it.

use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;

use super::commands;
use crate::session::document::PositionEncoding;

/// What the client can do, as far as it matters here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Client {
    pub(super) encoding: PositionEncoding,
    /// Shows ghost text by the standard request.
    pub(super) inline_completion: bool,
    /// Answers `workspace/configuration`.
    pub(super) configuration: bool,
    pub(super) registers_configuration: bool,
    pub(super) registers_watched_files: bool,
    /// Shows progress that the server begins.
    pub(super) progress: bool,
    /// Takes edits of several documents at once, each with the version it is for.
    pub(super) document_changes: bool,
    /// Asks for code lenses again when told to.
    pub(super) refreshes_lenses: bool,
    /// Opens a document when asked to.
    pub(super) shows_documents: bool,
    pub(super) announced: Announced,
}

/// Which of the server's own notifications the client has said it takes. Others would be strange
/// to it, and some editors open a window about every strange message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// `didChangeStatus`.
    pub(super) status: bool,
    /// `pairwright/diff/changed`.
    pub(super) hunks: bool,
    /// `pairwright/event`.
    pub(super) events: bool,
    /// Answers `pairwright/approval/request`.
    pub(super) approvals: bool,
    /// Answers `pairwright/diagnostics/get`.
    pub(super) diagnostics: bool,
}

impl Announced {
    /// Reads `capabilities.experimental.pairwright`. Clients of another completion server know
    /// `didChangeStatus` too, and give themselves away by the name of their plugin among `options`.
    fn of(capabilities: &lsp::ClientCapabilities, options: &Value) -> Self {
        let ours = capabilities.experimental.as_ref().map(|e| &e["pairwright"]);
        let says = |what: &str| ours.is_some_and(|ours| ours[what] == true);
        Self {
            status: says("status") || options.get("editorPluginInfo").is_some(),
            hunks: says("hunks"),
            events: says("events"),
            approvals: says("approvals"),
            diagnostics: says("diagnostics"),
        }
    }
}

impl Client {
    pub(super) fn of(capabilities: &lsp::ClientCapabilities, options: &Value) -> Self {
        let workspace = capabilities.workspace.as_ref();
        let text = capabilities.text_document.as_ref();
        let window = capabilities.window.as_ref();
        let configuration = workspace
            .and_then(|w| w.did_change_configuration.as_ref())
            .and_then(|c| c.dynamic_registration);
        let watched = workspace
            .and_then(|w| w.did_change_watched_files.as_ref())
            .and_then(|c| c.dynamic_registration);
        Self {
            encoding: encoding(capabilities),
            inline_completion: text.is_some_and(|t| t.inline_completion.is_some()),
            configuration: workspace.and_then(|w| w.configuration) == Some(true),
            registers_configuration: configuration == Some(true),
            registers_watched_files: watched == Some(true),
            progress: window.and_then(|w| w.work_done_progress) == Some(true),
            document_changes: workspace
                .and_then(|w| w.workspace_edit.as_ref())
                .and_then(|e| e.document_changes)
                == Some(true),
            refreshes_lenses: workspace
                .and_then(|w| w.code_lens.as_ref())
                .and_then(|l| l.refresh_support)
                == Some(true),
            shows_documents: window
                .and_then(|w| w.show_document.as_ref())
                .is_some_and(|s| s.support),
            announced: Announced::of(capabilities, options),
        }
    }
}

/// The first encoding of the client's list, which is in order of its preference.
fn encoding(capabilities: &lsp::ClientCapabilities) -> PositionEncoding {
    let offered = capabilities
        .general
        .as_ref()
        .and_then(|g| g.position_encodings.as_ref());
    let known = |kind: &lsp::PositionEncodingKind| match kind {
        lsp::PositionEncodingKind::UTF8 => Some(PositionEncoding::Utf8),
        lsp::PositionEncodingKind::UTF16 => Some(PositionEncoding::Utf16),
        lsp::PositionEncodingKind::UTF32 => Some(PositionEncoding::Utf32),
        lsp::PositionEncodingKind::Custom(_) => None,
    };
    offered
        .into_iter()
        .flatten()
        .find_map(known)
        .unwrap_or_default()
}

/// What the server offers.
///
/// Ghost text is offered to everyone, whatever the client claims: some support it and do not say
/// so. Menu items are for clients that do not have it, or the same text would stand there twice.
pub(super) fn server(client: &Client) -> lsp::ServerCapabilities {
    lsp::ServerCapabilities {
        position_encoding: Some(match client.encoding {
            PositionEncoding::Utf8 => lsp::PositionEncodingKind::UTF8,
            PositionEncoding::Utf16 => lsp::PositionEncodingKind::UTF16,
            PositionEncoding::Utf32 => lsp::PositionEncodingKind::UTF32,
        }),
        text_document_sync: Some(
            lsp::TextDocumentSyncOptions {
                open_close: Some(true),
                change: Some(lsp::TextDocumentSyncKind::Incremental),
                save: Some(lsp::Save::Bool(true)),
                ..lsp::TextDocumentSyncOptions::default()
            }
            .into(),
        ),
        inline_completion_provider: Some(lsp::InlineCompletionOptions::default().into()),
        // ALE takes an empty object for an absent one.
        completion_provider: (!client.inline_completion).then(|| lsp::CompletionOptions {
            resolve_provider: Some(false),
            ..lsp::CompletionOptions::default()
        }),
        code_action_provider: Some(
            lsp::CodeActionOptions {
                code_action_kinds: Some(vec![lsp::CodeActionKind::QuickFix]),
                ..lsp::CodeActionOptions::default()
            }
            .into(),
        ),
        code_lens_provider: Some(lsp::CodeLensOptions::default()),
        execute_command_provider: Some(lsp::ExecuteCommandOptions {
            commands: commands::all().map(ToOwned::to_owned).collect(),
            ..lsp::ExecuteCommandOptions::default()
        }),
        workspace: Some(lsp::WorkspaceOptions {
            workspace_folders: Some(lsp::WorkspaceFoldersServerCapabilities {
                supported: Some(true),
                change_notifications: Some(lsp::ChangeNotifications::Bool(true)),
            }),
            ..lsp::WorkspaceOptions::default()
        }),
        ..lsp::ServerCapabilities::default()
    }
}
