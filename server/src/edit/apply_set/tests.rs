//! Edits that could come to far more than their answer and their file.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::edit::parse::{Format, parse};

fn done(file: &str, answer: &str) -> Result<Done, Refusal> {
    let set = parse(answer, Format::Auto).unwrap();
    let edits: Vec<&Edit> = set.edits.iter().collect();
    let started = Instant::now();
    let done = apply(file.as_bytes(), &edits, false);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");
    done
}

/// 100 lines, 100 kB.
fn long() -> String {
    format!("{}\n", "x".repeat(999)).repeat(100)
}

#[test]
fn a_line_that_is_there_thousands_of_times_is_refused_at_once() {
    let search = format!(
        "f\n<<<<<<< SEARCH\n}}\n=======\n{}>>>>>>> REPLACE\n",
        long()
    );
    let call = json!({"path": "f", "old_string": "}", "new_string": long()}).to_string();
    for (line, answer) in [("}\n", &search), ("    }\n", &search), ("}\n", &call)] {
        let why = done(&line.repeat(20_000), answer).unwrap_err();
        assert_eq!(why.kind, Kind::AmbiguousMatch, "{line:?}: {why}");
        assert!(
            why.message.contains("at least 256 times"),
            "{line:?}: {why}"
        );
    }
}

#[test]
fn a_hint_still_chooses_among_thousands_of_places() {
    let patch = "--- a/f\n+++ b/f\n@@ -15001 +15001 @@\n-}\n+end\n";
    let lines = done(&"}\n".repeat(20_000), patch).unwrap().changes;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].before, 15_000..15_001);
    // Below a heading far above, a place among others.
    let file = format!(
        "def a():\n{}def b():\n    y\n",
        "    x\n    }\n".repeat(10_000)
    );
    let patch = "*** Begin Patch\n*** Update File: f\n@@ def a():\n-    }\n+    end\n@@ def b():\n-    y\n+    z\n*** End Patch\n";
    let why = done(&file, patch).unwrap_err();
    assert_eq!(why.kind, Kind::AmbiguousMatch, "{why}");
}

#[test]
fn a_file_does_not_grow_beyond_what_can_be_edited() {
    let call = |n_bytes: usize| {
        let new = "x".repeat(n_bytes);
        json!({"path": "f", "old_string": "e", "new_string": new, "replace_all": true}).to_string()
    };
    let file = "e\n".repeat(1_000);
    let why = done(&file, &call(100_000)).unwrap_err();
    assert_eq!(why.kind, Kind::Other);
    assert!(why.message.contains("would be larger than 64 MiB"), "{why}");
    assert_eq!(done(&file, &call(100)).unwrap().bytes.len(), 101_000);
    assert_eq!(done(&file, &call(0)).unwrap().bytes.len(), 1_000);
}
