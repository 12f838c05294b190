//! Blocks whose indentation differs from the file's in one way throughout.
//!
//! A [`Shift`] is taken only if it fits every line of the block that is not blank. If more than one
//! fits and they disagree on a line to be written, the block has no place.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::lines::Key;
use super::{Index, Level, Place};
use crate::edit::parse::{Block, BlockLine, LineKind};

/// Widths of a tab that models write, and those that are usual.
const WIDTHS: std::ops::RangeInclusive<usize> = 1..=8;
const USUAL_WIDTHS: [usize; 2] = [4, 8];

/// How to get from the indentation a model wrote to that of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shift {
    /// The file has this in front.
    Add(String),
    /// The model has this in front.
    Remove(String),
    /// The file has a tab for so many blanks, and so many tabs more or fewer.
    ToTabs { width: usize, more: isize },
    /// The file has so many blanks for a tab, and so many blanks more or fewer.
    ToBlanks { width: usize, more: isize },
}

pub(super) fn find(index: &Index<'_>, block: &Block, most: usize) -> Vec<Place> {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    if old.iter().all(|line| line.trim().is_empty()) {
        return Vec::new();
    }
    let is_text: Vec<usize> = (0..old.len())
        .filter(|&i| !old[i].trim().is_empty())
        .collect();
    // Where the file is indented in the same way the block is written in the same way.
    let mut made: FxHashMap<Vec<&str>, Option<Rc<Block>>> = FxHashMap::default();
    let mut places = Vec::new();
    for start in index.find(Key::TrimStart, &old, usize::MAX) {
        let line = |&i: &usize| indent_of(index.text().line(start + i));
        let indents: Vec<&str> = is_text.iter().map(line).collect();
        let block = made.entry(indents).or_insert_with_key(|indents| {
            let model = is_text.iter().map(|&i| indent_of(old[i]));
            let pairs: Vec<(&str, &str)> = model.zip(indents.iter().copied()).collect();
            let has_room = index.spend(pairs.len()) && index.make(block);
            has_room.then(|| shifted(block, &pairs))?.map(Rc::new)
        });
        if let Some(block) = block {
            places.push(Place::whole(Level::Indent, start, Rc::clone(block)));
        }
        if places.len() == most {
            break;
        }
    }
    places
}

/// The block with its added lines indented as the file is; `pairs` are the indentations of the
/// model and of the file, line by line.
fn shifted(block: &Block, pairs: &[(&str, &str)]) -> Option<Block> {
    if let Some(as_it_is) = written_in_place(block, pairs) {
        return Some(as_it_is);
    }
    let mut shifts = candidates(pairs).into_iter().filter(|s| {
        pairs
            .iter()
            .all(|(model, file)| s.apply(model).as_deref() == Some(*file))
    });
    let first = with_shift(block, &shifts.next()?)?;
    shifts
        .all(|other| with_shift(block, &other).is_none_or(|b| b == first))
        .then_some(first)
}

/// The block as it is, if the model indented old text wrongly and new text rightly: nothing but
/// blank lines is in both, and the new text begins as far in as the file's does here.
fn written_in_place(block: &Block, pairs: &[(&str, &str)]) -> Option<Block> {
    let is_text = |l: &&BlockLine| !l.text.trim().is_empty();
    let has_common = block
        .lines
        .iter()
        .filter(is_text)
        .any(|l| l.kind == LineKind::Context);
    let least = |indents: &mut dyn Iterator<Item = &str>| {
        indents.min_by_key(|i| i.len()).map(str::to_owned)
    };
    let added = block
        .lines
        .iter()
        .filter(is_text)
        .filter(|l| l.kind == LineKind::Added);
    let written = least(&mut added.map(|l| indent_of(&l.text)))?;
    let in_file = least(&mut pairs.iter().map(|p| p.1))?;
    let in_model = least(&mut pairs.iter().map(|p| p.0))?;
    (!has_common && written == in_file && written != in_model).then(|| block.clone())
}

/// Shifts that fit the first pair, the simplest kind first and alone.
fn candidates(pairs: &[(&str, &str)]) -> Vec<Shift> {
    let Some(&(model, file)) = pairs.first() else {
        return Vec::new();
    };
    let mut shifts = Vec::new();
    if let Some(front) = file.strip_suffix(model) {
        shifts.push(Shift::Add(front.to_owned()));
    } else if let Some(front) = model.strip_suffix(file) {
        shifts.push(Shift::Remove(front.to_owned()));
    }
    let fits = |s: &Shift| {
        pairs
            .iter()
            .all(|(model, file)| s.apply(model).as_deref() == Some(*file))
    };
    shifts.retain(fits);
    if !shifts.is_empty() {
        return shifts;
    }
    let difference = |wanted: usize, got: usize| wanted.cast_signed() - got.cast_signed();
    let tabs = |indent: &str| indent.bytes().filter(|&b| b == b'\t').count();
    let (mut plain, mut offset) = (Vec::new(), Vec::new());
    // One depth is not enough to measure a width by.
    let mut depths: Vec<&str> = pairs
        .iter()
        .map(|p| p.1)
        .filter(|i| !i.is_empty())
        .collect();
    depths.sort_unstable();
    depths.dedup();
    let is_credible = |width: &usize| depths.len() > 1 || USUAL_WIDTHS.contains(width);
    for width in WIDTHS.filter(is_credible) {
        let more_tabs = difference(tabs(file), model.len() / width);
        let blanks = model.len() - tabs(model) + tabs(model) * width;
        let more_blanks = difference(file.len(), blanks);
        for shift in [
            Shift::ToTabs {
                width,
                more: more_tabs,
            },
            Shift::ToBlanks {
                width,
                more: more_blanks,
            },
        ] {
            let is_plain = matches!(
                shift,
                Shift::ToTabs { more: 0, .. } | Shift::ToBlanks { more: 0, .. }
            );
            if is_plain {
                plain.push(shift);
            } else {
                offset.push(shift);
            }
        }
    }
    plain.retain(fits);
    if plain.is_empty() { offset } else { plain }
}

fn with_shift(block: &Block, shift: &Shift) -> Option<Block> {
    block.map(|line| {
        let rest = line.text.trim_start();
        if line.kind != LineKind::Added || rest.is_empty() {
            return Some(line.text.clone());
        }
        Some(shift.apply(indent_of(&line.text))? + rest)
    })
}

impl Shift {
    /// `None` when the indentation is not of the kind that is shifted.
    fn apply(&self, indent: &str) -> Option<String> {
        match self {
            Self::Add(front) => Some(format!("{front}{indent}")),
            Self::Remove(front) => indent.strip_prefix(front.as_str()).map(str::to_owned),
            Self::ToTabs { width, more } => {
                if !indent.bytes().all(|b| b == b' ') {
                    return None;
                }
                let n_tabs = (indent.len() / width).checked_add_signed(*more)?;
                Some("\t".repeat(n_tabs) + &" ".repeat(indent.len() % width))
            }
            Self::ToBlanks { width, more } => {
                let n_tabs = indent.bytes().take_while(|&b| b == b'\t').count();
                let rest = &indent[n_tabs..];
                if !rest.bytes().all(|b| b == b' ') {
                    return None;
                }
                let n_blanks = (n_tabs * width + rest.len()).checked_add_signed(*more)?;
                Some(" ".repeat(n_blanks))
            }
        }
    }
}

fn indent_of(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}
