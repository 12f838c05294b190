//! Keeping the index true: one writer thread, many readers.
//!
//! [`Index`] is the handle. Whatever may have changed (a keystroke, a saved file, an event, a
//! commit) goes into the inbox, where it is coalesced; the writer takes it out, looks at the
//! files themselves, and publishes a new [`Reader`]. Open files and those closed last go first, with
//! what was said to have changed, then what git says changed, then the rest, newest first: which
//! those are is found out by listing all files, which nothing else waits for.
//! Holds: no caller ever waits for the writer except in [`Index::wait_until_settled`]; what a
//! message says is never believed, only looked at; with nothing to do the writer sleeps without
//! a timer, except in a second process on the same folder, which every two seconds tries the lock
//! and looks at the manifest's time, and reads and walks everything when the first has published.
//! What the disk refused is tried again after half a minute, then more and more rarely, at last
//! every ten minutes; what changed meanwhile is kept in memory. A bad file is a [`Fault`] in the
//! status and the update goes on.

mod examine;
mod inbox;
mod line;
mod publish;
mod writer;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use rustc_hash::FxHashSet;
use serde::Serialize;

use self::inbox::Inbox;
use crate::{
    path::{ContentHash, RepoPath},
    reader::Reader,
    repo::Head,
    store::{Layout, StoreError},
    vector::{ChunkId, OutsideModel},
    walk::{Fault, is_gits, watch::tells_of_git},
};

/// Hears of files that may have changed, as they are named below the root.
pub type OnChange = dyn Fn(&[RepoPath]) + Send;

/// How an index is opened.
pub struct Options {
    /// The workspace folder.
    pub root: PathBuf,
    /// Where indexes are kept; each workspace has its own folder in it.
    pub cache_dir: PathBuf,
    /// Threads for reading and parsing; they run at low priority.
    pub threads: usize,
    pub watch: Watching,
    /// Above this many bytes on disk, content that no file has any more is dropped at once.
    pub disk_cap: u64,
    /// Called on the writer's thread whenever the status changes; must not block.
    pub on_status: Box<dyn Fn(&Status) + Send>,
    /// Called on the writer's thread with files and folders that the ignore rules let in and that
    /// were said or found to have changed on disk, or are gone; must not block. What the first look
    /// at all files finds is not among them.
    pub on_change: Box<OnChange>,
}

/// Whether the file system is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// The operating system tells of changes.
    On,
    /// Only [`Index::changed`] and [`Index::rescan`] do.
    Off,
}

impl Options {
    /// Options for `root` with everything at its default and nobody listening.
    pub fn new(root: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            cache_dir: cache_dir.into(),
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            watch: Watching::On,
            disk_cap: 16 << 30,
            on_status: Box::new(|_| {}),
            on_change: Box::new(|_| {}),
        }
    }
}

/// What the index is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Opening what is on disk and listing the files.
    #[default]
    Scanning,
    /// Reading files that are new or changed.
    Indexing,
    /// Everything that is known of is indexed.
    Ready,
}

/// Who writes the index on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Writer,
    /// Another process writes; this one reads what it publishes and keeps its own changes in
    /// memory until it gets its turn.
    Follower,
}

/// The state of the index, as `pairwright/index/status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub phase: Phase,
    pub role: Role,
    /// Files known, whether their content is indexed or not.
    pub n_files: usize,
    /// Files whose content is indexed.
    pub n_indexed: usize,
    /// Files that wait to be looked at.
    pub pending: usize,
    /// HEAD when everything was last current.
    pub indexed_commit: Option<String>,
    pub head: Head,
    /// The first faults; [`n_faults`](Self::n_faults) counts all.
    pub faults: Vec<Fault>,
    pub n_faults: usize,
    /// Grows with every publishing to disk.
    pub generation: u64,
    pub n_chunks: usize,
    pub n_names: usize,
    pub n_commits: usize,
    /// Chunks with a vector of the outside model.
    pub n_vectors: usize,
    /// Chunks that it is known to lack; more may follow.
    pub n_wanted_vectors: usize,
}

/// Where an index is and how large, without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Footprint {
    pub dir: PathBuf,
    pub bytes: u64,
}

/// A live index of one workspace.
///
/// Dropping it publishes what is not on disk yet and ends the writer.
pub struct Index {
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    root: PathBuf,
    /// The root as the caller names it.
    named: PathBuf,
    writer: Option<JoinHandle<()>>,
}

/// What the writer hands out.
pub(crate) struct Shared {
    state: Mutex<State>,
    published: Condvar,
}

pub(crate) struct State {
    reader: Reader,
    status: Status,
    /// Chunks without a vector of the outside model, with their lines, last first.
    wanted: Vec<(ChunkId, RepoPath, u32, u32)>,
    /// Hashes of the texts that have one.
    known_texts: FxHashSet<u64>,
    /// Messages taken from the inbox and dealt with.
    n_handled: u64,
}

impl Shared {
    /// Tells that nothing is kept up to date any more.
    fn stopped(&self) {
        tracing::error!("the index writer panicked");
        let stopped = Fault::new("", "it stopped, by a fault of ours; restart the server");
        let status = &mut self.lock().status;
        status.faults.insert(0, stopped);
        status.n_faults += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Opens the index of a workspace and starts to bring it up to date in the background.
    ///
    /// Returns at once with what is on disk, if that is sound; 0.1 s for 10,000 files.
    ///
    /// # Errors
    /// When the cache folder cannot be made or written. A damaged index is not an error: it is
    /// rebuilt.
    pub fn open(mut options: Options) -> Result<Self, StoreError> {
        let named = options.root.clone();
        options.root = options
            .root
            .canonicalize()
            .map_err(StoreError::io("open", &options.root))?;
        let root = options.root.clone();
        let layout = Layout::of(&options.cache_dir, &root);
        let inbox = Arc::new(Inbox::default());
        let (writer, shared) = writer::Writer::open(options, layout, inbox.clone())?;
        let told = shared.clone();
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || {
                let run = AssertUnwindSafe(|| writer.run());
                if catch_unwind(run).is_err() {
                    told.stopped();
                }
            })
            .map_err(StoreError::io("start the writer of", &root))?;
        Ok(Self {
            inbox,
            shared,
            root,
            named,
            writer: Some(thread),
        })
    }

    /// Returns the newest view. Costs a few pointers.
    pub fn reader(&self) -> Reader {
        self.shared.lock().reader.clone()
    }

    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// Shows the index the text of an open buffer; every keystroke may call this.
    pub fn buffer_changed(&self, path: &Path, text: Arc<str>) {
        if let Some(path) = self.below(path) {
            self.inbox.buffer(path, Some(text));
        }
    }

    /// Says that a buffer was closed: the file on disk counts again.
    pub fn buffer_closed(&self, path: &Path) {
        if let Some(path) = self.below(path) {
            self.inbox.buffer(path, None);
        }
    }

    /// Says that files or folders may have changed, appeared or gone.
    pub fn changed(&self, paths: impl IntoIterator<Item = PathBuf>) {
        let ours = paths.into_iter().filter_map(|path| self.below(&path));
        let ours = ours.map(|path| path.under(&self.root));
        let (gits, files): (Vec<PathBuf>, Vec<PathBuf>) = ours.partition(|path| is_gits(path));
        if gits.iter().any(|path| tells_of_git(path)) {
            self.inbox.git();
        }
        self.inbox.changed(files);
    }

    /// Asks for a look at every file and at git.
    pub fn rescan(&self) {
        self.inbox.rescan();
    }

    /// Starts to keep vectors of a model outside this program, beside the embedded ones. Those it
    /// gave before are on disk.
    pub fn use_outside_model(&self, model: OutsideModel) {
        self.inbox.outside(model);
    }

    /// Takes at most `n` chunks that the outside model has not seen, with their text. A text it
    /// has seen elsewhere is not among them. What is taken and not put back is offered again
    /// after the next start. [`Status::n_wanted_vectors`] says when there is something.
    pub fn wanted_vectors(&self, n: usize) -> Vec<(ChunkId, String)> {
        let mut taken = Vec::new();
        let mut same = Vec::new();
        while taken.len() < n {
            let (reader, wanted) = {
                let mut state = self.shared.lock();
                let keep = state.wanted.len().saturating_sub(n - taken.len());
                (state.reader.clone(), state.wanted.split_off(keep))
            };
            if wanted.is_empty() {
                break;
            }
            for (mut id, path, first, end) in wanted.into_iter().rev() {
                // The lines are those of what is saved and known, not of what is typed meanwhile.
                let slot = reader.slot(&path);
                let slot = slot.filter(|&slot| reader.entry(slot).unit == Some(id.unit));
                let Some(text) = slot.and_then(|slot| reader.text(slot)) else {
                    continue;
                };
                let text = crate::search::pack::lines(&text, first, end);
                id.text = ContentHash::of(text.as_bytes()).prefix().max(1);
                if self.shared.lock().known_texts.contains(&id.text) {
                    same.push((id, None));
                } else {
                    taken.push((id, text.to_owned()));
                }
            }
        }
        if !same.is_empty() {
            self.inbox.vectors(same);
        }
        taken
    }

    /// Hands in vectors of the outside model. Vectors of another length are dropped.
    pub fn put_vectors(&self, vectors: Vec<(ChunkId, Vec<f32>)>) {
        let some = |(id, vector)| (id, Some(vector));
        self.inbox.vectors(vectors.into_iter().map(some).collect());
    }

    /// Waits until all files have been looked at, everything said so far included, and what was
    /// found is on disk, at most until `deadline`. Returns whether it is. A follower puts nothing
    /// on disk; it is settled once its own view is complete.
    pub fn wait_until_settled(&self, deadline: Instant) -> bool {
        let target = self.inbox.settle();
        self.wait(deadline, |state| {
            let Status {
                role,
                phase,
                pending,
                ..
            } = &state.status;
            let is_settled = match role {
                Role::Writer => *phase == Phase::Ready,
                Role::Follower => *pending == 0 && *phase != Phase::Scanning,
            };
            state.n_handled >= target && is_settled
        })
    }

    /// Waits until everything said so far can be found, on disk or not.
    pub fn wait_until_seen(&self, deadline: Instant) -> bool {
        let target = self.inbox.n_messages();
        self.wait(deadline, |state| state.n_handled >= target)
    }

    /// Returns a file's name, whether its path begins as the root was named or as links lead.
    fn below(&self, path: &Path) -> Option<RepoPath> {
        RepoPath::below(&self.root, path.strip_prefix(&self.named).unwrap_or(path))
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&State) -> bool) -> bool {
        let mut state = self.shared.lock();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.published.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Returns where the index of `root` is and how large.
    pub fn footprint(cache_dir: &Path, root: &Path) -> Footprint {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let layout = Layout::of(cache_dir, &root);
        Footprint {
            dir: layout.dir().to_owned(),
            bytes: layout.bytes_on_disk(),
        }
    }

    /// Removes the index of `root`; returns the bytes freed, `None` while a process writes it.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clean(cache_dir: &Path, root: &Path) -> Result<Option<u64>, StoreError> {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let layout = Layout::of(cache_dir, &root);
        let Some(_lock) = layout.lock()? else {
            return Ok(None);
        };
        let bytes = layout.bytes_on_disk();
        layout.wipe()?;
        Ok(Some(bytes))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.inbox.stop();
        if let Some(writer) = self.writer.take() {
            // It has told why, if it broke off.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
