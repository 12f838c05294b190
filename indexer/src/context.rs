//! What a completion at the cursor should see: definitions of the names near it, code like it,
//! and the files beside it. Answers from memory and the index within a few milliseconds.
//!
//! Direct edges to who defines a name measured far better here than any rank that flows further.

mod files;

use std::time::Instant;

use crate::{
    path::{RepoPath, Tokens, name_hash},
    reader::{Reader, Slot},
    search::{
        pack::{Snippet, lines},
        query_terms,
    },
    syntax::{Definition, DefinitionKind, Unit},
    text::score::QueryTerm,
};

/// Lines before the cursor that similar code is looked for with.
const SIMILAR_LINES: usize = 25;
const SIMILAR_TERMS: usize = 12;
/// Definitions longer than this are shown by signature.
const MAX_SHOWN_LINES: u32 = 12;

/// Where the cursor is.
#[derive(Clone, Debug)]
pub struct CursorQuery<'q> {
    pub path: &'q RepoPath,
    /// The whole buffer or a window of it.
    pub text: &'q str,
    /// The cursor's byte in `text`; moved back to a character's start when it is inside one.
    pub cursor: usize,
    /// Files and snippets to return.
    pub limit: usize,
    pub budget: Tokens,
    /// After this, [`Reader::near_cursor`] gives what it has: definitions come first.
    pub until: Option<Instant>,
}

/// A file that a completion may need, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Relevant {
    pub path: RepoPath,
    pub score: f32,
    pub reason: &'static str,
}

impl Reader {
    /// Returns the files most likely to hold what the next lines need, best first.
    pub fn files_near(&self, query: &CursorQuery<'_>) -> Vec<Relevant> {
        let wanted = self.wanted(query);
        self.weigh(query, wanted)
    }

    /// Returns snippets for a completion prompt within the budget: definitions of names near the
    /// cursor first, then similar code, then what stands in the files beside it.
    pub fn near_cursor(&self, query: &CursorQuery<'_>) -> Vec<Snippet> {
        let wanted = self.wanted(query);
        let mut left = query.budget.0;
        let mut snippets: Vec<Snippet> = Vec::new();
        let mut take = |snippet: Snippet, snippets: &mut Vec<Snippet>| {
            let overlaps = snippets.iter().any(|other| {
                other.path == snippet.path
                    && other.first_line < snippet.end_line
                    && snippet.first_line < other.end_line
            });
            let cost = Tokens::estimate(&snippet.text).0 + 8;
            if !overlaps && cost <= left && snippets.len() < query.limit {
                left -= cost;
                snippets.push(snippet);
            }
        };
        let n_similar = (query.limit / 4).max(1);
        let is_late = || query.until.is_some_and(|until| Instant::now() > until);
        let mut by_weight: Vec<(&(Slot, u32), &f32)> = wanted.definitions.iter().collect();
        by_weight.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
        for (&(slot, name), _) in by_weight.into_iter().take(2 * query.limit) {
            let has_some = !snippets.is_empty();
            if snippets.len() + n_similar >= query.limit || has_some && is_late() {
                break;
            }
            if let Some(snippet) = self.definition_snippet(slot, name) {
                take(snippet, &mut snippets);
            }
        }
        if is_late() {
            return snippets;
        }
        for snippet in self.similar(query, n_similar) {
            take(snippet, &mut snippets);
        }
        if is_late() {
            return snippets;
        }
        for near in self.weigh(query, wanted) {
            if let Some(snippet) = self.outline_snippet(&near) {
                take(snippet, &mut snippets);
            }
        }
        snippets
    }

    /// Returns chunks of other files that use the same words as the lines before the cursor.
    fn similar(&self, query: &CursorQuery<'_>, n: usize) -> Vec<Snippet> {
        let before = &query.text[..query.text.floor_char_boundary(query.cursor)];
        let recent: Vec<&str> = before.lines().rev().take(SIMILAR_LINES).collect();
        let mut terms: Vec<QueryTerm> = query_terms(&recent.join("\n"))
            .into_iter()
            .map(|term| QueryTerm {
                weight: self.base.text.idf(&term.text),
                ..term
            })
            .collect();
        terms.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        terms.truncate(SIMILAR_TERMS);
        for term in &mut terms {
            term.weight = 1.0;
        }
        let here = self.slot(query.path);
        let scores = self.text_scores(&terms, here);
        let others = scores.chunks.into_iter();
        others
            .filter(|chunk| Some(chunk.slot) != here)
            .take(2 * n)
            .filter_map(|hit| {
                let unit = self.unit_at(hit.slot)?;
                let chunk = unit.chunks.get(hit.chunk as usize)?;
                let symbol = chunk.definition.map(|at| unit.qualified_name(at));
                let place = (chunk.first_line, chunk.end_line);
                self.cut(hit.slot, place, symbol, "similar code")
            })
            .take(n)
            .collect()
    }

    fn definition_snippet(&self, slot: Slot, name: u32) -> Option<Snippet> {
        let unit = self.unit_at(slot)?;
        let is_it = |d: &&Definition| name_hash(d.name.as_bytes()) == name;
        let rank = |d: &Definition| match d.kind {
            DefinitionKind::Declaration | DefinitionKind::Implementation => 1,
            DefinitionKind::Field | DefinitionKind::Section => 2,
            DefinitionKind::Function
            | DefinitionKind::Method
            | DefinitionKind::Class
            | DefinitionKind::Interface
            | DefinitionKind::Type
            | DefinitionKind::Module
            | DefinitionKind::Constant
            | DefinitionKind::Macro => 0,
        };
        let definition = unit
            .definitions
            .iter()
            .filter(is_it)
            .min_by_key(|d| rank(d))?;
        let at = unit
            .definitions
            .iter()
            .position(|d| std::ptr::eq(d, definition))? as u32;
        let symbol = Some(unit.qualified_name(at));
        let reason = "defines a name near the cursor";
        if definition.end_line - definition.first_line <= MAX_SHOWN_LINES {
            let place = (definition.first_line, definition.end_line);
            return self.cut(slot, place, symbol, reason);
        }
        let entry = self.entry(slot);
        Some(Snippet {
            path: entry.path.clone(),
            first_line: definition.name_line,
            end_line: definition.name_line + 1,
            symbol,
            reason: reason.to_owned(),
            hash: entry.hash,
            text: signatures(&unit, at),
        })
    }

    fn outline_snippet(&self, near: &Relevant) -> Option<Snippet> {
        let slot = self.slot(&near.path)?;
        let unit = self.unit_at(slot)?;
        let top: Vec<&str> = unit
            .definitions
            .iter()
            .filter(|d| d.parent.is_none() && d.kind != DefinitionKind::Section)
            .take(12)
            .map(|definition| definition.signature.as_str())
            .collect();
        (!top.is_empty()).then(|| Snippet {
            path: near.path.clone(),
            first_line: 0,
            end_line: unit.n_lines,
            symbol: None,
            reason: near.reason.to_owned(),
            hash: self.entry(slot).hash,
            text: top.join("\n") + "\n",
        })
    }

    fn cut(
        &self,
        slot: Slot,
        (first_line, end_line): (u32, u32),
        symbol: Option<String>,
        reason: &str,
    ) -> Option<Snippet> {
        let entry = self.entry(slot);
        let text = self.text(slot)?;
        Some(Snippet {
            path: entry.path.clone(),
            first_line,
            end_line,
            symbol,
            reason: reason.to_owned(),
            hash: entry.hash,
            text: lines(&text, first_line, end_line).to_owned(),
        })
    }
}

/// Returns a definition's signature and those directly in it, one a line.
fn signatures(unit: &Unit, of: u32) -> String {
    let mut out = unit.definitions[of as usize].signature.clone();
    out.push('\n');
    let inner = unit
        .definitions
        .iter()
        .skip(of as usize + 1)
        .filter(|d| d.parent == Some(of));
    for definition in inner.take(16) {
        out.push_str("    ");
        out.push_str(&definition.signature);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests;
