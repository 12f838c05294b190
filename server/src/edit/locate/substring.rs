//! Text within lines or across them, as edit tools ask for it: every byte as written.

use std::ops::Range;

use memchr::memmem;

use super::escapes::{folded, folded_differs, unescape_backslashes, unescape_html};
use crate::edit::text::{LineEnd, NewLine, Splice, Text};

/// A place that has the text: bytes of [`Text::content`], and what goes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPlace {
    pub range: Range<usize>,
    pub new: String,
}

/// Finds all places of `old`, overlapping ones included; at most one spelling of it is taken.
///
/// First as it is written, then after undoing escapes. O(bytes).
pub fn find_text(text: &Text, old: &str, new: &str) -> Vec<TextPlace> {
    let places = |old: &str, new: &str| -> Vec<TextPlace> {
        find_all(text.content(), old)
            .into_iter()
            .map(|at| TextPlace {
                range: at..at + old.len(),
                new: new.to_owned(),
            })
            .collect()
    };
    let found = places(old, new);
    if !found.is_empty() {
        return found;
    }
    if let (Some(old), Some(new)) = (unescape_html(old), unescape_html(new)) {
        let found = places(&old, &new);
        if !found.is_empty() {
            return found;
        }
    }
    if old.contains('\\')
        && let (Some(old), Some(new)) = (unescape_backslashes(old), unescape_backslashes(new))
    {
        let found = places(&old, &new);
        if !found.is_empty() {
            return found;
        }
    }
    if folded_differs(old) && !folded_differs(text.content()) {
        return places(&folded(old), &folded(new));
    }
    Vec::new()
}

fn find_all(haystack: &str, needle: &str) -> Vec<usize> {
    if needle.is_empty() {
        return Vec::new();
    }
    let finder = memmem::Finder::new(needle);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = finder.find(&haystack.as_bytes()[from..]) {
        found.push(from + at);
        // The next may overlap; it begins at the next character.
        from += at + needle.chars().next().map_or(1, char::len_utf8);
    }
    found
}

impl TextPlace {
    /// The lines that change, whole. Line ends the text does not span stay as they are.
    pub fn splice(&self, text: &Text) -> Splice {
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
