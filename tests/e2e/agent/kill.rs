//! A task that is killed after any of its events goes on where it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::run::{Running, Stage, case, files};

fn count(events: &[Value], kind: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|e| e["kind"] == kind) {
        *counts
            .entry(event["call"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    counts
}

/// All events of the only task, from the log.
fn recorded(stage: &Stage, task: &str) -> Vec<Value> {
    let export = stage.command(&["audit", "export", task]);
    let export: Value = serde_json::from_slice(&export.stdout).unwrap();
    assert!(
        export["verified"]["events"].as_u64().unwrap() > 0,
        "{}",
        export["broken"]
    );
    export["events"].as_array().unwrap().clone()
}

fn accepted(stage: &Stage, task: &str) -> BTreeMap<String, String> {
    let output = stage.command(&["task", "--accept", task]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    files(&stage.world.root())
}

/// Positions after which to kill: one of each kind and tool, or all of them with
/// `PAIRWRIGHT_LONG_TESTS=1`. The last events are written together, when the task is over.
fn boundaries(events: &[Value]) -> Vec<u64> {
    let is_long = std::env::var_os("PAIRWRIGHT_LONG_TESTS").is_some();
    let mut known = BTreeSet::new();
    let mut wanted = Vec::new();
    for event in &events[..events.len() - 3] {
        let kind = event["kind"].as_str().unwrap();
        let is_running = matches!(kind, "message" | "thought" | "tool_output" | "usage");
        if !is_running && (known.insert((kind, event["tool"].as_str())) || is_long) {
            wanted.push(event["seq"].as_u64().unwrap());
        }
    }
    wanted
}

#[test]
fn a_task_killed_after_any_event_ends_as_if_it_had_not_been() {
    let folder = case("001_find_edit_test");
    let reference = Stage::of(&folder);
    let (events, code) = reference.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let wanted = accepted(&reference, events[0]["session"].as_str().unwrap());
    let boundaries = boundaries(&events);
    assert!(boundaries.len() >= 12, "{boundaries:?}");
    reference.stop();
    for boundary in &boundaries {
        let stage = Stage::of(&folder);
        let mut first = stage.task();
        while first
            .next()
            .is_some_and(|e| e["seq"].as_u64().unwrap() < *boundary)
        {}
        let task = first.task();
        first.kill();
        let resumed: Running = stage.start(&["--resume", &task]);
        let (_, code) = resumed.until_it_ends();
        let all = recorded(&stage, &task);
        let story = || serde_json::to_string_pretty(&all).unwrap();
        assert_eq!(code, 0, "killed after {boundary}: {}", story());
        for (call, n_results) in count(&all, "tool_result") {
            assert_eq!(n_results, 1, "{call}, killed after {boundary}: {}", story());
        }
        for (call, n_starts) in count(&all, "tool_started") {
            assert_eq!(
                n_starts,
                1,
                "{call} was run again, killed after {boundary}: {}",
                story()
            );
        }
        assert_eq!(accepted(&stage, &task), wanted, "killed after {boundary}");
        stage.stop();
    }
}

#[test]
fn a_task_that_is_over_is_not_begun_again() {
    let stage = Stage::of(&case("001_find_edit_test"));
    let (events, _) = stage.task().until_it_ends();
    let n_requests = stage.server.log().completions().len();
    let task = events[0]["session"].as_str().unwrap().to_owned();
    let (_, code) = stage.start(&["--resume", &task]).until_it_ends();
    assert_eq!(code, 0);
    assert_eq!(stage.server.log().completions().len(), n_requests);
    stage.stop();
}
