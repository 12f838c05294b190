//! Lines to tokens and back, alike for every language.
//!
//! Holds: the tokens of a line with the blanks before them, put together again, are that line
//! without its trailing blanks. A token is a run of word characters or one other character; what
//! a bracket or a quote means is left to whoever reads the tokens. Between two lines stands one
//! layout token that says how the indentation changed; blank lines leave no trace.
//! Not here: grammars, keywords, comments.

use super::vocabulary::{Vocabulary, Word};

/// Longest token in bytes; longer runs of word characters become several tokens.
const MAX_TOKEN: usize = 128;

/// Width of a tab when indentations are compared.
const TAB: u16 = 4;

/// The blanks before a token: a number of spaces or a number of tabs.
///
/// Any other mixture is a token of its own, so that nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Blanks(u8);

impl Blanks {
    pub(crate) const NONE: Self = Self(0);
    const MAX_SPACES: usize = 199;
    const MAX_TABS: usize = 55;

    fn of(text: &str) -> Option<Self> {
        let n = text.len();
        if n <= Self::MAX_SPACES && text.bytes().all(|b| b == b' ') {
            Some(Self(u8::try_from(n).ok()?))
        } else if n <= Self::MAX_TABS && text.bytes().all(|b| b == b'\t') {
            Some(Self(u8::try_from(Self::MAX_SPACES + n).ok()?))
        } else {
            None
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub(crate) fn push_to(self, text: &mut String) {
        let n = usize::from(self.0);
        if n <= Self::MAX_SPACES {
            text.extend(std::iter::repeat_n(' ', n));
        } else {
            text.extend(std::iter::repeat_n('\t', n - Self::MAX_SPACES));
        }
    }
}

/// One token of a line, with what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lexeme<'t> {
    pub(crate) blanks: Blanks,
    pub(crate) text: &'t str,
}

/// Returns whether `c` continues a word: letters and digits of any script, and `_`.
pub(crate) fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Splits one line, given without its indentation and line end.
pub(crate) fn lexemes(line: &str) -> impl Iterator<Item = Lexeme<'_>> {
    let mut rest = line.trim_end_matches([' ', '\t', '\r']);
    let mut blanks = Blanks::NONE;
    std::iter::from_fn(move || {
        let n_blanks = rest
            .bytes()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
        if n_blanks > 0 {
            let (gap, after) = rest.split_at(n_blanks);
            rest = after;
            match Blanks::of(gap) {
                Some(known) => blanks = known,
                None => {
                    return Some(Lexeme {
                        blanks: Blanks::NONE,
                        text: gap,
                    });
                }
            }
        }
        let end = token_end(rest)?;
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Lexeme {
            blanks: std::mem::take(&mut blanks),
            text,
        })
    })
}

/// Returns the length in bytes of the token that `text` starts with, `None` at the end.
fn token_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let ascii = bytes
        .iter()
        .take(MAX_TOKEN)
        .take_while(|b| **b == b'_' || b.is_ascii_alphanumeric())
        .count();
    if bytes.get(ascii).is_none_or(u8::is_ascii) || ascii == MAX_TOKEN {
        return match ascii {
            0 => text.chars().next().map(char::len_utf8),
            n => Some(n),
        };
    }
    let mut end = 0;
    for c in text.chars() {
        if !is_word_char(c) || end + c.len_utf8() > MAX_TOKEN {
            break;
        }
        end += c.len_utf8();
    }
    if end == 0 {
        text.chars().next().map(char::len_utf8)
    } else {
        Some(end)
    }
}

/// Returns where the word that touches the end of `line` starts; `line.len()` when none does.
pub(crate) fn stem_start(line: &str) -> usize {
    let mut start = line.len();
    for (at, c) in line.char_indices().rev() {
        if !is_word_char(c) || line.len() - at > MAX_TOKEN {
            break;
        }
        start = at;
    }
    start
}

/// Splits a line into its indentation and the rest.
pub(crate) fn split_indent(line: &str) -> (&str, &str) {
    let n = line
        .bytes()
        .take_while(|b| matches!(b, b' ' | b'\t' | b'\r'))
        .count();
    line.split_at(n)
}

/// The open indentation levels at some line, outermost first.
#[derive(Debug, Clone)]
pub(crate) struct Indents(Vec<u16>);

impl Indents {
    pub(crate) fn new() -> Self {
        Self(vec![0])
    }

    pub(crate) fn width(indent: &str) -> u16 {
        let width = indent.bytes().map(|b| if b == b'\t' { TAB } else { 1 });
        width.fold(0, u16::saturating_add)
    }

    /// Moves to a line indented by `width` and returns the layout token that leads there.
    pub(crate) fn step(&mut self, width: u16) -> Word {
        let top = self.top();
        if width == top {
            return Word::SAME;
        }
        if width > top {
            self.0.push(width);
            return Word::INDENT;
        }
        let mut n_closed = 0;
        while self.0.len() > 1 && self.top() > width {
            self.0.pop();
            n_closed += 1;
        }
        if self.top() < width {
            self.0.push(width);
        }
        if n_closed <= 1 {
            Word::DEDENT
        } else {
            Word::DEDENT_FAR
        }
    }

    fn top(&self) -> u16 {
        self.0.last().copied().unwrap_or(0)
    }
}

/// Appends the tokens of a whole file to `words` and `blanks`, new words going into `vocabulary`.
pub(crate) fn lex_file(
    text: &str,
    vocabulary: &mut Vocabulary,
    words: &mut Vec<Word>,
    blanks: &mut Vec<Blanks>,
) {
    let mut indents = Indents::new();
    let mut first = true;
    for line in text.split('\n') {
        let (indent, rest) = split_indent(line);
        if rest.is_empty() {
            continue;
        }
        let layout = indents.step(Indents::width(indent));
        if !std::mem::take(&mut first) {
            words.push(layout);
            blanks.push(Blanks::NONE);
        }
        for lexeme in lexemes(rest) {
            words.push(vocabulary.intern(lexeme.text));
            blanks.push(lexeme.blanks);
        }
    }
    words.push(Word::DEDENT_FAR);
    blanks.push(Blanks::NONE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(line: &str) -> String {
        let mut text = String::new();
        for lexeme in lexemes(line) {
            lexeme.blanks.push_to(&mut text);
            text.push_str(lexeme.text);
        }
        text
    }

    proptest! {
        #[test]
        fn tokens_of_any_line_give_the_line_back(line in "[^\n]{0,200}") {
            prop_assert_eq!(round_trip(&line), line.trim_end_matches([' ', '\t', '\r']));
        }

        #[test]
        fn tokens_of_blanks_and_words_give_the_line_back(line in "([ \t]{0,3}[a-zé_0-9(){}]{1,5}){0,40} {0,300}x") {
            prop_assert_eq!(round_trip(&line), line);
        }

        #[test]
        fn a_stem_is_a_suffix_of_word_characters(line in "\\PC{0,80}") {
            prop_assert!(line[stem_start(&line)..].chars().all(is_word_char));
        }
    }

    #[test]
    fn a_line_splits_into_words_and_single_characters() {
        let texts: Vec<&str> = lexemes("let größe_2 = a->b(\"x\");\t// ok")
            .map(|l| l.text)
            .collect();
        assert_eq!(
            texts,
            [
                "let",
                "größe_2",
                "=",
                "a",
                "-",
                ">",
                "b",
                "(",
                "\"",
                "x",
                "\"",
                ")",
                ";",
                "/",
                "/",
                "ok"
            ]
        );
    }

    #[test]
    fn a_megabyte_without_blanks_becomes_bounded_tokens() {
        let line = "x".repeat(1 << 20);
        assert!(lexemes(&line).all(|l| l.text.len() <= MAX_TOKEN));
        assert_eq!(round_trip(&line), line);
    }

    #[test]
    fn layout_tokens_tell_how_the_indentation_changed() {
        let mut vocabulary = Vocabulary::root();
        let (mut words, mut blanks) = (Vec::new(), Vec::new());
        lex_file(
            "a\n  b\n\n  c\n    d\ne\n",
            &mut vocabulary,
            &mut words,
            &mut blanks,
        );
        let layout: Vec<Word> = words.into_iter().filter(|w| w.is_layout()).collect();
        assert_eq!(
            layout,
            [
                Word::INDENT,
                Word::SAME,
                Word::INDENT,
                Word::DEDENT_FAR,
                Word::DEDENT_FAR
            ]
        );
    }
}
