//! What may have changed, in line, and what looking at it gave.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;
use rustc_hash::FxHashSet;

use super::{
    super::{
        Phase,
        examine::{Known, Outcome, examine},
        line::Order,
    },
    BATCH, MAX_IN_MEMORY, Part, Writer, lower_priority,
};
use crate::{
    path::RepoPath,
    reader::OverlayFile,
    repo::Repo,
    store::FileEntry,
    syntax::Parsed,
    walk::{Fault, GIT, IGNORE_FILE, MAX_FILES, Walked, is_gits, not_ignored, walk},
};

impl Writer {
    /// Returns whether the workspace's rules let a path in: known, new, or not ignored.
    pub(super) fn is_ours(&self, path: &RepoPath) -> bool {
        if is_gits(Path::new(path.as_str())) {
            return false;
        }
        self.files.contains_key(path)
            || self.buffers.contains_key(path)
            || !path.under(&self.options.root).exists()
            || !not_ignored(&self.options.root, std::slice::from_ref(path)).is_empty()
    }

    /// Puts paths that may have changed in line, folders with everything in them. Returns those that
    /// are ours; a new folder stands for what is in it.
    pub(super) fn look_at(
        &mut self,
        paths: impl IntoIterator<Item = PathBuf>,
        order: Order,
    ) -> Vec<RepoPath> {
        let root = self.options.root.clone();
        let (mut known, mut unknown, mut folders) = (Vec::new(), Vec::new(), Vec::new());
        let mut needs_walk = false;
        for on_disk in paths {
            let Some(path) = RepoPath::below(&root, &on_disk) else {
                continue;
            };
            if let Some(watch) = &self.watch {
                watch.forget(&on_disk);
            }
            let name = path.file_name();
            needs_walk |= name == ".gitignore" || name == ".ignore" || name == IGNORE_FILE;
            if self.files.contains_key(&path) || self.waiting.contains(&path) {
                known.push(path);
            } else if on_disk.is_dir() {
                folders.push(path);
            } else if on_disk.is_file() {
                unknown.push(path);
            } else {
                // A folder may have gone: everything that was in it is looked at.
                let inside = format!("{path}/");
                let lost = self.files.range(RepoPath::from(inside.clone())..);
                let lost = lost.take_while(|(path, _)| path.as_str().starts_with(&inside));
                known.extend(lost.map(|(path, _)| path.clone()));
            }
        }
        // A build makes many folders that are ignored.
        let folders = match folders.is_empty() {
            true => folders,
            false => not_ignored(&root, &folders),
        };
        self.must_walk |= needs_walk || !folders.is_empty();
        if unknown.len() > MAX_IN_MEMORY {
            // To ask the rules about each is as much work, and all else would wait for it.
            self.must_walk = true;
        } else if !unknown.is_empty() {
            known.extend(not_ignored(&root, &unknown));
        }
        for path in &known {
            self.await_file(path.clone(), order);
        }
        known.extend(folders);
        known
    }

    /// Begins to list all files, on a thread of its own, if that is asked for. What is found comes
    /// as mail.
    pub(super) fn walk_if_asked(&mut self) {
        if !self.must_walk || self.walks {
            return;
        }
        (self.must_walk, self.walks) = (false, true);
        self.looked_at.clear();
        self.phase = Phase::Scanning;
        let (inbox, watch) = (self.inbox.clone(), self.watch.clone());
        let (root, threads) = (self.options.root.clone(), self.options.threads);
        // Nobody waits for that; nor does it hold up the first list.
        let swept = (!self.has_listed).then(|| self.layout.clone());
        let list = move || {
            lower_priority();
            if let Some(watch) = &watch {
                watch.walk_begins();
            }
            let entered = watch.clone();
            let enter = move |folder: &Path| {
                if let Some(watch) = &entered {
                    watch.entered(folder);
                }
            };
            let mut walked = walk(&root, threads, enter);
            let fault = watch.and_then(|watch| watch.walk_ended());
            walked
                .faults
                .extend(fault.map(|fault| Fault::new("", &fault)));
            walked
        };
        let begun = std::thread::Builder::new()
            .name("index-walk".into())
            .spawn(move || {
                inbox.walked(catch_unwind(AssertUnwindSafe(list)).ok());
                if let Some(layout) = swept {
                    layout.sweep();
                }
            });
        if begun.is_err() {
            self.reconcile(None);
        }
    }

    /// Puts those in line that are new, changed or gone by a list of all files.
    pub(super) fn reconcile(&mut self, walked: Option<Walked>) {
        self.walks = false;
        self.phase = Phase::Indexing;
        self.faults
            .retain(|(_, part), _| !matches!(part, Part::Walked(_)));
        let Some(walked) = walked else {
            self.trouble(Part::Walk, "the files could not be listed");
            return;
        };
        self.forgive(Part::Walk);
        for (n, fault) in walked.faults.into_iter().enumerate() {
            self.note((fault.path, Part::Walked(n)), &fault.message);
        }
        let is_whole = walked.files.len() < MAX_FILES;
        let found: FxHashSet<&RepoPath> = walked.files.iter().map(|(path, _)| path).collect();
        let known = self.files.keys().chain(self.waiting.paths());
        let mut lost: FxHashSet<RepoPath> = known
            .chain(self.buffers.keys())
            .filter(|path| !found.contains(path))
            .cloned()
            .collect();
        // Some were made after their folder was listed. The others that are there are ignored now.
        let root = &self.options.root;
        let is_there = |path: &&RepoPath| {
            let found = path.under(root).symlink_metadata();
            found.is_ok_and(|found| found.is_file())
        };
        let there: Vec<RepoPath> = lost.iter().filter(is_there).cloned().collect();
        if is_whole && !there.is_empty() {
            for path in not_ignored(root, &there) {
                lost.remove(&path);
            }
        }
        let ignored = there.iter().filter(|path| lost.contains(path));
        for path in ignored {
            self.buffers.remove(path);
        }
        let has_lost = !lost.is_empty();
        let mut noticed: Vec<RepoPath> = lost.iter().cloned().collect();
        for path in lost {
            self.waiting.remove(&path);
            self.forget(path);
        }
        let mut changed: Vec<(i64, RepoPath)> = walked
            .files
            .into_iter()
            .filter(|(path, stat)| {
                let is_new = self.looked_at.contains(path);
                let is_known =
                    |entry: &FileEntry| entry.is_current(*stat) || is_new && entry.stat == *stat;
                !self.files.get(path).is_some_and(is_known)
            })
            .map(|(path, stat)| (-stat.modified, path))
            .collect();
        changed.sort_unstable();
        for (_, path) in changed {
            // Those that wait since the list before were told of then, or are of the first.
            if !self.waiting.contains(&path) {
                noticed.push(path.clone());
            }
            self.await_file(path, Order::Last);
        }
        if std::mem::replace(&mut self.has_listed, true) {
            self.tell_changed(&noticed);
        }
        if has_lost {
            self.show();
        }
    }

    /// Opens the repository that the root is in, if there is one, and has its git folder watched.
    fn find_repo(&mut self) {
        let watched = |git_dir: &Path| {
            let watch = self.watch.as_ref()?;
            watch.git(git_dir).err()
        };
        // One that is just being made has no HEAD yet; that tells of itself then.
        let own = self.options.root.join(GIT);
        let mut failed = own.is_dir().then(|| watched(&own)).flatten();
        self.repo = Repo::open(&self.options.root);
        let git_dir = self.repo.as_ref().map(Repo::git_dir);
        if let Some(git_dir) = git_dir.filter(|git_dir| *git_dir != own) {
            failed = watched(&git_dir);
        }
        if let Some(error) = failed {
            self.trouble(
                Part::Watch,
                &format!("git's folder cannot be watched: {error}"),
            );
        }
    }

    /// Notices a new commit or branch, and reads its history in the background.
    pub(super) fn look_at_git(&mut self) {
        if self.repo.is_none() {
            self.find_repo();
        }
        let Some(repo) = self.repo.clone() else {
            return;
        };
        let before = self.head.commit.clone();
        let before = before.or_else(|| self.indexed_commit.clone());
        // Damaged objects are the business of another crate, which may break off on them.
        let look = AssertUnwindSafe(|| {
            let head = repo.head();
            let commits = (before.as_deref(), head.commit.as_deref());
            let changed = match commits {
                (Some(old), Some(new)) if old != new => repo.changed_between(old, new),
                _ => None,
            };
            (head, changed)
        });
        let Ok((head, changed)) = catch_unwind(look) else {
            self.trouble(Part::Git, "the state of git cannot be read");
            return;
        };
        self.forgive(Part::Git);
        if *self.head == head {
            return;
        }
        let root = self.options.root.clone();
        let changed = changed.unwrap_or_default().into_iter();
        let changed = self.look_at(changed.map(|path| path.under(&root)), Order::Last);
        if self.has_listed {
            self.tell_changed(&changed);
        }
        self.head = Arc::new(head);
        self.read_history();
    }

    /// Reads the history of HEAD in the background, unless that is known or being read.
    pub(super) fn read_history(&mut self) {
        let is_read = self.history_of == self.head.commit;
        let Some(repo) = self
            .repo
            .clone()
            .filter(|_| !is_read && !self.reads_history)
        else {
            return;
        };
        self.reads_history = true;
        let (inbox, known) = (self.inbox.clone(), self.history.clone());
        let commit = self.head.commit.clone();
        self.pool.spawn(move || {
            // Damaged objects are the business of another crate, which may not be ready for all.
            let read = || repo.history(&known).unwrap_or_default();
            let history = catch_unwind(AssertUnwindSafe(read)).unwrap_or_default();
            inbox.history(commit, history);
        });
    }

    /// Looks at the next waiting files.
    pub(super) fn look_at_batch(&mut self) {
        if self.waiting.is_empty() {
            if self.phase == Phase::Indexing && !self.has_more() {
                self.indexed_commit.clone_from(&self.head.commit);
                self.phase = if self.is_dirty {
                    Phase::Indexing
                } else {
                    Phase::Ready
                };
            }
            return;
        }
        if self.stores.is_none() && self.fresh.len() >= 4 * MAX_IN_MEMORY {
            self.trouble(
                Part::Turn,
                match self.retry_at {
                    Some(_) => "more changed than is kept in memory while the disk refuses",
                    None => "another process is indexing this workspace; waiting for its turn",
                },
            );
            return;
        }
        let (batch, n_alike) = self.waiting.take(BATCH);
        if self.walks {
            self.looked_at.extend(batch.iter().cloned());
        }
        let in_memory = self.stores.is_none() || n_alike <= MAX_IN_MEMORY;
        let (files, root) = (&self.files, &self.options.root);
        // In memory, a file must be parsed to be shown, whether it is stored or not. Else one
        // thread stores what it parsed while the others parse.
        let stores = self.stores.as_mut().filter(|_| !in_memory).map(Mutex::new);
        let lock = || {
            let stores = stores.as_ref()?;
            Some(stores.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let known = Known {
            unit: &|unit| lock()?.known(unit),
        };
        let refused = Mutex::new(None);
        let look = |path: &RepoPath| {
            let (mut outcome, fault) = examine(root, path, files.get(path), &known);
            if let Outcome::Parsed(parsed) = &mut outcome
                && let Some(mut stores) = lock()
            {
                let (entry, parsed, rows) = &mut **parsed;
                let terms = std::mem::take(&mut parsed.terms);
                if let Some(unit) = entry.unit
                    && let Err(error) = stores.add(unit, &parsed.unit, terms, rows)
                {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return (Outcome::Unknown, fault);
                }
                drop(stores);
                outcome = Outcome::Entry(entry.clone());
            }
            (outcome, fault)
        };
        let looked: Vec<(Outcome, Option<Fault>)> = self.pool.install(|| {
            batch
                .par_iter()
                .with_max_len(1)
                .map(|path| {
                    catch_unwind(AssertUnwindSafe(|| look(path))).unwrap_or_else(|_| {
                        let fault = Fault::new(path.clone(), "looking at it failed; a bug");
                        (Outcome::Unknown, Some(fault))
                    })
                })
                .collect()
        });
        let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (path, (outcome, fault)) in batch.into_iter().zip(looked) {
            match fault {
                Some(fault) => self.fault(fault.path, &fault.message),
                None => {
                    self.faults.remove(&(path.as_str().to_owned(), Part::File));
                }
            }
            match outcome {
                // In memory it is seen until the disk takes it.
                Outcome::Unknown if refused.is_some() => self.await_file(path, Order::Last),
                Outcome::Unknown => {}
                Outcome::Gone => self.forget(path),
                Outcome::Entry(entry) => self.keep_entry(path, &entry),
                Outcome::Parsed(parsed) => {
                    let (entry, parsed, _) = *parsed;
                    self.keep_in_memory(path, entry, parsed);
                }
            }
        }
        if let Some(error) = refused {
            self.let_go(&error);
        }
        if self.phase == Phase::Ready {
            self.phase = Phase::Indexing;
        }
        if in_memory {
            self.show();
        }
    }

    pub(super) fn forget(&mut self, path: RepoPath) {
        if self.files.remove(&path).is_some() {
            self.fresh.remove(&path);
            self.gone.insert(path);
            self.changed_something();
        }
    }

    pub(super) fn keep_entry(&mut self, path: RepoPath, entry: &FileEntry) {
        let before = self.files.insert(path.clone(), entry.clone());
        if before
            .as_ref()
            .is_some_and(|before| before.says_all_of(entry))
        {
            return;
        }
        let is_same = before.is_some_and(|b| b.unit == entry.unit && b.class == entry.class);
        if !is_same {
            self.fresh.remove(&path);
            self.gone.remove(&path);
            if entry.unit.is_some() {
                self.has_unshown = true;
            } else if self.base.slot(&path).is_some() {
                // The base shows content that is no longer indexed.
                self.gone.insert(path);
            }
        }
        self.changed_something();
    }

    pub(super) fn keep_in_memory(&mut self, path: RepoPath, entry: FileEntry, parsed: Parsed) {
        let in_base = self
            .base
            .slot(&path)
            .map(|slot| &self.base.files[slot as usize]);
        let is_same = in_base.is_some_and(|before| before.unit == entry.unit);
        self.gone.remove(&path);
        let before = self.files.insert(path.clone(), entry.clone());
        let is_known = before.is_some_and(|before| before.says_all_of(&entry));
        if is_same {
            self.fresh.remove(&path);
        } else {
            self.fresh
                .insert(path, Arc::new(OverlayFile::new(entry, parsed, None)));
        }
        if !is_known {
            self.changed_something();
        }
    }

    pub(super) fn await_file(&mut self, path: RepoPath, order: Order) {
        let is_in_use = self.buffers.contains_key(&path) || self.recent.contains(&path);
        let order = if is_in_use { Order::First } else { order };
        self.waiting.push(path, order);
    }
}
