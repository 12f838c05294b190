//! From source text to a [`Unit`]: parse, one walk over the tree, then the words of each chunk.

use std::{
    ops::{ControlFlow, Range},
    time::Instant,
};

use rustc_hash::FxHashMap;
use tree_sitter::{InputEdit, Node, ParseOptions, Point, QueryCursor, StreamingIterator, Tree};

use super::{
    ChunkTerms, Definition, DefinitionKind, Identifier, LIMITS, Language, LanguageSpec, NameStyle,
    ParseOutcome, Parsed, Unit, chunk,
    found::{Attached, Found, RawDefinition, Touched},
    language::{Capture, Role},
};
use crate::{path::name_hash, text::analyse};

/// Terms kept of one chunk and side; a line of a megabyte is data.
const MAX_CHUNK_TERMS: u32 = 4_000;
const MAX_SIGNATURE: usize = 200;
const MAX_NAME: usize = 120;

/// Parsers are costly to make; each thread keeps one.
#[derive(Default)]
pub(crate) struct Parser {
    parser: tree_sitter::Parser,
    cursor: QueryCursor,
}

/// A buffer's tree and what was found in it: what the next version is parsed from.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(super) tree: Tree,
    pub(super) found: Found,
}

impl Parser {
    /// Parses `text` afresh.
    pub(crate) fn parse(&mut self, language: Language, text: &str) -> Parsed {
        let (tree, outcome) = self.tree(language, text, None);
        let mut found = Found::default();
        if let (Some(tree), Some(spec)) = (&tree, language.spec()) {
            self.walk(spec, text, tree, None, &mut found);
        }
        extract(language, text, found, outcome)
    }

    /// Parses the next version of a buffer, given the text of the last one and what was kept of
    /// it. The tree costs what the change costs, the words of the chunks what the text costs.
    pub(crate) fn reparse(
        &mut self,
        language: Language,
        text: &str,
        previous: Option<(&str, Kept)>,
    ) -> (Parsed, Option<Kept>) {
        let edited = previous.map(|(old_text, mut kept)| {
            let edit = edit_between(old_text, text);
            if let Some(edit) = &edit {
                kept.tree.edit(edit);
            }
            (kept, edit)
        });
        let old_tree = edited.as_ref().map(|(kept, _)| &kept.tree);
        let (tree, outcome) = self.tree(language, text, old_tree);
        let (Some(tree), Some(spec)) = (tree, language.spec()) else {
            return (extract(language, text, Found::default(), outcome), None);
        };
        let mut found = match edited {
            Some((Kept { found, .. }, None)) => found,
            Some((kept, Some(edit))) => {
                let touched = Touched::new(&kept.tree, &tree, &edit);
                let mut found = kept.found;
                found.shift(&edit);
                found.forget(&touched);
                self.walk(spec, text, &tree, Some(&touched), &mut found);
                found
            }
            None => {
                let mut found = Found::default();
                self.walk(spec, text, &tree, None, &mut found);
                found
            }
        };
        found.sort();
        let parsed = extract(language, text, found.clone(), outcome);
        (parsed, Some(Kept { tree, found }))
    }

    /// Returns everything in a tree, in order.
    #[cfg(test)]
    pub(super) fn found_in(&mut self, language: Language, text: &str, tree: &Tree) -> Found {
        let mut found = Found::default();
        if let Some(spec) = language.spec() {
            self.walk(spec, text, tree, None, &mut found);
        }
        found.sort();
        found
    }

    pub(crate) fn tree(
        &mut self,
        language: Language,
        text: &str,
        previous: Option<&Tree>,
    ) -> (Option<Tree>, ParseOutcome) {
        let Some(spec) = language.spec() else {
            return (None, ParseOutcome::NotParsed);
        };
        if text.len() > LIMITS.parse_bytes || self.parser.set_language(&spec.grammar).is_err() {
            return (None, ParseOutcome::NotParsed);
        }
        let give_up = Instant::now() + LIMITS.parse_time;
        let mut late = |_: &tree_sitter::ParseState| {
            if Instant::now() > give_up {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let bytes = text.as_bytes();
        let tree = self.parser.parse_with_options(
            &mut |at, _| bytes.get(at..).unwrap_or_default(),
            previous,
            Some(ParseOptions::new().progress_callback(&mut late)),
        );
        if tree.is_none() {
            // Otherwise the next parse would resume this one.
            self.parser.reset();
            return (None, ParseOutcome::TimedOut);
        }
        (tree, ParseOutcome::Complete)
    }

    /// Visits every node once, those outside of `touched` left out, and shows the query only those
    /// where a pattern can start.
    fn walk(
        &mut self,
        spec: &LanguageSpec,
        text: &str,
        tree: &Tree,
        touched: Option<&Touched>,
        found: &mut Found,
    ) {
        self.cursor.set_max_start_depth(Some(0));
        self.cursor.set_match_limit(256);
        let mut cursor = tree.walk();
        loop {
            let node = cursor.node();
            let is_touched = touched.is_none_or(|touched| touched.meets(&node.byte_range()));
            let descend = is_touched
                && match spec.role(node.kind_id()) {
                    Role::Plain => true,
                    Role::Comment => {
                        found.comment(&node);
                        false
                    }
                    Role::Root => {
                        if node.is_named() {
                            self.captures(spec, text, node, found);
                        }
                        true
                    }
                };
            if descend && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return;
                }
            }
        }
    }

    fn captures(&mut self, spec: &LanguageSpec, text: &str, node: Node<'_>, found: &mut Found) {
        let mut matches = self.cursor.matches(&spec.query, node, text.as_bytes());
        while let Some(found_match) = matches.next() {
            let mut name = None;
            let mut definition = None;
            for capture in found_match.captures() {
                match spec.captures[capture.index as usize] {
                    Capture::Name => name = Some(capture.node),
                    Capture::Definition(kind) => definition = Some((capture.node, kind)),
                    Capture::Import => found.import(text, capture.node.byte_range()),
                    Capture::Comment => found.comments.push(capture.node.byte_range()),
                    Capture::Attached => found.attach(&capture.node),
                    Capture::Predicate => {}
                }
            }
            if let Some((node, kind)) = definition
                && found.definitions.len() < LIMITS.definitions
            {
                found.define(text, node, name, kind);
            }
        }
    }
}

/// Makes the unit and the words of its chunks of what was found in the tree.
fn extract(language: Language, text: &str, found: Found, outcome: ParseOutcome) -> Parsed {
    let line_starts = line_starts(text);
    let n_lines = line_starts.len() as u32 - 1;
    let definitions = definitions(text, found.definitions, &found.attached, n_lines);
    let mut chunks = chunk::cut(text, &line_starts, &definitions);
    let comments = merged(found.comments);

    let mut names = Names::new(language);
    let mut terms = Vec::with_capacity(chunks.len());
    for chunk in &mut chunks {
        let bytes = line_starts[chunk.first_line as usize]..line_starts[chunk.end_line as usize];
        let mut chunk_terms = names.chunk_terms(text, bytes, &comments);
        let lines = chunk.first_line..chunk.end_line;
        let around = chunk.definition.into_iter();
        let around = around.flat_map(|of| enclosing(&definitions, of).take(LIMITS.enclosing));
        let around = around.filter(|around| !lines.contains(&around.name_line));
        for definition in definitions_in(&definitions, lines.clone()).chain(around) {
            if chunk_terms.symbols.len < MAX_CHUNK_TERMS {
                chunk_terms.symbols.add_word(&definition.name);
            }
        }
        chunk.n_terms = chunk_terms.code.len + chunk_terms.comment.len;
        terms.push(chunk_terms);
    }
    let unit = Unit {
        n_lines,
        definitions,
        chunks,
        imports: found
            .imports
            .into_iter()
            .map(|(_, import)| import)
            .collect(),
        identifiers: names.into_identifiers(),
    };
    Parsed {
        unit,
        terms,
        outcome,
    }
}

/// Orders definitions by place, drops repeats, finds parents and the documentation above.
fn definitions(
    text: &str,
    mut raw: Vec<RawDefinition>,
    attached: &[Attached],
    n_lines: u32,
) -> Vec<Definition> {
    // Last row → first row.
    let attached: FxHashMap<usize, usize> = attached
        .iter()
        .map(|attached| (attached.last_row, attached.first_row))
        .collect();
    // Two patterns can see the same thing (`const f = () => …` is a function and a constant):
    // the one that says more comes first, and stays.
    let vague = |kind| {
        use DefinitionKind as Kind;
        matches!(
            kind,
            Kind::Constant | Kind::Type | Kind::Field | Kind::Declaration
        )
    };
    raw.sort_by_key(|d| (d.bytes.start, std::cmp::Reverse(d.bytes.end), vague(d.kind)));
    raw.dedup_by(|later, first| later.bytes == first.bytes && later.name == first.name);
    let mut open: Vec<u32> = Vec::new();
    let mut out: Vec<Definition> = Vec::with_capacity(raw.len());
    for (at, definition) in raw.iter().enumerate() {
        while open
            .last()
            .is_some_and(|&o| raw[o as usize].bytes.end < definition.bytes.end)
        {
            open.pop();
        }
        let mut first_line = definition.rows.start;
        while first_line > 0
            && let Some(&row) = attached.get(&(first_line as usize - 1))
            && row < first_line as usize
        {
            first_line = row as u32;
        }
        let floor = open.last().map_or(0, |&o| out[o as usize].name_line);
        let body = definition.body.unwrap_or(definition.bytes.end);
        out.push(Definition {
            name: definition.name.clone(),
            kind: definition.kind,
            first_line: first_line.max(floor.min(definition.rows.start)),
            name_line: definition.name_row,
            end_line: definition
                .rows
                .end
                .min(n_lines)
                .max(definition.rows.start + 1),
            signature: signature(&text[definition.bytes.start..body.max(definition.bytes.start)]),
            parent: open.last().copied(),
        });
        open.push(at as u32);
    }
    out
}

/// Returns the head of a definition on one line; without a body, its first line.
fn signature(head: &str) -> String {
    let mut line = String::new();
    for word in head.split_ascii_whitespace() {
        if line.len() + word.len() >= MAX_SIGNATURE {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.trim_end_matches(['{', ':', '=', ' ']).to_owned()
}

fn definitions_in(
    definitions: &[Definition],
    lines: Range<u32>,
) -> impl Iterator<Item = &Definition> {
    definitions
        .iter()
        .filter(move |definition| lines.contains(&definition.name_line))
}

fn enclosing(definitions: &[Definition], of: u32) -> impl Iterator<Item = &Definition> {
    std::iter::successors(definitions.get(of as usize), |inner| {
        definitions.get(inner.parent? as usize)
    })
}

/// Returns the byte at which each line starts, and the length of the text at the end.
fn line_starts(text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend(
        text.bytes()
            .enumerate()
            .filter(|&(_, b)| b == b'\n')
            .map(|(at, _)| at + 1),
    );
    if starts.last() != Some(&text.len()) {
        starts.push(text.len());
    }
    starts
}

fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut out: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            Some(_) | None => out.push(range),
        }
    }
    out
}

/// Collects the names of a file while its chunks are read.
struct Names {
    keywords: &'static rustc_hash::FxHashSet<&'static str>,
    is_code: bool,
    seen: FxHashMap<u32, (u8, NameStyle)>,
}

impl Names {
    fn new(language: Language) -> Self {
        Self {
            keywords: language.keywords(),
            is_code: language.is_code(),
            seen: FxHashMap::default(),
        }
    }

    fn chunk_terms(
        &mut self,
        text: &str,
        bytes: Range<usize>,
        comments: &[Range<usize>],
    ) -> ChunkTerms {
        let mut terms = ChunkTerms::default();
        let mut next = comments.partition_point(|comment| comment.end <= bytes.start);
        analyse::words(&text[bytes.clone()], |at, word| {
            let at = bytes.start + at;
            while comments.get(next).is_some_and(|comment| comment.end <= at) {
                next += 1;
            }
            let in_comment = comments
                .get(next)
                .is_some_and(|comment| comment.start <= at);
            if in_comment {
                if terms.comment.len < MAX_CHUNK_TERMS {
                    terms.comment.add_word(word);
                }
                return;
            }
            if word.len() <= 12 && self.keywords.contains(word) {
                return;
            }
            if self.is_code {
                self.add(word);
            }
            if terms.code.len < MAX_CHUNK_TERMS {
                terms.code.add_word(word);
            }
        });
        terms
    }

    fn add(&mut self, word: &str) {
        if (2..=MAX_NAME).contains(&word.len()) && !word.as_bytes()[0].is_ascii_digit() {
            let seen = self
                .seen
                .entry(name_hash(word.as_bytes()))
                .or_insert_with(|| (0, NameStyle::of(word)));
            seen.0 = seen.0.saturating_add(1);
        }
    }

    fn into_identifiers(self) -> Vec<Identifier> {
        let mut identifiers: Vec<_> = self
            .seen
            .into_iter()
            .map(|(hash, (count, style))| Identifier { hash, count, style })
            .collect();
        identifiers.sort_unstable_by_key(|identifier| identifier.hash);
        identifiers
    }
}

/// Returns the one edit that turns `old` into `new`: what is left between the longest common
/// start and end. `None` when they are equal.
fn edit_between(old: &str, new: &str) -> Option<InputEdit> {
    if old == new {
        return None;
    }
    let (old_bytes, new_bytes) = (old.as_bytes(), new.as_bytes());
    let start = old_bytes
        .iter()
        .zip(new_bytes)
        .take_while(|(a, b)| a == b)
        .count();
    let shorter = old_bytes.len().min(new_bytes.len()) - start;
    let end = old_bytes
        .iter()
        .rev()
        .zip(new_bytes.iter().rev())
        .take(shorter);
    let same_end = end.take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (old_bytes.len() - same_end, new_bytes.len() - same_end);
    Some(InputEdit {
        start_byte: start,
        old_end_byte: old_end,
        new_end_byte: new_end,
        start_position: point_at(old_bytes, start),
        old_end_position: point_at(old_bytes, old_end),
        new_end_position: point_at(new_bytes, new_end),
    })
}

fn point_at(text: &[u8], byte: usize) -> Point {
    let before = &text[..byte];
    let row = before.iter().filter(|&&b| b == b'\n').count();
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count();
    Point { row, column }
}
