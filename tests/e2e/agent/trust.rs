//! Tasks in a folder that is not trusted: they look, and change and run nothing.

use std::sync::{Arc, Mutex};

use pairwright::driver::Client;
use serde_json::{Value, json};

use super::run::{Script, Stage};
use crate::world::World;

const SCRIPT: &str = "[[turn]]\n[[turn.call]]\nname = 'run'\narguments = { command = 'ls' }\n\
    [[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";

fn untrusted() -> Stage {
    let script: Script = toml::from_str(SCRIPT).unwrap();
    Stage::untrusted(script, World::new(&[("a.txt", "one\n")]))
}

fn stage(trusted: &str) -> Stage {
    let stage = untrusted();
    stage.add_settings(&format!("[workspace]\ntrusted = [{trusted}]\n"));
    stage
}

fn said(output: &std::process::Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// Answers the server's questions about trust with `title` and keeps them.
fn answering(client: &mut Client, title: Option<&'static str>) -> Arc<Mutex<Vec<String>>> {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    client.on_request("window/showMessageRequest", move |params| {
        let message = params["message"].as_str().unwrap().to_owned();
        heard.lock().unwrap().push(message);
        let chosen = title.map_or(Value::Null, |title| json!({ "title": title }));
        (Vec::new(), Some(chosen))
    });
    asked
}

#[test]
fn a_folder_nobody_spoke_of_is_trusted_by_a_command_and_no_longer_by_its_opposite() {
    let stage = untrusted();
    let refused = stage.command(&["task", "Do it."]);
    let why = said(&refused);
    assert!(
        why.contains("not trusted") && why.contains("pairwright trust"),
        "{why}"
    );
    assert_eq!(stage.server.log().completions().len(), 0);

    let done = stage.command(&["trust"]);
    assert!(
        done.status.success() && said(&done).contains("trusted"),
        "{}",
        said(&done)
    );
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let listed = said(&stage.command(&["trust", "--list"]));
    let root = stage.world.root().canonicalize().unwrap();
    assert!(listed.contains(root.to_str().unwrap()), "{listed}");
    assert!(!stage.world.root().join(".pairwright").exists());

    assert!(stage.command(&["trust", "--revoke"]).status.success());
    let refused = stage.command(&["task", "Do it."]);
    assert!(said(&refused).contains("not trusted"), "{}", said(&refused));
    stage.stop();
}

#[test]
fn a_word_that_does_not_count_is_said_to_not_count() {
    let stage = stage("");
    let done = stage.command(&["trust"]);
    assert!(!done.status.success());
    assert!(
        said(&done).contains("`workspace.trusted` is set"),
        "{}",
        said(&done)
    );
    stage.stop();
}

#[test]
fn an_editor_is_asked_when_a_task_would_run_something_and_never_after_a_yes() {
    let stage = untrusted();
    // What the user answers, how often they are asked, whether the task starts.
    let cases = [
        ("review", None, 1, false),
        ("review", Some("Don't trust"), 1, false),
        ("review", Some("Anything else"), 1, false),
        ("plan", Some("Don't trust"), 0, true),
        ("review", Some("Trust"), 1, true),
        ("review", Some("Don't trust"), 0, true),
    ];
    for (mode, chosen, n_asked, starts) in cases {
        let mut client = stage.world.server();
        let asked = answering(&mut client, chosen);
        client.initialize(&stage.world.root()).unwrap();
        let params = json!({ "prompt": "Do it.", "mode": mode });
        let answer = client.request("pairwright/task/start", &params).unwrap();
        let case = format!("{mode}, {chosen:?}: {answer:?}");
        match answer.result {
            Ok(started) => {
                assert!(starts, "{case}");
                let task = json!({ "task": started["task"] });
                client.request("pairwright/task/stop", &task).unwrap();
            }
            Err(why) => assert!(!starts && why.message.contains("not trusted"), "{case}"),
        }
        let asked = asked.lock().unwrap();
        let about: Vec<&String> = asked.iter().filter(|text| text.contains("trust")).collect();
        assert_eq!(about.len(), n_asked, "{case}, {asked:?}");
        client.leave().unwrap();
    }
    stage.stop();
}

#[test]
fn an_editor_without_a_say_in_a_setting_is_not_asked() {
    let stage = stage("");
    let mut client = stage.world.server();
    let asked = answering(&mut client, Some("Trust"));
    client.initialize(&stage.world.root()).unwrap();
    let params = json!({ "prompt": "Do it." });
    let answer = client.request("pairwright/task/start", &params).unwrap();
    assert!(answer.result.unwrap_err().message.contains("not trusted"));
    assert!(asked.lock().unwrap().is_empty());
    assert!(!stage.world.trust_file().exists());
    stage.stop();
}

#[test]
fn trust_is_given_and_taken_back_by_requests_too() {
    let stage = untrusted();
    let mut client = stage.world.session();
    let folder = stage.world.uri("");
    let folder = folder.trim_end_matches('/');
    let mut ask = |method: &str, params: Value| {
        let answer = client.request(method, &params).unwrap();
        answer.result.unwrap()
    };
    let standing = |standing: &str| json!({ "folder": folder, "standing": standing });
    let given = json!({ "folder": folder, "trusted": true });
    assert_eq!(
        ask("pairwright/trust/get", json!({})),
        json!([standing("unknown")])
    );
    assert_eq!(ask("pairwright/trust/set", given), standing("trusted"));
    let command = json!({ "command": "pairwright.trust.get", "arguments": [] });
    assert_eq!(
        ask("workspace/executeCommand", command),
        json!([standing("trusted")])
    );
    let taken = json!({ "trusted": false });
    assert_eq!(ask("pairwright/trust/set", taken), standing("unknown"));
    let elsewhere = json!({ "folder": "file:///", "trusted": true });
    let answer = client.request("pairwright/trust/set", &elsewhere).unwrap();
    assert!(
        answer.result.is_err(),
        "a folder that is not open was trusted"
    );
    stage.stop();
}

#[test]
fn tasks_that_change_or_run_something_are_refused_where_the_folder_is_not_trusted() {
    let stage = stage("");
    for mode in ["review", "auto"] {
        let refused = stage.command(&["task", "--mode", mode, "Do it."]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        assert!(said.contains("The folder is not trusted"), "{said}");
        assert!(said.contains("workspace.trusted"), "{said}");
    }
    assert_eq!(
        stage.server.log().completions().len(),
        0,
        "a model was asked"
    );
    let (events, code) = stage
        .start(&["--mode", "read-only", "Look."])
        .until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let ran = events.iter().find(|e| e["kind"] == "tool_result").unwrap();
    assert_eq!(ran["outcome"], "failed", "{ran}");
    stage.stop();
}

#[test]
fn a_task_begun_while_its_folder_was_trusted_is_not_taken_up_after() {
    let stage = stage("'/'");
    let mut task = stage.task();
    while task
        .next()
        .is_some_and(|event| event["kind"] != "tool_result")
    {}
    let id = task.task();
    task.kill();
    let n_asked = stage.server.log().completions().len();
    let settings = std::fs::read_to_string(stage.world.user_file()).unwrap();
    stage
        .world
        .write_settings(&settings.replace("trusted = ['/']", "trusted = []"));
    let refused = stage.command(&["task", "--resume", &id]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("not trusted"),
        "{said}"
    );
    assert_eq!(stage.server.log().completions().len(), n_asked);
    stage.world.write_settings(&settings);
    let (events, code) = stage.start(&["--resume", &id]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.stop();
}
