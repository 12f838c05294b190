//! What the fit of the weights reads: the facts at places where it is known what comes next.
//!
//! The program that fits lies with the benches; nothing in the server calls this.

use super::decode::decode;
use super::evidence::{Constraint, gather};
use super::features::Setting;
use super::lex::lexemes;
use super::vocabulary::{Class, Word};
use super::{Engine, Request, confidence};

/// One step of the search, and what was right.
#[derive(Debug, Clone)]
pub struct StepExample {
    pub shared: Vec<u16>,
    /// Rows of each candidate, and last those of "none of these".
    pub candidates: Vec<Vec<u16>>,
    /// The candidate that was right; the last when none was.
    pub right: usize,
}

/// One prefix of a suggestion, and whether it was right.
#[derive(Debug, Clone)]
pub struct PrefixExample {
    pub rows: Vec<u16>,
    pub is_right: bool,
    /// Whether this is a whole line.
    pub is_whole: bool,
}

impl Engine {
    /// Walks the tokens of `rest`, which follows the request's cursor, and returns every step.
    ///
    /// `stem_of(letters)` says how many letters of a word are already typed at its step.
    pub fn step_examples(
        &self,
        request: &Request<'_>,
        rest: &str,
        mut stem_of: impl FnMut(usize) -> usize,
    ) -> Vec<StepExample> {
        let examples = self.with_sources(request, |task, _, sources| {
            let mut examples = Vec::new();
            let mut context = task.context.clone();
            let vocabulary = sources.vocabulary;
            let mut lexemes = lexemes(rest.trim_start());
            loop {
                let lexeme = lexemes.next();
                let text = lexeme.map_or("", |lexeme| lexeme.text);
                let right = match lexeme {
                    Some(_) => vocabulary.get(text),
                    None => Some(Word::END_OF_LINE),
                };
                let letters = text.chars().count();
                let n_typed = if letters > 1
                    && right.is_none_or(|word| vocabulary.class(word) == Class::Name)
                {
                    stem_of(letters).min(letters)
                } else {
                    0
                };
                let stem = text
                    .char_indices()
                    .nth(n_typed)
                    .map_or(text.len(), |(at, _)| at);
                let blanks_typed = examples.len() % 2 == 1
                    && lexeme.is_some_and(|lexeme| !lexeme.blanks.is_none());
                let constraint = match stem {
                    0 if blanks_typed => Constraint::AfterBlanks,
                    0 => Constraint::Free,
                    stem => Constraint::Stem(&text[..stem]),
                };
                let step = gather(sources, &context, constraint);
                let setting = Setting::new(&step, &context, constraint, sources);
                let mut rows = Vec::new();
                let mut candidates = Vec::new();
                for candidate in &step.candidates {
                    setting.candidate(candidate, &mut rows);
                    candidates.push(rows.clone());
                }
                setting.none(&mut rows);
                candidates.push(rows.clone());
                setting.shared(&mut rows);
                let at = step
                    .candidates
                    .iter()
                    .position(|candidate| Some(candidate.word) == right);
                examples.push(StepExample {
                    shared: rows.clone(),
                    right: at.unwrap_or(candidates.len() - 1),
                    candidates,
                });
                match right {
                    Some(Word::END_OF_LINE) => return Some(examples),
                    Some(word) => context.push(word, sources),
                    None => context.push(Word::NAME, sources),
                }
            }
        });
        examples.unwrap_or_default()
    }

    /// Suggests at the request's cursor and judges every prefix by `rest`, the true rest of the line.
    pub fn prefix_examples(&self, request: &Request<'_>, rest: &str) -> Vec<PrefixExample> {
        let examples = self.with_sources(request, |task, cursor, sources| {
            let mut examples = Vec::new();
            for draft in decode(task, sources, &self.shared.weights.mixing) {
                let rows =
                    confidence::rows(&draft, cursor.stem.chars().count(), sources.vocabulary);
                let n = rows.len();
                let Some(suggestion) = super::render(&draft, &vec![0.0; n], cursor, sources) else {
                    continue;
                };
                examples.extend(rows.into_iter().zip(&suggestion.prefixes).enumerate().map(
                    |(at, (rows, prefix))| {
                        let is_whole = at + 1 == n && draft.finished;
                        let text = &suggestion.text[..prefix.end];
                        PrefixExample {
                            rows,
                            is_right: if is_whole {
                                text == rest
                            } else {
                                begins_with(rest, text)
                            },
                            is_whole,
                        }
                    },
                ));
            }
            Some(examples)
        });
        examples.unwrap_or_default()
    }
}

/// Returns whether `text` begins with `start`, which does not end within one of its words.
pub fn begins_with(text: &str, start: &str) -> bool {
    let Some(left) = text.strip_prefix(start) else {
        return false;
    };
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    !(left.starts_with(is_word) && start.ends_with(is_word))
}
