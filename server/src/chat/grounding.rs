//! The pieces of text a question comes with: what the user pointed at, what they look at, and
//! what the index finds.
//!
//! Holds: every piece has a cap and so has their sum; secrets are taken out of each, and files that
//! are kept for secrets are not read; nothing outside the folder is read, links resolved. Open
//! documents are shown as they are in the editor. What cannot be shown is said, never an error.

mod uncommitted;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cite::place;
use crate::edit::path::RepoPath;
use crate::edit::tree::{Entry, Tree as _};
use crate::edit::workspace::Workspace;
use crate::edit::worlds::{Documents, Worlds};
use crate::index::{Found, Indexes, SearchParams};
use crate::secret;
use crate::session::Snapshot;
use crate::session::document::Document;
use crate::store::events::Shown;

/// The most bytes of all pieces together, whatever the model can read.
const MOST: usize = 48 << 10;
/// Of something the user pointed at.
const REFERENCE: usize = 16 << 10;
/// Of the selection, and of the text around the cursor.
const SELECTION: usize = 8 << 10;
const AROUND: usize = 6 << 10;
/// Of a file that the index found, and of all of them.
const FOUND: usize = 2 << 10;
const ALL_FOUND: usize = 12 << 10;
/// Files asked of the index.
const FILES: usize = 8;
/// A part of a line that is shorter tells nothing.
const PART_OF_LINE: usize = 200;
/// Lines shown above and below the selection.
const LINES_AROUND: usize = 60;
/// References of one question.
const REFERENCES: usize = 32;
/// Definitions shown of one name.
const DEFINITIONS: usize = 4;

/// Something the user points at.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Reference {
    /// A file, or lines of it, from 1, the last one included. The path is relative to the folder.
    File {
        path: String,
        first_line: Option<u32>,
        last_line: Option<u32>,
    },
    /// A function, a type: shown where it is defined.
    Symbol { name: String },
    /// The changes that are not committed; looked for in git when no text is given.
    Diff { text: Option<String> },
    /// What a terminal shows.
    Terminal { text: String },
    /// Text of a file as the client has it.
    Text { path: String, text: String },
    /// What the editor complains about.
    Diagnostics { items: Vec<Diagnostic> },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Diagnostic {
    pub path: String,
    /// From 1.
    pub line: u32,
    pub message: String,
}

/// What the user looks at.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub snapshot: Snapshot,
    pub active: Option<Active>,
}

/// The document in front of the user, and what is selected in it, in bytes; empty at the cursor.
#[derive(Debug, Clone)]
pub struct Active {
    pub document: Arc<Document>,
    pub selection: Range<usize>,
}

/// A piece as the model is shown it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) shown: Shown,
    pub(super) text: String,
}

/// All pieces of a question, and what could not be shown.
#[derive(Debug, Default)]
pub(super) struct Grounding {
    pub(super) pieces: Vec<Piece>,
    pub(super) notices: Vec<String>,
    /// What the index found, best first.
    pub(super) found: Vec<Found>,
    /// Files indexed of those known, while the index that was searched was not done.
    pub(super) indexing: Option<(usize, usize)>,
    left: usize,
}

/// What pieces are gathered from.
pub(super) struct Sources<'a> {
    pub(super) question: &'a str,
    pub(super) references: &'a [Reference],
    pub(super) surroundings: &'a Surroundings,
    pub(super) documents: &'a dyn Documents,
    pub(super) index: Option<&'a Indexes>,
    pub(super) workspace: &'a Workspace,
}

/// Gathers pieces of at most `budget` bytes. Reads the disk.
pub(super) fn gather(sources: &Sources<'_>, budget: usize) -> Grounding {
    let mut grounding = Grounding {
        left: budget.min(MOST),
        ..Grounding::default()
    };
    for reference in sources.references.iter().take(REFERENCES) {
        grounding.refer(sources, reference);
    }
    if let Some(active) = &sources.surroundings.active {
        grounding.look_at(sources, active);
    }
    grounding.search(sources);
    grounding
}

impl Grounding {
    fn refer(&mut self, sources: &Sources<'_>, reference: &Reference) {
        match reference {
            Reference::File {
                path,
                first_line,
                last_line,
            } => {
                let first = first_line.unwrap_or(1).max(1);
                let last = last_line.or(*first_line).unwrap_or(u32::MAX).max(first);
                match sources.lines(path, first, last) {
                    Ok(lines) => self.add_lines(sources, &lines, "you pointed at it", REFERENCE),
                    Err(why) => self.notices.push(why),
                }
            }
            Reference::Symbol { name } => {
                let root = sources.workspace.root().path();
                let found = sources
                    .index
                    .map(|index| index.definitions_of(root, name))
                    .unwrap_or_default();
                if found.is_empty() {
                    let shown: String = name.chars().take(80).collect();
                    self.notices
                        .push(format!("No definition of `{shown}` is indexed."));
                }
                for (path, first, end) in found.into_iter().take(DEFINITIONS) {
                    match sources.lines(path.as_str(), first + 1, end) {
                        Ok(lines) => self.add_lines(sources, &lines, "defines it", REFERENCE),
                        Err(why) => self.notices.push(why),
                    }
                }
            }
            Reference::Diff { text } => {
                let found = match text {
                    Some(text) => Some(text.clone()),
                    None => uncommitted::diff(sources.workspace.root(), REFERENCE),
                };
                match found {
                    Some(text) if !text.trim().is_empty() => {
                        self.add_text("uncommitted changes", &text, Keep::Head);
                    }
                    Some(_) => self
                        .notices
                        .push("There are no uncommitted changes.".into()),
                    None => self.notices.push("git does not tell the changes.".into()),
                }
            }
            Reference::Terminal { text } => self.add_text("terminal output", text, Keep::Tail),
            Reference::Text { path, .. } if secret::is_path(path) => {
                self.notices.push(format!("{path} is kept for secrets."));
            }
            Reference::Text { path, text } => self.add_text(path, text, Keep::Head),
            Reference::Diagnostics { items } => {
                let line =
                    |item: &Diagnostic| format!("{}:{}: {}\n", item.path, item.line, item.message);
                let text: String = items.iter().take(200).map(line).collect();
                self.add_text("diagnostics of the editor", &text, Keep::Head);
            }
        }
    }

    /// Shows the selection and what stands around it.
    fn look_at(&mut self, sources: &Sources<'_>, active: &Active) {
        let document = &active.document;
        let root = sources.workspace.root().path();
        let is_outside = |path: &Path| !path.starts_with(root);
        if crate::context::is_secret(document) || document.path.as_deref().is_some_and(is_outside) {
            return;
        }
        let snapshot = &sources.surroundings.snapshot;
        let relative = |path: &Path| snapshot.relative(path).to_string_lossy().replace('\\', "/");
        let path = document
            .path
            .as_deref()
            .map_or_else(|| "untitled".to_owned(), relative);
        let text = &document.text;
        // As of a file: what is selected may be lines of a key, which do not show what they are.
        if secret::is_key_file(&text.to_string()) {
            let why = format!("{path} is not shown: it holds a private key.");
            self.notices.push(why);
            return;
        }
        let line_of = |byte: usize| text.byte_to_line(byte.min(text.len_bytes()));
        let (first, last) = (
            line_of(active.selection.start),
            line_of(active.selection.end),
        );
        let slice = |first: usize, end: usize| {
            let (first, end) = (first.min(text.len_lines()), end.min(text.len_lines()));
            document.slice(text.line_to_byte(first)..text.line_to_byte(end))
        };
        let lines = |first: usize, end: usize| Lines {
            path: path.clone(),
            first: to_line(first),
            text: slice(first, end),
        };
        if !active.selection.is_empty() {
            self.add_lines(sources, &lines(first, last + 1), "selected", SELECTION);
        }
        let (mut above, mut below) = (
            first.saturating_sub(LINES_AROUND),
            (last + 1 + LINES_AROUND).min(text.len_lines()),
        );
        // Long lines: fewer of them.
        while slice(above, below).len() > AROUND && (above < first || below > last + 1) {
            above = first - (first - above) / 2;
            below = last + 1 + (below - (last + 1)) / 2;
        }
        self.add_lines(sources, &lines(above, below), "open in the editor", AROUND);
    }

    fn search(&mut self, sources: &Sources<'_>) {
        let Some(index) = sources.index else { return };
        let params = SearchParams {
            query: sources.question.to_owned(),
            mentioned: names_in(sources.question),
            limit: Some(FILES),
        };
        let root = sources.workspace.root().path();
        // Before the search: what is indexed after it was not found by it.
        self.indexing = index.indexing(root);
        self.found = index.search(&params, &sources.surroundings.snapshot.documents, None);
        self.found.retain(|found| index.is_same(&found.root, root));
        let mut left = ALL_FOUND;
        let known: Vec<String> = self.pieces.iter().map(|p| p.shown.title.clone()).collect();
        let found = std::mem::take(&mut self.found);
        for found in &found {
            let path = found.hit.path.as_str();
            if known.iter().any(|known| known == path) {
                continue;
            }
            let Some(best) = found.hit.chunks.first() else {
                continue;
            };
            let lines = sources.lines(path, best.first_line + 1, best.end_line);
            if let Ok(lines) = lines
                && left > 0
            {
                let before = self.left;
                self.add_lines(sources, &lines, &reason(found), FOUND.min(left));
                left = left.saturating_sub(before - self.left);
            }
        }
        self.found = found;
    }

    fn add_lines(&mut self, sources: &Sources<'_>, lines: &Lines, reason: &str, most: usize) {
        let (text, is_cut) = cut(&lines.text, most.min(self.left), Keep::Head);
        if text.trim().is_empty() {
            return;
        }
        let n_lines = to_line(text.lines().count().saturating_sub(1));
        let last = lines.first + n_lines - 1;
        let root = sources.workspace.root().path();
        self.add(Piece {
            shown: Shown {
                title: lines.path.clone(),
                reason: reason.to_owned(),
                place: Some(place(root, &lines.path, Some((lines.first, last)))),
                bytes: 0,
                is_cut,
            },
            text,
        });
    }

    fn add_text(&mut self, title: &str, text: &str, keep: Keep) {
        // What is cut off may be what shows that the rest is a key.
        let text = secret::redact(text);
        let (text, is_cut) = cut(&text, REFERENCE.min(self.left), keep);
        if text.trim().is_empty() {
            return;
        }
        self.add(Piece {
            shown: Shown {
                title: title.to_owned(),
                reason: "you pointed at it".to_owned(),
                place: None,
                bytes: 0,
                is_cut,
            },
            text,
        });
    }

    fn add(&mut self, mut piece: Piece) {
        self.left -= piece.text.len().min(self.left);
        piece.text = secret::redact(&piece.text).into_owned();
        piece.shown.bytes = piece.text.len();
        self.pieces.push(piece);
    }
}

/// Lines of a file, the first from 1.
struct Lines {
    path: String,
    first: u32,
    text: String,
}

impl Sources<'_> {
    /// Reads lines `first..=last`, from 1, of a file of the folder as it is in the editor or on
    /// the disk. The error is a sentence.
    fn lines(&self, path: &str, first: u32, last: u32) -> Result<Lines, String> {
        let shown: String = path.chars().take(200).collect();
        let parsed = RepoPath::parse(path).map_err(|why| format!("{shown} is not read: {why}."))?;
        if secret::is_path(parsed.as_str()) {
            return Err(format!("{shown} is not read: such files hold secrets."));
        }
        let worlds = Worlds::new(self.workspace.root(), self.documents);
        let bytes = match worlds.read(&parsed) {
            Ok(Some(Entry::File { bytes, .. })) => bytes,
            Ok(Some(Entry::Directory)) => return Err(format!("{shown} is a folder.")),
            Ok(None) => return Err(format!("{shown} is not there.")),
            Err(why) => return Err(format!("{shown} is not read: {why}.")),
        };
        if bytes.contains(&0) {
            return Err(format!("{shown} is not text."));
        }
        let text = String::from_utf8_lossy(&bytes);
        // Lines of a key do not show what they are.
        if secret::is_key_file(&text) {
            return Err(format!("{shown} is not read: it holds a private key."));
        }
        let skipped = usize::try_from(first - 1).unwrap_or(usize::MAX);
        let n_lines = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        let wanted = text.split_inclusive('\n').skip(skipped).take(n_lines);
        Ok(Lines {
            path: parsed.as_str().to_owned(),
            first,
            text: wanted.collect(),
        })
    }
}

/// Why the index found a file, in words.
pub(super) fn reason(found: &Found) -> String {
    let mut words: Vec<&str> = Vec::new();
    // A signal may speak for a file by being absent: not being a test.
    let speaking = found
        .hit
        .reasons
        .iter()
        .filter(|r| r.share > 0.0 && r.value > 0.0);
    for reason in speaking {
        let word = reason.signal.split(',').next().unwrap_or_default();
        // What is true of files in general says nothing to a reader.
        let is_telling = !matches!(
            word,
            "length"
                | "share of the language"
                | "is code"
                | "places of all signals"
                | "places of words"
                | "question is about tests"
        );
        if is_telling && !words.contains(&word) {
            words.push(word);
        }
        if words.len() == 2 {
            break;
        }
    }
    match words.is_empty() {
        true => "found by search".to_owned(),
        false => words.join(", "),
    }
}

/// Names and paths in a question: what looks like code.
fn names_in(question: &str) -> Vec<String> {
    let is_outside = |c: char| !(c.is_alphanumeric() || "_./:-".contains(c));
    let is_name = |word: &&str| {
        let inner = word.trim_matches(['.', ':', '-']);
        let has_inner_capital =
            inner.chars().skip(1).any(char::is_uppercase) && inner.chars().any(char::is_lowercase);
        inner.len() > 2
            && (inner.contains(['_', '/'])
                || inner.contains("::")
                || inner.contains('.')
                || has_inner_capital)
    };
    question
        .split(is_outside)
        .filter(is_name)
        .map(|word| word.trim_matches(['.', ':', '-']).to_owned())
        .take(16)
        .collect()
}

#[derive(Clone, Copy)]
enum Keep {
    Head,
    Tail,
}

/// Cuts a text to at most `most` bytes at a line's end where there is one.
fn cut(text: &str, most: usize, keep: Keep) -> (String, bool) {
    if text.len() <= most {
        return (text.to_owned(), false);
    }
    let part = |of_line| if most < PART_OF_LINE { "" } else { of_line };
    let kept = match keep {
        Keep::Head => {
            let head = &text[..text.floor_char_boundary(most)];
            head.rfind('\n').map_or(part(head), |end| &head[..=end])
        }
        Keep::Tail => {
            let tail = &text[text.ceil_char_boundary(text.len() - most)..];
            tail.find('\n').map_or(part(tail), |end| &tail[end + 1..])
        }
    };
    (kept.to_owned(), true)
}

fn to_line(zero_based: usize) -> u32 {
    u32::try_from(zero_based).map_or(u32::MAX, |line| line.saturating_add(1))
}

#[cfg(test)]
mod tests;
