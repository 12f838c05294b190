//! What a task is taken for, and what rules say of such tasks.

use serde_json::Value;

use super::kill::recorded;
use super::run::{Script, Stage};
use crate::world::World;

const RULES: &str =
    "[[when]]\nscenario = ['operations']\nrisk = ['high']\ndeny = 'a person deploys'\n";

#[test]
fn a_task_that_is_out_of_scope_stops_before_it_begins_and_is_on_record() {
    let script = Script {
        prompt: Some("Deploy it to production.".into()),
        ..Script::default()
    };
    let stage = Stage::with(script, World::new(&[(".pairwright/policy.toml", RULES)]));
    let refused = stage.command(&["task", "Deploy it to production."]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("The task is out of scope: a person deploys"),
        "{said}"
    );
    assert!(said.contains("policy.toml"), "{said}");
    assert!(
        stage.server.log().completions().is_empty(),
        "no model is asked"
    );

    let sessions = stage.command(&["audit", "show", "--json"]);
    let sessions: Value = serde_json::from_slice(&sessions.stdout).unwrap();
    let session = &sessions[0];
    assert_eq!(session["state"], "failed");
    let id = session["id"].as_str().unwrap();
    let kinds: Vec<Value> = recorded(&stage, id)
        .iter()
        .map(|e| e["kind"].clone())
        .collect();
    assert_eq!(kinds, ["intake", "status", "done"]);
    let shown = stage.command(&["audit", "show", id]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("taken for operations of high risk, rules "),
        "{shown}"
    );
    stage.stop();
}

#[test]
fn the_record_says_who_asked_for_what_where_under_which_rules() {
    let script = "[[turn]]\n[[turn.call]]\nname = 'run'\narguments = { command = 'ls' }\n\
        [[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";
    let script: Script = toml::from_str(script).unwrap();
    let stage = Stage::with(script, World::new(&[("a.txt", "one\n")]));
    let (events, _) = stage.task().until_it_ends();
    let intake = &events[0];
    assert_eq!(
        (&intake["scenario"], &intake["risk"]),
        (&"other".into(), &"medium".into())
    );
    assert_eq!(intake["prompt"], "Do the task.");
    assert_eq!(intake["policy"].as_str().unwrap().len(), 16);
    let sandbox = events.iter().find_map(|e| e["sandbox"].as_str());
    let id = events[0]["session"].as_str().unwrap();
    let shown = stage.command(&["audit", "show", "--json", id]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let session = &shown["session"];
    assert_eq!(session["user"], intake["user"]);
    assert_eq!(session["repo"], intake["root"]);
    assert_eq!(
        session["sandbox"].as_str(),
        Some(sandbox.expect("a sandbox"))
    );
    stage.stop();
}
