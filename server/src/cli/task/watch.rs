//! Events of a task, for the eye or as JSON lines.

use std::io::{self, Write};

use super::super::style::{self, harmless, paint};
use crate::shown::printable;
use crate::store::events::{
    Approval, DiffFile, Event, EventKind, GrantScope, Outcome, PlanState, Subject, TaskState,
};

/// Characters shown of arguments and of what a tool said.
const WIDTH: usize = 160;
/// Lines shown of the hunks of one file, each time it changes.
const MOST_LINES: usize = 40;

pub(in crate::cli) struct Shown {
    is_json: bool,
    /// Running text was shown last, and its line has not ended.
    is_inside: bool,
    /// The call whose lines were shown last while it was written.
    written: Option<String>,
}

impl Shown {
    pub(in crate::cli) fn new(is_json: bool) -> Self {
        Self {
            is_json,
            is_inside: false,
            written: None,
        }
    }

    pub(in crate::cli) fn show(&mut self, event: &Event) -> io::Result<()> {
        if self.is_json {
            let mut out = io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(event)?)?;
            return out.flush();
        }
        let mut out = anstream::stdout().lock();
        if let EventKind::Message { text } = &event.kind {
            self.is_inside = !text.ends_with('\n');
            write!(out, "{}", harmless(text))?;
            return out.flush();
        }
        let line = match &event.kind {
            EventKind::Writing { call, path, text } => self.written(call, path.as_deref(), text),
            other => match line_of(other) {
                Some(line) => line,
                None => return Ok(()),
            },
        };
        if std::mem::take(&mut self.is_inside) {
            writeln!(out)?;
        }
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// What the model writes into a file, below its name.
    fn written(&mut self, call: &str, path: Option<&str>, text: &str) -> String {
        let is_known = self.written.replace(call.to_owned()).as_deref() == Some(call);
        let title = match (is_known, path) {
            (true, _) => None,
            (false, Some(path)) => Some(format!("  writing {}", short(path))),
            (false, None) => Some("  writing".to_owned()),
        };
        let lines = text.trim_end_matches('\n').split('\n');
        let lines = lines.map(|line| format!("  > {}", harmless(line)));
        let all: Vec<String> = title.into_iter().chain(lines).collect();
        paint(style::FAINT, all.join("\n"))
    }

    /// Shows a question and what may be answered.
    pub(super) fn ask(&mut self, asked: &Approval) -> anyhow::Result<()> {
        if self.is_json {
            return Ok(());
        }
        let has = |scope| asked.scopes.contains(&scope);
        match &asked.subject {
            Subject::Question { text, options } => {
                for (n, option) in options.iter().enumerate() {
                    writeln!(anstream::stderr(), "  {}. {}", n + 1, harmless(option))?;
                }
                super::prompt(&harmless(text))
            }
            Subject::Command { remembered, .. } if has(GrantScope::Task) => {
                let remembered = harmless(remembered);
                super::prompt(&format!(
                    "[y]es once, yes for this [t]ask or this [r]epository to commands that begin with `{remembered}`, [n]o?"
                ))
            }
            Subject::Edit { path: what } | Subject::Network { host: what, .. }
                if has(GrantScope::Task) =>
            {
                let path = harmless(what);
                super::prompt(&format!(
                    "[y]es once, yes for this [t]ask or this [r]epository to {path}, [n]o?"
                ))
            }
            Subject::Tool { tool, .. } if has(GrantScope::Task) => {
                let tool = harmless(tool);
                super::prompt(&format!(
                    "[y]es once, yes for this [t]ask or this [r]epository to all calls of {tool}, [n]o?"
                ))
            }
            Subject::Command { .. }
            | Subject::Edit { .. }
            | Subject::Tool { .. }
            | Subject::Network { .. }
            | Subject::Budget { .. } => super::prompt("[y]es or [n]o?"),
        }
    }
}

fn short(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    printable(&line.chars().take(WIDTH).collect::<String>())
}

/// One event as a line; `None` for those that say nothing to a reader.
pub(in crate::cli) fn line_of(kind: &EventKind) -> Option<String> {
    let faint = |text: String| paint(style::FAINT, text);
    Some(match kind {
        EventKind::Intake(intake) => faint(format!(
            "task in {} with {}, mode {}, taken for {} of {} risk, rules {}, by {}",
            short(&intake.root),
            short(&intake.model),
            intake.mode,
            intake.scenario.name(),
            intake.risk.name(),
            intake.policy,
            short(&intake.user)
        )),
        EventKind::Question { text, .. } => format!("asked: {}", harmless(text)),
        EventKind::Notice { text } => paint(style::WARN, harmless(text)),
        EventKind::Cited { places } => {
            let names: Vec<String> = places.iter().map(|place| printable(&place.path)).collect();
            faint(format!("named: {}", names.join(", ")))
        }
        EventKind::ToolCall {
            tool, arguments, ..
        } => {
            format!(
                "{} {}",
                paint(style::TITLE, short(tool)),
                faint(short(arguments))
            )
        }
        EventKind::ToolResult {
            outcome,
            text,
            tier,
            took,
            ..
        } => {
            let body: Vec<&str> = text.lines().filter(|l| !l.contains("data-")).collect();
            let (mark, how) = match outcome {
                Outcome::Done => (style::GOOD, "done"),
                Outcome::Failed => (style::WARN, "failed"),
                Outcome::Denied => (style::BAD, "denied"),
                Outcome::Unknown => (style::BAD, "unknown"),
            };
            let place = tier
                .as_ref()
                .map_or_else(String::new, |t| format!(" [{t}]"));
            let said = short(body.first().copied().unwrap_or_default());
            format!(
                "  {} {}",
                paint(mark, how),
                faint(format!("{said} ({took} ms){place}"))
            )
        }
        EventKind::ToolOutput { text, .. } => {
            let lines: Vec<String> = text
                .trim_end()
                .lines()
                .map(|l| format!("  | {}", printable(l)))
                .collect();
            faint(lines.join("\n"))
        }
        EventKind::Diff {
            files,
            proposal,
            rollback_token,
        } => {
            let names: Vec<String> = files
                .iter()
                .map(|f| format!("{} +{} -{}", printable(&f.path), f.added, f.removed))
                .collect();
            match (proposal, rollback_token) {
                (_, Some(token)) => format!(
                    "applied: {}; take it back with: pairwright rollback {token}",
                    names.join(", ")
                ),
                (Some(_), None) => format!("proposed: {}", names.join(", ")),
                (None, None) => {
                    let title = faint(format!("  changed so far: {}", names.join(", ")));
                    let hunks = files.iter().flat_map(hunks);
                    let lines: Vec<String> = std::iter::once(title).chain(hunks).collect();
                    lines.join("\n")
                }
            }
        }
        EventKind::Plan { items } => items
            .iter()
            .map(|item| {
                let mark = match item.state {
                    PlanState::Pending => "[ ]",
                    PlanState::InProgress => "[>]",
                    PlanState::Done => "[x]",
                };
                format!("  {mark} {}", short(&item.text))
            })
            .collect::<Vec<_>>()
            .join("\n"),
        EventKind::Approval(asked) => {
            let what = asked.subject.in_words();
            paint(
                style::WARN,
                format!("asked: {what} ({})", short(&asked.reason)),
            )
        }
        EventKind::Decided(answer) if answer.is_of_nobody() => {
            faint("  nobody was there to be asked".to_owned())
        }
        EventKind::Decided(answer) => {
            let text = answer
                .text
                .as_deref()
                .map_or_else(String::new, |t| format!(": {}", short(t)));
            faint(
                format!("  {} said {:?}{text}", short(&answer.by), answer.decision).to_lowercase(),
            )
        }
        EventKind::Denied(denial) => paint(
            style::BAD,
            format!(
                "denied: {}: {} (by {})",
                short(&denial.what),
                short(&denial.why),
                short(&denial.rule)
            ),
        ),
        EventKind::Grant(grant) => faint(format!("  permission {}: {:?}", grant.id, grant.allows)),
        EventKind::Revoked { grant } => faint(format!("  permission {grant} taken back")),
        EventKind::Compaction { before, after, .. } => faint(format!(
            "shortened the conversation from {before} to {after} tokens"
        )),
        EventKind::Steer { text } => format!("you: {}", short(text)),
        EventKind::Mode { mode, why } => {
            paint(style::WARN, format!("{}: {}", short(why), short(mode)))
        }
        EventKind::Status { state, why } => {
            let why = why
                .as_ref()
                .map_or_else(String::new, |why| format!(": {}", short(why)));
            match state {
                TaskState::Succeeded => paint(style::GOOD, format!("succeeded{why}")),
                TaskState::Failed | TaskState::Cancelled => {
                    paint(style::BAD, format!("{}{why}", state.name()))
                }
                TaskState::Paused => paint(style::WARN, format!("paused{why}")),
                TaskState::Planning | TaskState::Running | TaskState::WaitingApproval => {
                    return None;
                }
            }
        }
        EventKind::Done {
            summary: Some(summary),
            ..
        } => harmless(summary),
        EventKind::Usage {
            spent: Some(spent), ..
        } => faint(format!(
            "  step {}, {} tokens, ${:.4}",
            spent.steps, spent.tokens, spent.cost
        )),
        EventKind::Thought { .. }
        | EventKind::Message { .. }
        | EventKind::Entry { .. }
        | EventKind::Writing { .. }
        | EventKind::ToolStarted { .. }
        | EventKind::Usage { .. }
        | EventKind::Done { .. } => return None,
    })
}

/// The lines of a file's hunks so far, the first of them; its name above where there are some.
fn hunks(file: &DiffFile) -> Vec<String> {
    let patch = file.patch.as_deref().unwrap_or_default();
    let painted = |line: &str| {
        let style = match line.as_bytes().first() {
            Some(b'+') => style::GOOD,
            Some(b'-') => style::BAD,
            _ => style::FAINT,
        };
        paint(style, format!("    {}", harmless(line)))
    };
    let n_lines = patch.lines().count();
    let left = n_lines.saturating_sub(MOST_LINES);
    let more = (left > 0).then(|| painted(&format!("… {left} lines more")));
    let title = (n_lines > 0).then(|| painted(&file.path));
    let lines = patch.lines().take(MOST_LINES).map(painted);
    title.into_iter().chain(lines).chain(more).collect()
}
