//! What is written down of a task, taken in again by the governor of its next process.

use std::collections::HashMap;

use super::{Ceiling, Ceilings, Ended, Governor, Verdict};
use crate::agent::Mode;
use crate::agent::tool::canonical;
use crate::store::events::{Decision, Event, EventKind, Spent, Subject, TaskState};

impl Governor {
    /// For a task as its events left it. Returns also why it goes on no more, where it was seen in
    /// circles for the second time as its process ended.
    pub fn of_record(ceilings: Ceilings, events: &[Event]) -> (Self, Option<String>) {
        let mut governor = Self::new(ceilings);
        governor.spent = spent(events);
        let mut halted = None;
        let mut given: HashMap<&str, String> = HashMap::new();
        for event in events {
            match &event.kind {
                EventKind::ToolCall {
                    call, arguments, ..
                } => drop(given.insert(call, canonical(arguments))),
                EventKind::ToolResult {
                    call,
                    tool,
                    outcome,
                    tier,
                    footprint,
                    ..
                } => {
                    governor.count(tool);
                    let Some(footprint) = footprint else { continue };
                    if let Verdict::Halt(why) = governor.observe(*footprint) {
                        halted = Some(why);
                    }
                    governor.look_after(Ended {
                        tool,
                        arguments: given.get(call.as_str()).map_or("", String::as_str),
                        outcome: *outcome,
                        has_run: tier.is_some(),
                        state: footprint.state,
                    });
                }
                EventKind::Mode { mode, .. } if Mode::of_name(mode).is_some_and(Mode::changes) => {
                    governor.forgive();
                }
                _ => {}
            }
        }
        for ceiling in extended(events) {
            governor.extend(ceiling);
        }
        (governor, halted)
    }
}

/// What the task was told to have taken last, and what it took since as far as that is written down.
/// The time between the last event of a process and the first of the next is nobody's.
fn spent(events: &[Event]) -> Spent {
    let mut spent = Spent::default();
    let mut is_answering = false;
    let mut running_since: Option<i64> = None;
    for event in events {
        let begins = matches!(
            event.kind,
            EventKind::Status {
                state: TaskState::Running,
                ..
            }
        );
        if let Some(since) = running_since.filter(|_| !begins) {
            spent.wall += u64::try_from(event.ts - since).unwrap_or(0);
        }
        if begins || running_since.is_some() {
            running_since = Some(event.ts);
        }
        match &event.kind {
            EventKind::Usage {
                spent: Some(told), ..
            } => {
                spent = *told;
                is_answering = false;
            }
            // A turn of the model that was cut off is one, too.
            EventKind::Message { .. } | EventKind::Thought { .. } if !is_answering => {
                spent.steps += 1;
                is_answering = true;
            }
            EventKind::ToolResult { took, text, .. } => {
                spent.tools += took;
                spent.output += text.len() as u64;
            }
            EventKind::Status { .. } if !begins => running_since = None,
            _ => {}
        }
    }
    spent
}

/// Ceilings that the user raised.
fn extended(events: &[Event]) -> impl Iterator<Item = Ceiling> {
    let is_yes = move |id: &str| {
        events.iter().any(|e| match &e.kind {
            EventKind::Decided(answer) => answer.approval == id && answer.decision == Decision::Yes,
            _ => false,
        })
    };
    events.iter().filter_map(move |event| match &event.kind {
        EventKind::Approval(asked) => match &asked.subject {
            Subject::Budget { what } if is_yes(&asked.approval) => {
                Ceiling::ALL.into_iter().find(|c| c.in_words() == what)
            }
            _ => None,
        },
        _ => None,
    })
}
