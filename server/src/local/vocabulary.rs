//! Words and their numbers.
//!
//! Holds: a number, once given, keeps its word. Vocabularies stack: one lies over a parent that
//! no longer changes, finds the parent's words and adds its own behind them. What readers share
//! is therefore never written to.
//! Not here: counts and places of words (`segment`, `open_text`).

use std::hash::Hasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxHasher;

/// The number of a word; the smallest numbers are layout and marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Word(u32);

impl Word {
    /// Stands between files: no context reaches across it.
    pub(crate) const BOUNDARY: Self = Self(0);
    pub(crate) const SAME: Self = Self(1);
    pub(crate) const INDENT: Self = Self(2);
    pub(crate) const DEDENT: Self = Self(3);
    pub(crate) const DEDENT_FAR: Self = Self(4);
    /// Any identifier, in shapes.
    pub(crate) const NAME: Self = Self(5);
    /// Any number, in shapes.
    pub(crate) const NUMBER: Self = Self(6);
    /// The end of a line when it is predicted, whatever indentation follows.
    pub(crate) const END_OF_LINE: Self = Self::SAME;

    const N_MARKS: u32 = 7;
    /// Words of one request start here, far above everything that was learnt.
    const SCRATCH: u32 = 1 << 30;

    pub(crate) fn is_layout(self) -> bool {
        self.0 <= Self::DEDENT_FAR.0
    }

    /// Returns the word with every layout token folded into the end of the line.
    pub(crate) fn predicted(self) -> Self {
        if self.is_layout() {
            Self::END_OF_LINE
        } else {
            self
        }
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn is_scratch(self) -> bool {
        self.0 >= Self::SCRATCH
    }
}

/// What kind of token a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Layout,
    Name,
    Number,
    Mark,
}

impl Class {
    fn of(text: &str) -> Self {
        match text.as_bytes().first() {
            None => Self::Layout,
            Some(b'0'..=b'9') => Self::Number,
            Some(b'_' | b'a'..=b'z' | b'A'..=b'Z') => Self::Name,
            Some(b) if b.is_ascii() => Self::Mark,
            Some(_) => text.chars().next().map_or(Self::Mark, |c| {
                if c.is_alphanumeric() {
                    Self::Name
                } else {
                    Self::Mark
                }
            }),
        }
    }
}

/// Words with numbers, over an optional parent.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    parent: Option<Arc<Vocabulary>>,
    first: u32,
    texts: String,
    ends: Vec<u32>,
    classes: Vec<Class>,
    table: HashTable<u32>,
}

impl Vocabulary {
    /// Creates a vocabulary that knows the marks alone.
    pub(crate) fn root() -> Self {
        let mut root = Self::empty(None, 0);
        for _ in 0..Word::N_MARKS {
            root.ends.push(0);
            root.classes.push(Class::Layout);
        }
        root
    }

    /// Creates a vocabulary whose own words follow those of `parent`.
    pub(crate) fn over(parent: Arc<Self>) -> Self {
        let first = parent.end();
        Self::empty(Some(parent), first)
    }

    /// Creates a vocabulary for the words of one buffer that nothing else has learnt.
    pub(crate) fn scratch(parent: Arc<Self>) -> Self {
        Self::empty(Some(parent), Word::SCRATCH)
    }

    fn empty(parent: Option<Arc<Self>>, first: u32) -> Self {
        Self {
            parent,
            first,
            texts: String::new(),
            ends: Vec::new(),
            classes: Vec::new(),
            table: HashTable::new(),
        }
    }

    /// Returns the same words with nothing below them.
    pub(crate) fn flattened(&self) -> Self {
        let Some(parent) = &self.parent else {
            return self.clone();
        };
        let mut flat = parent.flattened();
        for at in 0..self.ends.len() {
            flat.intern(self.own_text(at));
        }
        flat
    }

    /// Lays this scratch vocabulary over another parent, unless one of its words is known there.
    pub(crate) fn rebase(&mut self, parent: &Arc<Self>) -> bool {
        let known = (0..self.ends.len()).any(|at| parent.get(self.own_text(at)).is_some());
        if !known {
            self.parent = Some(Arc::clone(parent));
        }
        !known
    }

    /// Gives back memory kept for growth.
    pub(crate) fn shrink(&mut self) {
        self.texts.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.classes.shrink_to_fit();
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    fn end(&self) -> u32 {
        self.first + self.n_own() as u32
    }

    pub(crate) fn n_own(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, text: &str) -> Option<Word> {
        self.find(hash_of(text), text)
    }

    pub(crate) fn intern(&mut self, text: &str) -> Word {
        let hash = hash_of(text);
        if let Some(word) = self.find(hash, text) {
            return word;
        }
        let at = self.ends.len() as u32;
        self.texts.push_str(text);
        self.ends.push(self.texts.len() as u32);
        self.classes.push(Class::of(text));
        let (texts, ends) = (&self.texts, &self.ends);
        self.table
            .insert_unique(hash, at, |at| hash_of(slice(texts, ends, *at as usize)));
        Word(self.first + at)
    }

    pub(crate) fn text(&self, word: Word) -> &str {
        match &self.parent {
            Some(parent) if word.0 < self.first => parent.text(word),
            _ => self.own_text((word.0 - self.first) as usize),
        }
    }

    pub(crate) fn class(&self, word: Word) -> Class {
        match &self.parent {
            Some(parent) if word.0 < self.first => parent.class(word),
            _ => self.classes[(word.0 - self.first) as usize],
        }
    }

    /// Bytes held by the words of this vocabulary and those below it.
    pub(crate) fn bytes(&self) -> usize {
        let own = self.texts.capacity()
            + self.ends.capacity() * 4
            + self.classes.capacity()
            + self.table.capacity() * 5;
        own + self.parent.as_ref().map_or(0, |parent| parent.bytes())
    }

    fn find(&self, hash: u64, text: &str) -> Option<Word> {
        if let Some(word) = self
            .parent
            .as_ref()
            .and_then(|parent| parent.find(hash, text))
        {
            return Some(word);
        }
        let at = self
            .table
            .find(hash, |at| self.own_text(*at as usize) == text)?;
        Some(Word(self.first + at))
    }

    fn own_text(&self, at: usize) -> &str {
        slice(&self.texts, &self.ends, at)
    }
}

fn slice<'t>(texts: &'t str, ends: &[u32], at: usize) -> &'t str {
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    &texts[start..ends[at] as usize]
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Words that keep their identity in shapes; every other name is just "a name" there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    bits: Vec<u64>,
}

/// Words that are syntax in some widespread language; a small project shows too few of them.
const KEYWORDS: &str = "abstract as assert async await begin bool boolean break byte case catch char class const \
    constructor continue def default defer del do double elif else elsif end enum except export extends extern false \
    final finally float fn for foreach from func function get go goto if impl implements import in include instanceof \
    int interface internal is lambda let long loop match mod module mut namespace new nil not null object of operator or \
    override package pass private protected pub public raise range readonly ref require return self set short sizeof \
    static str string struct super switch template then this throw throws trait true try type typedef typename typeof \
    undefined union unless unsafe unsigned use using val var virtual void when where while with yield None True False \
    String Self echo local and";

impl Frame {
    /// Returns the frame of a language of which nothing is known, adding its words.
    pub(crate) fn keywords(vocabulary: &mut Vocabulary) -> Self {
        let words: Vec<Word> = KEYWORDS
            .split_ascii_whitespace()
            .map(|keyword| vocabulary.intern(keyword))
            .collect();
        Self::of(words)
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = Word> {
        let set = |(at, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| Word((at * 64 + bit) as u32))
        };
        self.bits.iter().enumerate().flat_map(set)
    }

    pub(crate) fn of(words: impl IntoIterator<Item = Word>) -> Self {
        let mut frame = Self::default();
        for word in words.into_iter().filter(|word| !word.is_scratch()) {
            let at = word.index() / 64;
            if frame.bits.len() <= at {
                frame.bits.resize(at + 1, 0);
            }
            frame.bits[at] |= 1 << (word.index() % 64);
        }
        frame
    }

    pub(crate) fn contains(&self, word: Word) -> bool {
        self.bits
            .get(word.index() / 64)
            .is_some_and(|bits| bits >> (word.index() % 64) & 1 == 1)
    }

    /// Returns the word as it appears in shapes.
    pub(crate) fn shape(&self, word: Word, vocabulary: &Vocabulary) -> Word {
        match vocabulary.class(word) {
            Class::Name if !self.contains(word) => Word::NAME,
            Class::Number => Word::NUMBER,
            Class::Name | Class::Layout | Class::Mark => word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_numbers_through_every_layer() {
        let mut root = Vocabulary::root();
        let alpha = root.intern("alpha");
        let root = Arc::new(root);
        let mut delta = Vocabulary::over(Arc::clone(&root));
        let beta = delta.intern("beta");
        let delta = Arc::new(delta);
        let mut scratch = Vocabulary::scratch(Arc::clone(&delta));
        let gamma = scratch.intern("gamma");
        assert_eq!(
            (
                scratch.intern("alpha"),
                scratch.intern("beta"),
                scratch.get("gamma")
            ),
            (alpha, beta, Some(gamma))
        );
        assert_eq!(
            [alpha, beta, gamma].map(|w| scratch.text(w)),
            ["alpha", "beta", "gamma"]
        );
        let flat = delta.flattened();
        assert_eq!(
            (flat.get("alpha"), flat.get("beta"), flat.get("gamma")),
            (Some(alpha), Some(beta), None)
        );
        assert!(gamma.is_scratch() && !beta.is_scratch());
    }

    #[test]
    fn a_scratch_vocabulary_does_not_hide_a_word_learnt_later() {
        let root = Arc::new(Vocabulary::root());
        let mut scratch = Vocabulary::scratch(Arc::clone(&root));
        scratch.intern("late");
        let mut learnt = Vocabulary::over(root);
        learnt.intern("other");
        assert!(scratch.rebase(&Arc::new(learnt.clone())));
        learnt.intern("late");
        assert!(!scratch.rebase(&Arc::new(learnt)));
    }

    #[test]
    fn shapes_keep_frame_words_and_marks_alone() {
        let mut vocabulary = Vocabulary::root();
        let [fn_, name, number, mark] = ["fn", "größe", "42", "("].map(|w| vocabulary.intern(w));
        let frame = Frame::of([fn_]);
        let shapes = [fn_, name, number, mark].map(|w| frame.shape(w, &vocabulary));
        assert_eq!(shapes, [fn_, Word::NAME, Word::NUMBER, mark]);
    }
}
