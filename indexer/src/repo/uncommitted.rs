//! What is not committed: the files of HEAD and of git's index against those on the disk.
//!
//! Holds: only reads and, unlike `git diff`, runs no program: neither the filters nor the monitor
//! nor the viewers that a repository's settings name. So a file that a filter writes otherwise than
//! it is kept differs as soon as it is touched; line ends alone make no difference. Files are read
//! by the caller, who knows which links may be followed.
//! Not here: files that git does not know, links, submodules, modes.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Instant, UNIX_EPOCH},
};

use gix::{ObjectId, bstr::ByteSlice, index::entry::Flags};

use super::Repo;
use crate::{path::RepoPath, walk::class::MAX_BYTES};

/// Files of HEAD and of the index that are looked at.
const MAX_TRACKED: usize = 500_000;
/// Changed files that are returned.
const MAX_CHANGED: usize = 200;

/// A file that is not as it is in HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncommitted {
    pub path: RepoPath,
    /// Its content in HEAD; `None` where it is not in HEAD.
    pub before: Option<Content>,
    /// Its content on the disk; `None` where it is gone.
    pub after: Option<Content>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    /// Too large or not to be read.
    Unread,
}

/// A file as git knows it.
#[derive(Default)]
struct Tracked {
    in_head: Option<ObjectId>,
    /// Its content and the size and time it had on the disk, where git's index has it.
    in_index: Option<(ObjectId, gix::index::entry::Stat)>,
    /// The user told git not to look at it.
    is_left_alone: bool,
}

/// Returns the files below `root` that differ from HEAD, by path, the first [`MAX_CHANGED`] until
/// `deadline`; before the first commit all that are staged. `None` without git.
///
/// `read` reads a file of the disk: `None` when nothing is there. It is asked for the files alone
/// whose size and time are not those that git's index remembers.
pub fn uncommitted(
    root: &Path,
    deadline: Instant,
    read: &mut dyn FnMut(&RepoPath) -> Option<Content>,
) -> Option<Vec<Uncommitted>> {
    let repo = Repo::open(root)?;
    let repository = repo.thread_local();
    let mut tracked: BTreeMap<RepoPath, Tracked> = BTreeMap::new();
    if repository.head_id().is_ok() {
        repo.files_of_head(&repository, deadline, &mut tracked)?;
    }
    let index = repository.open_index().ok();
    if let Some(index) = &index {
        for entry in index.entries().iter().take(MAX_TRACKED) {
            let Some(path) = repo.below(entry.path(index)) else {
                continue;
            };
            let mode = entry.mode.to_tree_entry_mode();
            if mode.is_some_and(|mode| mode.is_blob()) {
                let file = tracked.entry(path).or_default();
                file.in_index = Some((entry.id, entry.stat));
                file.is_left_alone = entry
                    .flags
                    .intersects(Flags::SKIP_WORKTREE | Flags::ASSUME_VALID);
            }
        }
    }
    let written_at = index.map_or(0, |index| index.timestamp().unix_seconds());
    let mut changed = Vec::new();
    for (path, file) in tracked {
        if changed.len() == MAX_CHANGED || Instant::now() >= deadline {
            break;
        }
        if file.is_left_alone || file.is_as_in_head(&path.under(root), written_at) {
            continue;
        }
        let after = match file.in_index {
            Some(_) => read(&path),
            None => None,
        };
        let is_same = match (&file.in_head, &after) {
            (Some(id), Some(Content::Bytes(bytes))) => {
                let kind = gix::objs::Kind::Blob;
                gix::objs::compute_hash(id.kind(), kind, bytes).is_ok_and(|hash| hash == *id)
            }
            (None, None) => true,
            _ => false,
        };
        if is_same {
            continue;
        }
        let before = file.in_head.map(|id| blob(&repository, id));
        let after = match (&before, after) {
            (Some(Content::Bytes(before)), Some(Content::Bytes(after)))
                if !before.contains_str("\r\n") =>
            {
                Some(Content::Bytes(after.replace("\r\n", "\n")))
            }
            (_, after) => after,
        };
        if before != after {
            changed.push(Uncommitted {
                path,
                before,
                after,
            });
        }
    }
    Some(changed)
}

impl Tracked {
    /// Whether the index has what HEAD has, and the file is as it was when the index was written.
    fn is_as_in_head(&self, path: &Path, index_written_at: i64) -> bool {
        let Some((id, known)) = &self.in_index else {
            return false;
        };
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return false;
        };
        let modified = metadata.modified().ok();
        let Some(modified) = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) else {
            return false;
        };
        let is_same_time = modified.as_secs() == u64::from(known.mtime.secs)
            && (known.mtime.nsecs == 0 || modified.subsec_nanos() == known.mtime.nsecs);
        // A file written in the second of the index may have been written after it.
        let is_old = i64::from(known.mtime.secs) < index_written_at;
        self.in_head == Some(*id)
            && is_same_time
            && is_old
            && metadata.len() == u64::from(known.size)
    }
}

impl Repo {
    /// The path of a file of the repository within the workspace.
    fn below(&self, path: &gix::bstr::BStr) -> Option<RepoPath> {
        let path = path.to_str().ok()?.strip_prefix(&self.prefix)?;
        Some(RepoPath::from(path))
    }

    /// Adds the files of HEAD's tree below the workspace.
    fn files_of_head(
        &self,
        repository: &gix::Repository,
        deadline: Instant,
        into: &mut BTreeMap<RepoPath, Tracked>,
    ) -> Option<()> {
        let top = repository.head_commit().ok()?.tree().ok()?;
        let top = match self.prefix.trim_end_matches('/') {
            "" => top.id,
            folder => match top.lookup_entry_by_path(folder).ok()? {
                Some(entry) => entry.object_id(),
                // The whole workspace is new.
                None => return Some(()),
            },
        };
        let mut trees = vec![(String::new(), top)];
        // Trees that hold the same tree many times can list more than a disk holds.
        let mut n_seen = 0;
        while let Some((folder, id)) = trees.pop() {
            if Instant::now() >= deadline {
                return None;
            }
            let tree = repository.find_tree(id).ok()?;
            for entry in tree.iter().filter_map(Result::ok) {
                n_seen += 1;
                if n_seen > MAX_TRACKED {
                    return None;
                }
                let Ok(name) = entry.filename().to_str() else {
                    continue;
                };
                let path = format!("{folder}{name}");
                if entry.mode().is_tree() {
                    trees.push((format!("{path}/"), entry.object_id()));
                } else if entry.mode().is_blob() {
                    let file = into.entry(RepoPath::from(path.as_str())).or_default();
                    file.in_head = Some(entry.object_id());
                }
            }
        }
        Some(())
    }
}

fn blob(repository: &gix::Repository, id: ObjectId) -> Content {
    let size = repository.find_header(id).map(|header| header.size());
    if size.is_ok_and(|size| size <= MAX_BYTES)
        && let Ok(mut blob) = repository.find_blob(id)
    {
        Content::Bytes(blob.take_data())
    } else {
        Content::Unread
    }
}
