//! Words of paths: matched in memory, because a path belongs to a file and not to its content.

use rustc_hash::FxHashMap;

use super::analyse::Terms;
use crate::path::{RepoPath, name_hash};

/// A word in the file's own name counts this many times one in a folder's name.
const NAME_WEIGHT: f32 = 2.5;

/// The words of every path, for scoring all files at once.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    /// (term, slot, weight), in rising order of term.
    postings: Vec<(u32, u32, f32)>,
    n_files: usize,
}

impl PathIndex {
    pub(crate) fn new<'p>(paths: impl Iterator<Item = &'p RepoPath>) -> Self {
        let mut index = Self::default();
        // Most paths share their folder with the one before.
        let mut folder: (String, Vec<u32>) = Default::default();
        for (slot, path) in paths.enumerate() {
            if path.parent() != folder.0 || slot == 0 {
                folder = (path.parent().to_owned(), terms(path.parent()));
            }
            let mut weights: FxHashMap<u32, f32> = FxHashMap::default();
            for &term in &folder.1 {
                weights.insert(term, 1.0);
            }
            for term in terms(path.file_name()) {
                weights.insert(term, NAME_WEIGHT);
            }
            let n_terms = weights.len() as f32;
            for (term, weight) in weights {
                index
                    .postings
                    .push((term, slot as u32, weight / (1.0 + 0.1 * n_terms)));
            }
            index.n_files = slot + 1;
        }
        index
            .postings
            .sort_unstable_by_key(|&(term, slot, _)| (term, slot));
        index.postings.shrink_to_fit();
        index
    }

    /// Calls `score` with (slot, score) for every file whose path holds the term.
    pub(crate) fn matches(&self, term: &str, mut score: impl FnMut(u32, f32)) {
        let term = name_hash(term.as_bytes());
        let start = self.postings.partition_point(|&(other, _, _)| other < term);
        let found = self.postings[start..]
            .iter()
            .take_while(|&&(other, _, _)| other == term);
        let idf = idf(self.n_files as f32, found.clone().count() as f32);
        for &(_, slot, weight) in found {
            score(slot, idf * weight);
        }
    }
}

/// Returns the terms of a path that is in no [`PathIndex`], with their weights before idf.
pub(crate) fn weight_in(path: &RepoPath, term: &str) -> f32 {
    let term = name_hash(term.as_bytes());
    if terms(path.file_name()).contains(&term) {
        NAME_WEIGHT
    } else if terms(path.parent()).contains(&term) {
        1.0
    } else {
        0.0
    }
}

/// Returns the weight of a term that `n` of `total` documents have (Robertson–Spärck Jones, as
/// Lucene bounds it).
pub(crate) fn idf(total: f32, n: f32) -> f32 {
    (1.0 + (total - n + 0.5).max(0.0) / (n + 0.5)).ln()
}

fn terms(text: &str) -> Vec<u32> {
    let mut terms = Terms::default();
    super::analyse::words(text, |_, word| terms.add_word(word));
    terms
        .iter()
        .map(|term| name_hash(term.as_bytes()))
        .collect()
}
