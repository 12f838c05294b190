//! Tasks: a model that works on a goal with tools, within ceilings and rules, and can be stopped,
//! killed and taken up again.
//!
//! Holds: the user's files change by accepted hunks alone; in the mode `auto` the hunks are
//! accepted at the end, and one token takes them back. Commands run in a sandbox or not at all.
//! What the repository says is data: no text in it can allow anything. Every step is written down
//! before and after it is taken, so a task that was killed goes on where it was: nothing is
//! changed twice, and no command is silently run again.
//! Not here: faces. They start tasks, follow their events and answer their questions.

pub mod agents_file;
mod branch;
pub mod desk;
mod drive;
pub mod governor;
pub mod intake;
pub mod policy;
mod prompt;
pub mod proposed;
pub mod registries;
pub mod sandbox;
mod tasks;
mod tool;
mod tools;
pub mod transcript;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use self::desk::OpenDocuments;
use self::governor::Limits;
pub use self::tasks::{Tasks, check_trust};
pub use self::tools::edit::NAME as EDIT;
use crate::edit::path::RepoPath;
use crate::edit::workspace::Workspace;
use crate::error::{Kind, UserError};
use crate::index::Indexes;
use crate::mcp;
use crate::model::{Failure, TurnModel};
use crate::store::events::{Answer, Approval, Branch, Event, EventKind, EventLog, TaskState};

/// What a task may do. In rising order of that.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Look and answer; change nothing, run nothing
    ReadOnly,
    /// Look and set up a plan; change nothing, run nothing
    Plan,
    /// Propose hunks that you accept or reject
    #[default]
    Review,
    /// Apply the hunks at the end; one token takes them back
    Auto,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Plan => "plan",
            Self::Review => "review",
            Self::Auto => "auto",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        [Self::ReadOnly, Self::Plan, Self::Review, Self::Auto]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// Whether files may be changed and commands be run.
    pub fn changes(self) -> bool {
        matches!(self, Self::Review | Self::Auto)
    }
}

/// Whether somebody is there to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    Attended,
    /// Every question is answered with no.
    Unattended,
}

/// Something that an editor shows as wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub path: RepoPath,
    /// The first line is 1.
    pub line: u32,
    pub severity: Severity,
    /// The program that says so.
    pub source: Option<String>,
    pub message: String,
}

/// How bad something is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
    Information,
    Hint,
}

/// Asks an editor what it shows as wrong in a file, or in all of the folder. `Err` is why it does
/// not tell.
pub type AskEditor = Arc<
    dyn Fn(Option<RepoPath>) -> BoxFuture<'static, Result<Vec<Diagnostic>, String>> + Send + Sync,
>;

/// What tasks of one folder work with.
#[derive(Clone)]
pub struct Setup {
    pub workspace: Arc<Workspace>,
    pub log: EventLog,
    pub documents: OpenDocuments,
    /// `None` where no editor tells what it shows.
    pub editor: Option<AskEditor>,
    pub indexes: Option<Indexes>,
    pub model: TurnModel,
    /// Servers whose tools the task may use.
    pub servers: mcp::Servers,
    /// Where its commands run.
    pub sandbox: crate::sandbox::Settings,
    /// Programs of the user's whose output a task is shown when it begins, by their titles.
    pub startup: BTreeMap<String, Vec<String>>,
    /// Whether the user trusts the folder. In others tasks change and run nothing.
    pub is_trusted: bool,
    /// The user's settings directory, where rules may be.
    pub config: Option<PathBuf>,
    /// Rules named for this task alone.
    pub policy: Option<PathBuf>,
    pub attendance: Attendance,
    /// The branch of its own that the task works on; the tasks see to it.
    pub branch: Option<Branch>,
}

/// Where a task works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// In the folder: what it changes becomes hunks there.
    #[default]
    Folder,
    /// On the new branch `agent/<task>`, in a git working tree of its own: what it changes becomes a
    /// commit there, and the user's files stay as they are.
    Branch,
}

impl Place {
    /// Where a task of this mode works: as it was asked for, else as the setting `agent.worktree`
    /// says, if the task changes anything.
    pub fn of(asked: Option<bool>, setting: bool, mode: Mode) -> Self {
        match asked.unwrap_or(setting && mode.changes()) {
            true => Self::Branch,
            false => Self::Folder,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Ask {
    pub prompt: String,
    /// What the model is told behind the prompt. The task is not taken for another by it.
    pub besides: String,
    pub mode: Mode,
    pub place: Place,
    /// Ceilings below those of the rules.
    pub limits: Limits,
    /// The client's key for asking the same thing twice.
    pub request: Option<String>,
}

/// What a user does to a task that runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// Ends it for now; it can be taken up again.
    Pause,
    /// The same, because who followed it is gone.
    Leave,
    /// Ends it for good.
    Stop,
    /// Tells the model something.
    Steer(String),
    Answer(Answer),
}

/// A task that runs in this process.
#[derive(Debug, Clone)]
pub struct Handle {
    pub id: String,
    /// Whether it began to run by the call that returned this.
    pub began: bool,
    control: mpsc::Sender<Control>,
    state: watch::Receiver<Option<TaskState>>,
}

impl Handle {
    /// Hands a control to the task. Returns whether the task still runs and took it.
    pub fn send(&self, control: Control) -> bool {
        self.control.try_send(control).is_ok()
    }

    /// Whether both are of the same run of a task.
    pub fn is_same(&self, other: &Self) -> bool {
        self.control.same_channel(&other.control)
    }

    /// Waits until the task no longer runs here: it is over, or paused.
    pub async fn ended(&self) -> TaskState {
        let mut state = self.state.clone();
        let ended = state.wait_for(Option::is_some).await;
        ended.ok().and_then(|s| *s).unwrap_or(TaskState::Paused)
    }

    /// The state it was left in; `None` while it runs.
    pub fn state(&self) -> Option<TaskState> {
        *self.state.borrow()
    }

    /// Waits for a task that has come to its end, or to a pause, until it has put its things away;
    /// one that is at work is not waited for.
    pub async fn settled(&self) {
        if self.control.is_closed() {
            self.ended().await;
        }
    }

    /// One whose driver is gone without a word does not run.
    fn is_running(&self) -> bool {
        self.state.borrow().is_none() && self.state.has_changed().is_ok()
    }
}

/// Checks that what the user says to a task may be sent to its model: it would hold up every turn.
///
/// # Errors
/// Why it must stay here.
pub async fn check_said(model: &TurnModel, text: &str) -> Result<(), UserError> {
    match withheld(model, text).await {
        Some(why) => {
            let message = format!("What you say is not sent to {}: {why}.", model.place());
            Err(refused(&message))
        }
        None => Ok(()),
    }
}

/// Why a text must not be sent to a model. What cannot be looked at now is looked at again when it
/// is sent.
async fn withheld(model: &TurnModel, text: &str) -> Option<String> {
    match model.look(text).await.err()?.failure {
        Failure::Withheld(why) => Some(why),
        _ => None,
    }
}

fn refused(message: &str) -> UserError {
    UserError::new(Kind::Settings, message)
}

/// Returns the questions among the events that are not answered among them.
pub fn unanswered(events: &[Event]) -> Vec<Approval> {
    let is_answered = |id: &str| {
        events
            .iter()
            .any(|e| matches!(&e.kind, EventKind::Decided(answer) if answer.approval == id))
    };
    let asked = events.iter().filter_map(|e| match &e.kind {
        EventKind::Approval(asked) if !is_answered(&asked.approval) => Some(asked.clone()),
        _ => None,
    });
    asked.collect()
}

/// The last event of a kind that `of` picks something from.
fn last_of<'e, T>(events: &'e [Event], of: impl Fn(&'e EventKind) -> Option<T>) -> Option<T> {
    events.iter().rev().find_map(|e| of(&e.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_whose_driver_is_gone_without_a_word_does_not_run() {
        let (tell, state) = watch::channel(None);
        let handle = Handle {
            id: "t".into(),
            began: true,
            control: mpsc::channel(1).0,
            state,
        };
        assert!(handle.is_running());
        drop(tell);
        assert!(!handle.is_running());
    }
}
