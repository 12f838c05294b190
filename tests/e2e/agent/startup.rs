//! What a task is told when it begins: by the user, and by programs of the user's.

use std::fs;

use pairwright::driver::Client;
use serde_json::{Value, json};

use super::lsp::{ask, open};
use super::run::{Script, Stage, case, script};
use crate::world::World;

/// The first message of a task's first request.
fn first_message(stage: &Stage) -> String {
    let body = stage.server.log().completions()[0].json();
    body["messages"][1]["content"].as_str().unwrap().to_owned()
}

fn settings(programs: &str) -> Script {
    let mut script = script(&case("027_docs_only_look"));
    script.settings = format!("[agent.startup]\n{programs}");
    script
}

#[test]
fn a_task_is_shown_what_the_users_programs_say() {
    let script = settings(
        "\"Last runs of CI\" = ['sh', '-c', 'echo build failed; echo in; basename $PWD; echo token=hunter2hunter2hunter2']\n\
         \"Much\" = ['sh', '-c', 'yes abc']\n\
         \"Broken\" = ['/no/such/program']\n\
         \"Failed\" = ['sh', '-c', 'echo half of it; exit 1']\n",
    );
    let stage = Stage::with(script, World::new(&[("README.md", "# Shapes\n")]));
    stage.task().until_it_ends();
    let said = first_message(&stage);
    let ci = said.find("\nLast runs of CI:\n<data-").expect(&said);
    let shown = &said[ci..];
    assert!(shown.contains("build failed\nin\nworkspace\n"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let much = said.find("\nMuch:\n<data-").expect(&said);
    assert!(
        said[much..].len() < 4_200 && said[much..].contains("abc\n…"),
        "{said}"
    );
    assert!(
        !said.contains("Broken:") && !said.contains("half of it"),
        "{said}"
    );
    stage.stop();
}

#[test]
fn no_program_is_asked_in_a_folder_that_is_not_trusted() {
    let world = World::new(&[("README.md", "# Shapes\n")]);
    let mark = world.home().join("asked");
    let mut script = settings(&format!("\"Mark\" = ['touch', '{}']\n", mark.display()));
    script.arguments = vec!["--mode".into(), "read-only".into()];
    let stage = Stage::untrusted(script.clone(), world);
    stage.task().until_it_ends();
    assert!(!fs::exists(&mark).unwrap());
    stage.stop();

    let world = World::new(&[("README.md", "# Shapes\n")]);
    let mark = world.home().join("asked");
    script.settings = format!(
        "[agent.startup]\n\"Mark\" = ['touch', '{}']\n",
        mark.display()
    );
    let stage = Stage::with(script, world);
    stage.task().until_it_ends();
    assert!(fs::exists(&mark).unwrap());
    stage.stop();
}

#[test]
fn words_of_the_users_that_must_not_be_sent_are_refused_when_they_are_said() {
    let mut script = settings("");
    script.settings = "[outbound]\npatterns = ['(?i)falcon']\n".into();
    script.stalls = vec![0];
    let stage = Stage::with(script, World::new(&[("README.md", "# Shapes\n")]));
    let is_refused = |said: &str| {
        assert!(said.contains("is not sent to http://127.0.0.1:"), "{said}");
        assert!(said.contains("pattern 1 of `outbound.patterns`"), "{said}");
    };
    let refused = stage.command(&["task", "--mode", "read-only", "Where is the falcon?"]);
    assert!(!refused.status.success());
    is_refused(&String::from_utf8_lossy(&refused.stderr));

    let mut client = open(&stage, &json!({ "events": true }));
    let refuse = |client: &mut Client, method: &str, params: &Value| {
        let answer = client.request(method, params).unwrap();
        is_refused(&answer.result.unwrap_err().message);
    };
    let look = |prompt: &str| json!({ "prompt": prompt, "mode": "read-only" });
    let start = "pairwright/task/start";
    refuse(&mut client, start, &look("Where is the falcon?"));
    assert!(stage.server.log().completions().is_empty());
    let task = ask(&mut client, start, &look("Look."))["task"].clone();
    stage.wait_until_asked(1);
    let steer = json!({ "task": task, "text": "Look for the falcon." });
    refuse(&mut client, "pairwright/task/steer", &steer);
    let audit = ask(
        &mut client,
        "pairwright/audit/query",
        &json!({ "session": task }),
    );
    assert!(!audit.to_string().contains("falcon"), "{audit}");
    client.leave().unwrap();
    stage.stop();
}
