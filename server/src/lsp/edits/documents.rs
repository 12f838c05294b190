//! Documents of the editor as a place to write to.
//!
//! Holds: an editor's word that it applied an edit counts for nothing: a document has changed when
//! a `didChange` says so, to the text that was asked for, whatever was typed after that. Versions go with every edit where
//! the client takes them, and every wait ends.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tower_lsp_server::gen_lsp_types as lsp;

use super::Expectation;
use crate::edit::follow::Followed;
use crate::edit::merge::diff;
use crate::edit::path::RepoPath;
use crate::edit::text::{Breaks, Text};
use crate::edit::worlds::{DocumentChange, DocumentFailure, Documents, Open};
use crate::lsp::{Server, convert};
use crate::session::Snapshot;
use crate::session::document::Document;

/// How long a client may take to answer, and then to tell the new text.
const PATIENCE: Duration = Duration::from_secs(10);

/// The documents of one folder. Lives on a thread that may wait.
pub(in crate::lsp) struct EditorDocuments {
    server: Server,
    /// The folder as the client spells it, and where it really is.
    root: PathBuf,
    canonical: PathBuf,
    runtime: Handle,
}

/// Whether an edit is done or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
}

impl EditorDocuments {
    pub(in crate::lsp) fn new(server: Server, root: PathBuf, canonical: PathBuf) -> Self {
        Self {
            server,
            root,
            canonical,
            runtime: Handle::current(),
        }
    }

    /// The open document behind a path of the folder, under whatever name the editor has it.
    pub(super) fn document(&self, path: &RepoPath) -> Option<Arc<Document>> {
        let snapshot = self.server.session.snapshot();
        let names = [path.under(&self.root), path.under(&self.canonical)];
        let is_it = |d: &&Arc<Document>| {
            d.path
                .as_deref()
                .is_some_and(|p| names.iter().any(|name| name == p))
        };
        let found = snapshot.documents.iter().find(is_it).cloned();
        found.or_else(|| by_file(&snapshot, &names[1]))
    }

    /// The uri of a path, as the client spells it if it has the file open.
    pub(super) fn uri(&self, path: &RepoPath) -> String {
        match self.document(path) {
            Some(document) => document.uri.to_string(),
            None => crate::session::document::uri_of(&path.under(&self.root)),
        }
    }

    /// Follows the text that a document has now.
    pub(super) fn follow(&self, path: &RepoPath) {
        if let Some(document) = self.document(path) {
            self.server.edits.follow(&document);
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Asks the client to apply an edit; `Err` with its reason if it says it did not.
    fn ask(&self, edit: lsp::WorkspaceEdit, deadline: Instant) -> Result<(), String> {
        let answer = self
            .runtime
            .block_on(timeout_at(deadline, self.server.client.apply_edit(edit)));
        match answer {
            Err(_) => Err("the editor did not answer in time".into()),
            Ok(Err(why)) => Err(format!(
                "the editor answered with an error: {}",
                why.message
            )),
            Ok(Ok(answer)) if !answer.applied => Err(match answer.failure_reason {
                Some(why) => format!("the editor refused the edit: {why}"),
                None => "the editor refused the edit".into(),
            }),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// Stops waiting for edits that the editor has been sent. One it did not answer for it may yet
    /// do; one it refused it will not.
    fn give_up(&self, changes: &[DocumentChange], direction: Direction, deadline: Instant) {
        // What gives a text back is welcome however late it comes.
        if direction == Direction::Back || Instant::now() < deadline {
            return;
        }
        for change in changes {
            let is_pending = |d: &Arc<Document>| d.text == change.before;
            if let Some(document) = self.document(&change.path).filter(is_pending) {
                let (before, after) = (change.before.clone(), change.after.clone());
                self.server.edits.expect_late(&document.uri, before, after);
            }
        }
    }

    /// Waits until a document has read as asked for.
    fn confirm(
        &self,
        change: &DocumentChange,
        expectation: &Expectation,
        deadline: Instant,
    ) -> Result<(), String> {
        let mut heard = self.server.edits.heard.subscribe();
        loop {
            heard.borrow_and_update();
            if expectation.is_met() {
                return Ok(());
            }
            match self.open(&change.path) {
                None => return Err("was closed in the editor meanwhile".into()),
                Some(open) if open.text == change.after => return Ok(()),
                Some(_) => {}
            }
            let next = self.runtime.block_on(timeout_at(deadline, heard.changed()));
            if !matches!(next, Ok(Ok(()))) {
                return Err("the editor says it applied the edit, but the text is another".into());
            }
        }
    }
}

/// Finds a document by what file it is, for paths with links in them.
fn by_file(snapshot: &Snapshot, name: &Path) -> Option<Arc<Document>> {
    let wanted = name.canonicalize().ok()?;
    let is_it = |d: &&Arc<Document>| {
        let path = d.path.as_deref().filter(|p| p.file_name().is_some());
        path.and_then(|p| p.canonicalize().ok()).as_ref() == Some(&wanted)
    };
    snapshot.documents.iter().find(is_it).cloned()
}

impl Documents for EditorDocuments {
    fn open(&self, path: &RepoPath) -> Option<Open> {
        let document = self.document(path)?;
        Some(Open {
            text: document.text.to_string(),
            version: document.version,
        })
    }

    fn all(&self) -> Vec<RepoPath> {
        let snapshot = self.server.session.snapshot();
        let below = |path: &Path| {
            let roots = [self.root.as_path(), self.canonical.as_path()];
            let rest = roots.iter().find_map(|r| path.strip_prefix(r).ok())?;
            RepoPath::parse(rest.to_str()?).ok()
        };
        let paths = snapshot.documents.iter().filter_map(|d| d.path.as_deref());
        paths.filter_map(below).collect()
    }

    fn change(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        self.change_in(changes, Direction::Forward)
    }

    fn change_back(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        self.change_in(changes, Direction::Back)
    }

    fn followed(&self, path: &RepoPath, base: &str) -> Option<Followed> {
        let document = self.document(path)?;
        self.server.edits.followed(&document.uri, base)
    }
}

impl EditorDocuments {
    /// Changes documents and waits until each has the new text.
    fn change_in(
        &self,
        changes: &[DocumentChange],
        direction: Direction,
    ) -> Result<(), DocumentFailure> {
        let encoding = self.server.session.snapshot().encoding;
        let mut edits = Vec::with_capacity(changes.len());
        for change in changes {
            let failure = |why: &str| DocumentFailure {
                path: change.path.clone(),
                why: why.into(),
            };
            let document = self
                .document(&change.path)
                .ok_or_else(|| failure("was closed in the editor"))?;
            if document.version != change.version || document.text != change.before {
                return Err(failure("was edited in this moment"));
            }
            self.server.edits.forget_late(&document.uri);
            // What happens to its lines from here on is known.
            self.server.edits.follow(&document);
            let text_edits: Vec<lsp::TextEdit> = smallest(&change.before, &change.after)
                .into_iter()
                .map(|(bytes, new_text)| lsp::TextEdit {
                    range: convert::range(&document, &bytes, encoding),
                    new_text,
                })
                .collect();
            edits.push((document, text_edits));
        }
        let failure = |idx: usize, why: String| DocumentFailure {
            path: changes[idx].path.clone(),
            why,
        };
        let expectations: Vec<Expectation> = edits
            .iter()
            .zip(changes)
            .map(|((document, _), change)| self.server.edits.expect(&document.uri, &change.after))
            .collect();
        let deadline = Instant::now() + PATIENCE;
        if self.server.client_can().document_changes {
            let versioned = edits.into_iter().map(|(document, edits)| {
                lsp::DocumentChange::TextDocumentEdit(lsp::TextDocumentEdit {
                    text_document: lsp::OptionalVersionedTextDocumentIdentifier {
                        version: Some(document.version),
                        text_document_identifier: identifier(&document),
                    },
                    edits: edits.into_iter().map(lsp::Edit::TextEdit).collect(),
                })
            });
            let edit = lsp::WorkspaceEdit {
                document_changes: Some(versioned.collect()),
                ..lsp::WorkspaceEdit::default()
            };
            self.ask(edit, deadline).map_err(|why| {
                self.give_up(changes, direction, deadline);
                failure(0, why)
            })?;
        } else {
            // Without versions one document at a time, so that the first refusal is the last.
            for (idx, (document, edits)) in edits.into_iter().enumerate() {
                let uri = identifier(&document).uri;
                let edit = lsp::WorkspaceEdit {
                    changes: Some(HashMap::from([(uri, edits)])),
                    ..lsp::WorkspaceEdit::default()
                };
                self.ask(edit, deadline).map_err(|why| {
                    self.give_up(&changes[idx..=idx], direction, deadline);
                    failure(idx, why)
                })?;
                self.confirm(&changes[idx], &expectations[idx], deadline)
                    .map_err(|why| failure(idx, why))?;
            }
        }
        for (idx, change) in changes.iter().enumerate() {
            self.confirm(change, &expectations[idx], deadline)
                .map_err(|why| {
                    self.give_up(&changes[idx..], direction, deadline);
                    failure(idx, why)
                })?;
        }
        Ok(())
    }
}

fn identifier(document: &Document) -> lsp::TextDocumentIdentifier {
    lsp::TextDocumentIdentifier {
        uri: lsp::Uri(document.uri.to_string()),
    }
}

/// The line ranges that differ, as byte ranges of `before` and their new text.
fn smallest(before: &str, after: &str) -> Vec<(Range<usize>, String)> {
    let decode = |text: &str| Text::decode(text.as_bytes().to_vec(), Breaks::Lf).ok();
    let (Some(old), Some(new)) = (decode(before), decode(after)) else {
        return vec![(0..before.len(), after.to_owned())];
    };
    let (old_lines, new_lines) = (old.raw_lines(), new.raw_lines());
    let starts: Vec<usize> = std::iter::once(old.bom().len())
        .chain(old_lines.iter().scan(old.bom().len(), |at, line| {
            *at += line.len();
            Some(*at)
        }))
        .collect();
    diff(&old_lines, &new_lines)
        .into_iter()
        .map(|change| {
            let text: Vec<u8> = new_lines[change.after].concat();
            (
                starts[change.before.start]..starts[change.before.end],
                String::from_utf8_lossy(&text).into_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_differ_are_sent() {
        let edits = smallest("one\ntwo\nthree\n", "one\n2\nthree\nfour\n");
        assert_eq!(edits, [(4..8, "2\n".into()), (14..14, "four\n".into())]);
    }

    #[test]
    fn a_last_line_without_an_end_can_grow() {
        assert_eq!(smallest("a", "a\nb"), [(0..1, "a\nb".into())]);
        assert_eq!(smallest("", "a"), [(0..0, "a".into())]);
    }
}
