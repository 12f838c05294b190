//! The learning thread: what it is told, what it tells, when it sleeps.
//!
//! Holds: idle, the thread waits without a timeout. What it is told is bounded: past
//! [`MOST_CHANGES`] paths, or when there is no memory for them, it learns everything anew instead.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ropey::Rope;
use rustc_hash::{FxHashMap, FxHashSet};

use super::learn::Learner;
use super::{Shared, State, Status};

/// Changed paths that are learnt one by one.
const MOST_CHANGES: usize = 5_000;

/// How long a buffer is left alone before its text is learnt.
const SETTLE: Duration = Duration::from_millis(200);

/// A running learning thread.
pub(crate) struct Worker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

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
    edited: FxHashMap<PathBuf, Option<Rope>>,
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
            desk,
            thread: Some(thread),
        })
    }

    pub(crate) fn edited(&self, path: &Path, text: Option<Rope>) {
        self.desk.tell(|inbox| {
            inbox.edited.insert(path.to_owned(), text);
        });
    }

    pub(crate) fn changed(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.desk.tell(|inbox| {
            inbox.changed.extend(paths);
            if inbox.changed.len() > MOST_CHANGES {
                inbox.changed.clear();
                inbox.all = true;
            }
        });
    }

    pub(crate) fn relearn(&self) {
        self.desk.tell(|inbox| inbox.all = true);
    }

    pub(crate) fn status(&self) -> Status {
        self.desk.lock().status.clone()
    }

    pub(crate) fn wait_learnt(&self, deadline: Instant) -> bool {
        let state = self.desk.lock();
        let wanted = state.n_told;
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .desk
            .learnt
            .wait_timeout_while(state, patience, |state| state.n_learnt < wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.n_learnt >= wanted
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.desk.tell(|inbox| inbox.stop = true);
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
        what(&mut state.inbox);
        if state.inbox.all && state.n_learnt != u64::MAX {
            state.status.state = State::Learning { done: 0, total: 0 };
        }
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
                .wait_timeout_while(state, SETTLE, |state| state.inbox.is_only_edits());
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
