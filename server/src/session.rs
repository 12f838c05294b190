//! What the editor has open: documents, workspace folders, the last edits.
//!
//! Holds: changed only by notifications, in the order in which they arrive; everything else reads
//! an immutable [`Snapshot`]. No lock is held across an await, and none for longer than it takes
//! to copy some pointers.
//! Not here: LSP types (`lsp::convert`), files that are not open.

pub mod document;
pub mod language;
pub mod rewrite;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustc_hash::FxHashMap;

use document::{Change, Document, Edit, PositionEncoding};
use rewrite::{Rewrite, Rewrites};

/// Places of the last edits that are remembered.
const EDIT_SITES: usize = 16;
/// Edits at most this many lines apart are one site.
const SITE_LINES: usize = 6;

/// A place the user worked at, kept true while text above it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditSite {
    pub uri: Arc<str>,
    pub line: usize,
}

/// Everything open at one moment. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Open documents, most recently used first.
    pub documents: Arc<[Arc<Document>]>,
    /// Workspace folders, outermost first as the client named them.
    pub roots: Arc<[PathBuf]>,
    /// Places of the last edits, newest first.
    pub edits: Arc<[EditSite]>,
    /// What was rewritten last, newest first.
    pub rewrites: Arc<[Rewrite]>,
    pub encoding: PositionEncoding,
}

impl Snapshot {
    pub fn document(&self, uri: &str) -> Option<&Arc<Document>> {
        self.documents.iter().find(|d| &*d.uri == uri)
    }

    /// Returns `path` as seen from the workspace folder it lies in; files outside keep their name
    /// alone, so that nothing about the machine's folders is told to a model.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        let inside = self
            .roots
            .iter()
            .filter_map(|root| path.strip_prefix(root).ok());
        let name = || path.file_name().map_or(path, Path::new);
        inside
            .min_by_key(|p| p.as_os_str().len())
            .unwrap_or_else(name)
    }
}

/// The single writer's state.
#[derive(Debug, Default)]
pub struct Session {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    documents: FxHashMap<Arc<str>, Arc<Document>>,
    /// Uris of `documents`, most recently used first.
    recent: Vec<Arc<str>>,
    roots: Vec<PathBuf>,
    edits: VecDeque<EditSite>,
    rewrites: Rewrites,
    encoding: PositionEncoding,
    /// The last snapshot handed out, while nothing has changed since.
    published: Option<Snapshot>,
}

/// What a `didChange` did.
#[derive(Debug)]
pub struct Changed {
    pub document: Arc<Document>,
    /// In the order of application; each is relative to the text after the one before.
    pub edits: Vec<Edit>,
    /// The version before.
    pub previous: i32,
}

impl Session {
    pub fn set_encoding(&self, encoding: PositionEncoding) {
        self.change_state(|state| state.encoding = encoding);
    }

    pub fn set_roots(&self, roots: Vec<PathBuf>) {
        self.change_state(|state| state.roots = roots);
    }

    /// Adds a document; opening one that is open replaces it.
    pub fn open(&self, document: Document) -> Arc<Document> {
        let document = Arc::new(document);
        self.change_state(|state| {
            state.rewrites.forget(&document.uri);
            state
                .documents
                .insert(Arc::clone(&document.uri), Arc::clone(&document));
            state.touch(&document.uri);
        });
        document
    }

    /// Applies the changes of one `didChange`; `None` when the document is not open.
    pub fn change(&self, uri: &str, version: i32, changes: &[Change]) -> Option<Changed> {
        self.change_state(|state| {
            let encoding = state.encoding;
            let shared = state.documents.get_mut(uri)?;
            let document = Arc::make_mut(shared);
            let previous = document.version;
            document.version = version;
            let mut edits = Vec::with_capacity(changes.len());
            for change in changes {
                let before = document.text.clone();
                let edit = document.apply(change, encoding);
                state.rewrites.note(document, &before, &edit);
                edits.push(edit);
            }
            let document = Arc::clone(shared);
            for edit in &edits {
                state.note_edit(&document.uri, edit);
            }
            state.touch(&document.uri);
            Some(Changed {
                document,
                edits,
                previous,
            })
        })
    }

    /// Forgets a document; `false` when it was not open.
    pub fn close(&self, uri: &str) -> bool {
        self.change_state(|state| {
            state.recent.retain(|u| &**u != uri);
            state.rewrites.forget(uri);
            state.documents.remove(uri).is_some()
        })
    }

    /// Notes that the user looks at a document now.
    pub fn focus(&self, uri: &str) {
        self.change_state(|state| {
            if let Some((uri, _)) = state.documents.get_key_value(uri) {
                let uri = Arc::clone(uri);
                state.touch(&uri);
            }
        });
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.lock();
        if let Some(published) = &state.published {
            return published.clone();
        }
        let documents = state
            .recent
            .iter()
            .filter_map(|uri| state.documents.get(uri).cloned());
        let snapshot = Snapshot {
            documents: documents.collect(),
            roots: state.roots.clone().into(),
            edits: state.edits.iter().cloned().collect(),
            rewrites: state.rewrites.list(),
            encoding: state.encoding,
        };
        state.published = Some(snapshot.clone());
        snapshot
    }

    /// Tells about all open documents, the most recently used last, somebody who hears of changes as
    /// well, while they may come: what was changed or closed meanwhile is told again, so that the
    /// last that is told of a document is how it is.
    pub fn tell_open(&self, edited: impl Fn(&Document), closed: impl Fn(&Document)) {
        let mut told: Arc<[Arc<Document>]> = Arc::default();
        loop {
            let open = self.snapshot().documents;
            let is_told = |document: &&Arc<Document>| told.iter().any(|t| Arc::ptr_eq(t, document));
            let news: Vec<_> = open.iter().rev().filter(|d| !is_told(d)).collect();
            let is_open = |document: &&Arc<Document>| open.iter().any(|d| d.uri == document.uri);
            let gone: Vec<_> = told.iter().filter(|d| !is_open(d)).collect();
            if news.is_empty() && gone.is_empty() {
                return;
            }
            for document in news {
                edited(document);
            }
            for document in gone {
                closed(document);
            }
            told = open;
        }
    }

    fn change_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        state.published = None;
        change(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while changing the state is contained to one message; what was changed stays.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn touch(&mut self, uri: &Arc<str>) {
        if self.recent.first() == Some(uri) {
            return;
        }
        self.recent.retain(|u| u != uri);
        self.recent.insert(0, Arc::clone(uri));
    }

    fn note_edit(&mut self, uri: &Arc<str>, edit: &Edit) {
        self.edits.retain_mut(|site| {
            if site.uri != *uri {
                return true;
            }
            if site.line > edit.line {
                site.line = site
                    .line
                    .saturating_add_signed(edit.line_delta)
                    .max(edit.line);
            }
            site.line.abs_diff(edit.line) > SITE_LINES
        });
        self.edits.push_front(EditSite {
            uri: Arc::clone(uri),
            line: edit.line,
        });
        self.edits.truncate(EDIT_SITES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use document::Position;

    fn opened(session: &Session, uri: &str, text: &str) {
        session.open(Document::new(uri, "rust", 1, text));
    }

    fn insert(line: u32, text: &str) -> Change {
        let at = Position { line, column: 0 };
        Change {
            range: Some(at..at),
            text: text.into(),
        }
    }

    fn uris(session: &Session) -> Vec<String> {
        session
            .snapshot()
            .documents
            .iter()
            .map(|d| d.uri.to_string())
            .collect()
    }

    #[test]
    fn a_snapshot_never_changes() {
        let session = Session::default();
        opened(&session, "file:///a", "one");
        let before = session.snapshot();
        session.change("file:///a", 2, &[insert(0, "X")]).unwrap();
        assert_eq!(
            before.document("file:///a").unwrap().text.to_string(),
            "one"
        );
        let after = session.snapshot();
        let document = after.document("file:///a").unwrap();
        assert_eq!(
            (document.version, document.text.to_string()),
            (2, "Xone".into())
        );
    }

    #[test]
    fn documents_are_listed_by_recent_use() {
        let session = Session::default();
        for name in ["file:///a", "file:///b", "file:///c"] {
            opened(&session, name, "");
        }
        session.focus("file:///a");
        assert_eq!(uris(&session), ["file:///a", "file:///c", "file:///b"]);
        session.change("file:///b", 2, &[insert(0, "x")]);
        session.focus("file:///not-open");
        assert_eq!(uris(&session), ["file:///b", "file:///a", "file:///c"]);
        assert!(session.close("file:///a") && !session.close("file:///a"));
        assert_eq!(uris(&session), ["file:///b", "file:///c"]);
    }

    #[test]
    fn what_changes_while_documents_are_told_of_is_told_again() {
        let session = Session::default();
        for name in ["file:///a", "file:///b", "file:///c"] {
            opened(&session, name, "one");
        }
        let told = std::cell::RefCell::new(Vec::new());
        let tell = |what: &str, document: &Document| {
            let mut told = told.borrow_mut();
            told.push(format!("{what} {} {}", document.uri, document.version));
            told.len()
        };
        let edited = |document: &Document| {
            // As the messages of the editor do.
            match tell("edited", document) {
                1 => assert!(session.change("file:///a", 2, &[insert(0, "x")]).is_some()),
                2 => assert!(session.close("file:///b")),
                3 => opened(&session, "file:///d", "new"),
                _ => {}
            }
        };
        session.tell_open(edited, |document| {
            tell("closed", document);
        });
        let expected = [
            "edited file:///a 1",
            "edited file:///b 1",
            "edited file:///c 1",
            "edited file:///a 2",
            "edited file:///d 1",
            "closed file:///b 1",
        ];
        assert_eq!(*told.borrow(), expected);
    }

    #[test]
    fn a_change_to_a_closed_document_does_nothing() {
        let session = Session::default();
        assert!(session.change("file:///a", 2, &[insert(0, "x")]).is_none());
    }

    #[test]
    fn edit_sites_move_with_the_text_and_join_when_near() {
        let session = Session::default();
        opened(&session, "file:///a", &"\n".repeat(100));
        session.change("file:///a", 2, &[insert(50, "x")]).unwrap();
        session.change("file:///a", 3, &[insert(52, "y")]).unwrap();
        session
            .change("file:///a", 4, &[insert(10, "1\n2\n3\n")])
            .unwrap();
        let lines: Vec<usize> = session.snapshot().edits.iter().map(|s| s.line).collect();
        assert_eq!(lines, [10, 55]);
    }

    #[test]
    fn paths_outside_every_root_are_known_by_their_name_alone() {
        let session = Session::default();
        session.set_roots(vec!["/w".into(), "/w/inner".into()]);
        let snapshot = session.snapshot();
        assert_eq!(
            snapshot.relative(Path::new("/w/src/a.rs")),
            Path::new("src/a.rs")
        );
        assert_eq!(
            snapshot.relative(Path::new("/w/inner/a.rs")),
            Path::new("a.rs")
        );
        assert_eq!(
            snapshot.relative(Path::new("/home/me/secret/a.rs")),
            Path::new("a.rs")
        );
    }
}
