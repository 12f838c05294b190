//! Blocks that were escaped or decorated on their way: line numbers in front, HTML entities,
//! backslash escapes, typographic punctuation.
//!
//! Each is undone for the whole block, and only if the block then stands in the file as it is. The
//! lines to be written are undone in the same way; where that is open to doubt there is no place.

use std::rc::Rc;

use super::lines::{Key, MAX_PLACES};
use super::{Index, Level, Place, whole_places};
use crate::edit::parse::{Block, BlockLine, Hints, LineKind};
use crate::edit::text::{Breaks, Text};

pub(super) fn find(index: &Index<'_>, block: &Block, hints: &Hints, most: usize) -> Vec<Place> {
    let mut places = Vec::new();
    // Numbers beyond the end are those of another file than this one.
    if let Some((first, plain)) = without_numbers(block, hints.marks_context)
        && first <= index.text().n_lines()
    {
        let mut starts = exact(index, &plain, MAX_PLACES + 1);
        if let Some(hinted) = starts.iter().find(|start| **start + 1 == first) {
            starts = vec![*hinted];
        }
        starts.truncate(most);
        places.extend(whole_places(Level::Escapes, starts, &plain));
    }
    let undone = [
        html_undone(block),
        backslashes_undone(block, hints.marks_context),
    ];
    for plain in undone.iter().flatten() {
        let starts = exact(index, plain, most);
        places.extend(whole_places(Level::Escapes, starts, plain));
    }
    places.extend(with_other_punctuation(index, block, most));
    places
}

/// The lines at which a block stands as it is.
fn exact(index: &Index<'_>, block: &Block, most: usize) -> Vec<usize> {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    if old.iter().all(|l| l.trim().is_empty()) {
        return Vec::new();
    }
    let found = index.find(Key::Exact, &old, most);
    match found.is_empty() {
        true => index.find(Key::TrimEnd, &old, most),
        false => found,
    }
}

/// Takes `12 | ` off all lines. Returns the first number, too; they must count up by one.
fn without_numbers(block: &Block, marks_context: bool) -> Option<(usize, Block)> {
    let first = numbered(&block.old().next()?.text)?.0;
    let counts_up = block
        .old()
        .enumerate()
        .all(|(i, l)| numbered(&l.text).is_some_and(|n| n.0 == first + i));
    if !counts_up {
        return None;
    }
    let is_added = |l: &&BlockLine| l.kind == LineKind::Added && !l.text.trim().is_empty();
    let n_added = block.lines.iter().filter(is_added).count();
    let n_numbered = block
        .lines
        .iter()
        .filter(is_added)
        .filter(|l| numbered(&l.text).is_some())
        .count();
    if n_numbered != 0 && n_numbered != n_added {
        return None;
    }
    let plain = block.map(|l| {
        Some(
            numbered(&l.text)
                .map_or(l.text.as_str(), |n| n.1)
                .to_owned(),
        )
    })?;
    Some((
        first,
        if marks_context {
            plain
        } else {
            compared_again(&plain)
        },
    ))
}

/// Reads `12 | text`, `12: text`, `12→text` and `12<tab>text`.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let line = line.trim_start_matches(' ');
    let n_digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let number = line[..n_digits].parse().ok()?;
    let rest = &line[n_digits..];
    let bar = rest.trim_start_matches(' ');
    if let Some(text) = bar.strip_prefix('|').or_else(|| rest.strip_prefix(':')) {
        return Some((number, text.strip_prefix(' ').unwrap_or(text)));
    }
    let text = rest.strip_prefix('→').or_else(|| rest.strip_prefix('\t'))?;
    Some((number, text))
}

/// Undoes HTML entities, if nothing that is written as one occurs in the block unescaped.
fn html_undone(block: &Block) -> Option<Block> {
    let has_entity = block
        .old()
        .any(|l| unescape_html(&l.text).is_some_and(|t| t != l.text));
    has_entity.then(|| block.map(|l| unescape_html(&l.text)))?
}

/// `None` when a raw `<`, `>` or `&` shows that the text is not escaped.
pub(super) fn unescape_html(text: &str) -> Option<String> {
    const ENTITIES: [(&str, char); 7] = [
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&amp;", '&'),
        ("&quot;", '"'),
        ("&#39;", '\''),
        ("&#x27;", '\''),
        ("&apos;", '\''),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '&' {
            let (entity, plain) = ENTITIES
                .iter()
                .find(|(entity, _)| rest.starts_with(entity))?;
            out.push(*plain);
            rest = &rest[entity.len()..];
        } else if matches!(c, '<' | '>') {
            return None;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(out)
}

/// Undoes `\n`, `\t`, `\"` and their kin, as in a string that was escaped once too often.
fn backslashes_undone(block: &Block, marks_context: bool) -> Option<Block> {
    block.old().any(|l| l.text.contains('\\')).then_some(())?;
    let mut lines = Vec::new();
    for line in &block.lines {
        let text = unescape_backslashes(&line.text)?;
        lines.extend(text.split('\n').map(|part| BlockLine {
            text: part.to_owned(),
            unmarked: None,
            ..line.clone()
        }));
    }
    let plain = Block { lines };
    Some(if marks_context {
        plain
    } else {
        compared_again(&plain)
    })
}

/// `None` when an escape stands inside quotes: there it may be the program's own.
pub(super) fn unescape_backslashes(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let (plain, escaped) = match c {
            '\\' => match chars.next() {
                Some('n') => ('\n', true),
                Some('t') => ('\t', true),
                Some('r') => continue,
                Some(q @ ('"' | '\'' | '\\')) => (q, false),
                Some(other) => {
                    out.push('\\');
                    (other, false)
                }
                None => ('\\', false),
            },
            other => (other, false),
        };
        if escaped && quote.is_some() {
            return None;
        }
        match (plain, quote) {
            ('"' | '\'' | '`', None) => quote = Some(plain),
            (q, Some(open)) if q == open => quote = None,
            ('\n', _) => quote = None,
            _ => {}
        }
        out.push(plain);
    }
    Some(out)
}

/// Finds the block where the file has other dashes, quotes or blanks than the model wrote.
fn with_other_punctuation(index: &Index<'_>, block: &Block, most: usize) -> Vec<Place> {
    let text = index.text();
    let file_has = text.content().chars().any(|c| fold(c) != c);
    let block_has = block.old().any(|l| l.text.chars().any(|c| fold(c) != c));
    if !file_has && !block_has {
        return Vec::new();
    }
    let Some(folded) = block.map(|l| Some(folded(&l.text))) else {
        return Vec::new();
    };
    let starts: Vec<usize> = if file_has {
        let content = self::folded(text.content());
        let Ok(folded_text) = Text::decode(content.into_bytes(), Breaks::Lf) else {
            return Vec::new();
        };
        let of_folded = Index::new(&folded_text);
        let starts = exact(&of_folded, &folded, MAX_PLACES + 1);
        if of_folded.is_exhausted() {
            index.spend(usize::MAX);
        }
        starts
    } else {
        exact(index, &folded, MAX_PLACES + 1)
    };
    index.found(starts.len());
    let (folded, n_old) = (Rc::new(folded), block.n_old());
    starts
        .into_iter()
        .filter_map(|start| {
            let place_has = (start..start + n_old).any(|i| folded_differs(text.line(i)));
            let block = match (place_has, block_has) {
                (false, _) => Rc::clone(&folded),
                (true, false) if !index.make(block) => return None,
                (true, false) => Rc::new(with_punctuation_of(text, start, block)?),
                (true, true) => return None,
            };
            Some(Place::whole(Level::Escapes, start, block))
        })
        .take(most)
        .collect()
}

/// Gives the added lines the punctuation that the file has where the model kept the removed line.
fn with_punctuation_of(text: &Text, start: usize, block: &Block) -> Option<Block> {
    let mut lines = block.lines.clone();
    let mut at = start;
    let mut first = 0;
    while first < lines.len() {
        let n_run = lines[first..]
            .iter()
            .take_while(|l| l.kind != LineKind::Context)
            .count();
        if n_run == 0 {
            (at, first) = (at + 1, first + 1);
            continue;
        }
        let run = &mut lines[first..first + n_run];
        let removed: Vec<String> = run
            .iter()
            .filter(|l| l.kind == LineKind::Removed)
            .map(|l| l.text.clone())
            .collect();
        let n_added = n_run - removed.len();
        let doubtful = (at..at + removed.len()).flat_map(|i| text.line(i).chars());
        let doubtful: Vec<char> = doubtful.filter(|c| fold(*c) != *c).map(fold).collect();
        let added = run.iter_mut().filter(|l| l.kind == LineKind::Added);
        for (idx, line) in added.enumerate() {
            if !line.text.contains(|c| doubtful.contains(&c)) {
                continue;
            }
            let old = removed.get(idx).filter(|_| n_added == removed.len())?;
            line.text = carried_over(old, &line.text, text.line(at + idx), &doubtful)?;
        }
        at += removed.len();
        first += n_run;
    }
    Some(Block { lines })
}

/// Does to `file` what turns `old` into `new`, which differ from it in punctuation only.
fn carried_over(old: &str, new: &str, file: &str, doubtful: &[char]) -> Option<String> {
    let (old, new, file): (Vec<char>, Vec<char>, Vec<char>) = (
        old.chars().collect(),
        new.chars().collect(),
        file.chars().collect(),
    );
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(most)
        .take_while(|(a, b)| a == b)
        .count();
    let middle = &new[head..new.len() - tail];
    if old.len() != file.len() || middle.iter().any(|c| doubtful.contains(c)) {
        return None;
    }
    Some(
        file[..head]
            .iter()
            .chain(middle)
            .chain(&file[file.len() - tail..])
            .collect(),
    )
}

pub(super) fn folded(text: &str) -> String {
    text.chars().map(fold).collect()
}

pub(super) fn folded_differs(text: &str) -> bool {
    text.chars().any(|c| fold(c) != c)
}

/// Returns the character of the keyboard that a model may write in place of `c`, or the other way
/// round.
fn fold(c: char) -> char {
    match c {
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

/// The block with lines that are now equal on both sides made context.
fn compared_again(block: &Block) -> Block {
    let old: Vec<&str> = block.old().map(|l| l.text.as_str()).collect();
    let new: Vec<&str> = block.new_lines().map(|l| l.text.as_str()).collect();
    Block::from_lines(&old, &new)
}
