//! The tokens of a text that is being edited, with every earlier place of each token.
//!
//! Holds: after `sync` the tokens are those of the text it was given. Tokens are appended and
//! taken back at the end only, and every list of places runs from the latest backwards, so moving
//! to a text that shares its beginning with the last one costs what differs.
//! Not here: which text is worth reading and how much of it (`reading`).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::lex::{Blanks, Indents, lexemes, split_indent};
use super::vocabulary::{Frame, Vocabulary, Word};

const NOWHERE: u32 = u32::MAX;

/// Where a token stands last, and how often it stands anywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uses {
    pub(crate) last: u32,
    pub(crate) n: u32,
}

/// Tokens of one text in reading order.
#[derive(Debug, Clone)]
pub(crate) struct OpenText {
    text: String,
    lines: Vec<Line>,
    pub(crate) words: Vec<Word>,
    pub(crate) blanks: Vec<Blanks>,
    pub(crate) shapes: Vec<Word>,
    uses: FxHashMap<Word, Uses>,
    earlier: Vec<u32>,
    /// Latest place that follows this pair of shapes.
    pairs: FxHashMap<(Word, Word), u32>,
    earlier_pair: Vec<u32>,
}

/// State before a line.
#[derive(Debug, Clone, Copy)]
struct Line {
    byte: usize,
    n_words: usize,
    /// Indentation of the line; `None` when it is blank.
    width: Option<u16>,
}

impl OpenText {
    pub(crate) fn new() -> Self {
        let mut empty = Self {
            text: String::new(),
            lines: Vec::new(),
            words: Vec::new(),
            blanks: Vec::new(),
            shapes: Vec::new(),
            uses: FxHashMap::default(),
            earlier: Vec::new(),
            pairs: FxHashMap::default(),
            earlier_pair: Vec::new(),
        };
        empty.push(Word::BOUNDARY, Blanks::NONE, Word::BOUNDARY);
        empty
    }

    /// Makes the tokens those of `text`, whose last line may be unfinished.
    ///
    /// The layout token before the last line is there even when that line is blank so far.
    pub(crate) fn sync(&mut self, text: &str, vocabulary: &mut Vocabulary, frame: &Frame) {
        let same = common_prefix(&self.text, text);
        let keep = self
            .lines
            .partition_point(|line| line.byte <= same)
            .saturating_sub(1);
        let from = self.lines.get(keep).map_or(0, |line| line.byte);
        self.truncate(keep);
        self.text.truncate(from);
        self.text.push_str(&text[from..]);
        let mut indents = self.indents();
        let mut byte = from;
        for line in text[from..].split('\n') {
            let is_last = byte + line.len() == text.len();
            let (indent, rest) = split_indent(line);
            let width = Indents::width(indent);
            let is_blank = rest.is_empty();
            self.lines.push(Line {
                byte,
                n_words: self.words.len(),
                width: (!is_blank).then_some(width),
            });
            byte += line.len() + 1;
            if is_blank && !is_last {
                continue;
            }
            let layout = indents.step(width);
            if self.words.len() > 1 {
                self.push(layout, Blanks::NONE, layout);
            }
            for lexeme in lexemes(rest) {
                let word = vocabulary.intern(lexeme.text);
                self.push(word, lexeme.blanks, frame.shape(word, vocabulary));
            }
        }
    }

    /// Returns a text that is only read from now on.
    pub(crate) fn frozen(text: &str, vocabulary: &mut Vocabulary, frame: &Frame) -> Arc<Self> {
        let mut open = Self::new();
        open.sync(text, vocabulary, frame);
        open.text = String::new();
        open.lines = Vec::new();
        Arc::new(open)
    }

    /// Returns the same tokens in the numbers of another vocabulary, to be read only.
    pub(crate) fn translated(
        &self,
        from: &Vocabulary,
        to: &mut Vocabulary,
        frame: &Frame,
    ) -> Arc<Self> {
        let mut open = Self::new();
        for (word, blanks) in self.words.iter().zip(&self.blanks).skip(1) {
            let word = if word.is_layout() {
                *word
            } else {
                to.intern(from.text(*word))
            };
            open.push(word, *blanks, frame.shape(word, to));
        }
        Arc::new(open)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn uses(&self, word: Word) -> Option<Uses> {
        self.uses.get(&word).copied()
    }

    pub(crate) fn all_uses(&self) -> impl Iterator<Item = (Word, Uses)> {
        self.uses.iter().map(|(word, uses)| (*word, *uses))
    }

    /// Returns the places that directly follow `word`, latest first.
    pub(crate) fn after(&self, word: Word) -> impl Iterator<Item = usize> {
        let mut at = self.uses(word).map_or(NOWHERE, |uses| uses.last);
        std::iter::from_fn(move || {
            let place = at as usize + 1;
            at = *self.earlier.get(at as usize)?;
            Some(place)
        })
        .filter(|place| *place < self.words.len())
    }

    /// Returns the places that directly follow these two shapes, latest first.
    pub(crate) fn after_shapes(&self, pair: (Word, Word)) -> impl Iterator<Item = usize> {
        let mut at = self.pairs.get(&pair).copied().unwrap_or(NOWHERE);
        std::iter::from_fn(move || {
            let place = at as usize + 1;
            at = *self.earlier_pair.get(at as usize)?;
            Some(place)
        })
        .filter(|place| *place < self.words.len())
    }

    /// Returns the tokens of the lines that open the blocks around the end, innermost first.
    pub(crate) fn block_openers(&self) -> impl Iterator<Item = &[Word]> {
        let last = self.lines.len().saturating_sub(1);
        let mut limit = self
            .lines
            .get(last)
            .map_or(0, |line| line.width.unwrap_or(u16::MAX));
        if limit == u16::MAX {
            limit = self
                .lines
                .last()
                .map_or(0, |line| Indents::width(&self.text[line.byte..]));
        }
        let ends = self
            .lines
            .iter()
            .skip(1)
            .map(|line| line.n_words)
            .take(last);
        let lines = self.lines.iter().take(last).zip(ends).rev();
        lines.filter_map(move |(line, end)| {
            let width = line.width.filter(|width| *width < limit)?;
            limit = width;
            Some(&self.words[line.n_words..end])
        })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity()
            + self.lines.capacity() * 24
            + self.words.capacity() * 17
            + self.uses.capacity() * 14
            + self.pairs.capacity() * 14
    }

    fn push(&mut self, word: Word, blanks: Blanks, shape: Word) {
        let at = self.words.len() as u32;
        let uses = self.uses.entry(word).or_insert(Uses {
            last: NOWHERE,
            n: 0,
        });
        self.earlier.push(uses.last);
        *uses = Uses {
            last: at,
            n: uses.n + 1,
        };
        let pair = (self.shapes.last().copied().unwrap_or(Word::BOUNDARY), shape);
        let last = self.pairs.insert(pair, at);
        self.earlier_pair.push(last.unwrap_or(NOWHERE));
        self.words.push(word);
        self.blanks.push(blanks);
        self.shapes.push(shape);
    }

    /// Takes back everything from the line at `keep` on.
    fn truncate(&mut self, keep: usize) {
        let n_words = self
            .lines
            .get(keep)
            .map_or(self.words.len(), |line| line.n_words)
            .max(1);
        self.lines.truncate(keep);
        while self.words.len() > n_words {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let (Some(word), Some(shape)) = (self.words.pop(), self.shapes.pop()) else {
            return;
        };
        self.blanks.pop();
        match self.earlier.pop() {
            None | Some(NOWHERE) => {
                self.uses.remove(&word);
            }
            Some(last) => {
                if let Some(uses) = self.uses.get_mut(&word) {
                    *uses = Uses {
                        last,
                        n: uses.n - 1,
                    };
                }
            }
        }
        let pair = (self.shapes.last().copied().unwrap_or(Word::BOUNDARY), shape);
        match self.earlier_pair.pop() {
            None | Some(NOWHERE) => {
                self.pairs.remove(&pair);
            }
            Some(last) => {
                self.pairs.insert(pair, last);
            }
        }
    }

    /// Rebuilds the open indentation levels after the lines that are kept.
    fn indents(&self) -> Indents {
        let mut open = Vec::new();
        let mut limit = u16::MAX;
        for width in self.lines.iter().rev().filter_map(|line| line.width) {
            if width < limit {
                open.push(width);
                limit = width;
            }
            if width == 0 {
                break;
            }
        }
        let mut indents = Indents::new();
        for width in open.into_iter().rev() {
            indents.step(width);
        }
        indents
    }
}

/// Returns how many leading bytes the texts share.
fn common_prefix(a: &str, b: &str) -> usize {
    const CHUNK: usize = 256;
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let whole = a
        .chunks_exact(CHUNK)
        .zip(b.chunks_exact(CHUNK))
        .take_while(|(a, b)| a == b)
        .count()
        * CHUNK;
    whole
        + a[whole..]
            .iter()
            .zip(&b[whole..])
            .take_while(|(a, b)| a == b)
            .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything a reader can see, in a fixed order.
    fn contents(open: &OpenText) -> impl PartialEq + std::fmt::Debug {
        let mut uses: Vec<_> = open
            .all_uses()
            .map(|(word, uses)| {
                (
                    word,
                    uses.last,
                    uses.n,
                    open.after(word).collect::<Vec<_>>(),
                )
            })
            .collect();
        uses.sort_unstable();
        let pairs: Vec<Vec<usize>> = open
            .shapes
            .windows(2)
            .map(|pair| open.after_shapes((pair[0], pair[1])).collect())
            .collect();
        (
            open.words.clone(),
            open.blanks.clone(),
            open.shapes.clone(),
            uses,
            pairs,
        )
    }

    proptest! {
        #[test]
        fn moving_between_texts_equals_reading_anew(texts in prop::collection::vec("([ \t]{0,4}[ab(]{0,4}\n?){0,8}", 1..6)) {
            let mut vocabulary = Vocabulary::root();
            let frame = Frame::default();
            let mut moved = OpenText::new();
            for text in &texts {
                moved.sync(text, &mut vocabulary, &frame);
                let mut anew = OpenText::new();
                anew.sync(text, &mut vocabulary, &frame);
                prop_assert_eq!(moved.text(), text.as_str());
                prop_assert_eq!(contents(&moved), contents(&anew));
            }
        }
    }

    #[test]
    fn an_unfinished_blank_line_has_its_layout() {
        let mut vocabulary = Vocabulary::root();
        let mut open = OpenText::new();
        open.sync("a\n    ", &mut vocabulary, &Frame::default());
        assert_eq!(open.words.last(), Some(&Word::INDENT));
        open.sync("a\n    b\n    ", &mut vocabulary, &Frame::default());
        assert_eq!(open.words.last(), Some(&Word::SAME));
    }
}
