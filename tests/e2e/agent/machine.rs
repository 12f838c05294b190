//! Commands of a task in the sandbox that the settings name, or none.

use serde_json::Value;

use super::run::{Script, Stage};
use crate::world::World;

const SCRIPT: &str = r#"
answers = [{ decision = "yes" }]
[[turn]]
[[turn.call]]
name = "run"
arguments = { command = "uname -r; cat a.txt; echo made > made.txt", keepChanges = true }
[[turn]]
[[turn.call]]
name = "finish"
arguments = { summary = "It ran." }
"#;

fn stage(settings: &str) -> Stage {
    let script: Script = toml::from_str(SCRIPT).unwrap();
    let stage = Stage::with(script, World::new(&[("a.txt", "as outside\n")]));
    stage.add_settings(settings);
    stage
}

/// What came of the command.
fn ran(stage: Stage) -> (Value, Vec<Value>) {
    let (events, _) = stage.task().until_it_ends();
    stage.check_requests();
    assert!(!stage.world.root().join("made.txt").exists());
    stage.stop();
    let result = events.iter().find(|e| e["kind"] == "tool_result");
    let result = result.unwrap_or_else(|| panic!("{events:#?}")).clone();
    (result, events)
}

#[test]
fn a_task_runs_its_commands_in_a_machine_where_one_is_demanded_and_says_so() {
    let Some(kernel) = crate::machines::kernel() else {
        return;
    };
    let name = kernel.file_name().unwrap().to_str().unwrap();
    let version = name.strip_prefix("vmlinuz-").unwrap().to_owned();
    let settings = format!(
        "[sandbox]\nminIsolation = 'vm-emulated'\nkernel = '{}'\n",
        kernel.display()
    );
    let (result, events) = ran(stage(&settings));
    let tier = result["tier"].as_str().unwrap_or_default();
    assert!(tier.contains("Virtual machine (emulated"), "{result:#}");
    let told = result.to_string();
    assert!(
        told.contains(&version) && told.contains("as outside"),
        "{told}"
    );
    assert!(
        events
            .iter()
            .any(|e| e["kind"] == "diff" && e.to_string().contains("made.txt"))
    );
}

#[test]
fn a_task_runs_nothing_with_less_than_the_settings_demand() {
    let settings = "[sandbox]\nminIsolation = 'vm-emulated'\nqemu = '/nowhere/qemu'\n";
    let (result, events) = ran(stage(settings));
    let told = result.to_string();
    for words in [
        "there is no sandbox of the tier vm-emulated",
        "QEMU is not at /nowhere/qemu",
        "pairwright sandbox doctor",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(result["tier"].is_null(), "{told}");
    assert!(
        events
            .iter()
            .all(|e| e["kind"] != "tool_started" && e["kind"] != "diff")
    );
}
