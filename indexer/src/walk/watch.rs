//! Change events from the operating system.
//!
//! Events only name files that may have changed; the writer looks at each before it believes
//! anything, so events that are lost, doubled or out of order cost time, never correctness. When
//! the system drops events (overflow), everything is looked at again.
//! Holds: a walk has each folder watched before it lists it, so that what is made meanwhile is
//! listed, told of, or both; watches are counted once, however often folders are walked.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use notify::{
    Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use rustc_hash::FxHashSet;

use super::is_gits;

/// Folders watched one by one on Linux, where each costs kernel memory.
const MAX_FOLDERS: usize = 60_000;

/// What an event asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These may have changed, appeared or gone; folders stand for everything in them.
    Paths(Vec<PathBuf>),
    /// The git directory moved: another commit, branch or index.
    Git,
    /// Events were lost.
    Lost,
}

/// Watches until it is dropped.
pub(crate) struct Watch {
    folders: Mutex<Folders>,
}

struct Folders {
    watcher: RecommendedWatcher,
    watched: FxHashSet<PathBuf>,
    /// Those watched before this walk that it has not entered yet.
    before: FxHashSet<PathBuf>,
    n_failed: usize,
    fault: Option<String>,
}

impl Watch {
    /// Starts watching; `changed` is called on the watcher's own thread and must not block.
    ///
    /// # Errors
    /// When the system has no watches left or no watcher at all; the index then learns of changes
    /// from the editor and from [`crate::Index::rescan`].
    pub(crate) fn start(
        root: &Path,
        changed: impl Fn(Change) + Send + 'static,
    ) -> Result<Self, notify::Error> {
        let mut watcher = RecommendedWatcher::new(
            move |event: Result<notify::Event, notify::Error>| {
                if let Some(change) = interpret(event) {
                    changed(change);
                }
            },
            Config::default().with_follow_symlinks(false),
        )?;
        if !cfg!(target_os = "linux") {
            watcher.watch(root, RecursiveMode::Recursive)?;
        }
        Ok(Self {
            folders: Mutex::new(Folders {
                watcher,
                watched: FxHashSet::default(),
                before: FxHashSet::default(),
                n_failed: 0,
                fault: None,
            }),
        })
    }

    /// Watches git's folder, where HEAD, index and packed-refs are replaced by renames.
    ///
    /// # Errors
    /// When it is not there or the system has no watches left.
    pub(crate) fn git(&self, git_dir: &Path) -> Result<(), notify::Error> {
        let mut folders = self.lock();
        folders.watcher.watch(git_dir, RecursiveMode::NonRecursive)
    }

    /// Says that a walk of everything begins.
    pub(crate) fn walk_begins(&self) {
        let mut folders = self.lock();
        folders.before = std::mem::take(&mut folders.watched);
        folders.n_failed = 0;
        folders.fault = None;
    }

    /// Watches a folder that a walk is about to list. On Linux ignored folders (build output) are
    /// thus never watched; elsewhere one recursive watch covers all.
    pub(crate) fn entered(&self, folder: &Path) {
        if cfg!(target_os = "linux") {
            self.lock().enter(folder);
        }
    }

    /// Lets go of the folders that the walk did not enter. Returns what could not be watched.
    pub(crate) fn walk_ended(&self) -> Option<String> {
        let mut folders = self.lock();
        for gone in std::mem::take(&mut folders.before) {
            // The system has done so where the folder is no more.
            let _ = folders.watcher.unwatch(&gone);
        }
        let fault = folders.fault.take()?;
        Some(format!(
            "{} folders cannot be watched: {fault}",
            folders.n_failed
        ))
    }

    /// Says that a path may have gone and come back, which ends the watch of a folder and of those
    /// below: the next walk watches them again.
    pub(crate) fn forget(&self, path: &Path) {
        let mut folders = self.lock();
        let Folders {
            watched, before, ..
        } = &mut *folders;
        if watched.remove(path) | before.remove(path) {
            watched.retain(|folder| !folder.starts_with(path));
            before.retain(|folder| !folder.starts_with(path));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folders {
    fn enter(&mut self, folder: &Path) {
        if self.before.remove(folder) {
            self.watched.insert(folder.to_owned());
            return;
        }
        let watching = match self.watched.len() < MAX_FOLDERS {
            true => self.watcher.watch(folder, RecursiveMode::NonRecursive),
            false => Err(notify::Error::generic("there are too many")),
        };
        match watching {
            Ok(()) => _ = self.watched.insert(folder.to_owned()),
            // It went since the walk saw it.
            Err(_) if !folder.exists() => {}
            Err(error) => {
                self.n_failed += 1;
                self.fault.get_or_insert(error.to_string());
            }
        }
    }
}

fn interpret(event: Result<notify::Event, notify::Error>) -> Option<Change> {
    let Ok(event) = event else {
        return Some(Change::Lost);
    };
    if event.need_rescan() {
        return Some(Change::Lost);
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return None,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => {}
    }
    if let Some(first) = event.paths.iter().find(|path| is_gits(path)) {
        return tells_of_git(first).then_some(Change::Git);
    }
    Some(Change::Paths(event.paths))
}

/// Whether a change of this path of git's may mean another commit, branch or index.
pub(crate) fn tells_of_git(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    matches!(
        name,
        Some(".git" | "HEAD" | "packed-refs" | "index" | "ORIG_HEAD" | "FETCH_HEAD")
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc, time::Duration};

    use notify::event::{AccessMode, CreateKind, DataChange, Flag, ModifyKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Result<notify::Event, notify::Error> {
        Ok(notify::Event::new(kind).add_path(path.into()))
    }

    #[test]
    fn only_events_that_may_change_the_index_are_passed_on() {
        let modify = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let open = EventKind::Access(AccessKind::Open(AccessMode::Read));
        let create = EventKind::Create(CreateKind::File);
        let paths = |path: &str| Some(Change::Paths(vec![path.into()]));
        assert_eq!(interpret(event(modify, "/ws/a.rs")), paths("/ws/a.rs"));
        assert_eq!(interpret(event(create, "/ws/a.rs")), paths("/ws/a.rs"));
        assert_eq!(interpret(event(open, "/ws/a.rs")), None);
        assert_eq!(interpret(event(modify, "/ws/.git/HEAD")), Some(Change::Git));
        assert_eq!(interpret(event(create, "/ws/.git")), Some(Change::Git));
        assert_eq!(interpret(event(modify, "/ws/.git/objects/ab")), None);
    }

    #[test]
    fn an_overflow_asks_for_everything_again() {
        let lost = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(interpret(Ok(lost)), Some(Change::Lost));
        assert_eq!(
            interpret(Err(notify::Error::generic("queue"))),
            Some(Change::Lost)
        );
    }

    /// Watches `root` and tells the paths of events.
    fn watching(root: &Path) -> (Watch, mpsc::Receiver<PathBuf>) {
        let (tell, told) = mpsc::channel();
        let changed = move |change| {
            if let Change::Paths(paths) = change {
                paths.into_iter().for_each(|path| _ = tell.send(path));
            }
        };
        (Watch::start(root, changed).unwrap(), told)
    }

    /// Waits until a new file in `folder` is told of.
    #[track_caller]
    fn is_told_of(folder: &Path, told: &mpsc::Receiver<PathBuf>) {
        let file = folder.join("new.rs");
        fs::write(&file, "").unwrap();
        while told.recv_timeout(Duration::from_secs(30)).unwrap() != file {}
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn walking_the_same_folders_again_and_again_leaves_room_for_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let (watch, told) = watching(dir.path());
        let old: Vec<PathBuf> = (0..10).map(|n| dir.path().join(n.to_string())).collect();
        for folder in &old {
            fs::create_dir(folder).unwrap();
        }
        for _ in 0..=MAX_FOLDERS / old.len() {
            watch.walk_begins();
            old.iter().for_each(|folder| watch.entered(folder));
            assert_eq!(watch.walk_ended(), None);
        }
        let new = dir.path().join("new");
        fs::create_dir(&new).unwrap();
        watch.walk_begins();
        watch.entered(&new);
        assert_eq!(watch.walk_ended(), None);
        is_told_of(&new, &told);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_went_meanwhile_keeps_no_other_from_being_watched() {
        let dir = tempfile::tempdir().unwrap();
        let (watch, told) = watching(dir.path());
        watch.walk_begins();
        watch.entered(&dir.path().join("gone"));
        watch.entered(dir.path());
        assert_eq!(watch.walk_ended(), None);
        is_told_of(dir.path(), &told);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_was_made_anew_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (watch, told) = watching(dir.path());
        let folder = dir.path().join("folder");
        for _ in 0..2 {
            fs::create_dir(&folder).unwrap();
            watch.walk_begins();
            watch.entered(&folder);
            watch.walk_ended();
            is_told_of(&folder, &told);
            fs::remove_dir_all(&folder).unwrap();
            while told.recv_timeout(Duration::from_secs(30)).unwrap() != folder {}
            watch.forget(&folder);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_was_made_anew_before_the_walk_came_to_it_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (watch, told) = watching(dir.path());
        let folder = dir.path().join("folder");
        for is_again in [false, true] {
            fs::create_dir(&folder).unwrap();
            watch.walk_begins();
            if is_again {
                watch.forget(&folder);
            }
            watch.entered(&folder);
            watch.walk_ended();
            is_told_of(&folder, &told);
            fs::remove_dir_all(&folder).unwrap();
            while told.recv_timeout(Duration::from_secs(30)).unwrap() != folder {}
        }
    }
}
