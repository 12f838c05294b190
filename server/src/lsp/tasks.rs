//! `pairwright/task/*`, `pairwright/policy/*`, `pairwright/budget/get`, `pairwright/audit/query`.
//!
//! Holds: starting answers at once with an id; everything else comes as events.
//! Not here: what tasks do (`agent`).

mod diagnostics;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types::{self as lsp, ProgressToken};
use tower_lsp_server::jsonrpc;

use super::Server;
use super::edits::{EditorDocuments, failed};
use crate::agent::governor::{Ceilings, Governor, Limits};
use crate::agent::policy::{Policy, Sources};
use crate::agent::{self, Ask, Attendance, Control, Handle, Mode, Place, Setup};
use crate::error::UserError;
use crate::mcp::Servers;
use crate::store::events::{
    Durability, EventKind, EventLog, Grant, GrantScope, Permission, Spent, Target, TaskState,
    new_id,
};
use crate::store::now;

/// Events that one query answers at most.
const MAX_EVENTS: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StartParams {
    prompt: String,
    #[serde(default)]
    mode: Mode,
    /// Whether it works on a branch of its own, in a git working tree beside the user's; as
    /// `agent.worktree` says when not given.
    #[serde(default)]
    worktree: Option<bool>,
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

impl Server {
    pub(super) async fn task_start(&self, params: StartParams) -> jsonrpc::Result<StartResponse> {
        let root = match &params.text_document {
            Some(document) => self.folder_of(&document.uri.0)?,
            None => self.first_root()?,
        };
        let ask = Ask {
            prompt: params.prompt,
            besides: String::new(),
            mode: params.mode,
            place: Place::of(
                params.worktree,
                self.settings.get().settings.agent.worktree,
                params.mode,
            ),
            limits: params.limits,
            request: params.request_id,
        };
        self.check_said(&ask.prompt).await?;
        self.ask_for_task(&root, ask.mode).await;
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
        let mode = {
            let (root, task) = (root.clone(), task.clone());
            self.on_disk(move |server| Ok(server.mode_of(&root, &task)))
                .await?
        };
        if let Some(mode) = mode {
            self.ask_for_task(&root, mode).await;
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
        let task = params.task;
        if let Some(handle) = self.tasks.get(&task) {
            handle.settled().await;
        }
        if self.tasks.get(&task).is_some() {
            return self.control(&task, Control::Stop).await;
        }
        let root = self.folder_of_session(&task).await?;
        self.on_disk(move |server| {
            let broken = |why: anyhow::Error| failed(&format!("{why:#}"));
            let workspace = server.workspace(&root).map_err(broken)?;
            let log = server.log_of(&root).map_err(broken)?;
            let stopped = server.tasks.stop(&workspace, &log, &task);
            let state = stopped.map_err(|why| failed(&why.to_string()))?;
            Ok(StateResponse { state })
        })
        .await
    }

    pub(super) async fn task_steer(&self, params: TaskParams) -> jsonrpc::Result<StateResponse> {
        let text = params
            .text
            .ok_or_else(|| jsonrpc::Error::invalid_params("`text` is missing"))?;
        self.check_said(&text).await?;
        self.control(&params.task, Control::Steer(text)).await
    }

    async fn check_said(&self, text: &str) -> jsonrpc::Result<()> {
        let Some(model) = self.completer.engines().models.agent.clone() else {
            return Ok(());
        };
        let checked = agent::check_said(&model, text).await;
        checked.map_err(|why| failed(&why.to_string()))
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
                "ceilings": policy.ceilings(&Limits::default()),
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
            let ceilings = serde_json::from_value(task.intake.limits)
                .map_err(|why| failed(&why.to_string()))?;
            let events = log
                .read_from(&params.task, 1, usize::MAX)
                .map_err(|why| failed(&why.to_string()))?;
            let (governor, _) = Governor::of_record(ceilings, &events);
            Ok(BudgetResponse {
                ceilings: *governor.ceilings(),
                spent: governor.spent(Instant::now()),
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

    fn mode_of(&self, root: &Path, task: &str) -> Option<Mode> {
        let task = self.log_of(root).ok()?.task(task).ok()??;
        Mode::of_name(&task.intake.mode)
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

    fn policy(&self, root: &Path) -> jsonrpc::Result<Policy> {
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
        let (handle, log) = self
            .on_disk(move |server| {
                let broken = |why: anyhow::Error| failed(&format!("{why:#}"));
                let workspace = server.workspace(&root).map_err(broken)?;
                let log = server.log_of(&root).map_err(broken)?;
                let canonical = workspace.root().path().to_owned();
                let editor = server.ask_editor(&root);
                let resolved = server.settings.get();
                let settings = &resolved.settings;
                let is_trusted = resolved.trust.trusts(&root);
                let documents = EditorDocuments::new(server.clone(), root, canonical);
                let setup = Setup {
                    workspace,
                    log: log.clone(),
                    documents: Arc::new(documents),
                    editor,
                    indexes,
                    model,
                    servers: Servers::of(settings),
                    sandbox: crate::sandbox::Settings::from(settings),
                    startup: settings.agent.startup.clone(),
                    is_trusted,
                    config: server.settings.directories().config.clone(),
                    policy: None,
                    attendance: Attendance::Attended,
                    branch: None,
                };
                let handle = work(server, setup).map_err(|why| failed(&why.to_string()))?;
                Ok((handle, log))
            })
            .await?;
        // One that runs already is watched already.
        if handle.began {
            let (server, watched) = (self.clone(), handle.clone());
            tokio::spawn(async move { server.watch_task(watched, log, token).await });
        }
        Ok(handle)
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
