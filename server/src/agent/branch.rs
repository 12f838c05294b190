//! A task on a branch of its own: it works in a git working tree beside the user's, and ends as a
//! commit instead of hunks.
//!
//! Holds: the user's files, index and HEAD are not touched. The task begins at the last commit, so
//! what is unsaved or not committed is not in it. Rules and trust are those of the user's folder, and
//! so is the record. A commit is made once, however often a task ends, and only on top of what the
//! task saw; nothing is pushed.
//! Not here: git (`indexer::worktree`).

use std::path::Path;
use std::sync::Arc;

use indexer::worktree::{Change, Message};
use indexer::{Worktree, WorktreeError};

use super::proposed::Proposed;
use super::{Setup, refused};
use crate::config::sources::Directories;
use crate::edit::workspace::{Choice, Workspace};
use crate::edit::worlds::NoDocuments;
use crate::error::UserError;
use crate::store::events::Branch;

/// Bytes of a commit's first line.
const TITLE: usize = 72;
/// Author of what is committed, and of its hunks.
const AUTHOR: &str = "Pairwright";

/// What a task says of itself in its commit.
pub(super) struct Told<'a> {
    pub(super) task: &'a str,
    pub(super) prompt: &'a str,
    pub(super) summary: Option<&'a str>,
    pub(super) model: &'a str,
    pub(super) policy: &'a str,
    pub(super) outcome: &'a str,
    pub(super) user: &'a str,
}

impl Branch {
    /// Makes the branch and the working tree of a new task of the folder `root`.
    pub(super) fn make(root: &Path, task: &str) -> Result<Self, UserError> {
        let state = Directories::find().state;
        let state = state.ok_or_else(|| {
            refused("There is no home directory to keep a working tree in; set XDG_STATE_HOME.")
        })?;
        let at = state.join("worktrees").join(task);
        let name = format!("agent/{task}");
        let made = Worktree::create(root, &at, &name).map_err(|why| {
            refused(&format!("The task gets no branch of its own: {why}."))
                .with_hint("Start it without one, by `worktree` or the setting `agent.worktree`.")
        })?;
        Ok(Self {
            name,
            base: made.base,
            top: made.top,
            root: made.root,
            repository: made.repository,
        })
    }

    /// What the task works with: its files are those of the branch, all else is the user's.
    pub(super) fn enter(self, setup: Setup) -> Result<Setup, UserError> {
        Ok(Setup {
            workspace: Arc::new(self.open()?),
            documents: Arc::new(NoDocuments),
            editor: None,
            branch: Some(self),
            ..setup
        })
    }

    /// Opens the folder of the working tree.
    pub(super) fn open(&self) -> Result<Workspace, UserError> {
        let gone = |why: &dyn std::fmt::Display| {
            let top = self.top.display();
            refused(&format!(
                "The working tree {top} cannot be worked in: {why}."
            ))
        };
        let state = Directories::find().state;
        let state = state.ok_or_else(|| gone(&"there is no home directory"))?;
        Workspace::open(&self.root, &state).map_err(|why| gone(&why))
    }

    /// Writes what the task proposes into the working tree, and commits it. Returns what to tell the
    /// user. Doing it twice does it once.
    ///
    /// # Errors
    /// When something else is there by now; the branch is as it was then.
    pub(super) fn commit(
        &self,
        workspace: &Workspace,
        proposed: &Proposed,
        told: &Told<'_>,
    ) -> Result<String, String> {
        let Some(plan) = proposed.plan() else {
            return Ok(self.leave());
        };
        let proposal = format!("p_{}", told.task);
        workspace
            .propose_plan(plan, &proposal, AUTHOR, Some(told.task))
            .map_err(|why| why.to_string())?;
        let choice = Choice::Proposal(proposal);
        workspace
            .accept(&NoDocuments, &choice, Some(told.task))
            .map_err(|why| why.to_string())?;
        let changes: Vec<Change> = proposed
            .files()
            .map(|(path, file)| Change {
                path: path.to_string(),
                before: file.base.clone(),
                after: file.now.clone(),
                executable: file.executable,
            })
            .collect();
        let title = told.prompt.lines().next().unwrap_or_default();
        let message = Message {
            run: told.task,
            title: &title[..title.floor_char_boundary(TITLE)],
            body: told.summary.unwrap_or_default(),
            trailers: &[
                ("Agent-Model", told.model),
                ("Agent-Policy", told.policy),
                ("Agent-Outcome", told.outcome),
                ("Requested-by", told.user),
            ],
            author: AUTHOR,
        };
        let commit = self.worktree().commit(&changes, message);
        let commit = commit.map_err(|why| why.to_string())?;
        let (name, top) = (&self.name, self.top.display());
        Ok(format!(
            "Committed {} on the branch {name}; your files are as they were, and nothing is pushed. \
             Look at it with `git diff HEAD...{name}`, take it with `git merge {name}`, or drop it \
             with `git worktree remove {top}` and `git branch -D {name}`.",
            &commit[..commit.len().min(10)]
        ))
    }

    /// Removes a branch on which nothing happened.
    pub(super) fn leave(&self) -> String {
        match self.worktree().remove() {
            Ok(()) => format!("Nothing was changed; the branch {} is removed.", self.name),
            Err(WorktreeError::NoRepository(_)) => "Nothing was changed.".to_owned(),
            Err(why) => {
                let (name, top) = (&self.name, self.top.display());
                format!("Nothing was changed; the branch {name} stays in {top}: {why}.")
            }
        }
    }

    fn worktree(&self) -> Worktree {
        Worktree {
            top: self.top.clone(),
            root: self.root.clone(),
            branch: self.name.clone(),
            base: self.base.clone(),
            repository: self.repository.clone(),
        }
    }
}
