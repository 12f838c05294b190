//! A task asks the editor what it shows as wrong, where the editor said that it tells.

use pairwright::driver::Client;
use pairwright::session::document::uri_of;
use serde_json::{Value, json};

use super::lsp::{ask, deadline, open};
use super::run::{Script, Stage};
use crate::world::World;

const SCRIPT: &str = r#"
[[turn]]
[[turn.call]]
name = "diagnostics"
[[turn.call]]
name = "diagnostics"
arguments = { path = "a.py" }

[[turn]]
[[turn.call]]
name = "finish"
arguments = { summary = "Done." }
"#;

fn stage() -> Stage {
    let files = [("a.py", "one\n"), ("b.py", "two\n"), (".env", "KEY=1\n")];
    Stage::with(
        toml::from_str::<Script>(SCRIPT).unwrap(),
        World::new(&files),
    )
}

fn shown(line: u32, severity: u32, message: &str) -> Value {
    let at = json!({ "line": line, "character": 0 });
    json!({ "range": { "start": at, "end": at }, "severity": severity, "source": "lint", "message": message })
}

/// Runs the task to its end. Returns the outcomes and texts of its tools.
fn results(client: &mut Client) -> Vec<(String, String)> {
    let params = json!({ "prompt": "What is wrong?" });
    let task = ask(client, "pairwright/task/start", &params)["task"].clone();
    let is_end = |event: &Value| event["kind"] == "done";
    client
        .wait_for("pairwright/event", is_end, deadline())
        .unwrap();
    let record = ask(
        client,
        "pairwright/audit/query",
        &json!({ "session": task }),
    );
    let events = record["events"].as_array().unwrap().iter();
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events
        .filter(|event| event["kind"] == "tool_result")
        .map(|event| (text(event, "outcome"), text(event, "text")))
        .collect()
}

#[test]
fn a_task_is_told_what_the_editor_shows_in_its_folder_and_nothing_of_secret_files() {
    let stage = stage();
    let mut client = open(&stage, &json!({ "events": true, "diagnostics": true }));
    let root = stage.world.root();
    let uri = move |name: &str| uri_of(&root.join(name));
    client.on_request("pairwright/diagnostics/get", move |asked| {
        let all = [
            json!({ "uri": uri("b.py"), "diagnostics": [shown(4, 2, "far\n too   long"), shown(0, 1, "no such name")] }),
            json!({ "uri": uri("a.py"), "diagnostics": [shown(0, 1, "does not parse")] }),
            json!({ "uri": uri(".env"), "diagnostics": [shown(0, 1, "KEY is 1")] }),
            json!({ "uri": "file:///elsewhere/c.py", "diagnostics": [shown(0, 1, "not ours")] }),
        ];
        let wanted = asked["textDocument"]["uri"].as_str();
        let told: Vec<&Value> = all.iter().filter(|of| wanted.is_none_or(|uri| of["uri"] == uri)).collect();
        (Vec::new(), Some(json!(told)))
    });
    let results = results(&mut client);
    let (outcome, all) = &results[0];
    let told: Vec<&str> = all.lines().filter(|line| !line.contains("data-")).collect();
    assert_eq!(outcome, "done");
    assert_eq!(
        told,
        [
            "a.py:1: error (lint): does not parse",
            "b.py:1: error (lint): no such name",
            "b.py:5: warning (lint): far too long",
        ]
    );
    assert!(all.starts_with("<data-"), "{all}");
    assert!(results[1].1.contains("does not parse") && !results[1].1.contains("b.py"));
    client.leave().unwrap();
    stage.stop();
}

#[test]
fn an_editor_that_does_not_tell_costs_the_call_alone() {
    for announces in [false, true] {
        let stage = stage();
        let mut client = open(&stage, &json!({ "events": true, "diagnostics": announces }));
        let results = results(&mut client);
        let request = stage.server.log().completions()[0].json();
        assert_eq!(request.to_string().contains("\"diagnostics\""), announces);
        let why = match announces {
            // The driver answers null to what it does not know.
            true => "the editor does not tell",
            false => "there is no editor that tells what it shows",
        };
        for (outcome, text) in &results[..2] {
            assert_eq!(outcome, "failed");
            assert!(text.contains(why), "{text}");
        }
        assert_eq!(results.len(), 3);
        client.leave().unwrap();
        stage.stop();
    }
}
