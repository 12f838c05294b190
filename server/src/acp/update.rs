//! Events as `session/update` shows them, and hunks as diffs.

use std::path::Path;

use serde_json::{Value, json};

use crate::edit::hunks::{Bytes, Hunk, Proposal, ProposedFile, What};
use crate::edit::path::RepoPath;
use crate::model::TurnUsage;
use crate::shown::count;
use crate::store::events::{EventKind, Outcome, Place, PlanItem, PlanState};

/// Bytes shown of what a tool said.
const TOOL_TEXT: usize = 16 << 10;
/// Bytes of a file that is shown as a diff.
const DIFF_TEXT: usize = 1 << 20;

/// An event as it happens; `None` where it says nothing to a client.
pub(super) fn of(kind: &EventKind) -> Option<Value> {
    Some(match kind {
        EventKind::Message { text } => chunk("agent_message_chunk", text),
        EventKind::Thought { text } | EventKind::Notice { text } => {
            chunk("agent_thought_chunk", text)
        }
        EventKind::Cited { places } => chunk("agent_message_chunk", &links(places)),
        EventKind::ToolCall {
            call,
            tool,
            arguments,
            ..
        } => json!({
            "sessionUpdate": "tool_call",
            "toolCallId": call,
            "title": title(tool, arguments),
            "kind": tool_kind(tool),
            "status": "pending",
            "rawInput": serde_json::from_str::<Value>(arguments).ok(),
        }),
        EventKind::ToolStarted { call, .. } => json!({
            "sessionUpdate": "tool_call_update", "toolCallId": call, "status": "in_progress",
        }),
        EventKind::ToolResult {
            call,
            outcome,
            text,
            ..
        } => json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": call,
            "status": match outcome {
                Outcome::Done => "completed",
                Outcome::Failed | Outcome::Denied | Outcome::Unknown => "failed",
            },
            "content": [content(&text[..text.floor_char_boundary(TOOL_TEXT)])],
        }),
        EventKind::Plan { items } => json!({
            "sessionUpdate": "plan",
            "entries": items.iter().map(plan_entry).collect::<Vec<_>>(),
        }),
        EventKind::Mode { mode, why } => chunk("agent_thought_chunk", &format!("{why}: {mode}\n")),
        EventKind::Question { .. }
        | EventKind::Writing { .. }
        | EventKind::Intake(_)
        | EventKind::Entry { .. }
        | EventKind::ToolOutput { .. }
        | EventKind::Diff { .. }
        | EventKind::Approval(_)
        | EventKind::Decided(_)
        | EventKind::Denied(_)
        | EventKind::Grant(_)
        | EventKind::Revoked { .. }
        | EventKind::Usage { .. }
        | EventKind::Compaction { .. }
        | EventKind::Steer { .. }
        | EventKind::Status { .. }
        | EventKind::Done { .. } => return None,
    })
}

/// An event of a task: what came of it, besides.
pub(super) fn of_task(kind: &EventKind) -> Option<Value> {
    match kind {
        EventKind::Diff {
            rollback_token: Some(token),
            ..
        } => {
            let text = format!("\n\nApplied; `/rollback {token}` takes it back.");
            Some(chunk("agent_message_chunk", &text))
        }
        EventKind::Done {
            summary: Some(summary),
            ..
        } => Some(chunk("agent_message_chunk", summary)),
        other => of(other),
    }
}

/// An event of the past, when a session is loaded.
pub(super) fn replayed(kind: &EventKind) -> Option<Value> {
    match kind {
        EventKind::Question { text, .. } => Some(chunk("user_message_chunk", text)),
        other => of(other),
    }
}

pub(super) fn chunk(update: &str, text: &str) -> Value {
    json!({ "sessionUpdate": update, "content": { "type": "text", "text": text } })
}

pub(super) fn content(text: &str) -> Value {
    json!({ "type": "content", "content": { "type": "text", "text": text } })
}

fn links(places: &[Place]) -> String {
    let link = |place: &Place| {
        let at = place
            .first_line
            .map_or_else(String::new, |line| format!(":{line}"));
        format!("[{}{at}]({})", place.path, place.uri)
    };
    let links: Vec<String> = places.iter().map(link).collect();
    format!("\n\n{}", links.join(" · "))
}

fn title(tool: &str, arguments: &str) -> String {
    let shown: String = arguments.chars().take(80).collect();
    format!("{tool} {shown}")
}

/// The kind decides the icon.
pub(super) fn tool_kind(tool: &str) -> &'static str {
    match tool {
        "read_file" | "list" | "symbols" | "git_diff" | "git_log" | "diagnostics" => "read",
        "search" | "grep" => "search",
        "edit" => "edit",
        "run" | "tests" => "execute",
        "plan" | "finish" => "think",
        _ => "other",
    }
}

fn plan_entry(item: &PlanItem) -> Value {
    let status = match item.state {
        PlanState::Pending => "pending",
        PlanState::InProgress => "in_progress",
        PlanState::Done => "completed",
    };
    json!({ "content": item.text, "priority": "medium", "status": status })
}

/// What a turn took of a window of `size` tokens.
pub(super) fn usage(usage: &TurnUsage, size: u32, cost: Option<f64>) -> Value {
    let mut update = json!({
        "sessionUpdate": "usage_update", "used": usage.input + usage.output, "size": size,
    });
    if let Some(cost) = cost {
        update["cost"] = json!({ "amount": cost, "currency": "USD" });
    }
    update
}

/// A proposal as a tool call that is still to be decided, with the whole text of each file.
pub(super) fn proposal(root: &Path, proposal: &Proposal) -> Value {
    let diffs = proposal.files.iter().map(|file| {
        let bytes = |image: &Option<Bytes>| image.as_ref().map(|bytes| bytes.0.clone());
        diff(root, &file.path, bytes(&file.before), bytes(&file.after))
    });
    let locations = proposal
        .files
        .iter()
        .map(|file| json!({ "path": root.join(file.path.as_str()) }));
    let n_hunks: usize = proposal.files.iter().map(|file| file.hunks.len()).sum();
    json!({
        "toolCallId": proposal.id,
        "title": format!(
            "{} in {}",
            count(n_hunks, "proposed change"),
            count(proposal.files.len(), "file")
        ),
        "kind": "edit",
        "status": "pending",
        "content": diffs.collect::<Vec<_>>(),
        "locations": locations.collect::<Vec<_>>(),
    })
}

/// One hunk as a tool call that is still to be decided: its file with it alone.
pub(super) fn hunk(root: &Path, file: &ProposedFile, hunk: &Hunk, count: &str) -> Value {
    let with = file.with(|other| other.id == hunk.id);
    let before = file.before.as_ref().map(|bytes| bytes.0.clone());
    let (what, line) = match &hunk.what {
        What::Lines(change) => ("", Some(change.before.start + 1)),
        What::Create => (" is created", None),
        What::Delete => (" is deleted", None),
        What::Move => (" is moved", None),
        What::Mode => (" changes its mode", None),
    };
    let at = line.map_or_else(String::new, |line| format!(":{line}"));
    json!({
        "toolCallId": hunk.id,
        "title": format!("{count}: {}{at}{what}", file.path),
        "kind": "edit",
        "status": "pending",
        "content": [diff(root, &file.path, before, with.bytes)],
        "locations": [{ "path": root.join(file.path.as_str()), "line": line }],
    })
}

fn diff(root: &Path, path: &RepoPath, before: Option<Vec<u8>>, after: Option<Vec<u8>>) -> Value {
    let is_large = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|b| b.len() > DIFF_TEXT);
    if is_large(&before) || is_large(&after) {
        return content(&format!(
            "{path} is too large to be shown here; its changes are decided all the same."
        ));
    }
    let text = |bytes: Option<Vec<u8>>| bytes.map(|b| String::from_utf8_lossy(&b).into_owned());
    json!({
        "type": "diff",
        "path": root.join(path.as_str()),
        "oldText": text(before),
        "newText": text(after).unwrap_or_default(),
    })
}
