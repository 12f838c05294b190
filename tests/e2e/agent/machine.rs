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
    stage_in(World::new(&[("a.txt", "as outside\n")]), SCRIPT, settings)
}

fn stage_in(world: World, script: &str, settings: &str) -> Stage {
    let script: Script = toml::from_str(script).unwrap();
    let stage = Stage::with(script, world);
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

/// The weakest tier is for those who say so in their own settings, and reaches nothing.
#[test]
fn where_nobody_can_make_namespaces_a_task_runs_what_the_user_accepts_and_nothing_else() {
    let world = || World::new(&[("a.txt", "as outside\n"), (".env", "TOKEN=hush\n")]);
    let Some(unasked) = world().without_namespaces() else {
        return;
    };
    let (result, _) = ran(stage_in(unasked, SCRIPT, ""));
    let told = result.to_string();
    assert!(told.contains("sandbox.minIsolation"), "{told}");
    assert!(told.contains("namespaces"), "{told}");
    assert!(result["tier"].is_null(), "{told}");

    let accepted = "[sandbox]\nminIsolation = 'landlock'\n";
    let world_here = || world().without_namespaces().unwrap();
    let script = SCRIPT.replace("cat a.txt;", "cat a.txt; ls -A;");
    let (result, events) = ran(stage_in(world_here(), &script, accepted));
    let tier = result["tier"].as_str().unwrap_or_default();
    let words = "Restricted process: shares kernel, pids and other host state (no network";
    assert!(tier.starts_with(words), "{result:#}");
    let told = result.to_string();
    assert!(
        told.contains("as outside") && !told.contains(".env"),
        "{told}"
    );
    assert!(
        events
            .iter()
            .any(|e| e["kind"] == "diff" && e.to_string().contains("made.txt"))
    );

    let asking = SCRIPT
        .replace(
            "keepChanges = true",
            "keepChanges = true, network = [\"example.com\"]",
        )
        .replace(
            "[{ decision = \"yes\" }]",
            "[{ decision = \"yes\" }, { decision = \"yes\" }]",
        );
    let (result, _) = ran(stage_in(world_here(), &asking, accepted));
    let told = result.to_string();
    assert!(
        told.contains("reaches no network") && told.contains("sandbox.remote"),
        "{told}"
    );
}
