//! Where a suggestion ends: from what an engine wrote to what may be shown.
//!
//! Holds: the result never repeats text that already stands after the cursor, never closes a
//! bracket that is closed already, and is never blank. Pure functions over text; the same input
//! gives the same output, so a suggestion stays the same while its own text is typed.
//! Not here: the tokens of a model's prompt (`model`), which suggestion is shown (`complete`).

use std::ops::Range;

use super::surroundings::Surroundings;

const QUOTES: [u8; 3] = *b"\"'`";

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
    /// Bytes after the cursor, on its line, that `text` says too and takes the place of.
    pub replaces: usize,
}

/// Cuts `raw` to what may be shown at the cursor; `None` when nothing is left.
pub fn trim(raw: &str, extent: Extent, around: &Surroundings) -> Option<Trimmed> {
    let raw = raw.replace('\r', "");
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
    let mut outer = around.open_brackets().to_vec();
    let rest = around.line_after.trim_end();
    let first_line = text.split('\n').next().unwrap_or_default();
    if takes_place_of(first_line, around) {
        // What the rest of the line closes, the text closes in its place: the innermost.
        outer.extend(unmatched_closers(rest).map(|b| b.byte).rev());
    }
    let surplus = unmatched_closers(text).find(|bracket| match outer.last() {
        Some(closer) if *closer == bracket.byte => outer.pop().is_none(),
        _ => true,
    });
    surplus.map_or(text.len(), |bracket| bracket.at)
}

/// Lists the closing brackets of `text` that it has not opened itself.
fn unmatched_closers(text: &str) -> std::vec::IntoIter<Bracket> {
    let mut open: Vec<u8> = Vec::new();
    let mut unmatched = Vec::new();
    for bracket in brackets(text) {
        match closer_of(bracket.byte) {
            Some(closer) => open.push(closer),
            None if open.last() == Some(&bracket.byte) => drop(open.pop()),
            None => unmatched.push(bracket),
        }
    }
    unmatched.into_iter()
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
    if takes_place_of(first_line, around) {
        return (first_line, rest.len());
    }
    // It runs into the rest of the line: keep what is there.
    let shared = overlap(first_line, around);
    (&first_line[..first_line.len() - shared.len()], 0)
}

/// Whether `first_line` of a suggestion says all that follows the cursor on its line: it ends with
/// that, or closes what the editor closed there.
fn takes_place_of(first_line: &str, around: &Surroundings) -> bool {
    let rest = around.line_after.trim_end();
    let says =
        first_line.ends_with(rest) || only_closers(rest) && contains_in_order(first_line, rest);
    !rest.is_empty() && says && leaves_closers_to(first_line, rest, around)
}

/// Whether the closers of `shared`, which `text` says as well as the rest of the line, are the same
/// there: one that belongs to an opener of the text itself, or to one that the rest of the line
/// leaves open, is not the one after the cursor.
fn leaves_closers_to(text: &str, shared: &str, around: &Surroundings) -> bool {
    const PAIRS: [[u8; 2]; 4] = [*b"()", *b"[]", *b"{}", *b"<>"];
    let (before, rest) = (around.line_before, around.line_after);
    let outside_strings: String = before.split('"').step_by(2).collect();
    let closes = |pair: &[u8; 2]| {
        let wanted = surplus(shared, *pair);
        let open = -surplus(&outside_strings, *pair) - surplus(rest, *pair);
        wanted <= 0 || surplus(text, *pair) >= wanted + open.max(0)
    };
    let ends_string = |quote: &u8| {
        // A string of several lines began on one above.
        let is_long = rest.as_bytes().windows(3).any(|three| three == [*quote; 3]);
        let is_in_string = is_long || is_odd(before, *quote);
        !is_odd(shared, *quote) || is_odd(text, *quote) == is_in_string
    };
    PAIRS.iter().all(closes) && QUOTES.iter().all(ends_string)
}

/// Returns how many more closers than openers of one kind `text` has; arrows have none.
fn surplus(text: &str, [opener, closer]: [u8; 2]) -> isize {
    let text = text.replace("->", "").replace("=>", "");
    let count = |byte: u8| match byte {
        b'<' | b'>' => text.bytes().filter(|b| *b == byte).count(),
        _ => brackets(&text).filter(|b| b.byte == byte).count(),
    };
    count(closer) as isize - count(opener) as isize
}

/// Whether `text` has an odd number of a quote that no backslash stands before.
fn is_odd(text: &str, quote: u8) -> bool {
    let bytes = text.as_bytes();
    let quotes =
        (0..bytes.len()).filter(|&at| bytes[at] == quote && (at == 0 || bytes[at - 1] != b'\\'));
    quotes.count() % 2 == 1
}

/// Returns what of a suggestion's `text` is new where it can only be inserted, and `replaces` bytes
/// after the cursor stay; `None` when nothing is.
pub fn insertion<'t>(text: &'t str, replaces: usize, around: &Surroundings) -> Option<&'t str> {
    let replaced = around.line_after[..replaces].trim_end();
    let new = text.strip_suffix(replaced).or_else(|| {
        // It goes on behind what it closes.
        let first = replaced.chars().next()?;
        let mut ends = text.match_indices(first);
        let (at, _) = ends.find(|(at, c)| leaves_closers_to(&text[..at + c.len()], c, around))?;
        Some(&text[..at])
    })?;
    (!new.trim().is_empty()).then_some(new)
}

/// Whether `rest` only ends what was begun before it: no string of its own is in it.
fn only_closers(rest: &str) -> bool {
    let closes = |c| {
        matches!(
            c,
            ')' | ']' | '}' | '>' | '"' | '\'' | '`' | ';' | ',' | ':' | ' '
        )
    };
    let ends_string = |quote: &u8| is_odd(rest, *quote) || !rest.as_bytes().contains(quote);
    rest.chars().all(closes) && QUOTES.iter().all(ends_string)
}

/// Whether the characters of `rest` other than blanks appear in `text` in this order.
fn contains_in_order(text: &str, rest: &str) -> bool {
    let mut chars = text.chars();
    rest.chars()
        .filter(|c| !c.is_whitespace())
        .all(|wanted| chars.any(|c| c == wanted))
}

/// Returns the range of the longest end of `text` that the rest of the line starts with.
fn overlap(text: &str, around: &Surroundings) -> Range<usize> {
    let rest = around.line_after.trim_end();
    let longest = text.len().min(rest.len());
    let is_shared = |at: &usize| {
        text.is_char_boundary(*at)
            && rest.starts_with(&text[*at..])
            && leaves_closers_to(text, &text[*at..], around)
    };
    let at = (1..=longest).rev().map(|n| text.len() - n).find(is_shared);
    at.unwrap_or(text.len())..text.len()
}

#[cfg(test)]
mod tests;
