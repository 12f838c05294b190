//! How a session begins and ends, also where nothing can be written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use pairwright::driver::{Client, PATIENCE};
use serde_json::{Value, json};

use crate::world::{END, Edits, TYPED, WHOLE, World, suggested};

/// The session gives ghost text.
fn works(world: &World, client: &mut Client) {
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));
}

#[test]
fn a_session_ends_by_exit_with_and_without_shutdown_and_by_a_closed_pipe() {
    let world = World::knowing();
    assert_eq!(world.session().leave().unwrap().code(), Some(0));

    let mut rude = world.session();
    rude.notify("exit", &Value::Null).unwrap();
    assert!(rude.ended().is_ok());

    assert!(world.session().hang_up().is_ok());
    assert!(world.server().hang_up().is_ok(), "before initialize");

    // In the middle of a frame and with work under way.
    let mut busy = world.session();
    let uri = world.uri("b.py");
    busy.open(&uri, "python", TYPED);
    busy.ask_inline(&uri, END).to_string();
    busy.send_bytes(b"Content-Length: 4000\r\n\r\n{").unwrap();
    assert!(busy.hang_up().is_ok());
}

#[test]
fn requests_before_initialize_and_after_shutdown_are_refused_not_lost() {
    let world = World::knowing();
    let mut client = world.server();
    let early = client
        .request("pairwright/status/get", &Value::Null)
        .unwrap();
    assert_eq!(i64::from(early.result.unwrap_err().code), -32002);
    client.initialize(&world.root()).unwrap().result.unwrap();
    let twice = client
        .request("initialize", &json!({ "capabilities": {} }))
        .unwrap();
    assert!(twice.result.is_err());
    client
        .request("shutdown", &Value::Null)
        .unwrap()
        .result
        .unwrap();
    let late = client
        .request("pairwright/status/get", &Value::Null)
        .unwrap();
    assert_eq!(i64::from(late.result.unwrap_err().code), -32600);
}

#[cfg(target_os = "linux")]
#[test]
fn the_server_ends_with_the_process_that_started_it() {
    let world = World::knowing();
    let mut client = world.server();
    // Any process may play the editor: the pipe stays open when it dies.
    #[expect(clippy::disallowed_methods, reason = "a process to die")]
    let mut editor = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let params = json!({ "processId": editor.id(), "rootUri": null, "capabilities": {} });
    client.initialize_with(&params).unwrap().result.unwrap();
    client
        .request("pairwright/status/get", &Value::Null)
        .unwrap()
        .result
        .unwrap();
    editor.kill().unwrap();
    editor.wait().unwrap();
    assert!(client.ended().is_ok());
}

#[test]
fn with_no_home_directory_there_is_ghost_text_all_the_same() {
    let world = World::knowing();
    let mut command = world.command(&["lsp"]);
    command.env_remove("HOME").env("HOME", "");
    let mut client = Client::start(command).unwrap();
    client.initialize(&world.root()).unwrap().result.unwrap();
    works(&world, &mut client);
}

#[test]
fn where_nothing_can_be_written_there_is_ghost_text_all_the_same() {
    let world = World::knowing();
    // A file where the directory should be stops even a privileged user.
    fs::write(world.home().join(".local"), "").unwrap();
    fs::write(world.home().join(".config"), "").unwrap();
    fs::write(world.home().join(".cache"), "").unwrap();
    let mut permissions = fs::metadata(world.home()).unwrap().permissions();
    permissions.set_mode(0o555);
    fs::set_permissions(world.home(), permissions).unwrap();
    let mut client = world.session();
    works(&world, &mut client);
    let deadline = Instant::now() + Duration::from_secs(10);
    client
        .wait_for_message("log file", deadline)
        .expect("the user is told");
}

#[test]
fn nothing_but_the_protocol_is_on_stdout_and_the_log_is_in_the_state_directory() {
    let world = World::knowing();
    world.write_settings("[log]\nlevel = 'trace'\n");
    let mut client = world.session();
    works(&world, &mut client);
    client.leave().unwrap();
    let log = fs::read_to_string(world.log_file()).unwrap();
    assert!(log.contains("Pairwright"), "{log}");
}

#[test]
fn several_folders_and_files_outside_all_of_them_are_served() {
    let world = World::knowing();
    world.write("elsewhere/README", "");
    let mut client = world.server();
    let folder = |uri: String| json!({ "uri": uri, "name": "folder" });
    let params = json!({
        "processId": null,
        "rootUri": null,
        "workspaceFolders": [folder(world.uri("elsewhere"))],
        "capabilities": { "experimental": { "pairwright": { "status": true } } },
    });
    client.initialize_with(&params).unwrap().result.unwrap();
    client.learnt();
    let outside = "file:///somewhere/else/c.py";
    client.open(outside, "python", TYPED);
    assert_eq!(suggested(&client.inline(outside, END)), None, "not learnt");
    let event = json!({ "event": { "added": [folder(world.uri(""))], "removed": [] } });
    client
        .notify("workspace/didChangeWorkspaceFolders", &event)
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while suggested(&client.inline(outside, END)) != Some(WHOLE) {
        assert!(Instant::now() < deadline, "the added folder is not learnt");
    }
}

#[test]
fn learning_shows_progress_to_clients_that_show_it() {
    let line = "fn add(a: usize, b: usize) -> usize { a.wrapping_add(b) }\n";
    let files: Vec<(String, String)> = (0..300)
        .map(|n| {
            (
                format!("src/f{n}.rs"),
                line.repeat(500).replace("add(", &format!("add{n}(")),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(p, t)| (p.as_str(), t.as_str()))
        .collect();
    let world = World::new(&files);
    let mut client = world.server();
    let params = json!({
        "processId": null,
        "rootUri": world.uri(""),
        "capabilities": {
            "window": { "workDoneProgress": true },
            "experimental": { "pairwright": { "status": true } },
        },
    });
    client.initialize_with(&params).unwrap().result.unwrap();
    client.learnt();
    let end = |p: &Value| p["value"]["kind"] == "end";
    let deadline = Instant::now() + Duration::from_secs(30);
    let end = client.wait_for("$/progress", end, deadline).unwrap();
    assert!(
        end["value"]["message"]
            .as_str()
            .unwrap()
            .contains("300 files"),
        "{end}"
    );
    let kinds: Vec<_> = client
        .notices()
        .iter()
        .filter(|n| n.method == "$/progress")
        .map(|n| n.params["value"]["kind"].clone())
        .collect();
    assert_eq!(kinds[0], "begin");
}
