//! `pairwright/event`: what happens in sessions, told to the client as it is written down.
//!
//! Holds: a client is told the events of the sessions it follows, each once and in the order of
//! their `seq`, whatever else goes on: who falls behind reads the log. One log per folder, shared
//! by chat and tasks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;
use tower_lsp_server::gen_lsp_types::{LspNotificationMethod, MessageDirection, Notification};

use super::Server;
use crate::store::events::{Event, EventKind, EventLog};

/// Events read from the log at a time.
const PAGE: usize = 500;

/// The logs of all folders and who is followed.
#[derive(Debug, Default)]
pub(super) struct Events {
    logs: Mutex<FxHashMap<PathBuf, Log>>,
    /// By session.
    followed: Mutex<FxHashMap<String, AbortOnDropHandle<()>>>,
}

#[derive(Debug)]
struct Log {
    log: EventLog,
    /// Shows proposals to the client as they are made.
    _reviewing: AbortOnDropHandle<()>,
}

/// An event of a session.
pub(super) enum Happened {}

impl Notification for Happened {
    type Params = Event;
    const METHOD: LspNotificationMethod<'static> =
        LspNotificationMethod::Custom("pairwright/event");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl Server {
    /// Returns the log of a folder, opening it if need be. Reads the disk; must be called within
    /// the runtime.
    ///
    /// # Errors
    /// When the folder's state cannot be opened.
    pub(super) fn event_log(&self, root: &Path) -> anyhow::Result<EventLog> {
        if let Some(known) = lock(&self.events.logs).get(root) {
            return Ok(known.log.clone());
        }
        let log = EventLog::new(Arc::clone(self.workspace(root)?.store()));
        let mut logs = lock(&self.events.logs);
        let known = logs.entry(root.to_owned()).or_insert_with(|| Log {
            _reviewing: AbortOnDropHandle::new(tokio::spawn(
                self.clone().review_all(root.to_owned(), log.clone()),
            )),
            log,
        });
        Ok(known.log.clone())
    }

    /// Tells the client the events of a session from position `from` on, those that were and
    /// those that come. Following anew replaces what was followed before. Does nothing for a
    /// client that does not take events.
    pub(super) fn follow_session(&self, log: EventLog, session: &str, from: u64) {
        if !self.client_can().announced.events {
            return;
        }
        let following = tokio::spawn(self.clone().tell_events(log, session.to_owned(), from));
        lock(&self.events.followed).insert(session.to_owned(), AbortOnDropHandle::new(following));
    }

    pub(super) fn is_followed(&self, session: &str) -> bool {
        lock(&self.events.followed).contains_key(session)
    }

    pub(super) fn stop_following(&self, session: &str) {
        lock(&self.events.followed).remove(session);
    }

    async fn tell_events(self, log: EventLog, session: String, from: u64) {
        let mut next = from.max(1);
        // Before the log is read, so that nothing falls between.
        let mut written = log.subscribe();
        loop {
            loop {
                let (log, of, at) = (log.clone(), session.clone(), next);
                let reading = tokio::task::spawn_blocking(move || log.read_from(&of, at, PAGE));
                let page = match reading.await {
                    Ok(Ok(page)) => page,
                    Ok(Err(why)) => {
                        tracing::warn!("events of {session} cannot be read: {why}");
                        return;
                    }
                    Err(_) => return,
                };
                if page.is_empty() {
                    break;
                }
                for event in page {
                    next = event.seq + 1;
                    self.client.send_notification::<Happened>(event).await;
                }
            }
            loop {
                match written.recv().await {
                    Ok(event) if event.session != session || event.seq < next => {}
                    Ok(event) if event.seq == next => {
                        next += 1;
                        let event = Event::clone(&event);
                        self.client.send_notification::<Happened>(event).await;
                    }
                    // Something was missed: the log has it.
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    /// Shows the client every proposal that chat and tasks make in a folder.
    async fn review_all(self, root: PathBuf, log: EventLog) {
        let mut written = log.subscribe();
        drop(log);
        loop {
            let event = match written.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            if let EventKind::Diff {
                proposal: Some(proposal),
                ..
            } = &event.kind
            {
                self.review(root.clone(), proposal.clone()).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
