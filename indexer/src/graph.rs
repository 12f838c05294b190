//! Who uses whose names: a weighted graph from the file that uses a name to those that define it.
//!
//! Edges are not stored. A file's record holds the names it uses, the index holds who defines a
//! name, and an edge is looked up when it is walked; so a changed file changes the graph at once,
//! in both directions, and memory is 8 bytes a definition.
//! Weights: the square root of the uses, shared among the definers; more for a name of several
//! words, much less for a private one or one of many definers (aider `repomap.py`), more for a
//! definer that the file imports.
//! Not here: the map for a prompt (`graph::map`), what a rank is worth in search (`rank`).

pub(crate) mod map;

use std::{cmp::Ordering, collections::BinaryHeap};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    path::{RepoPath, name_hash},
    reader::{Reader, Slot},
    search::scores::Scores,
    syntax::NameStyle,
};

/// A name with more definers says nothing about which file is meant.
pub(crate) const MAX_DEFINERS: usize = 8;
/// The share of rank that flows on (Brin and Page).
const DAMPING: f32 = 0.85;
const MENTIONED: f32 = 10.0;
/// What an edge counts more when its end is imported, by [`Imports::closeness`].
const IMPORTED: [f32; 4] = [1.0, 3.0, 5.0, 6.0];

/// Which files define a name, for all names.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    /// (name, slot), in rising order.
    definers: Vec<(u32, Slot)>,
    /// Where the names with each value of the upper bits start.
    buckets: Vec<u32>,
    shift: u32,
}

impl NameIndex {
    pub(crate) fn new(mut definers: Vec<(u32, Slot)>) -> Self {
        definers.sort_unstable();
        definers.dedup();
        definers.shrink_to_fit();
        // About four entries a bucket: one cache line to find it, one to read it.
        let bits = (definers.len() / 4).max(1).ilog2().min(24);
        let shift = 32 - bits;
        let n_buckets = 1_usize << bits;
        let mut buckets = vec![0; n_buckets + 1];
        let mut at = 0;
        for (bucket, start) in buckets.iter_mut().enumerate() {
            while at < definers.len() && upper(definers[at].0, shift) < bucket {
                at += 1;
            }
            *start = at as u32;
        }
        Self {
            definers,
            buckets,
            shift,
        }
    }

    pub(crate) fn definers(&self, name: u32) -> &[(u32, Slot)] {
        let bucket = upper(name, self.shift);
        let (Some(&from), Some(&to)) = (self.buckets.get(bucket), self.buckets.get(bucket + 1))
        else {
            return &[];
        };
        let bucket = &self.definers[from as usize..to as usize];
        let start = bucket.partition_point(|&(other, _)| other < name);
        let len = bucket[start..]
            .iter()
            .take_while(|&&(other, _)| other == name)
            .count();
        &bucket[start..start + len]
    }

    pub(crate) fn len(&self) -> usize {
        self.definers.len()
    }
}

fn upper(name: u32, shift: u32) -> usize {
    name.checked_shr(shift).unwrap_or(0) as usize
}

/// One use of another file's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edge {
    pub(crate) to: Slot,
    pub(crate) name: u32,
    pub(crate) weight: f32,
}

/// Where rank starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeds {
    pub(crate) files: Vec<(Slot, f32)>,
    /// Names the user wrote: uses of them count ten times.
    pub(crate) mentioned: FxHashSet<u32>,
}

impl Reader {
    /// Returns the edges out of a file.
    pub(crate) fn edges(&self, from: Slot, mentioned: &FxHashSet<u32>) -> Vec<Edge> {
        let uses = self.uses_at(from);
        let mut edges = Vec::with_capacity(uses.identifiers.len());
        let mut definers = Vec::new();
        for identifier in &uses.identifiers {
            self.definers_into(identifier.hash, MAX_DEFINERS, &mut definers);
            if definers.is_empty() || definers.contains(&from) {
                continue;
            }
            let mut weight = f32::from(identifier.count).sqrt() / definers.len() as f32;
            weight *= match identifier.style {
                NameStyle::Descriptive => 3.0,
                NameStyle::Plain => 1.0,
                NameStyle::Private => 0.1,
            };
            if mentioned.contains(&identifier.hash) {
                weight *= MENTIONED;
            }
            for &to in &definers {
                let closeness = uses.imports.closeness(&self.path_words(to));
                edges.push(Edge {
                    to,
                    name: identifier.hash,
                    weight: weight * IMPORTED[usize::from(closeness)],
                });
            }
        }
        edges
    }

    /// Ranks files by personalised PageRank from `seeds`, by forward push (Andersen, Chung and
    /// Lang 2006): the file with the most undelivered rank goes next, at most `n_steps` times.
    ///
    /// Scores are a lower bound that sums to at most one. A step costs the file's names,
    /// 10–30 µs.
    pub(crate) fn ranks(&self, seeds: &Seeds, n_steps: usize) -> Scores {
        let total: f32 = seeds.files.iter().map(|&(_, weight)| weight).sum();
        let mut ranks = Scores::new(self.n_slots());
        let mut waiting = vec![0.0_f32; self.n_slots()];
        let mut queue = BinaryHeap::new();
        for &(slot, weight) in &seeds.files {
            waiting[slot as usize] += weight / total.max(1e-9);
            let rank = waiting[slot as usize];
            queue.push(Waiting { rank, slot });
        }
        let mut edges_of: FxHashMap<Slot, Vec<Edge>> = FxHashMap::default();
        for _ in 0..n_steps {
            let Some(Waiting { slot, .. }) = queue.pop() else {
                break;
            };
            // An entry of less than waits was queued before more came.
            let rank = std::mem::take(&mut waiting[slot as usize]);
            if rank == 0.0 {
                continue;
            }
            if rank < 1e-6 {
                break;
            }
            ranks.add(slot, (1.0 - DAMPING) * rank);
            let edges = edges_of
                .entry(slot)
                .or_insert_with(|| by_file(self.edges(slot, &seeds.mentioned)));
            let sum: f32 = edges.iter().map(|edge| edge.weight).sum();
            for edge in edges.iter() {
                let waits = &mut waiting[edge.to as usize];
                *waits += DAMPING * rank * edge.weight / sum;
                queue.push(Waiting {
                    rank: *waits,
                    slot: edge.to,
                });
            }
        }
        for (slot, rank) in waiting.into_iter().enumerate() {
            ranks.add(slot as Slot, (1.0 - DAMPING) * rank);
        }
        ranks
    }
}

/// Joins the edges to the same file; the name of a joint edge is that of one of them.
fn by_file(mut edges: Vec<Edge>) -> Vec<Edge> {
    edges.sort_unstable_by_key(|edge| edge.to);
    edges.dedup_by(|later, first| {
        let same = later.to == first.to;
        if same {
            first.weight += later.weight;
        }
        same
    });
    edges
}

/// A file with rank to pass on, ordered by how much.
struct Waiting {
    rank: f32,
    slot: Slot,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank
            .total_cmp(&other.rank)
            .then_with(|| other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// The words of a file's import statements.
///
/// Languages resolve imports in their own ways; that a file's own name (or its folder's, for
/// `mod.rs` and the like) is among the words of an import, after those of its folders, holds in
/// all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imports {
    /// Hashes of the words in lower case, as they stand, statements apart by [`NO_WORD`].
    words: Vec<u32>,
    /// (word, place in `words`), in rising order.
    places: Vec<(u32, u32)>,
}

/// Between two statements, and where a path has no further folder.
const NO_WORD: u32 = 0;

impl Imports {
    pub(crate) fn new(imports: &[String]) -> Self {
        let mut words = Vec::new();
        for import in imports {
            crate::text::analyse::words(import, |_, word| words.push(word_hash(word)));
            words.push(NO_WORD);
        }
        Self::from_words(words)
    }

    pub(crate) fn from_words(words: Vec<u32>) -> Self {
        let mut places: Vec<(u32, u32)> = words.iter().copied().zip(0..).collect();
        places.sort_unstable();
        Self { words, places }
    }

    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// Returns how many of a path's last parts an import names in a row, 0 to 3.
    pub(crate) fn closeness(&self, path: &PathWords) -> u8 {
        let from = self
            .places
            .partition_point(|&(word, _)| word < path.parts[0]);
        let same = self.places[from..]
            .iter()
            .take_while(|&&(word, _)| word == path.parts[0] && word != NO_WORD);
        let named = |&(_, at): &(u32, u32)| {
            let before = self.words[..at as usize].iter().rev();
            let folders = path.parts[1..].iter().zip(before);
            1 + folders
                .take_while(|&(&part, &word)| part == word && word != NO_WORD)
                .count() as u8
        };
        same.map(named).max().unwrap_or(0)
    }
}

/// The last three parts of a path as an import would say them, from the last one on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathWords {
    parts: [u32; 3],
}

impl PathWords {
    pub(crate) fn of(path: &RepoPath) -> Self {
        let folders = path.parent().rsplit('/').filter(|part| !part.is_empty());
        let stem = match path.stem() {
            "mod" | "lib" | "main" | "index" | "__init__" | "package" => None,
            stem => Some(stem),
        };
        let mut words = Self::default();
        for (word, part) in words.parts.iter_mut().zip(stem.into_iter().chain(folders)) {
            *word = word_hash(part);
        }
        words
    }
}

fn word_hash(word: &str) -> u32 {
    if word.bytes().any(|b| b.is_ascii_uppercase()) {
        name_hash(word.to_ascii_lowercase().as_bytes())
    } else {
        name_hash(word.as_bytes())
    }
}

#[cfg(test)]
mod tests;
