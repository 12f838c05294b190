//! The files as a task wants them: its own state over the user's, which stays as it is.
//!
//! Holds: nothing is written to the folder here. What a file was when the task's first change of it
//! was worked out is kept, so that the user's edits since are merged and never overwritten. Rows are written with the
//! outcome of the call that made the change, so after a crash a change is there with its outcome,
//! or neither is.
//! Not here: hunks and their acceptance (`edit::workspace`).

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};

use crate::edit::Refusal;
use crate::edit::diff::unified;
use crate::edit::merge::diff;
use crate::edit::parse::Format;
use crate::edit::path::RepoPath;
use crate::edit::plan::{FilePlan, Plan};
use crate::edit::text::{Breaks, Change, Text};
use crate::edit::tree::{Entry, Tree};
use crate::edit::worlds::Worlds;
use crate::store::events::DiffFile;
use crate::store::{Store, StoreError};

/// Files a task may change at most.
pub const MAX_FILES: usize = 500;
/// Bytes of all changed files together at most.
pub const MAX_BYTES: usize = 64 << 20;
/// Bytes of hunks that are told with one call, however much it changes.
pub const MAX_PATCH: usize = 32 << 10;

/// What a task changed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposed {
    files: BTreeMap<RepoPath, File>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What was there when the task first changed it; `None` for nothing.
    pub base: Option<Vec<u8>>,
    pub was_executable: bool,
    /// What the task wants there; `None` for nothing.
    pub now: Option<Vec<u8>>,
    pub executable: bool,
    /// Where it was before the task, if the task moved it.
    moved_from: Option<RepoPath>,
}

/// What a file has, and whether it is executable.
type Contents = (Option<Vec<u8>>, bool);

/// A row that is to be written with the outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    path: RepoPath,
    /// `None` where the file is again as it was.
    file: Option<File>,
}

impl Proposed {
    /// Reads what a task left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn load(store: &Store, task: &str) -> Result<Self, StoreError> {
        let rows = store.read(|c| {
            let mut select = c.prepare(
                "SELECT path, base, now, executable, was_executable, moved_from FROM proposed
                 WHERE session = ?1",
            )?;
            let rows = select.query_map([task], |row| {
                let file = File {
                    base: row.get(1)?,
                    now: row.get(2)?,
                    executable: row.get(3)?,
                    was_executable: row.get(4)?,
                    moved_from: row
                        .get::<_, Option<String>>(5)?
                        .and_then(|path| RepoPath::parse(&path).ok()),
                };
                Ok((row.get::<_, String>(0)?, file))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let files = rows
            .into_iter()
            .filter_map(|(path, file)| Some((RepoPath::parse(&path).ok()?, file)));
        Ok(Self {
            files: files.collect(),
        })
    }

    pub fn files(&self) -> impl Iterator<Item = (&RepoPath, &File)> {
        self.files.iter()
    }

    pub fn get(&self, path: &RepoPath) -> Option<&File> {
        self.files.get(path)
    }

    /// The files with these changes over what the user has.
    pub fn over<'a>(&'a self, worlds: Worlds<'a>) -> View<'a> {
        View {
            proposed: self,
            worlds,
        }
    }

    /// Takes in the new contents of files. Returns the rows to be written with them. What a file
    /// was is what the plan was made from, whatever the user has done to it since.
    ///
    /// # Errors
    /// When the task has changed too much; nothing is taken in then.
    pub fn take(&mut self, plan: Plan) -> Result<Vec<Row>, Refusal> {
        let mut next = self.clone();
        let mut touched = Vec::new();
        for file in plan.files {
            let (was_executable, executable) = file.executable;
            let (base, origin) = match file.moved_from {
                Some(from) => {
                    let origin = match next.files.get(&from) {
                        Some(known) if known.base.is_none() => known.moved_from.clone(),
                        Some(_) | None => Some(from.clone()),
                    };
                    next.put(&from, (file.before, was_executable), (None, false));
                    touched.push(from);
                    ((None, false), origin)
                }
                None => ((file.before, was_executable), None),
            };
            next.put(&file.path, base, (file.after, executable));
            if let (Some(origin), Some(moved)) = (origin, next.files.get_mut(&file.path)) {
                moved.moved_from = Some(origin).filter(|origin| *origin != file.path);
            }
            touched.push(file.path);
        }
        let n_bytes: usize = next
            .files
            .values()
            .map(|f| f.now.as_ref().map_or(0, Vec::len) + f.base.as_ref().map_or(0, Vec::len))
            .sum();
        if next.files.len() > MAX_FILES || n_bytes > MAX_BYTES {
            return Err(Refusal::new(
                crate::edit::Kind::Other,
                "the task has changed as much as one task may; finish it first",
            ));
        }
        *self = next;
        let row = |path: RepoPath| Row {
            file: self.files.get(&path).cloned(),
            path,
        };
        Ok(touched.into_iter().map(row).collect())
    }

    /// `base` counts where the task changes the file for the first time.
    fn put(&mut self, path: &RepoPath, base: Contents, (now, executable): Contents) {
        let file = match self.files.remove(path) {
            Some(known) => File {
                now,
                executable,
                ..known
            },
            None => File {
                base: base.0,
                was_executable: base.1,
                now,
                executable,
                moved_from: None,
            },
        };
        let is_as_it_was =
            file.base == file.now && (file.executable == file.was_executable || file.now.is_none());
        if !is_as_it_was {
            self.files.insert(path.clone(), file);
        }
    }

    /// Names the state: the same changes have the same number.
    pub fn state(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (path, file) in &self.files {
            hasher.update(path.as_str().as_bytes());
            hasher.update(&[0, u8::from(file.executable), u8::from(file.now.is_some())]);
            let bytes = file.now.as_deref().unwrap_or_default();
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        let bytes = hasher.finalize();
        u64::from_le_bytes(
            bytes.as_bytes()[..8]
                .try_into()
                .expect("a hash has 32 bytes"),
        )
    }

    /// All changes as one plan that can be reviewed; `None` when there are none.
    pub fn plan(&self) -> Option<Plan> {
        // A file that moved stays one file, with its mode and what the user does to it until then.
        let mut moved: BTreeMap<&RepoPath, &RepoPath> = BTreeMap::new();
        for (path, file) in &self.files {
            let from = file.moved_from.as_ref().filter(|_| file.base.is_none());
            let is_free = |from: &&RepoPath| {
                let source = self.files.get(*from);
                source.is_some_and(|s| s.base.is_some() && s.now.is_none())
            };
            if let Some(from) = from.filter(is_free) {
                moved.entry(from).or_insert(path);
            }
        }
        let files: Vec<FilePlan> = self
            .files
            .iter()
            .filter(|(path, _)| !moved.contains_key(path))
            .map(|(path, file)| {
                let from = file.moved_from.as_ref();
                let from = from.filter(|from| moved.get(from) == Some(&path));
                let source = from.and_then(|from| self.files.get(from)).unwrap_or(file);
                FilePlan {
                    path: path.clone(),
                    moved_from: from.cloned(),
                    before: source.base.clone(),
                    after: file.now.clone(),
                    executable: (source.was_executable, file.executable),
                    changes: changed(&source.base, &file.now),
                    levels: Vec::new(),
                }
            })
            .collect();
        (!files.is_empty()).then_some(Plan {
            format: Format::ToolCall,
            files,
        })
    }

    /// How many lines change in which files.
    pub fn summary(&self) -> Vec<DiffFile> {
        let count = |(path, file): (&RepoPath, &File)| {
            let changes = changes(file);
            DiffFile {
                path: path.to_string(),
                added: changes.iter().map(|c| c.after.len()).sum(),
                removed: changes.iter().map(|c| c.before.len()).sum(),
                patch: None,
            }
        };
        self.files.iter().map(count).collect()
    }

    /// As [`summary`](Self::summary), with the hunks so far of the files that `rows` change; of all
    /// of them no more than [`MAX_PATCH`] bytes.
    pub fn progress(&self, rows: &[Row]) -> Vec<DiffFile> {
        let mut room = MAX_PATCH;
        let mut summary = self.summary();
        for (summary, (path, file)) in summary.iter_mut().zip(&self.files) {
            if rows.iter().any(|row| row.path == *path) {
                let patch = cut(patch(file), room);
                room -= patch.len();
                summary.patch = Some(patch);
            }
        }
        summary
    }
}

/// The changes of a file as a unified diff, without its name; empty for what is no text.
fn patch(file: &File) -> String {
    let text = |bytes: &Option<Vec<u8>>| {
        Text::decode(bytes.clone().unwrap_or_default(), Breaks::Lf).map(|t| t.content().to_owned())
    };
    match (text(&file.base), text(&file.now)) {
        (Ok(before), Ok(after)) => unified(&before, &after),
        _ => String::new(),
    }
}

/// The first lines of a diff that have room, and how many there are beyond.
fn cut(mut patch: String, room: usize) -> String {
    // For the last line.
    const SAID: usize = 64;
    if patch.len() <= room {
        return patch;
    }
    let end = patch.floor_char_boundary(room.saturating_sub(SAID));
    let end = patch[..end].rfind('\n').map_or(0, |at| at + 1);
    let n_left = patch[end..].lines().count();
    patch.truncate(end);
    let said = format!("\\ {n_left} lines more are not shown\n");
    if end + said.len() <= room {
        patch.push_str(&said);
    }
    patch
}

fn changes(file: &File) -> Vec<Change> {
    changed(&file.base, &file.now)
}

fn changed(before: &Option<Vec<u8>>, after: &Option<Vec<u8>>) -> Vec<Change> {
    let text =
        |bytes: &Option<Vec<u8>>| Text::decode(bytes.clone().unwrap_or_default(), Breaks::Lf).ok();
    match (text(before), text(after)) {
        (Some(before), Some(after)) => diff(&before.raw_lines(), &after.raw_lines()),
        _ => Vec::new(),
    }
}

impl Row {
    pub(super) fn write(&self, t: &Transaction<'_>, task: &str) -> rusqlite::Result<()> {
        match &self.file {
            None => t.execute(
                "DELETE FROM proposed WHERE session = ?1 AND path = ?2",
                params![task, self.path.as_str()],
            )?,
            Some(file) => t.execute(
                "INSERT OR REPLACE INTO proposed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    task,
                    self.path.as_str(),
                    file.base,
                    file.now,
                    file.executable,
                    file.was_executable,
                    file.moved_from.as_ref().map(RepoPath::as_str),
                ],
            )?,
        };
        Ok(())
    }
}

/// The folder as the task sees it.
pub struct View<'a> {
    proposed: &'a Proposed,
    worlds: Worlds<'a>,
}

impl Tree for View<'_> {
    fn read(&self, path: &RepoPath) -> Result<Option<Entry>, Refusal> {
        match self.proposed.files.get(path) {
            Some(file) => Ok(file.now.clone().map(|bytes| Entry::File {
                bytes,
                executable: file.executable,
            })),
            None => {
                let found = self.worlds.read(path)?;
                let is_below = |file: &RepoPath| {
                    file.as_str()
                        .strip_prefix(path.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
                };
                let is_new_folder = || {
                    self.proposed
                        .files
                        .iter()
                        .any(|(p, f)| f.now.is_some() && is_below(p))
                };
                Ok(match found {
                    None if is_new_folder() => Some(Entry::Directory),
                    found => found,
                })
            }
        }
    }

    fn ending_with(&self, tail: &RepoPath) -> Vec<RepoPath> {
        let is_gone = |path: &RepoPath| {
            self.proposed
                .files
                .get(path)
                .is_some_and(|f| f.now.is_none())
        };
        let mut found = self.worlds.ending_with(tail);
        found.retain(|path| !is_gone(path));
        for (path, file) in &self.proposed.files {
            if file.now.is_some() && path.ends_with(tail) && !found.contains(path) {
                found.push(path.clone());
            }
        }
        found
    }

    fn relative<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.worlds.relative(path)
    }
}

#[cfg(test)]
mod tests;
