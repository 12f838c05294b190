//! What the tools of one task work on: the folder, the task's own changes, the rules.
//!
//! Holds: reading sees the task's changes over the editor's open documents over the disk. Secret
//! files are not read. Nothing is written to the folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::policy::{Access, Policy, Ruling, Verdict};
use super::proposed::{Proposed, Row, View};
use crate::edit::Refusal;
use crate::edit::disk::Content;
use crate::edit::path::RepoPath;
use crate::edit::plan::Plan;
use crate::edit::workspace::Workspace;
use crate::edit::worlds::{Documents, Worlds};
use crate::index::Indexes;
use crate::store::events::Grant;

/// Files listed at most.
const MAX_FILES: usize = 100_000;

/// The editor's open documents, or none.
pub type OpenDocuments = Arc<dyn Documents + Send + Sync>;

#[derive(Clone)]
pub struct Desk {
    root: PathBuf,
    /// The folder as the index knows it: of a task on a branch of its own, the user's.
    indexed: PathBuf,
    workspace: Arc<Workspace>,
    documents: OpenDocuments,
    indexes: Option<Indexes>,
    policy: Arc<Policy>,
    proposed: Proposed,
}

impl Desk {
    pub fn new(
        indexed: PathBuf,
        workspace: Arc<Workspace>,
        documents: OpenDocuments,
        indexes: Option<Indexes>,
        policy: Arc<Policy>,
        proposed: Proposed,
    ) -> Self {
        Self {
            root: workspace.root().path().to_owned(),
            indexed,
            workspace,
            documents,
            indexes,
            policy,
            proposed,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn indexed(&self) -> &Path {
        &self.indexed
    }

    pub fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    pub fn documents(&self) -> &OpenDocuments {
        &self.documents
    }

    pub fn indexes(&self) -> Option<&Indexes> {
        self.indexes.as_ref()
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn proposed(&self) -> &Proposed {
        &self.proposed
    }

    /// The files as the task has them.
    pub fn view(&self) -> View<'_> {
        self.proposed.over(self.worlds())
    }

    /// The same, for looking through many of them.
    pub fn view_of_many(&self) -> View<'_> {
        self.proposed.over(self.worlds().of_many())
    }

    fn worlds(&self) -> Worlds<'_> {
        Worlds::new(self.workspace.root(), &*self.documents)
    }

    /// Takes new contents of files into the proposal.
    ///
    /// # Errors
    /// When it becomes too large.
    pub fn take(&mut self, plan: Plan) -> Result<Vec<Row>, Refusal> {
        self.proposed.take(plan)
    }

    /// Texts that are only in the editor: of open documents that the task has not changed and that
    /// are another on the disk. Secret files are not among them.
    pub fn unsaved(&self) -> Vec<(RepoPath, Vec<u8>)> {
        let root = self.workspace.root();
        let of = |path: RepoPath| {
            let open = self.documents.open(&path)?;
            let bytes = open.text.into_bytes();
            let is_saved = matches!(
                root.read(&path),
                Ok(Content::File(file)) if file.bytes == bytes
            );
            let is_new = self.proposed.get(&path).is_none() && !is_saved;
            (is_new && self.may_read(&path).is_ok()).then_some((path, bytes))
        };
        let open = self.documents.all().into_iter();
        open.filter_map(of).collect()
    }

    /// Judges touching a file, by the name it is called and by the one that links lead to: the
    /// stricter holds.
    pub fn judge(&self, access: Access, path: &RepoPath, grants: &[Grant]) -> Verdict {
        let called = self.policy.judge_path(access, path.as_str(), grants);
        // What cannot be followed is neither read nor written either.
        let Ok(real) = self.workspace.root().resolve(path) else {
            return called;
        };
        let real = self.policy.judge_path(access, real.as_str(), grants);
        match real.ruling > called.ruling {
            true => real,
            false => called,
        }
    }

    /// Checks that a file may be read without asking. Asking is for what changes something; a
    /// file that may not be read just like that is not read.
    ///
    /// # Errors
    /// Why not, in words for the model.
    pub fn may_read(&self, path: &RepoPath) -> Result<(), String> {
        let verdict = self.judge(Access::Read, path, &[]);
        match verdict.ruling {
            Ruling::Allow => Ok(()),
            Ruling::Ask | Ruling::Deny => Err(format!(
                "{path} may not be read: {} ({})",
                verdict.why, verdict.rule
            )),
        }
    }

    /// Lists the files below a folder as the task has them, in order, without what git ignores;
    /// a file is itself alone.
    ///
    /// # Errors
    /// When `below` leads out of the folder, in words for the model.
    pub fn files(&self, below: Option<&RepoPath>) -> Result<Vec<RepoPath>, String> {
        // The walk follows a link it starts at wherever it leads.
        if let Some(below) = below {
            self.workspace
                .root()
                .find(below)
                .map_err(|why| why.to_string())?;
        }
        let start = below.map_or_else(|| self.root.clone(), |path| path.under(&self.root));
        let walk = ignore::WalkBuilder::new(&start)
            .hidden(false)
            .require_git(false)
            .follow_links(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        let relative = |entry: ignore::DirEntry| {
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let rest = entry.path().strip_prefix(&self.root).ok()?.to_str()?;
            is_file.then(|| RepoPath::parse(rest).ok()).flatten()
        };
        let mut files: BTreeSet<RepoPath> = walk
            .filter_map(Result::ok)
            .filter_map(relative)
            .take(MAX_FILES)
            .collect();
        let is_below = |path: &RepoPath| {
            below.is_none_or(|folder| {
                let rest = path.as_str().strip_prefix(folder.as_str());
                rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
            })
        };
        for (path, file) in self.proposed.files() {
            match file.now {
                Some(_) if is_below(path) => files.insert(path.clone()),
                Some(_) => false,
                None => files.remove(path),
            };
        }
        Ok(files.into_iter().collect())
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}
