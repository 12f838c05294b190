//! Tasks in a folder that is not trusted: they look, and change and run nothing.

use super::run::{Script, Stage};
use crate::world::World;

const SCRIPT: &str = "[[turn]]\n[[turn.call]]\nname = 'run'\narguments = { command = 'ls' }\n\
    [[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";

fn stage(trusted: &str) -> Stage {
    let script: Script = toml::from_str(SCRIPT).unwrap();
    let stage = Stage::with(script, World::new(&[("a.txt", "one\n")]));
    stage.add_settings(&format!("[workspace]\ntrusted = [{trusted}]\n"));
    stage
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
