//! The files an answer is about, to be read: on disk, in open buffers, or in memory.

use std::collections::BTreeMap;

use super::Refusal;
use super::path::RepoPath;

/// Files listed for the end of a path at most.
pub(super) const MAX_LISTED: usize = 8;

pub trait Tree {
    /// Reads a file; `Ok(None)` when nothing is there.
    ///
    /// # Errors
    /// A [`Refusal`] when something is there that cannot be read, or must not be.
    fn read(&self, path: &RepoPath) -> Result<Option<Entry>, Refusal>;

    /// Lists files whose last components are those of `tail`, at most a handful.
    fn ending_with(&self, tail: &RepoPath) -> Vec<RepoPath>;

    /// The path below the workspace of one that an answer names in full.
    fn relative<'p>(&self, path: &'p str) -> Option<&'p str>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File { bytes: Vec<u8>, executable: bool },
    Directory,
}

/// Files in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTree {
    pub files: BTreeMap<RepoPath, Vec<u8>>,
}

impl Tree for MemoryTree {
    fn read(&self, path: &RepoPath) -> Result<Option<Entry>, Refusal> {
        if let Some(bytes) = self.files.get(path) {
            return Ok(Some(Entry::File {
                bytes: bytes.clone(),
                executable: false,
            }));
        }
        let is_below = |file: &RepoPath| {
            file.as_str()
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        };
        Ok(self.files.keys().any(is_below).then_some(Entry::Directory))
    }

    fn ending_with(&self, tail: &RepoPath) -> Vec<RepoPath> {
        self.files
            .keys()
            .filter(|p| p.ends_with(tail))
            .take(MAX_LISTED)
            .cloned()
            .collect()
    }

    fn relative<'p>(&self, _path: &'p str) -> Option<&'p str> {
        None
    }
}
