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
    syntax::NameStyle,
};

/// A name with more definers says nothing about which file is meant.
pub(crate) const MAX_DEFINERS: usize = 8;
/// The share of rank that flows on (Brin and Page).
const DAMPING: f32 = 0.85;
const MENTIONED: f32 = 10.0;
const IMPORTED: f32 = 4.0;

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
        let Some(unit) = self.unit_at(from) else {
            return Vec::new();
        };
        let imports = Imports::new(&unit.imports);
        let mut edges = Vec::new();
        for identifier in &unit.identifiers {
            let definers = self.definers(identifier.hash, MAX_DEFINERS);
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
            for to in definers {
                let imported = imports.names(&self.entry(to).path);
                let weight = if imported { weight * IMPORTED } else { weight };
                edges.push(Edge {
                    to,
                    name: identifier.hash,
                    weight,
                });
            }
        }
        edges
    }

    pub(crate) fn imports(&self, of: Slot) -> Imports {
        self.unit_at(of)
            .map(|unit| Imports::new(&unit.imports))
            .unwrap_or_default()
    }

    /// Ranks files by personalised PageRank from `seeds`, by forward push (Andersen, Chung and
    /// Lang 2006): the file with the most undelivered rank goes next, at most `n_steps` times.
    ///
    /// Scores are a lower bound that sums to at most one. A step costs the file's names,
    /// 10–50 µs.
    pub(crate) fn ranks(&self, seeds: &Seeds, n_steps: usize) -> FxHashMap<Slot, f32> {
        let total: f32 = seeds.files.iter().map(|&(_, weight)| weight).sum();
        let mut ranks: FxHashMap<Slot, f32> = FxHashMap::default();
        let mut waiting: FxHashMap<Slot, f32> = FxHashMap::default();
        let mut queue = BinaryHeap::new();
        for &(slot, weight) in &seeds.files {
            *waiting.entry(slot).or_default() += weight / total.max(1e-9);
        }
        queue.extend(waiting.iter().map(|(&slot, &rank)| Waiting { rank, slot }));
        let mut edges_of: FxHashMap<Slot, Vec<Edge>> = FxHashMap::default();
        for _ in 0..n_steps {
            let Some(Waiting { slot, .. }) = queue.pop() else {
                break;
            };
            let Some(rank) = waiting.remove(&slot) else {
                continue;
            };
            if rank < 1e-6 {
                break;
            }
            *ranks.entry(slot).or_default() += (1.0 - DAMPING) * rank;
            let edges = edges_of
                .entry(slot)
                .or_insert_with(|| self.edges(slot, &seeds.mentioned));
            let sum: f32 = edges.iter().map(|edge| edge.weight).sum();
            for edge in edges.iter() {
                let share = DAMPING * rank * edge.weight / sum;
                let waits = waiting.entry(edge.to).or_default();
                *waits += share;
                queue.push(Waiting {
                    rank: *waits,
                    slot: edge.to,
                });
            }
        }
        for (slot, rank) in waiting {
            *ranks.entry(slot).or_default() += (1.0 - DAMPING) * rank;
        }
        ranks
    }
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
/// `mod.rs` and the like) is among the words of an import holds in all of them.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    words: FxHashSet<u32>,
}

impl Imports {
    pub(crate) fn new(imports: &[String]) -> Self {
        let mut words = FxHashSet::default();
        for import in imports {
            crate::text::analyse::words(import, |_, word| {
                words.insert(name_hash(word.to_ascii_lowercase().as_bytes()));
            });
        }
        Self { words }
    }

    pub(crate) fn names(&self, path: &RepoPath) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let has = |word: &str| {
            self.words
                .contains(&name_hash(word.to_ascii_lowercase().as_bytes()))
        };
        match path.stem() {
            "mod" | "lib" | "main" | "index" | "__init__" | "package" => {
                path.parent().rsplit('/').next().is_some_and(has)
            }
            stem => has(stem),
        }
    }
}

#[cfg(test)]
mod tests;
