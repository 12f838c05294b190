//! The two places a file can be: open in the editor, or on the disk.
//!
//! Holds: while a file is open in the editor, its text there is the file; the disk is read only
//! for what is not open. The folder is walked at most once, however many paths are searched for.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::disk::{Content, Root};
use super::follow::Followed;
use super::path::RepoPath;
use super::tree::{Entry, MAX_LISTED, Tree};
use super::{Kind, Refusal};

/// Files looked at when an answer names only the end of a path.
const MAX_SEARCHED: usize = 100_000;

/// The documents an editor has open.
pub trait Documents {
    /// The document at `path` as it is now, if it is open.
    fn open(&self, path: &RepoPath) -> Option<Open>;

    /// The same for one of many files that are looked through. Where documents are fetched, only
    /// those are that are known to be others than on the disk.
    fn open_among_many(&self, path: &RepoPath) -> Option<Open> {
        self.open(path)
    }

    /// The documents that are open in the folder.
    fn all(&self) -> Vec<RepoPath>;

    /// Changes documents, all of them or as many as the editor lets it, and waits until the editor
    /// has told the new text of each. What it really did is seen by [`open`](Self::open).
    ///
    /// # Errors
    /// When any of them does not read as asked for in the end.
    fn change(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure>;

    /// As [`change`](Self::change), to give documents their old text back. What comes of it after
    /// nobody waits for it any more is as it should be.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    fn change_back(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        self.change(changes)
    }

    /// What happened to the lines of a document since its text was `base`, if that was followed.
    fn followed(&self, path: &RepoPath, base: &str) -> Option<Followed>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub text: String,
    pub version: i32,
}

/// New text for an open document, and the text it must have before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChange {
    pub path: RepoPath,
    pub version: i32,
    pub before: String,
    pub after: String,
}

/// Why the editor's documents are not as they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct DocumentFailure {
    pub path: RepoPath,
    pub why: String,
}

/// No editor: every file is on the disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDocuments;

impl Documents for NoDocuments {
    fn open(&self, _: &RepoPath) -> Option<Open> {
        None
    }

    fn all(&self) -> Vec<RepoPath> {
        Vec::new()
    }

    fn change(&self, changes: &[DocumentChange]) -> Result<(), DocumentFailure> {
        match changes.first() {
            None => Ok(()),
            Some(change) => Err(DocumentFailure {
                path: change.path.clone(),
                why: "is not open in an editor".into(),
            }),
        }
    }

    fn followed(&self, _: &RepoPath, _: &str) -> Option<Followed> {
        None
    }
}

/// Both worlds as one tree.
pub struct Worlds<'a> {
    root: &'a Root,
    documents: &'a dyn Documents,
    looks_through_many: bool,
    /// Files of the folder by name, once one is searched for.
    named: OnceCell<BTreeMap<String, Vec<RepoPath>>>,
}

impl<'a> Worlds<'a> {
    pub fn new(root: &'a Root, documents: &'a dyn Documents) -> Self {
        Self {
            root,
            documents,
            looks_through_many: false,
            named: OnceCell::new(),
        }
    }

    /// For reading one file after the other.
    #[must_use]
    pub fn of_many(self) -> Self {
        Self {
            looks_through_many: true,
            ..self
        }
    }

    /// Files by name, ignored ones and the repository's own left out.
    fn named(&self) -> BTreeMap<String, Vec<RepoPath>> {
        let root = self.root.path();
        let walk = ignore::WalkBuilder::new(root)
            .hidden(false)
            .require_git(false)
            .follow_links(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        let files = walk
            .take(MAX_SEARCHED)
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
            .filter_map(|entry| {
                RepoPath::parse(entry.path().strip_prefix(root).ok()?.to_str()?).ok()
            });
        let mut named: BTreeMap<String, Vec<RepoPath>> = BTreeMap::new();
        for path in files {
            named
                .entry(path.file_name().to_owned())
                .or_default()
                .push(path);
        }
        named
    }
}

impl Tree for Worlds<'_> {
    fn read(&self, path: &RepoPath) -> Result<Option<Entry>, Refusal> {
        let on_disk = self.root.read(path).map_err(|why| refusal(path, &why))?;
        let executable = |mode: u32| mode & 0o100 != 0;
        let open = match self.looks_through_many {
            true => self.documents.open_among_many(path),
            false => self.documents.open(path),
        };
        if let Some(open) = open {
            let executable = matches!(&on_disk, Content::File(file) if executable(file.mode));
            let bytes = open.text.into_bytes();
            return Ok(Some(Entry::File { bytes, executable }));
        }
        Ok(match on_disk {
            Content::Missing => None,
            Content::Directory => Some(Entry::Directory),
            Content::File(file) => Some(Entry::File {
                executable: executable(file.mode),
                bytes: file.bytes,
            }),
        })
    }

    fn ending_with(&self, tail: &RepoPath) -> Vec<RepoPath> {
        let named = self.named.get_or_init(|| self.named());
        let of_name = named.get(tail.file_name()).into_iter().flatten();
        of_name
            .filter(|path| path.ends_with(tail))
            .take(MAX_LISTED)
            .cloned()
            .collect()
    }

    fn relative<'p>(&self, path: &'p str) -> Option<&'p str> {
        let root = self.root.path().to_str()?;
        path.strip_prefix(root)?.strip_prefix('/')
    }
}

/// What a failure of the disk means for an answer.
pub(super) fn refusal(path: &RepoPath, why: &super::disk::DiskError) -> Refusal {
    use super::disk::DiskError;
    let kind = match why {
        DiskError::Denied { .. } | DiskError::Escapes { .. } | DiskError::Ours { .. } => {
            Kind::PathDenied
        }
        DiskError::IsDirectory { .. } => Kind::IsDirectory,
        DiskError::Moved { .. } => Kind::Conflict,
        DiskError::NotRegular { .. }
        | DiskError::NotADirectory { .. }
        | DiskError::ReadOnly { .. }
        | DiskError::TooLarge { .. }
        | DiskError::Io { .. } => Kind::Other,
    };
    let message = why.to_string();
    let message = message
        .strip_prefix(&format!("{path}: "))
        .unwrap_or(&message);
    Refusal::new(kind, message).in_file(path.as_str())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_searched_once_and_never_in_the_repository_itself() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        for path in ["src/config", ".github/config", ".git/config", ".git/a/only"] {
            write(path);
        }
        let root = Root::open(directory.path(), None).unwrap();
        let worlds = Worlds::new(&root, &NoDocuments);
        let search = |tail: &str| -> Vec<String> {
            let found = worlds.ending_with(&RepoPath::parse(tail).unwrap());
            found.iter().map(ToString::to_string).collect()
        };
        let mut found = search("config");
        found.sort_unstable();
        assert_eq!(found, [".github/config", "src/config"]);
        assert!(search("only").is_empty());
        write("src/late");
        assert!(search("late").is_empty(), "nothing is walked again");
    }
}
