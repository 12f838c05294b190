//! Watching over a task that runs: its steps as progress, its questions, its end.
//!
//! Holds: a question goes to a client that announced `approvals` as a request of ours, to every
//! other as `window/showMessageRequest`; closing the window is no.

use serde::{Deserialize, Serialize};
use tower_lsp_server::gen_lsp_types::{
    self as lsp, LspRequestMethod, MessageDirection, ProgressToken, Request,
};

use crate::agent::{Control, Handle, unanswered};
use crate::lsp::Server;
use crate::shown::harmless;
use crate::store::events::{
    Answer, Approval, Decision, EventKind, EventLog, GrantScope, Intake, Subject,
};

/// Characters of a summary that are shown in a message.
const LONGEST_END: usize = 300;

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
    /// Asks what the task asks, what it asked before among it, and shows how it goes, until it
    /// ends here.
    pub(super) async fn watch_task(
        self,
        handle: Handle,
        log: EventLog,
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
        let (reading, id) = (log.clone(), handle.id.clone());
        let known = tokio::task::spawn_blocking(move || reading.read_from(&id, 1, usize::MAX));
        let mut heard = known.await.ok().and_then(Result::ok).unwrap_or_default();
        for asked in unanswered(&heard) {
            self.pass_on(&handle, asked);
        }
        let mut events = log.follow(&handle.id, heard.last().map_or(1, |e| e.seq + 1));
        let mut summary = String::new();
        let state = loop {
            for event in &heard {
                if let Some(said) = said_at_end(&event.kind) {
                    summary = said;
                }
                match &event.kind {
                    EventKind::Intake(Intake { mode, .. }) | EventKind::Mode { mode, .. } => {
                        self.works_in(&handle.id, Some(mode));
                    }
                    EventKind::ToolResult {
                        tier: Some(tier), ..
                    } => self.ran_in(tier),
                    _ => {}
                }
                if let (Some(progress), Some(line)) = (&progress, step_line(&event.kind)) {
                    progress.report(line).await;
                }
            }
            heard = tokio::select! {
                biased;
                event = events.next() => match event {
                    Ok(event) => vec![event],
                    Err(why) => {
                        tracing::warn!(task = %handle.id, "a task cannot be watched: {why:#}");
                        break handle.ended().await;
                    }
                },
                state = handle.ended() => {
                    let rest = events.rest().await.unwrap_or_default();
                    if rest.is_empty() {
                        break state;
                    }
                    rest
                }
            };
            for event in &heard {
                if let EventKind::Approval(asked) = &event.kind {
                    self.pass_on(&handle, asked.clone());
                }
            }
        };
        self.works_in(&handle.id, None);
        if let Some(progress) = progress {
            progress.finish_with_message(state.name()).await;
        }
        if !self.client_can().announced.events {
            let colon = if summary.is_empty() { "" } else { ": " };
            let end = format!("Task {}{colon}{summary}", state.name());
            self.client.show_message(lsp::MessageType::Info, end).await;
        }
    }

    /// Asks the user; the task goes on being watched meanwhile.
    fn pass_on(&self, handle: &Handle, asked: Approval) {
        let (server, handle) = (self.clone(), handle.clone());
        tokio::spawn(async move { server.ask_user(&handle, asked).await });
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
}

const ONCE: &str = "Allow once";
const TASK: &str = "Allow for this task";
const NO: &str = "No";

/// The words of a window, and what can be chosen.
fn window_of(asked: &Approval) -> (String, Vec<String>) {
    let what = asked.subject.in_words();
    if let Subject::Question { options, .. } = &asked.subject {
        let options = match options.is_empty() {
            true => vec!["Yes".to_owned(), NO.to_owned()],
            false => options.clone(),
        };
        return (format!("The task asks: {what}"), options);
    }
    let mut titles = vec![ONCE.to_owned()];
    if asked.scopes.contains(&GrantScope::Task) {
        titles.push(TASK.to_owned());
    }
    titles.push(NO.to_owned());
    let reason = harmless(&asked.reason);
    (format!("The task wants to {what}: {reason}."), titles)
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
