//! Where a block belongs: from lines a model wrote to lines of the file.
//!
//! Levels are tried from the strictest on, and the first one that finds the block decides. Each is
//! an equality: of the lines themselves, or of the lines under one transform that fits the whole
//! block. If a level finds several places, hints may leave one of them; a laxer level never gets
//! to choose. The lines to be written are carried through the same transform.
//! Not here: blocks that refer to each other's results, and overlaps (`apply_set`).

mod escapes;
mod gaps;
mod headings;
mod indent;
mod lines;
mod report;
mod substring;

pub use headings::{Headings, git_section};
pub use lines::Index;
pub use report::{ambiguous, ambiguous_lines, no_match};
pub use substring::{TextPlace, find_text};

use super::parse::{Block, BlockLine, Hints, LineKind};
use super::text::{LineEnd, NewLine, Splice};
use lines::Key;

/// Context lines that a block needs before one of them may differ.
const LINES_FOR_ONE_OFF: usize = 5;
/// Lines of a block that must carry letters or digits before one of its lines may differ.
const TELLING_LINES: usize = 3;

/// How a block was found. Later ones are laxer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Line for line. Line ends do not count: the model does not see them.
    Exact,
    /// Context lines of a diff are written without their mark.
    UnmarkedContext,
    /// But for blanks at the ends of lines.
    TrailingBlanks,
    /// But for indentation, which differs in one way throughout.
    Indent,
    /// After undoing one kind of escaping throughout.
    Escapes,
    /// Parts, with gaps that both texts mark.
    Gaps,
    /// But for one context line of a diff.
    OneContextLine,
}

const LEVELS: [Level; 7] = [
    Level::Exact,
    Level::UnmarkedContext,
    Level::TrailingBlanks,
    Level::Indent,
    Level::Escapes,
    Level::Gaps,
    Level::OneContextLine,
];

/// A place that a block fits, with the lines as they will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub level: Level,
    pub parts: Vec<Part>,
}

/// A run of a block's lines and the file line its first old line stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub start: usize,
    pub block: Block,
    /// A line of the file that the block leaves out: it comes before this old line of the block.
    pub left_out: Option<usize>,
}

impl Place {
    fn whole(level: Level, start: usize, block: Block) -> Self {
        Self {
            level,
            parts: vec![Part {
                start,
                block,
                left_out: None,
            }],
        }
    }

    /// The file line that the block begins on.
    pub fn start(&self) -> usize {
        self.parts.first().map_or(0, |p| p.start)
    }

    /// The file line below the block.
    pub fn end(&self) -> usize {
        self.parts.last().map_or(0, Part::end)
    }

    /// What is to be written, in order.
    pub fn splices(&self) -> Vec<Splice> {
        self.parts.iter().flat_map(Part::splices).collect()
    }
}

impl Part {
    pub fn end(&self) -> usize {
        self.start + self.block.n_old() + usize::from(self.left_out.is_some())
    }

    fn splices(&self) -> Vec<Splice> {
        let mut splices = Vec::new();
        let mut run: Option<Splice> = None;
        let (mut at, mut old_idx) = (self.start, 0);
        let mut removed_open = false;
        for line in &self.block.lines {
            if line.kind != LineKind::Added {
                if self.left_out == Some(old_idx) {
                    splices.extend(run.take());
                    at += 1;
                }
                old_idx += 1;
            }
            match line.kind {
                LineKind::Context => {
                    splices.extend(run.take());
                    at += 1;
                }
                LineKind::Removed => {
                    removed_open |= line.open;
                    at += 1;
                    run.get_or_insert_with(|| Splice {
                        lines: at - 1..at,
                        new: Vec::new(),
                    })
                    .lines
                    .end = at;
                }
                LineKind::Added => {
                    let end = match line.open {
                        true => LineEnd::Open,
                        false if removed_open => LineEnd::Ended,
                        false => LineEnd::Usual,
                    };
                    run.get_or_insert_with(|| Splice {
                        lines: at..at,
                        new: Vec::new(),
                    })
                    .new
                    .push(NewLine {
                        text: line.text.clone(),
                        end,
                    });
                }
            }
        }
        splices.extend(run);
        splices
    }
}

/// Finds all places that one of `readings` fits, on the first level on which there are any.
///
/// Places that come to the same bytes count once. Empty when there is none. Linear in the file per
/// level, as long as its lines do not repeat beyond [`lines::MAX_WORK`].
pub fn find(index: &Index<'_>, readings: &[Block], hints: &Hints) -> Vec<Place> {
    let as_written = LEVELS
        .iter()
        .map(|level| at_level(*level, index, readings, hints));
    let trimmed: Vec<Block> = readings.iter().filter_map(without_blank_edges).collect();
    let without_edges = LEVELS[..4]
        .iter()
        .map(|level| at_level(*level, index, &trimmed, hints));
    as_written
        .chain(without_edges)
        .find(|places| !places.is_empty())
        .unwrap_or_default()
}

fn at_level(level: Level, index: &Index<'_>, readings: &[Block], hints: &Hints) -> Vec<Place> {
    let mut places: Vec<(usize, Place)> = Vec::new();
    for block in readings.iter().filter(|b| b.n_old() > 0) {
        let found = match level {
            Level::Exact => with_key(level, index, Key::Exact, block),
            Level::UnmarkedContext => unmarked(index, block),
            Level::TrailingBlanks => with_key(level, index, Key::TrimEnd, block),
            Level::Indent => indent::find(index, block),
            Level::Escapes => escapes::find(index, block, hints),
            Level::Gaps => gaps::find(index, block),
            Level::OneContextLine if hints.marks_context => one_off(index, block),
            Level::OneContextLine => Vec::new(),
        };
        places.extend(found.into_iter().map(|place| (block.n_old(), place)));
    }
    // Where text that looks like a divider makes readings of different length, more of the file
    // agreeing with the answer is what it meant.
    let longest = places.iter().map(|(n, _)| *n).max().unwrap_or_default();
    let mut distinct: Vec<(Vec<Splice>, Place)> = Vec::new();
    for (_, place) in places.into_iter().filter(|(n, _)| *n == longest) {
        let splices = place.splices();
        if distinct.iter().all(|(seen, _)| *seen != splices) {
            distinct.push((splices, place));
        }
    }
    distinct.into_iter().map(|(_, place)| place).collect()
}

fn with_key(level: Level, index: &Index<'_>, key: Key, block: &Block) -> Vec<Place> {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    index
        .find(key, &old)
        .into_iter()
        .map(|start| Place::whole(level, start, block.clone()))
        .collect()
}

/// Takes every context line with or without its first blank, whichever is in the file.
fn unmarked(index: &Index<'_>, block: &Block) -> Vec<Place> {
    if block.lines.iter().all(|l| l.unmarked.is_none()) {
        return Vec::new();
    }
    let old: Vec<[&str; 2]> = block
        .old()
        .map(|l| [l.text.as_str(), l.unmarked.as_deref().unwrap_or(&l.text)])
        .collect();
    index
        .find_either(&old)
        .into_iter()
        .map(|start| Place::whole(Level::UnmarkedContext, start, block.clone()))
        .collect()
}

/// Finds the block but for one context line: another one stands there, or one line more.
fn one_off(index: &Index<'_>, block: &Block) -> Vec<Place> {
    let old: Vec<&BlockLine> = block.old().collect();
    let telling = |l: &&&BlockLine| l.text.chars().any(char::is_alphanumeric);
    if old.len() < LINES_FOR_ONE_OFF || old.iter().filter(telling).count() <= TELLING_LINES {
        return Vec::new();
    }
    let texts: Vec<&str> = old.iter().map(|l| l.text.as_str()).collect();
    let mut places = Vec::new();
    for (start, odd) in index.find_but_one(&texts) {
        let file_line = index.text().line(start + odd);
        // Where only blanks differ, the blanks of the lines to be written are in doubt as well. A
        // line without the mark of context, or next to a change, may be one that was to change.
        let is_context = old[odd].kind == LineKind::Context && old[odd].unmarked.is_some();
        if is_context
            && !is_beside_change(block, odd)
            && squeezed(file_line) != squeezed(texts[odd])
        {
            places.push(Place::whole(Level::OneContextLine, start, block.clone()));
        }
    }
    for (start, before) in index.find_around_one(&texts) {
        if !is_beside_insertion(block, before) {
            let part = Part {
                start,
                block: block.clone(),
                left_out: Some(before),
            };
            places.push(Place {
                level: Level::OneContextLine,
                parts: vec![part],
            });
        }
    }
    places
}

/// Whether it would be in doubt where the block's changes go if the file has one line more before
/// old line `old_idx`: above or below that line?
fn is_beside_insertion(block: &Block, old_idx: usize) -> bool {
    let is_old = |l: &(usize, &BlockLine)| l.1.kind != LineKind::Added;
    let mut old = block
        .lines
        .iter()
        .enumerate()
        .filter(is_old)
        .skip(old_idx - 1);
    let (Some((before, above)), Some((after, below))) = (old.next(), old.next()) else {
        return true;
    };
    let inserts = after - before > 1;
    match (
        above.kind == LineKind::Removed,
        below.kind == LineKind::Removed,
    ) {
        (true, true) => true,
        (true, false) => false,
        (false, _) => inserts,
    }
}

/// Whether the line above or below old line `old_idx` is changed.
fn is_beside_change(block: &Block, old_idx: usize) -> bool {
    let mut old = block
        .lines
        .iter()
        .enumerate()
        .filter(|(_, l)| l.kind != LineKind::Added);
    let Some((at, _)) = old.nth(old_idx) else {
        return true;
    };
    let is_changed = |i: usize| {
        block
            .lines
            .get(i)
            .is_some_and(|l| l.kind != LineKind::Context)
    };
    at.checked_sub(1).is_some_and(is_changed) || is_changed(at + 1)
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The block without the empty lines at its ends, which models add for looks. `None` when it has
/// none there, or nothing else.
fn without_blank_edges(block: &Block) -> Option<Block> {
    let is_edge = |l: &BlockLine| l.kind != LineKind::Added && l.text.trim().is_empty();
    let first = block.lines.iter().position(|l| !is_edge(l))?;
    let last = block.lines.iter().rposition(|l| !is_edge(l))?;
    let trimmed = Block {
        lines: block.lines[first..=last].to_vec(),
    };
    (trimmed.lines.len() < block.lines.len() && trimmed.n_old() > 0).then_some(trimmed)
}

#[cfg(test)]
mod tests;
