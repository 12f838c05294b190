//! What git ignores in a folder: by its own files `.gitignore` and those above up to the root of the
//! repository that it is in, by that repository's `info/exclude`, and by the user's own list.
//!
//! Holds: the rules are those of this machine, never of a sandbox. A folder that git ignores as a
//! whole was chosen all the same: what is above it says nothing of what is in it.
//! Not here: files that git follows although a rule names them; nobody asks its index.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::changes::is_git;

/// A longer file of rules is none.
const RULES_BYTES: u64 = 1 << 20;

/// Walks a folder, following no link, without what git ignores and git's own files.
pub fn walk(folder: &Path) -> WalkBuilder {
    let (root, ignored) = (folder.to_owned(), Mutex::new(Ignored::of(folder)));
    let mut walk = WalkBuilder::new(folder);
    walk.standard_filters(false).filter_entry(move |entry| {
        let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
        let path = entry.path().strip_prefix(&root).unwrap_or(entry.path());
        let mut ignored = ignored.lock().unwrap_or_else(PoisonError::into_inner);
        !entry.file_name().to_str().is_some_and(is_git) && !ignored.has(path, is_directory)
    });
    walk
}

/// The rules for one folder, read when they are first needed.
#[derive(Debug)]
pub(crate) struct Ignored {
    folder: PathBuf,
    /// The highest directory whose rules count.
    top: PathBuf,
    /// By directory.
    rules: HashMap<PathBuf, Gitignore>,
    /// Of the repository, then of the user: the first that says something is right.
    general: [Gitignore; 2],
}

impl Ignored {
    pub(crate) fn of(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let top = folder.ancestors().find(|at| at.join(".git").exists());
        let top = top.unwrap_or(&folder).to_owned();
        let mut ignored = Self {
            general: [excluded(&top), global(&top)],
            rules: HashMap::new(),
            folder,
            top,
        };
        if ignored.is_within_ignored() {
            ignored.top = ignored.folder.clone();
            ignored.general = [Gitignore::empty(), global(&ignored.top)];
        }
        ignored
    }

    fn is_within_ignored(&mut self) -> bool {
        let (folder, top) = (self.folder.clone(), self.top.clone());
        let mut above = folder.ancestors().take_while(|at| *at != top);
        above.any(|at| self.says(at, true))
    }

    /// Whether git ignores what has this path, relative to the folder. What is in a directory that is
    /// ignored is not looked for: that is up to the caller.
    pub(crate) fn has(&mut self, path: &Path, is_directory: bool) -> bool {
        self.says(&self.folder.join(path), is_directory)
    }

    fn says(&mut self, path: &Path, is_directory: bool) -> bool {
        for directory in path.ancestors().skip(1) {
            if !self.rules.contains_key(directory) {
                let rules = read(directory, &directory.join(".gitignore"));
                self.rules.insert(directory.to_owned(), rules);
            }
            let found = self.rules[directory].matched(path, is_directory);
            if !found.is_none() {
                return found.is_ignore();
            }
            if directory == self.top {
                break;
            }
        }
        let found = self
            .general
            .iter()
            .map(|rules| rules.matched(path, is_directory));
        let mut found = found.filter(|found| !found.is_none());
        found.next().is_some_and(|found| found.is_ignore())
    }
}

/// The rules of a file; none where it is not there, and fewer where it is wrong in a line. As git, it
/// follows no link: what the file names is another's.
fn read(directory: &Path, file: &Path) -> Gitignore {
    let mut rules = GitignoreBuilder::new(directory);
    if fs::symlink_metadata(file).is_ok_and(|it| it.is_file() && it.len() <= RULES_BYTES) {
        let _ = rules.add(file);
    }
    rules.build().unwrap_or_else(|_| Gitignore::empty())
}

fn global(top: &Path) -> Gitignore {
    GitignoreBuilder::new(top).build_global().0
}

/// The rules of a repository that are not among its files.
fn excluded(top: &Path) -> Gitignore {
    let of_repository = || {
        let at = top.join(".git");
        if at.is_dir() {
            return Some(at);
        }
        // Of a submodule or a worktree: where it is, and where what all worktrees share is.
        let own = top.join(line(&at)?.strip_prefix("gitdir: ")?);
        Some(match line(&own.join("commondir")) {
            Some(common) => own.join(common),
            None => own,
        })
    };
    match of_repository() {
        Some(git) => read(top, &git.join("info/exclude")),
        None => Gitignore::empty(),
    }
}

fn line(file: &Path) -> Option<String> {
    const PATH_BYTES: u64 = 4_096;
    fs::symlink_metadata(file)
        .ok()
        .filter(|it| it.is_file() && it.len() <= PATH_BYTES)?;
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim_end().to_owned())
}
