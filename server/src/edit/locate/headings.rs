//! Lines that stand above a block (`@@ class A`, `@@ def f`, git's section titles) as evidence of
//! where it belongs.

use std::cell::OnceCell;

use super::Place;
use crate::edit::text::Text;

/// Old lines with text on them from which on a block speaks for itself.
const TELLING_LINES: usize = 3;

/// The places at which the headings of a block stand in a file.
#[derive(Debug)]
pub struct Headings<'t> {
    text: &'t Text,
    /// Lines of the innermost heading that have the outer ones above them, in order.
    anchors: Vec<usize>,
    /// The first line below each, and not below the next, that is no longer inside what it heads.
    ends: OnceCell<Vec<usize>>,
}

impl<'t> Headings<'t> {
    /// Finds headings by their text without indentation; git cuts long ones off.
    pub fn find(text: &'t Text, headings: &[String]) -> Self {
        let mut anchors: Option<Vec<usize>> = None;
        for heading in headings.iter().map(|h| h.trim()).filter(|h| !h.is_empty()) {
            let is_equal = |line: &str| line.trim() == heading;
            let is_longer = |line: &str| heading.len() >= 8 && line.trim().starts_with(heading);
            let find = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
                let outer = anchors
                    .as_ref()
                    .map(|a| a.first().copied().unwrap_or(usize::MAX));
                let lines = text
                    .lines()
                    .enumerate()
                    .filter(|(_, line)| is(line))
                    .map(|(i, _)| i);
                lines.filter(|i| outer.is_none_or(|o| *i > o)).collect()
            };
            let equal = find(&is_equal);
            anchors = Some(if equal.is_empty() {
                find(&is_longer)
            } else {
                equal
            });
        }
        Self {
            text,
            anchors: anchors.unwrap_or_default(),
            ends: OnceCell::new(),
        }
    }

    /// The heading's line, if it stands in the file once.
    pub fn only(&self) -> Option<usize> {
        match self.anchors[..] {
            [anchor] => Some(anchor),
            _ => None,
        }
    }

    pub fn is_found(&self) -> bool {
        !self.anchors.is_empty()
    }

    /// Of several places, returns the one that the headings leave: the only one inside what a
    /// heading heads, or the only one below a heading at all.
    pub fn choose(&self, places: &[&Place]) -> Option<Place> {
        let only = |places: Vec<&&Place>| match places[..] {
            [place] => Some((*place).clone()),
            _ => None,
        };
        let inside: Vec<&&Place> = places.iter().filter(|p| self.is_inside(p)).collect();
        if !inside.is_empty() {
            return only(inside);
        }
        only(places.iter().filter(|p| self.above(p).is_some()).collect())
    }

    /// Whether a block that is found once only is still not the one meant: its heading is in the
    /// file, but the place is not below it, and the block itself says too little to overrule that.
    pub fn contradict(&self, place: &Place) -> bool {
        let telling = place.parts.iter().flat_map(|p| p.block.old());
        let n_telling = telling
            .filter(|l| l.text.chars().any(char::is_alphanumeric))
            .count();
        self.is_found() && n_telling < TELLING_LINES && !self.is_inside(place)
    }

    /// The nearest heading above (or at the first line of) a place, counted.
    fn above(&self, place: &Place) -> Option<usize> {
        let n_above = self.anchors.partition_point(|a| *a <= place.start());
        n_above.checked_sub(1)
    }

    /// Whether nothing between the heading and the place is as far out as the heading, as the next
    /// function would be.
    fn is_inside(&self, place: &Place) -> bool {
        let ends = self.ends.get_or_init(|| self.ends());
        let nearest = self.above(place);
        nearest.is_some_and(|idx| place.start() <= ends[idx])
    }

    fn ends(&self) -> Vec<usize> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let n_lines = self.text.n_lines();
        let end = |(idx, &anchor): (usize, &usize)| {
            let limit = indent(self.text.line(anchor));
            let next = self.anchors.get(idx + 1).copied().unwrap_or(n_lines);
            (anchor + 1..next)
                .find(|&i| {
                    let line = self.text.line(i);
                    let begins_next = line
                        .trim_start()
                        .starts_with(|c: char| c.is_alphanumeric() || "_@#$".contains(c));
                    indent(line) <= limit && begins_next
                })
                .unwrap_or(n_lines)
        };
        self.anchors.iter().enumerate().map(end).collect()
    }
}

/// Whether git would print `section` behind the header of a hunk that follows line `line_idx`:
/// the nearest line at or above it that begins with a letter, `_` or `$`.
pub fn git_section(text: &Text, line_idx: usize, section: &str) -> bool {
    let is_title =
        |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$');
    let nearest = (0..line_idx.min(text.n_lines()))
        .rev()
        .map(|i| text.line(i))
        .find(|line| is_title(line));
    nearest.is_some_and(|line| {
        line.trim_end() == section || (section.len() >= 40 && line.starts_with(section))
    })
}
