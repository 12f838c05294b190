//! Sessions of a client: each is a chat session of a folder, with a mode that says who answers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::connection::Refusal;
use super::documents::ClientDocuments;
use super::{Acp, servers, text, update};
use crate::agent::{self, Control, Handle};
use crate::chat::Chat;
use crate::config::McpServer;
use crate::edit::workspace::Workspace;
use crate::index::{Indexes, cache_dir};
use crate::model::{TurnModel, TurnUsage};
use crate::shown::printable;
use crate::store::events::{Event, EventKind, EventLog};

/// Sessions listed at most.
const LISTED: usize = 200;

/// Events read from a log to be replayed, at a time.
const PAGE: usize = 1000;

/// Who answers a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// Chat.
    #[default]
    Ask,
    Task(agent::Mode),
}

impl Mode {
    const ALL: [(Self, &'static str, &'static str, &'static str); 4] = [
        (
            Self::Ask,
            "ask",
            "Ask",
            "Answers questions; changes it proposes are yours to decide",
        ),
        (
            Self::Task(agent::Mode::Plan),
            "plan",
            "Plan",
            "Looks and sets up a plan; changes nothing, runs nothing",
        ),
        (
            Self::Task(agent::Mode::Review),
            "review",
            "Task",
            "Works with tools in a sandbox and proposes hunks",
        ),
        (
            Self::Task(agent::Mode::Auto),
            "auto",
            "Task, applied",
            "As a task, and applies its hunks at the end; one token takes them back",
        ),
    ];

    pub(super) fn of_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, id, ..)| *id == name);
        found.map(|(mode, ..)| *mode)
    }
}

/// What one folder's sessions share.
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) workspace: Arc<Workspace>,
    pub(super) log: EventLog,
    pub(super) chat: Chat,
    pub(super) index: Option<Indexes>,
}

/// One session of the client.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) folder: Arc<Folder>,
    pub(super) documents: Arc<ClientDocuments>,
    /// MCP servers that the client named for this session.
    pub(super) servers: BTreeMap<String, McpServer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: Mode,
    /// Stops the prompt under way before it has begun a turn or a task.
    stop: CancellationToken,
    /// The task that answers the prompt under way.
    task: Option<Handle>,
    /// What the session has cost, in US dollars; `None` while nobody said anything of it.
    cost: Option<f64>,
}

impl Session {
    pub(super) fn mode(&self) -> Mode {
        self.state().mode
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.state().mode = mode;
    }

    pub(super) fn set_task(&self, task: Handle) {
        self.state().task = Some(task);
    }

    /// Lets go of a task that has ended. The next prompt may have one already, which stays.
    pub(super) fn clear_task(&self, ended: &Handle) {
        self.state().task.take_if(|task| task.is_same(ended));
    }

    /// Adds what a turn cost. Returns what the session has cost so far.
    pub(super) fn spend(&self, cost: Option<f64>) -> Option<f64> {
        let mut state = self.state();
        if let Some(cost) = cost {
            *state.cost.get_or_insert(0.0) += cost;
        }
        state.cost
    }

    /// Begins a prompt; returns what stops it.
    pub(super) fn begin(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        self.state().stop = stop.clone();
        stop
    }

    /// Stops the prompt under way.
    pub(super) fn cancel(&self) {
        self.state().stop.cancel();
        self.folder.chat.cancel(&self.id, None);
        if let Some(task) = &self.state().task {
            task.send(Control::Stop);
        }
    }

    /// The client is gone: an answer of chat ends, a task pauses and can be taken up again.
    fn leave(&self) {
        self.folder.chat.cancel(&self.id, None);
        if let Some(task) = &self.state().task {
            task.send(Control::Leave);
        }
    }

    pub(super) fn modes(&self) -> Value {
        let current = self.mode();
        let id = |mode: Mode| Mode::ALL.iter().find(|(m, ..)| *m == mode).map(|m| m.1);
        let mode = |(_, id, name, description): &(Mode, &str, &str, &str)| json!({ "id": id, "name": name, "description": description });
        json!({
            "currentModeId": id(current),
            "availableModes": Mode::ALL.iter().map(mode).collect::<Vec<_>>(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions of a client and the folders they are in.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    folders: Mutex<HashMap<PathBuf, Arc<Folder>>>,
}

impl Sessions {
    pub(super) fn get(&self, id: &str) -> Result<Arc<Session>, Refusal> {
        let found = lock(&self.open).get(id).cloned();
        found.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            Refusal::params(format!("there is no session {shown:?}; begin or load one"))
        })
    }

    /// Ends a session: its prompt is stopped, its record stays.
    pub(super) fn close(&self, id: &str) -> Result<(), Refusal> {
        self.get(id)?.cancel();
        lock(&self.open).remove(id);
        Ok(())
    }

    pub(super) fn leave_all(&self) {
        for session in lock(&self.open).values() {
            session.leave();
        }
    }
}

impl Acp {
    /// Opens a session in a folder: the one of the id, or a new one.
    pub(super) async fn open(
        self: &Arc<Self>,
        params: &Value,
        id: Option<String>,
    ) -> Result<Arc<Session>, Refusal> {
        let (root, spelled) = (super::folder(params)?, PathBuf::from(text(params, "cwd")?));
        let servers = servers::read(&params["mcpServers"])?;
        let files = self.files.get().copied().unwrap_or_default();
        let acp = Arc::clone(self);
        let opening = tokio::task::spawn_blocking(move || {
            let folder = acp
                .folder(&root)
                .map_err(|why| Refusal::failed(format!("{why:#}")))?;
            let id = match id {
                Some(id) => {
                    let loaded = folder.chat.load(&id);
                    loaded.map_err(|why| Refusal::params(why.to_string()))?;
                    id
                }
                None => folder.chat.begin(),
            };
            let documents = ClientDocuments::new(
                acp.connection.clone(),
                id.clone(),
                files,
                Arc::clone(&folder.workspace),
                spelled,
            );
            let session = Arc::new(Session {
                id: id.clone(),
                folder,
                documents: Arc::new(documents),
                servers,
                state: Mutex::default(),
            });
            lock(&acp.sessions.open).insert(id, Arc::clone(&session));
            Ok(session)
        });
        opening.await.unwrap_or_else(|_| Err(Refusal::bug()))
    }

    /// Opens what the sessions of a folder share. Reads the disk; must be called within the
    /// runtime.
    fn folder(&self, root: &Path) -> anyhow::Result<Arc<Folder>> {
        let mut folders = lock(&self.sessions.folders);
        if let Some(known) = folders.get(root) {
            return Ok(Arc::clone(known));
        }
        self.settings.set_roots(vec![root.to_owned()]);
        let directories = self.settings.directories();
        let state = directories.state.as_deref().ok_or_else(|| {
            anyhow::anyhow!("there is no home directory to keep sessions in; set XDG_STATE_HOME")
        })?;
        let workspace = Arc::new(Workspace::open(root, state)?);
        let log = EventLog::new(Arc::clone(workspace.store())).of_folder(workspace.root().path());
        let index = match self.settings.get().settings.index.enabled {
            true => Some(Indexes::new(&[root.to_owned()], cache_dir(directories)?)),
            false => None,
        };
        if let Some(index) = index.clone() {
            // Prompts are answered from what is indexed so far.
            tokio::task::spawn_blocking(move || index.load());
        }
        let folder = Arc::new(Folder {
            root: root.to_owned(),
            chat: Chat::new(Arc::clone(&workspace), log.clone()),
            workspace,
            log,
            index,
        });
        folders.insert(root.to_owned(), Arc::clone(&folder));
        Ok(folder)
    }

    /// Tells the client what was said in a session, and what its tasks did.
    pub(super) async fn replay(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), Refusal> {
        let (acp, session) = (Arc::clone(self), Arc::clone(session));
        let replaying = tokio::task::spawn_blocking(move || {
            let mut told = HashSet::new();
            each_event(&session, &session.id, |event| {
                if let EventKind::Usage { usage, model, .. } = &event.kind {
                    acp.tell_usage(&session, usage, model, acp.models.chat.as_ref());
                }
                if let Some(update) = update::replayed(&event.kind) {
                    acp.connection.update(&session.id, &update);
                }
                match &event.kind {
                    // One that was taken up again is told whole where it began.
                    EventKind::Question {
                        task: Some(task), ..
                    } if told.insert(task.clone()) => acp.replay_task(&session, task),
                    _ => Ok(()),
                }
            })
        });
        replaying.await.unwrap_or_else(|_| Err(Refusal::bug()))
    }

    fn replay_task(&self, session: &Session, task: &str) -> Result<(), Refusal> {
        each_event(session, task, |event| {
            if let EventKind::Usage { usage, model, .. } = &event.kind {
                self.tell_usage(session, usage, model, self.models.agent.as_ref());
            }
            if let Some(update) = update::of_task(&event.kind) {
                self.connection.update(&session.id, &update);
            }
            Ok(())
        })
    }

    /// Tells what a turn took of the window of the model that answered, and what the session has
    /// cost. Of what took nothing, a pause for example, nothing is told.
    pub(super) fn tell_usage(
        &self,
        session: &Session,
        usage: &TurnUsage,
        answered: &str,
        models: Option<&TurnModel>,
    ) {
        let cost = session.spend(usage.cost);
        if let Some(models) = models.filter(|_| *usage != TurnUsage::default()) {
            let update = update::usage(usage, models.context_of(answered), cost);
            self.connection.update(&session.id, &update);
        }
    }

    /// Says in a new session which task of its folder is left to be taken up.
    pub(super) async fn tell_unfinished(&self, session: &Session) -> Result<(), Refusal> {
        let log = session.folder.log.clone();
        let reading = tokio::task::spawn_blocking(move || log.unfinished());
        let left = reading.await.map_err(|_| Refusal::bug())?;
        let left = left.map_err(Refusal::failed)?;
        if let Some(newest) = left.first() {
            let text = format!(
                "A task is not finished: {}. Take it up with `/resume {id}`, or end it with `/stop {id}`.\n\n",
                printable(&newest.title),
                id = newest.id
            );
            let told = update::chunk("agent_message_chunk", &text);
            self.connection.update(&session.id, &told);
        }
        Ok(())
    }

    /// Answers `session/list`: the chats of a folder, newest first.
    pub(super) async fn list(self: &Arc<Self>, params: &Value) -> Result<Value, Refusal> {
        if text(params, "cwd").is_err() {
            return Ok(json!({ "sessions": [] }));
        }
        let root = super::folder(params)?;
        let acp = Arc::clone(self);
        let listing = tokio::task::spawn_blocking(move || {
            let folder = acp
                .folder(&root)
                .map_err(|why| Refusal::failed(format!("{why:#}")))?;
            let sessions = folder.log.sessions(LISTED).map_err(Refusal::failed)?;
            let chats = sessions.iter().filter(|session| session.state.is_none());
            let info = |session: &crate::store::events::Session| json!({ "sessionId": session.id, "cwd": folder.root, "title": session.title });
            Ok(json!({ "sessions": chats.map(info).collect::<Vec<_>>() }))
        });
        listing.await.unwrap_or_else(|_| Err(Refusal::bug()))
    }
}

/// Hands out the events of the log of a session's folder that are of `id`, in their order.
fn each_event(
    session: &Session,
    id: &str,
    mut tell: impl FnMut(&Event) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut from = 1;
    loop {
        let page = session.folder.log.read_from(id, from, PAGE);
        let page = page.map_err(Refusal::failed)?;
        for event in &page {
            from = event.seq + 1;
            tell(event)?;
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
