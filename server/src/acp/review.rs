//! Hunks: asked about, applied or rejected, taken back.
//!
//! Holds: what the user does not answer stays to be decided. All that is accepted at one time is
//! applied together, and one token takes it back.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::Refusal;
use super::session::Session;
use super::{Acp, update};
use crate::edit::hunks::{HunkState, Proposal};
use crate::edit::rollback::Mode;
use crate::edit::workspace::{Choice, EditError, Outcome};

/// What the user decided of a proposal.
#[derive(Default)]
struct Decided {
    accepted: Option<Choice>,
    rejected: Option<Choice>,
}

impl Acp {
    /// Shows a proposal and asks whether to apply it, whole or hunk by hunk.
    pub(super) async fn offer(
        self: &Arc<Self>,
        session: &Arc<Session>,
        id: &str,
    ) -> Result<(), Refusal> {
        let workspace = Arc::clone(&session.folder.workspace);
        let mut listed = workspace.list().into_iter();
        let Some(proposal) = listed.find(|known| known.id == id) else {
            return Ok(());
        };
        let shown = update::proposal(&session.folder.root, &proposal);
        let mut call = shown.clone();
        call["sessionUpdate"] = "tool_call".into();
        self.connection.update(&session.id, &call);
        let each = json!({
            "optionId": "each", "name": "Decide each change", "kind": "allow_once",
        });
        let options = options((proposal.hunks().count() > 1).then_some(each));
        let chosen = self.permission(session, &shown, &options).await;
        let whole = || Some(Choice::Proposal(id.to_owned()));
        let decided = match chosen.as_deref() {
            Some("apply") => Decided {
                accepted: whole(),
                ..Decided::default()
            },
            Some("reject") => Decided {
                rejected: whole(),
                ..Decided::default()
            },
            Some("each") => self.ask_each(session, &proposal).await,
            _ => Decided::default(),
        };
        let documents = Arc::clone(&session.documents);
        let deciding = tokio::task::spawn_blocking(move || -> Result<_, EditError> {
            let accept = |choice| workspace.accept(&*documents, choice, None);
            let outcome = decided.accepted.as_ref().map(accept).transpose()?;
            if let Some(choice) = &decided.rejected {
                workspace.reject(&*documents, choice, None)?;
            }
            Ok(outcome)
        });
        let (status, text) = match deciding.await.map_err(|_| Refusal::bug())? {
            Ok(Some(outcome)) => ("completed", told(&outcome)),
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

    /// Asks about each undecided hunk. Without an answer to one, it and those behind it stay.
    async fn ask_each(&self, session: &Session, proposal: &Proposal) -> Decided {
        let options = options(None);
        let pending = proposal
            .hunks()
            .filter(|(_, hunk)| hunk.state == HunkState::Pending);
        let pending: Vec<_> = pending.collect();
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for (idx, (file, hunk)) in pending.iter().enumerate() {
            let count = format!("Change {} of {}", idx + 1, pending.len());
            let shown = update::hunk(&session.folder.root, file, hunk, &count);
            let mut call = shown.clone();
            call["sessionUpdate"] = "tool_call".into();
            self.connection.update(&session.id, &call);
            let (hunks, status) = match self.permission(session, &shown, &options).await.as_deref()
            {
                Some("apply") => (&mut accepted, "completed"),
                Some("reject") => (&mut rejected, "failed"),
                _ => break,
            };
            hunks.push(hunk.id.clone());
            let update = json!({
                "sessionUpdate": "tool_call_update", "toolCallId": hunk.id, "status": status,
            });
            self.connection.update(&session.id, &update);
        }
        let choice = |hunks: Vec<String>| (!hunks.is_empty()).then_some(Choice::Hunks(hunks));
        Decided {
            accepted: choice(accepted),
            rejected: choice(rejected),
        }
    }

    /// Takes back what a token did, or what was applied last, and says what came of it.
    pub(super) async fn take_back(
        self: &Arc<Self>,
        session: &Arc<Session>,
        token: String,
    ) -> Result<(), Refusal> {
        let workspace = Arc::clone(&session.folder.workspace);
        let documents = Arc::clone(&session.documents);
        let taking = tokio::task::spawn_blocking(move || {
            let token = match token.is_empty() {
                false => token,
                true => match workspace.last() {
                    Ok(Some(entry)) => entry.token.to_string(),
                    Ok(None) => return "No edit stands that could be taken back.".to_owned(),
                    Err(why) => return why.to_string(),
                },
            };
            match workspace.rollback(&*documents, &token, Mode::AllOrNothing, None) {
                Ok(outcome) => {
                    let redo = outcome
                        .rollback_token
                        .as_ref()
                        .map_or_else(String::new, |redo| {
                            format!("; `/rollback {redo}` does it again")
                        });
                    format!("Taken back: {}{redo}.", outcome.paths.join(", "))
                }
                Err(why) => format!("Not taken back: {why}"),
            }
        });
        let text = taking.await.map_err(|_| Refusal::bug())?;
        let told = update::chunk("agent_message_chunk", &format!("{text}\n\n"));
        self.connection.update(&session.id, &told);
        Ok(())
    }
}

/// What can be said to a change, with what there is besides.
fn options(besides: Option<Value>) -> Value {
    let apply = json!({ "optionId": "apply", "name": "Apply", "kind": "allow_once" });
    let reject = json!({ "optionId": "reject", "name": "Reject", "kind": "reject_once" });
    let all = std::iter::once(apply).chain(besides).chain([reject]);
    Value::Array(all.collect())
}

fn told(outcome: &Outcome) -> String {
    match &outcome.rollback_token {
        Some(token) => format!("Applied; `/rollback {token}` takes it back."),
        None => "Nothing had to be changed.".to_owned(),
    }
}
