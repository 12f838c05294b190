//! A task whose tools cannot be relied on: it looks and answers from there on, and changes and runs
//! something again when the user says so.
//!
//! Holds: it follows from the record. Tools stay on the model's list, so that prompt caches hit; a
//! call of one that changes something is the question to the user. A no stands; where nobody was
//! there, it is asked again.

use super::approve::Asked;
use super::call::Reported;
use super::{Driver, Flow};
use crate::agent::Mode;
use crate::agent::governor::Failing;
use crate::agent::policy::{Ruling, Verdict};
use crate::model::ToolCall;
use crate::store::events::{Answer, Decision, Event, EventKind, Subject};

/// Whether a task is restricted to looking.
#[derive(Debug, Default)]
pub(super) struct Restricted {
    /// Since what.
    why: Option<String>,
    /// How often it was.
    n_times: usize,
}

impl Restricted {
    pub(super) fn of_record(events: &[Event]) -> Self {
        let mut restricted = Self::default();
        for event in events {
            if let EventKind::Mode { mode, why } = &event.kind {
                match Mode::of_name(mode).is_some_and(Mode::changes) {
                    true => restricted.why = None,
                    false => restricted.begin(why),
                }
            }
        }
        restricted
    }

    fn begin(&mut self, why: &str) {
        self.why = Some(why.to_owned());
        self.n_times += 1;
    }

    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

impl Driver {
    /// Restricts the task to looking. Returns the event that says so, and what the model is told;
    /// `None` where it changes nothing anyway.
    pub(super) fn restrict(&mut self, failing: Failing) -> Option<(EventKind, String)> {
        if !self.mode.changes() || self.restricted.why().is_some() {
            return None;
        }
        let Failing(why) = failing;
        self.restricted.begin(&why);
        let told = format!(
            "There were {why}. From here on this task changes and runs nothing: look at what is there, then finish, and say in the summary what is left. If you are sure that a change will work, call the tool for it: the user is asked whether the task may go on."
        );
        let kind = EventKind::Mode {
            mode: Mode::ReadOnly.name().to_owned(),
            why,
        };
        Some((kind, told))
    }

    /// Asks whether a restricted task may change and run things again. `None` when it may.
    pub(super) async fn still_restricted(&mut self, call: &ToolCall) -> Flow<Option<Reported>> {
        let Some(why) = self.restricted.why().map(str::to_owned) else {
            return Ok(None);
        };
        let verdict = Verdict {
            ruling: Ruling::Deny,
            rule: "a task whose tools cannot be relied on looks and answers".into(),
            what: call.name.clone(),
            why: format!("there were {why}"),
            instead: Some("finish, and say in the summary what is left".into()),
            remembered: None,
        };
        if !self.is_attended() {
            return Ok(Some(self.denied(call, verdict, None)));
        }
        let prefix = format!("{}.mode.{}.", self.id, self.restricted.n_times);
        let is_of_nobody = |(id, answer): &(&String, &Option<Answer>)| {
            id.starts_with(&prefix) && answer.as_ref().is_some_and(Answer::is_of_nobody)
        };
        let n_unheard = self.answers.iter().filter(is_of_nobody).count();
        let asked = Asked {
            id: format!("{prefix}{n_unheard}"),
            call: Some(call.id.clone()),
            subject: Subject::Budget { what: why.clone() },
            reason: "the task only looks since then".into(),
            remembered: None,
        };
        let answer = self.approve(asked).await?;
        if answer.decision == Decision::No {
            return Ok(Some(self.denied(call, verdict, answer.text)));
        }
        self.governor.forgive();
        self.restricted.why = None;
        let lifted = EventKind::Mode {
            mode: self.mode.name().to_owned(),
            why: format!("{} said to go on", answer.by),
        };
        self.record(vec![lifted]).await?;
        Ok(None)
    }
}
