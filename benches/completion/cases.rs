//! Random cursors in held-out files.
//!
//! A fifth of the cursors stand at the start of a line behind its indentation, half at a token
//! boundary within it (before or after the blanks there), the others inside a word of three
//! characters or more. Lines of a leading comment block, lines over 200 bytes and rests under two
//! characters are left out.

use crate::random::Random;
use crate::tree::{SourceFile, Tree};

/// One cursor and what followed it.
pub(crate) struct Case<'t> {
    pub(crate) file: &'t SourceFile,
    /// Byte offset of the cursor.
    pub(crate) at: usize,
    pub(crate) kind: Kind,
    pub(crate) is_comment: bool,
    pub(crate) expected: &'t str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    LineStart,
    Boundary,
    InWord,
}

/// A line of a file, by byte offset.
#[derive(Clone, Copy)]
pub(crate) struct Line<'t> {
    pub(crate) file: &'t SourceFile,
    pub(crate) start: usize,
    /// The line without trailing blanks.
    pub(crate) text: &'t str,
}

/// Returns the lines worth asking about.
pub(crate) fn lines<'t>(held: &[&'t SourceFile]) -> Vec<Line<'t>> {
    let mut pool = Vec::new();
    for file in held {
        let mut start = 0;
        let mut in_header = true;
        for line in file.text.split('\n') {
            let text = line.trim_end();
            in_header &= text.trim_start().is_empty() || is_comment(&file.path, text);
            if !in_header && text.len() <= 200 && text.trim_start().len() >= 4 {
                pool.push(Line { file, start, text });
            }
            start += line.len() + 1;
        }
    }
    pool
}

/// Draws `n` cursors, the same for the same tree every time.
pub(crate) fn draw<'t>(
    tree: &Tree,
    held: &[&'t SourceFile],
    n: usize,
    seed: &str,
) -> Vec<Case<'t>> {
    let mut random = Random::new(&format!("{seed}:{}", tree.name));
    let pool = lines(held);
    let mut cases = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 * n {
        if cases.len() == n || pool.is_empty() {
            break;
        }
        let line = pool[random.below(pool.len())];
        let Some((kind, column)) = cursor(line.text, &mut random) else {
            continue;
        };
        let expected = &line.text[column..];
        if expected.trim_start().len() >= 2
            && seen.insert((line.file.path.as_str(), line.start + column))
        {
            let is_comment = is_comment(&line.file.path, line.text);
            cases.push(Case {
                file: line.file,
                at: line.start + column,
                kind,
                is_comment,
                expected,
            });
        }
    }
    cases
}

fn cursor(line: &str, random: &mut Random) -> Option<(Kind, usize)> {
    let tokens = tokens(line);
    match random.below(10) {
        0 | 1 => Some((Kind::LineStart, line.len() - line.trim_start().len())),
        2..=6 => {
            let at = 1 + random.below(tokens.len().checked_sub(1).filter(|n| *n > 0)?);
            Some((
                Kind::Boundary,
                if random.chance(50) {
                    tokens[at].0
                } else {
                    tokens[at - 1].1
                },
            ))
        }
        _ => {
            let is_long = |token: &&(usize, usize)| {
                token.1 - token.0 >= 3
                    && line[token.0..token.1]
                        .starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
            };
            let words: Vec<&(usize, usize)> = tokens.iter().filter(is_long).collect();
            let (start, end) = **words.get(random.below(words.len().max(1)))?;
            Some((Kind::InWord, start + 1 + random.below(end - start - 1)))
        }
    }
}

/// Splits a line into words of ASCII characters and single other characters.
fn tokens(line: &str) -> Vec<(usize, usize)> {
    let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut tokens: Vec<(usize, usize)> = Vec::new();
    let mut in_word = false;
    for (at, c) in line.char_indices() {
        let end = at + c.len_utf8();
        match tokens.last_mut() {
            Some(last) if in_word && is_word(c) => last.1 = end,
            _ if !c.is_whitespace() => tokens.push((at, end)),
            _ => {}
        }
        in_word = is_word(c);
    }
    tokens
}

pub(crate) fn is_comment(path: &str, line: &str) -> bool {
    let line = line.trim_start();
    let hash = [".py", ".rb", ".sh", ".yml"]
        .iter()
        .any(|end| path.ends_with(end));
    if hash {
        line.starts_with('#')
    } else {
        ["//", "/*", "*", "#!"]
            .iter()
            .any(|mark| line.starts_with(mark))
    }
}
