//! What is asked of the user, what was answered, and the permissions that follow from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Risk;
use crate::shown::{harmless, printable};

/// A question to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    pub approval: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    pub subject: Subject,
    pub risk: Risk,
    /// Why it is asked.
    pub reason: String,
    /// How long an answer may hold.
    pub scopes: Vec<GrantScope>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum Subject {
    /// A command, as it would be run. `remembered` is the exact rule that a longer scope keeps.
    Command {
        command: String,
        remembered: String,
    },
    /// Changing a file that the rules protect.
    Edit {
        path: String,
    },
    /// Calling a tool of an MCP server, with these arguments as JSON. A longer scope keeps its name.
    Tool {
        tool: String,
        arguments: String,
    },
    /// A host that a command is to reach from its sandbox.
    Network {
        host: String,
        command: String,
    },
    /// A ceiling was reached; yes doubles it.
    Budget {
        what: String,
    },
    Question {
        text: String,
        options: Vec<String>,
    },
}

impl Subject {
    /// What is asked for, in words to go on after "wants to"; a question as it is. Harmless to show.
    pub fn in_words(&self) -> String {
        match self {
            Self::Command { command, .. } => format!("run `{}`", at_once(command)),
            Self::Edit { path } => format!("change {}", printable(path)),
            Self::Tool { tool, arguments } => {
                format!("call {} with {}", printable(tool), at_once(arguments))
            }
            Self::Network { host, command } => {
                format!("let `{}` reach {}", at_once(command), printable(host))
            }
            Self::Budget { what } => format!("go on beyond {what}"),
            Self::Question { text, .. } => at_once(text),
        }
    }
}

/// Characters of one thing that are shown to who is asked about it.
const SHOWN: usize = 4_000;

/// As much of a text as is read in one go, and how much more there is: nobody allows what they are
/// not told of.
fn at_once(text: &str) -> String {
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(SHOWN).collect();
    let shown = harmless(&shown);
    match rest.count() {
        0 => shown,
        n => format!("{shown}… [and {n} characters more]"),
    }
}

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub approval: String,
    pub decision: Decision,
    #[serde(default = "once")]
    pub scope: GrantScope,
    /// The answer to a question, or what to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who decided: `user`, or `nobody`.
    #[serde(default)]
    pub by: String,
}

impl Answer {
    /// Of one who is not there: no, for this once.
    pub fn of_nobody(approval: &str) -> Self {
        Self {
            approval: approval.to_owned(),
            decision: Decision::No,
            scope: GrantScope::Once,
            text: None,
            by: NOBODY.into(),
        }
    }

    /// Whether it was not decided, because nobody was there.
    pub fn is_of_nobody(&self) -> bool {
        self.by == NOBODY
    }
}

const NOBODY: &str = "nobody";

fn once() -> GrantScope {
    GrantScope::Once
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantScope {
    Once,
    /// Until the task ends.
    Task,
    /// For every task in this folder, until it expires or is revoked.
    Repository,
}

/// A permission somebody gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    pub id: String,
    pub allows: Permission,
    pub scope: GrantScope,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Words that a command begins with.
    Command(Vec<String>),
    /// A glob of paths that may be changed.
    Path(String),
    /// The full name of a tool of an MCP server.
    Tool(String),
    /// A host that commands may reach: `host`, `*.host`, `host:port`.
    Network(String),
}

/// Something that was not allowed, in words the model can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    pub call: String,
    /// The rule, and the file it stands in.
    pub rule: String,
    pub what: String,
    pub why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}
