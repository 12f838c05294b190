//! What a model is told besides the question: bounded blocks of text from what is open and
//! from what the repository index finds.
//!
//! Holds: every block has a cap in bytes and so has their sum; memory only, no disk;
//! files that look like they hold secrets are never quoted, and secrets that can be told by their
//! form are taken out of all text. Lines end with `\n`, whatever they end with in the document. The
//! windows start at lines that are multiples of [`STEP`], and the blocks keep their order while the
//! set stays the same, so that a server's prompt cache survives typing and scrolling.
//! Not here: how a prompt is written (`model`), how the repository is searched (`index`).

pub mod data;
mod similar;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::secret;
use crate::session::Snapshot;
use crate::session::document::{Document, with_lf};

pub use similar::Similar;

/// Lines above and below the cursor. Models with the suffix last in the prompt read all of it
/// anew at each keystroke, so it is short.
const LINES_ABOVE: usize = 128;
const LINES_BELOW: usize = 16;
/// Windows start at multiples of this many lines.
const STEP: usize = 16;
/// Caps in bytes; about four bytes are a token.
const PREFIX_BYTES: usize = 12 << 10;
const SUFFIX_BYTES: usize = 4 << 10;
const SNIPPET_BYTES: usize = 1600;
const SNIPPETS_BYTES: usize = 6 << 10;
/// Pieces quoted from other files.
const SNIPPETS: usize = 6;
/// Lines of a piece quoted around an edit.
const EDIT_LINES: usize = 8;

/// Why a piece is in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The user edited there a moment ago.
    RecentEdit,
    /// It shares many names with the lines above the cursor.
    Similar,
    /// The index found it: it defines a name near the cursor, or is like the code there.
    Repository,
}

/// A piece of another file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snippet {
    /// Path within the workspace, or the file's name alone.
    pub path: String,
    /// First line, zero-based.
    pub line: usize,
    pub text: String,
    pub reason: Reason,
}

/// The text around a cursor and what may help to continue it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Path within the workspace, or the file's name alone.
    pub path: String,
    pub language: String,
    pub prefix: String,
    pub suffix: String,
    pub snippets: Vec<Snippet>,
}

/// Gathers the context of byte `offset` of `document`, as if `typed` stood before it: what is open,
/// then `found`, what the index knows; `None` where the cursor stands in or at a secret. Well under a
/// millisecond.
pub fn gather(
    snapshot: &Snapshot,
    document: &Document,
    offset: usize,
    typed: &str,
    similar: &Similar,
    found: Vec<Snippet>,
) -> Option<Context> {
    let line = document.text.byte_to_line(offset);
    let window = window(document, offset, line);
    let prefix = document.slice(window.start..offset) + typed;
    let suffix = document.slice(offset..window.end);
    let (prefix, suffix) = without_secrets(&with_lf(&prefix), &with_lf(&suffix))?;
    let others: Vec<&Arc<Document>> = snapshot
        .documents
        .iter()
        .filter(|other| other.uri != document.uri && !is_secret(other))
        .collect();
    let mut snippets = edited(snapshot, &others, similar);
    snippets.extend(similar.best(&prefix, &others, |other| shown_path(snapshot, other)));
    // What is open stands there as it is now; the index need not repeat it.
    let quoted: Vec<String> = snippets.iter().map(|s| s.path.clone()).collect();
    snippets.extend(found.into_iter().filter(|s| !quoted.contains(&s.path)));
    Some(Context {
        path: shown_path(snapshot, document),
        language: document.language.to_string(),
        suffix,
        snippets: bounded(snippets),
        prefix,
    })
}

/// Takes the secrets out of what is on both sides of a cursor; `None` where one goes over it, as
/// neither side can tell then.
fn without_secrets(prefix: &str, suffix: &str) -> Option<(String, String)> {
    let both = format!("{prefix}{suffix}");
    let both = secret::redact_piece(&both);
    if matches!(both, Cow::Borrowed(_)) {
        return Some((prefix.to_owned(), suffix.to_owned()));
    }
    let sides = [secret::redact_piece(prefix), secret::redact(suffix)];
    let [prefix, suffix] = sides.map(Cow::into_owned);
    (format!("{prefix}{suffix}") == both).then_some((prefix, suffix))
}

/// Whether a document is one whose text should never leave the editor: `.env`, keys, credentials.
pub fn is_secret(document: &Document) -> bool {
    let path = document.path.as_deref().map(Path::to_string_lossy);
    let path = path.as_deref().unwrap_or(&document.uri);
    secret::is_path(path)
}

/// Bytes of the document that are shown as prefix and suffix.
fn window(document: &Document, offset: usize, line: usize) -> Range<usize> {
    let first = line.saturating_sub(LINES_ABOVE).div_ceil(STEP) * STEP;
    let mut start = document.text.line_to_byte(first.min(line));
    if offset - start > PREFIX_BYTES {
        // Whole lines where they are short enough; a line longer than the cap is cut.
        let wanted = offset - PREFIX_BYTES;
        let next = document.text.byte_to_line(wanted) + 1;
        let at_line = document
            .text
            .line_to_byte(next.min(document.text.len_lines()));
        start = if at_line <= offset { at_line } else { wanted };
    }
    let last = (line + 1 + LINES_BELOW).min(document.text.len_lines());
    let end = document.text.line_to_byte(last).min(offset + SUFFIX_BYTES);
    start..end
}

fn edited(snapshot: &Snapshot, others: &[&Arc<Document>], similar: &Similar) -> Vec<Snippet> {
    let site = |site: &crate::session::EditSite| {
        let mut others = others.iter();
        let document = others.find(|d| d.uri == site.uri && !similar.has_key(d))?;
        let n_lines = document.text.len_lines();
        let first = site.line.saturating_sub(EDIT_LINES).min(n_lines);
        let last = (site.line + EDIT_LINES + 1).min(n_lines);
        let bytes = document.text.line_to_byte(first)..document.text.line_to_byte(last);
        Some(Snippet {
            path: shown_path(snapshot, document),
            line: first,
            text: document.slice(bytes),
            reason: Reason::RecentEdit,
        })
    };
    snapshot.edits.iter().filter_map(site).take(2).collect()
}

/// Keeps the first pieces within the caps, in an order that does not change while they stay the
/// same.
fn bounded(snippets: Vec<Snippet>) -> Vec<Snippet> {
    let mut kept: Vec<Snippet> = Vec::new();
    let mut left = SNIPPETS_BYTES;
    for mut snippet in snippets {
        let overlaps =
            |k: &Snippet| k.path == snippet.path && k.line.abs_diff(snippet.line) < 2 * EDIT_LINES;
        if kept.iter().any(overlaps) {
            continue;
        }
        snippet.text = secret::redact_piece(&with_lf(&snippet.text)).into_owned();
        cut_at_line(&mut snippet.text, SNIPPET_BYTES.min(left));
        if snippet.text.trim().is_empty() {
            continue;
        }
        left -= snippet.text.len();
        kept.push(snippet);
        if kept.len() == SNIPPETS {
            break;
        }
    }
    kept.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    kept
}

fn cut_at_line(text: &mut String, cap: usize) {
    if text.len() <= cap {
        return;
    }
    let end = text.floor_char_boundary(cap);
    let line = text[..end].rfind('\n').map_or(0, |i| i + 1);
    text.truncate(line);
}

/// Returns a document's path within the workspace, or what stands for it.
pub fn shown_path(snapshot: &Snapshot, document: &Document) -> String {
    match &document.path {
        Some(path) => snapshot.relative(path).to_string_lossy().replace('\\', "/"),
        None => document
            .uri
            .rsplit([':', '/'])
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
