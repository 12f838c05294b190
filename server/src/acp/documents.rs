//! Files as the client has them, by `fs/read_text_file` and `fs/write_text_file`.
//!
//! Holds: a text that the client has and the disk has not is the file: it is read, and changed
//! through the client, never behind its back. What is saved there is on the disk, where it is
//! written as everywhere else. A client's word that it wrote something counts once it reads so. One
//! that does not answer is not asked again. The protocol does not tell which files are open: a text
//! that nobody asked for by name is not known to be unsaved, and looking through many files asks
//! about those alone that are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::connection::Connection;
use crate::edit::disk::Content;
use crate::edit::follow::Followed;
use crate::edit::path::RepoPath;
use crate::edit::workspace::Workspace;
use crate::edit::worlds::{DocumentChange, DocumentFailure, Documents, Open};

/// How long a client may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client does with files for us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Files {
    /// Reads the parameters of `initialize`.
    pub(super) fn of(params: &Value) -> Self {
        let offers = |name: &str| params["clientCapabilities"]["fs"][name] == true;
        Self {
            read: offers("readTextFile"),
            write: offers("writeTextFile"),
        }
    }
}

/// The files of one session. Lives on threads that may wait.
pub(super) struct ClientDocuments {
    connection: Connection,
    session: String,
    files: Files,
    workspace: Arc<Workspace>,
    /// The folder as the client spells it.
    root: PathBuf,
    runtime: Handle,
    /// Texts that are not on the disk, or were changed through the client: whether they were.
    known: Mutex<BTreeMap<RepoPath, bool>>,
    n_read: AtomicI32,
    is_silent: AtomicBool,
}

impl ClientDocuments {
    /// Call it within a tokio runtime.
    pub(super) fn new(
        connection: Connection,
        session: String,
        files: Files,
        workspace: Arc<Workspace>,
        root: PathBuf,
    ) -> Self {
        Self {
            connection,
            session,
            files,
            workspace,
            root,
            runtime: Handle::current(),
            known: Mutex::default(),
            n_read: AtomicI32::new(0),
            is_silent: AtomicBool::new(false),
        }
    }

    /// Asks the client; `None` when it refuses, or does not answer.
    fn ask(&self, method: &str, path: &RepoPath, content: Option<&str>) -> Option<Value> {
        if self.is_silent.load(Ordering::Relaxed) {
            return None;
        }
        let mut params = json!({ "sessionId": self.session, "path": path.under(&self.root) });
        if let Some(content) = content {
            params["content"] = content.into();
        }
        let asked = self.connection.ask(method, &params);
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, asked).await });
        answer.unwrap_or_else(|_| {
            tracing::warn!("the client did not answer {method}; files are read from the disk");
            self.is_silent.store(true, Ordering::Relaxed);
            None
        })
    }

    /// The text that the client has of a file.
    fn read(&self, path: &RepoPath) -> Option<String> {
        if !self.files.read {
            return None;
        }
        let mut answer = self.ask("fs/read_text_file", path, None)?;
        match answer["content"].take() {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn is_saved(&self, path: &RepoPath, text: &str) -> bool {
        match self.workspace.root().read(path) {
            Ok(Content::File(file)) => match String::from_utf8(file.bytes) {
                Ok(saved) => reads_the_same(&saved, text),
                // In another encoding, which the client has read in its own way.
                Err(_) => true,
            },
            Ok(Content::Missing) => text.is_empty(),
            Ok(Content::Directory) | Err(_) => true,
        }
    }

    fn change_one(&self, change: &DocumentChange) -> Result<(), String> {
        let path = &change.path;
        if !self.files.write {
            return Err("has changes in the editor that are not saved".into());
        }
        match self.read(path) {
            Some(now) if reads_the_same(&now, &change.before) => {}
            Some(_) => return Err("was changed in the editor meanwhile".into()),
            None => return Err("is not read by the editor any more".into()),
        }
        // Whatever comes of it, what is there now is asked of the client.
        self.known().insert(path.clone(), true);
        let written = self.ask("fs/write_text_file", path, Some(&change.after));
        match self.read(path) {
            Some(now) if reads_the_same(&now, &change.after) => Ok(()),
            _ if written.is_none() => Err("was not written by the editor".into()),
            _ => Err("does not read as it was to be written by the editor".into()),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<RepoPath, bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Documents for ClientDocuments {
    fn open(&self, path: &RepoPath) -> Option<Open> {
        let text = self.read(path)?;
        let is_saved = self.is_saved(path, &text);
        let mut known = self.known();
        let was_written = known.get(path).copied().unwrap_or(false);
        if is_saved && !was_written {
            known.remove(path);
            return None;
        }
        known.insert(path.clone(), was_written);
        let version = self.n_read.fetch_add(1, Ordering::Relaxed);
        Some(Open { text, version })
    }

    fn open_among_many(&self, path: &RepoPath) -> Option<Open> {
        let is_known = self.known().contains_key(path);
        is_known.then(|| self.open(path)).flatten()
    }

    fn all(&self) -> Vec<RepoPath> {
        self.known().keys().cloned().collect()
    }

    fn change(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        changes.iter().try_for_each(|change| {
            self.change_one(change).map_err(|why| DocumentFailure {
                path: change.path.clone(),
                why,
            })
        })
    }

    fn followed(&self, _: &RepoPath, _: &str) -> Option<Followed> {
        None
    }
}

/// Whether two texts are the same but for what editors keep apart from the text: how lines end, and
/// a mark at the beginning.
fn reads_the_same(one: &str, other: &str) -> bool {
    let lines = |text: &'_ str| {
        text.strip_prefix('\u{feff}')
            .unwrap_or(text)
            .replace("\r\n", "\n")
    };
    one == other || lines(one) == lines(other)
}
