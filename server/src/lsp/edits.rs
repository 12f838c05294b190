//! Hunks in the editor: proposals listed, previewed, decided and taken back.
//!
//! Holds: nothing here blocks the reader; work on files and the journal runs on threads that may
//! wait, one change at a time per folder. Lines of open documents are followed from the moment a
//! proposal is made for them. Everything a plugin can ask for is a command as well, so an editor
//! without one can review and undo.
//! Not here: what is decided and written (`edit::workspace`).

mod actions;
mod compare;
mod documents;
mod history;
mod requests;
mod shown;
mod wire;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ropey::Rope;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tower_lsp_server::gen_lsp_types::{LspNotificationMethod, MessageDirection, Notification};
use tower_lsp_server::jsonrpc;

use super::Server;
use crate::edit::follow::{Followed, LineEdit};
use crate::edit::path::RepoPath;
use crate::edit::workspace::Workspace;
use crate::edit::worlds::{DocumentChange, Documents};
use crate::session::Changed;
use crate::session::document::{Document, Edit};
pub(super) use actions::action;
pub(super) use documents::EditorDocuments;

pub(super) use requests::COMMANDS;

/// Earlier texts of a document whose lines are followed at most.
const MAX_FOLLOWED: usize = 64;

/// What the server keeps for edits.
#[derive(Debug)]
pub(super) struct Edits {
    workspaces: Mutex<FxHashMap<PathBuf, Arc<Workspace>>>,
    followed: Mutex<FxHashMap<Arc<str>, Bases>>,
    /// Texts that documents were asked to take on.
    expected: Mutex<Vec<Expected>>,
    /// Texts that documents may still take on by edits that were given up: uri, before, after.
    late: Mutex<VecDeque<(Arc<str>, String, String)>>,
    /// Counts messages about documents, so that one can be waited for.
    heard: watch::Sender<u64>,
}

/// A text that a document was asked to take on, until nobody waits for it any more.
#[derive(Debug)]
struct Expected {
    uri: Arc<str>,
    text: String,
    is_met: Weak<AtomicBool>,
}

/// Whether a document had the text that was asked for at any moment since.
#[derive(Debug)]
pub(super) struct Expectation(Arc<AtomicBool>);

impl Expectation {
    fn is_met(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Earlier texts of an open document, by hash, and what happened to their lines since.
#[derive(Debug)]
struct Bases {
    /// The text up to which they are followed, and the version that has it.
    text: Rope,
    version: i32,
    bases: VecDeque<(blake3::Hash, Followed)>,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            workspaces: Mutex::default(),
            followed: Mutex::default(),
            expected: Mutex::default(),
            late: Mutex::default(),
            heard: watch::channel(0).0,
        }
    }
}

impl Edits {
    /// Takes in what a `didChange` did.
    pub(super) fn changed(&self, changed: &Changed) {
        let document = &changed.document;
        let expected = self.expected_of(&document.uri);
        let mut followed = lock(&self.followed);
        match followed.get_mut(&document.uri) {
            Some(bases) if bases.version == changed.previous => {
                for edit in &changed.edits {
                    bases.edit(edit);
                    // The user may have typed on before the client tells: what was asked for is
                    // then a text on the way, and the lines typed since are followed from it.
                    if meet(&expected, &bases.text) {
                        bases.follow(hash_of(&bases.text));
                    }
                }
                bases.version = document.version;
            }
            // Something was missed: from now on texts are compared.
            Some(_) => drop(followed.remove(&document.uri)),
            None => {}
        }
        drop(followed);
        meet(&expected, &document.text);
        self.heard.send_modify(|n| *n += 1);
    }

    /// Forgets a document that was closed or opened anew.
    pub(super) fn forget(&self, uri: &str) {
        lock(&self.followed).remove(uri);
        self.heard.send_modify(|n| *n += 1);
    }

    /// Watches from now on whether a document takes on a text.
    fn expect(&self, uri: &Arc<str>, text: &str) -> Expectation {
        let is_met = Arc::new(AtomicBool::new(false));
        lock(&self.expected).push(Expected {
            uri: Arc::clone(uri),
            text: text.to_owned(),
            is_met: Arc::downgrade(&is_met),
        });
        Expectation(is_met)
    }

    /// The texts that are awaited of a document.
    fn expected_of(&self, uri: &str) -> Vec<(Arc<AtomicBool>, String)> {
        let mut expected = lock(&self.expected);
        expected.retain(|e| e.is_met.strong_count() > 0);
        let of_document = expected.iter().filter(|e| &*e.uri == uri);
        of_document
            .filter_map(|e| Some((e.is_met.upgrade()?, e.text.clone())))
            .collect()
    }

    /// Remembers an edit that the editor may do after all, though nobody waits for it any more.
    fn expect_late(&self, uri: &Arc<str>, before: String, after: String) {
        let mut late = lock(&self.late);
        late.push_back((Arc::clone(uri), before, after));
        if late.len() > MAX_FOLLOWED {
            late.pop_front();
        }
    }

    /// A new edit of a document makes up for those that were given up.
    fn forget_late(&self, uri: &str) {
        lock(&self.late).retain(|(late, ..)| &**late != uri);
    }

    /// The text a document had before an edit that was given up, if that is what it did just now.
    fn came_late(&self, document: &Document) -> Option<String> {
        let mut late = lock(&self.late);
        let is_it = |(uri, _, after): &(Arc<str>, String, String)| {
            *uri == document.uri && document.text == *after
        };
        let at = late.iter().position(is_it)?;
        late.remove(at).map(|(_, before, _)| before)
    }

    /// Follows the lines of a document from now on.
    fn follow(&self, document: &Document) {
        let mut followed = lock(&self.followed);
        let of_document = followed
            .entry(Arc::clone(&document.uri))
            .or_insert_with(|| Bases {
                text: document.text.clone(),
                version: document.version,
                bases: VecDeque::new(),
            });
        // A document that moved on since is not followed from a text it no longer has.
        if of_document.version == document.version {
            of_document.follow(hash_of(&document.text));
        }
    }

    fn followed(&self, uri: &str, text: &str) -> Option<Followed> {
        let hash = blake3::hash(text.as_bytes());
        let followed = lock(&self.followed);
        let bases = &followed.get(uri)?.bases;
        let (_, found) = bases.iter().rev().find(|(h, _)| *h == hash)?;
        Some(found.clone())
    }

    /// Opens the workspace of a folder, or returns the one that is open if it is still the one that
    /// is there. Reads the disk.
    fn workspace(&self, root: &Path, state: &Path) -> anyhow::Result<Arc<Workspace>> {
        let mut workspaces = lock(&self.workspaces);
        if let Some(open) = workspaces.get(root).filter(|open| open.root().is_at(root)) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(Workspace::open(root, state)?);
        workspaces.insert(root.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }
}

impl Bases {
    /// Follows the lines of the text as it is.
    fn follow(&mut self, hash: blake3::Hash) {
        if self.bases.iter().any(|(known, _)| *known == hash) {
            return;
        }
        self.bases.push_back((hash, Followed::default()));
        if self.bases.len() > MAX_FOLLOWED {
            self.bases.pop_front();
        }
    }

    fn edit(&mut self, edit: &Edit) {
        let Some(removed) = self
            .text
            .get_byte_slice(edit.start..edit.start + edit.removed)
        else {
            return;
        };
        let removed = removed.to_string();
        // Lines are counted as `edit::text` does: only `\n` ends one.
        let before = self.text.byte_slice(..edit.start);
        let line = before
            .chunks()
            .map(|c| memchr::memchr_iter(b'\n', c.as_bytes()).count())
            .sum();
        let is_at_start = edit.start == 0 || before.byte(edit.start - 1) == b'\n';
        let lines = LineEdit::of(line, is_at_start, &removed, &edit.inserted);
        self.bases.iter_mut().for_each(|(_, base)| base.edit(lines));
        let at = self.text.byte_to_char(edit.start);
        self.text.remove(at..at + removed.chars().count());
        self.text.insert(at, &edit.inserted);
    }
}

/// Marks what is awaited as met where it is this text; whether any is.
fn meet(expected: &[(Arc<AtomicBool>, String)], text: &Rope) -> bool {
    let mut is_any = false;
    for (is_met, awaited) in expected {
        if *text == awaited.as_str() {
            is_met.store(true, Ordering::Release);
            is_any = true;
        }
    }
    is_any
}

fn hash_of(text: &Rope) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    text.chunks().for_each(|chunk| {
        hasher.update(chunk.as_bytes());
    });
    hasher.finalize()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `pairwright/diff/changed`: hunks were proposed, decided, taken back or moved in these files.
pub(super) enum DiffChanged {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DiffChangedParams {
    pub(super) uris: Vec<String>,
}

impl Notification for DiffChanged {
    type Params = DiffChangedParams;
    const METHOD: LspNotificationMethod<'static> =
        LspNotificationMethod::Custom("pairwright/diff/changed");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl Server {
    /// Opens the workspaces of all folders, which finishes what a crash cut off.
    pub(super) fn recover_edits(&self) {
        let server = self.clone();
        tokio::task::spawn_blocking(move || {
            for root in server.session.snapshot().roots.iter() {
                if let Err(why) = server.workspace(root) {
                    tracing::error!("edits in {} cannot be done: {why:#}", root.display());
                }
            }
        });
    }

    pub(super) fn workspace(&self, root: &Path) -> anyhow::Result<Arc<Workspace>> {
        let state = self.settings.directories().state.as_deref();
        let state = state.ok_or_else(|| {
            anyhow::anyhow!("there is no home directory to keep the journal in; set XDG_STATE_HOME")
        })?;
        self.edits.workspace(root, state)
    }

    /// Runs `work` for a folder on a thread that may wait for the disk and for the editor.
    pub(super) async fn with_workspace<T: Send + 'static>(
        &self,
        root: PathBuf,
        work: impl FnOnce(&Workspace, &EditorDocuments) -> jsonrpc::Result<T> + Send + 'static,
    ) -> jsonrpc::Result<T> {
        let server = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let workspace = server
                .workspace(&root)
                .map_err(|why| failed(&format!("{why:#}")))?;
            let documents = EditorDocuments::new(server, root, workspace.root().path().to_owned());
            work(&workspace, &documents)
        });
        match done.await {
            Ok(done) => done,
            Err(why) => Err(failed(&why.to_string())),
        }
    }

    /// The editor's documents of a folder, for work that waits on a thread of its own.
    pub(super) fn documents(
        &self,
        root: &Path,
        workspace: &Workspace,
    ) -> Arc<dyn Documents + Send + Sync> {
        let canonical = workspace.root().path().to_owned();
        Arc::new(EditorDocuments::new(
            self.clone(),
            root.to_owned(),
            canonical,
        ))
    }

    /// Follows the lines of a proposal that was made elsewhere, and tells the client of it.
    pub(super) async fn review(&self, root: PathBuf, proposal: String) {
        let reviewing = self.with_workspace(root, move |workspace, documents| {
            let listed = workspace.list();
            let proposal = listed.iter().find(|known| known.id == proposal);
            let files = proposal.map_or(&[][..], |proposal| &proposal.files);
            let mut uris = Vec::new();
            for file in files {
                let path = file.moved_from.as_ref().unwrap_or(&file.path);
                documents.follow(path);
                uris.push(documents.uri(path));
            }
            documents.server().tell_hunks_changed(uris);
            Ok(())
        });
        if let Err(why) = reviewing.await {
            tracing::warn!("a proposal cannot be shown: {}", why.message);
        }
    }

    /// Takes back an edit that the editor did after it was given up.
    pub(super) fn take_back_late(&self, document: &Document) {
        let Some(before) = self.edits.came_late(document) else {
            return;
        };
        let Some((root, path)) = self.within(&document.uri) else {
            return;
        };
        let change = DocumentChange {
            path,
            version: document.version,
            before: document.text.to_string(),
            after: before,
        };
        let server = self.clone();
        tokio::task::spawn_blocking(move || {
            let documents = EditorDocuments::new(server, root.clone(), root);
            match documents.change_back(&[change]) {
                Ok(()) => tracing::warn!("the editor did an edit too late; it was taken back"),
                Err(why) => tracing::error!("an edit that came too late is still there: {why}"),
            }
        });
    }

    /// The folder of a request that names none: the first.
    pub(super) fn first_root(&self) -> jsonrpc::Result<PathBuf> {
        let roots = self.session.snapshot().roots;
        roots.first().cloned().ok_or_else(|| {
            jsonrpc::Error::invalid_params("no folder is open; edits are made within a folder")
        })
    }

    /// The folder a document lies in, and its path there.
    pub(super) fn within(&self, uri: &str) -> Option<(PathBuf, RepoPath)> {
        let path = crate::session::document::path_of(uri)?;
        let snapshot = self.session.snapshot();
        let inside = snapshot.roots.iter().filter_map(|root| {
            let rest = path.strip_prefix(root).ok()?.to_str()?;
            Some((root.clone(), RepoPath::parse(rest).ok()?))
        });
        inside.max_by_key(|(root, _)| root.as_os_str().len())
    }

    /// Tells the client that hunks changed in some files.
    pub(super) fn tell_hunks_changed(&self, uris: Vec<String>) {
        let server = self.clone();
        tokio::spawn(async move {
            if server.client_can().announced.hunks {
                let told = DiffChangedParams { uris };
                server.client.send_notification::<DiffChanged>(told).await;
            }
            if server.client_can().refreshes_lenses {
                // Nothing depends on whether the client did.
                let _ = server.client.code_lens_refresh().await;
            }
        });
    }
}

pub(super) fn failed(why: &str) -> jsonrpc::Error {
    jsonrpc::Error {
        code: jsonrpc::ErrorCode::ServerError(-32803),
        message: why.to_owned().into(),
        data: None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::edit::parse::{Format, parse};
    use crate::edit::plan::Options;
    use crate::edit::workspace::{Choice, EditError};
    use crate::edit::worlds::NoDocuments;

    const ANSWER: &str = "a.txt\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n";

    fn accept(workspace: &Workspace) -> Result<(), EditError> {
        let edits = parse(ANSWER, Format::Auto).unwrap();
        let options = Options::default();
        let proposal = workspace.propose(&NoDocuments, &edits, &options, "test", None)?;
        let choice = Choice::Proposal(proposal.id);
        workspace.accept(&NoDocuments, &choice, None).map(drop)
    }

    #[test]
    fn edits_go_into_the_folder_that_is_there_and_not_into_one_that_was_moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let [root, old, state] = ["work", "old", "state"].map(|name| directory.path().join(name));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.txt"), "a\n").unwrap();
        let edits = Edits::default();
        let held = edits.workspace(&root, &state).unwrap();
        assert!(Arc::ptr_eq(&held, &edits.workspace(&root, &state).unwrap()));
        fs::rename(&root, &old).unwrap();
        assert!(edits.workspace(&root, &state).is_err());
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.txt"), "a\nnew\n").unwrap();
        let refused = accept(&held).unwrap_err();
        assert!(matches!(refused, EditError::Replaced(_)), "{refused}");
        accept(&edits.workspace(&root, &state).unwrap()).unwrap();
        let read = |root: &Path| fs::read_to_string(root.join("a.txt")).unwrap();
        assert_eq!((&*read(&old), &*read(&root)), ("a\n", "b\nnew\n"));
    }
}
