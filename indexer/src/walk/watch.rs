//! Change events from the operating system.
//!
//! Events only name files that may have changed; the writer looks at each before it believes
//! anything, so events that are lost, doubled or out of order cost time, never correctness. When
//! the system drops events (overflow), everything is looked at again.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use notify::{
    Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

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
    watcher: RecommendedWatcher,
    n_folders: usize,
}

impl Watch {
    /// Starts watching; `changed` is called on the watcher's own thread and must not block.
    ///
    /// # Errors
    /// When the system has no watches left or no watcher at all; the index then learns of changes
    /// from the editor and from [`crate::Index::rescan`].
    pub(crate) fn start(
        root: &Path,
        git_dir: Option<&Path>,
        changed: impl Fn(Change) + Send + 'static,
    ) -> Result<Self, notify::Error> {
        let watcher = RecommendedWatcher::new(
            move |event: Result<notify::Event, notify::Error>| {
                if let Some(change) = interpret(event) {
                    changed(change);
                }
            },
            Config::default().with_follow_symlinks(false),
        )?;
        let mut watch = Self {
            watcher,
            n_folders: 0,
        };
        if !cfg!(target_os = "linux") {
            watch.watcher.watch(root, RecursiveMode::Recursive)?;
        }
        if let Some(git_dir) = git_dir {
            // HEAD, index and packed-refs are replaced by renames in this folder.
            watch.watcher.watch(git_dir, RecursiveMode::NonRecursive)?;
        }
        Ok(watch)
    }

    /// Watches folders that a walk has entered. On Linux ignored folders (build output) are thus
    /// never watched; elsewhere one recursive watch covers all.
    pub(crate) fn add(&mut self, folders: &[PathBuf]) -> Result<(), notify::Error> {
        if cfg!(target_os = "linux") {
            for folder in folders
                .iter()
                .take(MAX_FOLDERS.saturating_sub(self.n_folders))
            {
                self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
                self.n_folders += 1;
            }
        }
        Ok(())
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
    let in_git = |path: &PathBuf| path.components().any(|part| part.as_os_str() == ".git");
    if let Some(first) = event.paths.iter().find(|path| in_git(path)) {
        let name = first.file_name().and_then(OsStr::to_str).unwrap_or("");
        return matches!(
            name,
            "HEAD" | "packed-refs" | "index" | "ORIG_HEAD" | "FETCH_HEAD"
        )
        .then_some(Change::Git);
    }
    Some(Change::Paths(event.paths))
}

#[cfg(test)]
mod tests {
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
}
