//! What may come next, and what speaks for it.
//!
//! Five sources are asked for places whose context ends like ours; the tokens that follow there
//! are the candidates. Two sources match shapes: names may differ as long as they differ
//! consistently, and the continuation is copied with our names.
//! Holds: every loop over places has a fixed budget, so a step costs microseconds on any text.
//! Not here: how much each source is believed (`features`, `net`).

use rustc_hash::FxHashMap;

use super::lex::Blanks;
use super::open_text::OpenText;
use super::segment::{DEPTH, SHAPE_DEPTH, Segment, Span, contains};
use super::vocabulary::{Class, Frame, Vocabulary, Word};
use crate::secret;

/// Returns the names that open the blocks around the end of `above`.
pub(crate) fn names_in_scope(above: &OpenText, vocabulary: &Vocabulary) -> FxHashMap<Word, u8> {
    const MOST_BLOCKS: usize = 3;
    let mut names = FxHashMap::default();
    for (far, opener) in above.block_openers().take(MOST_BLOCKS).enumerate() {
        for word in opener
            .iter()
            .filter(|word| vocabulary.class(**word) == Class::Name)
        {
            names.entry(*word).or_insert(far as u8 + 1);
        }
    }
    names
}

/// Where evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The text around the cursor, word for word.
    Here,
    /// Other open buffers and the learnt files most like this one, word for word.
    Near,
    /// Learnt files and other open buffers, word for word.
    Learnt,
    /// The text around the cursor, by shape.
    HereShape,
    /// Learnt files, by shape.
    LearntShape,
}

pub(crate) const N_SOURCES: usize = 5;

/// Context lengths whose counts are kept beside those of the longest match: the whole line so far
/// (see [`Context::line_level`]), then three, two and one token.
pub(crate) const N_LEVELS: usize = 4;

/// What one source says about one candidate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evidence {
    /// Longest context after which the candidate was seen, in tokens; 0 when it was not.
    pub(crate) longest: u8,
    /// How often it followed a context at least that long.
    pub(crate) n: u32,
    /// How often anything did.
    pub(crate) of: u32,
    /// The same for each of the [`N_LEVELS`] context lengths.
    pub(crate) levels: [(u32, u32); N_LEVELS],
    /// Tokens between the cursor and the nearest such place; 0 when unknown.
    pub(crate) distance: u32,
}

/// One token that may come next.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) word: Word,
    pub(crate) blanks: Blanks,
    pub(crate) evidence: [Evidence; N_SOURCES],
    /// Tokens since its last use in the text around the cursor.
    pub(crate) since: Option<u32>,
    /// Uses in the text above the cursor.
    pub(crate) n_uses: u32,
}

/// Everything a prediction reads.
pub(crate) struct Sources<'s> {
    pub(crate) language: usize,
    /// Names on the lines that open the blocks around the cursor, and how far out the nearest is.
    pub(crate) in_scope: FxHashMap<Word, u8>,
    pub(crate) vocabulary: &'s Vocabulary,
    pub(crate) frame: &'s Frame,
    pub(crate) above: &'s OpenText,
    pub(crate) below: &'s OpenText,
    pub(crate) open: &'s [&'s OpenText],
    pub(crate) learnt: &'s [Learnt<'s>],
}

/// A segment with what is hidden of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learnt<'s> {
    pub(crate) segment: &'s Segment,
    pub(crate) hidden: &'s [Span],
    /// Files most like the one that is written.
    pub(crate) near: &'s [Span],
}

/// The tokens before the place that is predicted.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) words: Vec<Word>,
    pub(crate) shapes: Vec<Word>,
}

impl Context {
    const LENGTH: usize = 64;

    /// Returns the end of the text above the cursor.
    pub(crate) fn before_cursor(above: &OpenText) -> Self {
        let start = above.words.len().saturating_sub(Self::LENGTH);
        Self {
            words: above.words[start..].to_vec(),
            shapes: above.shapes[start..].to_vec(),
        }
    }

    pub(crate) fn push(&mut self, word: Word, sources: &Sources<'_>) {
        self.words.push(word);
        self.shapes
            .push(sources.frame.shape(word, sources.vocabulary));
    }

    /// Returns the length of a context that reaches back to the start of the line, if that is longer than the
    /// other levels.
    fn line_level(&self) -> u8 {
        (self.line().len() + 1).clamp(4, DEPTH) as u8
    }

    /// Returns the tokens of the line before.
    pub(crate) fn line_before(&self) -> &[Word] {
        let end = self.words.len() - self.line().len();
        let before = &self.words[..end.saturating_sub(1)];
        let start = before
            .iter()
            .rposition(|word| word.is_layout())
            .map_or(0, |at| at + 1);
        &before[start..]
    }

    /// Returns the tokens of the line that is being written.
    pub(crate) fn line(&self) -> &[Word] {
        let start = self
            .words
            .iter()
            .rposition(|word| word.is_layout())
            .map_or(0, |at| at + 1);
        &self.words[start..]
    }
}

/// What the next token must agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constraint<'t> {
    Free,
    /// Blanks were typed: something follows them.
    AfterBlanks,
    /// The beginning of the word was typed.
    Stem(&'t str),
}

/// The candidates of one step with what they have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub(crate) candidates: Vec<Candidate>,
    /// Longest match of each source, in tokens.
    pub(crate) longest: [u8; N_SOURCES],
}

/// Most candidates a step returns.
pub(crate) const MAX_CANDIDATES: usize = 24;

/// A place whose context ends like ours.
#[derive(Debug, Clone, Copy)]
struct Hit {
    length: u8,
    blanks: Blanks,
    word: Word,
    distance: u32,
}

/// Collects the candidates after `context`, the best-supported first [`MAX_CANDIDATES`].
pub(crate) fn gather(sources: &Sources<'_>, context: &Context, constraint: Constraint<'_>) -> Step {
    let mut tally = Tally {
        constraint,
        vocabulary: sources.vocabulary,
        levels: [context.line_level(), 3, 2, 1],
        index: FxHashMap::default(),
        candidates: Vec::new(),
        longest: [0; N_SOURCES],
    };
    let mut hits = Vec::with_capacity(1024);
    hits_here(sources, &context.words, &mut hits);
    tally.count(Source::Here, &mut hits);
    let mut near = Vec::new();
    hits_open(sources.open, &context.words, &mut near);
    hits.extend_from_slice(&near);
    hits_learnt(sources, &context.words, &mut hits, &mut near);
    tally.count(Source::Near, &mut near);
    tally.count(Source::Learnt, &mut hits);
    hits_here_by_shape(sources, context, &mut hits);
    tally.count(Source::HereShape, &mut hits);
    hits_learnt_by_shape(sources, context, &mut hits);
    tally.count(Source::LearntShape, &mut hits);
    if let Constraint::Stem(stem) = constraint {
        tally.complete_stem(sources, stem);
    }
    let Tally {
        mut candidates,
        longest,
        ..
    } = tally;
    let n_above = sources.above.words.len() as u32;
    for candidate in &mut candidates {
        if let Some(uses) = sources.above.uses(candidate.word) {
            candidate.since = Some(n_above - uses.last);
            candidate.n_uses = uses.n;
        } else if sources.below.uses(candidate.word).is_some() {
            candidate.since = Some(n_above);
        }
    }
    if candidates.len() > MAX_CANDIDATES {
        candidates.sort_by(|a, b| promise(b).total_cmp(&promise(a)));
        candidates.truncate(MAX_CANDIDATES);
    }
    Step {
        candidates,
        longest,
    }
}

/// Ranks candidates roughly, to bound how many are scored.
fn promise(candidate: &Candidate) -> f32 {
    let best = candidate
        .evidence
        .iter()
        .map(|e| f32::from(e.longest) + e.n as f32 / e.of.max(1) as f32);
    best.fold(0.0, f32::max)
        + if candidate.since.is_some_and(|since| since < 2000) {
            0.3
        } else {
            0.0
        }
}

struct Tally<'t> {
    constraint: Constraint<'t>,
    vocabulary: &'t Vocabulary,
    levels: [u8; N_LEVELS],
    /// Where each word is among the candidates; `None` when the constraint excludes it.
    index: FxHashMap<Word, Option<usize>>,
    candidates: Vec<Candidate>,
    longest: [u8; N_SOURCES],
}

impl Tally<'_> {
    const MAX_FOUND: usize = 64;
    const MAX_FOUND_AFTER_ONE: usize = 14;

    /// Counts hits from the longest context to the shortest, and empties `hits`.
    fn count(&mut self, source: Source, hits: &mut Vec<Hit>) {
        hits.sort_unstable_by_key(|hit| (std::cmp::Reverse(hit.length), hit.distance));
        let s = source as usize;
        self.longest[s] = hits.first().map_or(0, |hit| hit.length);
        let mut of = 0;
        let mut found: Vec<(usize, u32)> = Vec::new();
        let mut counts = vec![0_u32; self.candidates.len()];
        let mut levels = self.levels.into_iter().enumerate().peekable();
        for group in hits.chunk_by(|a, b| a.length == b.length) {
            let length = group[0].length;
            while let Some((level, _)) = levels.next_if(|(_, level)| *level > length) {
                self.keep_level(s, level, &counts, of);
            }
            let n_before = found.len();
            for hit in group {
                let most = if length == 1 {
                    Self::MAX_FOUND_AFTER_ONE
                } else {
                    Self::MAX_FOUND
                };
                let Some(at) = self.find(hit, found.len() < most) else {
                    of += u32::from(self.constraint == Constraint::Free);
                    continue;
                };
                of += 1;
                if counts.len() <= at {
                    counts.resize(at + 1, 0);
                }
                counts[at] += 1;
                if counts[at] == 1 {
                    found.push((at, hit.distance));
                }
            }
            for (at, distance) in &found[n_before..] {
                let evidence = &mut self.candidates[*at].evidence[s];
                *evidence = Evidence {
                    longest: length,
                    n: counts[*at],
                    of,
                    distance: *distance,
                    ..*evidence
                };
            }
        }
        for (level, _) in levels {
            self.keep_level(s, level, &counts, of);
        }
        hits.clear();
    }

    fn keep_level(&mut self, source: usize, level: usize, counts: &[u32], of: u32) {
        for (at, candidate) in self.candidates.iter_mut().enumerate() {
            candidate.evidence[source].levels[level] = (counts.get(at).copied().unwrap_or(0), of);
        }
    }

    /// Returns the candidate a hit speaks for, adding it if `may_add`.
    fn find(&mut self, hit: &Hit, may_add: bool) -> Option<usize> {
        if self.constraint == Constraint::AfterBlanks
            && (hit.blanks.is_none() || hit.word.is_layout())
        {
            return None;
        }
        let word = hit.word.predicted();
        if let Some(known) = self.index.get(&word) {
            return *known;
        }
        if !may_add {
            return None;
        }
        let text = self.vocabulary.text(word);
        let fits = match self.constraint {
            Constraint::Stem(stem) => !word.is_layout() && text.starts_with(stem),
            Constraint::Free | Constraint::AfterBlanks => true,
        } && !secret::is_word(text);
        let at = fits.then_some(self.candidates.len());
        self.index.insert(word, at);
        if fits {
            self.add(word, hit.blanks);
        }
        at
    }

    fn add(&mut self, word: Word, blanks: Blanks) {
        self.candidates.push(Candidate {
            word,
            blanks,
            evidence: Default::default(),
            since: None,
            n_uses: 0,
        });
    }

    /// Adds names that start with the stem though nothing before them matches.
    fn complete_stem(&mut self, sources: &Sources<'_>, stem: &str) {
        const MAX_ADDED: usize = 10;
        const MAX_LOOKED_AT: usize = 3000;
        let mut names: Vec<(u64, Word)> = Vec::new();
        for (rank, text) in [sources.above, sources.below]
            .into_iter()
            .chain(sources.open.iter().copied())
            .enumerate()
        {
            let recency = |last: u32| {
                (64 - rank as u64) << 32
                    | if rank == 1 {
                        u64::from(u32::MAX - last)
                    } else {
                        u64::from(last)
                    }
            };
            let fitting = text
                .all_uses()
                .filter(|(word, _)| sources.vocabulary.text(*word).starts_with(stem));
            names.extend(fitting.map(|(word, uses)| (recency(uses.last), word)));
        }
        for learnt in sources.learnt {
            let fitting = learnt
                .segment
                .names_with(stem, sources.vocabulary)
                .take(MAX_LOOKED_AT);
            names.extend(fitting.map(|word| (u64::from(learnt.segment.uses(word)), word)));
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut n_added = 0;
        for (_, word) in names {
            if n_added == MAX_ADDED {
                break;
            }
            let is_known = self.index.insert(word, None).is_some();
            if !is_known && !secret::is_word(sources.vocabulary.text(word)) {
                self.add(word, Blanks::NONE);
                n_added += 1;
            }
        }
    }
}

/// Returns how many tokens before `place` agree with the end of `context`.
fn agreement(words: &[Word], place: usize, context: &[Word]) -> u8 {
    let pairs = words[..place]
        .iter()
        .rev()
        .zip(context.iter().rev())
        .take(DEPTH);
    pairs
        .take_while(|(a, b)| a == b && **a != Word::BOUNDARY)
        .count() as u8
}

fn hits_here(sources: &Sources<'_>, context: &[Word], hits: &mut Vec<Hit>) {
    const MAX_PLACES: usize = 1000;
    let Some(last) = context.last() else { return };
    let (above, below) = (sources.above, sources.below);
    let here = above.words.len();
    hits.extend(
        above
            .after(*last)
            .take(MAX_PLACES)
            .map(|place| hit(above, place, context, here - place)),
    );
    hits.extend(
        below
            .after(*last)
            .take(MAX_PLACES)
            .map(|place| hit(below, place, context, place)),
    );
}

fn hits_open(open: &[&OpenText], context: &[Word], hits: &mut Vec<Hit>) {
    const MAX_PLACES: usize = 500;
    let Some(last) = context.last() else { return };
    for (rank, text) in open.iter().enumerate() {
        hits.extend(
            text.after(*last)
                .take(MAX_PLACES)
                .map(|place| hit(text, place, context, rank)),
        );
    }
}

fn hit(text: &OpenText, place: usize, context: &[Word], distance: usize) -> Hit {
    Hit {
        length: agreement(&text.words, place, context),
        blanks: text.blanks[place],
        word: text.words[place],
        distance: distance as u32 + 1,
    }
}

/// Takes matches from the longest to the shortest, thinly where there are many.
fn hits_learnt(sources: &Sources<'_>, context: &[Word], hits: &mut Vec<Hit>, near: &mut Vec<Hit>) {
    const BUDGET: usize = 600;
    const MOST_OF_A_LENGTH: usize = 120;
    let mut ranges = Vec::new();
    for learnt in sources.learnt {
        let Learnt {
            segment,
            hidden,
            near: near_files,
        } = *learnt;
        segment
            .literal
            .descend(context, DEPTH, |at| segment.words[at], &mut ranges);
        let mut budget = BUDGET;
        for (at, range) in ranges.iter().enumerate().rev() {
            let deeper = ranges
                .get(at + 1)
                .cloned()
                .unwrap_or(range.start..range.start);
            let n = range.len() - deeper.len();
            let most = budget.min(MOST_OF_A_LENGTH);
            if n == 0 || most == 0 {
                continue;
            }
            budget -= n.min(most);
            let stride = n.div_ceil(most);
            for part in [range.start..deeper.start, deeper.end..range.end] {
                let places = segment
                    .literal
                    .places(part.clone())
                    .iter()
                    .zip(segment.next(part));
                for (place, word) in places.step_by(stride) {
                    if *word == Word::BOUNDARY || contains(hidden, *place) {
                        continue;
                    }
                    let blanks = segment.blanks[*place as usize];
                    let hit = Hit {
                        length: at as u8 + 1,
                        blanks,
                        word: *word,
                        distance: 0,
                    };
                    hits.push(hit);
                    if contains(near_files, *place) {
                        near.push(hit);
                    }
                }
            }
        }
    }
}

/// Names at a matching place and the names that stand for them here.
type Renaming = Vec<(Word, Word)>;

/// Matches the context of a place by shape, as far as names can be renamed consistently.
///
/// Returns the length of the match; `renaming` maps names there to names here.
fn agreement_by_shape(
    token: impl Fn(usize) -> (Word, Word),
    place: usize,
    context: &Context,
    renaming: &mut Renaming,
) -> u8 {
    renaming.clear();
    let ours = context
        .words
        .iter()
        .zip(&context.shapes)
        .rev()
        .take(SHAPE_DEPTH);
    let mut length = 0;
    for (at, (word, shape)) in (0..place).rev().zip(ours) {
        let (their_word, their_shape) = token(at);
        if their_shape != *shape || their_word == Word::BOUNDARY {
            break;
        }
        if *shape == Word::NAME {
            match renaming
                .iter()
                .find(|(theirs, ours)| *theirs == their_word || ours == word)
            {
                Some((theirs, ours)) if *theirs != their_word || ours != word => break,
                Some(_) => {}
                None => renaming.push((their_word, *word)),
            }
        }
        length += 1;
    }
    length
}

/// Returns our token for theirs, if it is syntax or was renamed.
fn renamed(word: Word, shape: Word, renaming: &Renaming) -> Option<Word> {
    if shape != Word::NAME {
        return Some(word);
    }
    renaming
        .iter()
        .find(|(theirs, _)| *theirs == word)
        .map(|(_, ours)| *ours)
}

/// Shorter matches by shape say nothing.
const LEAST_BY_SHAPE: u8 = 3;

fn last_shapes(context: &Context) -> Option<(Word, Word)> {
    match context.shapes[..] {
        [.., before, last] => Some((before, last)),
        _ => None,
    }
}

fn hits_here_by_shape(sources: &Sources<'_>, context: &Context, hits: &mut Vec<Hit>) {
    const MAX_PLACES: usize = 400;
    let Some(pair) = last_shapes(context) else {
        return;
    };
    let mut renaming = Renaming::new();
    let here = sources.above.words.len();
    for (text, is_above) in [(sources.above, true), (sources.below, false)] {
        for place in text.after_shapes(pair).take(MAX_PLACES) {
            let length = agreement_by_shape(
                |at| (text.words[at], text.shapes[at]),
                place,
                context,
                &mut renaming,
            );
            if length < LEAST_BY_SHAPE || text.words[place] == Word::BOUNDARY {
                continue;
            }
            if let Some(word) = renamed(text.words[place], text.shapes[place], &renaming) {
                let distance = if is_above { here - place } else { place } as u32 + 1;
                hits.push(Hit {
                    length,
                    blanks: text.blanks[place],
                    word,
                    distance,
                });
            }
        }
    }
}

fn hits_learnt_by_shape(sources: &Sources<'_>, context: &Context, hits: &mut Vec<Hit>) {
    const MOST_OF_A_LENGTH: usize = 60;
    const ENOUGH: usize = 100;
    let mut ranges = Vec::new();
    let mut renaming = Renaming::new();
    for learnt in sources.learnt {
        let Learnt {
            segment, hidden, ..
        } = *learnt;
        let shape = |at: usize| sources.frame.shape(segment.words[at], sources.vocabulary);
        segment
            .shapes
            .descend(&context.shapes, SHAPE_DEPTH, shape, &mut ranges);
        let mut n_seen = 0;
        for at in (LEAST_BY_SHAPE as usize..ranges.len()).rev() {
            let range = &ranges[at];
            let deeper = ranges
                .get(at + 1)
                .cloned()
                .unwrap_or(range.start..range.start);
            for part in [range.start..deeper.start, deeper.end..range.end] {
                for place in segment.shapes.places(part).iter().take(MOST_OF_A_LENGTH) {
                    n_seen += 1;
                    let at = *place as usize;
                    if contains(hidden, *place) || segment.words[at] == Word::BOUNDARY {
                        continue;
                    }
                    let length = agreement_by_shape(
                        |at| (segment.words[at], shape(at)),
                        at,
                        context,
                        &mut renaming,
                    );
                    if length < LEAST_BY_SHAPE {
                        continue;
                    }
                    if let Some(word) = renamed(segment.words[at], shape(at), &renaming) {
                        hits.push(Hit {
                            length,
                            blanks: segment.blanks[at],
                            word,
                            distance: 1,
                        });
                    }
                }
            }
            if n_seen > ENOUGH {
                break;
            }
        }
    }
}
