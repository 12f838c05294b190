//! The end of a task, or of this run of it: hunks to decide, and what is written down last.

use std::time::Instant;

use super::{Driver, End, Tested};
use crate::agent::Mode;
use crate::agent::branch::Told;
use crate::agent::governor::footprint_of;
use crate::agent::proposed::Proposed;
use crate::edit::workspace::Choice;
use crate::model::TurnUsage;
use crate::shown::count;
use crate::store::events::{Branch, DiffFile, EventKind, TaskState, account};

/// Author of the hunks of tasks.
pub(super) const AUTHOR: &str = "agent";

impl Driver {
    /// Presents what was changed and writes down how the task ended.
    pub(super) async fn conclude(&mut self, end: End) -> TaskState {
        let (state, why, summary) = match end {
            End::Finished { summary, succeeded } => {
                let state = match succeeded {
                    true => TaskState::Succeeded,
                    false => TaskState::Failed,
                };
                (state, None, Some(summary))
            }
            End::Stopped => (TaskState::Cancelled, Some("by the user".to_owned()), None),
            End::Paused(why) => (TaskState::Paused, Some(why), None),
            End::Halted(why) | End::Failed(why) => (TaskState::Failed, Some(why), None),
            End::Lost => {
                tracing::warn!(task = %self.id, "another process has taken over the task");
                return TaskState::Paused;
            }
        };
        self.governor.wait(Instant::now());
        let mut kinds = Vec::new();
        let (mut state, mut why) = (state, why);
        if state.is_over() {
            match self.present(state, summary.as_deref()).await {
                Ok(presented) => kinds.extend(presented),
                Err(cause) => {
                    // Resuming it presents them again.
                    state = TaskState::Paused;
                    why = Some(match &self.setup.branch {
                        Some(branch) => {
                            format!("it cannot be committed on {}: {cause}", branch.name)
                        }
                        None => format!("its hunks cannot be presented: {cause}"),
                    });
                }
            }
        }
        if state == TaskState::Paused {
            kinds.push(self.usage(TurnUsage::default()));
        }
        kinds.push(EventKind::Status {
            state,
            why: why.clone(),
        });
        if state.is_over() {
            kinds.push(EventKind::Done {
                reason: why.unwrap_or_else(|| state.name().to_owned()),
                summary,
            });
        }
        match self.record(kinds).await {
            Ok(()) => state,
            Err(why) => {
                tracing::error!(task = %self.id, "the end of a task cannot be written down: {why:?}");
                TaskState::Paused
            }
        }
    }

    /// Makes the changes hunks that can be decided; in the mode `auto` of a task that succeeded,
    /// accepts them. On a branch of its own they become a commit. Doing it twice does it once.
    async fn present(
        &mut self,
        state: TaskState,
        summary: Option<&str>,
    ) -> Result<Vec<EventKind>, String> {
        if let Some(branch) = self.setup.branch.clone() {
            return self.commit(branch, state, summary).await;
        }
        let Some(plan) = self.desk.proposed().plan() else {
            return Ok(Vec::new());
        };
        let desk = self.desk.clone();
        let id = self.id.clone();
        let accepts = self.mode == Mode::Auto && state == TaskState::Succeeded;
        let restricted = self.restricted.why().map(str::to_owned);
        let presented = tokio::task::spawn_blocking(move || {
            let proposal = format!("p_{id}");
            let documents = &**desk.documents();
            desk.workspace()
                .propose_plan(plan, &proposal, AUTHOR, Some(&id))
                .map_err(|why| why.to_string())?;
            let (mut token, mut notice) = (None, None);
            let protected = desk.policy().protected_branch(desk.root());
            if let Some(why) = restricted.filter(|_| accepts) {
                notice = Some(EventKind::Notice {
                    text: format!(
                        "The hunks were not applied: there were {why}. Decide them in the editor, or with: pairwright task --review {id}"
                    ),
                });
            } else if let Some(branch) = protected.as_ref().filter(|_| accepts) {
                notice = Some(EventKind::Notice {
                    text: format!(
                        "The hunks were not applied: you decide about every change on the branch {branch}. Do so in the editor, or with: pairwright task --review {id}"
                    ),
                });
            } else if accepts {
                let choice = Choice::Proposal(proposal.clone());
                match desk.workspace().accept(documents, &choice, Some(&id)) {
                    Ok(outcome) => token = outcome.rollback_token.map(|t| t.to_string()),
                    // They stay to be decided by hand.
                    Err(why) => {
                        notice = Some(EventKind::Notice {
                            text: format!(
                                "The hunks were not applied: {why}. Decide them in the editor, or with: pairwright task --review {id}"
                            ),
                        });
                    }
                }
            }
            Ok::<_, String>((proposal, token, notice))
        });
        let (proposal, rollback_token, notice) =
            presented.await.map_err(|why| why.to_string())??;
        let proposed = self.desk.proposed();
        let mut kinds = shown(
            proposed,
            self.tested.as_ref(),
            Some(proposal),
            rollback_token,
        );
        kinds.extend(notice);
        Ok(kinds)
    }

    async fn commit(
        &mut self,
        branch: Branch,
        state: TaskState,
        summary: Option<&str>,
    ) -> Result<Vec<EventKind>, String> {
        let (desk, id, prompt) = (self.desk.clone(), self.id.clone(), self.prompt.clone());
        let summary = summary.map(str::to_owned);
        let model = self.setup.model.endpoint().model.clone();
        let committed = tokio::task::spawn_blocking(move || {
            let told = Told {
                task: &id,
                prompt: &prompt,
                summary: summary.as_deref(),
                model: &model,
                policy: desk.policy().hash(),
                outcome: state.name(),
                user: &account(),
            };
            branch.commit(desk.workspace(), desk.proposed(), &told)
        });
        let text = committed.await.map_err(|why| why.to_string())??;
        let mut kinds = shown(self.desk.proposed(), self.tested.as_ref(), None, None);
        kinds.push(EventKind::Notice { text });
        Ok(kinds)
    }
}

/// The changes and what speaks for them; nothing where there are none.
pub(super) fn shown(
    proposed: &Proposed,
    tested: Option<&Tested>,
    proposal: Option<String>,
    rollback_token: Option<String>,
) -> Vec<EventKind> {
    let files = proposed.summary();
    if files.is_empty() {
        return Vec::new();
    }
    let evidence = evidence(&files, tested, proposed.state());
    let diff = EventKind::Diff {
        files,
        proposal,
        rollback_token,
    };
    vec![diff, evidence]
}

/// Says what speaks for the changes, by how tests ended that ran last and the state the files are in,
/// and how closely they should be looked at.
fn evidence(files: &[DiffFile], tested: Option<&Tested>, state: u64) -> EventKind {
    let sum = |of: fn(&DiffFile) -> usize| files.iter().map(of).sum::<usize>();
    let (added, removed) = (sum(|f| f.added), sum(|f| f.removed));
    let now = footprint_of(state);
    let tests = match tested {
        Some(tested) if tested.state != now => {
            "The tests were not run after the last of them: run them.".to_owned()
        }
        Some(tested) => match (tested.passed, &tested.others) {
            (true, None) => "The tests passed with the last of them.".to_owned(),
            (true, Some(others)) => {
                format!("The tests passed with the last of them, and with {others}: run them.")
            }
            (false, _) => "The tests failed with the last of them: look closely.".to_owned(),
        },
        None => "No tests were run: look closely.".to_owned(),
    };
    let n_files = count(files.len(), "file");
    let text = format!("Changes in {n_files}, +{added} -{removed}. {tests}");
    EventKind::Notice { text }
}
