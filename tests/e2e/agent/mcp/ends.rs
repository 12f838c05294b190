//! Programs of MCP servers end with their task, however it ends; what a kill cut off is unknown.

use std::fs;
use std::time::{Duration, Instant};

use pairwright::driver::Client;
use serde_json::{Value, json};

use super::super::lsp::{ask, deadline, open};
use super::super::run::{Running, Stage};
use super::{YES, calls, finished, results, with_program};

/// Nobody waits longer for what happens at once.
const DEADLINE: Duration = Duration::from_secs(20);
/// A call that leaves a process, and one that does not end.
const SPAWN_AND_STALL: [&str; 2] = ["mcp__notes__spawn", "mcp__notes__stall"];

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Reads on until the nth call is written down as begun and has arrived at the server.
fn begun(task: &mut Running, stage: &Stage, n: usize) {
    let call = format!("c{n:08}");
    let is_it = |event: &Value| event["kind"] == "tool_started" && event["call"] == *call;
    while !is_it(&task.next().unwrap()) {}
    arrived(stage, n);
}

fn arrived(stage: &Stage, n: usize) {
    wait_until("the call did not arrive", || calls(stage).len() == n);
}

fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = state
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .next();
    state.is_some_and(|state| state != 'Z')
}

/// The processes that the tool `spawn` told of: the one it started, and the server itself.
fn processes(event: &Value) -> Option<Vec<String>> {
    let text = event["text"].as_str().unwrap_or_default();
    let (_, rest) = text.split_once("started ")?;
    let words = rest.split_whitespace();
    let pids: Vec<String> = words
        .filter(|w| w.parse::<u32>().is_ok())
        .map(str::to_owned)
        .collect();
    assert_eq!(pids.len(), 2, "{text}");
    Some(pids)
}

fn all_end(pids: &[String]) {
    for pid in pids {
        wait_until(&format!("{pid} outlived its task"), || !is_alive(pid));
    }
}

#[test]
fn programs_end_with_a_task_that_ends() {
    let stage = with_program(&["mcp__notes__spawn"], &[YES]);
    let events = finished(&stage);
    all_end(&events.iter().find_map(processes).unwrap());
    stage.stop();
}

#[test]
fn programs_end_with_a_task_that_is_stopped_while_they_work() {
    let stage = with_program(&SPAWN_AND_STALL, &[]);
    let mut client = open(&stage, &json!({ "events": true, "approvals": true }));
    client.on_request("pairwright/approval/request", |_| {
        (Vec::new(), Some(json!({ "decision": "yes" })))
    });
    let task = ask(
        &mut client,
        "pairwright/task/start",
        &json!({ "prompt": "Do it." }),
    )["task"]
        .clone();
    let event = |client: &mut Client, is_it: &dyn Fn(&Value) -> bool| {
        client
            .wait_for("pairwright/event", is_it, deadline())
            .unwrap()
    };
    let spawned = event(&mut client, &|e| e["kind"] == "tool_result");
    let pids = processes(&spawned).unwrap();
    event(&mut client, &|e| {
        e["kind"] == "tool_started" && e["call"] == "c00000002"
    });
    arrived(&stage, 2);
    ask(
        &mut client,
        "pairwright/task/stop",
        &json!({ "task": task }),
    );
    let done = event(&mut client, &|e| e["kind"] == "done");
    assert_eq!(done["reason"], "by the user", "{done}");
    all_end(&pids);
    client.leave().unwrap();
    stage.stop();
}

#[test]
fn a_program_ends_when_pairwright_is_killed() {
    let stage = with_program(&SPAWN_AND_STALL, &[YES; 2]);
    let mut task = stage.task();
    begun(&mut task, &stage, 2);
    let events = task.kill();
    let pids = events.iter().find_map(processes).unwrap();
    all_end(&pids[1..]);
    // What the server started and did not end is nobody's any more.
    let orphan = rustix::process::Pid::from_raw(pids[0].parse().unwrap()).unwrap();
    rustix::process::kill_process(orphan, rustix::process::Signal::KILL).unwrap();
    stage.stop();
}

#[test]
fn a_call_that_a_kill_cut_off_is_unknown_and_not_made_again() {
    let stage = with_program(&["mcp__notes__stall"], &[YES]);
    let mut task = stage.task();
    begun(&mut task, &stage, 1);
    let id = task.task();
    task.kill();
    let (events, code) = stage.start(&["--resume", &id]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let results = results(&events);
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].0, "unknown");
    assert!(results[0].1.contains("Nobody knows whether it took effect"));
    assert_eq!(calls(&stage).len(), 1);
    stage.stop();
}
