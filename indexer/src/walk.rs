//! Which files there are, and which of them are read.
//!
//! Obeys `.gitignore`, `.ignore`, `.git/info/exclude`, the user's global excludes and our own
//! `.pairwrightignore`; goes into submodules and worktrees as into any folder; never follows
//! symbolic links, so loops cannot trap it. Hidden files count, `.git` does not.
//! Holds: nothing is written, a bad entry is a [`Fault`] and the walk goes on, and no more than
//! [`MAX_FILES`] files are taken.
//! Not here: what the rules for skipping content are (`walk::class`), change events (`walk::watch`).

pub(crate) mod class;
pub(crate) mod watch;

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Mutex,
    time::UNIX_EPOCH,
};

use ignore::{DirEntry, WalkBuilder, WalkState};
use serde::Serialize;

pub use self::class::FileClass;
use crate::path::RepoPath;

/// More files than this are not looked at; the rest is a fault.
pub(crate) const MAX_FILES: usize = 1_000_000;

/// Never looked into for files.
pub(crate) const GIT: &str = ".git";

/// Whether a path is git's own folder or in it.
pub(crate) fn is_gits(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == GIT)
}

/// Our own ignore file, in gitignore syntax, in any folder.
pub const IGNORE_FILE: &str = ".pairwrightignore";

/// Something that kept a file, or a part of the index, from being complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file as far as it can be shown; empty for the index as a whole.
    pub path: String,
    pub message: String,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, message: &(impl ToString + ?Sized)) -> Self {
        Self {
            path: path.into(),
            message: message.to_string(),
        }
    }
}

/// Size and time of last change: when both are as before, a file is taken as unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// Nanoseconds since 1970; negative before.
    pub(crate) modified: i64,
}

impl Stat {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let modified =
            metadata
                .modified()
                .ok()
                .map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
                    Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
                    Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
                });
        Self {
            size: metadata.len(),
            modified,
        }
    }
}

/// The files of a workspace, in order of their names.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) files: Vec<(RepoPath, Stat)>,
    pub(crate) faults: Vec<Fault>,
}

/// Lists the files below `root` with `threads` threads, which call `enter` with each folder before
/// they list it.
pub(crate) fn walk(
    root: &Path,
    threads: usize,
    enter: impl Fn(&Path) + Send + Sync + 'static,
) -> Walked {
    let found = Mutex::new(Walked::default());
    let lock = || {
        found
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    enter(root);
    let mut builder = builder(root);
    // Asked of a folder that the rules let through, before it is opened.
    builder.filter_entry(move |entry| {
        let is_git = entry.file_name() == GIT;
        if !is_git && entry.file_type().is_some_and(|kind| kind.is_dir()) {
            enter(entry.path());
        }
        !is_git
    });
    builder.threads(threads).build_parallel().run(|| {
        let mut batch = Batch {
            walked: Walked::default(),
            into: &found,
        };
        Box::new(move |entry| {
            match entry {
                Ok(entry) => batch.visit(root, &entry),
                Err(error) => batch.walked.faults.push(fault_of(root, &error)),
            }
            if batch.walked.files.len() >= 1_000 && batch.flush() > MAX_FILES {
                return WalkState::Quit;
            }
            WalkState::Continue
        })
    });
    let mut walked = std::mem::take(&mut *lock());
    walked.files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    if walked.files.len() > MAX_FILES {
        walked.files.truncate(MAX_FILES);
        walked
            .faults
            .push(Fault::new("", &format!("stopped at {MAX_FILES} files")));
    }
    walked
}

/// What kept the walk from a file or a folder.
fn fault_of(root: &Path, error: &ignore::Error) -> Fault {
    let mut inner = error;
    loop {
        inner = match inner {
            ignore::Error::WithPath { path, err } => {
                let path = path.strip_prefix(root).unwrap_or(path);
                return Fault::new(path.to_string_lossy(), err);
            }
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => err,
            _ => return Fault::new("", error),
        };
    }
}

/// What one thread of the walk has found since it last shared it.
struct Batch<'a> {
    walked: Walked,
    into: &'a Mutex<Walked>,
}

impl Batch<'_> {
    fn visit(&mut self, root: &Path, entry: &DirEntry) {
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            return;
        }
        let Some(path) = RepoPath::below(root, entry.path()) else {
            let shown = entry.path().to_string_lossy().into_owned();
            self.walked
                .faults
                .push(Fault::new(shown, "the name is not UTF-8"));
            return;
        };
        match entry.metadata() {
            Ok(metadata) => self.walked.files.push((path, Stat::of(&metadata))),
            Err(error) => self.walked.faults.push(Fault::new(path, &error)),
        }
    }

    /// Returns how many files have been found in all.
    fn flush(&mut self) -> usize {
        let mut into = self
            .into
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        into.files.append(&mut self.walked.files);
        into.faults.append(&mut self.walked.faults);
        into.files.len()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Whoever walks by it must leave out [`GIT`]; there is one filter.
fn builder(root: &Path) -> WalkBuilder {
    let mut builder = WalkBuilder::new(root);
    builder
        .hidden(false)
        .follow_links(false)
        .require_git(false)
        .add_custom_ignore_filename(IGNORE_FILE);
    builder
}

/// Returns those of `paths` that the ignore rules let through, by walking only the folders on
/// their way: what a change event must pass before it is believed.
pub(crate) fn not_ignored(root: &Path, paths: &[RepoPath]) -> Vec<RepoPath> {
    use rustc_hash::FxHashSet;
    let wanted: FxHashSet<PathBuf> = paths.iter().map(|path| path.under(root)).collect();
    let mut ways: FxHashSet<PathBuf> = FxHashSet::default();
    for path in &wanted {
        ways.extend(
            path.ancestors()
                .take_while(|up| *up != root)
                .map(Path::to_owned),
        );
    }
    let mut builder = builder(root);
    builder.filter_entry(move |entry| {
        entry.depth() == 0 || ways.contains(entry.path()) && entry.file_name() != GIT
    });
    builder
        .build()
        .filter_map(Result::ok)
        .filter(|entry| wanted.contains(entry.path()))
        .filter_map(|entry| RepoPath::below(root, entry.path()))
        .collect()
}

/// Whether a folder between `root` and `path` is a link, so that `path` may be a file elsewhere.
pub(crate) fn is_behind_link(root: &Path, path: &Path) -> bool {
    let folders = path.ancestors().skip(1).take_while(|up| *up != root);
    let mut found = folders.map(fs::symlink_metadata);
    found.any(|found| found.is_ok_and(|found| found.is_symlink()))
}

impl From<RepoPath> for PathBuf {
    fn from(path: RepoPath) -> Self {
        Self::from(String::from(path))
    }
}

/// Reads a regular file of at most `limit` bytes, with the size and time it had when opened.
///
/// # Errors
/// `InvalidData` when it is no regular file; what the system says otherwise. A file that grows
/// past `limit` while it is read is cut there.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Stat)> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a regular file",
        ));
    }
    let file = File::open(path)?;
    let stat = Stat::of(&file.metadata()?);
    let mut bytes = Vec::with_capacity(stat.size.min(limit) as usize + 1);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes, stat))
}

#[cfg(test)]
mod tests;
