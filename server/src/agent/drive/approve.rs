//! Questions to the user, and what their answers are good for.
//!
//! Holds: a question is written down before it is asked and has one id, so after a crash it is not
//! asked twice, and an answer that was given counts. A longer permission remembers exactly the
//! words that were shown.

use std::time::Instant;

use super::{Driver, End, Flow};
use crate::agent::Control;
use crate::store::events::{
    Answer, Approval, Decision, EventKind, Grant, GrantScope, Permission, Risk, Subject, TaskState,
    new_id,
};
use crate::store::now;

/// How long a permission for the folder holds: 30 days.
const FOLDER_GRANT: i64 = 30 * 24 * 3_600 * 1_000;

/// Answers kept for questions that are not asked yet.
const MAX_EARLY: usize = 64;

/// A question that is about to be asked.
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) call: Option<String>,
    pub(super) subject: Subject,
    pub(super) reason: String,
    /// What a longer permission would allow; `None` where only this once can be allowed.
    pub(super) remembered: Option<Permission>,
}

impl Driver {
    /// Asks and waits. The clock stands meanwhile.
    pub(super) async fn approve(&mut self, asked: Asked) -> Flow<Answer> {
        let known = self.answers.get(&asked.id);
        if let Some(Some(answer)) = known {
            return Ok(answer.clone());
        }
        let is_asked = known.is_some();
        let waiting = EventKind::Status {
            state: TaskState::WaitingApproval,
            why: Some(asked.reason.clone()),
        };
        let question = (!is_asked).then(|| EventKind::Approval(approval(&asked)));
        self.record(question.into_iter().chain([waiting]).collect())
            .await?;
        self.answers.insert(asked.id.clone(), None);
        self.governor.wait(Instant::now());
        let mut answer = match self.is_attended() {
            true => self.wait_for_answer(&asked.id).await?,
            false => Answer::of_nobody(&asked.id),
        };
        self.governor.run(Instant::now());
        if answer.by.is_empty() {
            answer.by = "user".into();
        }
        let mut kinds = vec![EventKind::Decided(answer.clone())];
        if let (Decision::Yes, Some(permission), GrantScope::Task | GrantScope::Repository) =
            (answer.decision, asked.remembered, answer.scope)
        {
            kinds.push(EventKind::Grant(Grant {
                id: new_id('g'),
                allows: permission,
                scope: answer.scope,
                expires: (answer.scope == GrantScope::Repository).then(|| now() + FOLDER_GRANT),
                by: answer.by.clone(),
            }));
        }
        kinds.push(EventKind::Status {
            state: TaskState::Running,
            why: None,
        });
        self.answers.insert(asked.id, Some(answer.clone()));
        self.record(kinds).await?;
        Ok(answer)
    }

    /// Keeps an answer to a question that this run has not asked yet.
    pub(super) fn keep_early(&mut self, answer: Answer) {
        if self.early.len() < MAX_EARLY {
            self.early.insert(answer.approval.clone(), answer);
        }
    }

    async fn wait_for_answer(&mut self, id: &str) -> Flow<Answer> {
        if let Some(answer) = self.early.remove(id) {
            return Ok(answer);
        }
        loop {
            match self.controls.recv().await {
                Some(Control::Answer(answer)) if answer.approval == id => return Ok(answer),
                Some(control) => {
                    self.mind(control).await?;
                    self.check_pause()?;
                }
                None => return Err(End::Paused("nobody is there to be asked".into())),
            }
        }
    }
}

fn approval(asked: &Asked) -> Approval {
    let scopes = match asked.remembered {
        Some(_) => vec![GrantScope::Once, GrantScope::Task, GrantScope::Repository],
        None => vec![GrantScope::Once],
    };
    Approval {
        approval: asked.id.clone(),
        call: asked.call.clone(),
        risk: match asked.subject {
            Subject::Question { .. } => Risk::Low,
            Subject::Command { .. } | Subject::Edit { .. } | Subject::Budget { .. } => Risk::Medium,
            // It runs outside the sandbox, with whatever rights its server has.
            Subject::Tool { .. } | Subject::Network { .. } => Risk::High,
        },
        subject: asked.subject.clone(),
        reason: asked.reason.clone(),
        scopes,
    }
}
