//! The state of the server in one line, with the reason and the next step.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Server;
use super::ext::{DidChangeStatus, Status, StatusKind};
use crate::complete::engines::Engines;
use crate::index::Indexes;
use crate::local;
use crate::model::{Embedder, Health, TurnModel};
use crate::models::Models;
use crate::shown::harmless;

/// An index that is behind for a shorter time is not told of.
const LAG: Duration = Duration::from_secs(1);

/// What the state tells of tasks.
#[derive(Debug, Default)]
pub(super) struct TasksAtWork {
    /// What separated the last command from the machine.
    sandbox: Option<String>,
    /// Those under way and what each may do, the one that began last at the end.
    modes: Vec<(String, String)>,
}

impl Server {
    /// Returns the state now.
    pub(super) fn status(&self) -> Status {
        let engines = self.completer.engines();
        let waiting = engines.index.as_ref().map_or(0, Indexes::pending);
        let tasks = self.tasks_at_work.borrow();
        let status = |busy, kind, message| Status {
            busy,
            kind,
            message,
            mode: tasks.modes.last().map(|(_, mode)| mode.clone()),
            sandbox: tasks.sandbox.clone(),
            pending_files: (waiting > 0).then_some(waiting),
        };
        if let Some(silence) = self.completer.silence(None) {
            let why = capitalised(&silence.to_string());
            return status(false, StatusKind::Inactive, why);
        }
        let learning = engines
            .local
            .as_ref()
            .is_some_and(|l| l.status().state != local::State::Idle);
        let (kind, message) = state(&engines, self.problem.borrow().as_deref());
        status(learning, kind, message)
    }

    /// Looks whether the state is another than the last the client was told.
    pub(super) fn status_may_have_changed(&self) {
        let status = self.status();
        self.told.send_if_modified(|told| {
            let changed = told.as_ref() != Some(&status);
            *told = Some(status);
            changed
        });
    }

    /// Tells what separated a command of a task from the machine.
    pub(super) fn ran_in(&self, tier: &str) {
        self.tasks_at_work
            .send_modify(|tasks| tasks.sandbox = Some(harmless(tier)));
        self.status_may_have_changed();
    }

    /// Tells what a task may do, while it is under way.
    pub(super) fn works_in(&self, task: &str, mode: Option<&str>) {
        self.tasks_at_work.send_modify(|tasks| {
            tasks.modes.retain(|(known, _)| known != task);
            let at_work = mode.map(|mode| (task.to_owned(), mode.to_owned()));
            tasks.modes.extend(at_work);
        });
        self.status_may_have_changed();
    }

    /// Tells how far an index is behind, while it is.
    pub(super) async fn tell_lag(self, mut index: watch::Receiver<indexer::Status>) {
        // Ends when the index does, with its sender.
        while index.changed().await.is_ok() {
            tokio::time::sleep(LAG).await;
            index.mark_unchanged();
            self.status_may_have_changed();
        }
    }

    /// Tells a client that listens how the state changes. One task tells all of it: the last it
    /// hears is what holds.
    pub(super) async fn tell_status(self, mut told: watch::Receiver<Option<Status>>) {
        while told.changed().await.is_ok() {
            let Some(status) = told.borrow_and_update().clone() else {
                continue;
            };
            if self.speaks_legacy.get().is_some() {
                self.send_old_status(status.clone()).await;
            }
            if self.client_can().announced.status {
                self.client
                    .send_notification::<DidChangeStatus>(status)
                    .await;
            }
        }
    }
}

/// Which engines answer, and what keeps the others from it.
fn state(engines: &Engines, problem: Option<&str>) -> (StatusKind, String) {
    let instead = match &engines.local {
        Some(_) => "using the embedded engine",
        None => "no ghost text until it is back",
    };
    if let Some(problem) = problem {
        return (
            StatusKind::Warning,
            format!("{}; {instead}", problem.trim_end_matches('.')),
        );
    }
    let Some(model) = engines.model() else {
        return match engines.local {
            Some(_) => (
                StatusKind::Normal,
                format!("Embedded engine; {}", sent_to(&engines.models)),
            ),
            None => (
                StatusKind::Inactive,
                "Neither a model nor the embedded engine is in use; set `models.complete` or `local.enabled`".into(),
            ),
        };
    };
    let health = model.health();
    let health = health.borrow().clone();
    match health {
        Health::Unknown | Health::Ready => {
            (StatusKind::Normal, format!("Model at {}", model.place()))
        }
        Health::Failing { why } | Health::Paused { why, .. } => {
            let reason = Arc::unwrap_or_clone(why).to_string();
            let kind = if engines.local.is_some() {
                StatusKind::Warning
            } else {
                StatusKind::Error
            };
            (kind, format!("{}; {instead}", reason.trim_end_matches('.')))
        }
    }
}

/// Where requests go that are not for ghost text.
fn sent_to(models: &Models) -> String {
    let places = [
        ("chat", models.chat.as_ref().map(TurnModel::place)),
        ("tasks", models.agent.as_ref().map(TurnModel::place)),
        ("next edits", models.edit.as_ref().map(TurnModel::place)),
        ("index", models.embed.as_ref().map(Embedder::place)),
    ];
    let places = places.into_iter();
    let places = places.filter_map(|(what, place)| Some(format!("{what}: {}", place?)));
    let places: Vec<String> = places.collect();
    match places.is_empty() {
        true => "nothing leaves this machine".to_owned(),
        false => places.join(", "),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
