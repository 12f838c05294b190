//! A task that nobody works on, ended for good without being taken up.
//!
//! Holds: rules, trust and a model are not asked, so that one that cannot be taken up any more ends,
//! too. What it changed is presented as at any end, as far as that can be done.

use super::Tested;
use super::conclude::{AUTHOR, shown};
use crate::agent::branch::Told;
use crate::agent::proposed::Proposed;
use crate::edit::workspace::Workspace;
use crate::store::events::{
    AppendError, Durability, Event, EventKind, EventLog, Lease, Target, Task, TaskState, account,
};

/// Ends the task `id` of the folder of `workspace`. Returns its state.
///
/// # Errors
/// When the database cannot be read or written.
pub(in crate::agent) fn end(
    workspace: &Workspace,
    log: &EventLog,
    lease: &Lease,
    id: &str,
    task: &Task,
) -> Result<TaskState, AppendError> {
    let events = log.read_from(id, 1, usize::MAX)?;
    let proposed = Proposed::load(log.store(), id)?;
    let state = TaskState::Cancelled;
    let why = "by the user";
    let mut kinds = present(workspace, &proposed, id, task, &events).unwrap_or_else(|why| {
        let text = format!("What the task changed cannot be presented: {why}.");
        vec![EventKind::Notice { text }]
    });
    kinds.push(EventKind::Status {
        state,
        why: Some(why.into()),
    });
    kinds.push(EventKind::Done {
        reason: why.into(),
        summary: None,
    });
    let target = Target {
        session: id,
        turn: events.last().map_or(1, |event| event.turn),
        lease: Some(lease),
    };
    log.append(target, kinds, Durability::Synced)?;
    Ok(state)
}

fn present(
    workspace: &Workspace,
    proposed: &Proposed,
    id: &str,
    task: &Task,
    events: &[Event],
) -> Result<Vec<EventKind>, String> {
    let (proposal, notice) = match &task.intake.branch {
        Some(branch) => {
            let told = Told {
                task: id,
                prompt: &task.intake.prompt,
                summary: None,
                model: &task.intake.model,
                policy: &task.intake.policy,
                outcome: TaskState::Cancelled.name(),
                user: &account(),
            };
            let text = match proposed.plan() {
                Some(_) => {
                    let tree = branch.open().map_err(|why| why.message)?;
                    branch.commit(&tree, proposed, &told)?
                }
                None => branch.leave(),
            };
            (None, Some(EventKind::Notice { text }))
        }
        None => {
            let Some(plan) = proposed.plan() else {
                return Ok(Vec::new());
            };
            let proposal = format!("p_{id}");
            workspace
                .propose_plan(plan, &proposal, AUTHOR, Some(id))
                .map_err(|why| why.to_string())?;
            (Some(proposal), None)
        }
    };
    let tested = events
        .iter()
        .rev()
        .find_map(|event| Tested::of(&event.kind));
    let mut kinds = shown(proposed, tested.as_ref(), proposal, None);
    kinds.extend(notice);
    Ok(kinds)
}
