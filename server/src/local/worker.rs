//! The learning thread: what it is told, what it tells, when it sleeps.
//!
//! Holds: idle, the thread waits without a timeout. What it is told is bounded: past
//! [`MOST_TOLD`] paths, and where the learner says that they are too many or too large, it learns
//! everything anew instead.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ropey::Rope;
use rustc_hash::FxHashSet;

use super::learn::Learner;
use super::{Shared, State, Status};

/// Changed paths that are remembered until they are looked at. An installer of packages tells of
/// tens of thousands, most of them ignored.
const MOST_TOLD: usize = 50_000;

/// What is typed within this time is learnt together.
const GATHER: Duration = Duration::from_millis(200);

/// A running learning thread.
pub(crate) struct Worker {
    pub(crate) learning: Learning,
    thread: Option<JoinHandle<()>>,
}

/// What an engine learns, to be waited for and told of. Whoever holds it does not keep the engine
/// at work: its thread ends with the last [`Engine`](super::Engine), and then nobody waits any more.
#[derive(Clone)]
pub struct Learning(Arc<Desk>);

/// Where callers and the thread meet.
struct Desk {
    state: Mutex<Desktop>,
    /// Something was told.
    told: Condvar,
    /// Something was learnt.
    learnt: Condvar,
}

#[derive(Default)]
struct Desktop {
    inbox: Inbox,
    /// Counts everything told, and how far of that was learnt.
    n_told: u64,
    n_learnt: u64,
    status: Status,
}

impl Desktop {
    /// An engine that is about to learn everything is not idle.
    fn show_what_is_to_come(&mut self) {
        if self.inbox.all {
            self.status.state = State::Learning { done: 0, total: 0 };
        }
    }
}

#[derive(Default)]
struct Inbox {
    all: bool,
    stop: bool,
    changed: FxHashSet<PathBuf>,
    /// In the order in which they were told, each once.
    edited: Vec<(PathBuf, Option<Rope>)>,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        !self.all && !self.stop && self.changed.is_empty() && self.edited.is_empty()
    }

    fn is_only_edits(&self) -> bool {
        !self.all && !self.stop && self.changed.is_empty()
    }
}

impl Worker {
    pub(crate) fn start(learner: Learner, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let desk = Arc::new(Desk {
            state: Mutex::new(Desktop::default()),
            told: Condvar::new(),
            learnt: Condvar::new(),
        });
        desk.tell(|inbox| inbox.all = true);
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("learn".into())
            .spawn(move || {
                step_back();
                theirs.run(learner, &shared);
            });
        let thread = thread.context("could not start the thread that learns the workspace")?;
        Ok(Self {
            learning: Learning(desk),
            thread: Some(thread),
        })
    }

    pub(crate) fn edited(&self, path: &Path, text: Option<Rope>) {
        self.learning.0.tell(|inbox| {
            inbox.edited.retain(|(known, _)| known != path);
            inbox.edited.push((path.to_owned(), text));
        });
    }

    pub(crate) fn relearn(&self) {
        self.learning.0.tell(|inbox| inbox.all = true);
    }
}

impl Learning {
    /// Tells that files or folders were created, changed or deleted on disk.
    pub fn changed(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.0.tell(|inbox| {
            inbox.changed.extend(paths);
            if inbox.changed.len() > MOST_TOLD {
                inbox.changed.clear();
                inbox.all = true;
            }
        });
    }

    pub fn status(&self) -> Status {
        self.0.lock().status.clone()
    }

    /// Waits until everything told so far is learnt, or the engine is gone; returns whether that
    /// was before `deadline`.
    pub fn wait_learnt(&self, deadline: Instant) -> bool {
        let state = self.0.lock();
        let wanted = state.n_told;
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .0
            .learnt
            .wait_timeout_while(state, patience, |state| state.n_learnt < wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.n_learnt >= wanted
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.learning.0.tell(|inbox| inbox.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Desktop> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: impl FnOnce(&mut Inbox)) {
        let mut state = self.lock();
        if state.n_learnt == u64::MAX {
            // Nobody learns it any more.
            return;
        }
        what(&mut state.inbox);
        state.n_told += 1;
        state.show_what_is_to_come();
        self.told.notify_all();
    }

    /// Waits for something to learn; `None` when it is time to stop.
    fn next(&self) -> Option<(Inbox, u64)> {
        let state = self.lock();
        let mut state = self
            .told
            .wait_while(state, |state| state.inbox.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if state.inbox.is_only_edits() {
            let settled = self
                .told
                .wait_timeout_while(state, GATHER, |state| state.inbox.is_only_edits());
            state = settled.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.inbox.stop {
            return None;
        }
        Some((std::mem::take(&mut state.inbox), state.n_told))
    }

    fn run(&self, mut learner: Learner, shared: &Shared) {
        let _leaving = Leaving(self);
        while let Some((inbox, n_told)) = self.next() {
            for (path, text) in inbox.edited {
                learner.learn_open(&path, text.map(|rope| rope.to_string()));
            }
            if !inbox.all && learner.learn_changed(&inbox.changed) {
                shared.publish(learner.snapshot());
            } else {
                let mut progress = |done, total| {
                    let mut state = self.lock();
                    state.status.state = State::Learning { done, total };
                    !state.inbox.stop
                };
                learner.learn_all(&mut progress, &mut |learner| {
                    shared.publish(learner.snapshot());
                });
            }
            let mut status = learner.status();
            status.memory += shared.reading_bytes();
            let mut state = self.lock();
            if state.inbox.all {
                status.state = State::Learning { done: 0, total: 0 };
            }
            state.status = status;
            state.show_what_is_to_come();
            state.n_learnt = n_told;
            self.learnt.notify_all();
        }
    }
}

/// Lets nobody wait for a thread that has ended, also when it panicked: what was published last
/// goes on answering.
struct Leaving<'d>(&'d Desk);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.status.state = State::Idle;
        state.n_learnt = u64::MAX;
        self.0.learnt.notify_all();
        if std::thread::panicking() {
            tracing::error!("the embedded engine stopped learning; it answers from what it knows");
        }
    }
}

/// Lets everything else on the machine go first.
fn step_back() {
    #[cfg(target_os = "linux")]
    {
        const NICE: i32 = 10;
        let thread = rustix::thread::gettid();
        // A thread that keeps its priority learns all the same.
        let _ = rustix::process::setpriority_process(Some(thread), NICE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::local::{DEFAULT_MEMORY, Engine, Settings};

    #[test]
    fn who_waits_for_an_engine_does_not_keep_it_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(Settings {
            roots: vec![folder.path().to_owned()],
            exclude: Vec::new(),
            memory: DEFAULT_MEMORY,
        })
        .unwrap();
        let learning = engine.learning();
        let patience = Duration::from_secs(60);
        assert!(learning.wait_learnt(Instant::now() + patience));
        // As one who waits for what the thread has not come to yet.
        learning.0.lock().n_told += 1;
        let (tell, told) = mpsc::channel();
        let waiting = learning.clone();
        std::thread::spawn(move || tell.send(waiting.wait_learnt(Instant::now() + 10 * patience)));
        drop(engine);
        assert_eq!(told.recv_timeout(patience), Ok(true));
        learning.changed([folder.path().to_owned()]);
        assert!(learning.0.lock().inbox.changed.is_empty());
    }
}
