//! The files that wait to be looked at.
//!
//! Holds: each waits once, however often it is said to have changed.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::path::RepoPath;

/// Where in the line a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Somebody works on it: before the others, the newest first.
    First,
    Last,
}

#[derive(Default)]
pub(super) struct Line {
    first: VecDeque<RepoPath>,
    last: VecDeque<RepoPath>,
    /// Where each of them stands; what is not said here left the line.
    waiting: FxHashMap<RepoPath, Order>,
}

impl Line {
    /// Puts a file in line. One that waits already can only come forward.
    pub(super) fn push(&mut self, path: RepoPath, order: Order) {
        if self.waiting.is_empty() {
            self.first.clear();
            self.last.clear();
        }
        match (self.waiting.get(&path), order) {
            (Some(Order::First), _) | (Some(Order::Last), Order::Last) => return,
            (_, Order::First) => self.first.push_front(path.clone()),
            (None, Order::Last) => self.last.push_back(path.clone()),
        }
        self.waiting.insert(path, order);
    }

    /// Takes up to `n` files that stand at the same place, and says how many do.
    pub(super) fn take(&mut self, n: usize) -> (Vec<RepoPath>, usize) {
        let mut taken = Vec::new();
        for order in [Order::First, Order::Last] {
            let line = match order {
                Order::First => &mut self.first,
                Order::Last => &mut self.last,
            };
            let n_waiting = line.len();
            while taken.len() < n
                && let Some(path) = line.pop_front()
            {
                if self.waiting.get(&path) == Some(&order) {
                    self.waiting.remove(&path);
                    taken.push(path);
                }
            }
            if !taken.is_empty() {
                return (taken, n_waiting);
            }
        }
        (taken, 0)
    }

    pub(super) fn remove(&mut self, path: &RepoPath) {
        self.waiting.remove(path);
    }

    pub(super) fn contains(&self, path: &RepoPath) -> bool {
        self.waiting.contains_key(path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &RepoPath> {
        self.waiting.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
