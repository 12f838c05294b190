//! What the model is told of a task so far: made of events, live and after a crash alike.
//!
//! Holds: every call has exactly one result before anything else is said. Messages that were sent
//! once are sent again byte for byte, until older ones give way to a summary; the task itself, the
//! plan and the last turns never do, and of the rest what the user said does last, what failed
//! before it.
//! Not here: asking the model.

use indexer::Tokens;

use super::prompt;
use crate::model::{Message, ToolCall};
use crate::store::events::{DiffFile, Event, EventKind, PlanItem, PlanState};

/// A conversation is made shorter when it has more tokens than this, or half the model's window.
pub const COMPACT_AT: u64 = 64_000;
/// Bytes of a summary at most.
const MAX_SUMMARY: usize = 12 << 10;
/// Characters of what the user said that a summary keeps.
const USERS_WORDS: usize = 1_000;
/// Changed files that a summary names.
const MAX_FILES: usize = 50;

#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// Between which data is put.
    mark: String,
    /// With the positions of their events.
    messages: Vec<(u64, Message)>,
    summary: String,
}

/// What is kept besides the messages when they are made shorter.
#[derive(Debug, Clone, Copy, Default)]
pub struct State<'a> {
    pub plan: &'a [PlanItem],
    pub files: &'a [DiffFile],
}

impl Transcript {
    pub fn new(mark: String) -> Self {
        Self {
            mark,
            messages: Vec::new(),
            summary: String::new(),
        }
    }

    /// Takes in an event.
    pub fn push(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Entry { message } => self.messages.push((event.seq, message.clone())),
            EventKind::ToolResult {
                call,
                text,
                outcome,
                ..
            } => {
                let message = Message::ToolResult {
                    call: call.clone(),
                    text: text.clone(),
                    failed: *outcome != crate::store::events::Outcome::Done,
                };
                self.messages.push((event.seq, message));
            }
            EventKind::Compaction { summary, up_to, .. } => {
                self.summary.clone_from(summary);
                let mut is_first = true;
                self.messages
                    .retain(|(seq, _)| std::mem::take(&mut is_first) || seq > up_to);
            }
            EventKind::Intake(_)
            | EventKind::Thought { .. }
            | EventKind::Message { .. }
            | EventKind::Question { .. }
            | EventKind::Cited { .. }
            | EventKind::Notice { .. }
            | EventKind::Writing { .. }
            | EventKind::ToolCall { .. }
            | EventKind::ToolStarted { .. }
            | EventKind::ToolOutput { .. }
            | EventKind::Diff { .. }
            | EventKind::Plan { .. }
            | EventKind::Approval(_)
            | EventKind::Decided(_)
            | EventKind::Denied(_)
            | EventKind::Grant(_)
            | EventKind::Revoked { .. }
            | EventKind::Usage { .. }
            | EventKind::Steer { .. }
            | EventKind::Mode { .. }
            | EventKind::Status { .. }
            | EventKind::Done { .. } => {}
        }
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages as they are sent.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages: Vec<Message> = self.messages.iter().map(|(_, m)| m.clone()).collect();
        if let (Some(Message::User { text }), false) =
            (messages.first_mut(), self.summary.is_empty())
        {
            text.push_str(&self.shortened());
        }
        messages
    }

    /// The summary as the model is told it. What tools said is data there, too.
    fn shortened(&self) -> String {
        let lines: Vec<&str> = self.summary.lines().collect();
        let state = lines.iter().position(|line| *line == STATE);
        let (before, state) = lines.split_at(state.unwrap_or(lines.len()));
        let (said, happened): (Vec<&str>, Vec<&str>) =
            before.iter().partition(|line| line.starts_with(USER));
        let happened = prompt::data(&self.mark, &happened.join("\n"));
        let mut text = format!("\n\nWhat happened so far, shortened:\n{happened}\n");
        if !said.is_empty() {
            text.push_str(&format!(
                "What the user said meanwhile:\n{}\n",
                said.join("\n")
            ));
        }
        text.push_str(&state.join("\n"));
        text
    }

    /// Whether the last thing said is an answer of the model without calls.
    pub fn ends_in_words(&self) -> bool {
        let last = self.messages.last();
        last.is_some_and(|(_, m)| matches!(m, Message::Assistant { calls, .. } if calls.is_empty()))
    }

    /// Calls of the last answer that have no result yet.
    pub fn open_calls(&self) -> Vec<ToolCall> {
        let last = self
            .messages
            .iter()
            .rposition(|(_, m)| matches!(m, Message::Assistant { .. }));
        let Some(last) = last else {
            return Vec::new();
        };
        let Message::Assistant { calls, .. } = &self.messages[last].1 else {
            return Vec::new();
        };
        let has_result = |id: &str| {
            self.messages[last..]
                .iter()
                .any(|(_, m)| matches!(m, Message::ToolResult { call, .. } if call == id))
        };
        calls
            .iter()
            .filter(|c| !has_result(&c.id))
            .cloned()
            .collect()
    }

    /// An estimate of the tokens of all messages.
    pub fn tokens(&self) -> u64 {
        let all: u64 = self.messages.iter().map(|(_, m)| tokens_of(m)).sum();
        all + u64::from(Tokens::estimate(&self.summary).0)
    }

    /// Works out how to make the conversation shorter than `keep` tokens, the beginning and the
    /// summary aside. `None` when there is nothing that may go.
    pub fn compaction(&self, keep: u64, state: State<'_>) -> Option<EventKind> {
        let is_boundary = |i: &usize| !matches!(self.messages[*i].1, Message::ToolResult { .. });
        let boundaries: Vec<usize> = (1..self.messages.len()).filter(is_boundary).collect();
        let rest = |from: usize| -> u64 {
            self.messages[from..]
                .iter()
                .map(|(_, m)| tokens_of(m))
                .sum()
        };
        let cut = boundaries.iter().copied().find(|i| rest(*i) <= keep);
        let cut = cut.or(boundaries.last().copied())?;
        if cut < 2 {
            return None;
        }
        let summary = self.summarise(cut, state);
        let after =
            tokens_of(&self.messages[0].1) + u64::from(Tokens::estimate(&summary).0) + rest(cut);
        Some(EventKind::Compaction {
            before: self.tokens(),
            after,
            summary,
            up_to: self.messages[cut - 1].0,
        })
    }

    /// Says what messages before `cut` were about, without a model: the calls and what came of
    /// them, then the state as it is now.
    fn summarise(&self, cut: usize, state: State<'_>) -> String {
        let mut lines: Vec<String> = self.summary.lines().map(str::to_owned).collect();
        // The state is said anew below.
        if let Some(old) = lines.iter().position(|l| l == STATE) {
            lines.truncate(old);
        }
        let mut calls: Vec<&ToolCall> = Vec::new();
        for (_, message) in &self.messages[1..cut] {
            match message {
                Message::User { text } if prompt::is_ours(text) => {}
                Message::User { text } => lines.push(format!("{USER}{}", on_one_line(text))),
                Message::Assistant {
                    text, calls: made, ..
                } => {
                    if !text.trim().is_empty() {
                        lines.push(format!("you: {}", first(text, 300)));
                    }
                    calls.extend(made);
                }
                Message::ToolResult { call, text, failed } => {
                    let made = calls.iter().find(|c| c.id == *call);
                    // The model may write anything for one.
                    let is_plain = |c: &&&ToolCall| {
                        let of_names = |c: u8| c.is_ascii_alphanumeric() || b"_-".contains(&c);
                        c.name.bytes().all(of_names)
                    };
                    let name = made.filter(is_plain).map_or("tool", |c| &c.name);
                    let arguments = made.map_or("", |c| &c.arguments);
                    let how = if *failed { "FAILED: " } else { "" };
                    let body = text
                        .lines()
                        .find(|l| !l.starts_with("<data-"))
                        .unwrap_or_default();
                    lines.push(format!(
                        "{name} {} -> {how}{}",
                        first(arguments, 160),
                        first(body, 200)
                    ));
                }
            }
        }
        let mut tail = vec![STATE.to_owned()];
        tail.extend(state.plan.iter().map(|item| {
            let mark = match item.state {
                PlanState::Done => "done",
                PlanState::InProgress => "now",
                PlanState::Pending => "open",
            };
            format!("plan, {mark}: {}", first(&item.text, 200))
        }));
        tail.extend(state.files.iter().take(MAX_FILES).map(|f| {
            let path = first(&f.path, 300);
            format!("changed by you: {path} (+{} -{})", f.added, f.removed)
        }));
        if state.files.len() > MAX_FILES {
            let more = state.files.len() - MAX_FILES;
            tail.push(format!("changed by you: {more} more files"));
        }
        let room = MAX_SUMMARY.saturating_sub(tail.iter().map(|l| l.len() + 1).sum());
        while lines.iter().map(|l| l.len() + 1).sum::<usize>() > room && lines.len() > 1 {
            // The oldest of what is worth least.
            let worth = |line: &String| match line {
                line if line.starts_with(USER) => 2,
                line if line.contains("FAILED: ") => 1,
                _ => 0,
            };
            let least = (0..lines.len()).min_by_key(|at| worth(&lines[*at]));
            lines.remove(least.unwrap_or(0));
        }
        lines.extend(tail);
        lines.join("\n")
    }
}

const STATE: &str = "state now:";
/// How a line begins that tells what the user said; none of another begins so.
const USER: &str = "user: ";

/// What the user said, without what would make more lines of it.
fn on_one_line(text: &str) -> String {
    let lines = text.trim().lines().map(str::trim_end);
    let joined = lines.collect::<Vec<_>>().join(" / ");
    joined.chars().take(USERS_WORDS).collect()
}

/// The first line of a text, bounded.
fn first(text: &str, most: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().take(most).collect()
}

/// An estimate of the tokens of a message.
pub(super) fn tokens_of(message: &Message) -> u64 {
    let of = |text: &str| u64::from(Tokens::estimate(text).0);
    match message {
        Message::User { text } | Message::ToolResult { text, .. } => of(text) + 8,
        Message::Assistant {
            text,
            thinking,
            calls,
        } => {
            of(text)
                + thinking.iter().map(|t| of(&t.text)).sum::<u64>()
                + calls.iter().map(|c| of(&c.arguments) + 16).sum::<u64>()
        }
    }
}

#[cfg(test)]
mod tests;
