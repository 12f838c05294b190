//! Settings files, watched while something runs by them.
//!
//! Holds: a notice says no more than that a file may have changed, and one that waits is enough,
//! because the files are read after it. Where nothing can be watched there are no notices.

use std::future;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Settings files that are watched until this is dropped.
#[derive(Debug)]
pub struct Watched {
    files: Vec<PathBuf>,
    changes: mpsc::Receiver<()>,
    /// Tells of changes for as long as it lives.
    watcher: Option<RecommendedWatcher>,
}

impl Watched {
    /// Watches `files`, which need not be there yet.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let (watcher, changes) = watch(&files);
        Self {
            files,
            changes,
            watcher,
        }
    }

    /// Resolves when one of the files may have changed since the last time. Dropping it loses no
    /// notice.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            return future::pending().await;
        }
        // The folder of a file may be another one now, or there at last.
        self.watcher = None;
        (self.watcher, self.changes) = watch(&self.files);
    }
}

/// Watches the folder of each file and of what it is a link to, because editors replace files instead
/// of writing them; while there is none, the nearest one above, in which it will be made.
fn watch(files: &[PathBuf]) -> (Option<RecommendedWatcher>, mpsc::Receiver<()>) {
    let (sender, receiver) = mpsc::channel(1);
    let targets = files.iter().filter_map(|file| file.canonicalize().ok());
    let files: Vec<PathBuf> = files.iter().cloned().chain(targets).collect();
    let concerns = files.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_on_the_way = |path: &PathBuf| concerns.iter().any(|file| file.starts_with(path));
        if event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(is_on_the_way)) {
            let _ = sender.try_send(());
        }
    });
    let watching = watcher.and_then(|mut watcher| {
        for file in &files {
            let mut watched = None;
            // A folder may be made before the one above it is watched.
            while watched != nearest(file) {
                watched = nearest(file);
                if let Some(folder) = watched {
                    watcher.watch(folder, RecursiveMode::NonRecursive)?;
                }
            }
        }
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => (Some(watcher), receiver),
        Err(why) => {
            tracing::debug!(%why, "the settings files cannot be watched");
            (None, receiver)
        }
    }
}

/// The nearest folder above `file` that is there.
fn nearest(file: &Path) -> Option<&Path> {
    file.ancestors().skip(1).find(|folder| folder.is_dir())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_a_settings_file_is_a_link_to_is_watched_too() {
        let dir = tempfile::tempdir().unwrap();
        let (own, kept) = (dir.path().join("own"), dir.path().join("kept"));
        fs::create_dir(&own).unwrap();
        fs::create_dir(&kept).unwrap();
        let (file, target) = (own.join("config.toml"), kept.join("dot-config.toml"));
        fs::write(&target, "a = 1\n").unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        let mut watched = Watched::new(vec![file]);
        for text in ["a = 2\n", "a = 3\n"] {
            // As editors do.
            fs::write(kept.join("new"), text).unwrap();
            fs::rename(kept.join("new"), &target).unwrap();
            let changed = tokio::time::timeout(Duration::from_secs(20), watched.changed());
            changed.await.expect("a notice of the change");
        }
    }
}
