//! What commands of a task change, beside what the user and the task itself change meanwhile.

use std::fs;

use serde_json::{Value, json};

use super::branch::git;
use super::run::{Running, Stage, files};
use crate::world::World;

fn stage(script: &str, files: &[(&str, &str)]) -> Stage {
    Stage::with(toml::from_str(script).unwrap(), World::new(files))
}

/// Hears of a task until something of a kind. What asks the user next waits for the next look.
pub(super) fn until(task: &mut Running, kind: &str) {
    while task.next().unwrap()["kind"] != kind {}
}

fn results(events: &[Value]) -> String {
    let results = events.iter().filter(|e| e["kind"] == "tool_result");
    let texts: Vec<&str> = results.map(|e| e["text"].as_str().unwrap()).collect();
    texts.join("\n")
}

#[test]
fn what_the_user_saves_while_a_task_runs_is_never_taken_back() {
    const SCRIPT: &str = "
        arguments = ['--mode', 'auto']
        answers = [{ decision = 'yes' }, { decision = 'yes' }, { decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -i s/one/two/ a.txt b.txt gone.txt' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -i s/^/-/ c.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -i s/one/two/ d.txt; echo begun; sleep 60', keepChanges = true, seconds = 5 }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let names = ["a.txt", "b.txt", "c.txt", "d.txt", "gone.txt"];
    let stage = stage(SCRIPT, &names.map(|name| (name, "one\n")));
    let root = stage.world.root();
    let mut task = stage.task();
    until(&mut task, "tool_result");
    stage.world.write("a.txt", "one\nmine\n");
    stage.world.write("c.txt", "one\nmine\n");
    fs::remove_file(root.join("gone.txt")).unwrap();
    until(&mut task, "tool_output");
    stage.world.write("d.txt", "one\nmine\n");
    let (events, code) = task.until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let left = [
        ("a.txt", "one\nmine\n"),
        ("b.txt", "two\n"),
        ("c.txt", "-one\n-mine\n"),
        ("d.txt", "one\nmine\n"),
    ];
    let left = left.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(files(&root), left.into(), "{events:#?}");
    let told = results(&events);
    assert!(told.contains("not kept: d.txt: it was changed"), "{told}");
    stage.stop();
}

#[test]
fn what_a_command_undoes_is_proposed_no_more_and_what_it_must_not_keep_is_put_back() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }, { decision = 'yes' }, { decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'edit'
        arguments = { path = 'scratch.py', content = \"x = 7\\n\" }
        [[turn.call]]
        name = 'edit'
        arguments = { path = 'out/ignored.txt', content = \"kept\\n\" }
        [[turn.call]]
        name = 'edit'
        arguments = { path = 'a.txt', oldString = 'one', newString = 'two' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'rm scratch.py; sed -i s/two/three/ a.txt' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -n p scratch.py a.txt' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'rm scratch.py; sed -i s/two/one/ a.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let stage = stage(SCRIPT, &[("a.txt", "one\n"), (".gitignore", "out/\n")]);
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = results(&events);
    assert!(told.contains("x = 7\ntwo\n"), "{told}");
    let last = events.iter().rfind(|e| e["kind"] == "diff").unwrap();
    let proposed = last["files"].as_array().unwrap().iter();
    let proposed: Vec<&Value> = proposed.map(|file| &file["path"]).collect();
    assert!(last["proposal"].is_string(), "{last}");
    assert_eq!(proposed, [&json!("out/ignored.txt")]);
    stage.stop();
}

#[test]
fn executable_bits_of_a_tasks_own_files_come_and_go() {
    const SCRIPT: &str = r##"
        answers = [{ decision = 'yes' }, { decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'edit'
        arguments = { path = 'deploy.sh', content = "#!/bin/sh\necho deployed\n" }
        [[turn.call]]
        name = 'edit'
        arguments = { patch = "diff --git a/run.sh b/run.sh\nnew file mode 100755\n--- /dev/null\n+++ b/run.sh\n@@ -0,0 +1,2 @@\n+#!/bin/sh\n+echo \"was \"run\n" }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = './run.sh; chmod +x deploy.sh', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = './deploy.sh', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    "##;
    let stage = stage(SCRIPT, &[("a.txt", "one\n")]);
    let root = stage.world.root();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "-A"]);
    git(&root, &["commit", "-q", "-m", "First"]);
    let (events, code) = stage.start(&["--worktree", "Do it."]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = results(&events);
    assert!(told.contains("was run"), "{told}");
    assert!(told.contains("deployed"), "{told}");
    let branch = format!("agent/{}", events[0]["session"].as_str().unwrap());
    let tree = git(
        &root,
        &["ls-tree", "--format=%(objectmode) %(path)", &branch],
    );
    assert_eq!(tree, "100644 a.txt\n100755 deploy.sh\n100755 run.sh");
    stage.stop();
}

#[test]
fn passwords_in_gits_settings_are_not_seen_by_commands() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }]
        never_sent = ['aHVzaA', 'hushhush']
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'git -c safe.directory=* config --list; cat $(sed \"s/gitdir: //; s,/worktrees/.*,,\" .git)/config; git -c safe.directory=* log --oneline' }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let stage = stage(SCRIPT, &[("a.txt", "one\n")]);
    let root = stage.world.root();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "-A"]);
    git(&root, &["commit", "-q", "-m", "The first"]);
    let header = "http.https://host.invalid/.extraheader";
    git(&root, &["config", header, "AUTHORIZATION: basic aHVzaA"]);
    let remote = "https://hushhush@host.invalid/a.git";
    git(&root, &["remote", "add", "origin", remote]);
    let (events, code) = stage.start(&["--worktree", "Do it."]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.check_requests();
    let told = results(&events);
    assert!(told.contains("The first"), "{told}");
    assert!(!told.contains("host.invalid"), "{told}");
    let tiers: Vec<_> = events.iter().filter_map(|e| e["tier"].as_str()).collect();
    assert!(tiers[0].contains("git's settings"), "{tiers:?}");
    stage.stop();
}
