//! `pairwright/event`: what happens in sessions, told as it happens.
//!
//! Holds: one log for each folder, so that events reach the client in their order. A client that
//! was not fast enough sees a gap in `seq` and reads the rest.
//! Not here: what the events are of (`tasks`).

use std::path::Path;
use std::sync::{Arc, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tower_lsp_server::gen_lsp_types::{LspNotificationMethod, MessageDirection, Notification};

use super::Server;
use crate::store::events::{Event, EventLog};

/// `pairwright/event`.
pub(super) enum SessionEvent {}

impl Notification for SessionEvent {
    type Params = Event;
    const METHOD: LspNotificationMethod<'static> =
        LspNotificationMethod::Custom("pairwright/event");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl Server {
    /// The log of a folder; what is written to it is told to a client that announced `events`.
    /// Reads the disk.
    pub(super) fn log_of(&self, root: &Path) -> anyhow::Result<EventLog> {
        let workspace = self.workspace(root)?;
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(root) {
            return Ok(log.clone());
        }
        let log = EventLog::new(Arc::clone(workspace.store()));
        if self.client_can().announced.events {
            let (client, mut events) = (self.client.clone(), log.subscribe());
            tokio::spawn(async move {
                loop {
                    match events.recv().await {
                        Ok(event) => {
                            let event = Event::clone(&event);
                            client.send_notification::<SessionEvent>(event).await;
                        }
                        Err(RecvError::Lagged(n)) => tracing::debug!(n, "events were not told"),
                        Err(RecvError::Closed) => break,
                    }
                }
            });
        }
        logs.insert(root.to_owned(), log.clone());
        Ok(log)
    }
}
