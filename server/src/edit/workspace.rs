//! One workspace folder with its proposals, its journal and its tokens: what faces call.
//!
//! Holds: one change at a time per folder, also between processes, by a lock on a file that the
//! system lets go of when its holder dies. Whoever has it finishes what was cut off before doing
//! anything else. Asking the same thing twice under one request key does it once.
//! Not here: LSP, the command line, reading settings.

mod review;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use self::review::Proposals;
use super::disk::Root;
use super::hunks::{Conflict, Proposal};
use super::journal::{self, Entry, Image, Kind, Purpose, Retention, State, Token};
use super::parse::EditSet;
use super::path::RepoPath;
use super::plan::{Options, plan};
use super::rollback::{self, Mode};
use super::transaction::{Failure, commit, sweep, take_back};
use super::worlds::{Documents, NoDocuments, Worlds};
use super::{Refusal, disk};
use crate::store::{Store, StoreError};

#[derive(Debug)]
pub struct Workspace {
    root: Root,
    store: Arc<Store>,
    lock: Mutex<File>,
    proposals: Proposals,
    /// Transactions that left no temporary file, which the next one writes down.
    swept: Mutex<Vec<Token>>,
    retention: Retention,
    /// Transactions since what is kept was last cut down to that, and their bytes.
    unchecked: Mutex<(usize, usize)>,
}

/// Transactions, and the part of the bytes that are kept, after which it is cut down again.
const CHECKED_AFTER: usize = 64;
const CHECKED_PART: i64 = 16;

/// Why a workspace cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} cannot be opened: {why}")]
    Root { path: PathBuf, why: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} cannot be locked: {why}")]
    Lock { path: PathBuf, why: io::Error },
    #[error(
        "an edit that was cut off here cannot be taken back: {0}; mend that and open the folder again"
    )]
    Recovery(Box<Failure>),
}

/// Why a request about hunks or tokens was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("{}", refusals(.0))]
    Refused(Vec<Refusal>),
    #[error("{}", conflicts(.0))]
    Conflicts(Vec<Conflict>),
    #[error("there is no hunk {0}; it may belong to a proposal that was decided long ago")]
    UnknownHunk(String),
    #[error("there is no proposal {0}")]
    UnknownProposal(String),
    #[error("there is no rollback token {0} in this workspace")]
    UnknownToken(String),
    #[error("the bytes behind rollback token {0} are no longer kept")]
    Expired(Token),
    #[error("what rollback token {0} stands for failed, and left nothing to take back")]
    NothingDone(Token),
    #[error("{} is no longer the folder that was opened; open it again", .0.display())]
    Replaced(PathBuf),
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Which hunks of which proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// All that are undecided, of one proposal.
    Proposal(String),
    /// All that are undecided, in one file of any proposal.
    File(RepoPath),
    Hunks(Vec<String>),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `None` when no bytes had to change.
    pub rollback_token: Option<Token>,
    /// Ids of the hunks that are decided now.
    pub hunks: Vec<String>,
    /// Files that changed.
    pub paths: Vec<String>,
    /// What was left out, where the caller asked for the rest.
    pub conflicts: Vec<Conflict>,
}

/// A file beside what its undecided hunks would make of it, as bytes; `None` where no file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

impl Workspace {
    /// Opens a folder, with its state below `state`, and finishes what a crash cut off.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path, state: &Path) -> Result<Self, OpenError> {
        let broken = |why| OpenError::Root {
            path: folder.to_owned(),
            why,
        };
        let folder = folder.canonicalize().map_err(broken)?;
        let directory = directory_of(&folder, state);
        let store = Arc::new(Store::open(&directory)?);
        let root = Root::open(&folder, Some(state)).map_err(broken)?;
        let lock_path = directory.join("edits.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|why| OpenError::Lock {
                path: lock_path,
                why,
            })?;
        let workspace = Self {
            root,
            store,
            lock: Mutex::new(lock),
            proposals: Proposals::default(),
            swept: Mutex::default(),
            retention: Retention::default(),
            unchecked: Mutex::default(),
        };
        workspace.recover()?;
        workspace.refresh(None)?;
        Ok(workspace)
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The database of this folder, which other parts of the program keep their rows in too.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Refuses what would go into a folder that was moved away or removed.
    fn check_place(&self) -> Result<(), EditError> {
        match self.root.is_at(self.root.path()) {
            true => Ok(()),
            false => Err(EditError::Replaced(self.root.path().to_owned())),
        }
    }

    pub(super) fn was_swept(&self, token: Token) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        swept.push(token);
    }

    /// Counts a transaction with all its bytes, and from time to time forgets what is too much.
    pub(super) fn was_kept(&self, n_bytes: usize) {
        let mut unchecked = self
            .unchecked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unchecked.0 += 1;
        unchecked.1 += n_bytes;
        let part = usize::try_from(self.retention.bytes / CHECKED_PART).unwrap_or(usize::MAX);
        if unchecked.0 < CHECKED_AFTER && unchecked.1 < part {
            return;
        }
        *unchecked = (0, 0);
        if let Err(why) = journal::expire(&self.store, self.retention) {
            tracing::warn!(%why, "old edits are not forgotten");
        }
    }

    pub(super) fn take_swept(&self) -> Vec<Token> {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut swept)
    }

    /// Takes back what was cut off, and cleans up after what was not.
    fn recover(&self) -> Result<(), OpenError> {
        let _lock = self.exclusive().map_err(|why| OpenError::Lock {
            path: self.store.directory().to_owned(),
            why,
        })?;
        let failed = |why: Failure| OpenError::Recovery(Box::new(why));
        self.finish_cut_off(&NoDocuments).map_err(failed)?;
        for entry in journal::unswept(&self.store)? {
            let records = journal::records(&self.store, &entry.token)?;
            match sweep(&self.root, &entry.token, &records) {
                Ok(()) => journal::swept(&self.store, &entry.token)?,
                Err(why) => tracing::warn!(%why, "a temporary file is left"),
            }
        }
        journal::expire(&self.store, self.retention)?;
        Ok(())
    }

    /// Takes back what was begun and neither done nor undone. The caller holds the lock, so nobody
    /// works on it any more: its process died, or could not write the journal.
    fn finish_cut_off(&self, documents: &dyn Documents) -> Result<(), Failure> {
        for entry in journal::begun(&self.store)? {
            let records = journal::records(&self.store, &entry.token)?;
            let (token, directories) = (&entry.token, &entry.directories);
            let foreign = take_back(&self.root, documents, token, &records, directories)?;
            for path in foreign {
                tracing::warn!(%path, token = %entry.token, "was written by something else after an edit was cut off; left as it is");
            }
            journal::undo(&self.store, &entry.token)?;
            tracing::info!(token = %entry.token, "took back an edit that was cut off");
        }
        Ok(())
    }

    /// Waits until no other change is under way, here or in another process.
    fn exclusive(&self) -> io::Result<Exclusive<'_>> {
        let file = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        file.lock()?;
        Ok(Exclusive { file })
    }

    /// As [`exclusive`](Self::exclusive), with nothing half done and every proposal as it is kept.
    fn exclusively(&self, documents: &dyn Documents) -> Result<Exclusive<'_>, EditError> {
        let lock = self.exclusive().map_err(Failure::Journal)?;
        self.check_place()?;
        self.finish_cut_off(documents)?;
        self.refresh(None).map_err(Failure::Store)?;
        Ok(lock)
    }

    /// Plans an answer's edits without keeping them.
    ///
    /// # Errors
    /// [`EditError::Refused`] with what is wrong with each file's edits.
    pub fn preview(
        &self,
        documents: &dyn Documents,
        edits: &EditSet,
        options: &Options<'_>,
        author: &str,
        step: Option<&str>,
    ) -> Result<Proposal, EditError> {
        self.check_place()?;
        let tree = Worlds::new(&self.root, documents);
        let plan = plan(edits, &tree, options).map_err(EditError::Refused)?;
        Ok(Proposal::new(
            plan,
            author.to_owned(),
            step.map(str::to_owned),
        ))
    }

    /// The last transactions, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn history(&self, most: usize) -> Result<Vec<Entry>, StoreError> {
        journal::recent(&self.store, most)
    }

    /// Whether the journal knows a token.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn has_token(&self, token: &str) -> Result<bool, StoreError> {
        match Token::parse(token) {
            Some(token) => Ok(journal::entry(&self.store, &token)?.is_some()),
            None => Ok(false),
        }
    }

    /// Whether something was done under a request key.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn has_done(&self, request: &str) -> Result<bool, EditError> {
        Ok(self.done_before(Some(request))?.is_some())
    }

    /// The last transaction that stands: the one that "undo" means.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn last(&self) -> Result<Option<Entry>, StoreError> {
        journal::last(&self.store)
    }

    fn look(&self, documents: &dyn Documents, path: &RepoPath) -> Result<Option<Image>, EditError> {
        let found = self.root.read(path).map_err(Failure::Disk)?;
        let on_disk = match found {
            disk::Content::File(file) => Some(Image {
                bytes: file.bytes,
                mode: file.mode,
            }),
            disk::Content::Missing => None,
            disk::Content::Directory => {
                return Err(EditError::Failed(Failure::Disk(
                    disk::DiskError::IsDirectory {
                        path: path.to_string(),
                    },
                )));
            }
        };
        Ok(match documents.open(path) {
            Some(open) => Some(Image {
                bytes: open.text.into_bytes(),
                mode: on_disk.map_or(0, |i| i.mode),
            }),
            None => on_disk,
        })
    }

    /// Takes back what a token did. The outcome's token takes that back in turn.
    ///
    /// A token that was rolled back before answers as it did then, unless that was rolled back in
    /// turn or left something for its conflicts.
    ///
    /// # Errors
    /// [`EditError`]; nothing was changed then.
    pub fn rollback(
        &self,
        documents: &dyn Documents,
        token: &str,
        mode: Mode,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        let unknown = || EditError::UnknownToken(token.to_owned());
        let token = Token::parse(token).ok_or_else(unknown)?;
        let _lock = self.exclusively(documents)?;
        if let Some(done) = self.done_before(request)? {
            return Ok(done);
        }
        let entry = journal::entry(&self.store, &token)
            .map_err(Failure::Store)?
            .ok_or_else(unknown)?;
        let (entry, is_taken_back) = self.turned(entry).map_err(Failure::Store)?;
        if is_taken_back {
            return Ok(outcome_of(&entry));
        }
        match entry.state {
            State::Done => {}
            State::Expired => return Err(EditError::Expired(token)),
            State::Begun | State::Undone => return Err(EditError::NothingDone(token)),
        }
        let records = journal::records(&self.store, &entry.token).map_err(Failure::Store)?;
        let undoing = rollback::undoing(&self.root, documents, &records).map_err(Failure::Disk)?;
        let told = |(_, conflict): &(_, Conflict)| conflict.clone();
        let conflicts: Vec<Conflict> = undoing.conflicts.iter().map(told).collect();
        let is_rest_wanted = mode == Mode::CleanOnly && !undoing.wanted.is_empty();
        if !conflicts.is_empty() && !is_rest_wanted {
            return Err(EditError::Conflicts(conflicts));
        }
        let paths: Vec<String> = undoing.wanted.iter().map(|w| w.path.to_string()).collect();
        let taken_back = self
            .taken_back(&entry, &records, &undoing.conflicts)
            .map_err(Failure::Store)?;
        let hunks = match conflicts.is_empty() {
            true => entry.hunks.clone(),
            false => taken_back.hunks.iter().map(|d| d.hunk.clone()).collect(),
        };
        let purpose = Purpose {
            kind: Kind::Rollback,
            author: entry.author.clone(),
            proposal: entry.proposal.clone(),
            hunks: hunks.clone(),
            undoes: Some(entry.token.clone()),
            conflicts: conflicts.clone(),
            request: request.map(str::to_owned),
        };
        let notes = review::notes_of_rollback(&entry, &taken_back);
        let redo = commit(self, documents, &purpose, undoing.wanted, &notes)?;
        for directory in entry.directories.iter().rev() {
            self.root.remove_directory(directory);
        }
        self.refresh_decided();
        Ok(Outcome {
            rollback_token: Some(redo),
            hunks,
            paths,
            conflicts,
        })
    }

    /// The last of those that took a transaction back and did it again by turns, and whether it is
    /// taken back by that.
    fn turned(&self, entry: Entry) -> Result<(Entry, bool), StoreError> {
        let (mut last, mut is_taken_back) = (entry, false);
        while let Some(by) = &last.undone_by {
            let Some(by) = journal::entry(&self.store, by)? else {
                break;
            };
            (last, is_taken_back) = (by, !is_taken_back);
        }
        Ok((last, is_taken_back))
    }

    /// What was done under this request key before.
    fn done_before(&self, request: Option<&str>) -> Result<Option<Outcome>, EditError> {
        let Some(request) = request else {
            return Ok(None);
        };
        let entry = journal::by_request(&self.store, request).map_err(Failure::Store)?;
        if let Some(entry) = entry.filter(|e| e.state == State::Done) {
            return Ok(Some(outcome_of(&entry)));
        }
        let noted = journal::noted(&self.store, request).map_err(Failure::Store)?;
        Ok(noted.map(|hunks| Outcome {
            rollback_token: None,
            hunks,
            paths: Vec::new(),
            conflicts: Vec::new(),
        }))
    }
}

/// Holds the lock until dropped.
struct Exclusive<'w> {
    file: MutexGuard<'w, File>,
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// The folder's own directory below `state`: readable, and told apart from others of its name.
pub fn directory_of(folder: &Path, state: &Path) -> PathBuf {
    let hash = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    let name: String = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '_'
            }
        })
        .take(40)
        .collect();
    state
        .join("workspaces")
        .join(format!("{name}-{}", &hash[..16]))
}

fn outcome_of(entry: &Entry) -> Outcome {
    Outcome {
        rollback_token: Some(entry.token.clone()),
        hunks: entry.hunks.clone(),
        paths: entry.paths.clone(),
        conflicts: entry.conflicts.clone(),
    }
}

fn refusals(refused: &[Refusal]) -> String {
    let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn conflicts(conflicts: &[Conflict]) -> String {
    let lines: Vec<String> = conflicts
        .iter()
        .map(|c| match c.lines.is_empty() && c.base.is_empty() {
            true => format!("{}: was changed by somebody else; left as it is", c.path),
            false => format!(
                "{}: lines {} to {} were changed by somebody else; left as they are",
                c.path,
                c.lines.start + 1,
                c.lines.end.max(c.lines.start + 1)
            ),
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
