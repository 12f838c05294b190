//! `pairwright/event`: what happens in sessions, told as it is written down.
//!
//! Holds: one log for each folder, shared by chat and tasks. A client is told the events of a
//! session in the order of their `seq`, each once: from the first one that is written while it
//! listens, or from where it attached. Who falls behind is told from the log.
//! Not here: what the events are of (`chat`, `tasks`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;
use tower_lsp_server::gen_lsp_types::{LspNotificationMethod, MessageDirection, Notification};

use super::Server;
use crate::store::events::{Event, EventKind, EventLog};

/// Events read from the log at a time.
const PAGE: usize = 500;

/// `pairwright/event`.
pub(super) enum SessionEvent {}

impl Notification for SessionEvent {
    type Params = Event;
    const METHOD: LspNotificationMethod<'static> =
        LspNotificationMethod::Custom("pairwright/event");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

/// The logs of all folders.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<FxHashMap<PathBuf, Told>>);

/// A log, and where to say from which position a session is wanted.
#[derive(Debug)]
struct Told {
    log: EventLog,
    attach: mpsc::UnboundedSender<Wanted>,
}

/// A session, and the position of the first event to tell.
type Wanted = (String, u64);

impl Server {
    /// The log of a folder; what is written to it is told to a client that announced `events`.
    /// Reads the disk; must be called within the runtime.
    pub(super) fn log_of(&self, root: &Path) -> anyhow::Result<EventLog> {
        let workspace = self.workspace(root)?;
        let mut logs = self.logs.lock();
        if let Some(told) = logs.get(root) {
            return Ok(told.log.clone());
        }
        let log = EventLog::new(Arc::clone(workspace.store())).of_folder(workspace.root().path());
        let (attach, attached) = mpsc::unbounded_channel();
        let teller = Teller {
            server: self.clone(),
            root: root.to_owned(),
            log: log.clone(),
            next: FxHashMap::default(),
            tells: self.client_can().announced.events,
        };
        tokio::spawn(teller.run(log.subscribe(), attached));
        let told = Told {
            log: log.clone(),
            attach,
        };
        logs.insert(root.to_owned(), told);
        Ok(log)
    }

    /// Has the events of a session told from position `from` on, those that were and those that
    /// come.
    pub(super) fn tell_from(&self, root: &Path, session: &str, from: u64) {
        if let Some(told) = self.logs.lock().get(root) {
            // The task ends with the server.
            let _ = told.attach.send((session.to_owned(), from.max(1)));
        }
    }
}

impl Logs {
    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashMap<PathBuf, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a client the events of one log.
struct Teller {
    server: Server,
    root: PathBuf,
    log: EventLog,
    /// The position of the next event of each session.
    next: FxHashMap<String, u64>,
    /// Whether the client takes events.
    tells: bool,
}

impl Teller {
    async fn run(
        mut self,
        mut written: Receiver<Arc<Event>>,
        mut attached: mpsc::UnboundedReceiver<Wanted>,
    ) {
        loop {
            tokio::select! {
                biased;
                wanted = attached.recv() => {
                    let Some((session, from)) = wanted else { return };
                    self.next.insert(session.clone(), from);
                    self.catch_up(&session).await;
                }
                event = written.recv() => match event {
                    Ok(event) => self.take(&event).await,
                    Err(RecvError::Lagged(n)) => {
                        tracing::debug!(n, "events are told from the log");
                        let sessions: Vec<String> = self.next.keys().cloned().collect();
                        for session in sessions {
                            self.catch_up(&session).await;
                        }
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    async fn take(&mut self, event: &Arc<Event>) {
        let next = self.next.get(&event.session).copied();
        match next.unwrap_or(event.seq) {
            next if event.seq < next => {}
            next if event.seq == next => self.tell(Event::clone(event)).await,
            _ => self.catch_up(&event.session).await,
        }
    }

    /// Tells what the log has of a session and the client was not told.
    async fn catch_up(&mut self, session: &str) {
        loop {
            let from = self.next.get(session).copied().unwrap_or(1);
            let (log, of) = (self.log.clone(), session.to_owned());
            let reading = tokio::task::spawn_blocking(move || log.read_from(&of, from, PAGE));
            let page = match reading.await {
                Ok(Ok(page)) => page,
                Ok(Err(why)) => {
                    tracing::warn!("events of {session} cannot be read: {why}");
                    return;
                }
                Err(_) => return,
            };
            let is_last = page.len() < PAGE;
            for event in page {
                self.tell(event).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn tell(&mut self, event: Event) {
        self.next.insert(event.session.clone(), event.seq + 1);
        if let EventKind::Diff {
            proposal: Some(proposal),
            ..
        } = &event.kind
        {
            self.server
                .review(self.root.clone(), proposal.clone())
                .await;
        }
        if self.tells {
            let client = &self.server.client;
            client.send_notification::<SessionEvent>(event).await;
        }
    }
}
