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

/// All events of a task, from the log.
pub(super) fn recorded(stage: &Stage, task: &str) -> Vec<Value> {
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
    for event in &events[..events.len() - 4] {
        let kind = event["kind"].as_str().unwrap();
        let is_running = matches!(
            kind,
            "message" | "thought" | "writing" | "tool_output" | "usage"
        );
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

/// Plays a task and kills it whenever the model is asked for one of the turns `stalls`. Returns the
/// task and what its last process told.
pub(super) fn play_killed(stage: &Stage, stalls: &[usize]) -> (String, Vec<Value>) {
    let mut running = stage.task();
    running.next();
    let task = running.task();
    for (n_killed, turn) in stalls.iter().enumerate() {
        let heard = running.kill_when(|| stage.wait_until_asked(turn + 1 + n_killed));
        running = stage.resume(&task, heard.len());
    }
    let (events, _) = running.until_it_ends();
    (task, events)
}

/// What was done and what was asked, in order.
fn course(events: &[Value]) -> Vec<&str> {
    let of = events.iter().map(|e| e["kind"].as_str().unwrap());
    of.filter(|kind| ["tool_result", "approval"].contains(kind))
        .collect()
}

#[test]
fn circles_and_ceilings_are_seen_where_they_would_have_been_however_often_a_task_is_killed() {
    for name in [
        "007_circle_halts",
        "011_ceiling",
        "028_edits_that_never_fit",
    ] {
        let folder = case(name);
        let whole = Stage::of(&folder);
        let (expected, _) = whole.task().until_it_ends();
        let n_turns = whole.server.log().completions().len();
        whole.stop();
        let each: Vec<usize> = (1..n_turns).collect();
        for stalls in [each.clone(), vec![2], vec![n_turns - 1]] {
            let stage = Stage::changed(&folder, |script| script.stalls.clone_from(&stalls));
            let (task, _) = play_killed(&stage, &stalls);
            let all = recorded(&stage, &task);
            let course = course(&all);
            let expected_course = self::course(&expected);
            assert_eq!(
                course[..course.len().min(expected_course.len())],
                expected_course,
                "{name}, killed at {stalls:?}: {all:#?}"
            );
            if name == "007_circle_halts" {
                let done = |events: &[Value]| events.last().unwrap()["reason"].clone();
                assert_eq!((done(&all), course.len()), (done(&expected), 6));
            }
            stage.check_requests();
            stage.stop();
        }
    }
}
