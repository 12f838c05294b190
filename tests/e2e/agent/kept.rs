//! What commands of a task change, beside what the user and the task itself change meanwhile.

use std::fs;

use serde_json::Value;

use super::branch::{commit_all, git};
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

/// The files of the proposal as it was told last.
pub(super) fn proposed(events: &[Value]) -> Vec<&str> {
    let last = events.iter().rfind(|e| e["kind"] == "diff");
    let files = last.map_or(&[][..], |e| e["files"].as_array().unwrap());
    let paths = files.iter().map(|file| file["path"].as_str().unwrap());
    paths.collect()
}

#[test]
fn what_git_does_not_ignore_is_kept_whatever_other_lists_say() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -i s/one/two/ a.txt b.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let stage = stage(
        SCRIPT,
        &[
            ("a.txt", "one\n"),
            ("b.txt", "one\n"),
            (".ignore", "a.txt\n"),
        ],
    );
    // The folder is in no repository, so nothing above it counts.
    fs::write(stage.world.root().join("../.gitignore"), "*\n").unwrap();
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(proposed(&events), ["a.txt", "b.txt"], "{events:#?}");
    stage.stop();
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
fn what_the_user_saves_that_is_too_large_to_be_brought_is_not_taken_back() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }, { decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'sed -n p large.txt' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'ls old; cp a.txt large.txt; cp a.txt b.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let stage = stage(SCRIPT, &[("a.txt", "one\n"), ("large.txt", "small\n")]);
    for n in 0..150 {
        stage.world.write(&format!("old/{n}.txt"), "old\n");
    }
    let mut task = stage.task();
    until(&mut task, "tool_result");
    stage.world.write("large.txt", &"mine\n".repeat(2 << 20));
    fs::remove_dir_all(stage.world.root().join("old")).unwrap();
    let (events, code) = task.until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = results(&events);
    assert!(told.contains("not kept: large.txt: it was"), "{told}");
    assert!(!told.contains("149.txt"), "{told}");
    assert_eq!(proposed(&events), ["b.txt"], "{told}");
    stage.stop();
}

#[test]
fn more_than_a_task_may_change_stays_in_the_sandbox_until_that_begins_anew() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }, { decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'for n in $(seq 501); do echo made > made$n; done', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'ls | wc -l' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'rm -f made1; ls | wc -l' }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    let stage = stage(SCRIPT, &[("a.txt", "one\n")]);
    let mut task = stage.task();
    until(&mut task, "tool_result");
    until(&mut task, "tool_result");
    for n in 0..501 {
        stage.world.write(&format!("saved{n}"), "saved\n");
    }
    let (events, code) = task.until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = results(&events);
    assert!(told.contains("could not be kept"), "{told}");
    assert_eq!(told.matches("exit code 0\n502\n").count(), 2, "{told}");
    let anew = "The sandbox is new: what earlier commands left in it is gone.\nexit code 0\n502\n";
    assert_eq!(told.matches(anew).count(), 1, "{told}");
    assert_eq!(told.matches("The sandbox is new").count(), 1, "{told}");
    stage.stop();
}

#[test]
fn tests_tell_of_a_bit_and_of_what_is_refused_in_the_sandbox_alone() {
    const SCRIPT: &str = "
        answers = [{ decision = 'yes' }]
        [[turn]]
        [[turn.call]]
        name = 'edit'
        arguments = { path = 'b.txt', content = 'two' }
        [[turn.call]]
        name = 'run'
        arguments = { command = 'chmod +x a.txt b.txt; ln -s /etc out' }
        [[turn.call]]
        name = 'tests'
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    ";
    const TEST: &str =
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        pass\n";
    let stage = stage(SCRIPT, &[("a.txt", "one\n"), ("test_a.py", TEST)]);
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = results(&events);
    let others =
        "the tests ran with 2 files that commands changed in the sandbox alone (a.txt, out)\n";
    assert!(told.contains(others), "{told}");
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
    assert!(last["proposal"].is_string(), "{last}");
    assert_eq!(proposed(&events), ["out/ignored.txt"]);
    stage.stop();
}

#[test]
fn executable_bits_of_a_tasks_own_files_come_and_go() {
    const SCRIPT: &str = r##"
        answers = [{ decision = 'yes' }, { decision = 'yes' }, { decision = 'yes' }]
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
        arguments = { command = './run.sh; chmod +x deploy.sh a.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = 'chmod -x run.sh deploy.sh' }
        [[turn]]
        [[turn.call]]
        name = 'run'
        arguments = { command = './run.sh; ./deploy.sh; chmod -x a.txt', keepChanges = true }
        [[turn]]
        [[turn.call]]
        name = 'finish'
        arguments = { summary = 'Done.' }
    "##;
    let stage = stage(SCRIPT, &[("a.txt", "one\n")]);
    let root = stage.world.root();
    commit_all(&root, "First");
    let (events, code) = stage.start(&["--worktree", "Do it."]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = results(&events);
    assert_eq!(told.matches("was run").count(), 2, "{told}");
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
    commit_all(&root, "The first");
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
