//! The text around a cursor as tokens, kept from one request to the next.
//!
//! Holds: at most [`WINDOW_ABOVE`] and [`WINDOW_BELOW`] bytes are read, and only what changed since
//! the last request of the same file is read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::Task;
use super::evidence::{Constraint, Context};
use super::lex::{lexemes, stem_start};
use super::open_text::OpenText;
use super::snapshot::{Shard, Snapshot};
use super::vocabulary::{Frame, Vocabulary, Word};

/// Bytes before the cursor that are read.
pub const WINDOW_ABOVE: usize = 128 * 1024;

/// Bytes after the cursor that are read.
pub const WINDOW_BELOW: usize = 32 * 1024;

/// Longest part of the cursor's line that is read.
const LONGEST_LINE: usize = 4 * 1024;

/// Tokens behind the cursor on its line that a suggestion must lead to.
const MAX_REST: usize = 8;

/// Tokens of one file around the cursor.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) path: PathBuf,
    frame: Arc<Frame>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) above: OpenText,
    pub(crate) below: OpenText,
}

/// A cursor's place in its text, split where it matters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'t> {
    /// Text above and on the cursor's line, without the word being typed.
    above: &'t str,
    pub(crate) stem: &'t str,
    after_blanks: bool,
    /// The cursor's line behind the cursor.
    rest: &'t str,
    below: &'t str,
}

impl<'t> Cursor<'t> {
    /// Splits the text before and after a cursor; `None` inside a word or on an endless line.
    pub(crate) fn new(before: &'t str, after: &'t str) -> Option<Self> {
        let (rest, below) = after.split_once('\n').unwrap_or((after, ""));
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = &before[line_start..];
        let stem_at = stem_start(line);
        let (head, stem) = line.split_at(stem_at);
        let in_word = !stem.is_empty() && rest.starts_with(super::lex::is_word_char);
        if line.len() > LONGEST_LINE || rest.len() > LONGEST_LINE || in_word {
            return None;
        }
        let blank_head = head.trim_start_matches([' ', '\t']).is_empty();
        let after_blanks = stem.is_empty() && !blank_head && head.ends_with([' ', '\t']);
        let above = &before[..line_start + stem_at];
        let mut start = 0;
        if above.len() > WINDOW_ABOVE {
            let snapped =
                (above.len() - WINDOW_ABOVE / 2) / (WINDOW_ABOVE / 2) * (WINDOW_ABOVE / 2);
            let from = above.floor_char_boundary(snapped);
            start = above[from..]
                .find('\n')
                .map_or(line_start, |at| (from + at + 1).min(line_start));
        }
        let below = &below[..below.floor_char_boundary(WINDOW_BELOW)];
        Some(Self {
            above: &above[start..],
            stem,
            after_blanks,
            rest,
            below,
        })
    }

    pub(crate) fn constraint(&self) -> Constraint<'t> {
        match (self.stem, self.after_blanks) {
            ("", false) => Constraint::Free,
            ("", true) => Constraint::AfterBlanks,
            (stem, _) => Constraint::Stem(stem),
        }
    }
}

impl Reading {
    pub(crate) fn new(path: &Path, snapshot: &Snapshot, shard: &Shard) -> Self {
        Self {
            path: path.to_owned(),
            frame: Arc::clone(&shard.frame),
            vocabulary: Vocabulary::scratch(Arc::clone(&snapshot.vocabulary)),
            above: OpenText::new(),
            below: OpenText::new(),
        }
    }

    /// Brings the tokens to the cursor and says what is to be completed there.
    pub(crate) fn sync<'t>(
        &mut self,
        cursor: &Cursor<'t>,
        snapshot: &Snapshot,
        shard: &Shard,
    ) -> Task<'t> {
        const MOST_WORDS: usize = 20_000;
        let known = self
            .vocabulary
            .parent()
            .is_some_and(|parent| Arc::ptr_eq(parent, &snapshot.vocabulary));
        let is_current =
            Arc::ptr_eq(&self.frame, &shard.frame) && self.vocabulary.n_own() < MOST_WORDS;
        if !is_current || !(known || self.vocabulary.rebase(&snapshot.vocabulary)) {
            *self = Self::new(&self.path, snapshot, shard);
        }
        self.above
            .sync(cursor.above, &mut self.vocabulary, &shard.frame);
        if self.below.text() != cursor.below {
            self.below.sync("", &mut self.vocabulary, &shard.frame);
            self.below
                .sync(cursor.below, &mut self.vocabulary, &shard.frame);
        }
        let rest = lexemes(cursor.rest.trim_start())
            .take(MAX_REST)
            .map(|lexeme| self.vocabulary.intern(lexeme.text));
        let rest: Vec<Word> = rest.collect();
        Task {
            context: Context::before_cursor(&self.above),
            constraint: cursor.constraint(),
            rest,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.above.bytes() + self.below.bytes() + self.vocabulary.n_own() * 48
    }
}
