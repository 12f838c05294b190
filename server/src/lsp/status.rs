//! The state of the server in one line, with the reason and the next step.

use std::sync::Arc;

use tokio::sync::watch;

use super::Server;
use super::ext::{DidChangeStatus, Status, StatusKind};
use crate::complete::engines::Engines;
use crate::local;
use crate::model::Health;

impl Server {
    /// Returns the state now.
    pub(super) fn status(&self) -> Status {
        if let Some(silence) = self.completer.silence(None) {
            return Status {
                busy: false,
                kind: StatusKind::Inactive,
                message: capitalised(&silence.to_string()),
            };
        }
        let engines = self.completer.engines();
        let learning = engines
            .local
            .as_ref()
            .is_some_and(|l| l.status().state != local::State::Idle);
        let (kind, message) = state(&engines, self.problem.borrow().as_deref());
        Status {
            busy: learning,
            kind,
            message,
        }
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
            Some(_) => (StatusKind::Normal, "Embedded engine; nothing leaves this machine".into()),
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

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
