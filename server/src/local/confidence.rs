//! How sure to be of a line: the probability that a user would keep it as it is.
//!
//! The search's own probability is not that: it does not know when its sources know nothing. A
//! small network over a few facts of the finished search is fitted on held-out files, where it is
//! known what came next. Each prefix of the line that ends with a token gets its own value, so that
//! a caller can cut where it falls below a gate.

use super::decode::Draft;
use super::net::Net;
use super::vocabulary::{Class, Vocabulary};

const CUTS: usize = 16;

const N_FACTS: usize = 18;
/// Rows: one block of [`CUTS`] for each fact.
pub(crate) const N_ROWS: usize = N_FACTS * CUTS;

/// Returns the rows of the prefix of `draft` that ends with each of its tokens.
pub(crate) fn rows(draft: &Draft, stem: usize, vocabulary: &Vocabulary) -> Vec<Vec<u16>> {
    let mut log_probability = 0.0_f32;
    let mut least = 0.0_f32;
    let (mut n_chars, mut n_word_chars, mut n_marks) = (0_usize, 0_usize, 0_usize);
    let n = draft.tokens.len();
    let prefixes = draft.tokens.iter().enumerate().map(|(at, token)| {
        let step = token.probability.max(1e-5).ln();
        log_probability += step;
        least = least.min(step);
        let length = vocabulary.text(token.word).chars().count();
        n_chars += length;
        if vocabulary.class(token.word) == Class::Mark {
            n_marks += 1
        } else {
            n_word_chars += length
        }
        let n_tokens = (at + 1) as f32;
        let whole = at + 1 == n && draft.finished;
        let total = if whole {
            draft.log_probability
        } else {
            log_probability
        };
        let first = &draft.first;
        let facts: [f32; N_FACTS] = [
            (-total).sqrt() * 5.0,
            (-total / n_tokens).sqrt() * 9.0,
            n_tokens,
            (-least).sqrt() * 6.0,
            (-step).sqrt() * 6.0,
            (-first.best_probability.max(1e-4).ln()).sqrt() * 6.0,
            stem as f32,
            (n_chars as f32).sqrt() * 2.0,
            n_word_chars as f32 / n_chars.max(1) as f32 * 10.0,
            if whole {
                8.0 + (draft.log_probability - draft.runner_up).clamp(0.0, 3.5) * 2.0
            } else {
                0.0
            },
            f32::from(first.longest[0]),
            f32::from(first.longest[1]),
            f32::from(first.longest[2]),
            f32::from(first.longest[3]) / 2.0,
            f32::from(first.longest[4]) / 2.0,
            first.line.summary() as f32,
            n_marks as f32,
            first.end_probability.sqrt() * 10.0 + if whole { 0.0 } else { 0.5 },
        ];
        let row = |(fact, value): (usize, &f32)| {
            (fact * CUTS + (value.max(0.0) as usize).min(CUTS - 1)) as u16
        };
        facts.iter().enumerate().map(row).collect()
    });
    prefixes.collect()
}

/// Returns the confidence in each prefix of `draft`.
pub(crate) fn confidences(
    draft: &Draft,
    stem: usize,
    vocabulary: &Vocabulary,
    net: &Net,
) -> Vec<f32> {
    let scores = rows(draft, stem, vocabulary).into_iter().map(|rows| {
        let mut sum = net.start();
        net.add(&mut sum, &rows);
        1.0 / (1.0 + (-net.score(&sum)).exp())
    });
    scores.collect()
}
