//! Where lines of a text are after others typed in it.
//!
//! Holds: what is kept is which ranges of lines changed since, as [`Change`]s in order. They come
//! from each edit as it is made, so a line that was copied is not mistaken for its copy, as it may
//! be when two texts are compared afterwards. What does not fit the texts is found out and
//! compared instead.
//! Not here: what is at stake in those lines (`hunks`, `rollback`).

use super::merge::diff;
use super::text::Change;

/// Changes kept apart at most; beyond, neighbours are joined.
const MAX_CHANGES: usize = 4096;

/// The changes from one text to another that grew out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    changes: Vec<Change>,
}

/// One edit of a text: lines, from zero, that gave way to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineEdit {
    start: usize,
    n_removed: usize,
    n_inserted: usize,
}

impl Followed {
    /// Takes in one more edit. O(changes).
    pub fn edit(&mut self, edit: LineEdit) {
        // In lines of the text before this edit, and how many they become.
        let (mut start, mut end) = (edit.start, edit.start + edit.n_removed);
        let mut n_new = edit.n_inserted;
        // Changes side by side stay apart: joined, their lines would have to be told apart again by
        // what they read.
        let first = self.changes.partition_point(|c| c.after.end <= start);
        let last = self.changes.partition_point(|c| c.after.start < end);
        let shift = |changes: &[Change]| {
            let last = changes.last();
            last.map_or(0, |c| c.after.end as isize - c.before.end as isize)
        };
        let base_of = |line: usize, changes: &[Change]| line.saturating_add_signed(-shift(changes));
        let (mut base_start, mut base_end) = (
            base_of(start, &self.changes[..first]),
            base_of(end, &self.changes[..last.max(first)]),
        );
        if let Some(touched) = self.changes.get(first..last).filter(|t| !t.is_empty()) {
            let (from, to) = (&touched[0], &touched[touched.len() - 1]);
            n_new += start.saturating_sub(from.after.start) + to.after.end.saturating_sub(end);
            base_start = base_start.min(from.before.start);
            base_end = base_end.max(to.before.end);
            start = start.min(from.after.start);
            end = end.max(to.after.end);
        }
        let moved = n_new as isize - (end - start) as isize;
        let joined = Change {
            before: base_start..base_end.max(base_start),
            after: start..start + n_new,
        };
        let rest = last.max(first);
        for change in &mut self.changes[rest..] {
            change.after = change.after.start.saturating_add_signed(moved)
                ..change.after.end.saturating_add_signed(moved);
        }
        self.changes.splice(first..rest, [joined]);
        if self.changes.len() > MAX_CHANGES {
            self.join_neighbours();
        }
    }

    /// Returns the changes between two texts of which the second grew out of the first, reduced to
    /// lines that differ. Compares the texts where what was followed does not fit them.
    pub fn changes(&self, before: &[&[u8]], after: &[&[u8]]) -> Vec<Change> {
        let clamp = |range: &std::ops::Range<usize>, n: usize| range.start.min(n)..range.end.min(n);
        let mut changes: Vec<Change> = Vec::with_capacity(self.changes.len());
        let (mut at_before, mut at_after) = (0, 0);
        for change in &self.changes {
            let change = Change {
                before: clamp(&change.before, before.len()),
                after: clamp(&change.after, after.len()),
            };
            let is_in_order = change.before.start >= at_before && change.after.start >= at_after;
            if !is_in_order
                || before[at_before..change.before.start] != after[at_after..change.after.start]
            {
                return diff(before, after);
            }
            (at_before, at_after) = (change.before.end, change.after.end);
            // Lines that were touched and read as before are as good as untouched.
            let (old, new) = (&before[change.before.clone()], &after[change.after.clone()]);
            changes.extend(diff(old, new).into_iter().map(|c| Change {
                before: c.before.start + change.before.start..c.before.end + change.before.start,
                after: c.after.start + change.after.start..c.after.end + change.after.start,
            }));
        }
        if before[at_before..] != after[at_after..] {
            return diff(before, after);
        }
        changes
    }

    fn join_neighbours(&mut self) {
        let joined = self.changes.chunks(2).map(|pair| {
            let (first, last) = (&pair[0], &pair[pair.len() - 1]);
            Change {
                before: first.before.start..last.before.end,
                after: first.after.start..last.after.end,
            }
        });
        self.changes = joined.collect();
    }
}

impl LineEdit {
    /// The edit that puts `inserted` in place of `removed`, which begins on `line`, at its start or
    /// further on. An edit of whole lines touches no other.
    pub fn of(line: usize, is_at_start: bool, removed: &str, inserted: &str) -> Self {
        let ends = |text: &str| memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let is_whole = |text: &str| text.is_empty() || text.ends_with('\n');
        let touched = usize::from(!(is_at_start && is_whole(removed) && is_whole(inserted)));
        Self {
            start: line,
            n_removed: ends(removed) + touched,
            n_inserted: ends(inserted) + touched,
        }
    }
}

#[cfg(test)]
mod tests;
