//! Learnt files of one language, frozen.
//!
//! Holds: a segment never changes. Files that changed since, or that an open buffer stands for,
//! are hidden by the spans a reader passes along, never by writing here.
//! Costs 17 bytes a token and 8 to 12 bytes a distinct word.

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::context_array::ContextArray;
use super::lex::Blanks;
use super::vocabulary::{Class, Frame, Vocabulary, Word};

/// Longest context looked at, in tokens.
pub(crate) const DEPTH: usize = 24;

/// Longest shape looked at, in tokens.
pub(crate) const SHAPE_DEPTH: usize = 32;

/// The tokens of some files, before they are ordered.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) words: Vec<Word>,
    pub(crate) blanks: Vec<Blanks>,
    pub(crate) files: Vec<LearntFile>,
}

/// A file within a segment, and where its tokens start.
#[derive(Debug, Clone)]
pub(crate) struct LearntFile {
    pub(crate) path: Arc<Path>,
    pub(crate) start: u32,
    /// Size of the source in bytes.
    pub(crate) bytes: u32,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self {
            words: vec![Word::BOUNDARY],
            blanks: vec![Blanks::NONE],
            files: Vec::new(),
        }
    }

    pub(crate) fn push_file(&mut self, path: Arc<Path>, text: &str, vocabulary: &mut Vocabulary) {
        let start = self.words.len() as u32;
        self.files.push(LearntFile {
            path,
            start,
            bytes: text.len() as u32,
        });
        super::lex::lex_file(text, vocabulary, &mut self.words, &mut self.blanks);
        self.words.push(Word::BOUNDARY);
        self.blanks.push(Blanks::NONE);
    }

    /// Appends the files of `segment` that are not hidden.
    pub(crate) fn push_segment(&mut self, segment: &Segment, hidden: &[Span]) {
        for at in 0..segment.files.len() {
            let span = segment.span(at);
            if contains(hidden, span.start) {
                continue;
            }
            let start = self.words.len() as u32;
            self.files.push(LearntFile {
                start,
                ..segment.files[at].clone()
            });
            self.words
                .extend_from_slice(&segment.words[span.start as usize..span.end as usize]);
            self.blanks
                .extend_from_slice(&segment.blanks[span.start as usize..span.end as usize]);
        }
    }

    /// Chooses the words that keep their identity in shapes: in at least a tenth of the files, and
    /// among the most frequent 150; and those of `keywords`.
    pub(crate) fn frame(&self, keywords: &Frame, vocabulary: &Vocabulary) -> Frame {
        const MOST_FREQUENT: usize = 150;
        let mut counts: FxHashMap<Word, (u32, u32, usize)> = FxHashMap::default();
        let mut file = 0;
        for word in &self.words {
            if *word == Word::BOUNDARY {
                file += 1;
            } else if vocabulary.class(*word) == Class::Name {
                let (uses, files, last) = counts.entry(*word).or_default();
                *uses += 1;
                if *last != file {
                    *last = file;
                    *files += 1;
                }
            }
        }
        let mut frequent: Vec<(u32, u32, Word)> = counts
            .into_iter()
            .map(|(word, (uses, files, _))| (uses, files, word))
            .collect();
        frequent.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.2.cmp(&b.2)));
        frequent.truncate(MOST_FREQUENT);
        let n_files = self.files.len() as u32;
        let spread = frequent
            .into_iter()
            .filter(|(_, files, _)| files * 10 >= n_files)
            .map(|(_, _, word)| word);
        Frame::of(spread.chain(keywords.words()))
    }
}

/// Some tokens of a segment, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// Returns whether `place` lies in one of `spans`, which are sorted and do not overlap.
pub(crate) fn contains(spans: &[Span], place: u32) -> bool {
    let at = spans.partition_point(|span| span.end <= place);
    spans.get(at).is_some_and(|span| span.start <= place)
}

/// Learnt files of one language in both orders.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) words: Vec<Word>,
    pub(crate) blanks: Vec<Blanks>,
    pub(crate) files: Vec<LearntFile>,
    pub(crate) literal: ContextArray,
    /// The token that follows, in the order of `literal`: counting needs no look at the stream.
    next: Vec<Word>,
    pub(crate) shapes: ContextArray,
    /// Names that occur, in the order of their texts.
    names: Vec<Word>,
}

impl Segment {
    pub(crate) const BYTES_PER_TOKEN: usize = 17;

    /// Orders the tokens; the expensive step of learning.
    pub(crate) fn new(tokens: Tokens, frame: &Frame, vocabulary: &Vocabulary) -> Self {
        let Tokens {
            mut words,
            mut blanks,
            mut files,
        } = tokens;
        words.shrink_to_fit();
        blanks.shrink_to_fit();
        files.shrink_to_fit();
        let shapes = {
            let stream: Vec<Word> = words
                .iter()
                .map(|word| frame.shape(*word, vocabulary))
                .collect();
            ContextArray::new(&stream, SHAPE_DEPTH)
        };
        let literal = ContextArray::new(&words, DEPTH);
        let next = literal
            .in_order()
            .iter()
            .map(|place| words[*place as usize])
            .collect();
        let mut names = literal.words(&words);
        names.retain(|word| vocabulary.class(*word) == Class::Name);
        sort_by_text(&mut names, vocabulary);
        names.shrink_to_fit();
        Self {
            words,
            blanks,
            files,
            literal,
            next,
            shapes,
            names,
        }
    }

    pub(crate) fn next(&self, range: std::ops::Range<u32>) -> &[Word] {
        &self.next[range.start as usize..range.end as usize]
    }

    /// Returns how often `word` occurs.
    pub(crate) fn uses(&self, word: Word) -> u32 {
        self.literal.after(word).len() as u32
    }

    /// Returns the names that start with `stem`.
    pub(crate) fn names_with<'s>(
        &'s self,
        stem: &'s str,
        vocabulary: &'s Vocabulary,
    ) -> impl Iterator<Item = Word> + 's {
        let start = self
            .names
            .partition_point(|word| vocabulary.text(*word) < stem);
        let rest = self.names[start..].iter().copied();
        rest.take_while(move |word| vocabulary.text(*word).starts_with(stem))
    }

    /// Returns the tokens of the file at `at`, its closing boundary included.
    pub(crate) fn span(&self, at: usize) -> Span {
        let end = self
            .files
            .get(at + 1)
            .map_or(self.words.len() as u32, |next| next.start);
        Span {
            start: self.files[at].start,
            end,
        }
    }

    /// Returns the number of the file that holds `place`.
    pub(crate) fn file_at(&self, place: u32) -> usize {
        self.files
            .partition_point(|file| file.start <= place)
            .saturating_sub(1)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let paths: usize = self
            .files
            .iter()
            .map(|file| file.path.as_os_str().len() + 48)
            .sum();
        self.words.capacity() * 4
            + self.blanks.capacity()
            + self.literal.bytes()
            + self.next.capacity() * 4
            + self.shapes.bytes()
            + self.names.capacity() * 4
            + paths
    }
}

/// Sorts names by text; the first eight bytes decide nearly always.
fn sort_by_text(names: &mut Vec<Word>, vocabulary: &Vocabulary) {
    let head = |word: Word| {
        let text = vocabulary.text(word).as_bytes();
        let mut head = [0; 8];
        let n = text.len().min(8);
        head[..n].copy_from_slice(&text[..n]);
        u64::from_be_bytes(head)
    };
    let mut keyed: Vec<(u64, Word)> = names.iter().map(|word| (head(*word), *word)).collect();
    keyed.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| vocabulary.text(a.1).cmp(vocabulary.text(b.1)))
    });
    names.clear();
    names.extend(keyed.into_iter().map(|(_, word)| word));
}
