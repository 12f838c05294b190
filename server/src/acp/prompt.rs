//! One prompt: answered by chat or by a task, with the questions it leads to.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::connection::Refusal;
use super::session::{Mode, Session};
use super::{Acp, servers, update};
use crate::agent::governor::Limits;
use crate::agent::{self, Attendance, Control, Handle, Place, Setup};
use crate::chat::{Ask, Reference, Surroundings};
use crate::config::trust::{Standing, Word};
use crate::edit::workspace::Choice;
use crate::mcp::Servers;
use crate::session::document::path_of;
use crate::shown::printable;
use crate::store::events::{
    Answer, Approval, Decision, Event, EventKind, GrantScope, Subject, TaskState,
};

/// What a prompt says, and what it points at.
struct Prompt {
    text: String,
    references: Vec<Reference>,
}

/// How a task comes to run.
enum Begin {
    New(String, agent::Mode),
    /// Taken up again.
    Again(String),
}

impl Acp {
    /// Answers `session/prompt`.
    pub(super) async fn prompt(
        self: &Arc<Self>,
        session: &Arc<Session>,
        blocks: &Value,
        stop: &CancellationToken,
    ) -> Result<Value, Refusal> {
        let prompt = read(session, blocks)?;
        if stop.is_cancelled() {
            return Ok(json!({ "stopReason": "cancelled" }));
        }
        let text = prompt.text.as_str();
        let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim().to_owned();
        let reason = match (command, session.mode()) {
            ("/resume", _) => {
                let task = match rest.is_empty() {
                    true => newest_unfinished(session).await?,
                    false => rest,
                };
                self.task(session, Begin::Again(task), stop).await?
            }
            ("/search", _) if !rest.is_empty() => {
                let prompt = Prompt {
                    text: rest,
                    ..prompt
                };
                self.chat(session, prompt, None, stop).await?
            }
            (_, Mode::Ask) => {
                let model = self.models.chat.clone();
                self.chat(session, prompt, model, stop).await?
            }
            (_, Mode::Task(mode)) => {
                let begin = Begin::New(prompt.text, mode);
                self.task(session, begin, stop).await?
            }
        };
        Ok(json!({ "stopReason": reason }))
    }

    async fn chat(
        self: &Arc<Self>,
        session: &Arc<Session>,
        prompt: Prompt,
        model: Option<crate::model::TurnModel>,
        stop: &CancellationToken,
    ) -> Result<&'static str, Refusal> {
        let folder = &session.folder;
        let (log, id) = (folder.log.clone(), session.id.clone());
        let reading = tokio::task::spawn_blocking(move || log.follow_from_now(&id));
        let read = reading.await.map_err(|_| Refusal::bug())?;
        let mut events = read.map_err(Refusal::failed)?;
        let sent = folder.chat.send(Ask {
            session: session.id.clone(),
            question: prompt.text,
            references: prompt.references,
            surroundings: Surroundings::default(),
            documents: session.documents.clone(),
            index: folder.index.clone(),
            model,
            request: None,
        });
        let turn = sent.map_err(Refusal::failed)?.turn;
        if stop.is_cancelled() {
            folder.chat.cancel(&session.id, Some(turn));
        }
        loop {
            let event = events.next().await.map_err(Refusal::failed)?;
            if event.turn != turn {
                continue;
            }
            if let Some(update) = update::of(&event.kind) {
                self.connection.update(&session.id, &update);
            }
            match &event.kind {
                EventKind::Diff {
                    proposal: Some(proposal),
                    ..
                } => self.offer(session, proposal).await?,
                EventKind::Done { reason, summary } => {
                    return match reason.as_str() {
                        "length" => Ok("max_tokens"),
                        "refused" => Ok("refusal"),
                        "stopped" => Ok("cancelled"),
                        "failed" => Err(Refusal::failed(summary.as_deref().unwrap_or("failed"))),
                        _ => Ok("end_turn"),
                    };
                }
                _ => {}
            }
        }
    }

    async fn task(
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
            is_trusted: resolved.trust.trusts(folder.workspace.root().path()),
            config: self.settings.directories().config.clone(),
            policy: None,
            attendance: Attendance::Attended,
            branch: None,
        };
        let acp = Arc::clone(self);
        let starting = tokio::task::spawn_blocking(move || match begin {
            Begin::New(prompt, mode) => {
                let ask = agent::Ask {
                    prompt,
                    mode,
                    place: Place::Folder,
                    limits: Limits::default(),
                    request: None,
                };
                let handle = acp.tasks.start(setup, ask).map_err(Refusal::failed)?;
                Ok((handle, Vec::new()))
            }
            Begin::Again(id) => {
                let log = setup.log.clone();
                let known = log.read_from(&id, 1, usize::MAX).map_err(Refusal::failed)?;
                let handle = acp.tasks.resume(setup, &id).map_err(Refusal::failed)?;
                Ok((handle, known))
            }
        });
        let (handle, known) = starting.await.unwrap_or_else(|_| Err(Refusal::bug()))?;
        session.set_task(Some(handle.clone()));
        if stop.is_cancelled() {
            handle.send(Control::Stop);
        }
        let followed = self.follow_task(session, &handle, &known).await;
        session.set_task(None);
        followed?;
        Ok(match handle.ended().await {
            TaskState::Cancelled => "cancelled",
            _ => "end_turn",
        })
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
            Begin::New(_, mode) => Some(*mode),
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
        loop {
            let heard = tokio::select! {
                biased;
                event = events.next() => vec![event.map_err(Refusal::failed)?],
                _ = handle.ended() => {
                    let rest = events.rest().await.map_err(Refusal::failed)?;
                    if rest.is_empty() {
                        return Ok(());
                    }
                    rest
                }
            };
            for event in heard {
                self.show_task(session, handle, &event).await?;
            }
        }
    }

    /// Shows one event of a task, and asks what it asks.
    async fn show_task(
        self: &Arc<Self>,
        session: &Arc<Session>,
        handle: &Handle,
        event: &Event,
    ) -> Result<(), Refusal> {
        if let Some(update) = update::of(&event.kind) {
            self.connection.update(&session.id, &update);
        }
        match &event.kind {
            EventKind::Approval(asked) => self.pass_on(session, handle, asked.clone()),
            EventKind::Diff {
                proposal: Some(proposal),
                rollback_token: None,
                ..
            } => self.offer(session, proposal).await?,
            EventKind::Diff {
                rollback_token: Some(token),
                ..
            } => {
                let text = format!("\n\nApplied; `pairwright rollback {token}` takes it back.");
                let chunk = update::chunk("agent_message_chunk", &text);
                self.connection.update(&session.id, &chunk);
            }
            EventKind::Done {
                summary: Some(summary),
                ..
            } => {
                let chunk = update::chunk("agent_message_chunk", summary);
                self.connection.update(&session.id, &chunk);
            }
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

    /// Shows a proposal and asks whether to apply it; without an answer it stays to be decided.
    async fn offer(self: &Arc<Self>, session: &Arc<Session>, id: &str) -> Result<(), Refusal> {
        let workspace = Arc::clone(&session.folder.workspace);
        let listed = workspace.list();
        let Some(proposal) = listed.iter().find(|known| known.id == id) else {
            return Ok(());
        };
        let shown = update::proposal(&session.folder.root, proposal);
        let mut call = shown.clone();
        call["sessionUpdate"] = "tool_call".into();
        self.connection.update(&session.id, &call);
        let options = json!([
            { "optionId": "apply", "name": "Apply", "kind": "allow_once" },
            { "optionId": "reject", "name": "Reject", "kind": "reject_once" },
        ]);
        let chosen = self.permission(session, &shown, &options).await;
        let choice = Choice::Proposal(id.to_owned());
        let documents = Arc::clone(&session.documents);
        let deciding = tokio::task::spawn_blocking(move || match chosen.as_deref() {
            Some("apply") => workspace.accept(&*documents, &choice, None).map(Some),
            Some("reject") => workspace.reject(&*documents, &choice, None).map(|_| None),
            _ => Ok(None),
        });
        let (status, text) = match deciding.await.map_err(|_| Refusal::bug())? {
            Ok(Some(outcome)) => match outcome.rollback_token {
                Some(token) => {
                    let text = format!("Applied; `pairwright rollback {token}` takes it back.");
                    ("completed", text)
                }
                None => ("completed", "Nothing had to be changed.".to_owned()),
            },
            Ok(None) => ("failed", "Not applied.".to_owned()),
            Err(why) => ("failed", why.to_string()),
        };
        let update = json!({
            "sessionUpdate": "tool_call_update", "toolCallId": id, "status": status,
            "content": [update::content(&text)],
        });
        self.connection.update(&session.id, &update);
        Ok(())
    }

    /// Asks what a task asks; no answer is no.
    async fn ask_user(&self, session: &Session, asked: &Approval) -> Answer {
        let call = json!({
            "toolCallId": asked.call.as_ref().unwrap_or(&asked.approval),
            "title": asked.subject.in_words(),
            "status": "pending",
            "content": [update::content(&asked.reason)],
        });
        let options = options(asked);
        let chosen = self.permission(session, &call, &json!(options.0)).await;
        let chosen = chosen.and_then(|id| options.1.into_iter().find(|(known, ..)| *known == id));
        let (decision, scope, text) = match chosen {
            Some((_, decision, scope, text)) => (decision, scope, text),
            None => (Decision::No, GrantScope::Once, None),
        };
        Answer {
            approval: asked.approval.clone(),
            decision,
            scope,
            text,
            by: "user".into(),
        }
    }

    /// Sends `session/request_permission`; returns the option that was chosen.
    async fn permission(&self, session: &Session, call: &Value, options: &Value) -> Option<String> {
        let params = json!({ "sessionId": session.id, "toolCall": call, "options": options });
        let answer = self
            .connection
            .ask("session/request_permission", &params)
            .await?;
        let chosen = answer.pointer("/outcome/optionId")?.as_str()?;
        Some(chosen.to_owned())
    }
}

async fn newest_unfinished(session: &Session) -> Result<String, Refusal> {
    let log = session.folder.log.clone();
    let reading = tokio::task::spawn_blocking(move || log.unfinished());
    let left = reading.await.map_err(|_| Refusal::bug())?;
    let newest = left.map_err(Refusal::failed)?.into_iter().next();
    let newest = newest.ok_or_else(|| Refusal::failed("No task is left to take up."))?;
    Ok(newest.id)
}

type Meaning = (String, Decision, GrantScope, Option<String>);

/// The options of a question, and what each of them says.
fn options(asked: &Approval) -> (Vec<Value>, Vec<Meaning>) {
    let mut shown = Vec::new();
    let mut meanings: Vec<Meaning> = Vec::new();
    let mut add = |name: String, kind: &str, decision, scope, text: Option<String>| {
        let id = format!("option-{}", meanings.len());
        shown.push(json!({ "optionId": id, "name": name, "kind": kind }));
        meanings.push((id, decision, scope, text));
    };
    if let Subject::Question { options, .. } = &asked.subject {
        // Without options it can be answered by yes or no.
        let yes = ["Yes".to_owned()];
        let options = match options.is_empty() {
            true => &yes[..],
            false => options,
        };
        for option in options {
            let text = Some(option.clone());
            add(
                option.clone(),
                "allow_once",
                Decision::Yes,
                GrantScope::Once,
                text,
            );
        }
    } else {
        add(
            "Yes, once".into(),
            "allow_once",
            Decision::Yes,
            GrantScope::Once,
            None,
        );
        let rule = match &asked.subject {
            Subject::Command { remembered, .. } => format!("`{remembered}`"),
            Subject::Edit { path } => path.clone(),
            Subject::Tool { tool, .. } => tool.clone(),
            Subject::Network { host, .. } => host.clone(),
            Subject::Budget { .. } | Subject::Question { .. } => String::new(),
        };
        for scope in &asked.scopes {
            let until = match scope {
                GrantScope::Once => continue,
                GrantScope::Task => "for this task",
                GrantScope::Repository => "for this repository",
            };
            let name = format!("Yes, {until}: {rule}");
            add(name, "allow_always", Decision::Yes, *scope, None);
        }
    }
    add(
        "No".into(),
        "reject_once",
        Decision::No,
        GrantScope::Once,
        None,
    );
    (shown, meanings)
}

/// Reads the blocks of a prompt: what is said, and what it points at, by name in what is said.
fn read(session: &Session, blocks: &Value) -> Result<Prompt, Refusal> {
    let blocks = blocks
        .as_array()
        .ok_or_else(|| Refusal::params("`prompt` is no list"))?;
    let mut prompt = Prompt {
        text: String::new(),
        references: Vec::new(),
    };
    for block in blocks {
        let uri = block["uri"].as_str().or(block["resource"]["uri"].as_str());
        match (block["type"].as_str(), uri) {
            (Some("text"), _) => prompt
                .text
                .push_str(block["text"].as_str().unwrap_or_default()),
            (Some("resource_link" | "resource"), Some(uri)) => {
                let (plain, fragment) = uri.split_once('#').unwrap_or((uri, ""));
                let inside = path_of(plain).and_then(|path| {
                    let path = path.canonicalize().unwrap_or(path);
                    let rest = path.strip_prefix(&session.folder.root).ok()?;
                    Some(rest.to_str()?.to_owned())
                });
                let path = inside.unwrap_or_else(|| uri.to_owned());
                prompt.text.push_str(&path);
                let (first_line, last_line) = lines_of(fragment);
                // What the client sends along is newer than what is on the disk.
                prompt
                    .references
                    .push(match block["resource"]["text"].as_str() {
                        Some(text) => Reference::Text {
                            path,
                            text: text.to_owned(),
                        },
                        None => Reference::File {
                            path,
                            first_line,
                            last_line,
                        },
                    });
            }
            (kind, _) => {
                let kind = kind.unwrap_or_default();
                return Err(Refusal::params(format!("a prompt cannot hold {kind:?}")));
            }
        }
    }
    Ok(prompt)
}

/// The first and last line, from 1, that the fragment of an address names: `L10`, `L10:20`,
/// `L10-L20`.
fn lines_of(fragment: &str) -> (Option<u32>, Option<u32>) {
    let Some(lines) = fragment.strip_prefix('L') else {
        return (None, None);
    };
    let (first, last) = lines.split_once([':', '-']).unwrap_or((lines, lines));
    let number = |text: &str| text.trim_start_matches('L').parse().ok();
    (number(first), number(last))
}
