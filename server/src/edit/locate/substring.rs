//! Text within lines or across them, as edit tools ask for it: every byte as written.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};
use memchr::memmem;

use super::escapes::{folded, folded_differs, unescape_backslashes, unescape_html};
use crate::edit::text::{LineEnd, NewLine, Splice, Text};

/// A place that has the text: bytes of [`Text::content`], and what goes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPlace {
    pub range: Range<usize>,
    pub new: String,
}

/// Places that have a text: bytes of [`Text::content`], in order, and what goes into each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPlaces {
    pub ranges: Vec<Range<usize>>,
    pub new: String,
}

/// Finds the first `most` places of `old`, overlapping ones included; at most one spelling of it is
/// taken.
///
/// First as it is written, then after undoing escapes. O(bytes).
pub fn find_text(text: &Text, old: &str, new: &str, most: usize) -> TextPlaces {
    let places = |old: &str, new: &str| TextPlaces {
        ranges: find_all(text.content(), old, most)
            .into_iter()
            .map(|at| at..at + old.len())
            .collect(),
        new: new.to_owned(),
    };
    let found = places(old, new);
    if !found.ranges.is_empty() {
        return found;
    }
    if let (Some(old), Some(new)) = (unescape_html(old), unescape_html(new)) {
        let found = places(&old, &new);
        if !found.ranges.is_empty() {
            return found;
        }
    }
    if old.contains('\\')
        && let (Some(old), Some(new)) = (unescape_backslashes(old), unescape_backslashes(new))
    {
        let found = places(&old, &new);
        if !found.ranges.is_empty() {
            return found;
        }
    }
    if folded_differs(old) && !folded_differs(text.content()) {
        return places(&folded(old), &folded(new));
    }
    found
}

fn find_all(haystack: &str, needle: &str, most: usize) -> Vec<usize> {
    if needle.is_empty() {
        return Vec::new();
    }
    let finder = memmem::Finder::new(needle);
    let mut found = Vec::new();
    let mut from = 0;
    while found.len() < most
        && let Some(at) = finder.find(&haystack.as_bytes()[from..])
    {
        found.push(from + at);
        // The next may overlap; it begins at the next character.
        from += at + needle.chars().next().map_or(1, char::len_utf8);
    }
    found
}

impl TextPlace {
    /// The lines that change. Lines that the old and the new text share stay as they are, line
    /// ends and all.
    pub fn splices(&self, text: &Text) -> Vec<Splice> {
        let whole = self.splice(text);
        let n_lines = text.n_lines();
        let is_ended = |line_idx: usize| line_idx + 1 < n_lines || text.is_ended();
        let old: Vec<(&str, bool)> = whole
            .lines
            .clone()
            .map(|i| (text.line(i), is_ended(i)))
            .collect();
        let n_new = whole.new.len();
        let new: Vec<(&str, bool)> = whole
            .new
            .iter()
            .enumerate()
            .map(|(i, line)| {
                let is_ended = i + 1 < n_new
                    || match line.end {
                        LineEnd::Open => false,
                        LineEnd::Of(line_idx) => is_ended(line_idx),
                        LineEnd::Usual | LineEnd::Ended => true,
                    };
                (line.text.as_str(), is_ended)
            })
            .collect();
        let mut input: InternedInput<(&str, bool)> = InternedInput::default();
        input.update_before(old.into_iter());
        input.update_after(new.into_iter());
        let diff = Diff::compute(Algorithm::Myers, &input);
        let start = whole.lines.start;
        diff.hunks()
            .map(|hunk| Splice {
                lines: start + hunk.before.start as usize..start + hunk.before.end as usize,
                new: whole.new[hunk.after.start as usize..hunk.after.end as usize].to_vec(),
            })
            .collect()
    }

    /// All lines that the old text touches, and what they become.
    fn splice(&self, text: &Text) -> Splice {
        let content = text.content();
        let first = text.line_at(self.range.start);
        let head = &content[text.line_start(first)..self.range.start];
        let changed = format!("{head}{}", self.new);
        // The line that the text ends on, and what follows on it.
        let last = text.line_at(self.range.end);
        let at_line_start = self.range.end == text.line_start(last) && last > first;
        if at_line_start && (changed.is_empty() || changed.ends_with('\n')) {
            let lines = changed
                .strip_suffix('\n')
                .map(|c| c.split('\n').collect())
                .unwrap_or_default();
            return Splice {
                lines: first..last,
                new: new_lines(lines, LineEnd::Ended),
            };
        }
        if last >= text.n_lines() {
            let ended = changed.strip_suffix('\n');
            let lines: Vec<&str> = ended.unwrap_or(&changed).split('\n').collect();
            let end = if ended.is_some() {
                LineEnd::Ended
            } else {
                LineEnd::Open
            };
            return Splice {
                lines: first..text.n_lines(),
                new: new_lines(lines, end),
            };
        }
        let tail = &content[self.range.end..text.line_start(last) + text.line(last).len()];
        let changed = format!("{changed}{tail}");
        Splice {
            lines: first..last + 1,
            new: new_lines(changed.split('\n').collect(), LineEnd::Of(last)),
        }
    }
}

fn new_lines(lines: Vec<&str>, end: LineEnd) -> Vec<NewLine> {
    let n_lines = lines.len();
    lines
        .into_iter()
        .enumerate()
        .map(|(i, text)| NewLine {
            text: text.strip_suffix('\r').unwrap_or(text).to_owned(),
            end: if i + 1 == n_lines {
                end
            } else {
                LineEnd::Usual
            },
        })
        .collect()
}
