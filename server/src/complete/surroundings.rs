//! The text around the cursor, as the rules for suggestions look at it.

use std::sync::OnceLock;

use ropey::Rope;

use super::trim::{brackets, closer_of, indent_width};

/// Bytes on each side that are looked at for brackets.
const BRACKET_WINDOW: usize = 256 << 10;
/// Lines on each side that are looked at for the nearest one that is not blank.
const NEIGHBOURS: usize = 20;

/// The cursor's line, its neighbours and the brackets open at the cursor.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The cursor's line up to the cursor.
    pub line_before: &'a str,
    /// The cursor's line from the cursor on, without its terminator.
    pub line_after: &'a str,
    /// All text before and after the cursor, or as much of it as was given.
    pub text_before: &'a str,
    pub text_after: &'a str,
    before: &'a str,
    after: &'a str,
    open: OnceLock<Vec<u8>>,
}

impl<'a> Surroundings<'a> {
    /// Splits the text at the cursor: `before` and `after` are all of it, or windows of it.
    pub fn new(before: &'a str, after: &'a str) -> Self {
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line_end = after.find('\n').unwrap_or(after.len());
        Self {
            line_before: &before[line_start..],
            line_after: after[..line_end].trim_end_matches('\r'),
            text_before: before,
            text_after: after,
            before: &before[..line_start],
            after: &after[line_end..],
            open: OnceLock::new(),
        }
    }

    /// Copies what the rules can look at.
    pub fn to_owned(&self) -> Owned {
        let above = self
            .before
            .rmatch_indices('\n')
            .nth(NEIGHBOURS)
            .map_or(0, |(i, _)| i);
        let below = self
            .after
            .match_indices('\n')
            .nth(NEIGHBOURS)
            .map_or(self.after.len(), |(i, _)| i);
        Owned {
            before: format!("{}{}", &self.before[above..], self.line_before),
            after: format!("{}{}", self.line_after, &self.after[..below]),
            open: self.open_brackets().to_vec(),
        }
    }

    /// Width of the indentation the block at the cursor has: the cursor's line, or on a blank
    /// line the cursor's column.
    pub fn indent(&self) -> usize {
        indent_width(self.line_before)
    }

    /// The next line below that is not blank, without its blanks.
    pub fn next_line(&self) -> Option<&'a str> {
        self.after
            .split('\n')
            .take(NEIGHBOURS)
            .map(str::trim)
            .find(|l| !l.is_empty())
    }

    /// The last line above that is not blank, without its blanks.
    pub fn previous_line(&self) -> Option<&'a str> {
        self.before
            .rsplit('\n')
            .take(NEIGHBOURS)
            .map(str::trim)
            .find(|l| !l.is_empty())
    }

    /// The last line above that is not blank, with its indentation.
    pub fn previous_indented(&self) -> Option<&'a str> {
        self.before
            .rsplit('\n')
            .take(NEIGHBOURS)
            .find(|l| !l.trim().is_empty())
    }

    /// Whether the line below the cursor's is blank, or there is none.
    pub fn blank_below(&self) -> bool {
        self.after
            .split('\n')
            .nth(1)
            .is_none_or(|l| l.trim().is_empty())
    }

    /// The next line below that is not blank, with its indentation.
    pub fn next_indented(&self) -> Option<&'a str> {
        self.after
            .split('\n')
            .take(NEIGHBOURS)
            .find(|l| !l.trim().is_empty())
    }

    /// Closers of the brackets that are open at the cursor and not closed after it, outermost
    /// first.
    pub fn open_brackets(&self) -> &[u8] {
        self.open.get_or_init(|| {
            let mut open = Vec::new();
            for text in [self.before, self.line_before] {
                for bracket in brackets(text) {
                    match closer_of(bracket.byte) {
                        Some(closer) => open.push(closer),
                        None if open.last() == Some(&bracket.byte) => drop(open.pop()),
                        None => {}
                    }
                }
            }
            let mut below = Vec::new();
            for text in [self.line_after, self.after] {
                for bracket in brackets(text) {
                    match closer_of(bracket.byte) {
                        Some(closer) => below.push(closer),
                        None if below.last() == Some(&bracket.byte) => drop(below.pop()),
                        // Closes something above: of what is open there, the innermost of its
                        // kind that is not claimed yet, so that a bracket just typed stays open.
                        None => claim(&mut open, bracket.byte),
                    }
                }
            }
            open
        })
    }
}

/// The same, for a task that outlives the text.
#[derive(Debug)]
pub struct Owned {
    before: String,
    after: String,
    open: Vec<u8>,
}

impl Owned {
    pub fn borrow(&self) -> Surroundings<'_> {
        let around = Surroundings::new(&self.before, &self.after);
        let _ = around.open.set(self.open.clone());
        around
    }
}

/// Takes the outermost bracket of this kind off the open ones.
fn claim(open: &mut Vec<u8>, closer: u8) {
    if let Some(at) = open.iter().position(|&b| b == closer) {
        open.remove(at);
    }
}

/// Returns the text on both sides of byte `offset`, each bounded to what the rules look at.
pub fn windows(text: &Rope, offset: usize) -> (String, String) {
    let clamp = |byte: usize| text.char_to_byte(text.byte_to_char(byte));
    let start = clamp(offset.saturating_sub(BRACKET_WINDOW));
    let end = clamp((offset + BRACKET_WINDOW).min(text.len_bytes()));
    (
        text.byte_slice(start..offset).to_string(),
        text.byte_slice(offset..end).to_string(),
    )
}
