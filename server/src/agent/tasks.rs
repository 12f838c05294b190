//! The tasks of one process: taken in, started, taken up again.
//!
//! Holds: asking twice under one key begins one task; a task is written down before anything is done
//! for it, and is worked on by one process at a time. Rules and trust are looked at whenever one
//! begins to run.
//! Not here: what running is (`agent::drive`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::desk::Desk;
use super::drive::{self, Driver};
use super::intake::{Taken, is_protected};
use super::policy::{Policy, Sources};
use super::proposed::Proposed;
use super::{Ask, Control, Handle, Mode, Place, Setup, refused};
use crate::edit::workspace::Workspace;
use crate::error::{Kind, UserError};
use crate::store::StoreError;
use crate::store::events::{
    Branch, Durability, EventKind, EventLog, Intake, Lease, Session, Target, Task, TaskState,
    account, new_id,
};

/// Controls that may wait to be minded.
const CONTROLS: usize = 64;
/// Longest prompt, in bytes, with what is told behind it.
const MAX_PROMPT: usize = 256 << 10;
/// Tasks that run at one time in one process.
const MAX_TASKS: usize = 64;

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
        let n_bytes = ask.prompt.len() + ask.besides.len();
        if ask.prompt.trim().is_empty() || n_bytes > MAX_PROMPT {
            return Err(refused("A task needs a prompt, of at most 256 KiB."));
        }
        ask.limits
            .check()
            .map_err(|why| refused(&format!("{why}.")))?;
        let policy = load_policy(&setup)?;
        let root = setup.workspace.root().path().to_owned();
        let is_protected = is_protected(&policy, &root, ask.place);
        let taken = Taken::of(&ask.prompt, ask.mode, is_protected, &policy);
        let policy = policy.narrowed(taken);
        let (mode, lowered_by) = policy.at_most(ask.mode);
        let ceilings = policy.ceilings(&ask.limits);
        let mut intake = Intake {
            prompt: ask.prompt + &ask.besides,
            root: root.display().to_string(),
            mode: mode.name().to_owned(),
            model: setup.model.endpoint().model.clone(),
            user: account(),
            policy: policy.hash().to_owned(),
            scenario: taken.scenario,
            risk: taken.risk,
            limits: serde_json::to_value(ceilings).unwrap_or_default(),
            request: None,
            branch: None,
        };
        if let Some(why) = policy.out_of_scope() {
            return Err(out_of_scope(&setup.log, intake, why));
        }
        if !policy.allows_mode(mode.name()) {
            let message = format!("The rules do not allow tasks in the mode {}.", mode.name());
            return Err(refused(&message));
        }
        check_trust(setup.is_trusted, mode)?;
        if ask.place == Place::Branch && !ask.mode.changes() {
            let message = format!(
                "A task in the mode {} changes nothing and needs no branch.",
                ask.mode.name()
            );
            return Err(refused(&message));
        }
        let place = match mode.changes() {
            true => ask.place,
            false => Place::Folder,
        };
        if mode == Mode::Auto
            && place == Place::Folder
            && let Some(branch) = policy.protected_branch(&root)
        {
            let message = format!("You decide about every change on the branch {branch}.");
            return Err(refused(&message).with_hint(
                "Use the mode review, or a branch of its own by `worktree` or `agent.worktree`.",
            ));
        }
        self.check_room()?;
        let id = new_id('t');
        let branch = match place {
            Place::Folder => None,
            Place::Branch => Some(Branch::make(&root, &id)?),
        };
        intake.request = ask.request;
        intake.branch.clone_from(&branch);
        let lowered = lowered_by.map(|by| EventKind::Mode {
            mode: mode.name().to_owned(),
            why: format!("tasks like this one may do no more, by {by}"),
        });
        let target = Target {
            session: &id,
            turn: 1,
            lease: None,
        };
        let kinds = std::iter::once(EventKind::Intake(intake)).chain(lowered);
        let kinds = kinds.collect();
        if let Err(why) = setup.log.append(target, kinds, Durability::Synced) {
            // Nobody would ever take it up.
            if let Some(branch) = &branch {
                branch.leave();
            }
            return Err(broken(why));
        }
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
        let task = find(&setup.log, id)?;
        if task.state.is_over() {
            return Ok(Handle {
                id: id.to_owned(),
                began: false,
                control: mpsc::channel(1).0,
                state: watch::channel(Some(task.state)).1,
            });
        }
        let policy = load_policy(&setup)?.narrowed(Taken {
            scenario: task.intake.scenario,
            risk: task.intake.risk,
        });
        if let Some(why) = policy.out_of_scope() {
            return Err(refused(&format!("The task is out of scope now: {why}.")));
        }
        if !policy.allows_mode(&task.intake.mode) {
            return Err(refused("The rules no longer allow tasks in this mode."));
        }
        if let Some(mode) = Mode::of_name(&task.intake.mode) {
            check_trust(setup.is_trusted, mode)?;
        }
        self.check_room()?;
        self.drive(on(task.intake.branch, setup)?, id.to_owned(), policy)
    }

    /// Ends a task for good. One that nobody works on is ended here, and need not be one that could be
    /// taken up: what it changed is presented as far as that can be done. One that is over stays as it
    /// is.
    ///
    /// # Errors
    /// When there is no such task, another process has it, or nothing can be written down.
    pub fn stop(
        &self,
        workspace: &Workspace,
        log: &EventLog,
        id: &str,
    ) -> Result<TaskState, UserError> {
        let _beginning = self.begin();
        if let Some(handle) = self.get(id) {
            return match handle.send(Control::Stop) {
                true => Ok(handle.state().unwrap_or(TaskState::Running)),
                false => Err(refused("The task takes nothing now.")),
            };
        }
        let task = find(log, id)?;
        if task.state.is_over() {
            return Ok(task.state);
        }
        let lease = take_lease(log, id)?;
        let ended = drive::left::end(workspace, log, &lease, id, &task).map_err(broken);
        let_go(&lease, log);
        ended
    }

    fn drive(&self, setup: Setup, id: String, policy: Policy) -> Result<Handle, UserError> {
        let lease = take_lease(&setup.log, &id)?;
        let task = find(&setup.log, &id)?;
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
        let known = Handle {
            began: false,
            ..handle.clone()
        };
        self.lock().insert(id.clone(), known);
        let (log, held) = (setup.log.clone(), lease.clone());
        let driver = Driver::new(setup, &task, lease, desk, &events, controls, id.clone());
        tokio::spawn(async move {
            let ended = match tokio::spawn(driver.run()).await {
                Ok(ended) => ended,
                Err(why) => {
                    tracing::error!(task = %id, %why, "the driver of a task broke");
                    let note = move || note_broken(&log, &held, &id);
                    let _ = tokio::task::spawn_blocking(note).await;
                    TaskState::Paused
                }
            };
            tell.send_replace(Some(ended));
        });
        Ok(handle)
    }

    /// Checks that one more may run, before anything is made or written down for it.
    fn check_room(&self) -> Result<(), UserError> {
        let mut running = self.lock();
        running.retain(|_, handle| handle.is_running());
        match running.len() < MAX_TASKS {
            true => Ok(()),
            false => Err(refused("Too many tasks run at the same time.")),
        }
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

fn find(log: &EventLog, id: &str) -> Result<Task, UserError> {
    let task = log.task(id).map_err(broken)?;
    task.ok_or_else(|| refused(&format!("There is no task {id} in this folder.")))
}

fn take_lease(log: &EventLog, id: &str) -> Result<Lease, UserError> {
    let owner = uuid::Uuid::now_v7().to_string();
    let lease = Lease::take(log.store(), id, &owner).map_err(broken)?;
    lease.ok_or_else(|| refused("Another Pairwright is working on this task."))
}

/// Writes down that a task is left by a fault of ours. Taken up again or stopped, it presents what it
/// changed.
fn note_broken(log: &EventLog, lease: &Lease, id: &str) {
    let target = Target {
        session: id,
        turn: 0,
        lease: Some(lease),
    };
    let kinds = vec![EventKind::Status {
        state: TaskState::Paused,
        why: Some("a fault in Pairwright; its log says more".into()),
    }];
    if let Err(why) = log.append(target, kinds, Durability::Synced) {
        tracing::error!(task = %id, "the pause of a task cannot be written down: {why}");
    }
    let_go(lease, log);
}

fn let_go(lease: &Lease, log: &EventLog) {
    if let Err(why) = lease.release(log.store()) {
        tracing::warn!("the lease of a task could not be let go of: {why}");
    }
}

/// Writes down that a task was asked for that the rules do not let be done, and says so.
fn out_of_scope(log: &EventLog, intake: Intake, why: &str) -> UserError {
    let why = format!("out of scope: {why}");
    let target = Target {
        session: &new_id('t'),
        turn: 1,
        lease: None,
    };
    let state = TaskState::Failed;
    let kinds = vec![
        EventKind::Intake(intake),
        EventKind::Status {
            state,
            why: Some(why.clone()),
        },
        EventKind::Done {
            reason: why.clone(),
            summary: None,
        },
    ];
    match log.append(target, kinds, Durability::Synced) {
        Ok(_) => refused(&format!("The task is {why}.")),
        Err(why) => broken(why),
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

/// Checks whether a task in this mode may run in a folder that is trusted or not.
///
/// # Errors
/// When it would run what the folder holds, with how to trust it.
pub fn check_trust(is_trusted: bool, mode: Mode) -> Result<(), UserError> {
    if is_trusted || !mode.changes() {
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
