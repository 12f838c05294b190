//! What the writer has been told and has not looked at yet, coalesced as it comes in.
//!
//! Holds: bounded. The newest text of a buffer replaces the one before; a path said twice is
//! there once; more paths than [`MAX_PATHS`] become one look at everything.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    path::RepoPath,
    repo::history::History,
    vector::{ChunkId, OutsideModel},
    walk::Walked,
};

const MAX_PATHS: usize = 20_000;
const MAX_VECTORS: usize = 100_000;
/// A burst of events is over once none came for this long,
const PAUSE: Duration = Duration::from_millis(4);
/// and is not waited out for longer than this.
const MAX_BURST: Duration = Duration::from_millis(30);
/// A key is looked at this much later: the question that an editor asks about it comes first, on a
/// core that is not busy with the same key.
const AFTER_KEY: Duration = Duration::from_millis(2);

/// Everything said since the writer last looked.
#[derive(Default)]
pub(super) struct Mail {
    /// The newest text of each buffer, `None` once closed.
    pub(super) buffers: FxHashMap<RepoPath, Option<Arc<str>>>,
    pub(super) paths: FxHashSet<PathBuf>,
    pub(super) rescan: bool,
    pub(super) git: bool,
    /// All files; no list when making it broke off.
    pub(super) walked: Option<Option<Walked>>,
    /// Of a commit.
    pub(super) history: Option<(Option<String>, History)>,
    /// `None` stands for the vector of another chunk with the same text.
    pub(super) vectors: Vec<(ChunkId, Option<Vec<f32>>)>,
    pub(super) outside: Option<OutsideModel>,
    /// Somebody waits for everything to be on disk.
    pub(super) settle: bool,
    pub(super) stop: bool,
    /// Messages in this mail and before it.
    pub(super) n_messages: u64,
    is_urgent: bool,
    /// When the oldest of the `buffers` changed.
    key_at: Option<Instant>,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.buffers.is_empty()
            && self.paths.is_empty()
            && !self.rescan
            && !self.git
            && self.walked.is_none()
            && self.history.is_none()
            && self.vectors.is_empty()
            && self.outside.is_none()
            && !self.settle
            && !self.stop
    }
}

#[derive(Default)]
pub(super) struct Inbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
}

/// How long the writer may sleep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Patience {
    /// There is other work: only look.
    None,
    Until(Instant),
    Forever,
}

impl Inbox {
    pub(super) fn buffer(&self, path: RepoPath, text: Option<Arc<str>>) {
        self.put(|mail| {
            mail.buffers.insert(path, text);
            mail.key_at.get_or_insert_with(Instant::now);
        });
    }

    pub(super) fn changed(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.put(|mail| {
            mail.paths.extend(paths);
            if mail.paths.len() > MAX_PATHS {
                mail.paths.clear();
                mail.rescan = true;
            }
        });
    }

    pub(super) fn rescan(&self) {
        self.put(|mail| {
            mail.rescan = true;
            mail.git = true;
        });
    }

    pub(super) fn git(&self) {
        self.put(|mail| mail.git = true);
    }

    pub(super) fn walked(&self, walked: Option<Walked>) {
        self.put(|mail| mail.walked = Some(walked));
    }

    pub(super) fn history(&self, commit: Option<String>, history: History) {
        self.put(|mail| mail.history = Some((commit, history)));
    }

    pub(super) fn outside(&self, model: OutsideModel) {
        self.put(|mail| mail.outside = Some(model));
    }

    pub(super) fn vectors(&self, vectors: Vec<(ChunkId, Option<Vec<f32>>)>) {
        self.put(|mail| {
            if mail.vectors.len() < MAX_VECTORS {
                mail.vectors.extend(vectors);
            }
        });
    }

    /// Asks for everything to be published; returns the number of this message.
    pub(super) fn settle(&self) -> u64 {
        self.put(|mail| {
            mail.settle = true;
            mail.is_urgent = true;
        })
    }

    pub(super) fn stop(&self) {
        self.put(|mail| {
            mail.stop = true;
            mail.is_urgent = true;
        });
    }

    pub(super) fn n_messages(&self) -> u64 {
        self.lock().n_messages
    }

    /// Takes everything there is, waiting for something to come as long as `patience` says.
    pub(super) fn take(&self, patience: Patience) -> Mail {
        let mut mail = self.lock();
        while mail.is_empty() {
            match patience {
                Patience::None => break,
                Patience::Forever => {
                    mail = self
                        .arrived
                        .wait(mail)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Patience::Until(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.arrived.wait_timeout(mail, left);
                    (mail, _) = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        let burst_ends = Instant::now() + MAX_BURST;
        while !mail.is_empty() && !mail.is_urgent && patience != Patience::None {
            let ends = mail.key_at.map_or(burst_ends, |key| key + AFTER_KEY);
            let left = ends.saturating_duration_since(Instant::now());
            let n_messages = mail.n_messages;
            let waited = self.arrived.wait_timeout(mail, left.min(PAUSE));
            (mail, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let is_over = mail.n_messages == n_messages && mail.key_at.is_none();
            if left.is_zero() || is_over {
                break;
            }
        }
        let n_messages = mail.n_messages;
        let taken = std::mem::take(&mut *mail);
        mail.n_messages = n_messages;
        taken
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) -> u64 {
        let mut mail = self.lock();
        change(&mut mail);
        mail.n_messages += 1;
        let n_messages = mail.n_messages;
        drop(mail);
        self.arrived.notify_one();
        n_messages
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
