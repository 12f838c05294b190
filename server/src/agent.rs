//! Tasks: a model that works on a goal with tools, within ceilings and rules, and can be stopped,
//! killed and taken up again.
//!
//! Holds: the user's files change by accepted hunks alone; in the mode `auto` the hunks are
//! accepted at the end, and one token takes them back. Commands run in a sandbox or not at all.
//! What the repository says is data: no text in it can allow anything. Every step is written down
//! before and after it is taken, so a task that was killed goes on where it was: nothing is
//! changed twice, and no command is silently run again.
//! Not here: faces. They start tasks, follow their events and answer their questions.

mod branch;
pub mod desk;
mod drive;
pub mod governor;
pub mod policy;
mod prompt;
pub mod proposed;
pub mod registries;
#[cfg(target_os = "linux")]
pub mod sandbox;
#[cfg(not(target_os = "linux"))]
#[path = "agent/no_sandbox.rs"]
pub mod sandbox;
mod tool;
mod tools;
pub mod transcript;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use self::desk::{Desk, OpenDocuments};
use self::drive::Driver;
use self::governor::{Ceilings, Limits};
use self::policy::{Policy, Sources};
use self::proposed::Proposed;
use crate::edit::path::RepoPath;
use crate::edit::workspace::Workspace;
use crate::error::{Kind, UserError};
use crate::index::Indexes;
use crate::mcp;
use crate::model::TurnModel;
use crate::store::StoreError;
use crate::store::events::{
    Answer, Approval, Branch, Durability, Event, EventKind, EventLog, Intake, Lease, Risk, Session,
    Target, TaskState, new_id,
};

/// What a task may do.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
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

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Ask {
    pub prompt: String,
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

/// Controls that may wait to be minded.
const CONTROLS: usize = 64;
/// Longest prompt, in bytes.
const MAX_PROMPT: usize = 256 << 10;
/// Tasks that run at one time in one process.
const MAX_TASKS: usize = 64;

impl Handle {
    /// Hands a control to the task. Returns whether the task still runs and took it.
    pub fn send(&self, control: Control) -> bool {
        self.control.try_send(control).is_ok()
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

/// The tasks of this process.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Held while a task is begun, so that asking twice at once begins one.
    beginning: Mutex<()>,
    running: Mutex<HashMap<String, Handle>>,
}

impl Tasks {
    /// Takes in a task and starts it. Asking twice under one request key starts one. Call it where
    /// it may wait for the disk, within a tokio runtime.
    ///
    /// # Errors
    /// When the rules forbid it or cannot be read, or nothing can be written down.
    pub fn start(&self, setup: Setup, ask: Ask) -> Result<Handle, UserError> {
        let _beginning = self.begin();
        if let Some(request) = &ask.request
            && let Some(id) = setup.log.task_by_request(request).map_err(broken)?
        {
            return self.take_up(setup, &id);
        }
        if ask.prompt.trim().is_empty() || ask.prompt.len() > MAX_PROMPT {
            return Err(refused("A task needs a prompt, of at most 256 KiB."));
        }
        ask.limits
            .check()
            .map_err(|why| refused(&format!("{why}.")))?;
        let policy = load_policy(&setup)?;
        if !policy.allows_mode(ask.mode.name()) {
            let message = format!(
                "The rules do not allow tasks in the mode {}.",
                ask.mode.name()
            );
            return Err(refused(&message));
        }
        check_trust(&setup, ask.mode)?;
        if ask.place == Place::Branch && !ask.mode.changes() {
            let message = format!(
                "A task in the mode {} changes nothing and needs no branch.",
                ask.mode.name()
            );
            return Err(refused(&message));
        }
        let ceilings = Ceilings::of(&policy.limits().tighter(&ask.limits));
        let id = new_id('t');
        let root = setup.workspace.root().path().to_owned();
        let branch = match ask.place {
            Place::Folder => None,
            Place::Branch => Some(Branch::make(&root, &id)?),
        };
        let intake = Intake {
            prompt: ask.prompt,
            root: root.display().to_string(),
            mode: ask.mode.name().to_owned(),
            model: setup.model.endpoint().model.clone(),
            user: user(),
            policy: policy.hash().to_owned(),
            risk: match ask.mode {
                Mode::ReadOnly | Mode::Plan => Risk::Low,
                Mode::Review => Risk::Medium,
                Mode::Auto => Risk::High,
            },
            limits: serde_json::to_value(ceilings).unwrap_or_default(),
            request: ask.request,
            branch: branch.clone(),
        };
        let target = Target {
            session: &id,
            turn: 1,
            lease: None,
        };
        setup
            .log
            .append(target, vec![EventKind::Intake(intake)], Durability::Synced)
            .map_err(broken)?;
        self.drive(on(branch, setup)?, id, policy)
    }

    /// Takes up a task that was paused or whose process was killed. One that runs here is returned
    /// as it is; one that has just told of its pause still does until it is
    /// [settled](Handle::settled).
    ///
    /// # Errors
    /// When there is no such task, it is over, or another process has it.
    pub fn resume(&self, setup: Setup, id: &str) -> Result<Handle, UserError> {
        let _beginning = self.begin();
        self.take_up(setup, id)
    }

    fn take_up(&self, setup: Setup, id: &str) -> Result<Handle, UserError> {
        if let Some(handle) = self.get(id) {
            return Ok(handle);
        }
        let task = setup.log.task(id).map_err(broken)?;
        let task =
            task.ok_or_else(|| refused(&format!("There is no task {id} in this folder.")))?;
        if task.state.is_over() {
            return Ok(Handle {
                id: id.to_owned(),
                began: false,
                control: mpsc::channel(1).0,
                state: watch::channel(Some(task.state)).1,
            });
        }
        let policy = load_policy(&setup)?;
        if !policy.allows_mode(&task.intake.mode) {
            return Err(refused("The rules no longer allow tasks in this mode."));
        }
        if let Some(mode) = Mode::of_name(&task.intake.mode) {
            check_trust(&setup, mode)?;
        }
        self.drive(on(task.intake.branch, setup)?, id.to_owned(), policy)
    }

    fn drive(&self, setup: Setup, id: String, policy: Policy) -> Result<Handle, UserError> {
        let owner = uuid::Uuid::now_v7().to_string();
        let lease = Lease::take(setup.log.store(), &id, &owner).map_err(broken)?;
        let lease = lease.ok_or_else(|| refused("Another Pairwright is working on this task."))?;
        let task = setup.log.task(&id).map_err(broken)?;
        let task =
            task.ok_or_else(|| refused(&format!("There is no task {id} in this folder.")))?;
        let proposed = Proposed::load(setup.log.store(), &id).map_err(broken)?;
        let events = setup.log.read_from(&id, 1, usize::MAX).map_err(broken)?;
        let desk = Desk::new(
            PathBuf::from(&task.intake.root),
            Arc::clone(&setup.workspace),
            Arc::clone(&setup.documents),
            setup.indexes.clone(),
            Arc::new(policy),
            proposed,
        );
        let (control, controls) = mpsc::channel(CONTROLS);
        let (tell, state) = watch::channel(None);
        let handle = Handle {
            id: id.clone(),
            began: true,
            control,
            state,
        };
        {
            let mut running = self.lock();
            running.retain(|_, handle| handle.is_running());
            if running.len() >= MAX_TASKS {
                return Err(refused("Too many tasks run at the same time."));
            }
            let known = Handle {
                began: false,
                ..handle.clone()
            };
            running.insert(id.clone(), known);
        }
        let log = setup.log.clone();
        let driver = Driver::new(setup, &task, lease, desk, &events, controls, id.clone());
        tokio::spawn(async move {
            let ended = match tokio::spawn(driver.run()).await {
                Ok(ended) => ended,
                Err(why) => {
                    tracing::error!(task = %id, %why, "the driver of a task broke");
                    let _ = tokio::task::spawn_blocking(move || note_broken(&log, &id)).await;
                    TaskState::Failed
                }
            };
            tell.send_replace(Some(ended));
        });
        Ok(handle)
    }

    /// Finds a task that runs here.
    pub fn get(&self, id: &str) -> Option<Handle> {
        self.lock().get(id).filter(|h| h.is_running()).cloned()
    }

    /// Lists the tasks of a folder that nobody works on and that somebody may want to take up. One
    /// that is being started here is none: until it has its lease, it is waited for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unfinished(&self, log: &EventLog) -> Result<Vec<Session>, StoreError> {
        let _beginning = self.begin();
        log.unfinished()
    }

    fn begin(&self) -> MutexGuard<'_, ()> {
        self.beginning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down that a task ended by a fault of ours.
fn note_broken(log: &EventLog, id: &str) {
    let why = "a fault in Pairwright; its log says more";
    let target = Target {
        session: id,
        turn: 0,
        lease: None,
    };
    let kinds = vec![
        EventKind::Status {
            state: TaskState::Failed,
            why: Some(why.into()),
        },
        EventKind::Done {
            reason: why.into(),
            summary: None,
        },
    ];
    if let Err(why) = log.append(target, kinds, Durability::Synced) {
        tracing::error!(task = %id, "the end of a task cannot be written down: {why}");
    }
}

fn on(branch: Option<Branch>, setup: Setup) -> Result<Setup, UserError> {
    match branch {
        Some(branch) => branch.enter(setup),
        None => Ok(setup),
    }
}

fn load_policy(setup: &Setup) -> Result<Policy, UserError> {
    Policy::load(Sources {
        config: setup.config.as_deref(),
        root: setup.workspace.root().path(),
        task: setup.policy.as_deref(),
    })
}

fn check_trust(setup: &Setup, mode: Mode) -> Result<(), UserError> {
    if setup.is_trusted || !mode.changes() {
        return Ok(());
    }
    let message = format!(
        "The folder is not trusted: a task in the mode {} would run what it holds.",
        mode.name()
    );
    Err(refused(&message).with_hint(
        "Trust it by `pairwright trust` or in the editor (by `workspace.trusted`, where that is set), \
         or use the modes read-only and plan.",
    ))
}

fn broken(why: impl std::fmt::Display) -> UserError {
    UserError::new(
        Kind::Workspace,
        format!("The task cannot be written down: {why}."),
    )
}

fn refused(message: &str) -> UserError {
    UserError::new(Kind::Settings, message)
}

/// The name of the account, for the record.
fn user() -> String {
    std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".into())
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
