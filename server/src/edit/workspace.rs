//! One workspace folder with its proposals, its journal and its tokens: what faces call.
//!
//! Holds: one change at a time per folder, also between processes, by a lock on a file that the
//! system lets go of when its holder dies. Opening a workspace finishes what a crash cut off.
//! Asking the same thing twice under one request key does it once.
//! Not here: LSP, the command line, reading settings.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::disk::Root;
use super::hunks::{Conflict, HunkState, Proposal, ProposedFile, What};
use super::journal::{self, Entry, Image, Kind, LogRow, Purpose, Retention, State, Token};
use super::parse::EditSet;
use super::path::RepoPath;
use super::plan::{Options, Plan, plan};
use super::rollback::{self, Mode};
use super::transaction::{Failure, Wanted, commit, sweep, take_back};
use super::worlds::{Documents, Worlds};
use super::{Refusal, disk};
use crate::store::{Store, StoreError};

/// Proposals with undecided hunks that are kept; the oldest give way.
const MAX_PROPOSALS: usize = 256;

#[derive(Debug)]
pub struct Workspace {
    root: Root,
    store: Arc<Store>,
    lock: Mutex<File>,
    proposals: Mutex<BTreeMap<String, Proposal>>,
    /// Transactions that left no temporary file, which the next one writes down.
    swept: Mutex<Vec<Token>>,
}

/// Why a workspace cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} cannot be opened: {why}")]
    Root { path: PathBuf, why: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} cannot be locked: {why}")]
    Lock { path: PathBuf, why: io::Error },
    #[error("what a crash left half done cannot be taken back: {0}")]
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
        let mut proposals = BTreeMap::new();
        for body in journal::open_proposals(&store)? {
            match serde_json::from_str::<Proposal>(&body) {
                Ok(proposal) => {
                    proposals.insert(proposal.id.clone(), proposal);
                }
                Err(why) => tracing::warn!(%why, "a kept proposal cannot be read and is left out"),
            }
        }
        let workspace = Self {
            root,
            store,
            lock: Mutex::new(lock),
            proposals: Mutex::new(proposals),
            swept: Mutex::default(),
        };
        workspace.recover()?;
        Ok(workspace)
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The database of this folder, which other parts of the program keep their rows in too.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn was_swept(&self, token: Token) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        swept.push(token);
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
        for entry in journal::begun(&self.store)? {
            let records = journal::records(&self.store, &entry.token)?;
            let foreign = take_back(&self.root, None, &entry.token, &records, &entry.directories)
                .map_err(failed)?;
            for path in foreign {
                tracing::warn!(%path, token = %entry.token, "was written by something else after a crash; left as it is");
            }
            journal::undo(&self.store, &entry.token)?;
            tracing::info!(token = %entry.token, "took back an edit that a crash cut off");
        }
        for entry in journal::unswept(&self.store)? {
            let records = journal::records(&self.store, &entry.token)?;
            match sweep(&self.root, &entry.token, &records) {
                Ok(()) => journal::swept(&self.store, &entry.token)?,
                Err(why) => tracing::warn!(%why, "a temporary file is left"),
            }
        }
        journal::expire(&self.store, Retention::default())?;
        Ok(())
    }

    /// Waits until no other change is under way, here or in another process.
    fn exclusive(&self) -> io::Result<Exclusive<'_>> {
        let file = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        file.lock()?;
        Ok(Exclusive { file })
    }

    fn exclusively(&self) -> Result<Exclusive<'_>, EditError> {
        self.exclusive()
            .map_err(|why| EditError::Failed(Failure::Journal(why)))
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
        let tree = Worlds {
            root: &self.root,
            documents,
        };
        let plan = plan(edits, &tree, options).map_err(EditError::Refused)?;
        Ok(Proposal::new(
            plan,
            author.to_owned(),
            step.map(str::to_owned),
        ))
    }

    /// Plans an answer's edits and keeps them to be decided.
    ///
    /// # Errors
    /// As [`preview`](Self::preview), and when they cannot be kept.
    pub fn propose(
        &self,
        documents: &dyn Documents,
        edits: &EditSet,
        options: &Options<'_>,
        author: &str,
        step: Option<&str>,
    ) -> Result<Proposal, EditError> {
        let proposal = self.preview(documents, edits, options, author, step)?;
        self.keep(&proposal, "propose", None, |_| true)?;
        let mut proposals = self.proposals();
        proposals.insert(proposal.id.clone(), proposal.clone());
        while proposals.len() > MAX_PROPOSALS {
            proposals.pop_first();
        }
        Ok(proposal)
    }

    /// Keeps a plan that was made elsewhere to be decided, under an id of the caller's. Proposing
    /// it again changes nothing: what was decided of it stays.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn propose_plan(
        &self,
        plan: Plan,
        id: &str,
        author: &str,
        step: Option<&str>,
    ) -> Result<Proposal, EditError> {
        if let Some(known) = self.proposals().get(id) {
            return Ok(known.clone());
        }
        let mut proposal = Proposal::new(plan, author.to_owned(), step.map(str::to_owned));
        id.clone_into(&mut proposal.id);
        self.keep(&proposal, "propose", None, |_| true)?;
        self.proposals()
            .insert(proposal.id.clone(), proposal.clone());
        Ok(proposal)
    }

    /// Proposals with undecided hunks, and those of this run that are decided, oldest first.
    pub fn list(&self) -> Vec<Proposal> {
        self.proposals().values().cloned().collect()
    }

    /// The last transactions, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn history(&self, most: usize) -> Result<Vec<Entry>, StoreError> {
        journal::recent(&self.store, most)
    }

    /// The last transaction that stands: the one that "undo" means.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn last(&self) -> Result<Option<Entry>, StoreError> {
        let recent = self.history(200)?;
        let stands =
            |e: &Entry| e.state == State::Done && e.undone_by.is_none() && e.kind != Kind::Rollback;
        Ok(recent.into_iter().find(stands))
    }

    /// Writes undecided hunks into their files: all of them, or none when one is in conflict.
    ///
    /// # Errors
    /// [`EditError`]; nothing was changed then.
    pub fn accept(
        &self,
        documents: &dyn Documents,
        choice: &Choice,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        self.decide(documents, choice, HunkState::Accepted, request)
    }

    /// Rejects hunks. Those that were accepted before are taken out of their files again.
    ///
    /// # Errors
    /// [`EditError`]; nothing was changed then.
    pub fn reject(
        &self,
        documents: &dyn Documents,
        choice: &Choice,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        self.decide(documents, choice, HunkState::Rejected, request)
    }

    fn decide(
        &self,
        documents: &dyn Documents,
        choice: &Choice,
        to: HunkState,
        request: Option<&str>,
    ) -> Result<Outcome, EditError> {
        let _lock = self.exclusively()?;
        if let Some(done) = self.done_before(request)? {
            return Ok(done);
        }
        let mut chosen = self.chosen(choice, to)?;
        let mut wanted = Vec::new();
        let mut conflicts = Vec::new();
        for (proposal, ids) in &chosen {
            for file in &proposal.files {
                if file.hunks.iter().any(|h| ids.contains(&h.id)) {
                    let change = self.change_of(documents, file, ids, to)?;
                    conflicts.extend(change.conflicts);
                    wanted.extend(change.wanted);
                }
            }
        }
        if !conflicts.is_empty() {
            return Err(EditError::Conflicts(conflicts));
        }
        wanted.retain(|w| w.before != w.after);
        let action = if to == HunkState::Accepted {
            "accept"
        } else {
            "reject"
        };
        let all_ids: Vec<String> = chosen.iter().flat_map(|(_, ids)| ids.clone()).collect();
        let paths: Vec<String> = wanted.iter().map(|w| w.path.to_string()).collect();
        let mut rollback_token = None;
        if let ([(first, _), ..], false) = (&chosen[..], wanted.is_empty()) {
            let purpose = Purpose {
                kind: if to == HunkState::Accepted {
                    Kind::Apply
                } else {
                    Kind::Reject
                },
                author: first.author.clone(),
                proposal: Some(first.id.clone()),
                hunks: all_ids.clone(),
                undoes: None,
                request: request.map(str::to_owned),
            };
            rollback_token = Some(commit(self, documents, &purpose, wanted, &[])?);
        }
        for (proposal, ids) in &mut chosen {
            for hunk in proposal.files.iter_mut().flat_map(|f| &mut f.hunks) {
                if ids.contains(&hunk.id) {
                    hunk.state = to;
                }
            }
            self.keep(proposal, action, rollback_token.as_ref(), |id| {
                ids.iter().any(|i| i == id)
            })?;
            self.proposals()
                .insert(proposal.id.clone(), proposal.clone());
        }
        Ok(Outcome {
            rollback_token,
            hunks: all_ids,
            paths,
            conflicts: Vec::new(),
        })
    }

    /// The proposals with hunks that `choice` means and that are not decided that way yet.
    fn chosen(
        &self,
        choice: &Choice,
        to: HunkState,
    ) -> Result<Vec<(Proposal, Vec<String>)>, EditError> {
        let proposals = self.proposals();
        let pending = |p: &Proposal, of: &dyn Fn(&ProposedFile) -> bool| -> Vec<String> {
            let hunks = p
                .hunks()
                .filter(|(f, h)| of(f) && h.state == HunkState::Pending);
            hunks.map(|(_, h)| h.id.clone()).collect()
        };
        let mut chosen = Vec::new();
        match choice {
            Choice::Proposal(id) => {
                let proposal = proposals
                    .get(id)
                    .ok_or_else(|| EditError::UnknownProposal(id.clone()))?;
                chosen.push((proposal.clone(), pending(proposal, &|_| true)));
            }
            Choice::File(path) => {
                for proposal in proposals.values() {
                    let ids = pending(proposal, &|f| {
                        f.path == *path || f.moved_from.as_ref() == Some(path)
                    });
                    chosen.push((proposal.clone(), ids));
                }
            }
            Choice::Hunks(ids) => {
                for id in ids {
                    // The same hunk may be proposed again after it was decided: the newest is meant.
                    let has = |p: &&Proposal| p.hunks().any(|(_, h)| h.id == *id);
                    let open = |p: &&Proposal| {
                        p.hunks()
                            .any(|(_, h)| h.id == *id && h.state == HunkState::Pending)
                    };
                    let proposal = proposals.values().rev().find(open);
                    let proposal = proposal.or_else(|| proposals.values().rev().find(has));
                    let Some(proposal) = proposal else {
                        return Err(EditError::UnknownHunk(id.clone()));
                    };
                    let is_decided = proposal.hunks().any(|(_, h)| h.id == *id && h.state == to);
                    if is_decided {
                        continue;
                    }
                    match chosen.iter_mut().find(|(p, _)| p.id == proposal.id) {
                        Some((_, ids)) => ids.push(id.clone()),
                        None => chosen.push((proposal.clone(), vec![id.clone()])),
                    }
                }
            }
        }
        chosen.retain(|(_, ids)| !ids.is_empty());
        Ok(chosen)
    }

    /// What deciding some hunks of one file asks to be written.
    fn change_of(
        &self,
        documents: &dyn Documents,
        file: &ProposedFile,
        ids: &[String],
        to: HunkState,
    ) -> Result<Change, EditError> {
        let is_in = |h: &super::hunks::Hunk| h.state == HunkState::Accepted;
        let becomes_in = |h: &super::hunks::Hunk| match ids.contains(&h.id) {
            true => to == HunkState::Accepted,
            false => is_in(h),
        };
        let (from, target) = (file.with(is_in), file.with(becomes_in));
        let mut change = Change::default();
        if from == target {
            return Ok(change);
        }
        let now = self.look(documents, &from.path)?;
        let conflict = || Conflict {
            path: from.path.clone(),
            hunks: ids.to_vec(),
            lines: 0..0,
            base: String::new(),
            current: String::new(),
            proposed: String::new(),
        };
        let after = match (&from.bytes, &now, &target.bytes) {
            // A new file where there is one by now, or a file that is gone.
            (None, Some(_), _) | (Some(_), None, _) => {
                change.conflicts.push(conflict());
                return Ok(change);
            }
            (None, None, _) => target.image(None),
            (Some(was), Some(now), None) => {
                if now.bytes != *was {
                    change.conflicts.push(conflict());
                    return Ok(change);
                }
                None
            }
            (Some(was), Some(now), Some(_)) => {
                let followed = std::str::from_utf8(was)
                    .ok()
                    .and_then(|was| documents.followed(&from.path, was));
                let carried = file.carry(&now.bytes, followed.as_ref(), is_in, becomes_in);
                change.conflicts.extend(carried.conflicts);
                let changes_mode = from.is_executable != target.is_executable;
                let mode = match changes_mode {
                    true => super::hunks::with_executable(now.mode, target.is_executable),
                    false => now.mode,
                };
                Some(Image {
                    bytes: carried.bytes,
                    mode,
                })
            }
        };
        if from.path == target.path {
            change.wanted.push(Wanted {
                path: target.path,
                moved_from: None,
                before: now,
                after,
            });
        } else {
            if self.look(documents, &target.path)?.is_some() {
                change.conflicts.push(conflict());
                return Ok(change);
            }
            change.wanted.push(Wanted {
                path: target.path,
                moved_from: Some(from.path.clone()),
                before: None,
                after,
            });
            change.wanted.push(Wanted {
                path: from.path,
                moved_from: None,
                before: now,
                after: None,
            });
        }
        Ok(change)
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
    /// A token that was rolled back before answers as it did then.
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
        let _lock = self.exclusively()?;
        if let Some(done) = self.done_before(request)? {
            return Ok(done);
        }
        let entry = journal::entry(&self.store, &token)
            .map_err(Failure::Store)?
            .ok_or_else(unknown)?;
        match entry.state {
            State::Done => {}
            State::Expired => return Err(EditError::Expired(token)),
            State::Begun | State::Undone => return Err(EditError::NothingDone(token)),
        }
        if let Some(by) = &entry.undone_by {
            let by = journal::entry(&self.store, by).map_err(Failure::Store)?;
            return Ok(by.map_or_else(|| outcome_of(&entry), |by| outcome_of(&by)));
        }
        let records = journal::records(&self.store, &token).map_err(Failure::Store)?;
        let undoing = rollback::undoing(&self.root, documents, &records).map_err(Failure::Disk)?;
        if !undoing.conflicts.is_empty() && mode == Mode::AllOrNothing {
            return Err(EditError::Conflicts(undoing.conflicts));
        }
        let paths: Vec<String> = undoing.wanted.iter().map(|w| w.path.to_string()).collect();
        if undoing.wanted.is_empty() && !undoing.conflicts.is_empty() {
            return Err(EditError::Conflicts(undoing.conflicts));
        }
        let purpose = Purpose {
            kind: Kind::Rollback,
            author: entry.author.clone(),
            proposal: entry.proposal.clone(),
            hunks: entry.hunks.clone(),
            undoes: Some(token.clone()),
            request: request.map(str::to_owned),
        };
        let row = LogRow {
            action: "rollback",
            author: &entry.author,
            proposal: entry.proposal.as_deref(),
            step: None,
            hunk: None,
            path: None,
            token: None,
        };
        let redo = commit(self, documents, &purpose, undoing.wanted, &[row])?;
        if undoing.conflicts.is_empty() {
            self.reopen(&entry)?;
        }
        Ok(Outcome {
            rollback_token: Some(redo),
            hunks: entry.hunks,
            paths,
            conflicts: undoing.conflicts,
        })
    }

    /// Marks the hunks of a transaction that was taken back as what they were before it.
    fn reopen(&self, entry: &Entry) -> Result<(), EditError> {
        let back_to = match entry.kind {
            Kind::Apply => HunkState::Rejected,
            Kind::Reject => HunkState::Accepted,
            // A redo: whatever the taken back rollback had undone is in again.
            Kind::Rollback => HunkState::Accepted,
        };
        let Some(id) = &entry.proposal else {
            return Ok(());
        };
        let mut proposals = self.proposals();
        let Some(proposal) = proposals.get_mut(id) else {
            return Ok(());
        };
        for hunk in proposal.files.iter_mut().flat_map(|f| &mut f.hunks) {
            if entry.hunks.contains(&hunk.id) {
                hunk.state = back_to;
            }
        }
        let proposal = proposal.clone();
        drop(proposals);
        self.keep(&proposal, "reopen", None, |_| false)
    }

    /// What was done under this request key before.
    fn done_before(&self, request: Option<&str>) -> Result<Option<Outcome>, EditError> {
        let Some(request) = request else {
            return Ok(None);
        };
        let entry = journal::by_request(&self.store, request).map_err(Failure::Store)?;
        Ok(entry
            .filter(|e| e.state == State::Done)
            .map(|e| outcome_of(&e)))
    }

    /// Keeps a proposal, and logs what happened to the hunks that `logged` names.
    fn keep(
        &self,
        proposal: &Proposal,
        action: &'static str,
        token: Option<&Token>,
        logged: impl Fn(&str) -> bool,
    ) -> Result<(), EditError> {
        let body = serde_json::to_string(proposal).expect("a proposal has only string keys");
        let rows: Vec<LogRow<'_>> = proposal
            .hunks()
            .filter(|(_, hunk)| logged(&hunk.id))
            .map(|(file, hunk)| LogRow {
                action,
                author: &proposal.author,
                proposal: Some(&proposal.id),
                step: proposal.step.as_deref(),
                hunk: Some(&hunk.id),
                path: Some(file.path.as_str()),
                token,
            })
            .collect();
        journal::save_proposal(
            &self.store,
            &proposal.id,
            &proposal.author,
            proposal.step.as_deref(),
            proposal.is_open(),
            &body,
            &rows,
        )
        .map_err(|why| EditError::Failed(why.into()))
    }

    fn proposals(&self) -> MutexGuard<'_, BTreeMap<String, Proposal>> {
        self.proposals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Change {
    wanted: Vec<Wanted>,
    conflicts: Vec<Conflict>,
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
fn directory_of(folder: &Path, state: &Path) -> PathBuf {
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
        conflicts: Vec::new(),
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

/// Whether a hunk is about a file as a whole.
pub fn is_whole_file(what: &What) -> bool {
    !matches!(what, What::Lines(_))
}

#[cfg(test)]
mod tests;
