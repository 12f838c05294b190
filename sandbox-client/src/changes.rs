//! What a sandbox changed in the workspace, as data that nobody has believed yet.
//!
//! Holds: a path has only plain names, below the workspace; nothing of `.git` comes back; nothing
//! but regular files, removals and links that stay inside; everything is bounded. Files that the
//! user's machine or tools would run are marked apart. What was refused is listed with the reason.
//!
//! Not here: writing. The caller shows this to the user and applies what was accepted.

mod class;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes};
use futures_util::StreamExt as _;
use sandbox_agent::wire::{self, Base64, Change, ChangeKind};
use serde::Serialize;

pub use self::class::Class;
use self::class::class_of;
use crate::client::{ClientError, Sandbox, is_unseen};
use crate::copy::{ByDirectory, Copied};
use crate::ignored::Ignored;

/// Files of a copy that are read at a time.
const READS: usize = 8;

/// The longest path that a kernel takes.
const PATH_BYTES: usize = 4_096;

/// How much may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries looked at, ignored ones included.
    pub entries: usize,
    pub file_bytes: u64,
    pub total_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 100_000,
            file_bytes: 8 << 20,
            total_bytes: 64 << 20,
        }
    }
}

/// Everything that was changed and may be offered to the user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// By path.
    pub files: Vec<FileChange>,
    pub refused: Vec<Refused>,
    /// Whether there was more than the bounds allow: then what is here is not all.
    pub truncated: bool,
}

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub kind: Kind,
    pub class: Class,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// New, or with new contents.
    #[serde(rename_all = "camelCase")]
    Written {
        #[serde(skip)]
        contents: Bytes,
        executable: bool,
    },
    /// A link to somewhere in the workspace.
    Link {
        target: String,
    },
    Deleted,
}

/// A change that is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Readable; not to be used as a path.
    pub path: String,
    pub reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    #[error("the path leaves the workspace or cannot be everywhere")]
    Path,
    #[error("nothing of .git comes back")]
    Git,
    #[error("the link leads out of the workspace")]
    LinkOut,
    #[error("the link leads over another link, so nobody sees where to")]
    LinkOver,
    #[error("it is no file, directory or link")]
    Special,
    #[error("it is too large")]
    TooLarge,
    #[error("it could not be read")]
    Unreadable,
}

/// Asks a sandbox what it changed in `workspace`, which it was created with.
///
/// Files that git ignores are left out by the rules of the workspace as it is outside, so that a
/// command cannot hide what it did; files that are as they were are left out too.
///
/// # Errors
/// As [`ClientError`] says; a service that answers what was not asked is [`ClientError::Protocol`].
pub async fn collect(
    sandbox: &Sandbox,
    workspace: &Path,
    bounds: Bounds,
) -> Result<Changes, ClientError> {
    walk(Source::Overlay(sandbox), workspace, bounds).await
}

/// The same for a workspace that was `copied` there.
///
/// # Errors
/// As [`collect`].
pub async fn collect_copied(
    sandbox: &Sandbox,
    workspace: &Path,
    copied: &Copied,
    bounds: Bounds,
) -> Result<Changes, ClientError> {
    let changes = copied.changes(sandbox).await?;
    let source = Source::Copy(sandbox, copied, changes);
    walk(source, workspace, bounds).await
}

async fn walk(
    source: Source<'_>,
    workspace: &Path,
    bounds: Bounds,
) -> Result<Changes, ClientError> {
    let mut walk = Walk {
        workspace,
        ignored: Ignored::of(workspace),
        changes: Changes::default(),
        files: BTreeMap::new(),
        wanted: Vec::new(),
        n_seen: 0,
        bounds,
    };
    let mut level = vec![String::new()];
    while !level.is_empty() {
        let answer = source.changes_in(&level).await?;
        walk.changes.truncated |= answer.truncated;
        walk.n_seen += answer.entries.len();
        if walk.n_seen > bounds.entries {
            walk.changes.truncated = true;
            break;
        }
        let mut next = Vec::new();
        let asked: HashSet<&str> = level.iter().map(String::as_str).collect();
        for change in answer.entries {
            let Some(path) = walk.accept(&change, &asked)? else {
                continue;
            };
            if let Some(directory) = walk.take(path, change.kind) {
                next.push(directory);
            }
        }
        level = next;
    }
    walk.fetch(&source).await?;
    walk.refuse_links_over_links();
    walk.refuse_repositories();
    let files = walk.files.into_iter().map(|(path, kind)| FileChange {
        class: class_of(&path),
        path,
        kind,
    });
    Ok(Changes {
        files: files.collect(),
        ..walk.changes
    })
}

/// Who tells what changed.
enum Source<'a> {
    /// The sandbox itself, which was given the workspace to look at.
    Overlay(&'a Sandbox),
    /// A look at the copy in it.
    Copy(&'a Sandbox, &'a Copied, ByDirectory),
}

impl Source<'_> {
    async fn changes_in(&self, directories: &[String]) -> Result<wire::Changes, ClientError> {
        match self {
            Self::Overlay(sandbox) => sandbox.changes_in(as_bytes(directories)).await,
            Self::Copy(_, _, changes) => {
                let told = directories
                    .iter()
                    .filter_map(|at| changes.get(at.as_bytes()));
                Ok(wire::Changes {
                    entries: told.flatten().cloned().collect(),
                    truncated: false,
                })
            }
        }
    }

    /// The contents of files, in one length and order with `paths`; `None` for one that cannot be
    /// read. They are within `bounds`.
    async fn contents_of(
        &self,
        paths: &[String],
        bounds: Bounds,
    ) -> Result<Vec<Option<Bytes>>, ClientError> {
        let as_length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let cap = as_length(bounds.total_bytes);
        match self {
            Self::Overlay(sandbox) => {
                let cap = cap + paths.len() * size_of::<u64>();
                let mut stream = sandbox.contents_of(as_bytes(paths), cap).await?;
                paths.iter().map(|_| next_file(&mut stream)).collect()
            }
            Self::Copy(sandbox, copied, _) => {
                let (mut left, most) = (cap, as_length(bounds.file_bytes));
                let mut contents = Vec::with_capacity(paths.len());
                // Collected, so that what holds them over an await names no closure.
                let reads = paths.iter().map(|path| copied.read(sandbox, path, most));
                let reads: Vec<_> = reads.collect();
                let mut reads = futures_util::stream::iter(reads).buffered(READS);
                while let Some(read) = reads.next().await {
                    let read = match read {
                        Ok(bytes) => Some(bytes).filter(|bytes| bytes.len() <= left),
                        Err(ClientError::Refused { .. } | ClientError::Protocol(_)) => None,
                        Err(lost) => return Err(lost),
                    };
                    left -= read.as_ref().map_or(0, Bytes::len);
                    contents.push(read);
                }
                Ok(contents)
            }
        }
    }
}

fn as_bytes(paths: &[String]) -> Vec<Base64> {
    let bytes = |path: &String| Base64(path.clone().into());
    paths.iter().map(bytes).collect()
}

/// Takes the next file of a stream: its length, all ones where there is none, and its contents.
fn next_file(stream: &mut Bytes) -> Result<Option<Bytes>, ClientError> {
    let short = || ClientError::Protocol("contents that end early".to_owned());
    let length = stream.try_get_u64().map_err(|_| short())?;
    if length == u64::MAX {
        return Ok(None);
    }
    let length = usize::try_from(length).ok().filter(|n| *n <= stream.len());
    Ok(Some(stream.split_to(length.ok_or_else(short)?)))
}

struct Walk<'a> {
    workspace: &'a Path,
    ignored: Ignored,
    /// All but the files.
    changes: Changes,
    files: BTreeMap<String, Kind>,
    /// Files whose contents are needed: path, size, whether executable.
    wanted: Vec<(String, u64, bool)>,
    /// Entries looked at, in the answers and below removed directories.
    n_seen: usize,
    bounds: Bounds,
}

impl Walk<'_> {
    fn refuse(&mut self, path: &[u8], reason: Reason) {
        let path = String::from_utf8_lossy(path);
        let path = path
            .chars()
            .take(300)
            .flat_map(char::escape_debug)
            .collect();
        self.changes.refused.push(Refused { path, reason });
    }

    /// Checks that an entry is directly in one of the directories asked for, has a name that can
    /// be one, and is not ignored.
    fn accept(
        &mut self,
        change: &Change,
        asked: &HashSet<&str>,
    ) -> Result<Option<String>, ClientError> {
        let Base64(bytes) = &change.path;
        let Ok(path) = std::str::from_utf8(bytes) else {
            self.refuse(bytes, Reason::Path);
            return Ok(None);
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !asked.contains(parent) {
            let why = "changes in a directory that was not asked about";
            return Err(ClientError::Protocol(why.to_owned()));
        }
        if is_git(name) {
            self.refuse(bytes, Reason::Git);
            return Ok(None);
        }
        // No kernel has longer ones, and a guest could go on for ever.
        if !is_plain_name(name) || path.len() > PATH_BYTES {
            self.refuse(bytes, Reason::Path);
            return Ok(None);
        }
        let is_directory = match change.kind {
            ChangeKind::Directory { .. } | ChangeKind::Closed => true,
            // What was removed is told without what it was.
            ChangeKind::Deleted => {
                reached(self.workspace, path).is_some_and(|(_, found)| found.is_dir())
            }
            ChangeKind::File { .. } | ChangeKind::Symlink { .. } | ChangeKind::Special => false,
        };
        let is_ignored = self.ignored.has(Path::new(path), is_directory);
        Ok((!is_ignored).then(|| path.to_owned()))
    }

    /// Takes a change over. Returns the directory to look into, if it is one.
    fn take(&mut self, path: String, kind: ChangeKind) -> Option<String> {
        let was_directory = reached(self.workspace, &path).is_some_and(|(_, found)| found.is_dir());
        if was_directory && matches!(kind, ChangeKind::File { .. } | ChangeKind::Symlink { .. }) {
            self.delete_below(&path);
        }
        match kind {
            ChangeKind::Directory { opaque } => {
                let is_other = |(_, found): (PathBuf, fs::Metadata)| !found.is_dir();
                if opaque || reached(self.workspace, &path).is_some_and(is_other) {
                    self.delete(&path);
                }
                return Some(path);
            }
            ChangeKind::File { size, .. } if size > self.bounds.file_bytes => {
                self.refuse(path.as_bytes(), Reason::TooLarge);
            }
            ChangeKind::File { size, mode } => self.wanted.push((path, size, mode & 0o100 != 0)),
            ChangeKind::Symlink {
                target: Base64(target),
            } => match String::from_utf8(target) {
                Ok(target) if stays_inside(&path, &target) => {
                    let own = reached(self.workspace, &path);
                    let own = own.and_then(|(at, _)| fs::read_link(at).ok());
                    let is_same = own.is_some_and(|own| own == Path::new(&target));
                    match is_same {
                        true => drop(self.files.remove(&path)),
                        false => drop(self.files.insert(path, Kind::Link { target })),
                    }
                }
                _ => self.refuse(path.as_bytes(), Reason::LinkOut),
            },
            ChangeKind::Deleted => self.delete(&path),
            ChangeKind::Closed => self.refuse(path.as_bytes(), Reason::Unreadable),
            ChangeKind::Special => self.refuse(path.as_bytes(), Reason::Special),
        }
        None
    }

    /// A removed directory is each of its files removed.
    fn delete(&mut self, path: &str) {
        match reached(self.workspace, path) {
            Some((_, found)) if found.is_dir() => self.delete_below(path),
            Some(_) => drop(self.files.insert(path.to_owned(), Kind::Deleted)),
            None => {}
        }
    }

    /// What git ignores there may have been made by hand, and is not offered.
    fn delete_below(&mut self, path: &str) {
        let mut directories = vec![path.to_owned()];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(self.workspace.join(&directory)) else {
                continue;
            };
            for entry in entries.flatten() {
                self.n_seen += 1;
                if self.n_seen > self.bounds.entries {
                    self.changes.truncated = true;
                    return;
                }
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| !is_git(name)) else {
                    continue;
                };
                let inside = format!("{directory}/{name}");
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if self.ignored.has(Path::new(&inside), is_directory) {
                    continue;
                }
                match is_directory {
                    true => directories.push(inside),
                    false => drop(self.files.insert(inside, Kind::Deleted)),
                }
            }
        }
    }

    /// Gets the contents, within the bounds, and leaves out what is as it was.
    async fn fetch(&mut self, source: &Source<'_>) -> Result<(), ClientError> {
        let mut total = 0;
        let (mut paths, mut modes) = (Vec::new(), Vec::new());
        for (path, size, executable) in std::mem::take(&mut self.wanted) {
            total += size;
            if total > self.bounds.total_bytes {
                self.changes.truncated = true;
                self.refuse(path.as_bytes(), Reason::TooLarge);
            } else {
                paths.push(path);
                modes.push(executable);
            }
        }
        if paths.is_empty() {
            return Ok(());
        }
        let contents = source.contents_of(&paths, self.bounds).await?;
        for ((path, executable), contents) in paths.into_iter().zip(modes).zip(contents) {
            let Some(contents) = contents else {
                self.refuse(path.as_bytes(), Reason::Unreadable);
                continue;
            };
            if !self.is_as_it_was(&path, &contents, executable) {
                let kind = Kind::Written {
                    contents,
                    executable,
                };
                // What was removed with its directory may have been made again.
                self.files.insert(path, kind);
            } else {
                self.files.remove(&path);
            }
        }
        Ok(())
    }

    /// Links are judged one by one, and several together can lead further than each.
    fn refuse_links_over_links(&mut self) {
        let links = self.files.iter().filter_map(|(path, kind)| match kind {
            Kind::Link { target } if self.leads_over_a_link(path, target) => Some(path.clone()),
            Kind::Link { .. } | Kind::Written { .. } | Kind::Deleted => None,
        });
        for path in links.collect::<Vec<_>>() {
            self.files.remove(&path);
            self.refuse(path.as_bytes(), Reason::LinkOver);
        }
    }

    fn leads_over_a_link(&self, path: &str, target: &str) -> bool {
        let mut at: Vec<&str> = path.split('/').collect();
        at.pop();
        let mut steps = target
            .split('/')
            .filter(|name| !matches!(*name, "" | "."))
            .peekable();
        while let Some(name) = steps.next() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            if steps.peek().is_some() && self.is_link(&at.join("/")) {
                return true;
            }
        }
        false
    }

    fn is_link(&self, path: &str) -> bool {
        match self.files.get(path) {
            Some(Kind::Link { .. }) => true,
            Some(Kind::Written { .. } | Kind::Deleted) => false,
            None => reached(self.workspace, path).is_some_and(|(_, found)| found.is_symlink()),
        }
    }

    /// What git takes for a repository comes back no more than `.git`: its settings name programs.
    fn refuse_repositories(&mut self) {
        let is_there = |(path, kind): (&String, &Kind)| match kind {
            Kind::Written { .. } | Kind::Link { .. } => Some(path.to_lowercase()),
            Kind::Deleted => None,
        };
        let changed: BTreeSet<String> = self.files.iter().filter_map(is_there).collect();
        let mut directories = BTreeSet::from([""]);
        for path in self.files.keys() {
            directories.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        }
        let has = |directory: &str, name: &str| {
            let path = match directory {
                "" => name.to_owned(),
                directory => format!("{directory}/{name}"),
            };
            let lower = path.to_lowercase();
            let below = format!("{lower}/");
            let mut from = changed.range(lower.clone()..);
            from.next().is_some_and(|first| *first == lower)
                || changed
                    .range(below.clone()..)
                    .next()
                    .is_some_and(|first| first.starts_with(&below))
                || reached(self.workspace, &path).is_some()
        };
        let repositories: Vec<String> = directories
            .into_iter()
            .filter(|at| has(at, "HEAD"))
            .filter(|at| has(at, "commondir") || has(at, "objects") && has(at, "refs"))
            .map(str::to_owned)
            .collect();
        for directory in repositories {
            let below = match directory.as_str() {
                "" => String::new(),
                directory => format!("{directory}/"),
            };
            self.files.retain(|path, _| !path.starts_with(&below));
            self.refuse(directory.as_bytes(), Reason::Git);
        }
    }

    fn is_as_it_was(&self, path: &str, contents: &[u8], executable: bool) -> bool {
        let Some(own) = plain_file(self.workspace, path) else {
            return false;
        };
        let same_length = own.1 == contents.len() as u64;
        same_length && own.2 == executable && fs::read(own.0).is_ok_and(|own| own == contents)
    }
}

/// What the workspace has at a path that leads over no link: where it is, and what.
fn reached(workspace: &Path, path: &str) -> Option<(PathBuf, fs::Metadata)> {
    let mut at = workspace.to_owned();
    let mut found: Option<fs::Metadata> = None;
    for name in path.split('/') {
        if found.is_some_and(|above| !above.is_dir()) {
            return None;
        }
        at.push(name);
        found = Some(fs::symlink_metadata(&at).ok()?);
    }
    found.map(|found| (at, found))
}

/// A file of the workspace that is reached without links: where it is, its length, whether it is
/// executable.
fn plain_file(workspace: &Path, path: &str) -> Option<(PathBuf, u64, bool)> {
    let (at, found) = reached(workspace, path).filter(|(_, found)| found.is_file())?;
    #[cfg(unix)]
    let executable = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o100 != 0;
    #[cfg(not(unix))]
    let executable = false;
    Some((at, found.len(), executable))
}

/// A file as the workspace has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    pub contents: Vec<u8>,
    pub executable: bool,
}

/// What a changed file was; `None` when there was none, or one of more than `cap` bytes.
pub fn original(workspace: &Path, path: &str, cap: u64) -> Option<Original> {
    let (at, length, executable) = plain_file(workspace, path)?;
    let contents = (length <= cap).then(|| fs::read(at).ok()).flatten()?;
    Some(Original {
        contents,
        executable,
    })
}

/// Whether a name can be one on every machine: no separators, control characters, reserved names,
/// or characters that show it as another.
fn is_plain_name(name: &str) -> bool {
    let reserved = |stem: &str| {
        let stem = stem.to_ascii_uppercase();
        ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str())
            || (stem.len() == 4
                && (stem.starts_with("COM") || stem.starts_with("LPT"))
                && stem.ends_with(|c: char| c.is_ascii_digit()))
    };
    !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && !name.ends_with([' ', '.'])
        && !name.chars().any(|c| {
            c.is_control()
                || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
                || is_unseen(c)
        })
        && !reserved(name.split('.').next().unwrap_or_default())
}

/// Whether some file system takes the name for `.git`.
pub(crate) fn is_git(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !is_unseen(*c)).collect();
    let plain = plain.trim_end_matches([' ', '.']).to_ascii_lowercase();
    let plain = plain.split(':').next().unwrap_or_default();
    plain == ".git" || plain == "git~1"
}

/// Whether a link at `path` leads to somewhere in the workspace, and not into `.git`.
pub(crate) fn stays_inside(path: &str, target: &str) -> bool {
    let mut depth = path.split('/').count() - 1;
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) if name.to_str().is_some_and(is_plain_name) => {
                if name.to_str().is_some_and(is_git) {
                    return false;
                }
                depth += 1;
            }
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::CurDir => {}
            _ => return false,
        }
    }
    !target.is_empty()
}
