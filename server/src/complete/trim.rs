//! Where a suggestion ends: from what an engine wrote to what may be shown.
//!
//! Holds: the result never repeats text that already stands after the cursor, never closes a
//! bracket that is closed already, and is never blank. Pure functions over text; the same input
//! gives the same output, so a suggestion stays the same while its own text is typed.
//! Not here: the tokens of a model's prompt (`model`), which suggestion is shown (`complete`).

use std::ops::Range;

use super::surroundings::Surroundings;

/// How far a suggestion may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The rest of the line.
    Line,
    /// The rest of the block, at most this many lines.
    Block { max_lines: usize },
}

/// A suggestion fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed {
    /// Text to insert at the cursor; lines end with `\n`.
    pub text: String,
    /// Bytes after the cursor, on its line, that `text` ends with and takes the place of.
    pub replaces: usize,
}

/// Cuts `raw` to what may be shown at the cursor; `None` when nothing is left.
pub fn trim(raw: &str, extent: Extent, around: &Surroundings) -> Option<Trimmed> {
    let raw = raw.replace("\r\n", "\n");
    let mut text = match extent {
        Extent::Line => raw.split('\n').next().unwrap_or_default(),
        Extent::Block { max_lines } => &raw[..block_end(&raw, max_lines, around)],
    };
    text = &text[..repetition_start(text)];
    text = &text[..surplus_closer(text, around)];
    text = text.trim_end_matches([' ', '\t', '\n']);
    if repeats_a_neighbour(text, around) {
        return None;
    }
    let (text, replaces) = settle_with_rest_of_line(text, around);
    // One character is more distraction than help.
    (text.trim().chars().count() >= 2).then(|| Trimmed {
        text: text.to_owned(),
        replaces,
    })
}

/// Whether nothing that `raw` could still grow by would change what [`trim`] makes of it, so that
/// an engine that is still writing may be stopped.
pub fn is_complete(raw: &str, extent: Extent, around: &Surroundings) -> bool {
    match extent {
        Extent::Line => raw.contains('\n'),
        Extent::Block { max_lines } => {
            // The last line is still being written: only what lies before it is settled.
            raw.rfind('\n')
                .is_some_and(|settled| block_end(raw, max_lines, around) < settled)
        }
    }
}

/// Returns the length of `text` up to the end of the block the cursor stands in.
fn block_end(text: &str, max_lines: usize, around: &Surroundings) -> usize {
    let base = around.indent();
    let on_blank_line = around.line_before.trim().is_empty();
    let mut at = 0;
    let mut n_shown = 0;
    for (idx, line) in text.split('\n').enumerate() {
        let start = at;
        at += line.len() + 1;
        let end = at - 1;
        let shown_before = start.saturating_sub(1);
        if line.trim().is_empty() {
            // A blank line is kept only by the text after it; two in a row end a block.
            if text[end..].starts_with("\n\n") || (idx > 0 && text[..shown_before].ends_with('\n'))
            {
                return if idx == 0 { end } else { shown_before };
            }
            continue;
        }
        if n_shown == max_lines {
            return shown_before;
        }
        if idx > 0 {
            let indent = indent_width(line);
            let ends = indent < base || around.next_line().is_some_and(|next| next == line.trim());
            if ends {
                return shown_before;
            }
            let continues = on_blank_line || indent > base || opens_again(line);
            if !continues {
                return if closes(line) { end } else { shown_before };
            }
        }
        n_shown += 1;
    }
    text.len()
}

/// Width of a line's indentation; a tab counts four.
pub fn indent_width(line: &str) -> usize {
    line.bytes()
        .map_while(|b| {
            [(b' ', 1), (b'\t', 4)]
                .iter()
                .find(|(c, _)| *c == b)
                .map(|(_, w)| w)
        })
        .sum()
}

/// Whether a line ends the block that the line above it, at the same indentation, opened.
fn closes(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(['}', ')', ']'])
        || ["end", "fi", "done", "esac"].iter().any(|word| {
            line.strip_prefix(word)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
}

/// Whether a line closes one block and opens the next: `} else {`, `except Error:`.
fn opens_again(line: &str) -> bool {
    const WORDS: &[&str] = &[
        "else", "elif", "elsif", "except", "catch", "finally", "rescue", "ensure",
    ];
    let start = line.trim_start().trim_start_matches(['}', ')', ' ']);
    let word = start
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default();
    WORDS.contains(&word) || (closes(line) && line.trim_end().ends_with(['{', '(', '[', ':']))
}

/// Returns where `text` starts to say the same again, or its length.
///
/// Two forms: the same line three times running, and a short piece over and over within a line
/// (found with the failure function of Knuth, Morris and Pratt).
fn repetition_start(text: &str) -> usize {
    let mut starts: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for line in text.split('\n') {
        starts.push((at, line.trim()));
        at += line.len() + 1;
    }
    for window in starts.windows(3) {
        let [(_, a), (second, b), (_, c)] = window else {
            continue;
        };
        if !a.is_empty() && a == b && b == c && a.chars().any(char::is_alphanumeric) {
            return second.saturating_sub(1);
        }
    }
    for (start, _) in &starts {
        let line = text[*start..].split('\n').next().unwrap_or_default();
        let indent = line.len() - line.trim_start().len();
        if let Some(period) = period(&line[indent..]) {
            return start + indent + period;
        }
    }
    text.len()
}

/// Returns the length of the piece that `line` consists of at least four times, if it is longer
/// than a rule of dashes or a table of zeros would be.
fn period(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    if bytes.len() < 30 {
        return None;
    }
    let mut failure = vec![0; bytes.len()];
    for i in 1..bytes.len() {
        let mut k = failure[i - 1];
        while k > 0 && bytes[i] != bytes[k] {
            k = failure[k - 1];
        }
        failure[i] = k + usize::from(bytes[i] == bytes[k]);
    }
    let period = bytes.len() - failure[bytes.len() - 1];
    let piece = &bytes[..period];
    let says_something = piece.iter().filter(|b| b.is_ascii_alphabetic()).count() >= 2;
    (period * 4 <= bytes.len() && says_something && line.is_char_boundary(period)).then_some(period)
}

/// Returns where `text` closes a bracket that it did not open and that is closed already, or its
/// length.
fn surplus_closer(text: &str, around: &Surroundings) -> usize {
    let mut open: Vec<u8> = Vec::new();
    let mut outer = around.open_brackets().to_vec();
    for Bracket { at, byte } in brackets(text) {
        match closer_of(byte) {
            Some(closer) => open.push(closer),
            None => {
                if open.last() == Some(&byte) {
                    open.pop();
                } else if outer.last() == Some(&byte) {
                    outer.pop();
                } else {
                    let shared = rest_continues_with(&text[at..], around.line_after);
                    return if shared { text.len() } else { at };
                }
            }
        }
    }
    text.len()
}

/// Whether what follows the cursor on its line is what `tail` goes on with; such closers take the
/// place of those that are there.
fn rest_continues_with(tail: &str, rest: &str) -> bool {
    let rest = rest.trim_end();
    !rest.is_empty() && tail.trim_end().ends_with(rest)
}

/// One bracket outside of character literals.
pub(super) struct Bracket {
    pub at: usize,
    pub byte: u8,
}

/// Lists the brackets of `text`; one between two quotes of its own (`'('`) is not one.
pub(super) fn brackets(text: &str) -> impl DoubleEndedIterator<Item = Bracket> {
    let bytes = text.as_bytes();
    let quoted = move |at: usize| {
        let quote = |i: Option<usize>| {
            i.and_then(|i| bytes.get(i))
                .filter(|b| matches!(b, b'\'' | b'"'))
        };
        quote(at.checked_sub(1)).is_some_and(|before| quote(Some(at + 1)) == Some(before))
    };
    bytes.iter().enumerate().filter_map(move |(at, &byte)| {
        let bracket = matches!(byte, b'(' | b')' | b'[' | b']' | b'{' | b'}');
        (bracket && !quoted(at)).then_some(Bracket { at, byte })
    })
}

/// Returns the bracket that closes `byte`, when that is an opening one.
pub(super) fn closer_of(byte: u8) -> Option<u8> {
    match byte {
        b'(' => Some(b')'),
        b'[' => Some(b']'),
        b'{' => Some(b'}'),
        _ => None,
    }
}

/// Whether the suggestion says nothing but what the next or the last line says already.
fn repeats_a_neighbour(text: &str, around: &Surroundings) -> bool {
    let whole = format!("{}{}", around.line_before, text);
    let whole = whole.trim();
    if whole.contains('\n') {
        return false;
    }
    let same = |line: Option<&str>| {
        line.is_some_and(|l| l == whole && l.chars().any(char::is_alphanumeric))
    };
    same(around.next_line())
        || (around.line_before.trim().is_empty() && same(around.previous_line()))
}

/// Makes the suggestion agree with the rest of the cursor's line: what both have is said once.
fn settle_with_rest_of_line<'a>(text: &'a str, around: &Surroundings) -> (&'a str, usize) {
    let rest = around.line_after.trim_end();
    let first_line_end = text.find('\n').unwrap_or(text.len());
    let first_line = &text[..first_line_end];
    if rest.trim().is_empty() {
        return (text, around.line_after.len());
    }
    // The suggestion ends with the rest of the line, or only closes what the editor closed.
    if first_line.ends_with(rest) || only_closers(rest) && contains_in_order(first_line, rest) {
        return (first_line, rest.len());
    }
    // It runs into the rest of the line: keep what is there.
    let shared = overlap(first_line, rest);
    (&first_line[..first_line.len() - shared.len()], 0)
}

fn only_closers(rest: &str) -> bool {
    rest.chars().all(|c| {
        matches!(
            c,
            ')' | ']' | '}' | '>' | '"' | '\'' | '`' | ';' | ',' | ':' | ' '
        )
    })
}

/// Whether the characters of `rest` other than blanks appear in `text` in this order.
fn contains_in_order(text: &str, rest: &str) -> bool {
    let mut chars = text.chars();
    rest.chars()
        .filter(|c| !c.is_whitespace())
        .all(|wanted| chars.any(|c| c == wanted))
}

/// Returns the range of the longest end of `text` that `rest` starts with.
fn overlap(text: &str, rest: &str) -> Range<usize> {
    let longest = text.len().min(rest.len());
    let at = (1..=longest)
        .rev()
        .map(|n| text.len() - n)
        .find(|&at| text.is_char_boundary(at) && rest.starts_with(&text[at..]));
    at.unwrap_or(text.len())..text.len()
}

#[cfg(test)]
mod tests;
