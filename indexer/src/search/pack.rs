//! From an answer to prompt text within a budget of tokens.

use serde::Serialize;

use super::{ChunkHit, FileHit, Query};
use crate::{
    path::{ContentHash, RepoPath, Tokens},
    reader::Reader,
};

/// Files that are looked at for one pack.
const MAX_FILES: usize = 40;
/// Snippets that grew to this many lines are not joined further.
const MAX_JOINED: u32 = 120;

/// A retrieved piece of a file, with everything a prompt or a check needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snippet {
    pub path: RepoPath,
    /// Zero-based.
    pub first_line: u32,
    /// One past the last line.
    pub end_line: u32,
    pub symbol: Option<String>,
    /// The strongest reason it is here.
    pub reason: String,
    /// The whole file's content when this was taken.
    pub hash: ContentHash,
    pub text: String,
}

impl Reader {
    /// Returns the best snippets that fit in `budget` together, best first.
    ///
    /// Every file gives its best chunk before any gives its second. A snippet that does not fit
    /// is skipped for a smaller one. Reads the files it shows; one that changed since it was
    /// indexed is left out.
    pub fn pack(&self, query: &Query<'_>, budget: Tokens) -> Vec<Snippet> {
        let query = Query {
            limit: MAX_FILES.max(query.limit),
            ..query.clone()
        };
        let hits = self.search(&query);
        let mut left = budget.0;
        let mut snippets: Vec<Snippet> = Vec::new();
        for round in 0..query.chunks_per_file {
            for hit in &hits {
                let Some(chunk) = hit.chunks.get(round) else {
                    continue;
                };
                let Some(snippet) = self.snippet(hit, chunk) else {
                    continue;
                };
                let cost =
                    Tokens::estimate(&snippet.text).0 + Tokens::estimate(hit.path.as_str()).0;
                if cost <= left {
                    left -= cost;
                    snippets.push(snippet);
                }
            }
            if left < 40 {
                break;
            }
        }
        joined(snippets)
    }

    fn snippet(&self, hit: &FileHit, chunk: &ChunkHit) -> Option<Snippet> {
        let text = self.text(self.slot(&hit.path)?)?;
        Some(Snippet {
            path: hit.path.clone(),
            first_line: chunk.first_line,
            end_line: chunk.end_line,
            symbol: chunk.symbol.clone(),
            reason: hit
                .reasons
                .first()
                .map_or("", |reason| reason.signal)
                .to_owned(),
            hash: hit.hash,
            text: lines(&text, chunk.first_line, chunk.end_line).to_owned(),
        })
    }
}

/// Returns the lines from `first` up to `end`, with their line ends.
pub(crate) fn lines(text: &str, first: u32, end: u32) -> &str {
    let mut starts = std::iter::once(0).chain(
        text.bytes()
            .enumerate()
            .filter(|&(_, b)| b == b'\n')
            .map(|(at, _)| at + 1),
    );
    let from = starts.nth(first as usize).unwrap_or(text.len());
    let to = match end.checked_sub(first + 1) {
        Some(more) => starts.nth(more as usize).unwrap_or(text.len()),
        None => from,
    };
    &text[from.min(text.len())..to.min(text.len())]
}

/// Joins snippets of one file that follow each other without a gap, in the better one's place.
fn joined(snippets: Vec<Snippet>) -> Vec<Snippet> {
    let mut out: Vec<Snippet> = Vec::new();
    for snippet in snippets {
        let neighbour = out.iter_mut().find(|other| {
            other.path == snippet.path
                && (other.end_line == snippet.first_line || snippet.end_line == other.first_line)
                && other.end_line.abs_diff(other.first_line) < MAX_JOINED
        });
        match neighbour {
            Some(other) if other.end_line == snippet.first_line => {
                other.text.push_str(&snippet.text);
                other.end_line = snippet.end_line;
            }
            Some(other) => {
                other.text.insert_str(0, &snippet.text);
                other.first_line = snippet.first_line;
            }
            None => out.push(snippet),
        }
    }
    out
}
