//! Pieces of open files that look like the code at the cursor.
//!
//! Windows of lines are compared by the names in them (Jaccard's index, as in several completion
//! clients). What a document contains is counted once for each text of it and kept.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use ropey::Rope;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Reason, Snippet};
use crate::secret;
use crate::session::document::Document;

/// Lines of a window, and how far apart windows start.
const LINES: usize = 32;
const STRIDE: usize = 16;
/// Other documents that are looked at, most recently used first.
const DOCUMENTS: usize = 12;
/// Larger documents are not looked at; they are data more often than code.
const MAX_BYTES: usize = 512 << 10;
/// Lines above the cursor that a window is compared with.
const QUERY_LINES: usize = 24;
/// A window that shares less says nothing.
const LEAST: f32 = 0.12;

/// The windows of the open documents.
#[derive(Debug, Default)]
pub struct Similar {
    cache: Mutex<FxHashMap<Arc<str>, Arc<Windows>>>,
}

#[derive(Debug)]
struct Windows {
    /// What they are of: a client may give another text the same version.
    text: Rope,
    /// Whether it holds a private key, of which a piece looks like any text.
    has_key: bool,
    /// First line and names of each window; of a document that is not looked at, none.
    windows: Vec<(usize, FxHashSet<u64>)>,
}

impl Similar {
    /// Returns the most similar window of each of the `others` that has one, best first.
    pub(super) fn best(
        &self,
        prefix: &str,
        others: &[&Arc<Document>],
        path: impl Fn(&Document) -> String,
    ) -> Vec<Snippet> {
        let query_start = prefix
            .rmatch_indices('\n')
            .nth(QUERY_LINES)
            .map_or(0, |(i, _)| i + 1);
        let query = names(&prefix[query_start..]);
        if query.is_empty() {
            return Vec::new();
        }
        let candidates = others
            .iter()
            .filter(|d| d.text.len_bytes() <= MAX_BYTES)
            .take(DOCUMENTS);
        let mut found: Vec<(f32, usize, &Arc<Document>)> = candidates
            .filter_map(|document| {
                let windows = self.windows(document);
                if windows.has_key {
                    return None;
                }
                let scored = windows
                    .windows
                    .iter()
                    .map(|(line, names)| (jaccard(&query, names), *line));
                let (score, line) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
                (score >= LEAST).then_some((score, line, *document))
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2.uri.cmp(&b.2.uri)));
        let snippet = |(_, line, document): (f32, usize, &Arc<Document>)| {
            let end = (line + LINES).min(document.text.len_lines());
            let bytes = document.text.line_to_byte(line)..document.text.line_to_byte(end);
            Snippet {
                path: path(document),
                line,
                text: document.slice(bytes),
                reason: Reason::Similar,
            }
        };
        found.into_iter().map(snippet).collect()
    }

    /// Whether a document holds a private key.
    pub(super) fn has_key(&self, document: &Arc<Document>) -> bool {
        self.windows(document).has_key
    }

    /// Forgets a closed document.
    pub fn closed(&self, uri: &str) {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uri);
    }

    fn windows(&self, document: &Arc<Document>) -> Arc<Windows> {
        let cached = self
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&document.uri)
            .cloned();
        if let Some(windows) = cached
            && windows.text.is_instance(&document.text)
        {
            return windows;
        }
        let is_looked_at = document.text.len_bytes() <= MAX_BYTES;
        let mut has_key = false;
        let lines: Vec<FxHashSet<u64>> = document
            .text
            .lines()
            .filter_map(|line| {
                let line = Cow::from(line);
                has_key = has_key || secret::is_key_file(&line);
                is_looked_at.then(|| names(&line))
            })
            .collect();
        let starts = (0..lines.len()).step_by(STRIDE);
        let windows = starts
            .map(|start| {
                (
                    start,
                    lines
                        .iter()
                        .skip(start)
                        .take(LINES)
                        .flatten()
                        .copied()
                        .collect(),
                )
            })
            .collect();
        let windows = Arc::new(Windows {
            text: document.text.clone(),
            has_key,
            windows,
        });
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(Arc::clone(&document.uri), Arc::clone(&windows));
        windows
    }
}

/// Hashes of the names in `text`, longer than two characters.
fn names(text: &str) -> FxHashSet<u64> {
    use std::hash::BuildHasher;
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|name| name.len() > 2 && !name.as_bytes()[0].is_ascii_digit())
        .map(|name| rustc_hash::FxBuildHasher.hash_one(name))
        .collect()
}

fn jaccard(a: &FxHashSet<u64>, b: &FxHashSet<u64>) -> f32 {
    let shared = a.iter().filter(|n| b.contains(n)).count();
    let all = a.len() + b.len() - shared;
    if all == 0 {
        0.0
    } else {
        shared as f32 / all as f32
    }
}
