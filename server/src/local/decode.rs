//! From the cursor to the most probable rest of the line.
//!
//! Best-first over tokens: the most probable unfinished line is continued by its most probable
//! next tokens until the most probable line of all is finished. Text that already stands behind
//! the cursor on its line must come out at the end, and is not written again.
//! Holds: at most [`MAX_STEPS`] steps, whatever the text.

use std::sync::Arc;

use super::evidence::{Candidate, Constraint, Context, N_SOURCES, Source, Sources, Step, gather};
use super::features::{LineState, Setting};
use super::lex::Blanks;
use super::net::Net;
use super::vocabulary::Word;

/// Most steps for one suggestion; with this many the probable lines have long been found.
const MAX_STEPS: usize = 40;
const MAX_TOKENS: usize = 45;
/// Continuations of one line that are followed.
const MAX_BRANCHES: usize = 4;
const LEAST_PROBABILITY: f32 = 1e-4;
const LEAST_LOG_PROBABILITY: f32 = -9.0;
/// Probability of text that is already there where the sources did not expect it.
const UNEXPECTED: f32 = 0.02;

/// What is completed.
pub(crate) struct Task<'t> {
    pub(crate) context: Context,
    pub(crate) constraint: Constraint<'t>,
    /// Tokens that already stand behind the cursor on its line.
    pub(crate) rest: Vec<Word>,
}

/// One token of a line that may be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token {
    pub(crate) word: Word,
    pub(crate) blanks: Blanks,
    pub(crate) probability: f32,
    /// Longest match, word for word, that it continues.
    pub(crate) support: u8,
}

/// A line, and how the search for it went.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) tokens: Vec<Token>,
    /// Whether the end of the line was reached.
    pub(crate) finished: bool,
    pub(crate) log_probability: f32,
    /// Log probability of the most probable other line; very low when there was none.
    pub(crate) other: f32,
    /// Longest match at the end of the line: in the text around the cursor, in learnt files.
    pub(crate) end_support: [u8; 2],
    pub(crate) first: Arc<FirstStep>,
}

/// What the first step saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstStep {
    pub(crate) longest: [u8; N_SOURCES],
    pub(crate) best_probability: f32,
    pub(crate) end_probability: f32,
    pub(crate) line: LineState,
    /// Tokens on the line before the cursor.
    pub(crate) n_before: usize,
}

#[derive(Debug, Clone)]
struct Line {
    tokens: Vec<Token>,
    log_probability: f32,
    /// How many tokens of the rest have come out.
    n_rest: usize,
    /// Support of the end, once it is reached.
    end: Option<[u8; 2]>,
}

/// Most finished lines that are weighed against each other.
const MOST_DRAFTS: usize = 2;

/// How much less probable than the best a line may be to be weighed, as a difference of logarithms.
const LARGEST_GAP: f32 = 1.0;

/// Returns the most probable non-empty lines, best first; one unfinished line if the search ended early.
pub(crate) fn decode(task: &Task<'_>, sources: &Sources<'_>, net: &Net) -> Vec<Draft> {
    let mut open = vec![Line {
        tokens: Vec::new(),
        log_probability: 0.0,
        n_rest: 0,
        end: None,
    }];
    let mut finished: Vec<Line> = Vec::new();
    let mut given_up: Option<Line> = None;
    let mut first = FirstStep::default();
    let mut scorer = Scorer::default();
    let mut n_steps = 0;
    while let Some(line) = take_best(&mut open) {
        let far_behind = finished
            .first()
            .is_some_and(|best| line.log_probability < best.log_probability - LARGEST_GAP);
        let hopeless =
            line.log_probability < LEAST_LOG_PROBABILITY || line.tokens.len() > MAX_TOKENS;
        if far_behind || hopeless || n_steps == MAX_STEPS {
            given_up = Some(line);
            break;
        }
        if line.end.is_some() {
            finished.push(line);
            if finished.len() == MOST_DRAFTS {
                break;
            }
            continue;
        }
        let mut context = task.context.clone();
        for token in &line.tokens {
            context.push(token.word, sources);
        }
        for word in &task.rest[..line.n_rest] {
            context.push(*word, sources);
        }
        let constraint = if n_steps == 0 {
            task.constraint
        } else {
            Constraint::Free
        };
        let step = gather(sources, &context, constraint);
        let setting = Setting::new(&step, &context, constraint, sources);
        let probabilities = scorer.probabilities(&setting, net);
        if n_steps == 0 {
            first = first_step(&setting, probabilities, context.line().len());
        }
        n_steps += 1;
        continue_line(&line, task, sources, &step, probabilities, &mut open);
    }
    let best = finished.first().map(|line| line.log_probability);
    let next = finished
        .get(1)
        .into_iter()
        .chain(&given_up)
        .chain(&open)
        .map(|line| line.log_probability);
    let next = next.fold(-12.0, f32::max);
    if finished.is_empty() {
        finished.extend(
            given_up
                .into_iter()
                .chain(open)
                .max_by_key(|line| line.tokens.len()),
        );
    }
    let first = Arc::new(first);
    let drafts = finished
        .into_iter()
        .filter(|line| !line.tokens.is_empty())
        .enumerate()
        .map(|(rank, line)| Draft {
            finished: line.end.is_some(),
            log_probability: line.log_probability,
            other: if rank == 0 {
                next
            } else {
                best.unwrap_or(next)
            },
            end_support: line.end.unwrap_or_default(),
            tokens: line.tokens,
            first: Arc::clone(&first),
        });
    drafts.collect()
}

fn take_best(open: &mut Vec<Line>) -> Option<Line> {
    let best = open
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.log_probability.total_cmp(&b.1.log_probability))?
        .0;
    Some(open.swap_remove(best))
}

fn first_step(setting: &Setting<'_>, probabilities: &[f32], n_before: usize) -> FirstStep {
    let candidates = &setting.step.candidates;
    let end = candidates
        .iter()
        .position(|candidate| candidate.word == Word::END_OF_LINE);
    FirstStep {
        longest: setting.step.longest,
        best_probability: probabilities[..candidates.len()]
            .iter()
            .copied()
            .fold(0.0, f32::max),
        end_probability: end.map_or(0.0, |at| probabilities[at]),
        line: setting.line.clone(),
        n_before,
    }
}

/// Adds the continuations of `line` to `open`.
fn continue_line(
    line: &Line,
    task: &Task<'_>,
    sources: &Sources<'_>,
    step: &Step,
    probabilities: &[f32],
    open: &mut Vec<Line>,
) {
    const MOST_OPEN: usize = 64;
    let chance = |at: Option<usize>| at.map_or(UNEXPECTED, |at| probabilities[at].max(UNEXPECTED));
    let position = |word: Word| {
        step.candidates
            .iter()
            .position(|candidate| candidate.word == word)
    };
    let support = |at: usize, source: Source| step.candidates[at].evidence[source as usize].longest;
    let both = |at: Option<usize>| {
        at.map_or([0; 2], |at| {
            [support(at, Source::Here), support(at, Source::Learnt)]
        })
    };
    let grown = |p: f32, n_rest: usize, end: Option<[u8; 2]>| Line {
        tokens: line.tokens.clone(),
        log_probability: line.log_probability + p.ln(),
        n_rest,
        end,
    };
    let end = position(Word::END_OF_LINE);
    if line.n_rest > 0 {
        match task.rest.get(line.n_rest) {
            Some(next) => open.push(grown(chance(position(*next)), line.n_rest + 1, None)),
            None => open.push(grown(chance(end), line.n_rest, Some(both(end)))),
        }
        return;
    }
    let writes_something = match (&line.tokens[..], task.constraint) {
        ([], _) => false,
        ([only], Constraint::Stem(stem)) => sources.vocabulary.text(only.word) != stem,
        _ => true,
    };
    if let Some(next) = task.rest.first()
        && writes_something
    {
        open.push(grown(chance(position(*next)), 1, None));
    }
    let mut order: Vec<usize> = (0..step.candidates.len()).collect();
    order.sort_unstable_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    for at in order.into_iter().take(MAX_BRANCHES + 1) {
        let Candidate { word, blanks, .. } = step.candidates[at];
        let probability = probabilities[at];
        if probability < LEAST_PROBABILITY {
            break;
        }
        if !word.is_layout() {
            let mut longer = grown(probability, 0, None);
            let support = support(at, Source::Here).max(support(at, Source::Learnt));
            longer.tokens.push(Token {
                word,
                blanks,
                probability,
                support,
            });
            open.push(longer);
        } else if writes_something && task.rest.is_empty() {
            open.push(grown(probability, 0, Some(both(Some(at)))));
        }
    }
    if open.len() > MOST_OPEN {
        open.sort_unstable_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        open.truncate(MOST_OPEN / 2);
    }
}

/// Turns facts into probabilities; keeps its buffers from step to step.
#[derive(Default)]
pub(crate) struct Scorer {
    rows: Vec<u16>,
    probabilities: Vec<f32>,
}

impl Scorer {
    /// Returns the probability of each candidate, and last that of none of them.
    fn probabilities(&mut self, setting: &Setting<'_>, net: &Net) -> &[f32] {
        let mut shared = net.start();
        setting.shared(&mut self.rows);
        net.add(&mut shared, &self.rows);
        self.probabilities.clear();
        for candidate in &setting.step.candidates {
            setting.candidate(candidate, &mut self.rows);
            let mut sum = shared;
            net.add(&mut sum, &self.rows);
            self.probabilities.push(net.score(&sum));
        }
        setting.none(&mut self.rows);
        net.add(&mut shared, &self.rows);
        self.probabilities.push(net.score(&shared));
        let most = self.probabilities.iter().copied().fold(f32::MIN, f32::max);
        let mut total = 0.0;
        for p in &mut self.probabilities {
            *p = (*p - most).exp();
            total += *p;
        }
        for p in &mut self.probabilities {
            *p /= total;
        }
        &self.probabilities
    }
}
