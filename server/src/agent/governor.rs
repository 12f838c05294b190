//! What keeps a task from running away: ceilings, and rules that see when it goes in circles.
//!
//! Holds: every turn of the model and every tool call is charged here before the next begins, so a
//! ceiling is overrun by one turn at most, and those of time and output by one call. Waiting for the user costs nothing. The first time a
//! rule sees a circle the model is told so; the second time the task halts. What changes the
//! proposal, or what a tool says, breaks a circle: polling and re-running tests after an edit are
//! no circles. All that is counted follows from the record, so a task whose process was killed is
//! halted where it would have been.
//! Not here: what happens then (`agent`).

mod health;
mod record;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::health::Health;
pub use self::health::{Ended, Failing};
use crate::model::TurnUsage;
use crate::store::events::{Footprint, Spent};

/// Calls remembered for circles.
const REMEMBERED: usize = 12;
/// The same thing this many times is a circle.
const SAME: usize = 3;
/// Calls of A-B-A-B-A-B.
const ALTERNATING: usize = 6;
/// Calls that bring nothing new before that is a circle.
const FRUITLESS: usize = 8;

/// How the reason begins for which a task is halted that goes in circles.
pub const CIRCLES: &str = "it went in circles";

/// Ceilings as they are written in policy files; what is not given is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Turns of the model.
    pub steps: Option<u32>,
    /// Tokens in and out; those a server had in its cache count a tenth.
    pub tokens: Option<u64>,
    /// Time without waiting for the user.
    pub wall_seconds: Option<u64>,
    /// US dollars, where prices are known.
    pub cost: Option<f64>,
    /// Time in tools.
    pub tool_seconds: Option<u64>,
    /// What tools may print, all together.
    pub output_bytes: Option<u64>,
    /// One command.
    pub command_seconds: Option<u64>,
}

impl Limits {
    /// Leaves out what is not below the defaults.
    #[must_use]
    pub fn below_defaults(self) -> Self {
        let most = Ceilings::of(&Self::default());
        Self {
            steps: self.steps.filter(|n| *n < most.steps),
            tokens: self.tokens.filter(|n| *n < most.tokens),
            wall_seconds: self.wall_seconds.filter(|n| *n < most.wall),
            // Without a rule there is none.
            cost: self.cost,
            tool_seconds: self.tool_seconds.filter(|n| *n < most.tools),
            output_bytes: self.output_bytes.filter(|n| *n < most.output),
            command_seconds: self.command_seconds.filter(|n| *n < most.command),
        }
    }

    /// Checks that a task can do something within each.
    ///
    /// # Errors
    /// Which one is nothing, by its name.
    pub fn check(&self) -> Result<(), String> {
        let is_nothing = [
            (self.steps == Some(0), "steps"),
            (self.tokens == Some(0), "tokens"),
            (self.wall_seconds == Some(0), "wall_seconds"),
            (
                self.cost.is_some_and(|cost| cost.is_nan() || cost <= 0.0),
                "cost",
            ),
            (self.tool_seconds == Some(0), "tool_seconds"),
            (self.output_bytes == Some(0), "output_bytes"),
            (self.command_seconds == Some(0), "command_seconds"),
        ];
        match is_nothing.iter().find(|(is, _)| *is) {
            Some((_, name)) => Err(format!("the ceiling `{name}` must be more than 0")),
            None => Ok(()),
        }
    }

    /// The lower of each ceiling.
    #[must_use]
    pub fn tighter(self, other: &Self) -> Self {
        fn lower<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b < a { b } else { a }),
                (a, b) => a.or(b),
            }
        }
        Self {
            steps: lower(self.steps, other.steps),
            tokens: lower(self.tokens, other.tokens),
            wall_seconds: lower(self.wall_seconds, other.wall_seconds),
            cost: lower(self.cost, other.cost),
            tool_seconds: lower(self.tool_seconds, other.tool_seconds),
            output_bytes: lower(self.output_bytes, other.output_bytes),
            command_seconds: lower(self.command_seconds, other.command_seconds),
        }
    }
}

/// The ceilings of one task. 50 steps, 200,000 tokens and 10 minutes unless rules say less.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceilings {
    pub steps: u32,
    pub tokens: u64,
    /// Seconds.
    pub wall: u64,
    pub cost: Option<f64>,
    /// Seconds.
    pub tools: u64,
    /// Bytes.
    pub output: u64,
    /// Seconds that one command may take.
    pub command: u64,
}

impl Ceilings {
    pub fn of(limits: &Limits) -> Self {
        Self {
            steps: limits.steps.unwrap_or(50),
            tokens: limits.tokens.unwrap_or(200_000),
            wall: limits.wall_seconds.unwrap_or(600),
            cost: limits.cost,
            tools: limits.tool_seconds.unwrap_or(300),
            output: limits.output_bytes.unwrap_or(8 << 20),
            command: limits.command_seconds.unwrap_or(60),
        }
    }

    /// The lower of each, whatever was given before.
    #[must_use]
    pub fn within(self, most: &Limits) -> Self {
        let given = Limits {
            steps: Some(self.steps),
            tokens: Some(self.tokens),
            wall_seconds: Some(self.wall),
            cost: self.cost,
            tool_seconds: Some(self.tools),
            output_bytes: Some(self.output),
            command_seconds: Some(self.command),
        };
        Self::of(&given.tighter(most))
    }
}

/// A ceiling that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    Steps,
    Tokens,
    Wall,
    Cost,
    Tools,
    Output,
}

impl Ceiling {
    const ALL: [Self; 6] = [
        Self::Steps,
        Self::Tokens,
        Self::Wall,
        Self::Cost,
        Self::Tools,
        Self::Output,
    ];

    pub fn in_words(self) -> &'static str {
        match self {
            Self::Steps => "the steps a task may take",
            Self::Tokens => "the tokens a task may take",
            Self::Wall => "the time a task may take",
            Self::Cost => "the money a task may cost",
            Self::Tools => "the time tools may take",
            Self::Output => "the output tools may print",
        }
    }
}

/// What a call did, as far as circles go.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    pub tool: &'a str,
    /// In one form, however the model wrote them.
    pub arguments: &'a str,
    /// What the proposal is after the call.
    pub state: u64,
    pub output: &'a str,
    pub failed: bool,
}

impl Observed<'_> {
    /// What is kept of it.
    pub fn footprint(&self) -> Footprint {
        let output = without_times(self.output);
        let state = self.state.to_string();
        Footprint {
            call: hash(&[self.tool, self.arguments, &output, &state]),
            error: self.failed.then(|| hash(&[self.tool, &output])),
            state: footprint_of(self.state),
        }
    }
}

/// What is kept of a state of the proposal.
pub fn footprint_of(state: u64) -> u64 {
    hash(&[&state.to_string()])
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Tell the model.
    Nudge(String),
    Halt(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    SameCall,
    SameChange,
    SameError,
    Alternating,
    Fruitless,
}

#[derive(Debug)]
pub struct Governor {
    ceilings: Ceilings,
    spent: Spent,
    calls: HashMap<String, u32>,
    running_since: Option<Instant>,
    recent: VecDeque<Footprint>,
    known: HashSet<u64>,
    n_fruitless: usize,
    /// How often the proposal became each state by a change.
    states: HashMap<u64, usize>,
    last_state: Option<u64>,
    hit: HashSet<Rule>,
    has_warned: bool,
    health: Health,
}

impl Governor {
    /// For a task that has taken nothing yet.
    pub fn new(ceilings: Ceilings) -> Self {
        Self {
            ceilings,
            spent: Spent::default(),
            calls: HashMap::new(),
            running_since: None,
            recent: VecDeque::new(),
            known: HashSet::new(),
            n_fruitless: 0,
            states: HashMap::new(),
            last_state: None,
            hit: HashSet::new(),
            has_warned: false,
            health: Health::default(),
        }
    }

    pub fn ceilings(&self) -> &Ceilings {
        &self.ceilings
    }

    /// What the task has taken so far.
    pub fn spent(&self, now: Instant) -> Spent {
        let running = self.running_since.map(|since| now - since);
        Spent {
            wall: self.spent.wall + millis(running.unwrap_or_default()),
            ..self.spent
        }
    }

    /// The clock runs from here.
    pub fn run(&mut self, now: Instant) {
        self.running_since.get_or_insert(now);
    }

    /// The clock stands: the user is waited for.
    pub fn wait(&mut self, now: Instant) {
        if let Some(since) = self.running_since.take() {
            self.spent.wall += millis(now - since);
        }
    }

    /// Returns the first ceiling that is reached.
    pub fn reached(&self, now: Instant) -> Option<Ceiling> {
        self.all_reached(now).next()
    }

    /// Returns the first ceiling that is reached of those that each call comes nearer to; the others
    /// are for whole turns of the model.
    pub fn reached_by_calls(&self, now: Instant) -> Option<Ceiling> {
        self.all_reached(now).find(|ceiling| match ceiling {
            Ceiling::Wall | Ceiling::Tools | Ceiling::Output => true,
            Ceiling::Steps | Ceiling::Tokens | Ceiling::Cost => false,
        })
    }

    fn all_reached(&self, now: Instant) -> impl Iterator<Item = Ceiling> {
        let (spent, most) = (self.spent(now), &self.ceilings);
        let reached = [
            (spent.steps >= most.steps, Ceiling::Steps),
            (spent.tokens >= most.tokens, Ceiling::Tokens),
            (spent.wall >= most.wall * 1000, Ceiling::Wall),
            (most.cost.is_some_and(|c| spent.cost >= c), Ceiling::Cost),
            (spent.tools >= most.tools * 1000, Ceiling::Tools),
            (spent.output >= most.output, Ceiling::Output),
        ];
        let reached = reached.into_iter().filter(|(is, _)| *is);
        reached.map(|(_, ceiling)| ceiling)
    }

    /// Tells once when four fifths of a ceiling are used up.
    pub fn warning(&mut self, now: Instant) -> Option<String> {
        let (spent, most) = (self.spent(now), self.ceilings);
        let is_near = u64::from(spent.steps) * 5 >= u64::from(most.steps) * 4
            || spent.tokens * 5 >= most.tokens * 4
            || spent.wall * 5 >= most.wall * 4000;
        if !is_near || self.has_warned {
            return None;
        }
        self.has_warned = true;
        Some(format!(
            "Most of what this task may take is used up: step {} of {}, {} of {} tokens. Finish with what you have.",
            spent.steps, most.steps, spent.tokens, most.tokens
        ))
    }

    /// Doubles a ceiling: the user said yes.
    pub fn extend(&mut self, ceiling: Ceiling) {
        let most = &mut self.ceilings;
        match ceiling {
            Ceiling::Steps => most.steps *= 2,
            Ceiling::Tokens => most.tokens *= 2,
            Ceiling::Wall => most.wall *= 2,
            Ceiling::Cost => most.cost = most.cost.map(|c| c * 2.0),
            Ceiling::Tools => most.tools *= 2,
            Ceiling::Output => most.output *= 2,
        }
        self.has_warned = false;
    }

    pub fn charge_step(&mut self) {
        self.spent.steps += 1;
    }

    pub fn charge_turn(&mut self, usage: &TurnUsage) {
        let fresh = usage.input.saturating_sub(usage.cached);
        self.spent.tokens += fresh + usage.cached / 10 + usage.output;
        self.spent.cost += usage.cost.unwrap_or_default();
    }

    pub fn charge_tool(&mut self, tool: &str, took: Duration, output: usize) {
        self.count(tool);
        self.spent.tools += millis(took);
        self.spent.output += output as u64;
    }

    fn count(&mut self, tool: &str) {
        *self.calls.entry(tool.to_owned()).or_default() += 1;
    }

    /// How often each tool was called.
    pub fn calls(&self) -> &HashMap<String, u32> {
        &self.calls
    }

    /// Looks whether the tools that change something can be relied on, by how a call ended.
    pub fn look_after(&mut self, ended: Ended<'_>) -> Option<Failing> {
        self.health.observe(ended)
    }

    /// Forgets what failed: the user says that the task goes on all the same.
    pub fn forgive(&mut self) {
        self.health = Health::default();
    }

    /// Looks for circles in what the calls did.
    pub fn observe(&mut self, footprint: Footprint) -> Verdict {
        let Footprint { call, error, state } = footprint;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(footprint);
        let is_change = self.last_state.is_some_and(|last| last != state);
        if is_change {
            *self.states.entry(state).or_default() += 1;
        }
        self.last_state = Some(state);
        self.n_fruitless = match self.known.insert(call) || is_change {
            true => 0,
            false => self.n_fruitless + 1,
        };
        let last =
            |n: usize| -> Vec<Footprint> { self.recent.iter().rev().take(n).copied().collect() };
        let three = last(SAME);
        let is_full = three.len() == SAME;
        let hit = if is_full && three.iter().all(|s| s.call == call) {
            Some((
                Rule::SameCall,
                "the same call gave the same answer three times",
            ))
        } else if is_full
            && error.is_some()
            && three.iter().all(|s| s.error == error && s.state == state)
        {
            Some((
                Rule::SameError,
                "three calls in a row failed in the same way",
            ))
        } else if is_change && self.states.get(&state).is_some_and(|n| *n >= SAME) {
            Some((
                Rule::SameChange,
                "the files were brought to the same state three times",
            ))
        } else if is_alternating(&last(ALTERNATING)) {
            Some((
                Rule::Alternating,
                "two calls take turns without changing anything",
            ))
        } else if self.n_fruitless >= FRUITLESS {
            Some((Rule::Fruitless, "the last eight calls brought nothing new"))
        } else {
            None
        };
        let Some((rule, why)) = hit else {
            return Verdict::Fine;
        };
        self.recent.clear();
        self.n_fruitless = 0;
        self.states.clear();
        if self.hit.insert(rule) {
            Verdict::Nudge(format!(
                "You are going in circles: {why}. Try something else, ask the user, or finish. If it happens again the task is halted."
            ))
        } else {
            Verdict::Halt(format!("{CIRCLES}: {why}"))
        }
    }
}

fn is_alternating(last: &[Footprint]) -> bool {
    last.len() == ALTERNATING
        && last[0].call != last[1].call
        && last
            .iter()
            .enumerate()
            .all(|(i, seen)| seen.call == last[i % 2].call)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 48 bits of a hash.
fn hash(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let bytes = hasher.finalize();
    let first = bytes.as_bytes().iter().take(6);
    first.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Drops how long things took, which differs each time: `0.53s`, `12 ms`.
fn without_times(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let unit = after.strip_prefix(' ').unwrap_or(after);
        let is_time = ["seconds", "sec", "ms", "µs", "us", "s"].iter().any(|u| {
            unit.strip_prefix(u)
                .is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric()))
        });
        if !is_time {
            kept.push_str(number);
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests;
