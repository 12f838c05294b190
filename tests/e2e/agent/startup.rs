//! What the user's own programs say when a task begins.

use std::fs;

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
