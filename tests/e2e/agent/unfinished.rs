//! Tasks that were left are told of when a program starts, and taken up when the user says so.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use pairwright::driver::{Client, PATIENCE};
use pairwright::session::document::uri_of;
use serde_json::{Value, json};

use super::run::{Stage, case};

/// A task whose process was killed after it had read something.
fn killed(stage: &Stage) -> String {
    killed_at(stage, "tool_result")
}

/// A task whose process was killed at its first event of a kind.
fn killed_at(stage: &Stage, kind: &str) -> String {
    let mut task = stage.task();
    while task.next().is_some_and(|event| event["kind"] != kind) {}
    let id = task.task();
    task.kill();
    id
}

/// An editor that answers the first message with buttons by `chosen`. Returns it with what the
/// message said.
fn editor(stage: &Stage, chosen: Option<&'static str>) -> (Client, Value) {
    let mut client = stage.world.server();
    let told = Arc::new(Mutex::new(Value::Null));
    let keep = Arc::clone(&told);
    client.on_request("window/showMessageRequest", move |asked| {
        *keep.lock().unwrap() = asked.clone();
        (
            Vec::new(),
            Some(json!(chosen.map(|title| json!({ "title": title })))),
        )
    });
    let root = uri_of(&stage.world.root());
    let params = json!({
        "processId": null,
        "rootUri": root,
        "workspaceFolders": [{ "uri": root, "name": "workspace" }],
        "capabilities": {
            "experimental": { "pairwright": { "events": true, "approvals": true } },
            "window": { "showDocument": { "support": true } },
        },
    });
    client.on_request("pairwright/approval/request", |_| {
        (Vec::new(), Some(json!({ "decision": "yes" })))
    });
    client.on_request("window/showDocument", |_| {
        (Vec::new(), Some(json!({ "success": true })))
    });
    client.initialize_with(&params).unwrap().result.unwrap();
    client
        .wait_for(
            "window/showMessageRequest",
            |_| true,
            Instant::now() + PATIENCE * 6,
        )
        .unwrap();
    let told = told.lock().unwrap().clone();
    (client, told)
}

#[test]
fn an_editor_tells_of_a_task_that_was_left_and_takes_it_up_when_asked() {
    let stage = Stage::of(&case("001_find_edit_test"));
    let task = killed(&stage);
    let n_asked = stage.server.log().completions().len();
    let (client, told) = editor(&stage, None);
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("A task is not finished: "), "{message}");
    assert!(
        message.contains(&format!("pairwright task --resume {task}")),
        "{message}"
    );
    assert_eq!(
        told["actions"],
        json!([{ "title": "Resume" }, { "title": "Show" }, { "title": "Stop" }])
    );
    client.leave().unwrap();
    assert_eq!(
        stage.server.log().completions().len(),
        n_asked,
        "it was taken up unasked"
    );

    let (mut client, _) = editor(&stage, Some("Show"));
    let shown = client
        .wait_for(
            "window/showDocument",
            |_| true,
            Instant::now() + PATIENCE * 6,
        )
        .unwrap();
    let path = shown["uri"]
        .as_str()
        .unwrap()
        .strip_prefix("file://")
        .unwrap();
    let story = std::fs::read_to_string(path).unwrap();
    assert!(
        story.contains(&task) && story.contains("## Steps"),
        "{story}"
    );
    client.leave().unwrap();

    let (mut client, _) = editor(&stage, Some("Resume"));
    let is_end = |event: &Value| event["kind"] == "done" && event["session"] == task.as_str();
    let done = client
        .wait_for("pairwright/event", is_end, Instant::now() + PATIENCE * 6)
        .unwrap();
    assert_eq!(done["reason"], "succeeded", "{done}");
    client.leave().unwrap();
    stage.stop();
}

#[test]
fn a_task_that_was_left_is_ended_when_asked_and_its_hunks_wait() {
    let stage = Stage::of(&case("001_find_edit_test"));
    let task = killed_at(&stage, "diff");
    // Without a model it cannot be taken up.
    stage.world.write_settings("");
    let (mut client, _) = editor(&stage, Some("Stop"));
    let is_end = |event: &Value| event["kind"] == "done" && event["session"] == task.as_str();
    let done = client
        .wait_for("pairwright/event", is_end, Instant::now() + PATIENCE * 6)
        .unwrap();
    assert_eq!(done["reason"], "by the user", "{done}");
    let listed = client.request("pairwright/diff/list", &json!({})).unwrap();
    let listed = listed.result.unwrap();
    assert!(!listed["files"].as_array().unwrap().is_empty(), "{listed}");
    let stop = json!({ "task": task });
    let again = client.request("pairwright/task/stop", &stop).unwrap();
    assert_eq!(again.result.unwrap()["state"], "cancelled");
    client.leave().unwrap();
    stage.stop();
}

#[test]
fn a_folder_that_is_added_is_looked_at_too() {
    let stage = Stage::of(&case("001_find_edit_test"));
    let task = killed(&stage);
    let elsewhere = stage.world.home().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut client = stage.world.server();
    client.initialize(&elsewhere).unwrap().result.unwrap();
    let added = json!({ "uri": uri_of(&stage.world.root()), "name": "workspace" });
    let params = json!({ "event": { "added": [added], "removed": [] } });
    client
        .notify("workspace/didChangeWorkspaceFolders", &params)
        .unwrap();
    let is_told = |asked: &Value| asked["message"].as_str().unwrap().contains(&task);
    let deadline = Instant::now() + PATIENCE * 6;
    client
        .wait_for("window/showMessageRequest", is_told, deadline)
        .unwrap();
    client.leave().unwrap();
    stage.stop();
}

#[test]
fn the_terminal_names_tasks_that_were_left_and_not_those_at_work() {
    let stage = Stage::of(&case("001_find_edit_test"));
    let left = killed(&stage);
    let mut at_work = stage.task();
    while at_work
        .next()
        .is_some_and(|event| event["kind"] != "tool_result")
    {}
    let working = at_work.task();
    let other = stage.command(&["task", "--mode", "read-only", "Look."]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        said.contains(&format!("go on with: pairwright task --resume {left}")),
        "{said}"
    );
    assert!(!said.contains(&working), "{said}");
    at_work.kill();
    stage.stop();
}
