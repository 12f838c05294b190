//! What past commits say about files: their messages, what changes together, what is fresh.
//!
//! The text of past messages is the second-best signal after the words of the code itself: who
//! fixed "the retry back-off" before touched the file that the next such fix will touch.

use std::{path::Path, sync::Arc};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::{
    path::{RepoPath, name_hash},
    store::{StoreError, read_sealed, write_sealed},
    text::{paths::idf, score::QueryTerm},
};

pub(crate) const MAX_COMMITS: usize = 4_000;
/// Commits that touch more files say nothing about which go together.
const MAX_TOGETHER: usize = 20;
/// The most similar messages that vote.
const N_NEIGHBOURS: usize = 60;
const K1: f32 = 1.2;

/// One commit that is not a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) seconds: i64,
    /// The terms of its message, separated by spaces.
    pub(crate) terms: String,
    /// Empty when it touched too many.
    pub(crate) files: Vec<RepoPath>,
}

/// The last commits, newest first, and what can be asked of them.
#[derive(Debug, Default)]
pub(crate) struct History {
    commits: Vec<Arc<Commit>>,
    /// Distinct files, in the order they were met.
    files: Vec<FileHistory>,
    by_path: FxHashMap<RepoPath, u32>,
    /// The files of each commit.
    touched: Vec<Vec<u32>>,
    /// Term → commits with its count in each.
    postings: FxHashMap<u32, Vec<(u32, f32)>>,
    message_terms: Vec<f32>,
    mean_message: f32,
    mean_file_terms: f32,
}

#[derive(Debug)]
struct FileHistory {
    path: RepoPath,
    commits: Vec<u32>,
    /// Terms of all messages about it.
    n_terms: f32,
    recency_50: f32,
    recency_500: f32,
}

/// What the history says about one file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PastScore {
    /// Votes of commits with similar messages.
    pub(crate) neighbours: f32,
    /// BM25 of all its messages as one document.
    pub(crate) messages: f32,
}

impl History {
    /// Prepares `commits`, newest first, for questions. O(words + files).
    pub(crate) fn new(commits: Vec<Arc<Commit>>) -> Self {
        let mut history = Self::default();
        for (at, commit) in commits.iter().enumerate() {
            let at = at as u32;
            let mut counts: FxHashMap<u32, f32> = FxHashMap::default();
            let mut n_terms = 0.0;
            for term in commit.terms.split_ascii_whitespace() {
                *counts.entry(name_hash(term.as_bytes())).or_default() += 1.0;
                n_terms += 1.0;
            }
            for (term, count) in counts {
                history.postings.entry(term).or_default().push((at, count));
            }
            history.message_terms.push(n_terms);
            let age = at as f32;
            let mut touched = Vec::with_capacity(commit.files.len());
            for path in &commit.files {
                let next = history.files.len() as u32;
                let file_at = *history.by_path.entry(path.clone()).or_insert(next);
                if file_at == next {
                    history.files.push(FileHistory {
                        path: path.clone(),
                        commits: Vec::new(),
                        n_terms: 0.0,
                        recency_50: 0.0,
                        recency_500: 0.0,
                    });
                }
                let file = &mut history.files[file_at as usize];
                file.commits.push(at);
                file.n_terms += n_terms;
                file.recency_50 += (-age / 50.0).exp();
                file.recency_500 += (-age / 500.0).exp();
                touched.push(file_at);
            }
            history.touched.push(touched);
        }
        let mean = |sum: f32, n: usize| sum / n.max(1) as f32;
        history.mean_message = mean(history.message_terms.iter().sum(), commits.len());
        let file_terms = history.files.iter().map(|file| file.n_terms).sum();
        history.mean_file_terms = mean(file_terms, history.files.len());
        history.commits = commits;
        history
    }

    pub(crate) fn commits(&self) -> &[Arc<Commit>] {
        &self.commits
    }

    pub(crate) fn path(&self, file: u32) -> &RepoPath {
        &self.files[file as usize].path
    }

    pub(crate) fn file(&self, path: &RepoPath) -> Option<u32> {
        self.by_path.get(path).copied()
    }

    /// Returns (recent, long-term) activity of a file: commits weighted by e^(−age/50) and
    /// e^(−age/500), age in commits.
    pub(crate) fn recency(&self, file: u32) -> (f32, f32) {
        let file = &self.files[file as usize];
        (file.recency_50, file.recency_500)
    }

    pub(crate) fn n_files(&self) -> u32 {
        self.files.len() as u32
    }

    /// Calls `tell` with the files whose past messages are like the question, in rising order.
    pub(crate) fn score(&self, terms: &[QueryTerm], mut tell: impl FnMut(u32, PastScore)) {
        let mut scores = vec![PastScore::default(); self.files.len()];
        let mut commits = vec![0.0_f32; self.commits.len()];
        let mut counts = vec![0.0_f32; self.files.len()];
        let mut counted: Vec<u32> = Vec::new();
        let n_commits = self.commits.len() as f32;
        for term in terms {
            let Some(postings) = self.postings.get(&name_hash(term.text.as_bytes())) else {
                continue;
            };
            let idf = term.weight * idf(n_commits, postings.len() as f32);
            for &(at, count) in postings {
                let length = self.message_terms[at as usize] / self.mean_message.max(1.0);
                commits[at as usize] += idf * saturated(count, length);
                for &file in &self.touched[at as usize] {
                    if counts[file as usize] == 0.0 {
                        counted.push(file);
                    }
                    counts[file as usize] += count;
                }
            }
            for file in counted.drain(..) {
                let count = std::mem::take(&mut counts[file as usize]);
                let length = self.files[file as usize].n_terms / self.mean_file_terms.max(1.0);
                scores[file as usize].messages += idf * saturated(count, length);
            }
        }
        let mut nearest: Vec<(u32, f32)> = commits
            .into_iter()
            .zip(0..)
            .map(|(score, at)| (at, score))
            .filter(|&(at, score): &(u32, f32)| {
                score > 0.0 && !self.touched[at as usize].is_empty()
            })
            .collect();
        let falling = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if nearest.len() > N_NEIGHBOURS {
            nearest.select_nth_unstable_by(N_NEIGHBOURS, falling);
            nearest.truncate(N_NEIGHBOURS);
        }
        nearest.sort_unstable_by(falling);
        let top = nearest.first().map_or(1.0, |first| first.1).max(1e-6);
        for &(at, score) in &nearest {
            let touched = &self.touched[at as usize];
            let vote = (score / top).powi(2) * score / (touched.len() as f32).sqrt();
            for &file in touched {
                scores[file as usize].neighbours += vote;
            }
        }
        for (file, score) in scores.into_iter().enumerate() {
            if score.messages > 0.0 {
                tell(file as u32, score);
            }
        }
    }

    /// Scores the files that changed together with `seeds` (file, weight): each common commit of
    /// n files counts 1/(n − 1), relative to how often the seed changed.
    pub(crate) fn together(&self, seeds: &[(u32, f32)]) -> FxHashMap<u32, f32> {
        let mut scores: FxHashMap<u32, f32> = FxHashMap::default();
        for &(seed, weight) in seeds {
            let commits = &self.files[seed as usize].commits;
            let share = weight / (commits.len() as f32 + 2.0).sqrt();
            for &at in commits {
                let touched = &self.touched[at as usize];
                if (2..=MAX_TOGETHER).contains(&touched.len()) {
                    for &file in touched.iter().filter(|&&file| file != seed) {
                        *scores.entry(file).or_default() += share / (touched.len() - 1) as f32;
                    }
                }
            }
        }
        scores
    }

    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        let Some(bytes) = read_sealed(path)? else {
            return Ok(Self::default());
        };
        let commits: Vec<Commit> =
            postcard::from_bytes(&bytes).map_err(|error| StoreError::damaged(path, &error))?;
        Ok(Self::new(commits.into_iter().map(Arc::new).collect()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let commits: Vec<&Commit> = self.commits.iter().map(Arc::as_ref).collect();
        let bytes =
            postcard::to_stdvec(&commits).map_err(|error| StoreError::damaged(path, &error))?;
        write_sealed(path, &bytes)
    }
}

fn saturated(count: f32, relative_length: f32) -> f32 {
    count * (K1 + 1.0) / (count + K1 * (0.5 + 0.5 * relative_length))
}
