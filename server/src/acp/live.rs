//! Edits of a task in their calls: as the model writes them, and what they make of the files.
//!
//! Holds: what is shown here cannot be applied; that is asked at the end ([`super::review`]). A call
//! that is shown while it is written is the same one once it is whole, and ends if it never is.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::update::tool_kind;
use crate::agent::EDIT;
use crate::shown::printable;
use crate::store::events::{DiffFile, EventKind};

/// The edits of one task that are on their way.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Calls that are written and not whole.
    written: BTreeSet<String>,
    /// What the call that ends next has changed.
    diffs: Vec<Value>,
}

impl Live {
    /// Shows a call as soon as something of it is there.
    pub(super) fn writes(&mut self, call: &str, path: Option<&str>) -> Option<Value> {
        let is_new = self.written.insert(call.to_owned());
        is_new.then(|| {
            json!({
                "sessionUpdate": "tool_call",
                "toolCallId": call,
                "title": format!("{EDIT} {}", path.map_or_else(String::new, printable)),
                "kind": tool_kind(EDIT),
                "status": "pending",
            })
        })
    }

    /// Takes in what a task changed so far.
    pub(super) fn changed(&mut self, root: &Path, files: &[DiffFile]) {
        let diffs = files.iter().flat_map(|file| {
            let hunks = file.patch.as_deref().unwrap_or_default();
            diffs(root, &file.path, hunks)
        });
        self.diffs = diffs.collect();
    }

    /// Puts into the update of an event what is known besides.
    pub(super) fn complete(&mut self, kind: &EventKind, update: &mut Value) {
        match kind {
            EventKind::ToolCall { call, .. } if self.written.remove(call) => {
                update["sessionUpdate"] = "tool_call_update".into();
            }
            EventKind::ToolResult { .. } => {
                if let Some(content) = update["content"].as_array_mut() {
                    content.extend(std::mem::take(&mut self.diffs));
                }
            }
            _ => {}
        }
    }

    /// Ends the calls that will not be whole any more.
    pub(super) fn end(self) -> impl Iterator<Item = Value> {
        self.written.into_iter().map(|call| {
            json!({ "sessionUpdate": "tool_call_update", "toolCallId": call, "status": "failed" })
        })
    }
}

/// The hunks of a unified diff, each as what was there and what will be.
fn diffs(root: &Path, path: &str, patch: &str) -> Vec<Value> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in patch.split_inclusive('\n') {
        let (mark, text) = line.split_at_checked(1).unwrap_or(("", line));
        match (mark, found.last_mut()) {
            ("@", _) => found.push(Default::default()),
            ("-", Some((old, _))) => old.push_str(text),
            ("+", Some((_, new))) => new.push_str(text),
            (" ", Some((old, new))) => {
                old.push_str(text);
                new.push_str(text);
            }
            // What is said about the diff.
            _ => {}
        }
    }
    let path = root.join(path);
    let diff = |(old, new): (String, String)| {
        // There are lines around what is put into a file that is there.
        let old = (!old.is_empty()).then_some(old);
        json!({ "type": "diff", "path": path, "oldText": old, "newText": new })
    };
    found.into_iter().map(diff).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_told_hunk_by_hunk() {
        let patch = "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n@@ -9 +9,2 @@\n x\n+y\n\\ 3 lines more are not shown\n";
        let expected = [("a\nb\nc\n", "a\nB\nc\n"), ("x\n", "x\ny\n")].map(
            |(old, new)| json!({ "type": "diff", "path": "/w/f", "oldText": old, "newText": new }),
        );
        assert_eq!(diffs(Path::new("/w"), "f", patch), expected);
        let created = diffs(Path::new("/w"), "f", "@@ -1,0 +1,1 @@\n+one\n");
        assert_eq!(created[0]["oldText"], Value::Null);
        assert_eq!(created[0]["newText"], "one\n");
    }
}
