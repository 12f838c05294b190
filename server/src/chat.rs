//! Chat: questions about a repository, answered by a model that is shown the right pieces of it,
//! or by search where there is no model.
//!
//! Holds: everything that happens is an event of the session's log before a face sees it; one
//! turn of a session runs at a time; stopping a turn drops its request at the model at once. A
//! model is shown bounded pieces without secrets, and nothing outside the folder. Files change
//! only by hunks that the user accepts.
//! Not here: faces (`lsp`, `cli`, `acp`), tools (`agent`), how places are found (`indexer`).

mod answer;
mod cite;
mod conversation;
mod grounding;
mod outbound;
mod prompt;
mod search;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use rustc_hash::FxHashMap;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use self::grounding::{Active, Diagnostic, Reference, Surroundings};

use self::conversation::Conversation;
use crate::edit::workspace::Workspace;
use crate::edit::worlds::Documents;
use crate::error::{Kind, UserError};
use crate::index::Indexes;
use crate::model::TurnModel;
use crate::store::events::{Durability, EventKind, EventLog, Target, new_id};

/// Longest question, in bytes.
const LONGEST_QUESTION: usize = 64 << 10;

/// Sessions whose conversation is kept in memory.
const MOST_LIVE: usize = 64;

/// Request keys that are remembered.
const MOST_REQUESTS: usize = 1024;

/// The editor's open documents, or none.
pub type OpenDocuments = Arc<dyn Documents + Send + Sync>;

/// The chats of one workspace folder. Cheap to clone; clones are the same. Methods that read or
/// write the log wait for the disk: call them where that is allowed.
#[derive(Clone)]
pub struct Chat(Arc<Inner>);

struct Inner {
    log: EventLog,
    root: PathBuf,
    workspace: Arc<Workspace>,
    live: Mutex<Live>,
    running: Mutex<Running>,
}

/// What stops the turn that a session has under way. Held for no longer than it takes to look, so
/// that a turn can be stopped while others wait for the disk.
type Running = FxHashMap<String, (u32, CancellationToken)>;

#[derive(Default)]
struct Live {
    sessions: FxHashMap<String, Session>,
    /// Turns by the client's key, oldest first.
    requests: Vec<(String, Sent)>,
}

struct Session {
    /// `None` while a turn has it.
    conversation: Option<Conversation>,
    /// Orders sessions by their last use.
    used: u64,
}

/// A question and what is known around it.
pub struct Ask {
    pub session: String,
    pub question: String,
    /// What the user pointed at.
    pub references: Vec<Reference>,
    pub surroundings: Surroundings,
    pub documents: OpenDocuments,
    pub index: Option<Indexes>,
    /// `None`: search answers.
    pub model: Option<TurnModel>,
    /// Asking again under the same key starts no second turn.
    pub request: Option<String>,
}

/// A turn that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    pub session: String,
    pub turn: u32,
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat")
            .field("root", &self.0.root)
            .finish_non_exhaustive()
    }
}

impl Chat {
    /// The chats of the folder of `workspace`, kept in `log`.
    pub fn new(workspace: Arc<Workspace>, log: EventLog) -> Self {
        Self(Arc::new(Inner {
            log,
            root: workspace.root().path().to_owned(),
            workspace,
            live: Mutex::default(),
            running: Mutex::default(),
        }))
    }

    pub fn log(&self) -> &EventLog {
        &self.0.log
    }

    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Begins a session, which is kept once something is asked in it. Returns its id.
    pub fn begin(&self) -> String {
        let id = new_id('s');
        let mut live = self.0.live();
        live.insert(&id, Conversation::default());
        id
    }

    /// Makes sure that a session is there, reading it from the log if it is not in memory.
    ///
    /// # Errors
    /// When there is no such session, or it is a task.
    pub fn load(&self, session: &str) -> Result<(), UserError> {
        if self.is_loaded(session) {
            return Ok(());
        }
        let log = &self.0.log;
        let known = log.session(session).map_err(|why| unreadable(&why))?;
        match known {
            None => Err(unknown(session)),
            Some(found) if found.state.is_some() => Err(UserError::new(
                Kind::Workspace,
                format!("{session} is a task; steer it instead of asking in it."),
            )),
            Some(_) => {
                let read = Conversation::read(log, session).map_err(|why| unreadable(&why))?;
                self.0.live().insert(session, read);
                Ok(())
            }
        }
    }

    /// Whether a session is in memory.
    pub fn is_loaded(&self, session: &str) -> bool {
        self.0.live().sessions.contains_key(session)
    }

    /// Forgets a session that is in memory and stops its turn; its log stays.
    pub fn close(&self, session: &str) {
        self.0.live().sessions.remove(session);
        self.cancel(session, None);
    }

    /// Asks in a session that was begun or loaded. Returns at once; the answer comes as events of
    /// the log. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the session is unknown, its last turn still runs, or the question is empty or too
    /// long.
    pub fn send(&self, ask: Ask) -> Result<Sent, UserError> {
        if ask.question.trim().is_empty() {
            return Err(UserError::new(Kind::Workspace, "The question is empty."));
        }
        if ask.question.len() > LONGEST_QUESTION {
            let message = format!(
                "The question is longer than {} KiB.",
                LONGEST_QUESTION >> 10
            );
            return Err(UserError::new(Kind::Limit, message)
                .with_hint("Refer to a file instead of pasting it."));
        }
        let mut live = self.0.live();
        if let Some(request) = &ask.request
            && let Some((_, sent)) = live.requests.iter().find(|(known, _)| known == request)
        {
            return Ok(sent.clone());
        }
        let used = live.next_use();
        let Some(session) = live.sessions.get_mut(&ask.session) else {
            return Err(unknown(&ask.session));
        };
        let Some(mut conversation) = session.conversation.take() else {
            return Err(UserError::new(
                Kind::Limit,
                "The last question of this session is still being answered.",
            )
            .with_hint("Wait for it or stop it."));
        };
        conversation.turn += 1;
        let turn = conversation.turn;
        let stop = CancellationToken::new();
        session.used = used;
        let running = (turn, stop.clone());
        self.0.running().insert(ask.session.clone(), running);
        let sent = Sent {
            session: ask.session.clone(),
            turn,
        };
        if let Some(request) = &ask.request {
            live.requests.push((request.clone(), sent.clone()));
            if live.requests.len() > MOST_REQUESTS {
                live.requests.remove(0);
            }
        }
        drop(live);
        // It ends by itself or by its token, and writes down how.
        tokio::spawn(Arc::clone(&self.0).run(ask, conversation, stop));
        Ok(sent)
    }

    /// Writes down that a question of a session is answered by a task, which has a record of its own.
    ///
    /// # Errors
    /// When the session is not in memory, or nothing can be written down.
    pub fn hand_over(
        &self,
        session: &str,
        question: String,
        task: String,
    ) -> Result<(), UserError> {
        let turn = {
            let mut live = self.0.live();
            let known = live.sessions.get_mut(session);
            let known = known.ok_or_else(|| unknown(session))?;
            known.conversation.as_mut().map_or(0, |conversation| {
                conversation.turn += 1;
                conversation.turn
            })
        };
        let asked = EventKind::Question {
            text: question,
            shown: Vec::new(),
            task: Some(task),
        };
        let target = Target {
            session,
            turn,
            lease: None,
        };
        let kinds = vec![asked, answer::done("task", None)];
        let written = self.0.log.append(target, kinds, Durability::Synced);
        written.map(drop).map_err(|why| {
            let message = format!("The session cannot be written: {why}.");
            UserError::new(Kind::Workspace, message)
        })
    }

    /// Stops a turn; without a number the one under way. Returns whether one was.
    pub fn cancel(&self, session: &str, turn: Option<u32>) -> bool {
        let running = self.0.running();
        let is_meant = |(at, _): &&(u32, CancellationToken)| turn.is_none_or(|turn| turn == *at);
        let meant = running.get(session).filter(is_meant);
        if let Some((_, stop)) = meant {
            stop.cancel();
        }
        meant.is_some()
    }
}

impl Inner {
    /// Carries one turn to its end and gives the conversation back.
    async fn run(
        self: Arc<Self>,
        ask: Ask,
        mut conversation: Conversation,
        stop: CancellationToken,
    ) {
        let session = ask.session.clone();
        let turn = conversation.turn;
        let answering = AssertUnwindSafe(self.answer(ask, &mut conversation, &stop));
        let answered = match answering.catch_unwind().await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(why)) => Err(format!("{why:#}")),
            Err(_) => Err("Pairwright failed inside; its log has more.".to_owned()),
        };
        let (conversation, done) = match answered {
            Ok(done) => (Some(conversation), done),
            Err(why) => {
                tracing::warn!("a chat turn broke off: {why}");
                // What is in memory may be half of it; the log is read again.
                (None, answer::done("failed", Some(why)))
            }
        };
        let ending = tokio::task::spawn_blocking(move || {
            self.end(&session, turn, conversation, done);
        });
        if let Err(why) = ending.await {
            tracing::error!("a chat turn was not ended: {why}");
        }
    }

    /// Gives the conversation back and writes down that the turn is over, as one: whoever hears of
    /// the end can ask again, and nothing of the next turn stands before it. What was said is in
    /// the log by now, so that the end need not wait for the disk.
    fn end(&self, session: &str, turn: u32, conversation: Option<Conversation>, done: EventKind) {
        let mut live = self.live();
        let mut running = self.running();
        // A session that was closed and loaded meanwhile has another turn, or none.
        if running.get(session).is_some_and(|(at, _)| *at == turn) {
            running.remove(session);
            match (live.sessions.get_mut(session), conversation) {
                (Some(known), Some(conversation)) => known.conversation = Some(conversation),
                _ => drop(live.sessions.remove(session)),
            }
        }
        drop(running);
        let target = Target {
            session,
            turn,
            lease: None,
        };
        let written = self.log.append(target, vec![done], Durability::Soon);
        if let Err(why) = written {
            // It may be the log that fails; then nobody can be told.
            tracing::warn!("the end of a chat turn cannot be written down: {why}");
        }
    }

    /// Writes events down on a thread that may wait, in order. Returns the position of the last.
    async fn append(
        self: &Arc<Self>,
        session: &str,
        turn: u32,
        kinds: Vec<EventKind>,
        durability: Durability,
    ) -> anyhow::Result<u64> {
        let (inner, session) = (Arc::clone(self), session.to_owned());
        let writing = tokio::task::spawn_blocking(move || {
            let target = Target {
                session: &session,
                turn,
                lease: None,
            };
            let written = inner.log.append(target, kinds, durability)?;
            Ok(written.last().map_or(0, |event| event.seq))
        });
        writing.await?
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn next_use(&self) -> u64 {
        let newest = self.sessions.values().map(|session| session.used).max();
        newest.map_or(0, |newest| newest + 1)
    }

    /// Adds a session; the one that was used longest ago and is not at work gives way. It can be
    /// loaded again.
    fn insert(&mut self, id: &str, conversation: Conversation) {
        if self.sessions.len() >= MOST_LIVE {
            let idle = self
                .sessions
                .iter()
                .filter(|(_, session)| session.conversation.is_some());
            let oldest = idle.min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.sessions.remove(&oldest);
            }
        }
        let used = self.next_use();
        self.sessions.insert(
            id.to_owned(),
            Session {
                conversation: Some(conversation),
                used,
            },
        );
    }
}

fn unknown(session: &str) -> UserError {
    let shown: String = session.chars().take(64).collect();
    UserError::new(
        Kind::Workspace,
        format!("There is no chat session {shown:?} in this folder."),
    )
    .with_hint("Begin one, or list those that are kept.")
}

fn unreadable(why: &crate::store::StoreError) -> UserError {
    UserError::new(
        Kind::Workspace,
        format!("The session cannot be read: {why}."),
    )
}
