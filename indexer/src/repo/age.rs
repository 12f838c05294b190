//! How long ago a file was changed.

use std::path::Path;

use gix::ObjectId;

use super::{Repo, history};
use crate::path::RepoPath;

/// When a file was changed last, as git tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// When its author made the commit that changed it, in seconds since 1970.
    pub seconds: i64,
    /// Commits since, of the line that HEAD's first parents make.
    pub n_commits: usize,
}

/// Returns when `path` below `root` was changed last; where that is further back than commits are
/// looked at, when the last of those was made. `None` without git and for a file that HEAD has not.
pub fn age(root: &Path, path: &RepoPath) -> Option<Age> {
    let repo = Repo::open(root)?;
    let repository = repo.thread_local();
    let path = format!("{}{path}", repo.prefix);
    let content = |commit: &gix::Commit<'_>| -> Option<ObjectId> {
        let entry = commit.tree().ok()?.lookup_entry_by_path(&path).ok()??;
        Some(entry.object_id())
    };
    let mut commit = repository.head_commit().ok()?;
    let now = content(&commit)?;
    for n_commits in 0..history::MAX_COMMITS {
        let age = Age {
            seconds: commit.author().ok()?.seconds(),
            n_commits,
        };
        let parent = commit.parent_ids().next();
        let parent = parent.and_then(|id| repository.find_commit(id).ok());
        match parent.filter(|parent| content(parent) == Some(now)) {
            Some(parent) => commit = parent,
            None => return Some(age),
        }
    }
    let seconds = commit.author().ok()?.seconds();
    Some(Age {
        seconds,
        n_commits: history::MAX_COMMITS,
    })
}
