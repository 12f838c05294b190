//! Hunks of a task, decided one by one at the prompt.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::super::style::{self, paint};
use super::{Lines, prompt};
use crate::cli::apply::show;
use crate::edit::hunks::{HunkState, Proposal};
use crate::edit::workspace::{Choice, Workspace};
use crate::edit::worlds::NoDocuments;

/// What was said about a hunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Accept,
    Reject,
    AcceptRest,
    Later,
}

/// Accepts all undecided hunks of a task.
pub(super) fn accept_all(workspace: &Workspace, task: &str) -> anyhow::Result<ExitCode> {
    let choice = Choice::Proposal(format!("p_{task}"));
    let outcome = workspace.accept(&NoDocuments, &choice, None)?;
    tell(outcome.rollback_token.map(|t| t.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Reviews the hunks of a task that ended before.
pub(super) fn by_hand(
    workspace: &Workspace,
    task: &str,
    input: &mut impl BufRead,
) -> anyhow::Result<ExitCode> {
    let proposal = find(workspace, task)
        .with_context(|| format!("there are no undecided hunks of the task {task}"))?;
    let mut said = Vec::new();
    for id in show(&proposal)? {
        ask(&id)?;
        let mut line = String::new();
        let n_read = input.read_line(&mut line)?;
        said.push((id, read((n_read > 0).then_some(&line))));
        if matches!(said.last(), Some((_, Said::AcceptRest | Said::Later))) {
            break;
        }
    }
    decide(workspace, &proposal, &said)
}

/// Reviews the hunks of a task that has just ended.
pub(super) async fn at_the_end(
    workspace: &Workspace,
    task: &str,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let Some(proposal) = find(workspace, task) else {
        return Ok(());
    };
    let mut said = Vec::new();
    for id in show(&proposal)? {
        lines.forget_typed();
        ask(&id)?;
        let line = tokio::select! {
            line = lines.next() => line,
            // Leaving decides nothing more.
            _ = tokio::signal::ctrl_c() => None,
        };
        said.push((id, read(line.as_deref())));
        if matches!(said.last(), Some((_, Said::AcceptRest | Said::Later))) {
            break;
        }
    }
    if let Some((_, Said::Later)) = said.last() {
        tell_of_later(task)?;
    }
    decide(workspace, &proposal, &said).map(drop)
}

/// Shows the hunks of a task that has just ended and asks nothing about them.
pub(super) fn only_show(workspace: &Workspace, task: &str) -> anyhow::Result<()> {
    let Some(proposal) = find(workspace, task) else {
        return Ok(());
    };
    show(&proposal)?;
    tell_of_later(task)
}

fn tell_of_later(task: &str) -> anyhow::Result<()> {
    let hint = format!("decide later with: pairwright task --review {task}");
    writeln!(anstream::stderr(), "{}", paint(style::FAINT, hint))?;
    Ok(())
}

fn find(workspace: &Workspace, task: &str) -> Option<Arc<Proposal>> {
    let id = format!("p_{task}");
    let mut proposals = workspace.list().into_iter();
    proposals.find(|p| p.id == id && p.is_open())
}

/// Shows the hunks and returns the ids of those that are undecided.
fn show(proposal: &Proposal) -> anyhow::Result<Vec<String>> {
    let mut out = anstream::stdout().lock();
    for file in &proposal.files {
        show::diff(&mut out, file)?;
    }
    let pending = proposal
        .hunks()
        .filter(|(_, h)| h.state == HunkState::Pending);
    Ok(pending.map(|(_, h)| h.id.clone()).collect())
}

fn ask(id: &str) -> anyhow::Result<()> {
    prompt(&format!(
        "accept {id}? [y]es, [n]o, [a]ll the rest, [l]ater"
    ))
}

fn read(line: Option<&str>) -> Said {
    match line.map(|l| l.trim().to_ascii_lowercase()).as_deref() {
        Some("y" | "yes") => Said::Accept,
        Some("n" | "no") => Said::Reject,
        Some("a" | "all") => Said::AcceptRest,
        // What is not understood decides nothing.
        Some(_) | None => Said::Later,
    }
}

fn decide(
    workspace: &Workspace,
    proposal: &Proposal,
    said: &[(String, Said)],
) -> anyhow::Result<ExitCode> {
    let of = |wanted: Said| -> Vec<String> {
        said.iter()
            .filter(|(_, s)| *s == wanted)
            .map(|(id, _)| id.clone())
            .collect()
    };
    let rejected = of(Said::Reject);
    let mut accepted = of(Said::Accept);
    if let Some((first, Said::AcceptRest)) = said.last() {
        let pending = proposal
            .hunks()
            .filter(|(_, h)| h.state == HunkState::Pending);
        let rest = pending
            .map(|(_, h)| h.id.clone())
            .skip_while(|id| id != first);
        accepted.extend(rest);
    }
    if !rejected.is_empty() {
        workspace.reject(&NoDocuments, &Choice::Hunks(rejected), None)?;
    }
    if !accepted.is_empty() {
        let outcome = workspace.accept(&NoDocuments, &Choice::Hunks(accepted), None)?;
        tell(outcome.rollback_token.map(|t| t.to_string()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(token: Option<String>) -> anyhow::Result<()> {
    if let Some(token) = token {
        let done = paint(style::GOOD, "applied");
        writeln!(
            anstream::stdout(),
            "{done}; take it back with: pairwright rollback {token}"
        )?;
    }
    Ok(())
}
