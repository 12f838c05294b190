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
pub use substring::{TextPlace, TextPlaces, find_text};

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Refusal;
use super::parse::{Block, BlockLine, Hints, LineKind};
use super::text::{LineEnd, NewLine, Splice};
use lines::{Key, MAX_PLACES};

/// Places that are told of where nothing can choose among them.
pub const MAX_AMBIGUOUS: usize = 256;
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
    pub block: Rc<Block>,
    /// A line of the file that the block leaves out: it comes before this old line of the block.
    pub left_out: Option<usize>,
}

impl Place {
    fn whole(level: Level, start: usize, block: Rc<Block>) -> Self {
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
/// Places that come to the same bytes count once; where no hint can choose among them, no more than
/// [`MAX_AMBIGUOUS`] are found for a reading. Empty when there is none. Linear in the file per level.
///
/// # Errors
/// A [`Refusal`] when the lines of the file repeat beyond [`lines::MAX_WORK`] or [`MAX_PLACES`]: a
/// place may not have been seen then.
pub fn find(index: &Index<'_>, readings: &[Block], hints: &Hints) -> Result<Vec<Place>, Refusal> {
    let as_written = LEVELS
        .iter()
        .map(|level| at_level(*level, index, readings, hints));
    let trimmed: Vec<Block> = readings.iter().filter_map(without_blank_edges).collect();
    let without_edges = LEVELS[..4]
        .iter()
        .map(|level| at_level(*level, index, &trimmed, hints));
    let found = as_written
        .chain(without_edges)
        .find(|places| !places.is_empty())
        .unwrap_or_default();
    match index.is_exhausted() {
        true => Err(report::too_repetitive()),
        false => Ok(found),
    }
}

/// Whether anything that is known beside a block can tell one of its places from the others.
fn can_choose(hints: &Hints) -> bool {
    hints.line.is_some() || !hints.headings.is_empty() || hints.at_end || hints.marks_context
}

fn at_level(level: Level, index: &Index<'_>, readings: &[Block], hints: &Hints) -> Vec<Place> {
    let mut places: Vec<(usize, Place)> = Vec::new();
    let most = match can_choose(hints) {
        true => MAX_PLACES + 1,
        false => MAX_AMBIGUOUS,
    };
    for block in readings {
        let n_old = block.n_old();
        if n_old == 0 {
            continue;
        }
        let found = match level {
            Level::Exact => with_key(level, index, Key::Exact, block, most),
            Level::UnmarkedContext => unmarked(index, block, most),
            Level::TrailingBlanks => with_key(level, index, Key::TrimEnd, block, most),
            Level::Indent => indent::find(index, block, most),
            Level::Escapes => escapes::find(index, block, hints, most),
            Level::Gaps => gaps::find(index, block),
            Level::OneContextLine if hints.marks_context => one_off(index, block, most),
            Level::OneContextLine => Vec::new(),
        };
        index.found(found.len());
        places.extend(found.into_iter().map(|place| (n_old, place)));
    }
    // Where text that looks like a divider makes readings of different length, more of the file
    // agreeing with the answer is what it meant.
    let longest = places.iter().map(|(n, _)| *n).max().unwrap_or_default();
    places.retain(|(n, _)| *n == longest);
    let mut seen: FxHashSet<Written> = FxHashSet::default();
    let mut of_block: FxHashMap<(*const Block, Option<usize>), (usize, blake3::Hash)> =
        FxHashMap::default();
    let is_new = |(_, place): &(usize, Place)| match &place.parts[..] {
        // What a block writes is the same wherever it is.
        [part] => {
            let key = (Rc::as_ptr(&part.block), part.left_out);
            let (below, hash) = *of_block.entry(key).or_insert_with(|| {
                let (first, hash) = written(&part.splices());
                (first.map_or(0, |first| first - part.start), hash)
            });
            let has_none = hash == written(&[]).1;
            let first = (!has_none).then_some(part.start + below);
            seen.insert((first, hash))
        }
        _ => seen.insert(written(&place.splices())),
    };
    let is_new: Vec<bool> = places.iter().map(is_new).collect();
    let distinct = places.into_iter().zip(is_new);
    let distinct = distinct.filter(|(_, is_new)| *is_new);
    distinct.map(|((_, place), _)| place).collect()
}

/// What is written: the first line that changes, and a hash over all from there on.
type Written = (Option<usize>, blake3::Hash);

fn written(splices: &[Splice]) -> Written {
    let first = splices.first().map(|splice| splice.lines.start);
    let mut hasher = blake3::Hasher::new();
    let mut number = |n: usize| {
        hasher.update(&(n as u64).to_le_bytes());
    };
    for splice in splices {
        number(splice.lines.start - first.unwrap_or_default());
        number(splice.lines.len());
        number(splice.new.len());
    }
    for line in splices.iter().flat_map(|splice| &splice.new) {
        let end = match line.end {
            LineEnd::Usual => 0,
            LineEnd::Ended => 1,
            LineEnd::Open => 2,
            LineEnd::Of(line_idx) => 3 + line_idx as u64,
        };
        hasher.update(&end.to_le_bytes());
        hasher.update(&(line.text.len() as u64).to_le_bytes());
        hasher.update(line.text.as_bytes());
    }
    (first, hasher.finalize())
}

fn with_key(level: Level, index: &Index<'_>, key: Key, block: &Block, most: usize) -> Vec<Place> {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    whole_places(level, index.find(key, &old, most), block)
}

fn whole_places(level: Level, starts: Vec<usize>, block: &Block) -> Vec<Place> {
    if starts.is_empty() {
        return Vec::new();
    }
    let block = Rc::new(block.clone());
    let place = |start| Place::whole(level, start, Rc::clone(&block));
    starts.into_iter().map(place).collect()
}

/// Takes every context line with or without its first blank, whichever is in the file.
fn unmarked(index: &Index<'_>, block: &Block, most: usize) -> Vec<Place> {
    if block.lines.iter().all(|l| l.unmarked.is_none()) {
        return Vec::new();
    }
    let old: Vec<[&str; 2]> = block
        .old()
        .map(|l| [l.text.as_str(), l.unmarked.as_deref().unwrap_or(&l.text)])
        .collect();
    let mut starts = index.find_either(&old);
    starts.truncate(most);
    whole_places(Level::UnmarkedContext, starts, block)
}

/// Finds the block but for one context line: another one stands there, or one line more.
fn one_off(index: &Index<'_>, block: &Block, most: usize) -> Vec<Place> {
    let old: Vec<&BlockLine> = block.old().collect();
    let telling = |l: &&&BlockLine| l.text.chars().any(char::is_alphanumeric);
    if old.len() < LINES_FOR_ONE_OFF || old.iter().filter(telling).count() <= TELLING_LINES {
        return Vec::new();
    }
    let texts: Vec<&str> = old.iter().map(|l| l.text.as_str()).collect();
    let mut places = Vec::new();
    let shared = Rc::new(block.clone());
    for (start, odd) in index.find_but_one(&texts) {
        let file_line = index.text().line(start + odd);
        // Where only blanks differ, the blanks of the lines to be written are in doubt as well. A
        // line without the mark of context, or next to a change, may be one that was to change.
        let is_context = old[odd].kind == LineKind::Context && old[odd].unmarked.is_some();
        if is_context
            && !is_beside_change(block, odd)
            && squeezed(file_line) != squeezed(texts[odd])
        {
            places.push(Place::whole(
                Level::OneContextLine,
                start,
                Rc::clone(&shared),
            ));
        }
    }
    for (start, before) in index.find_around_one(&texts) {
        if !is_beside_insertion(block, before) {
            let part = Part {
                start,
                block: Rc::clone(&shared),
                left_out: Some(before),
            };
            places.push(Place {
                level: Level::OneContextLine,
                parts: vec![part],
            });
        }
    }
    places.truncate(most);
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
