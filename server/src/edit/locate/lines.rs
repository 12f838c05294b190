//! The lines of a file, ready to be searched for runs of lines.

use std::cell::{Cell, OnceCell};

use rustc_hash::FxHashMap;

use crate::edit::parse::Block;
use crate::edit::text::{MAX_FILE, Text};

/// Comparisons of lines that searches in one file may take. Only files that repeat the same few
/// lines over and over come near it; what is found by then is not to be trusted.
pub(super) const MAX_WORK: usize = 200_000_000;
/// Places that searches in one file may find, all blocks together.
pub(super) const MAX_PLACES: usize = 1 << 20;

/// Under what lines count as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Exact,
    /// Without blanks at the end.
    TrimEnd,
    /// Without blanks at the start; blank lines are all equal.
    TrimStart,
}

/// A text with tables for searching, made when first needed. O(bytes) each.
#[derive(Debug)]
pub struct Index<'t> {
    text: &'t Text,
    exact: OnceCell<Table<'t>>,
    trim_end: OnceCell<Table<'t>>,
    trim_start: OnceCell<Table<'t>>,
    work: Cell<usize>,
    most_work: usize,
    n_places: Cell<usize>,
    /// Bytes of blocks that were made for places.
    n_made: Cell<usize>,
}

/// Lines as numbers that are equal where the lines are, and where each number occurs.
#[derive(Debug)]
struct Table<'t> {
    key: Key,
    numbers: FxHashMap<&'t str, u32>,
    lines: Vec<u32>,
    /// Lines sorted by number, and where each number's lines begin among them.
    by_number: Vec<u32>,
    begins: Vec<u32>,
}

/// A number no line has: it is equal to nothing.
const NOWHERE: u32 = u32::MAX;

impl<'t> Index<'t> {
    pub fn new(text: &'t Text) -> Self {
        Self::with_limit(text, MAX_WORK)
    }

    /// As [`new`](Self::new), for so many comparisons of lines.
    pub(super) fn with_limit(text: &'t Text, most_work: usize) -> Self {
        Self {
            text,
            exact: OnceCell::new(),
            trim_end: OnceCell::new(),
            trim_start: OnceCell::new(),
            work: Cell::new(0),
            most_work,
            n_places: Cell::new(0),
            n_made: Cell::new(0),
        }
    }

    pub fn text(&self) -> &'t Text {
        self.text
    }

    /// Whether the file has `line`, but for blanks around it.
    pub fn has_line(&self, line: &str) -> bool {
        self.table(Key::TrimStart).number(line) != NOWHERE
            || self.table(Key::TrimEnd).number(line) != NOWHERE
    }

    /// The first `most` lines at which `old` stands in the file.
    pub(super) fn find(&self, key: Key, old: &[&str], most: usize) -> Vec<usize> {
        let table = self.table(key);
        let old: Vec<u32> = old.iter().map(|line| table.number(line)).collect();
        let Some(anchor) = table.rarest(&old) else {
            return Vec::new();
        };
        let starts = table
            .occurrences(old[anchor])
            .iter()
            .filter_map(|&at| (at as usize).checked_sub(anchor));
        starts
            .filter(|&start| self.fits(table, start, &old))
            .take(most)
            .collect()
    }

    /// As [`find`](Self::find), with two spellings of each line, either of which may be there.
    pub(super) fn find_either(&self, old: &[[&str; 2]]) -> Vec<usize> {
        let table = self.table(Key::Exact);
        let old: Vec<[u32; 2]> = old
            .iter()
            .map(|either| either.map(|line| table.number(line)))
            .collect();
        let n_places = |[a, b]: [u32; 2]| {
            table.occurrences(a).len()
                + if a == b {
                    0
                } else {
                    table.occurrences(b).len()
                }
        };
        let Some(anchor) = (0..old.len()).min_by_key(|&i| n_places(old[i])) else {
            return Vec::new();
        };
        let mut starts: Vec<usize> = old[anchor]
            .iter()
            .flat_map(|&number| table.occurrences(number))
            .filter_map(|&at| (at as usize).checked_sub(anchor))
            .filter(|&start| {
                let Some(window) = table.lines.get(start..start + old.len()) else {
                    return false;
                };
                window
                    .iter()
                    .zip(&old)
                    .all(|(line, either)| self.work() && either.contains(line))
            })
            .collect();
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// Every place where all of `old` but one line stands: where, and which line is the odd one.
    pub(super) fn find_but_one(&self, old: &[&str]) -> Vec<(usize, usize)> {
        self.find_near(old, 0, |_, _, window, old| {
            let mut odd = (0..old.len()).filter(|&i| self.work() && window[i] != old[i]);
            odd.next().filter(|_| odd.next().is_none())
        })
    }

    /// Every place where `old` stands around one line more: where, and before which of its lines.
    pub(super) fn find_around_one(&self, old: &[&str]) -> Vec<(usize, usize)> {
        self.find_near(old, 1, |table, start, window, old| {
            let head = (0..old.len())
                .take_while(|&i| self.work() && window[i] == old[i])
                .count();
            let rest_fits =
                (1..old.len()).contains(&head) && self.fits(table, start + head + 1, &old[head..]);
            rest_fits.then_some(head)
        })
    }

    /// Every place where one half of `old` stands whole and `odd_line` finds the other nearly so.
    /// The windows looked at are `n_more` lines longer than `old`; the lines more are behind the
    /// first half, or before the second.
    fn find_near(
        &self,
        old: &[&str],
        n_more: usize,
        odd_line: impl Fn(&Table<'_>, usize, &[u32], &[u32]) -> Option<usize>,
    ) -> Vec<(usize, usize)> {
        let table = self.table(Key::Exact);
        let old: Vec<u32> = old.iter().map(|line| table.number(line)).collect();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (first, half) in halves(&old) {
            let Some(anchor) = table.rarest(half) else {
                continue;
            };
            let shift = if first > 0 { n_more } else { 0 };
            for &at in table.occurrences(half[anchor]) {
                let Some(start) = (at as usize).checked_sub(first + anchor + shift) else {
                    continue;
                };
                let Some(window) = table.lines.get(start..start + old.len() + n_more) else {
                    continue;
                };
                if let Some(odd) = odd_line(table, start, window, &old) {
                    places.push((start, odd));
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn fits(&self, table: &Table<'_>, start: usize, old: &[u32]) -> bool {
        let Some(window) = table.lines.get(start..start + old.len()) else {
            return false;
        };
        window.iter().zip(old).all(|(a, b)| self.work() && a == b)
    }

    /// Counts a comparison; false once there were too many.
    fn work(&self) -> bool {
        self.spend(1)
    }

    /// Counts comparisons; false once there were too many.
    pub(super) fn spend(&self, n: usize) -> bool {
        self.work.set(self.work.get().saturating_add(n));
        self.work.get() <= self.most_work
    }

    /// Counts places that were found.
    pub(super) fn found(&self, n: usize) {
        self.n_places.set(self.n_places.get() + n);
    }

    /// Counts the bytes of a block that is made for a place; false once they are too many.
    pub(super) fn make(&self, block: &Block) -> bool {
        let n_bytes: usize = block.lines.iter().map(|line| line.text.len() + 64).sum();
        self.n_made.set(self.n_made.get() + n_bytes);
        self.n_made.get() <= MAX_FILE
    }

    /// Whether a search came to an end before it had looked everywhere.
    pub(super) fn is_exhausted(&self) -> bool {
        self.work.get() > self.most_work
            || self.n_places.get() > MAX_PLACES
            || self.n_made.get() > MAX_FILE
    }

    fn table(&self, key: Key) -> &Table<'t> {
        let cell = match key {
            Key::Exact => &self.exact,
            Key::TrimEnd => &self.trim_end,
            Key::TrimStart => &self.trim_start,
        };
        cell.get_or_init(|| Table::new(self.text, key))
    }
}

impl<'t> Table<'t> {
    fn new(text: &'t Text, key: Key) -> Self {
        let mut numbers: FxHashMap<&str, u32> = FxHashMap::default();
        numbers.reserve(text.n_lines() / 2);
        let mut counts: Vec<u32> = Vec::new();
        let lines: Vec<u32> = text
            .lines()
            .map(|line| {
                let number = *numbers.entry(of(key, line)).or_insert_with(|| {
                    counts.push(0);
                    to_u32(counts.len() - 1)
                });
                counts[number as usize] += 1;
                number
            })
            .collect();
        let mut begins = Vec::with_capacity(counts.len() + 1);
        begins.push(0);
        for count in counts {
            begins.push(begins[begins.len() - 1] + count);
        }
        let mut next = begins.clone();
        let mut by_number = vec![0; lines.len()];
        for (line_idx, &number) in lines.iter().enumerate() {
            by_number[next[number as usize] as usize] = to_u32(line_idx);
            next[number as usize] += 1;
        }
        Self {
            key,
            numbers,
            lines,
            by_number,
            begins,
        }
    }

    fn number(&self, line: &str) -> u32 {
        self.numbers
            .get(of(self.key, line))
            .copied()
            .unwrap_or(NOWHERE)
    }

    fn occurrences(&self, number: u32) -> &[u32] {
        if number == NOWHERE {
            return &[];
        }
        let number = number as usize;
        &self.by_number[self.begins[number] as usize..self.begins[number + 1] as usize]
    }

    /// Which of `old` occurs least often.
    fn rarest(&self, old: &[u32]) -> Option<usize> {
        (0..old.len()).min_by_key(|&i| self.occurrences(old[i]).len())
    }
}

fn of(key: Key, line: &str) -> &str {
    match key {
        Key::Exact => line,
        Key::TrimEnd => line.trim_end(),
        Key::TrimStart => {
            let rest = line.trim_start();
            if rest.trim_end().is_empty() { "" } else { rest }
        }
    }
}

/// Both halves of a block, and where they begin. One of them is free of a single odd line.
fn halves(old: &[u32]) -> [(usize, &[u32]); 2] {
    let middle = old.len() / 2;
    [(0, &old[..middle]), (middle, &old[middle..])]
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("because a file has fewer bytes than that")
}
