//! The language server: every message a client can send, and what it leads to.
//!
//! Holds: this module and those below it are the only ones that name LSP types. Handlers change
//! the session before their first await and contain no decisions of their own.

mod assist;
mod capabilities;
mod chat;
mod commands;
mod compat;
mod convert;
pub mod dispatch;
mod edits;
mod events;
mod ext;
pub mod framing;
mod metrics;
mod next_edit;
mod parent;
mod progress;
mod settings;
mod status;
mod sync;
mod tasks;
mod trust;
mod unfinished;

use std::io::{BufRead, Write};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc::{self, Result};
use tower_lsp_server::{Client, LanguageServer, LspService};
use tracing::Level;

use crate::agent::Tasks;
use crate::complete::engines::Engines;
use crate::complete::explain::Explanation;
use crate::complete::{Ask, Completer, Trigger};
use crate::config::current::Current;
use crate::index::{FolderStatus, Found, Indexes, SearchParams};
use crate::log::{Line, Log};
use crate::session::Session;
use crate::session::document::Document;
use dispatch::{Ending, off_the_reader};
use ext::{ExplainParams, InlineCompletionParams, Status, VersionedDocument};

/// What a server is started with besides its streams.
#[derive(Debug)]
pub struct Start {
    pub settings: Current,
    pub log: Log,
    /// Lines of the log that are meant for the editor.
    pub lines: mpsc::Receiver<Line>,
    /// Globs of files that the embedded engine must not learn from.
    pub exclude: Vec<String>,
}

/// Serves one client until it leaves. Blocks; call it outside the runtime.
pub fn serve(
    start: Start,
    input: impl BufRead,
    output: impl Write + Send + 'static,
    runtime: &Handle,
) -> Ending {
    let entered = runtime.enter();
    let Start {
        settings,
        log,
        lines,
        exclude,
    } = start;
    let service = LspService::build_with_lifecycle_methods(|client| {
        tokio::spawn(forward_lines(client.clone(), lines));
        Server::new(client, settings, log, exclude)
    })
    .custom_method("textDocument/didOpen", Server::did_open)
    .custom_method("textDocument/didChange", Server::did_change)
    .custom_method("textDocument/didClose", Server::did_close)
    .custom_method("textDocument/didSave", Server::did_save)
    .custom_method("textDocument/didFocus", Server::did_focus)
    .custom_method(
        "textDocument/didShowCompletion",
        Server::did_show_completion,
    )
    .custom_method(
        "textDocument/didPartiallyAcceptCompletion",
        Server::did_partially_accept_completion,
    )
    .custom_method("textDocument/inlineCompletion", Server::inline_completion)
    .custom_method("textDocument/completion", Server::completion)
    .custom_method("textDocument/copilotInlineEdit", Server::inline_edit)
    .custom_method(
        "textDocument/didShowInlineEdit",
        Server::did_show_inline_edit,
    )
    .custom_method(
        "workspace/didChangeConfiguration",
        Server::did_change_configuration,
    )
    .custom_method(
        "workspace/didChangeWorkspaceFolders",
        Server::did_change_workspace_folders,
    )
    .custom_method(
        "workspace/didChangeWatchedFiles",
        Server::did_change_watched_files,
    )
    .custom_method("workspace/executeCommand", Server::execute_command)
    .custom_method("textDocument/codeAction", Server::code_action)
    .custom_method("textDocument/codeLens", Server::code_lens)
    .custom_method("$/setTrace", Server::set_trace)
    .custom_method("pairwright/context/explain", Server::explain)
    .custom_method("pairwright/index/search", Server::search_index)
    .custom_method("pairwright/index/status", Server::index_status)
    .custom_method("pairwright/diff/list", Server::diff_list)
    .custom_method("pairwright/diff/compare", Server::diff_compare)
    .custom_method("pairwright/diff/preview", Server::diff_preview)
    .custom_method("pairwright/diff/apply", Server::diff_apply)
    .custom_method("pairwright/diff/resolve", Server::diff_resolve)
    .custom_method("pairwright/diff/rollback", Server::diff_rollback)
    .custom_method("pairwright/diff/history", Server::diff_history)
    .custom_method("pairwright/session/new", Server::session_new)
    .custom_method("pairwright/session/list", Server::session_list)
    .custom_method("pairwright/session/load", Server::session_load)
    .custom_method("pairwright/session/close", Server::session_close)
    .custom_method("pairwright/session/attach", Server::session_attach)
    .custom_method("pairwright/chat/send", Server::chat_send)
    .custom_method("pairwright/turn/cancel", Server::turn_cancel)
    .custom_method("pairwright/task/start", Server::task_start)
    .custom_method("pairwright/task/pause", Server::task_pause)
    .custom_method("pairwright/task/resume", Server::task_resume)
    .custom_method("pairwright/task/stop", Server::task_stop)
    .custom_method("pairwright/task/steer", Server::task_steer)
    .custom_method("pairwright/trust/get", Server::trust_get)
    .custom_method("pairwright/trust/set", Server::trust_set)
    .custom_method("pairwright/policy/get", Server::policy_get)
    .custom_method("pairwright/policy/grant", Server::policy_grant)
    .custom_method("pairwright/policy/revoke", Server::policy_revoke)
    .custom_method("pairwright/budget/get", Server::budget_get)
    .custom_method("pairwright/audit/query", Server::audit_query)
    .custom_method("pairwright/metrics/get", Server::metrics)
    .custom_method("pairwright/status/get", Server::get_status);
    let (service, socket) = compat::register(service).finish();
    drop(entered);
    dispatch::serve(input, output, service, socket, runtime)
}

async fn forward_lines(client: Client, mut lines: mpsc::Receiver<Line>) {
    while let Some(Line { level, text }) = lines.recv().await {
        let kind = match level {
            Level::ERROR => lsp::MessageType::Error,
            Level::WARN => lsp::MessageType::Warning,
            _ => lsp::MessageType::Info,
        };
        client.log_message(kind, text).await;
    }
}

/// The server of one client. Cheap to clone; clones are the same server.
#[derive(Debug, Clone)]
struct Server {
    client: Client,
    session: Arc<Session>,
    completer: Completer,
    edits: Arc<edits::Edits>,
    chats: Arc<chat::Chats>,
    tasks: Arc<Tasks>,
    logs: Arc<events::Logs>,
    trust: Arc<trust::Questions>,
    settings: Arc<Current>,
    log: Log,
    exclude: Arc<[String]>,
    capabilities: Arc<OnceLock<capabilities::Client>>,
    client_info: Arc<OnceLock<Option<lsp::ClientInfo>>>,
    /// How the client numbers the kinds of triggers, once it has shown it.
    counts_from_zero: Arc<OnceLock<bool>>,
    /// Set once the background work of the server has begun.
    started: Arc<OnceLock<()>>,
    /// The workspace folders are others than those in force.
    roots_changed: Arc<tokio::sync::Notify>,
    /// What keeps an engine from being made.
    problem: Arc<watch::Sender<Option<String>>>,
    /// Set once the client has shown that it speaks the legacy dialect.
    speaks_legacy: Arc<OnceLock<()>>,
    /// What the state tells of tasks.
    tasks_at_work: Arc<watch::Sender<status::TasksAtWork>>,
    /// The state that the client was told last.
    told: Arc<watch::Sender<Option<Status>>>,
}

impl Server {
    fn new(client: Client, settings: Current, log: Log, exclude: Vec<String>) -> Self {
        let session = Arc::new(Session::default());
        Self {
            client,
            completer: Completer::new(Arc::clone(&session), Engines::default()),
            session,
            edits: Arc::default(),
            chats: Arc::default(),
            tasks: Arc::default(),
            logs: Arc::default(),
            trust: Arc::default(),
            settings: Arc::new(settings),
            log,
            exclude: exclude.into(),
            capabilities: Arc::default(),
            client_info: Arc::default(),
            counts_from_zero: Arc::default(),
            started: Arc::default(),
            roots_changed: Arc::default(),
            speaks_legacy: Arc::default(),
            problem: Arc::new(watch::channel(None).0),
            tasks_at_work: Arc::new(watch::channel(status::TasksAtWork::default()).0),
            told: Arc::new(watch::channel(None).0),
        }
    }

    fn client_can(&self) -> capabilities::Client {
        self.capabilities.get().copied().unwrap_or_default()
    }
}

impl LanguageServer for Server {
    async fn initialize(&self, params: lsp::InitializeParams) -> Result<lsp::InitializeResult> {
        let roots = convert::roots(&params);
        let options = params.initialization_options.unwrap_or(Value::Null);
        let client = capabilities::Client::of(&params.capabilities, &options);
        let _ = self.capabilities.set(client);
        self.session.set_encoding(client.encoding);
        self.session.set_roots(roots.clone());
        self.settings.start(&options, roots);
        if let Some(process) = params.process_id {
            parent::exit_with(process);
        }
        let _ = self.client_info.set(params.client_info);
        Ok(lsp::InitializeResult {
            capabilities: capabilities::server(&client),
            server_info: Some(lsp::ServerInfo {
                name: "pairwright".into(),
                version: Some(env!("CARGO_PKG_VERSION").into()),
            }),
        })
    }

    async fn initialized(&self, _: lsp::InitializedParams) {
        self.start();
        let server = self.clone();
        tokio::spawn(async move { server.register().await });
    }

    async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}

impl Server {
    async fn inline_completion(
        &self,
        params: InlineCompletionParams,
    ) -> Result<Option<lsp::InlineCompletionList>> {
        let context = params.context;
        let trigger = self.trigger(context.trigger_kind, &params.text_document.uri);
        let selected = context.selected_completion_info;
        let Some(ask) = self.ask(&params.text_document, params.position, trigger, selected)? else {
            return Ok(None);
        };
        let request = self.completer.begin(ask.clone());
        off_the_reader().await;
        // Clients keep what they show on null and clear it on an empty list: a question that was
        // overtaken says nothing about the screen, one without suggestions does.
        let Some(items) = request.answer().await else {
            return Ok(None);
        };
        let items = items
            .iter()
            .map(|item| convert::inline_item(&ask, item))
            .collect();
        Ok(Some(lsp::InlineCompletionList { items }))
    }

    async fn completion(
        &self,
        params: lsp::CompletionParams,
    ) -> Result<Option<lsp::CompletionList>> {
        let at = params.text_document_position_params;
        let document = VersionedDocument {
            uri: at.text_document.uri,
            version: None,
        };
        let Some(ask) = self.ask(&document, at.position, Trigger::Automatic, None)? else {
            return Ok(None);
        };
        let request = self.completer.begin(ask.clone());
        off_the_reader().await;
        let items = request.answer().await.unwrap_or_default();
        let items: Vec<_> = items
            .iter()
            .map(|item| convert::menu_item(&ask, item))
            .collect();
        // What fits depends on every further character, so the list is never complete.
        Ok(Some(lsp::CompletionList {
            is_incomplete: true,
            items,
            ..lsp::CompletionList::default()
        }))
    }

    async fn explain(&self, params: ExplainParams) -> Result<Option<Explanation>> {
        let ask = self.ask(
            &params.text_document,
            params.position,
            Trigger::Automatic,
            None,
        )?;
        let completer = self.completer.clone();
        off_the_reader().await;
        Ok(match ask {
            Some(ask) => Some(completer.explain(&ask).await),
            None => None,
        })
    }

    async fn search_index(&self, params: SearchParams) -> Result<Vec<Found>> {
        let index = self.completer.engines().index.clone();
        let Some(index) = index else {
            return Ok(Vec::new());
        };
        let open = self.session.snapshot().documents;
        let vector = index.question(&params.query).await;
        let search = move || index.search(&params, &open, vector.as_deref());
        let found = tokio::task::spawn_blocking(search).await;
        Ok(found.unwrap_or_default())
    }

    async fn index_status(&self) -> Result<Vec<FolderStatus>> {
        let index = &self.completer.engines().index;
        Ok(index.as_ref().map_or_else(Vec::new, Indexes::statuses))
    }

    async fn get_status(&self, _: Value) -> Result<Status> {
        Ok(self.status())
    }

    async fn execute_command(&self, params: lsp::ExecuteCommandParams) -> Result<Value> {
        let arguments = params.arguments.unwrap_or_default();
        self.run_any_command(&params.command, arguments).await
    }

    /// Reads a trigger kind. In the final protocol 1 is explicit and 2 automatic; clients written
    /// before it count from zero. Until a client has shown which it is, a 1 right after an edit
    /// counts as automatic.
    fn trigger(&self, kind: Option<u32>, uri: &lsp::Uri) -> Trigger {
        let counts_from_zero = match kind {
            Some(0) => *self.counts_from_zero.get_or_init(|| true),
            Some(2) => *self.counts_from_zero.get_or_init(|| false),
            _ => self
                .counts_from_zero
                .get()
                .copied()
                .unwrap_or_else(|| self.completer.is_typing(&uri.0)),
        };
        match kind {
            Some(0) => Trigger::Invoked,
            Some(1) if !counts_from_zero => Trigger::Invoked,
            _ => Trigger::Automatic,
        }
    }

    /// Makes the question of a request out of what is open; `None` when the client asks about a
    /// version that is gone.
    fn ask(
        &self,
        document: &VersionedDocument,
        at: lsp::Position,
        trigger: Trigger,
        selected: Option<lsp::SelectedCompletionInfo>,
    ) -> Result<Option<Ask>> {
        let snapshot = self.session.snapshot();
        let Some(found) = snapshot.document(&document.uri.0) else {
            return Err(not_open(&document.uri));
        };
        let found: Arc<Document> = Arc::clone(found);
        if document
            .version
            .is_some_and(|version| version != found.version)
        {
            return Ok(None);
        }
        Ok(Some(convert::ask(snapshot, found, at, trigger, selected)))
    }
}

fn not_open(uri: &lsp::Uri) -> jsonrpc::Error {
    let message = format!("{} is not open; send textDocument/didOpen first", uri.0);
    jsonrpc::Error::invalid_params(message)
}
