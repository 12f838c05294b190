//! Settings from every place, put in force at once, their mistakes named.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{END, Edits, TYPED, WHOLE, World, suggested};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_change_of_the_users_file_is_in_force_without_a_restart() {
    let world = World::knowing();
    world.write_settings("");
    let mut client = world.session();
    client.learnt();
    world.write_settings("[complete]\nenabled = false\n");
    let off = |s: &Value| s["kind"] == "Inactive";
    client.wait_for("didChangeStatus", off, soon()).unwrap();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), None);
    world.write_settings("[complete]\nenabled = true\n");
    client
        .wait_for("didChangeStatus", |s| s["kind"] == "Normal", soon())
        .unwrap();
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));
}

#[test]
fn the_first_settings_file_is_in_force_without_a_restart() {
    let world = World::knowing();
    assert!(!world.home().join(".config").exists());
    let mut client = world.session();
    client.learnt();
    world.write_settings("[complete]\nenabled = false\n");
    let off = |s: &Value| s["kind"] == "Inactive";
    client.wait_for("didChangeStatus", off, soon()).unwrap();
}

#[test]
fn that_nothing_leaves_the_machine_is_said_only_where_no_model_is_set() {
    let world = World::knowing();
    world.write_settings("");
    let mut client = world.session();
    let says =
        |words: String| move |status: &Value| status["message"].as_str().unwrap().contains(&words);
    let nothing = says("nothing leaves this machine".to_owned());
    client
        .wait_for("didChangeStatus", &nothing, soon())
        .unwrap();
    for (port, section) in (4001..).zip(["embed", "edit", "chat", "agent"]) {
        let place = format!("127.0.0.1:{port}");
        world.write_settings(&format!(
            "[models.{section}]\nurl = 'http://{place}'\nmodel = 'm'\n"
        ));
        let told = client.wait_for("didChangeStatus", says(place), soon());
        let told = told.unwrap();
        assert!(!nothing(&told), "{told}");
    }
}

#[test]
fn the_editors_settings_win_over_the_users_file_and_can_change() {
    let world = World::knowing();
    world.write_settings("[complete]\nenabled = false\n");
    let mut client = world.server();
    client.set_settings(json!({ "complete": { "enabled": true } }));
    let params = json!({
        "processId": null,
        "rootUri": world.uri(""),
        "capabilities": {
            "workspace": {
                "configuration": true,
                "didChangeConfiguration": { "dynamicRegistration": true },
            },
            "experimental": { "pairwright": { "status": true } },
        },
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
    let world = World::knowing();
    world.write_settings(
        "[complete]\ndeadlneMs = 100\nmaxLines = 'many'\n[complete.languages]\npython = false\n",
    );
    let mut client = world.session();
    let typo = client.wait_for_message("deadlneMs", soon()).unwrap();
    assert!(typo.contains("deadlineMs"), "{typo}");
    client.wait_for_message("maxLines", soon()).unwrap();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), None, "python is off");
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line() {
    let world = World::knowing();
    world.write_settings("[complete]\nenabled = = true\n");
    let mut client = world.session();
    let message = client.wait_for_message("config.toml", soon()).unwrap();
    assert!(message.contains("line 2"), "{message}");
}

#[test]
fn a_workspace_can_neither_send_text_elsewhere_nor_run_a_command() {
    let world = World::knowing().trusted();
    world.write(
        ".pairwright.toml",
        "[models.complete]\nurl = 'http://127.0.0.1:9'\napiKeyCommand = ['touch', 'pwned']\n\
         [network]\nproxy = 'http://127.0.0.1:9'\n[log]\nfile = 'pwned'\n[complete]\nmaxLines = 3\n",
    );
    let mut client = world.session();
    client.wait_for_message("models.complete", soon()).unwrap();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));
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

#[test]
fn a_folder_that_is_not_trusted_sets_nothing_and_cannot_trust_itself() {
    let off = "[complete]\nenabled = false\n[workspace]\ntrusted = ['/']\n";
    let cases = [
        ("none", false),
        ("this one", true),
        ("unset", false),
        ("unset, but asked once", true),
        ("none, whatever was said", false),
    ];
    for (trusted, is_trusted) in cases {
        let world = match trusted.contains(',') {
            true => World::knowing().trusted(),
            false => World::knowing(),
        };
        world.write(".pairwright.toml", off);
        let mut client = world.server();
        let settings = match trusted {
            "none" | "none, whatever was said" => json!({ "workspace": { "trusted": [] } }),
            "this one" => json!({ "workspace": { "trusted": [world.root()] } }),
            _ => json!({}),
        };
        let params = json!({
            "processId": null,
            "rootUri": world.uri(""),
            "initializationOptions": { "pairwright": settings },
            "capabilities": { "experimental": { "pairwright": { "status": true } } },
        });
        client.initialize_with(&params).unwrap().result.unwrap();
        let told = match is_trusted {
            true => "`workspace.trusted` is ignored in a workspace file",
            false => "not read, because the folder is not trusted",
        };
        client.wait_for_message(told, soon()).unwrap();
        client.learnt();
        let uri = world.uri("b.py");
        client.open(&uri, "python", TYPED);
        let expected = (!is_trusted).then_some(WHOLE);
        assert_eq!(suggested(&client.inline(&uri, END)), expected, "{params}");
    }
}

#[test]
fn a_folder_with_settings_is_asked_about_once_and_they_hold_from_the_yes_on() {
    let world = World::knowing();
    let ask = |chosen: &'static str| {
        let mut client = world.server();
        client.on_request("window/showMessageRequest", move |_| {
            (Vec::new(), Some(json!({ "title": chosen })))
        });
        client.initialize(&world.root()).unwrap();
        client.learnt();
        client
    };
    let n_asked = |client: &pairwright::driver::Client| {
        let asked = client.notices().iter();
        asked
            .filter(|n| n.method == "window/showMessageRequest")
            .count()
    };
    let suggests = |client: &mut pairwright::driver::Client| {
        let uri = world.uri("b.py");
        client.open(&uri, "python", TYPED);
        suggested(&client.inline(&uri, END)).map(str::to_owned)
    };
    // Nothing in it would take effect.
    let mut client = ask("Trust");
    assert_eq!(suggests(&mut client).as_deref(), Some(WHOLE));
    assert_eq!((n_asked(&client), world.trust_file().exists()), (0, false));
    client.leave().unwrap();

    world.write(".pairwright.toml", "[complete]\nenabled = false\n");
    let mut client = ask("Don't trust");
    let is_asked = |asked: &Value| {
        asked["message"]
            .as_str()
            .unwrap()
            .contains(".pairwright.toml")
    };
    client
        .wait_for("window/showMessageRequest", is_asked, soon())
        .unwrap();
    assert_eq!(suggests(&mut client).as_deref(), Some(WHOLE));
    let deadline = soon();
    loop {
        let standing = client
            .request("pairwright/trust/get", &Value::Null)
            .unwrap();
        if standing.result.unwrap()[0]["standing"] == "refused" {
            break;
        }
        assert!(Instant::now() < deadline, "the answer was not kept");
    }
    client.leave().unwrap();
    let mut client = ask("Trust");
    assert_eq!(suggests(&mut client).as_deref(), Some(WHOLE));
    assert_eq!(n_asked(&client), 0, "a no was asked again");
    client.leave().unwrap();

    std::fs::remove_file(world.trust_file()).unwrap();
    let mut client = ask("Trust");
    client
        .wait_for("didChangeStatus", |s| s["kind"] == "Inactive", soon())
        .unwrap();
    assert_eq!(suggests(&mut client), None);
    client.leave().unwrap();
}
