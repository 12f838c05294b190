//! What the user is asked: whether to apply hunks, whether something may be done.
//!
//! Holds: no answer is no.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::Refusal;
use super::session::Session;
use super::{Acp, update};
use crate::edit::workspace::Choice;
use crate::store::events::{Answer, Approval, Decision, GrantScope, Subject};

impl Acp {
    /// Shows a proposal and asks whether to apply it; without an answer it stays to be decided.
    pub(super) async fn offer(
        self: &Arc<Self>,
        session: &Arc<Session>,
        id: &str,
    ) -> Result<(), Refusal> {
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
    pub(super) async fn ask_user(&self, session: &Session, asked: &Approval) -> Answer {
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
    pub(super) async fn permission(
        &self,
        session: &Session,
        call: &Value,
        options: &Value,
    ) -> Option<String> {
        let params = json!({ "sessionId": session.id, "toolCall": call, "options": options });
        let answer = self
            .connection
            .ask("session/request_permission", &params)
            .await?;
        let chosen = answer.pointer("/outcome/optionId")?.as_str()?;
        Some(chosen.to_owned())
    }
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
