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

const N_FACTS: usize = 23;
/// Rows: one block of [`CUTS`] for each fact.
pub(crate) const N_ROWS: usize = N_FACTS * CUTS;

/// Returns the rows of the prefix of `draft` that ends with each of its tokens.
pub(crate) fn rows(draft: &Draft, stem: usize, vocabulary: &Vocabulary) -> Vec<Vec<u16>> {
    let mut log_probability = 0.0_f32;
    let mut least = 0.0_f32;
    let (mut n_chars, mut n_word_chars, mut n_marks) = (0_usize, 0_usize, 0_usize);
    let n = draft.tokens.len();
    let mut least_support = u8::MAX;
    let mut open_brackets = draft.first.line.n_open();
    // 1 when only the end of the line was seen before, 8 and more when the whole line was.
    let n_on_line = draft.first.n_before + n;
    let support_of_line = |support: u8| {
        if usize::from(support) > n_on_line {
            8.0 + (f32::from(support) - n_on_line as f32) / 2.0
        } else {
            1.0 + f32::from(support.min(6))
        }
    };
    let prefixes = draft.tokens.iter().enumerate().map(|(at, token)| {
        let step = token.probability.max(1e-5).ln();
        log_probability += step;
        least = least.min(step);
        let length = vocabulary.text(token.word).chars().count();
        n_chars += length;
        if vocabulary.class(token.word) == Class::Mark {
            n_marks += 1;
        } else {
            n_word_chars += length;
        }
        least_support = least_support.min(token.support);
        let last = vocabulary.text(token.word);
        match last {
            "(" | "[" | "{" => open_brackets += 1,
            ")" | "]" | "}" => open_brackets -= 1,
            _ => {}
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
                (8.5 + (draft.log_probability - draft.other) * 2.5).clamp(1.0, 15.0)
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
            f32::from(least_support),
            if whole {
                support_of_line(draft.end_support[0])
            } else {
                0.0
            },
            if whole {
                support_of_line(draft.end_support[1])
            } else {
                0.0
            },
            if whole {
                (8.0 + (open_brackets as f32)).clamp(1.0, 15.0)
            } else {
                0.0
            },
            if whole { ending(last) } else { 0.0 },
        ];
        let row = |(fact, value): (usize, &f32)| {
            (fact * CUTS + (value.max(0.0) as usize).min(CUTS - 1)) as u16
        };
        facts.iter().enumerate().map(row).collect()
    });
    prefixes.collect()
}

/// Tells the kinds of line ends apart.
fn ending(last: &str) -> f32 {
    match last {
        ";" => 1.0,
        "," => 2.0,
        "{" => 3.0,
        ":" => 4.0,
        ")" => 5.0,
        "}" => 6.0,
        "]" => 7.0,
        "(" | "[" => 8.0,
        "." => 9.0,
        ">" => 10.0,
        "\"" | "'" | "`" => 11.0,
        other if other.starts_with(|c: char| c.is_alphabetic() || c == '_') => 12.0,
        other if other.starts_with(|c: char| c.is_ascii_digit()) => 13.0,
        _ => 14.0,
    }
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
