//! `pairwright/session/{new,list,load,close,attach}`, `pairwright/chat/send` and
//! `pairwright/turn/cancel`, as requests and as commands.
//!
//! Holds: every request answers in milliseconds; answers to questions come as events. What the
//! user looks at is taken from the session when the request arrives.
//! Not here: what is answered (`chat`), how events reach the client (`lsp::events`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use super::dispatch::off_the_reader;
use super::{Server, convert};
use crate::chat::{Active, Ask, Chat, Reference, Sent, Surroundings};
use crate::error::UserError;
use crate::store::events::{Event, Session};

/// Sessions listed, and events answered by one `load`, unless told otherwise.
const LISTED: usize = 100;
const LOADED: usize = 1000;

/// The chats of all folders.
#[derive(Debug, Default)]
pub(super) struct Chats(Mutex<FxHashMap<PathBuf, Chat>>);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewParams {
    /// A document of the folder that is meant; the first folder when not given.
    text_document: Option<lsp::TextDocumentIdentifier>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListParams {
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionParams {
    session: String,
    /// The first event wanted, from 1.
    from_seq: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendParams {
    session: String,
    text: String,
    #[serde(default)]
    context_refs: Vec<Reference>,
    /// What the user looks at; the document used last when not given.
    text_document: Option<lsp::TextDocumentIdentifier>,
    /// The question is about no document, not the one used last either.
    #[serde(default)]
    without_document: bool,
    selection: Option<lsp::Range>,
    request_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CancelParams {
    session: String,
    turn: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct SessionResponse {
    session: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ListResponse {
    sessions: Vec<Session>,
}

#[derive(Debug, Serialize)]
pub(super) struct LoadResponse {
    session: Session,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
pub(super) struct AttachResponse {
    /// The position of the last event so far.
    last: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct CancelResponse {
    /// Whether a turn was under way.
    cancelled: bool,
}

impl Server {
    pub(super) async fn session_new(
        &self,
        params: Option<NewParams>,
    ) -> jsonrpc::Result<SessionResponse> {
        let document = params.unwrap_or_default().text_document;
        let root = match document.and_then(|document| self.within(&document.uri.0)) {
            Some((root, _)) => root,
            None => self.first_root()?,
        };
        self.on_chat(root, |_, chat| {
            let session = chat.begin();
            Ok(SessionResponse { session })
        })
        .await
    }

    pub(super) async fn session_list(
        &self,
        params: Option<ListParams>,
    ) -> jsonrpc::Result<ListResponse> {
        let limit = params.unwrap_or_default().limit.unwrap_or(LISTED);
        let mut sessions = Vec::new();
        for root in self.session.snapshot().roots.to_vec() {
            let of_root = self.on_chat(root, move |_, chat| {
                chat.log().sessions(limit).map_err(|why| failed(&why))
            });
            sessions.extend(of_root.await?);
        }
        // Ids begin with their kind; what follows sorts by time.
        sessions.sort_by_key(|session| std::cmp::Reverse(session.created));
        sessions.truncate(limit);
        Ok(ListResponse { sessions })
    }

    pub(super) async fn session_load(
        &self,
        params: SessionParams,
    ) -> jsonrpc::Result<LoadResponse> {
        self.on_session(params.session, move |_, (_, chat), session| {
            let found = chat.log().session(session).map_err(|why| failed(&why))?;
            let from = params.from_seq.unwrap_or(1);
            let limit = params.limit.unwrap_or(LOADED).min(LOADED);
            let events = chat.log().read_from(session, from, limit);
            Ok(LoadResponse {
                session: found.ok_or_else(|| unknown(session))?,
                events: events.map_err(|why| failed(&why))?,
            })
        })
        .await
    }

    pub(super) async fn session_close(&self, params: SessionParams) -> jsonrpc::Result<()> {
        self.on_session(params.session, |_, (_, chat), session| {
            chat.close(session);
            Ok(())
        })
        .await
    }

    pub(super) async fn session_attach(
        &self,
        params: SessionParams,
    ) -> jsonrpc::Result<AttachResponse> {
        self.on_session(params.session, move |server, (root, chat), session| {
            let found = chat.log().session(session).map_err(|why| failed(&why))?;
            let from = params.from_seq.unwrap_or(1);
            server.tell_from(root, session, from);
            Ok(AttachResponse {
                last: found.map_or(0, |found| found.last),
            })
        })
        .await
    }

    pub(super) async fn chat_send(&self, params: SendParams) -> jsonrpc::Result<Sent> {
        let snapshot = self.session.snapshot();
        let document = match &params.text_document {
            _ if params.without_document => None,
            Some(document) => snapshot.document(&document.uri.0).cloned(),
            // The document used last is the one the user looks at.
            None => snapshot.documents.first().cloned(),
        };
        let encoding = snapshot.encoding;
        let active = document.map(|document| {
            let byte = |at: lsp::Position| document.offset(convert::position(at), encoding);
            let selection = params.selection.as_ref();
            let start = selection.map_or(0, |range| byte(range.start));
            let end = selection.map_or(start, |range| byte(range.end).max(start));
            Active {
                document,
                selection: start..end,
            }
        });
        let engines = self.completer.engines();
        let references = params.context_refs.into_iter();
        let references = references.map(|r| self.within_folder(r)).collect();
        let surroundings = Surroundings { snapshot, active };
        self.on_session(params.session, move |server, (root, chat), session| {
            chat.load(session).map_err(|why| refused(&why))?;
            let workspace = server.workspace(root).map_err(|why| failed(&why))?;
            chat.send(Ask {
                session: session.to_owned(),
                question: params.text,
                references,
                surroundings,
                documents: server.documents(root, &workspace),
                index: engines.index.clone(),
                model: engines.models.chat.clone(),
                request: params.request_id,
            })
            .map_err(|why| refused(&why))
        })
        .await
    }

    pub(super) async fn turn_cancel(
        &self,
        params: CancelParams,
    ) -> jsonrpc::Result<CancelResponse> {
        // At once, and not behind other work on the disk.
        let chats: Vec<Chat> = self.chats.lock().values().cloned().collect();
        let cancelled = chats
            .iter()
            .any(|chat| chat.cancel(&params.session, params.turn));
        Ok(CancelResponse { cancelled })
    }

    /// Runs `work` with the chats of a folder, on a thread that may wait for the disk.
    async fn on_chat<T: Send + 'static>(
        &self,
        root: PathBuf,
        work: impl FnOnce(&Self, &Chat) -> jsonrpc::Result<T> + Send + 'static,
    ) -> jsonrpc::Result<T> {
        off_the_reader().await;
        let server = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let chat = server.chat(&root).map_err(|why| failed(&why))?;
            work(&server, &chat)
        });
        done.await.map_err(|why| failed(&why))?
    }

    /// Runs `work` with the chats of the folder that a session belongs to.
    async fn on_session<T: Send + 'static>(
        &self,
        session: String,
        work: impl FnOnce(&Self, (&Path, &Chat), &str) -> jsonrpc::Result<T> + Send + 'static,
    ) -> jsonrpc::Result<T> {
        off_the_reader().await;
        let server = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            for root in server.session.snapshot().roots.iter() {
                let chat = server.chat(root).map_err(|why| failed(&why))?;
                let is_kept = || chat.log().session(&session).map_err(|why| failed(&why));
                if chat.is_loaded(&session) || is_kept()?.is_some() {
                    return work(&server, (root, &chat), &session);
                }
            }
            Err(unknown(&session))
        });
        done.await.map_err(|why| failed(&why))?
    }

    fn chat(&self, root: &Path) -> anyhow::Result<Chat> {
        if let Some(known) = self.chats.lock().get(root) {
            return Ok(known.clone());
        }
        let log = self.log_of(root)?;
        let chat = Chat::new(self.workspace(root)?, log);
        let mut chats = self.chats.lock();
        Ok(chats.entry(root.to_owned()).or_insert(chat).clone())
    }

    /// A reference whose path is a uri, as the editor has them, by the path within its folder.
    fn within_folder(&self, reference: Reference) -> Reference {
        match reference {
            Reference::File {
                path,
                first_line,
                last_line,
            } => Reference::File {
                path: match self.within(&path) {
                    Some((_, inside)) => inside.as_str().to_owned(),
                    None => path,
                },
                first_line,
                last_line,
            },
            other => other,
        }
    }
}

impl Chats {
    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashMap<PathBuf, Chat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(session: &str) -> jsonrpc::Error {
    let shown: String = session.chars().take(64).collect();
    jsonrpc::Error::invalid_params(format!("there is no session {shown:?} in the open folders"))
}

fn failed(why: &dyn std::fmt::Display) -> jsonrpc::Error {
    jsonrpc::Error {
        code: jsonrpc::ErrorCode::ServerError(-32803),
        message: why.to_string().into(),
        data: None,
    }
}

fn refused(why: &UserError) -> jsonrpc::Error {
    jsonrpc::Error {
        data: why.hint.as_ref().map(|hint| json!({ "hint": hint })),
        ..failed(&why.message)
    }
}
