//! What the user is asked: whether something may be done.
//!
//! Holds: no answer is no.

use serde_json::{Value, json};

use super::session::Session;
use super::{Acp, update};
use crate::store::events::{Answer, Approval, Decision, GrantScope, Subject};

impl Acp {
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
