//! What the network is told about a candidate: a handful of rows of one table of weights.
//!
//! Every fact is a small number of cases, and each case is one row, so that a prediction adds up
//! rows and the fit needs no scaling. Rows are numbered here; what they weigh is data (`net`).

use super::evidence::{
    Candidate, Constraint, Context, Evidence, N_LEVELS, N_SOURCES, Source, Sources, Step,
};
use super::vocabulary::{Class, Vocabulary, Word};

/// A block of rows, one for each combination of four small numbers.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    sizes: [usize; 4],
}

impl Block {
    const fn first(sizes: [usize; 4]) -> Self {
        Self { first: 0, sizes }
    }

    const fn then(self, sizes: [usize; 4]) -> Self {
        Self {
            first: self.end(),
            sizes,
        }
    }

    const fn end(self) -> usize {
        self.first + self.sizes[0] * self.sizes[1] * self.sizes[2] * self.sizes[3]
    }

    fn row(self, at: [usize; 4]) -> u16 {
        let [_, b, c, d] = self.sizes;
        debug_assert!(
            at.iter().zip(self.sizes).all(|(at, size)| *at < size),
            "{at:?} outside {:?}",
            self.sizes
        );
        (self.first + ((at[0] * b + at[1]) * c + at[2]) * d + at[3]) as u16
    }
}

const LENGTHS: usize = 10;
const SHARES: usize = 7;
const TOTALS: usize = 5;
const GAPS: usize = 6;
const DISTANCES: usize = 8;
const KINDS: usize = 12;
const CLASSES: usize = 5;
const CASES: usize = 7;
const COUNTS: usize = 6;
pub(crate) const N_LANGUAGES: usize = 11;

const EVIDENCE: Block = Block::first([N_SOURCES, LENGTHS, SHARES, TOTALS]);
const GAP: Block = EVIDENCE.then([N_SOURCES, GAPS, LENGTHS, 1]);
const LEVEL: Block = GAP.then([N_SOURCES * N_LEVELS, SHARES, TOTALS, 4]);
const RECENCY: Block = LEVEL.then([CLASSES, DISTANCES, COUNTS, 1]);
const AGREEMENT: Block = RECENCY.then([N_SOURCES + 1, N_SOURCES + 1, 1, 1]);
const PAIR: Block = AGREEMENT.then([6, LENGTHS, LENGTHS, 1]);
const DISTANCE: Block = PAIR.then([2, LENGTHS, DISTANCES, 1]);
const SYNTAX: Block = DISTANCE.then([KINDS, 5, 2, 2]);
const SUCCESSION: Block = SYNTAX.then([KINDS, KINDS, 4, 1]);
const REPEATED: Block = SUCCESSION.then([CLASSES, 2, 2, 1]);
const CASE: Block = REPEATED.then([CASES, KINDS, 2, 1]);
const STEM: Block = CASE.then([5, 6, COUNTS, 2]);
const LINE_START: Block = STEM.then([KINDS, 6, 2, 1]);
const NONE: Block = LINE_START.then([N_SOURCES, LENGTHS, 1, 1]);
const NONE_AFTER: Block = NONE.then([KINDS, 8, 1, 1]);
const SHARED_LONGEST: Block = NONE_AFTER.then([N_SOURCES, LENGTHS, 1, 1]);
const SHARED_LINE: Block = SHARED_LONGEST.then([KINDS, 5, 2, 2]);
const SHARED_PLACE: Block = SHARED_LINE.then([8, 8, 1, 1]);
const SHARED_LANGUAGE: Block = SHARED_PLACE.then([N_LANGUAGES, 1, 1, 1]);
const LANGUAGE: Block = SHARED_LANGUAGE.then([N_LANGUAGES, KINDS, KINDS, 1]);
const NEIGHBOURS: Block = LANGUAGE.then([CLASSES, 3, 3, 4]);
const SCOPE: Block = NEIGHBOURS.then([KINDS, 4, 4, 1]);

/// Number of rows.
pub(crate) const N_ROWS: usize = SCOPE.end();

/// What kind of token a candidate is, finer than its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    EndOfLine,
    /// Closes the innermost bracket of this line.
    Closing,
    ClosingOther,
    Semicolon,
    Comma,
    Opening,
    Quote,
    Colon,
    Dot,
    OtherMark,
    Name,
    Number,
}

/// Brackets, quotes and comments on the line so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct LineState {
    /// Bracket that would close the innermost open one; 0 when none is open.
    closing: u8,
    /// 0 when something was closed that this line did not open, else 1 + open brackets, at most 4.
    depth: usize,
    in_quotes: bool,
    in_comment: bool,
    n_tokens: usize,
}

impl LineState {
    pub(crate) fn of(line: &[Word], vocabulary: &Vocabulary) -> Self {
        let mut open: Vec<u8> = Vec::new();
        let mut closed_outer = false;
        let mut quote = 0;
        let mut head = String::new();
        for (at, word) in line.iter().enumerate() {
            let text = vocabulary.text(*word);
            if at < 2 {
                head.push_str(text);
            }
            let &[mark] = text.as_bytes() else { continue };
            match mark {
                _ if mark == quote => quote = 0,
                _ if quote != 0 => {}
                b'"' | b'`' => quote = mark,
                b'(' => open.push(b')'),
                b'[' => open.push(b']'),
                b'{' => open.push(b'}'),
                b')' | b']' | b'}' => closed_outer |= open.pop().is_none(),
                _ => {}
            }
        }
        let hash_code = ["#[", "#i", "#d", "#e", "#!", "#u", "#p"]
            .iter()
            .any(|code| head.starts_with(code));
        Self {
            closing: open.last().copied().unwrap_or(0),
            depth: if open.is_empty() {
                usize::from(!closed_outer)
            } else {
                (1 + open.len()).min(4)
            },
            in_quotes: quote != 0,
            in_comment: ["//", "/*", "*", "--", ";;"]
                .iter()
                .any(|mark| head.starts_with(mark))
                || head.starts_with('#') && !hash_code,
            n_tokens: line.len(),
        }
    }

    /// Returns how many brackets are open on the line, negative when more were closed.
    pub(crate) fn n_open(&self) -> i32 {
        self.depth as i32 - 1
    }

    /// Returns one small number for depth, quotes and comment, below 15.
    pub(crate) fn summary(&self) -> usize {
        match (self.in_comment, self.in_quotes) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2 + self.depth * 2 + usize::from(self.n_tokens > 0),
        }
    }

    fn kind(&self, word: Word, vocabulary: &Vocabulary) -> Kind {
        match vocabulary.class(word) {
            Class::Layout => Kind::EndOfLine,
            Class::Name => Kind::Name,
            Class::Number => Kind::Number,
            Class::Mark => match vocabulary.text(word).as_bytes() {
                [b')' | b']' | b'}'] if vocabulary.text(word).as_bytes() == [self.closing] => {
                    Kind::Closing
                }
                [b')' | b']' | b'}'] => Kind::ClosingOther,
                [b';'] => Kind::Semicolon,
                [b','] => Kind::Comma,
                [b'(' | b'[' | b'{'] => Kind::Opening,
                [b'"' | b'\'' | b'`'] => Kind::Quote,
                [b':'] => Kind::Colon,
                [b'.'] => Kind::Dot,
                _ => Kind::OtherMark,
            },
        }
    }
}

/// What all candidates of a step have in common.
pub(crate) struct Setting<'s> {
    pub(crate) step: &'s Step,
    pub(crate) line: LineState,
    previous: Word,
    previous_kind: Kind,
    /// The layout token that opened the line.
    opening: Word,
    stem: usize,
    before: &'s [Word],
    tokens: &'s [Word],
    sources: &'s Sources<'s>,
    vocabulary: &'s Vocabulary,
}

impl<'s> Setting<'s> {
    pub(crate) fn new(
        step: &'s Step,
        context: &'s Context,
        constraint: Constraint<'_>,
        sources: &'s Sources<'s>,
    ) -> Self {
        let vocabulary = sources.vocabulary;
        let tokens = context.line();
        let line = LineState::of(tokens, vocabulary);
        let previous = context.words.last().copied().unwrap_or(Word::BOUNDARY);
        let opening = context
            .words
            .len()
            .checked_sub(tokens.len() + 1)
            .map_or(Word::BOUNDARY, |at| context.words[at]);
        let previous_kind = line.kind(previous, vocabulary);
        let stem = match constraint {
            Constraint::Stem(stem) => stem.chars().count(),
            Constraint::Free | Constraint::AfterBlanks => 0,
        };
        Self {
            step,
            line,
            previous,
            previous_kind,
            opening,
            stem,
            before: context.line_before(),
            tokens,
            sources,
            vocabulary,
        }
    }

    /// Rows that every candidate shares.
    pub(crate) fn shared(&self, rows: &mut Vec<u16>) {
        rows.clear();
        for (source, longest) in self.step.longest.iter().enumerate() {
            rows.push(SHARED_LONGEST.row([source, length_case(*longest), 0, 0]));
        }
        let LineState {
            depth,
            in_quotes,
            in_comment,
            n_tokens,
            ..
        } = self.line;
        rows.push(SHARED_LINE.row([
            self.previous_kind as usize,
            depth,
            in_quotes.into(),
            in_comment.into(),
        ]));
        rows.push(SHARED_PLACE.row([n_tokens.min(7), self.stem.min(7), 0, 0]));
        rows.push(SHARED_LANGUAGE.row([self.sources.language, 0, 0, 0]));
    }

    /// Rows of one candidate.
    pub(crate) fn candidate(&self, candidate: &Candidate, rows: &mut Vec<u16>) {
        rows.clear();
        let mut n_agree = 0;
        let mut n_seen = 0;
        for (s, evidence) in candidate.evidence.iter().enumerate() {
            let Evidence {
                longest,
                n,
                of,
                levels,
                ..
            } = *evidence;
            rows.push(EVIDENCE.row([s, length_case(longest), share_case(n, of), total_case(of)]));
            let best = self.step.longest[s];
            let gap = usize::from(best.saturating_sub(longest)).min(GAPS - 1);
            rows.push(GAP.row([s, gap, length_case(best), 0]));
            n_agree += usize::from(longest > 0 && gap == 0);
            n_seen += usize::from(longest > 0);
            for (level, (n, of)) in levels.iter().enumerate() {
                let at = [
                    s * N_LEVELS + level,
                    share_case(*n, *of),
                    total_case(*of),
                    best.min(3).into(),
                ];
                rows.push(LEVEL.row(at));
            }
        }
        rows.push(AGREEMENT.row([n_agree, n_seen, 0, 0]));
        let word = candidate.word;
        let class = self.vocabulary.class(word) as usize;
        let since = candidate.since.map_or(DISTANCES - 1, distance_case);
        rows.push(RECENCY.row([class, since, count_case(candidate.n_uses), 0]));
        let length = |source: Source| length_case(candidate.evidence[source as usize].longest);
        let pairs = [
            (Source::Here, Source::Learnt),
            (Source::HereShape, Source::Here),
            (Source::LearntShape, Source::Learnt),
            (Source::Near, Source::Here),
            (Source::HereShape, Source::LearntShape),
            (Source::Near, Source::Learnt),
        ];
        for (at, (a, b)) in pairs.into_iter().enumerate() {
            rows.push(PAIR.row([at, length(a), length(b), 0]));
        }
        for (at, source) in [Source::Here, Source::HereShape].into_iter().enumerate() {
            let distance = candidate.evidence[source as usize].distance;
            let case = if distance == 0 {
                DISTANCES - 1
            } else {
                distance_case(distance)
            };
            rows.push(DISTANCE.row([at, length(source), case, 0]));
        }
        let kind = self.line.kind(word, self.vocabulary) as usize;
        let LineState {
            depth,
            in_quotes,
            in_comment,
            ..
        } = self.line;
        rows.push(SYNTAX.row([kind, depth, in_quotes.into(), in_comment.into()]));
        let longest = self.step.longest[Source::Here as usize]
            .max(self.step.longest[Source::Learnt as usize]);
        rows.push(SUCCESSION.row([
            kind,
            self.previous_kind as usize,
            usize::from(longest / 2).min(3),
            0,
        ]));
        let blank = usize::from(!candidate.blanks.is_none());
        rows.push(REPEATED.row([class, usize::from(word == self.previous), blank, 0]));
        let text = self.vocabulary.text(word);
        rows.push(CASE.row([
            case_of(text),
            self.previous_kind as usize,
            in_quotes.into(),
            0,
        ]));
        rows.push(LANGUAGE.row([self.sources.language, kind, self.previous_kind as usize, 0]));
        let n_on_line = self
            .tokens
            .iter()
            .filter(|token| **token == word)
            .count()
            .min(2);
        let n_before = self
            .before
            .iter()
            .filter(|token| **token == word)
            .count()
            .min(2);
        let at = self.tokens.len();
        let mut aligned = 0;
        if self.before.get(at) == Some(&word) {
            aligned = 1;
            if at > 0 && self.before[at - 1] == self.previous {
                aligned = 2;
            }
        } else if at > 0
            && self
                .before
                .windows(2)
                .any(|pair| pair == [self.previous, word])
        {
            aligned = 3;
        }
        rows.push(NEIGHBOURS.row([class, n_on_line, n_before, aligned]));
        let scope = self
            .sources
            .in_scope
            .get(&word)
            .map_or(0, |far| usize::from(*far));
        rows.push(SCOPE.row([
            self.previous_kind as usize,
            scope,
            (candidate.n_uses as usize).min(3),
            0,
        ]));
        if self.stem > 0 {
            let left = text.chars().count().saturating_sub(self.stem).min(5);
            let seen = usize::from(n_seen > 0);
            rows.push(STEM.row([self.stem.min(4), left, count_case(candidate.n_uses), seen]));
        }
        if self.line.n_tokens == 0 {
            rows.push(LINE_START.row([kind, self.opening.index().min(5), blank, 0]));
        }
    }

    /// Rows of "none of these".
    pub(crate) fn none(&self, rows: &mut Vec<u16>) {
        rows.clear();
        for (s, longest) in self.step.longest.iter().enumerate() {
            rows.push(NONE.row([s, length_case(*longest), 0, 0]));
        }
        rows.push(NONE_AFTER.row([self.previous_kind as usize, self.stem.min(7), 0, 0]));
    }
}

fn length_case(length: u8) -> usize {
    match length {
        0..=4 => length.into(),
        5 | 6 => 5,
        7..=9 => 6,
        10..=14 => 7,
        15..=20 => 8,
        _ => 9,
    }
}

fn share_case(n: u32, of: u32) -> usize {
    let share = if of == 0 { 0.0 } else { n as f32 / of as f32 };
    match share {
        s if s > 0.999 => 6,
        s if s > 0.9 => 5,
        s if s > 0.6 => 4,
        s if s > 0.3 => 3,
        s if s > 0.1 => 2,
        s if s > 0.03 => 1,
        _ => 0,
    }
}

fn total_case(of: u32) -> usize {
    match of {
        0 => 0,
        1 => 1,
        2 | 3 => 2,
        4..=10 => 3,
        _ => 4,
    }
}

fn distance_case(distance: u32) -> usize {
    match distance {
        0..=15 => 0,
        16..=63 => 1,
        64..=255 => 2,
        256..=1023 => 3,
        1024..=4095 => 4,
        4096..=16383 => 5,
        _ => 6,
    }
}

fn count_case(n: u32) -> usize {
    match n {
        0..=3 => n as usize,
        4..=9 => 4,
        _ => 5,
    }
}

/// How a name is written.
fn case_of(text: &str) -> usize {
    let has = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
    let first_is_upper = text.as_bytes().first().is_some_and(u8::is_ascii_uppercase);
    match (
        has(u8::is_ascii_lowercase),
        has(u8::is_ascii_uppercase),
        text.contains('_'),
    ) {
        (true, false, false) => 1,
        (true, false, true) => 2,
        (true, true, _) if first_is_upper => 3,
        (true, true, _) => 4,
        (false, true, _) => 5,
        (false, false, _) if has(u8::is_ascii_digit) => 6,
        (false, false, _) => 0,
    }
}
