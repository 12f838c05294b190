//! A prompt answered by a task: begun or taken up, shown as it goes on.
//!
//! Holds: a task that would run what a folder holds begins after the user said to trust it.

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::connection::Refusal;
use super::live::Live;
use super::output::Output;
use super::session::Session;
use super::{Acp, servers, update};
use crate::agent::governor::Limits;
use crate::agent::{self, Attendance, Control, Handle, Place, Setup};
use crate::config::trust::{Standing, Word};
use crate::mcp::Servers;
use crate::shown::printable;
use crate::store::events::{Approval, Event, EventKind, TaskState};

/// How a task comes to run.
pub(super) enum Begin {
    New {
        prompt: String,
        /// What the model is told of what the prompt points at.
        besides: String,
        mode: agent::Mode,
    },
    /// Taken up again.
    Again(String),
}

impl Acp {
    pub(super) async fn task(
        self: &Arc<Self>,
        session: &Arc<Session>,
        begin: Begin,
        stop: &CancellationToken,
    ) -> Result<&'static str, Refusal> {
        let model = self.models.agent.clone().ok_or_else(|| {
            Refusal::failed(
                "There is no model for tasks. Set `models.agent.url` and `models.agent.model`.",
            )
        })?;
        let folder = &session.folder;
        if let Begin::New {
            prompt, besides, ..
        } = &begin
        {
            let checked = agent::check_said(&model, &format!("{prompt}{besides}")).await;
            checked.map_err(Refusal::failed)?;
        }
        self.ask_to_trust(session, &begin).await?;
        let resolved = self.settings.get();
        let settings = &resolved.settings;
        let setup = Setup {
            workspace: Arc::clone(&folder.workspace),
            log: folder.log.clone(),
            documents: session.documents.clone(),
            editor: None,
            indexes: folder.index.clone(),
            model,
            servers: Servers::of(&servers::with(settings, &session.servers)),
            sandbox: crate::sandbox::Settings::from(settings),
            startup: settings.agent.startup.clone(),
            is_trusted: resolved.trust.trusts(folder.workspace.root().path()),
            config: self.settings.directories().config.clone(),
            policy: None,
            attendance: Attendance::Attended,
            branch: None,
        };
        let worktree = settings.agent.worktree;
        let (acp, of) = (Arc::clone(self), Arc::clone(session));
        // What the user said belongs to the session, which is loaded from there.
        let hand_over = move |said: String, task: &str| {
            let handed = of.folder.chat.hand_over(&of.id, said, task.to_owned());
            if let Err(why) = handed {
                tracing::warn!("a session does not know of its task {task}: {why}");
            }
        };
        let starting = tokio::task::spawn_blocking(move || match begin {
            Begin::New {
                prompt,
                besides,
                mode,
            } => {
                let ask = agent::Ask {
                    prompt: prompt.clone(),
                    besides,
                    mode,
                    place: Place::of(None, worktree, mode),
                    limits: Limits::default(),
                    request: None,
                };
                let handle = acp.tasks.start(setup, ask).map_err(Refusal::failed)?;
                hand_over(prompt, &handle.id);
                Ok((handle, Vec::new()))
            }
            Begin::Again(id) => {
                let log = setup.log.clone();
                let known = log.read_from(&id, 1, usize::MAX).map_err(Refusal::failed)?;
                let handle = acp.tasks.resume(setup, &id).map_err(Refusal::failed)?;
                hand_over(format!("/resume {id}"), &id);
                Ok((handle, known))
            }
        });
        let (handle, known) = starting.await.unwrap_or_else(|_| Err(Refusal::bug()))?;
        session.set_task(handle.clone());
        if stop.is_cancelled() {
            handle.send(Control::Stop);
        }
        let followed = self.follow_task(session, &handle, &known).await;
        session.clear_task(&handle);
        followed?;
        Ok(match handle.ended().await {
            TaskState::Cancelled => "cancelled",
            _ => "end_turn",
        })
    }

    /// Ends a task for good that nobody works on, and shows what that came to.
    pub(super) async fn stop_left(
        self: &Arc<Self>,
        session: &Arc<Session>,
        id: String,
    ) -> Result<(), Refusal> {
        let (acp, folder) = (Arc::clone(self), Arc::clone(&session.folder));
        let stopping = tokio::task::spawn_blocking(move || {
            let log = &folder.log;
            let known = log.session(&id).map_err(Refusal::failed)?;
            let stopped = acp.tasks.stop(&folder.workspace, log, &id);
            let state = stopped.map_err(Refusal::failed)?;
            let from = known.map_or(0, |session| session.last) + 1;
            let events = log.read_from(&id, from, usize::MAX);
            Ok((state, events.map_err(Refusal::failed)?))
        });
        let (state, events) = stopping.await.unwrap_or_else(|_| Err(Refusal::bug()))?;
        for event in events {
            if let Some(update) = update::of_task(&event.kind) {
                self.connection.update(&session.id, &update);
            }
            if let EventKind::Diff {
                proposal: Some(proposal),
                ..
            } = &event.kind
            {
                self.offer(session, proposal).await?;
            }
        }
        let told = format!("The task is {}.\n\n", state.name());
        let chunk = update::chunk("agent_message_chunk", &told);
        self.connection.update(&session.id, &chunk);
        Ok(())
    }

    /// Asks whether the folder is trusted, where that is not known and the task would run what it
    /// holds. No answer is no, and none of them is kept.
    async fn ask_to_trust(
        self: &Arc<Self>,
        session: &Arc<Session>,
        begin: &Begin,
    ) -> Result<(), Refusal> {
        let folder = Arc::clone(&session.folder);
        let root = folder.workspace.root().path().to_owned();
        let mode = match begin {
            Begin::New { mode, .. } => Some(*mode),
            Begin::Again(id) => {
                let id = id.clone();
                let reading = tokio::task::spawn_blocking(move || folder.log.task(&id));
                let task = reading.await.map_err(|_| Refusal::bug())?;
                let task = task.map_err(Refusal::failed)?;
                task.and_then(|task| agent::Mode::of_name(&task.intake.mode))
            }
        };
        if !mode.is_some_and(agent::Mode::changes) {
            return Ok(());
        }
        let (acp, at) = (Arc::clone(self), root.clone());
        let standing = tokio::task::spawn_blocking(move || {
            acp.settings.reload();
            acp.settings.get().trust.of(&at)
        });
        match standing.await.map_err(|_| Refusal::bug())? {
            Standing::Unknown | Standing::Refused => {}
            Standing::Trusted | Standing::Excluded => return Ok(()),
        }
        let why = "A task runs what the folder holds, its tests for example, in a sandbox.";
        let call = json!({
            "toolCallId": "trust",
            "title": format!("Trust {}", printable(&root.display().to_string())),
            "status": "pending",
            "content": [update::content(why)],
        });
        let options = json!([
            { "optionId": "trust", "name": "Trust this folder", "kind": "allow_always" },
            { "optionId": "no", "name": "No", "kind": "reject_once" },
        ]);
        if self.permission(session, &call, &options).await.as_deref() == Some("trust") {
            let acp = Arc::clone(self);
            let said = move || acp.settings.say_of(&root, Word::Trusted);
            let kept = tokio::task::spawn_blocking(said).await;
            kept.map_err(|_| Refusal::bug())?.map_err(Refusal::failed)?;
        }
        Ok(())
    }

    /// Shows what a task does after what is `known` of it and passes on what it asks and had asked,
    /// until its last event.
    async fn follow_task(
        self: &Arc<Self>,
        session: &Arc<Session>,
        handle: &Handle,
        known: &[Event],
    ) -> Result<(), Refusal> {
        for asked in agent::unanswered(known) {
            self.pass_on(session, handle, asked);
        }
        let from = known.last().map_or(1, |event| event.seq + 1);
        let mut events = session.folder.log.follow(&handle.id, from);
        let (mut output, mut live) = (Output::default(), Live::default());
        loop {
            let heard = tokio::select! {
                biased;
                event = events.next() => vec![event.map_err(Refusal::failed)?],
                () = output.is_due() => Vec::new(),
                _ = handle.ended() => {
                    let rest = events.rest().await.map_err(Refusal::failed)?;
                    if rest.is_empty() {
                        for update in live.end() {
                            self.connection.update(&session.id, &update);
                        }
                        return Ok(());
                    }
                    rest
                }
            };
            for event in heard {
                match &event.kind {
                    EventKind::ToolOutput { call, text } => output.add(call, text),
                    EventKind::ToolCall { call, .. } | EventKind::ToolResult { call, .. } => {
                        output.end(call);
                    }
                    EventKind::Writing { call, path, text } => {
                        if let Some(update) = live.writes(call, path.as_deref()) {
                            self.connection.update(&session.id, &update);
                        }
                        output.add(call, text);
                    }
                    EventKind::Diff {
                        files,
                        proposal: None,
                        ..
                    } => live.changed(&session.folder.root, files),
                    _ => {}
                }
                self.show_task(session, handle, &event, &mut live).await?;
            }
            if let Some(update) = output.take() {
                self.connection.update(&session.id, &update);
            }
        }
    }

    /// Shows one event of a task, and asks what it asks.
    async fn show_task(
        self: &Arc<Self>,
        session: &Arc<Session>,
        handle: &Handle,
        event: &Event,
        live: &mut Live,
    ) -> Result<(), Refusal> {
        if let Some(mut update) = update::of_task(&event.kind) {
            live.complete(&event.kind, &mut update);
            self.connection.update(&session.id, &update);
        }
        match &event.kind {
            EventKind::Usage { usage, model, .. } => {
                self.tell_usage(session, usage, model, self.models.agent.as_ref());
            }
            EventKind::Approval(asked) => self.pass_on(session, handle, asked.clone()),
            EventKind::Diff {
                proposal: Some(proposal),
                rollback_token: None,
                ..
            } => self.offer(session, proposal).await?,
            _ => {}
        }
        Ok(())
    }

    /// Asks what a task asks; it goes on being shown while the user thinks.
    fn pass_on(self: &Arc<Self>, session: &Arc<Session>, handle: &Handle, asked: Approval) {
        let (acp, session) = (Arc::clone(self), Arc::clone(session));
        let handle = handle.clone();
        tokio::spawn(async move {
            let answer = acp.ask_user(&session, &asked).await;
            handle.send(Control::Answer(answer));
        });
    }
}

/// The task of a session's folder that was left last.
pub(super) async fn newest_unfinished(session: &Session) -> Result<String, Refusal> {
    let log = session.folder.log.clone();
    let reading = tokio::task::spawn_blocking(move || log.unfinished());
    let left = reading.await.map_err(|_| Refusal::bug())?;
    let newest = left.map_err(Refusal::failed)?.into_iter().next();
    let newest = newest.ok_or_else(|| Refusal::failed("No task is left to take up."))?;
    Ok(newest.id)
}
