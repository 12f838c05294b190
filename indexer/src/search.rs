//! A question to the files, chunks and prompt context that answer it.
//!
//! Every signal names its best files; the union of them (a few hundred) is what is ranked, by
//! trees over all signals (`rank`). Holds: no question costs more than its caps, whatever the
//! words; the same reader and question give the same answer.
//! Not here: how signals are weighed (`rank`), packing into a budget (`search::pack`).

pub(crate) mod pack;
pub(crate) mod scores;
mod signals;

use rustc_hash::FxHashMap;
use serde::Serialize;

pub(crate) use self::signals::{N_SIGNALS, Signal};
use crate::{
    path::{ContentHash, RepoPath},
    rank,
    reader::{Reader, Slot},
    syntax::DefinitionKind,
    text::score::{ChunkScore, QueryTerm},
};

/// A question longer than this is cut.
const MAX_QUERY: usize = 8_000;
/// Distinct terms that are looked up, the first ones.
const MAX_TERMS: usize = 64;
/// Chunks scored on their own.
pub(crate) const N_CHUNKS: usize = 400;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query<'q> {
    /// Prose, names, an error message, a piece of code.
    pub text: &'q str,
    /// Files in play: what they use and what changes with them counts more.
    pub open: &'q [RepoPath],
    /// Names or paths the user pointed at.
    pub mentioned: &'q [String],
    /// Files to return.
    pub limit: usize,
    /// Chunks shown of one file: keeps one large file from filling the answer.
    pub chunks_per_file: usize,
    /// The question's vector by the outside model, if the index holds its vectors.
    pub vector: Option<&'q [f32]>,
}

impl<'q> Query<'q> {
    /// Asks for the ten best files with up to three chunks each.
    pub fn new(text: &'q str) -> Self {
        Self {
            text,
            open: &[],
            mentioned: &[],
            limit: 10,
            chunks_per_file: 3,
            vector: None,
        }
    }
}

/// A file that answers the question, with its best chunks.
#[derive(Clone, Debug, Serialize)]
pub struct FileHit {
    pub path: RepoPath,
    /// Larger is better; only comparable within one answer.
    pub score: f32,
    /// What each signal added to or took from the score, largest first.
    pub reasons: Vec<Reason>,
    pub chunks: Vec<ChunkHit>,
    /// The content this is about.
    pub hash: ContentHash,
}

/// A chunk of a hit, by zero-based lines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChunkHit {
    pub first_line: u32,
    /// One past the last line.
    pub end_line: u32,
    /// The definition that covers most of it, with its parents: `Reader::search`.
    pub symbol: Option<String>,
    pub kind: Option<DefinitionKind>,
    pub score: f32,
}

/// A signal and what it did to a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reason {
    pub signal: &'static str,
    /// The signal's value for this file.
    pub value: f32,
    /// What it moved the score by.
    pub share: f32,
}

impl Reader {
    /// Returns the files that best answer the question, best first.
    ///
    /// Takes 1–5 ms at 10,000 files, tens of milliseconds at 200,000.
    pub fn search(&self, query: &Query<'_>) -> Vec<FileHit> {
        let mut found = self.signals(query);
        let mut ranked = rank::FILES.rank(&found.rows);
        ranked.truncate(query.limit);
        let mut chunks = found.chunks_by_file(query.chunks_per_file.max(1));
        ranked
            .into_iter()
            .map(|(row, score)| {
                let slot = found.slots[row];
                let entry = self.entry(slot);
                let best = chunks.remove(&slot).unwrap_or_default();
                FileHit {
                    path: entry.path.clone(),
                    score,
                    reasons: rank::FILES.explain(&found.rows[row]),
                    chunks: self.chunk_hits(slot, &best),
                    hash: entry.hash,
                }
            })
            .collect()
    }

    /// Returns, for a question, each candidate file and its signals in the order of
    /// [`signal_names`]: what the ranker is fitted on.
    pub fn candidates(&self, query: &Query<'_>) -> Vec<(RepoPath, Vec<f32>)> {
        let found = self.signals(query);
        let path = |&slot: &Slot| self.entry(slot).path.clone();
        found
            .slots
            .iter()
            .map(path)
            .zip(found.rows.iter().map(|row| row.to_vec()))
            .collect()
    }

    fn chunk_hits(&self, slot: Slot, best: &[ChunkScore]) -> Vec<ChunkHit> {
        let Some(unit) = self.unit_at(slot) else {
            return Vec::new();
        };
        best.iter()
            .filter_map(|hit| {
                let chunk = unit.chunks.get(hit.chunk as usize)?;
                Some(ChunkHit {
                    first_line: chunk.first_line,
                    end_line: chunk.end_line,
                    symbol: chunk.definition.map(|at| unit.qualified_name(at)),
                    kind: chunk
                        .definition
                        .map(|at| unit.definitions[at as usize].kind),
                    score: hit.score,
                })
            })
            .collect()
    }
}

/// Returns the names of the signals, in the order of [`Reader::candidates`].
pub fn signal_names() -> [&'static str; N_SIGNALS] {
    Signal::NAMES
}

/// Returns the terms of a question, each once, in order of first occurrence, weighted by how
/// often they occur.
pub(crate) fn query_terms(text: &str) -> Vec<QueryTerm> {
    let text = &text[..text.floor_char_boundary(MAX_QUERY)];
    let mut order: Vec<QueryTerm> = Vec::new();
    let mut at: FxHashMap<String, usize> = FxHashMap::default();
    for term in crate::text::analyse::prose_terms(text).iter() {
        match at.get(term) {
            Some(&at) => order[at].weight += 1.0,
            None if order.len() < MAX_TERMS => {
                at.insert(term.to_owned(), order.len());
                order.push(QueryTerm {
                    text: term.to_owned(),
                    weight: 1.0,
                });
            }
            None => {}
        }
    }
    for term in &mut order {
        // A word said three times matters more than once, not three times as much.
        term.weight = 1.0 + term.weight.ln();
    }
    order
}

#[cfg(test)]
mod tests;
