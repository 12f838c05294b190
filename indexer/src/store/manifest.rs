//! Which file has which content: the state of the workspace as of the last publishing.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{StoreError, UnitKey, read_sealed, write_sealed};
use crate::{
    path::{ContentHash, RepoPath},
    syntax::Language,
    walk::{FileClass, Stat},
};

/// One file of the workspace as the index knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) path: RepoPath,
    pub(crate) stat: Stat,
    /// When it was read, in nanoseconds since 1970: a file changed about then may have changed
    /// again without a new time, so it is hashed at the next look (git calls this racy).
    pub(crate) seen: i64,
    pub(crate) class: FileClass,
    pub(crate) language: Language,
    pub(crate) hash: ContentHash,
    /// `None` when its content is not indexed.
    pub(crate) unit: Option<UnitKey>,
    pub(crate) n_lines: u32,
    pub(crate) n_definitions: u32,
}

/// How close to being read a change must be for its time not to be trusted.
const RACY: i64 = 2_000_000_000;

impl FileEntry {
    /// Returns whether a file that now looks like `stat` certainly has the content known here.
    pub(crate) fn is_current(&self, stat: Stat) -> bool {
        self.stat == stat && stat.modified < self.seen.saturating_sub(RACY)
    }

    /// Returns whether `now`, made by a later look, says nothing that was not known.
    pub(crate) fn says_all_of(&self, now: &Self) -> bool {
        let seen = self.seen;
        self.is_current(now.stat)
            && *self
                == Self {
                    seen,
                    ..now.clone()
                }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// In order of their paths.
    pub(crate) files: Vec<FileEntry>,
    /// HEAD when everything was last known to be current.
    pub(crate) commit: Option<String>,
    /// Grows with every publishing.
    pub(crate) generation: u64,
}

impl Manifest {
    /// Returns the manifest at `path`, or `None` when there is none yet.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = read_sealed(path)? else {
            return Ok(None);
        };
        let manifest: Self =
            postcard::from_bytes(&bytes).map_err(|error| StoreError::damaged(path, &error))?;
        if !manifest.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(StoreError::damaged(path, "out of order"));
        }
        Ok(Some(manifest))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let bytes = postcard::to_stdvec(self).map_err(|error| StoreError::damaged(path, &error))?;
        write_sealed(path, &bytes)
    }
}
