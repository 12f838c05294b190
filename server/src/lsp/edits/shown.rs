//! Hunks as editors see them: with their lines in the text as it is now.

use tower_lsp_server::gen_lsp_types as lsp;

use super::documents::EditorDocuments;
use super::wire::{FileHunks, HunkItem};
use crate::edit::disk::Content;
use crate::edit::hunks::{Bytes, Hunk, HunkState, Proposal, ProposedFile, What};
use crate::edit::journal::World;
use crate::edit::text::{Breaks, Text};
use crate::edit::workspace::Workspace;
use crate::edit::worlds::Documents;

/// Bytes of old and new text that go with a hunk at most.
const MAX_SHOWN: usize = 64 << 10;

/// The hunks of a proposed file where they are now.
pub(super) fn file_hunks(
    workspace: &Workspace,
    documents: &EditorDocuments,
    proposal: &Proposal,
    file: &ProposedFile,
) -> FileHunks {
    let is_in = |h: &Hunk| h.state == HunkState::Accepted;
    let version = file.with(is_in);
    let open = documents.open(&version.path).map(|o| o.text.into_bytes());
    let world = match open {
        Some(_) => World::Document,
        None => World::Disk,
    };
    let now = open.or_else(|| match workspace.root().read(&version.path) {
        Ok(Content::File(file)) => Some(file.bytes),
        Ok(_) | Err(_) => None,
    });
    // What cannot be spelled so is shown as it is, and refused when it is accepted.
    let spelled = now.as_deref();
    let spelled = spelled.and_then(|now| file.spelled_like(&version, world, now).ok());
    let file = spelled.as_deref().unwrap_or(file);
    let version = file.with(is_in);
    let base = version.bytes.as_deref().map(std::str::from_utf8);
    let followed = match base {
        Some(Ok(base)) => documents.followed(&version.path, base),
        _ => None,
    };
    let places = match &now {
        Some(now) => file.places(now, followed.as_ref(), is_in),
        None => Vec::new(),
    };
    let text = |bytes: Option<&Bytes>| {
        let bytes = bytes.map(|b| b.0.clone()).unwrap_or_default();
        Text::decode(bytes, Breaks::Lf).ok()
    };
    let (before, after) = (text(file.before.as_ref()), text(file.after.as_ref()));
    let quote = |text: &Option<Text>, lines: std::ops::Range<usize>| {
        let mut quoted = String::new();
        for idx in lines {
            let Some(text) = text else { break };
            if quoted.len() > MAX_SHOWN {
                break;
            }
            quoted.push_str(text.line(idx));
            quoted.push('\n');
        }
        quoted
    };
    let hunks = file.hunks.iter().enumerate().map(|(idx, hunk)| {
        let n_lines = |text: &Option<Text>| text.as_ref().map_or(0, Text::n_lines);
        let (kind, old, new) = match &hunk.what {
            What::Lines(c) => ("lines", c.before.clone(), c.after.clone()),
            What::Create => ("create", 0..0, 0..n_lines(&after)),
            What::Delete => ("delete", 0..n_lines(&before), 0..0),
            What::Move => ("move", 0..0, 0..0),
            What::Mode => ("mode", 0..0, 0..0),
        };
        let place = places.iter().find(|(i, ..)| *i == idx);
        let (lines, is_edited) = match place {
            Some((_, lines, is_edited)) => (lines.clone(), *is_edited),
            None => (0..0, false),
        };
        let position = |line: usize| lsp::Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            character: 0,
        };
        HunkItem {
            id: hunk.id.clone(),
            proposal: proposal.id.clone(),
            author: proposal.author.clone(),
            kind,
            state: hunk.state,
            range: lsp::Range {
                start: position(lines.start),
                end: position(lines.end),
            },
            is_edited,
            old: quote(&before, old),
            new_lines: new.len(),
            new: quote(&after, new),
        }
    });
    FileHunks {
        uri: documents.uri(&version.path),
        moved_from: file.moved_from.as_ref().map(ToString::to_string),
        hunks: hunks.collect(),
    }
}
