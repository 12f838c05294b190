//! What a completion at the cursor should see: definitions of the names near it, code like it,
//! and the files beside it. Answers from memory and the index within a few milliseconds.
//!
//! Names near the cursor weigh e^(−lines/30), shared among those who define them; direct edges
//! measured far better here than any rank that flows further.

use std::{collections::BTreeMap, time::Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    graph::MAX_DEFINERS,
    path::{RepoPath, Tokens, name_hash},
    reader::{Reader, Slot},
    search::pack::{Snippet, lines},
    syntax::{Definition, DefinitionKind, NameStyle, Unit},
    text::{analyse, score::QueryTerm},
    walk::class,
};

/// Lines on each side of the cursor whose names count.
const REACH: usize = 400;
/// Lines before the cursor that similar code is looked for with.
const SIMILAR_LINES: usize = 25;
const SIMILAR_TERMS: usize = 12;
/// A name farther away by this many lines counts 1/e as much.
const DECAY: f32 = 30.0;
const IMPORTED: f32 = 4.0;
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

/// What is known of a file at the cursor.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    names: f32,
    peers: f32,
    together: f32,
    beside: f32,
}

impl Reader {
    /// Returns the files most likely to hold what the next lines need, best first.
    pub fn files_near(&self, query: &CursorQuery<'_>) -> Vec<Relevant> {
        let names = names_near(query.text, query.cursor);
        self.weigh(query, &self.wanted(query, &names))
    }

    /// Returns snippets for a completion prompt within the budget: definitions of names near the
    /// cursor first, then similar code, then what stands in the files beside it.
    pub fn near_cursor(&self, query: &CursorQuery<'_>) -> Vec<Snippet> {
        let names = names_near(query.text, query.cursor);
        let wanted = self.wanted(query, &names);
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
        for near in self.weigh(query, &wanted).into_iter().take(query.limit) {
            if let Some(snippet) = self.outline_snippet(&near) {
                take(snippet, &mut snippets);
            }
        }
        snippets
    }

    /// Finds who defines the names near the cursor.
    fn wanted(&self, query: &CursorQuery<'_>, names: &BTreeMap<u32, Near>) -> Wanted {
        let here = self.slot(query.path);
        let imports = match here {
            Some(slot) => self.imports(slot),
            None => Default::default(),
        };
        let mut wanted = Wanted::default();
        for (&name, near) in names {
            let definers = self.definers(name, MAX_DEFINERS);
            if here.is_some_and(|here| definers.contains(&here)) {
                continue;
            }
            let style = match near.style {
                NameStyle::Descriptive => 1.5,
                NameStyle::Plain => 1.0,
                NameStyle::Private => 0.3,
            };
            for &slot in &definers {
                let path = &self.entry(slot).path;
                let mut weight = style * near.weight / definers.len() as f32;
                if imports.names(path) {
                    weight *= IMPORTED;
                }
                if class::is_test(path.as_str()) && !class::is_test(query.path.as_str()) {
                    weight *= 0.1;
                }
                *wanted.files.entry(slot).or_default() += weight;
                wanted.definitions.insert((slot, name), weight);
            }
        }
        wanted
    }

    /// Orders files by direct edges, with two places kept for what peers and history say.
    fn weigh(&self, query: &CursorQuery<'_>, wanted: &Wanted) -> Vec<Relevant> {
        let here = self.slot(query.path);
        let mut evidence: FxHashMap<Slot, Evidence> = FxHashMap::default();
        for (&slot, &weight) in &wanted.files {
            evidence.entry(slot).or_default().names = weight;
        }
        if let Some(here) = here {
            for (slot, score) in self.together(&[(here, 1.0)]) {
                evidence.entry(slot).or_default().together = score;
            }
        }
        let peers = self.beside(query.path);
        for &(slot, closeness) in &peers {
            evidence.entry(slot).or_default().beside = closeness;
        }
        for &(peer, _) in peers.iter().take(4) {
            for edge in self.edges(peer, &FxHashSet::default()) {
                evidence.entry(edge.to).or_default().peers += edge.weight;
            }
        }
        let best = |part: fn(&Evidence) -> f32| evidence.values().map(part).fold(1e-9, f32::max);
        let (names, peers) = (best(|e| e.names), best(|e| e.peers));
        let together = best(|e| e.together);
        let mut near: Vec<Relevant> = evidence
            .iter()
            .filter(|&(&slot, _)| Some(slot) != here)
            .map(|(&slot, evidence)| {
                let parts = [
                    (evidence.names / names, "defines names near the cursor"),
                    (
                        0.12 * evidence.peers / peers,
                        "used by the files beside this one",
                    ),
                    (
                        0.10 * evidence.together / together,
                        "changes together with this file",
                    ),
                    (0.08 * evidence.beside, "beside this file"),
                ];
                let score = parts.iter().map(|(part, _)| part).sum();
                let reason = parts
                    .iter()
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map_or("", |p| p.1);
                Relevant {
                    path: self.entry(slot).path.clone(),
                    score,
                    reason,
                }
            })
            .collect();
        near.sort_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| a.path.cmp(&b.path))
        });
        near.truncate(query.limit);
        near
    }

    /// Returns the files beside a path: another ending of the same name (header, style, test
    /// left out), then the same folder. With how close they are, 0 to 1.
    fn beside(&self, path: &RepoPath) -> Vec<(Slot, f32)> {
        let files = &self.base.files;
        let parent = path.parent();
        let from = files.partition_point(|file| file.path.as_str() < parent);
        let language = path
            .file_name()
            .rsplit_once('.')
            .map(|(_, extension)| extension);
        let mut beside: Vec<(Slot, f32)> = files[from..]
            .iter()
            .enumerate()
            .take_while(|(_, file)| file.path.as_str().starts_with(parent))
            .take(2_000)
            .filter(|(_, file)| file.path.parent() == parent && file.path != *path)
            .filter(|(_, file)| file.language.is_code())
            .map(|(at, file)| {
                let same_stem = file.path.stem() == path.stem();
                let extension = file.path.file_name().rsplit_once('.').map(|(_, e)| e);
                let closeness = match (same_stem, extension == language) {
                    (true, _) => 1.0,
                    (false, true) => 0.5,
                    (false, false) => 0.2,
                };
                ((from + at) as Slot, closeness)
            })
            .filter(|(slot, _)| !self.overlay.gone.contains(slot))
            .collect();
        beside.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        beside.truncate(12);
        beside
    }

    /// Returns chunks of other files that use the same words as the lines before the cursor.
    fn similar(&self, query: &CursorQuery<'_>, n: usize) -> Vec<Snippet> {
        let before = &query.text[..query.text.floor_char_boundary(query.cursor)];
        let recent: Vec<&str> = before.lines().rev().take(SIMILAR_LINES).collect();
        let mut terms: Vec<QueryTerm> = crate::search::query_terms(&recent.join("\n"))
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
        let scores = self.text_scores(&terms);
        let others = scores
            .chunks
            .into_iter()
            .filter(|chunk| Some(chunk.slot) != here);
        others
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

/// Who defines the names near the cursor, weighted.
#[derive(Default)]
struct Wanted {
    files: FxHashMap<Slot, f32>,
    definitions: BTreeMap<(Slot, u32), f32>,
}

/// How near a name is: the sum over its uses.
struct Near {
    weight: f32,
    style: NameStyle,
}

/// Returns the names within reach of the cursor; each use adds e^(−lines/30), later ones less.
fn names_near(text: &str, cursor: usize) -> BTreeMap<u32, Near> {
    let cursor = text.floor_char_boundary(cursor);
    let mut names: BTreeMap<u32, Near> = BTreeMap::new();
    let mut add = |line: &str, distance: usize| {
        let weight = (-(distance as f32) / DECAY).exp();
        analyse::words(line, |_, word| {
            if word.len() >= 2 && word.len() <= 120 && !word.as_bytes()[0].is_ascii_digit() {
                let near = names
                    .entry(name_hash(word.as_bytes()))
                    .or_insert_with(|| Near {
                        weight: 0.0,
                        style: NameStyle::of(word),
                    });
                near.weight = near.weight.max(weight) + 0.1 * weight;
            }
        });
    };
    for (distance, line) in text[..cursor].lines().rev().take(REACH).enumerate() {
        add(line, distance);
    }
    for (distance, line) in text[cursor..].lines().take(REACH).enumerate() {
        add(line, distance);
    }
    names
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
