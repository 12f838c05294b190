//! Settings from every place, put in force at once, their mistakes named.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Edits, World, suggested};

const KNOWN: &[(&str, &str)] = &[("a.py", "alpha = beta + gamma\nalpha = beta + gamma\n")];

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_change_of_the_users_file_is_in_force_without_a_restart() {
    let world = World::new(KNOWN);
    world.write_settings("");
    let mut client = world.session();
    client.learnt();
    world.write_settings("[complete]\nenabled = false\n");
    let off = |s: &Value| s["kind"] == "Inactive";
    client.wait_for("didChangeStatus", off, soon()).unwrap();
    let uri = world.uri("b.py");
    client.open(&uri, "python", "alpha = beta");
    assert_eq!(suggested(&client.inline(&uri, (0, 12))), None);
    world.write_settings("[complete]\nenabled = true\n");
    client
        .wait_for("didChangeStatus", |s| s["kind"] == "Normal", soon())
        .unwrap();
    assert_eq!(
        suggested(&client.inline(&uri, (0, 12))),
        Some("alpha = beta + gamma")
    );
}

#[test]
fn the_editors_settings_win_over_the_users_file_and_can_change() {
    let world = World::new(KNOWN);
    world.write_settings("[complete]\nenabled = false\n");
    let mut client = world.server();
    client.set_settings(json!({ "complete": { "enabled": true } }));
    let params = json!({
        "processId": null,
        "rootUri": world.uri(""),
        "capabilities": { "workspace": {
            "configuration": true,
            "didChangeConfiguration": { "dynamicRegistration": true },
        } },
    });
    client.initialize_with(&params).unwrap().result.unwrap();
    client
        .wait_for("didChangeStatus", |s| s["kind"] == "Normal", soon())
        .unwrap();
    client.set_settings(json!({ "complete": { "enabled": false } }));
    client
        .notify(
            "workspace/didChangeConfiguration",
            &json!({ "settings": null }),
        )
        .unwrap();
    client
        .wait_for("didChangeStatus", |s| s["kind"] == "Inactive", soon())
        .unwrap();
}

#[test]
fn a_typo_is_named_with_what_was_meant_and_the_rest_holds() {
    let world = World::new(KNOWN);
    world.write_settings(
        "[complete]\ndeadlneMs = 100\nmaxLines = 'many'\n[complete.languages]\npython = false\n",
    );
    let mut client = world.session();
    let says = |what: &'static str| {
        move |p: &Value| p["message"].as_str().is_some_and(|m| m.contains(what))
    };
    client
        .wait_for("window/logMessage", says("maxLines"), soon())
        .unwrap();
    let messages: Vec<String> = client
        .notices()
        .iter()
        .filter(|n| n.method == "window/logMessage")
        .map(|n| n.params["message"].to_string())
        .collect();
    assert!(
        messages
            .iter()
            .any(|m| m.contains("deadlneMs") && m.contains("deadlineMs")),
        "{messages:?}"
    );
    let uri = world.uri("b.py");
    client.open(&uri, "python", "alpha = beta");
    client.learnt();
    assert_eq!(
        suggested(&client.inline(&uri, (0, 12))),
        None,
        "python is off"
    );
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line() {
    let world = World::new(KNOWN);
    world.write_settings("[complete]\nenabled = = true\n");
    let mut client = world.session();
    let named = |p: &Value| {
        p["message"]
            .as_str()
            .is_some_and(|m| m.contains("config.toml") && m.contains('2'))
    };
    client.wait_for("window/logMessage", named, soon()).unwrap();
}

#[test]
fn a_workspace_can_neither_send_text_elsewhere_nor_run_a_command() {
    let world = World::new(&[
        KNOWN[0],
        (
            ".pairwright.toml",
            "[models.complete]\nurl = 'http://127.0.0.1:9'\napiKeyCommand = ['touch', 'pwned']\n\
             [network]\nproxy = 'http://127.0.0.1:9'\n[log]\nfile = 'pwned'\n[complete]\nmaxLines = 3\n",
        ),
    ]);
    let mut client = world.session();
    let refused = |p: &Value| {
        p["message"]
            .as_str()
            .is_some_and(|m| m.contains("models.complete"))
    };
    client
        .wait_for("window/logMessage", refused, soon())
        .unwrap();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", "alpha = beta");
    assert_eq!(
        suggested(&client.inline(&uri, (0, 12))),
        Some("alpha = beta + gamma")
    );
    let status = client
        .request("pairwright/status/get", &Value::Null)
        .unwrap()
        .result
        .unwrap();
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("Embedded engine"),
        "{status}"
    );
    assert!(!world.root().join("pwned").exists());
}
