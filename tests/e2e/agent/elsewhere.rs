//! Tasks whose commands run in the sandboxes of a service elsewhere: another home's `sandboxd`.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Instant;

use pairwright::driver::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::branch::git;
use super::kept::{proposed, until};
use super::lsp::{ask, open};
use super::run::{Script, Stage, case, files};
use crate::sandboxd::Sandboxd;
use crate::world::World;

/// A service of sandboxes that shows nothing of its machine.
struct Service {
    process: Sandboxd,
    world: World,
    url: String,
}

impl Service {
    fn start() -> Self {
        Self::with(World::knowing(), &[])
    }

    fn with(world: World, arguments: &[&str]) -> Self {
        let key = world.root().join("key");
        let own = ["--key-file", key.to_str().unwrap()];
        let process = Sandboxd::start(&world, &[&own[..], arguments].concat());
        Self {
            url: process.address.clone(),
            process,
            world,
        }
    }

    /// Settings that name it.
    fn settings(&self) -> String {
        let key = self.world.root().join("key");
        format!(
            "[sandbox.remote]\nurl = '{}'\napiKeyCommand = ['cat', '{}']\n",
            self.url,
            key.display()
        )
    }
}

fn results(events: &[Value]) -> Vec<&Value> {
    events
        .iter()
        .filter(|e| e["kind"] == "tool_result")
        .collect()
}

/// Checks that a workspace is as the task found it, whatever its commands did.
fn unchanged(root: &Path, before: &impl PartialEq<std::collections::BTreeMap<String, String>>) {
    assert!(*before == files(root));
}

#[test]
fn commands_run_there_with_the_tasks_files_and_what_they_change_comes_back() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes', scope = 'task' }, { decision = 'yes', scope = 'task' }]
        never_sent = ['hush']
        [[turn]]
        [[turn.call]]
        name = 'edit'
        arguments = { path = 'a.txt', oldString = 'one', newString = 'two' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'cat a.txt sub/b.txt; cat .env ignored/c.txt target/.env node_modules/p/.env; sed -i s/two/three/ a.txt; rm sub/b.txt; touch new.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'cat a.txt; ls; pwd', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let service = Service::start();
    let script: Script = toml::from_str(SCRIPT).unwrap();
    let world = World::new(&[
        ("a.txt", "one\n"),
        ("sub/b.txt", "b\n"),
        (".env", "TOKEN=hush\n"),
        (".gitignore", "ignored/\n"),
        ("ignored/c.txt", "hush\n"),
        ("target/.env", "TOKEN=hush\n"),
        ("node_modules/p/.env", "TOKEN=hush\n"),
    ]);
    let stage = Stage::with(script, world);
    stage.add_settings(&service.settings());
    let before = files(&stage.world.root());
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.check_requests();
    let told = format!("{:#?}", results(&events));
    assert!(
        told.contains("Remote sandbox: isolation as that service states"),
        "{told}"
    );
    assert_eq!(
        told.matches("with a copy of the folder").count(),
        1,
        "{told}"
    );
    for said in ["two\\nb\\n", "three\\n", "new.txt", "No such file"] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let root = stage.world.root();
    assert!(!told.contains(root.to_str().unwrap()), "{told}");
    // Nothing is written until hunks are accepted.
    unchanged(&root, &before);
    assert_eq!(proposed(&events), ["a.txt", "new.txt", "sub/b.txt"]);
    stage.stop();
}

#[test]
fn what_the_user_saves_is_brought_there_and_a_secret_never_is() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }, { decision = 'yes' }]
        never_sent = ['hush']
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'cp a.txt .env; sed -i s/one/two/ a.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -n p a.txt b.txt new.txt; ls -A; cat .env' }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let service = Service::start();
    let world = World::new(&[
        ("a.txt", "one\n"),
        ("b.txt", "b\n"),
        ("old.txt", "old\n"),
        (".env", "TOKEN=hush\n"),
    ]);
    let stage = Stage::with(toml::from_str(SCRIPT).unwrap(), world);
    stage.add_settings(&service.settings());
    let mut task = stage.task();
    until(&mut task, "tool_result");
    stage.world.write("b.txt", "saved\n");
    stage.world.write("new.txt", "new\n");
    fs::remove_file(stage.world.root().join("old.txt")).unwrap();
    let (events, code) = task.until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.check_requests();
    let told = format!("{:#?}", results(&events)[1]);
    assert!(told.contains("two\\nsaved\\nnew\\n"), "{told}");
    assert!(!told.contains("old.txt"), "{told}");
    assert!(!told.contains("TOKEN"), "{told}");
    stage.stop();
}

#[test]
fn ctrl_c_ends_the_sandbox_of_a_command() {
    let service = Service::start();
    let world = World::new(&[("a.txt", "one\n")]);
    world.write_settings(&service.settings());
    let arguments = ["sandbox", "run", "--tier", "remote", "--"];
    let script = ["/bin/sh", "-c", "echo begun; sleep 600"];
    let mut command = world.command(&[&arguments[..], &script].concat());
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "begun");
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(130));
    let doctor = world.command(&["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(doctor["sandbox"]["running"], 0, "{doctor:#}");
}

#[test]
fn without_its_key_or_the_service_no_command_runs_and_it_is_said_why() {
    let service = Service::start();
    for (settings, why) in [
        (
            format!(
                "[sandbox.remote]\nurl = '{}'\napiKeyEnv = 'NO_SUCH_KEY'\n",
                service.url
            ),
            "NO_SUCH_KEY is not set",
        ),
        (
            format!(
                "[sandbox.remote]\nurl = '{}'\napiKeyCommand = ['echo', 'wrong']\n",
                service.url
            ),
            "refused (401)",
        ),
        (
            "[sandbox.remote]\nurl = 'http://127.0.0.1:1'\napiKeyCommand = ['echo', 'k']\n"
                .to_owned(),
            "could not be reached",
        ),
        (
            "[sandbox]\nminIsolation = 'vm'\nqemu = '/nowhere/qemu'\n".to_owned(),
            "no sandbox of the tier vm",
        ),
    ] {
        let stage = Stage::of(&case("001_find_edit_test"));
        stage.add_settings(&settings);
        let (events, _) = stage.task().until_it_ends();
        let told = format!("{:#?}", results(&events));
        assert!(
            told.contains("there is no sandbox") && told.contains(why),
            "{why}: {told}"
        );
        assert!(!told.contains("exit code 0"), "{told}");
        stage.stop();
    }
}

/// A service that makes its only sandbox when it is told to. Returns its address, what says so, and
/// the first lines of what it is asked.
fn slow_service() -> (String, mpsc::Sender<()>, mpsc::Receiver<String>) {
    const MADE: &str = r#"{"sandboxID":"abc"}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ((make, is_time), (tell, asked)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        // A stream that is closed unread would take its answer back.
        let mut streams = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 8192];
            let n = stream.read(&mut head).unwrap();
            let line = String::from_utf8_lossy(&head[..n]);
            let line = line.lines().next().unwrap_or_default().to_owned();
            let is_made = line.starts_with("POST /sandboxes ");
            if tell.send(line).is_err() || is_made && is_time.recv().is_err() {
                return;
            }
            let body = if is_made { MADE } else { "{}" };
            let n = body.len();
            let answer = format!(
                "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
            streams.push(stream);
        }
    });
    (url, make, asked)
}

#[test]
fn a_task_hears_its_user_while_a_sandbox_is_made_and_one_made_too_late_is_ended() {
    const SCRIPT: &str = "
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'ls' }
    ";
    // For the command, and for what is looked up in git when a task begins.
    for has_git in [false, true] {
        let (url, make, asked) = slow_service();
        let script: Script = toml::from_str(SCRIPT).unwrap();
        let stage = Stage::with(script, World::new(&[("a.txt", "one\n")]));
        if has_git {
            git(&stage.world.root(), &["init", "-q"]);
        }
        stage.add_settings(&format!(
            "[sandbox.remote]\nurl = '{url}'\napiKeyCommand = ['echo', 'key']\n"
        ));
        let mut client = open(&stage, &json!({ "events": true, "approvals": true }));
        let start = json!({ "prompt": "Look." });
        let task = ask(&mut client, "pairwright/task/start", &start)["task"].clone();
        let line = asked.recv_timeout(PATIENCE * 6).unwrap();
        assert!(line.starts_with("POST /sandboxes "), "{line}");
        let steer = json!({ "task": task, "text": "Quickly." });
        ask(&mut client, "pairwright/task/steer", &steer);
        // Making one has two minutes.
        let soon = Instant::now() + PATIENCE * 2;
        let is_heard = |event: &Value| event["kind"] == "steer";
        client.wait_for("pairwright/event", is_heard, soon).unwrap();
        ask(
            &mut client,
            "pairwright/task/stop",
            &json!({ "task": task }),
        );
        let is_end = |event: &Value| event["kind"] == "done";
        let done = client.wait_for("pairwright/event", is_end, soon).unwrap();
        assert_eq!(done["reason"], "by the user", "{done}");
        make.send(()).unwrap();
        let line = asked.recv_timeout(PATIENCE * 6).unwrap();
        assert_eq!(line, "DELETE /sandboxes/abc HTTP/1.1");
        client.leave().unwrap();
        stage.stop();
    }
}

#[test]
fn a_command_at_the_prompt_runs_there_too() {
    let mut service = Service::start();
    let world = World::new(&[("sub/a.txt", "one\n"), (".env", "hush\n")]);
    world.write_settings(&service.settings());
    let root = world.root();
    let arguments = ["sandbox", "run", "--tier", "remote", "--root"];
    let script = ["--", "/bin/sh", "-c", "ls -A; sed -i s/one/two/ sub/a.txt"];
    let arguments = [&arguments[..], &[root.to_str().unwrap()], &script].concat();
    let output = world.command(&arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "sub\nsub/a.txt changed\n@@ -1,1 +1,1 @@\n-one\n+two\n",
        "{told}"
    );
    assert!(told.contains("Remote sandbox"), "{told}");
    assert_eq!(fs::read_to_string(root.join("sub/a.txt")).unwrap(), "one\n");

    let doctor = || {
        let output = world.command(&["doctor", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(doctor()["sandbox"]["running"], 0);
    service.process.kill();
    let told = doctor()["problems"].to_string();
    assert!(told.contains("could not be reached"), "{told}");
}

#[test]
fn a_service_for_other_machines_is_encrypted_and_known_by_its_certificate() {
    let issued = model_server::issue().unwrap();
    let papers = tempfile::tempdir().unwrap();
    let paper = |name: &str, text: &str| {
        let path = papers.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = paper("certificate.pem", &issued.certificate);
    let key = paper("key.pem", &issued.key);
    let authority = paper("authority.pem", &issued.authority);
    let listen = ["--listen", "0.0.0.0:0", "--tls-certificate", &certificate];
    let arguments = [&listen[..], &["--tls-key", &key]].concat();
    let mut service = Service::with(World::knowing(), &arguments);
    service.url = service.url.replace("0.0.0.0", "localhost");
    assert!(service.url.starts_with("https://"), "{}", service.url);

    let world = World::new(&[("a.txt", "one\n")]);
    world.write_settings(&service.settings());
    let arguments = ["sandbox", "run", "--tier", "remote", "--", "cat", "a.txt"];
    let mut command = world.command(&arguments);
    let output = command.env("SSL_CERT_FILE", &authority).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n", "{told}");
    // The settings can name it too.
    let believing = format!("[network]\ncaCertificates = ['{authority}']\n");
    let ours = World::new(&[("a.txt", "one\n")]);
    ours.write_settings(&(service.settings() + &believing));
    let output = ours.command(&arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n", "{told}");
    let doctor = ours.command(&["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(doctor["sandbox"]["running"], 0, "{doctor:#}");
    let stage = Stage::of(&case("001_find_edit_test"));
    stage.add_settings(&(service.settings() + &believing));
    let (events, _) = stage.task().until_it_ends();
    let told = format!("{:#?}", results(&events));
    assert!(told.contains("Remote sandbox: isolation"), "{told}");
    assert!(!told.contains("there is no sandbox"), "{told}");
    stage.stop();
    // Whoever does not believe the authority sends nothing, the key least of all.
    let output = world.command(&arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("certificate"),
        "{told}"
    );
}
