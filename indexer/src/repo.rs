//! What git knows: where HEAD is, what the last commits changed, what is not committed.
//!
//! Holds: only reads, except for what [`worktree`] is asked for; runs no program, so hooks, filters
//! and aliases of a hostile repository are never started; bounded to the last [`history::MAX_COMMITS`] commits. No git, a broken one, a
//! shallow clone or one in the middle of a rebase gives less, never an error that stops indexing.
//! Not here: what is indexed of files, which is read from the working tree alone (`update`).

pub(crate) mod age;
pub(crate) mod history;
pub(crate) mod uncommitted;
pub mod worktree;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gix::{ObjectId, bstr::ByteSlice};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::history::{Commit, History};
use crate::{path::RepoPath, text::analyse};

/// A commit that touches more files than this says little about any of them.
const MAX_FILES_OF_COMMIT: usize = 50;
const MAX_MESSAGE: usize = 4_000;
/// Pack entries that tree diffs come back to.
const OBJECT_CACHE: usize = 32 << 20;

/// Where a workspace stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The commit in hexadecimal; `None` before the first commit and without git.
    pub commit: Option<String>,
    /// The branch's short name; `None` when detached.
    pub branch: Option<String>,
    /// What git is in the middle of, such as `Rebase`.
    pub in_progress: Option<String>,
    pub shallow: bool,
}

/// Returns where a folder stands. `None` without git.
pub fn head(root: &Path) -> Option<Head> {
    Repo::open(root).map(|repo| repo.head())
}

/// A repository that can be read from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    repository: gix::ThreadSafeRepository,
    /// The workspace's folder inside the repository, `""` at its top, else ending in `/`.
    prefix: String,
}

impl Repo {
    /// Finds the repository `root` is in. `None` without one, or when it cannot be read.
    pub(crate) fn open(root: &Path) -> Option<Self> {
        let (git_dir, _) = gix::discover::upwards(root).ok()?;
        let (git_dir, _) = git_dir.into_repository_and_work_tree_directories();
        let repository = gix::open_opts(git_dir, gix::open::Options::isolated())
            .inspect_err(|error| tracing::debug!(%error, "git cannot be read"))
            .ok()?;
        let top = repository.workdir()?.canonicalize().ok()?;
        let below = root.canonicalize().ok()?;
        let below = below.strip_prefix(&top).ok()?;
        let mut prefix = below.to_str()?.replace('\\', "/");
        if !prefix.is_empty() {
            prefix.push('/');
        }
        Some(Self {
            repository: repository.into_sync(),
            prefix,
        })
    }

    /// Returns the folder whose `HEAD` and `index` belong to this working tree.
    pub(crate) fn git_dir(&self) -> PathBuf {
        self.repository.to_thread_local().git_dir().to_owned()
    }

    pub(crate) fn head(&self) -> Head {
        let repository = self.repository.to_thread_local();
        let branch = repository
            .head_name()
            .ok()
            .flatten()
            .map(|name| name.shorten().to_str_lossy().into_owned());
        Head {
            commit: repository.head_id().ok().map(|id| id.to_string()),
            branch,
            in_progress: repository.state().map(|state| format!("{state:?}")),
            shallow: repository.is_shallow().unwrap_or(false),
        }
    }

    /// Returns the last commits of HEAD that are not merges; `known` ones are not read again.
    ///
    /// Tree diffs run at 1–3 thousand commits a second and thread, so the first call of a long
    /// history takes seconds and the next ones milliseconds.
    pub(crate) fn history(&self, known: &History) -> Option<History> {
        let repository = self.repository.to_thread_local();
        let tip = repository.head_id().ok()?;
        let walk = repository
            .rev_walk([tip])
            .sorting(gix::revision::walk::Sorting::ByCommitTime(
                Default::default(),
            ))
            .all()
            .ok()?;
        let mut ids = Vec::new();
        // A damaged or cut-off history ends where it ends.
        for info in walk.map_while(Result::ok) {
            if info.parent_ids.len() <= 1 {
                ids.push(info.id);
                if ids.len() == history::MAX_COMMITS {
                    break;
                }
            }
        }
        let old: rustc_hash::FxHashMap<&str, &Arc<Commit>> = known
            .commits()
            .iter()
            .map(|commit| (commit.id.as_str(), commit))
            .collect();
        let commits: Vec<Arc<Commit>> = ids
            .into_par_iter()
            .map_init(
                || self.thread_local(),
                |repository, id| match old.get(id.to_string().as_str()) {
                    Some(&commit) => Some(commit.clone()),
                    None => self.commit(repository, id).map(Arc::new),
                },
            )
            .flatten()
            .collect();
        Some(History::new(commits))
    }

    /// Returns the files whose trees differ between two commits, `None` when either is unknown.
    pub(crate) fn changed_between(&self, old: &str, new: &str) -> Option<Vec<RepoPath>> {
        let repository = self.thread_local();
        let id = |hex: &str| ObjectId::from_hex(hex.as_bytes()).ok();
        let mut changes = Vec::new();
        self.diff(
            &repository,
            Some(id(old)?),
            id(new)?,
            usize::MAX,
            &mut changes,
        )?;
        Some(changes)
    }

    fn thread_local(&self) -> gix::Repository {
        let mut repository = self.repository.to_thread_local();
        repository.object_cache_size_if_unset(OBJECT_CACHE);
        repository
    }

    fn commit(&self, repository: &gix::Repository, id: ObjectId) -> Option<Commit> {
        let commit = repository.find_commit(id).ok()?;
        let message = commit.message_raw_sloppy().to_str_lossy();
        let end = message.floor_char_boundary(MAX_MESSAGE);
        let parent = commit.parent_ids().next().map(gix::Id::detach);
        let mut files = Vec::new();
        // The files of a shallow clone's last commit are all of them, which says nothing.
        let parent_is_known = parent.is_none_or(|parent| repository.find_commit(parent).is_ok());
        if parent_is_known
            && self
                .diff(repository, parent, id, MAX_FILES_OF_COMMIT + 1, &mut files)
                .is_none()
        {
            return None;
        }
        if files.len() > MAX_FILES_OF_COMMIT {
            files.clear();
        }
        Some(Commit {
            id: id.to_string(),
            seconds: commit.time().map_or(0, |time| time.seconds),
            terms: analyse::prose_terms(&message[..end]).text,
            files,
        })
    }

    /// Adds the files below the workspace that differ; stops after `limit`.
    fn diff(
        &self,
        repository: &gix::Repository,
        old: Option<ObjectId>,
        new: ObjectId,
        limit: usize,
        into: &mut Vec<RepoPath>,
    ) -> Option<()> {
        let tree = |id: ObjectId| repository.find_commit(id).ok()?.tree().ok();
        let old = match old {
            Some(old) => tree(old)?,
            None => repository.empty_tree(),
        };
        let new = tree(new)?;
        let mut recorder = Recorder {
            path: Default::default(),
            changed: into,
            limit,
            prefix: &self.prefix,
        };
        let kind = new.id.kind();
        let outcome = gix::diff::tree(
            gix::objs::TreeRefIter::from_bytes(&old.data, kind),
            gix::objs::TreeRefIter::from_bytes(&new.data, kind),
            gix::diff::tree::State::default(),
            &repository.objects,
            &mut recorder,
        );
        match outcome {
            Ok(()) | Err(gix::diff::tree::Error::Cancelled) => Some(()),
            Err(gix::diff::tree::Error::Failure(_)) => None,
        }
    }
}

/// Collects the paths of changed blobs.
struct Recorder<'a> {
    path: gix::diff::tree::Recorder,
    changed: &'a mut Vec<RepoPath>,
    limit: usize,
    prefix: &'a str,
}

impl gix::diff::tree::Visit for Recorder<'_> {
    fn pop_front_tracked_path_and_set_current(&mut self) {
        self.path.pop_front_tracked_path_and_set_current();
    }
    fn push_back_tracked_path_component(&mut self, component: &gix::bstr::BStr) {
        self.path.push_back_tracked_path_component(component);
    }
    fn push_path_component(&mut self, component: &gix::bstr::BStr) {
        self.path.push_path_component(component);
    }
    fn pop_path_component(&mut self) {
        self.path.pop_path_component();
    }
    fn visit(&mut self, change: gix::diff::tree::visit::Change) -> gix::diff::tree::visit::Action {
        use gix::diff::tree::visit::Change;
        let mode = match change {
            Change::Addition { entry_mode, .. }
            | Change::Deletion { entry_mode, .. }
            | Change::Modification { entry_mode, .. } => entry_mode,
        };
        if mode.is_blob()
            && let Ok(path) = self.path.path().to_str()
            && let Some(path) = path.strip_prefix(self.prefix)
        {
            self.changed.push(RepoPath::from(path));
        }
        if self.changed.len() >= self.limit {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    }
}

#[cfg(test)]
mod tests;
