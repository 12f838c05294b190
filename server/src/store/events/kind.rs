//! Everything that can happen in a session.

mod approval;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::approval::{
    Answer, Approval, Decision, Denial, Grant, GrantScope, Permission, Subject,
};
use super::MAX_BODY;
use crate::model::{Message, TurnUsage};
use crate::secret::redact;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum EventKind {
    /// A task was taken in.
    Intake(Intake),
    /// The next piece of what the model thinks.
    Thought {
        text: String,
    },
    /// The next piece of what the model answers.
    Message {
        text: String,
    },
    /// What the user asked in chat, in their own words, and what the model is shown with it.
    Question {
        text: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shown: Vec<Shown>,
        /// The task that answers it; it has a record of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
    },
    /// Places of the repository that an answer names, to be opened.
    Cited {
        places: Vec<Place>,
    },
    /// Something to know about what goes on, in words for the user.
    Notice {
        text: String,
    },
    /// A whole message of the conversation, said by the user or the model. A resumed session is
    /// made of these and of tool results.
    Entry {
        message: Message,
    },
    /// The next lines that the model writes into a file, told before its call is whole. They are
    /// shown and nothing else: no hunk is made of them.
    Writing {
        /// The call this will be, if it is ever whole.
        call: String,
        /// As the model wrote it; `None` where it stands in the lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        text: String,
    },
    /// The model wants a tool run; nothing has happened yet.
    ToolCall {
        call: String,
        tool: String,
        /// JSON as the model wrote it.
        arguments: String,
        effect: Effect,
    },
    /// The tool begins now. Without a result, nobody knows how far it came.
    ToolStarted {
        call: String,
        /// The sandbox it runs in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sandbox: Option<String>,
    },
    /// The next piece of what a running tool prints.
    ToolOutput {
        call: String,
        text: String,
    },
    /// What came of a call, in the words the model is told.
    ToolResult {
        call: String,
        tool: String,
        outcome: Outcome,
        text: String,
        /// Milliseconds.
        took: u64,
        /// What stood between the command and the machine, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
        /// What a task that goes in circles is known by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        footprint: Option<Footprint>,
        /// Of tests: what they ran with that is not among the task's changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        others: Option<String>,
    },
    /// The changes a task proposes so far, or now that they can be decided.
    Diff {
        files: Vec<DiffFile>,
        /// Set once the hunks can be accepted and rejected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proposal: Option<String>,
        /// Set once they were applied without being asked for, by the task's mode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollback_token: Option<String>,
    },
    Plan {
        items: Vec<PlanItem>,
    },
    /// Somebody is asked; the task waits.
    Approval(Approval),
    /// The answer to that.
    Decided(Answer),
    /// Something was not allowed.
    Denied(Denial),
    Grant(Grant),
    Revoked {
        grant: String,
    },
    Usage {
        #[serde(flatten)]
        usage: TurnUsage,
        model: String,
        /// What the task has taken so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spent: Option<Spent>,
    },
    /// Older messages gave way to a summary.
    Compaction {
        /// Estimated tokens of the conversation before and after.
        before: u64,
        after: u64,
        summary: String,
        /// Entries and results up to this position are no longer told to the model.
        up_to: u64,
    },
    /// The user says something to a task that runs.
    Steer {
        text: String,
    },
    /// What the task may do from here on: no more than this mode, although it was begun in another;
    /// or what it was begun for again.
    Mode {
        mode: String,
        why: String,
    },
    /// The state of a task changed.
    Status {
        state: TaskState,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The end of a turn or a task.
    Done {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summary: Option<String>,
    },
}

/// A piece of text that a model is shown with a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// What it is: a path, `terminal output`, …
    pub title: String,
    /// Why it is shown.
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    pub bytes: usize,
    /// Whether a part was left out for its length.
    pub is_cut: bool,
}

/// A place in a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub path: String,
    /// From 1, the last one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<u32>,
    /// `file:///…#L12`
    pub uri: String,
}

/// What is kept of a task from its start: who asked for what, under which rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intake {
    pub prompt: String,
    pub root: String,
    pub mode: String,
    pub model: String,
    /// The name of the account that started it.
    pub user: String,
    /// The hash of the rules in force.
    pub policy: String,
    /// What kind of work it was taken for, by the words of the prompt.
    #[serde(default)]
    pub scenario: Scenario,
    pub risk: Risk,
    /// The ceilings, as the governor writes them.
    pub limits: Value,
    /// The client's key for asking the same thing twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The branch of its own that it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
}

/// The branch of its own that a task works on, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    pub name: String,
    /// The commit it begins at.
    pub base: String,
    /// The top of the working tree.
    pub top: PathBuf,
    /// The task's folder in it.
    pub root: PathBuf,
    /// The user's repository, which commands read.
    pub repository: PathBuf,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    Low,
    Medium,
    High,
}

impl Risk {
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Kinds of work, told apart by the words of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Deploying, releasing, and what runs elsewhere: workflows, containers, clusters.
    Operations,
    /// Of dependencies and tools.
    Upgrade,
    Fix,
    Refactor,
    Test,
    Docs,
    Feature,
    Question,
    /// None of these, or not known.
    #[default]
    Other,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Upgrade => "upgrade",
            Self::Fix => "fix",
            Self::Refactor => "refactor",
            Self::Test => "test",
            Self::Docs => "docs",
            Self::Feature => "feature",
            Self::Question => "question",
            Self::Other => "other",
        }
    }
}

/// What running a tool a second time would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it only reads.
    Read,
    /// Change the task's own proposal, in the same transaction as its outcome.
    Propose,
    /// Run a command again, which nobody may do silently.
    Command,
    /// Do something a second time in a program that is not ours.
    Outside,
    /// Ask the user again.
    Ask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Failed,
    Denied,
    /// The program ended while the tool ran.
    Unknown,
}

/// What a call did, as hashes of 48 bits, which every reader of JSON keeps: where two are the same,
/// the same was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Footprint {
    /// Of the tool, its arguments, what it said and the state after it.
    pub call: u64,
    /// Of the tool and what it said, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<u64>,
    /// Of the files as the task has them.
    pub state: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffFile {
    pub path: String,
    pub added: usize,
    pub removed: usize,
    /// The hunks so far as a unified diff, cut where it becomes long: while a task goes on, of the
    /// files that its last call changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanItem {
    pub text: String,
    pub state: PlanState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    Pending,
    InProgress,
    Done,
}

/// What a task has taken.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Spent {
    pub steps: u32,
    /// Those from a cache count a tenth.
    pub tokens: u64,
    /// In US dollars.
    pub cost: f64,
    /// Milliseconds, without waiting for the user.
    pub wall: u64,
    /// Milliseconds in tools.
    pub tools: u64,
    /// Bytes that tools printed.
    pub output: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    Planning,
    Running,
    Paused,
    WaitingApproval,
    Succeeded,
    Failed,
    Cancelled,
}

impl TaskState {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::WaitingApproval => "waiting_approval",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl EventKind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Intake(_) => "intake",
            Self::Thought { .. } => "thought",
            Self::Message { .. } => "message",
            Self::Question { .. } => "question",
            Self::Cited { .. } => "cited",
            Self::Notice { .. } => "notice",
            Self::Entry { .. } => "entry",
            Self::Writing { .. } => "writing",
            Self::ToolCall { .. } => "tool_call",
            Self::ToolStarted { .. } => "tool_started",
            Self::ToolOutput { .. } => "tool_output",
            Self::ToolResult { .. } => "tool_result",
            Self::Diff { .. } => "diff",
            Self::Plan { .. } => "plan",
            Self::Approval(_) => "approval",
            Self::Decided(_) => "decided",
            Self::Denied(_) => "denied",
            Self::Grant(_) => "grant",
            Self::Revoked { .. } => "revoked",
            Self::Usage { .. } => "usage",
            Self::Compaction { .. } => "compaction",
            Self::Steer { .. } => "steer",
            Self::Mode { .. } => "mode",
            Self::Status { .. } => "status",
            Self::Done { .. } => "done",
        }
    }
}

/// Takes the secrets out of every text of an event. Returns it with its JSON; `None` when it is
/// too long to be kept.
pub(super) fn redacted(kind: EventKind) -> Option<(EventKind, String)> {
    let mut value = serde_json::to_value(&kind).expect("events have only string keys");
    let is_changed = redact_value(&mut value);
    let body = value.to_string();
    if body.len() > MAX_BODY {
        return None;
    }
    match is_changed {
        false => Some((kind, body)),
        true => Some((
            serde_json::from_value(value).expect("texts were exchanged for texts"),
            body,
        )),
    }
}

fn redact_value(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let clean = match redact(text) {
                std::borrow::Cow::Borrowed(_) => return false,
                std::borrow::Cow::Owned(clean) => clean,
            };
            let is_changed = clean != *text;
            *text = clean;
            is_changed
        }
        Value::Array(items) => items
            .iter_mut()
            .fold(false, |any, item| redact_value(item) | any),
        Value::Object(fields) => fields.iter_mut().fold(false, |any, (name, field)| {
            // A server's proof of its own words is no good when a letter is missing.
            let is_proof = matches!(name.as_str(), "signature" | "hidden");
            (!is_proof && redact_value(field)) | any
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
