//! Two texts that came from one: which lines differ, and both sides' changes put together.
//!
//! Holds: a merge takes whole lines as they are, bytes and all. Where both sides changed the same
//! lines differently the result keeps ours, and the conflict is told.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

use super::text::Change;

/// What counts as the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjacent {
    /// Changes that touch are a conflict, as they are for git.
    Conflict,
    /// Changes that touch but share no line are put side by side, unless both only insert.
    Separate,
}

/// One side: its lines, and what it changed of the base, in order.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub lines: &'a [&'a [u8]],
    pub changes: &'a [Change],
}

/// Lines that both sides changed, and not to the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub base: Range<usize>,
    pub ours: Range<usize>,
    pub theirs: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    pub bytes: Vec<u8>,
    /// What theirs did to ours: line ranges of ours and of the merged text.
    pub changes: Vec<Change>,
    pub conflicts: Vec<Conflict>,
}

/// Compares lines as git does by default (Myers, with its heuristics).
pub fn diff(before: &[&[u8]], after: &[&[u8]]) -> Vec<Change> {
    let mut input: InternedInput<&[u8]> = InternedInput::default();
    input.update_before(before.iter().copied());
    input.update_after(after.iter().copied());
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_no_heuristic(&input);
    let range = |r: Range<u32>| r.start as usize..r.end as usize;
    diff.hunks()
        .map(|h| Change {
            before: range(h.before),
            after: range(h.after),
        })
        .collect()
}

/// Puts theirs on top of ours; both changed `base`, which has `n_base` lines.
pub fn merge(n_base: usize, ours: Side<'_>, theirs: Side<'_>, adjacent: Adjacent) -> Merged {
    let mut merged = Merged {
        bytes: Vec::new(),
        changes: Vec::new(),
        conflicts: Vec::new(),
    };
    let (mut our_idx, mut their_idx) = (0, 0);
    // Up to where the sides are copied, in lines of ours, and how many lines the result has.
    let (mut copied, mut n_merged) = (0, 0);
    while let Some(theirs_next) = theirs.changes.get(their_idx) {
        while ours
            .changes
            .get(our_idx)
            .is_some_and(|c| is_before(c, theirs_next, adjacent))
        {
            our_idx += 1;
        }
        let mut base = theirs_next.before.clone();
        let (our_first, their_first) = (our_idx, their_idx);
        their_idx += 1;
        loop {
            let group = Change {
                before: base.clone(),
                after: 0..0,
            };
            if let Some(c) = ours
                .changes
                .get(our_idx)
                .filter(|c| !is_before(&group, c, adjacent))
            {
                base = base.start.min(c.before.start)..base.end.max(c.before.end);
                our_idx += 1;
            } else if let Some(c) = theirs
                .changes
                .get(their_idx)
                .filter(|c| our_idx > our_first && !is_before(&group, c, adjacent))
            {
                base.end = base.end.max(c.before.end);
                their_idx += 1;
            } else {
                break;
            }
        }
        let our_range = mapped(&base, ours.changes, our_first..our_idx);
        let their_range = mapped(&base, theirs.changes, their_first..their_idx);
        let (our_lines, their_lines) = (
            &ours.lines[our_range.clone()],
            &theirs.lines[their_range.clone()],
        );
        if our_idx > our_first && our_lines != their_lines {
            merged.conflicts.push(Conflict {
                base,
                ours: our_range,
                theirs: their_range,
            });
            continue;
        }
        if our_idx > our_first {
            continue;
        }
        extend(&mut merged.bytes, &ours.lines[copied..our_range.start]);
        extend(&mut merged.bytes, their_lines);
        n_merged += our_range.start - copied;
        merged.changes.push(Change {
            before: our_range.clone(),
            after: n_merged..n_merged + their_lines.len(),
        });
        n_merged += their_lines.len();
        copied = our_range.end;
    }
    extend(&mut merged.bytes, &ours.lines[copied..]);
    debug_assert!(theirs.changes.iter().all(|c| c.before.end <= n_base));
    merged
}

/// Whether `first` lies before `second` and leaves it alone.
fn is_before(first: &Change, second: &Change, adjacent: Adjacent) -> bool {
    let (first, second) = (&first.before, &second.before);
    match adjacent {
        Adjacent::Conflict => first.end < second.start,
        Adjacent::Separate if first.is_empty() && second.is_empty() => first.end < second.start,
        Adjacent::Separate => {
            first.end <= second.start && (first.start, first.end) < (second.start, second.end)
        }
    }
}

/// The lines of a side that stand for the base lines `base`, of which it changed those in `within`.
fn mapped(base: &Range<usize>, changes: &[Change], within: Range<usize>) -> Range<usize> {
    // Lines after a change move by what it added and removed.
    let shift = |change: Option<&Change>| change.map_or((0, 0), |c| (c.before.end, c.after.end));
    let (b, a) = shift(within.start.checked_sub(1).map(|i| &changes[i]));
    let start = base.start - b + a;
    let (b, a) = shift(within.end.checked_sub(1).map(|i| &changes[i]));
    start..base.end - b + a
}

fn extend(bytes: &mut Vec<u8>, lines: &[&[u8]]) {
    lines.iter().for_each(|line| bytes.extend_from_slice(line));
}

#[cfg(test)]
mod tests;
