//! LSP types ⇄ ours. No decisions here.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use tower_lsp_server::gen_lsp_types as lsp;

use crate::complete::{Ask, Item, Trigger};
use crate::session::Snapshot;
use crate::session::document::{Change, Document, Position, PositionEncoding, path_of};

/// Command by which a client tells that an item was taken.
pub(super) const ACCEPTED_COMMAND: &str = "pairwright.didAcceptCompletion";

pub(super) fn position(position: lsp::Position) -> Position {
    Position {
        line: position.line,
        column: position.character,
    }
}

pub(super) fn change(event: lsp::TextDocumentContentChangeEvent) -> Change {
    use lsp::TextDocumentContentChangeEvent as Event;
    match event {
        Event::TextDocumentContentChangePartial(partial) => Change {
            range: Some(position(partial.range.start)..position(partial.range.end)),
            text: partial.text,
        },
        Event::TextDocumentContentChangeWholeDocument(whole) => Change {
            range: None,
            text: whole.text,
        },
    }
}

fn lsp_position(document: &Document, offset: usize, encoding: PositionEncoding) -> lsp::Position {
    let Position { line, column } = document.position(offset, encoding);
    lsp::Position {
        line,
        character: column,
    }
}

pub(super) fn range(
    document: &Document,
    bytes: &Range<usize>,
    encoding: PositionEncoding,
) -> lsp::Range {
    lsp::Range {
        start: lsp_position(document, bytes.start, encoding),
        end: lsp_position(document, bytes.end, encoding),
    }
}

/// The question behind a completion request.
pub(super) fn ask(
    snapshot: Snapshot,
    document: Arc<Document>,
    at: lsp::Position,
    trigger: Trigger,
    selected: Option<lsp::SelectedCompletionInfo>,
) -> Ask {
    let encoding = snapshot.encoding;
    let byte = |at: lsp::Position| document.offset(position(at), encoding);
    let offset = byte(at);
    let selected = selected.map(|info| {
        let start = byte(info.range.start).min(offset);
        let end = byte(info.range.end).max(offset);
        (start..end, info.text)
    });
    Ask {
        offset,
        trigger,
        selected,
        snapshot,
        document,
    }
}

/// An item of ghost text.
pub(super) fn inline_item(ask: &Ask, item: &Item) -> lsp::InlineCompletionItem {
    lsp::InlineCompletionItem {
        insert_text: lsp::InsertText::String(item.text.clone()),
        filter_text: None,
        range: Some(range(&ask.document, &item.range, ask.snapshot.encoding)),
        command: Some(accepted(item)),
    }
}

/// The same as an item of a completion menu, for clients without ghost text.
///
/// Such items merge with those of other servers, so they neither push themselves to the top nor
/// hide behind the word before the cursor: they are matched by it and replace it.
pub(super) fn menu_item(ask: &Ask, item: &Item) -> lsp::CompletionItem {
    let typed = &item.text[..item.typed];
    let word = typed
        .trim_end_matches(|c: char| c.is_alphanumeric() || c == '_')
        .len();
    let text = &item.text[word..];
    let first_line = text.lines().next().unwrap_or_default();
    let label: String = first_line.trim().chars().take(60).collect();
    let replaced = item.range.start + word..item.range.end;
    lsp::CompletionItem {
        label: if first_line.len() < text.len() {
            format!("{label} …")
        } else {
            label
        },
        kind: Some(lsp::CompletionItemKind::Text),
        detail: Some("Pairwright".into()),
        documentation: Some(
            lsp::MarkupContent {
                kind: lsp::MarkupKind::Markdown,
                value: format!(
                    "```{}\n{}\n```",
                    ask.document.language,
                    item.text.trim_start()
                ),
            }
            .into(),
        ),
        preselect: Some(false),
        // After what a language's own server knows, which sorts by letters mostly.
        sort_text: Some("~pairwright".into()),
        filter_text: Some(first_line.to_owned()),
        insert_text_format: Some(lsp::InsertTextFormat::PlainText),
        text_edit: Some(
            lsp::TextEdit {
                range: range(&ask.document, &replaced, ask.snapshot.encoding),
                new_text: text.to_owned(),
            }
            .into(),
        ),
        command: Some(accepted(item)),
        ..lsp::CompletionItem::default()
    }
}

fn accepted(item: &Item) -> lsp::Command {
    lsp::Command {
        title: "Suggestion taken".into(),
        tooltip: None,
        command: ACCEPTED_COMMAND.into(),
        arguments: Some(vec![item.id.to_string().into()]),
    }
}

/// Reads the id of an item from the first argument of its command.
pub(super) fn item_id(arguments: &[serde_json::Value]) -> Option<u64> {
    arguments.first()?.as_str()?.parse().ok()
}

/// The workspace folders, by the newest of three generations of the protocol the client speaks.
pub(super) fn roots(params: &lsp::InitializeParams) -> Vec<PathBuf> {
    let folders = &params.workspace_folders_initialize_params.workspace_folders;
    if let Some(lsp::WorkspaceFolders::WorkspaceFolderList(folders)) = folders
        && !folders.is_empty()
    {
        return folders.iter().filter_map(|f| path_of(&f.uri.0)).collect();
    }
    #[expect(deprecated, reason = "some clients send nothing newer")]
    let uri = params.root_uri.as_ref().and_then(|uri| path_of(&uri.0));
    #[expect(deprecated, reason = "some clients send nothing newer")]
    let path = match &params.root_path {
        Some(lsp::RootPath::String(path)) if !path.is_empty() => Some(PathBuf::from(path)),
        _ => None,
    };
    uri.or(path).into_iter().collect()
}
