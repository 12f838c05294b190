//! `pairwright/task/*`, `pairwright/policy/*`, `pairwright/budget/get`, `pairwright/audit/query`,
//! and the questions of tasks.
//!
//! Holds: starting answers at once with an id; everything else comes as events. A question goes to
//! a client that announced `approvals` as a request of ours, to every other as
//! `window/showMessageRequest`; closing the window is no.
//! Not here: what tasks do (`agent`).

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tower_lsp_server::gen_lsp_types::{
    self as lsp, LspRequestMethod, MessageDirection, ProgressToken, Request,
};
use tower_lsp_server::jsonrpc;

use super::Server;
use super::edits::{EditorDocuments, failed};
use crate::agent::governor::{Ceilings, Limits};
use crate::agent::policy::{Policy, Sources};
use crate::agent::{Ask, Attendance, Control, Handle, Mode, Setup, unanswered};
use crate::error::UserError;
use crate::mcp::Servers;
use crate::shown::harmless;
use crate::store::events::{
    Answer, Approval, Decision, Durability, Event, EventKind, EventLog, Grant, GrantScope,
    Permission, Spent, Subject, Target, TaskState, new_id,
};
use crate::store::now;

/// Events that one query answers at most.
const MAX_EVENTS: usize = 1_000;
/// Characters of a summary that are shown in a message.
const LONGEST_END: usize = 300;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StartParams {
    prompt: String,
    #[serde(default)]
    mode: Mode,
    /// A document of the folder to work in; the first folder when not given.
    #[serde(default)]
    text_document: Option<lsp::TextDocumentIdentifier>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    work_done_token: Option<ProgressToken>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskParams {
    pub(super) task: String,
    /// What to tell the model (`steer`).
    #[serde(default)]
    pub(super) text: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct StartResponse {
    task: String,
}

#[derive(Debug, Serialize)]
pub(super) struct StateResponse {
    state: TaskState,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrantParams {
    allows: Permission,
    /// The task it is for; the whole folder when not given.
    #[serde(default)]
    task: Option<String>,
    /// Seconds until it ends; for a folder 30 days when not given.
    #[serde(default)]
    seconds: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct GrantResponse {
    grant: Grant,
}

#[derive(Debug, Deserialize)]
pub(super) struct RevokeParams {
    grant: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BudgetResponse {
    ceilings: Ceilings,
    spent: Spent,
    state: TaskState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuditParams {
    /// The list of sessions when not given.
    session: Option<String>,
    from_seq: u64,
    most: Option<usize>,
}

/// `pairwright/approval/request`.
enum ApprovalRequest {}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ApprovalRequestParams {
    task: String,
    #[serde(flatten)]
    approval: Approval,
}

/// What the client answers; nothing is no.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ApprovalResponse {
    decision: Decision,
    #[serde(default)]
    scope: Option<GrantScope>,
    #[serde(default)]
    text: Option<String>,
}

impl Request for ApprovalRequest {
    type Params = ApprovalRequestParams;
    type Result = Option<ApprovalResponse>;
    const METHOD: LspRequestMethod<'static> =
        LspRequestMethod::Custom("pairwright/approval/request");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl Server {
    pub(super) async fn task_start(&self, params: StartParams) -> jsonrpc::Result<StartResponse> {
        let root = match &params.text_document {
            Some(document) => self.folder_of(&document.uri.0)?,
            None => self.first_root()?,
        };
        let ask = Ask {
            prompt: params.prompt,
            mode: params.mode,
            limits: params.limits,
            request: params.request_id,
        };
        let token = params.work_done_token;
        let handle = self
            .with_setup(root, token, move |server, setup| {
                server.tasks.start(setup, ask)
            })
            .await?;
        Ok(StartResponse { task: handle.id })
    }

    pub(super) async fn task_resume(&self, params: TaskParams) -> jsonrpc::Result<StateResponse> {
        let task = params.task;
        let root = self.folder_of_session(&task).await?;
        if let Some(handle) = self.tasks.get(&task) {
            handle.settled().await;
        }
        let handle = self
            .with_setup(root, None, move |server, setup| {
                server.tasks.resume(setup, &task)
            })
            .await?;
        let state = handle.state().unwrap_or(TaskState::Running);
        Ok(StateResponse { state })
    }

    pub(super) async fn task_pause(&self, params: TaskParams) -> jsonrpc::Result<StateResponse> {
        self.control(&params.task, Control::Pause).await
    }

    pub(super) async fn task_stop(&self, params: TaskParams) -> jsonrpc::Result<StateResponse> {
        self.control(&params.task, Control::Stop).await
    }

    pub(super) async fn task_steer(&self, params: TaskParams) -> jsonrpc::Result<StateResponse> {
        let text = params
            .text
            .ok_or_else(|| jsonrpc::Error::invalid_params("`text` is missing"))?;
        self.control(&params.task, Control::Steer(text)).await
    }

    async fn control(&self, task: &str, control: Control) -> jsonrpc::Result<StateResponse> {
        let handle = self.tasks.get(task).ok_or_else(|| {
            jsonrpc::Error::invalid_params(format!("the task {task} does not run here"))
        })?;
        match handle.send(control) {
            true => Ok(StateResponse {
                state: handle.state().unwrap_or(TaskState::Running),
            }),
            false => Err(failed("the task takes nothing now")),
        }
    }

    pub(super) async fn policy_get(&self, _: Value) -> jsonrpc::Result<Value> {
        let root = self.first_root()?;
        self.on_disk(move |server| {
            let policy = server.policy(&root)?;
            let grants = server
                .log_of(&root)
                .map_err(|why| failed(&format!("{why:#}")))?;
            let grants = grants
                .grants(None)
                .map_err(|why| failed(&why.to_string()))?;
            Ok(json!({
                "hash": policy.hash(),
                "layers": policy.origins().collect::<Vec<_>>(),
                "ceilings": Ceilings::of(&policy.limits()),
                "grants": grants,
            }))
        })
        .await
    }

    pub(super) async fn policy_grant(&self, params: GrantParams) -> jsonrpc::Result<GrantResponse> {
        const THIRTY_DAYS: i64 = 30 * 24 * 3_600;
        let root = match &params.task {
            Some(task) => self.folder_of_session(task).await?,
            None => self.first_root()?,
        };
        self.on_disk(move |server| {
            let log = server
                .log_of(&root)
                .map_err(|why| failed(&format!("{why:#}")))?;
            let seconds = match (&params.task, params.seconds) {
                (None, None) => Some(THIRTY_DAYS),
                (_, seconds) => seconds,
            };
            let grant = Grant {
                id: new_id('g'),
                allows: params.allows,
                scope: match params.task {
                    Some(_) => GrantScope::Task,
                    None => GrantScope::Repository,
                },
                expires: seconds.map(|s| now() + s.clamp(0, THIRTY_DAYS * 12) * 1000),
                by: "user".into(),
            };
            let session = params.task.unwrap_or_else(|| "permissions".into());
            note(&log, &session, EventKind::Grant(grant.clone()))?;
            Ok(GrantResponse { grant })
        })
        .await
    }

    pub(super) async fn policy_revoke(&self, params: RevokeParams) -> jsonrpc::Result<()> {
        let roots = self.session.snapshot().roots.to_vec();
        self.on_disk(move |server| {
            for root in roots {
                let log = server
                    .log_of(&root)
                    .map_err(|why| failed(&format!("{why:#}")))?;
                let session = log
                    .session_of_grant(&params.grant)
                    .map_err(|why| failed(&why.to_string()))?;
                if let Some(session) = session {
                    let grant = params.grant.clone();
                    return note(&log, &session, EventKind::Revoked { grant });
                }
            }
            let message = format!("there is no permission {}", params.grant);
            Err(jsonrpc::Error::invalid_params(message))
        })
        .await
    }

    pub(super) async fn budget_get(&self, params: TaskParams) -> jsonrpc::Result<BudgetResponse> {
        let root = self.folder_of_session(&params.task).await?;
        self.on_disk(move |server| {
            let log = server
                .log_of(&root)
                .map_err(|why| failed(&format!("{why:#}")))?;
            let task = log
                .task(&params.task)
                .map_err(|why| failed(&why.to_string()))?;
            let task = task.ok_or_else(|| jsonrpc::Error::invalid_params("that is no task"))?;
            let ceilings = serde_json::from_value(task.intake.limits);
            Ok(BudgetResponse {
                ceilings: ceilings.map_err(|why| failed(&why.to_string()))?,
                spent: task.spent,
                state: task.state,
            })
        })
        .await
    }

    pub(super) async fn audit_query(&self, params: AuditParams) -> jsonrpc::Result<Value> {
        let most = params.most.unwrap_or(MAX_EVENTS).min(MAX_EVENTS);
        let Some(session) = params.session else {
            let roots = self.session.snapshot().roots.to_vec();
            return self
                .on_disk(move |server| {
                    let mut sessions = Vec::new();
                    for root in roots {
                        let log = server
                            .log_of(&root)
                            .map_err(|why| failed(&format!("{why:#}")))?;
                        sessions
                            .extend(log.sessions(most).map_err(|why| failed(&why.to_string()))?);
                    }
                    Ok(json!({ "sessions": sessions }))
                })
                .await;
        };
        let root = self.folder_of_session(&session).await?;
        self.on_disk(move |server| {
            let log = server
                .log_of(&root)
                .map_err(|why| failed(&format!("{why:#}")))?;
            let events = log
                .read_from(&session, params.from_seq, most)
                .map_err(|why| failed(&why.to_string()))?;
            Ok(json!({ "events": events }))
        })
        .await
    }

    /// Runs `work` on a thread that may wait for the disk.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> jsonrpc::Result<T> + Send + 'static,
    ) -> jsonrpc::Result<T> {
        let server = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&server)).await;
        done.unwrap_or_else(|why| Err(failed(&why.to_string())))
    }

    fn policy(&self, root: &std::path::Path) -> jsonrpc::Result<Policy> {
        let config = self.settings.directories().config.clone();
        let sources = Sources {
            config: config.as_deref(),
            root,
            task: None,
        };
        Policy::load(sources).map_err(|why| failed(&why.to_string()))
    }

    /// Starts something with all that a task works with, and watches over the task.
    async fn with_setup(
        &self,
        root: PathBuf,
        token: Option<ProgressToken>,
        work: impl FnOnce(&Self, Setup) -> Result<Handle, UserError> + Send + 'static,
    ) -> jsonrpc::Result<Handle> {
        let engines = self.completer.engines();
        let model = engines.models.agent.clone().ok_or_else(|| {
            failed("There is no model for tasks. Set `models.agent.url` and `models.agent.model`.")
        })?;
        let indexes = engines.index.clone();
        let (handle, log, events) = self
            .on_disk(move |server| {
                let broken = |why: anyhow::Error| failed(&format!("{why:#}"));
                let workspace = server.workspace(&root).map_err(broken)?;
                let log = server.log_of(&root).map_err(broken)?;
                let canonical = workspace.root().path().to_owned();
                let documents = EditorDocuments::new(server.clone(), root, canonical);
                let setup = Setup {
                    workspace,
                    log: log.clone(),
                    documents: Arc::new(documents),
                    indexes,
                    model,
                    servers: Servers::of(&server.settings.get().settings),
                    config: server.settings.directories().config.clone(),
                    policy: None,
                    attendance: Attendance::Attended,
                };
                let events = log.subscribe();
                let handle = work(server, setup).map_err(|why| failed(&why.to_string()))?;
                Ok((handle, log, events))
            })
            .await?;
        // One that runs already is watched already.
        if handle.began {
            let (server, watched) = (self.clone(), handle.clone());
            tokio::spawn(async move {
                server.watch_task(watched, (log, events), token).await;
            });
        }
        Ok(handle)
    }

    /// Asks what the task asks, what it asked before among it, and shows how it goes, until it
    /// ends here. `events` are those since before it began.
    async fn watch_task(
        self,
        handle: Handle,
        (log, mut events): (EventLog, broadcast::Receiver<Arc<Event>>),
        token: Option<ProgressToken>,
    ) {
        let progress = match self.progress_of(&handle.id, token).await {
            Some(token) => Some(
                self.client
                    .progress(token, "Pairwright works on a task")
                    .begin()
                    .await,
            ),
            None => None,
        };
        let mut last = 0;
        let mut summary = String::new();
        let mut ended = Box::pin(handle.ended());
        let mut state = None;
        let state = loop {
            let (reading, id) = (log.clone(), handle.id.clone());
            let missed =
                tokio::task::spawn_blocking(move || reading.read_from(&id, last + 1, usize::MAX));
            let missed = missed.await.ok().and_then(Result::ok).unwrap_or_default();
            last = missed.last().map_or(last, |e| e.seq);
            if let Some(said) = missed.iter().rev().find_map(|e| said_at_end(&e.kind)) {
                summary = said;
            }
            for asked in unanswered(&missed) {
                let (server, handle) = (self.clone(), handle.clone());
                tokio::spawn(async move { server.ask_user(&handle, asked).await });
            }
            if let Some(progress) = &progress {
                for line in missed.iter().filter_map(|e| step_line(&e.kind)) {
                    progress.report(line).await;
                }
            }
            if let Some(state) = state {
                break state;
            }
            loop {
                tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Ok(event) if event.session != handle.id => {}
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => {
                            state = Some((&mut ended).await);
                            break;
                        }
                    },
                    over = &mut ended => {
                        state = Some(over);
                        break;
                    }
                }
            }
        };
        if let Some(progress) = progress {
            progress.finish_with_message(state.name()).await;
        }
        if !self.client_can().announced.events {
            let colon = if summary.is_empty() { "" } else { ": " };
            let end = format!("Task {}{colon}{summary}", state.name());
            self.client.show_message(lsp::MessageType::Info, end).await;
        }
    }

    /// Where the steps of a task are shown: where the client asked for it, and to one that is told
    /// no events in a place of their own.
    async fn progress_of(&self, task: &str, token: Option<ProgressToken>) -> Option<ProgressToken> {
        let can = self.client_can();
        if token.is_some() || can.announced.events || !can.progress {
            return token;
        }
        let token = ProgressToken::from(format!("pairwright/task/{task}"));
        let created = self.client.create_work_done_progress(token.clone()).await;
        created.is_ok().then_some(token)
    }

    async fn ask_user(&self, handle: &Handle, asked: Approval) {
        let id = asked.approval.clone();
        let answer = match self.client_can().announced.approvals {
            true => self.ask_plugin(&handle.id, asked).await,
            false => self.ask_in_a_window(&asked).await,
        };
        let answer = answer.unwrap_or(ApprovalResponse {
            decision: Decision::No,
            scope: None,
            text: None,
        });
        handle.send(Control::Answer(Answer {
            approval: id,
            decision: answer.decision,
            scope: answer.scope.unwrap_or(GrantScope::Once),
            text: answer.text,
            by: "user".into(),
        }));
    }

    async fn ask_plugin(&self, task: &str, approval: Approval) -> Option<ApprovalResponse> {
        let params = ApprovalRequestParams {
            task: task.to_owned(),
            approval,
        };
        self.client
            .send_request::<ApprovalRequest>(params)
            .await
            .ok()
            .flatten()
    }

    async fn ask_in_a_window(&self, asked: &Approval) -> Option<ApprovalResponse> {
        let (message, titles) = window_of(asked);
        let actions = titles
            .iter()
            .map(|title| lsp::MessageActionItem {
                title: title.clone(),
                ..lsp::MessageActionItem::default()
            })
            .collect();
        let asked_client =
            self.client
                .show_message_request(lsp::MessageType::Warning, message, Some(actions));
        let chosen = asked_client.await.ok().flatten()?.title;
        Some(answer_of(asked, &chosen))
    }

    fn folder_of(&self, uri: &str) -> jsonrpc::Result<PathBuf> {
        let found = self.within(uri).map(|(root, _)| root);
        found.ok_or_else(|| {
            jsonrpc::Error::invalid_params("the document is in no folder that is open")
        })
    }

    async fn folder_of_session(&self, session: &str) -> jsonrpc::Result<PathBuf> {
        let roots = self.session.snapshot().roots.to_vec();
        let session = session.to_owned();
        self.on_disk(move |server| {
            for root in roots {
                let log = server
                    .log_of(&root)
                    .map_err(|why| failed(&format!("{why:#}")))?;
                if let Ok(Some(_)) = log.session(&session) {
                    return Ok(root);
                }
            }
            let message = format!("there is no session {session} in the folders that are open");
            Err(jsonrpc::Error::invalid_params(message))
        })
        .await
    }
}

const ONCE: &str = "Allow once";
const TASK: &str = "Allow for this task";
const NO: &str = "No";

/// The words of a window, and what can be chosen.
fn window_of(asked: &Approval) -> (String, Vec<String>) {
    match &asked.subject {
        Subject::Question { text, options } => {
            let options = match options.is_empty() {
                true => vec!["Yes".to_owned(), NO.to_owned()],
                false => options.clone(),
            };
            (format!("The task asks: {}", harmless(text)), options)
        }
        subject => {
            let what = subject.in_words();
            let mut titles = vec![ONCE.to_owned()];
            if asked.scopes.contains(&GrantScope::Task) {
                titles.push(TASK.to_owned());
            }
            titles.push(NO.to_owned());
            (
                format!("The task wants to {what}: {}.", harmless(&asked.reason)),
                titles,
            )
        }
    }
}

fn answer_of(asked: &Approval, chosen: &str) -> ApprovalResponse {
    let is_question = matches!(asked.subject, Subject::Question { .. });
    let (decision, scope, text) = match chosen {
        NO => (Decision::No, None, None),
        TASK if !is_question => (Decision::Yes, Some(GrantScope::Task), None),
        _ if is_question => (Decision::Yes, None, Some(chosen.to_owned())),
        ONCE => (Decision::Yes, Some(GrantScope::Once), None),
        _ => (Decision::No, None, None),
    };
    ApprovalResponse {
        decision,
        scope,
        text,
    }
}

/// What is said at the end of a task, on one line.
fn said_at_end(kind: &EventKind) -> Option<String> {
    let text = match kind {
        EventKind::Done { summary, .. } => summary.as_deref(),
        EventKind::Status { why, .. } => why.as_deref(),
        _ => None,
    };
    let words: Vec<&str> = text?.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(LONGEST_END).collect();
    Some(harmless(&line))
}

/// What a line of progress says.
fn step_line(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::ToolCall { tool, .. } => Some(tool.clone()),
        EventKind::Status { state, .. } => Some(state.name().to_owned()),
        _ => None,
    }
}

/// Writes down what the user did outside any task's loop.
fn note(log: &EventLog, session: &str, kind: EventKind) -> jsonrpc::Result<()> {
    let target = Target {
        session,
        turn: 0,
        lease: None,
    };
    let noted = log.append(target, vec![kind], Durability::Synced);
    noted.map(drop).map_err(|why| failed(&why.to_string()))
}
