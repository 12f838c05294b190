//! Tasks on branches of their own: the user's checkout stays as it is, the work is a commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::lsp::{ask, deadline, open};
use super::run::{Stage, case, files};
use crate::world::World;

/// What git says in a folder.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs git to make a repository and to judge what became of it"
    )]
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", folder.parent().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Makes a repository of a folder, with all of it in one commit.
pub(super) fn commit_all(folder: &Path, message: &str) {
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", message]);
}

/// The case that changes two files, in a repository with something that is not committed.
fn stage() -> Stage {
    let stage = Stage::of(&case("001_find_edit_test"));
    let root = stage.world.root();
    commit_all(&root, "First");
    stage.world.write("README.md", "# Not committed\n");
    stage.world.write("mine.txt", "mine\n");
    stage
}

/// A task on a branch of its own whose process was killed when it had changed something.
fn killed(stage: &Stage) -> String {
    let prompt = stage.script.prompt.as_deref().unwrap();
    let mut task = stage.start(&["--worktree", prompt]);
    while task.next().is_some_and(|event| event["kind"] != "diff") {}
    let id = task.task();
    task.kill();
    id
}

/// Files, index, HEAD and branches but those of tasks.
fn users(root: &Path) -> Value {
    json!([
        files(root),
        git(root, &["status", "--short", "--branch"]),
        git(root, &["rev-parse", "HEAD"]),
        git(root, &["for-each-ref", "--exclude=refs/heads/agent/*"]),
        git(root, &["stash", "list"]),
    ])
}

fn notice(events: &[Value]) -> String {
    let notices = events.iter().filter(|e| e["kind"] == "notice");
    let texts: Vec<&str> = notices.map(|e| e["text"].as_str().unwrap()).collect();
    texts.concat()
}

/// Checks what a task left on its branch.
fn check_branch(stage: &Stage, task: &str) {
    let root = stage.world.root();
    let branch = format!("agent/{task}");
    let show = |what: &str| git(&root, &["show", &format!("{branch}:{what}")]);
    assert!(show("shapes.py").contains("side * side"));
    assert!(show("README.md").contains("of squares and rectangles."));
    assert_eq!(
        git(&root, &["rev-list", "--count", &format!("main..{branch}")]),
        "1"
    );
    let trailers = git(
        &root,
        &["log", "-1", "--format=%an %(trailers:only)", &branch],
    );
    for part in [
        "Pairwright",
        &format!("Agent-Run: {task}"),
        "Agent-Model: scripted",
        "Agent-Outcome: succeeded",
    ] {
        assert!(trailers.contains(part), "{part}: {trailers}");
    }
    let tree = worktree(stage, task);
    assert_eq!(git(&tree, &["status", "--short"]), "");
    assert_eq!(
        git(&root, &["diff", "--stat", &format!("main...{branch}")])
            .lines()
            .count(),
        3
    );
}

fn worktree(stage: &Stage, task: &str) -> PathBuf {
    let state = stage.world.home().join(".local/state/pairwright");
    state.join("worktrees").join(task)
}

#[test]
fn a_task_on_a_branch_of_its_own_ends_as_a_commit_and_leaves_the_users_files() {
    let stage = stage();
    let before = users(&stage.world.root());
    let prompt = stage.script.prompt.clone().unwrap();
    let task = stage.start(&["--worktree", &prompt]);
    let (events, code) = task.until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let id = events[0]["session"].as_str().unwrap().to_owned();
    let outcomes = events.iter().filter(|e| e["kind"] == "tool_result");
    let outcomes: Vec<&Value> = outcomes.map(|e| &e["outcome"]).collect();
    assert!(
        outcomes.iter().filter(|o| **o == "done").count() >= 6,
        "{events:#?}"
    );
    assert_eq!(users(&stage.world.root()), before);
    check_branch(&stage, &id);
    let told = notice(&events);
    assert!(told.contains(&format!("git merge agent/{id}")), "{told}");
    // There is nothing to decide in the user's folder.
    assert!(!stage.command(&["task", "--review", &id]).status.success());
    let shown = stage.command(&["audit", "show", &id]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("Committed"), "{shown}");
    stage.check_requests();
    // The user takes it, over what is not committed elsewhere.
    git(&stage.world.root(), &["stash", "-q"]);
    git(
        &stage.world.root(),
        &["merge", "-q", &format!("agent/{id}")],
    );
    assert!(files(&stage.world.root())["shapes.py"].contains("side * side"));
    stage.stop();
}

#[test]
fn the_setting_gives_tasks_that_change_something_a_branch_unless_told_otherwise() {
    let stage = stage();
    stage.add_settings("[agent]\nworktree = true\n");
    let before = users(&stage.world.root());
    let mut client = open(
        &stage,
        &json!({ "events": true, "approvals": true, "hunks": true }),
    );
    client.on_request("pairwright/approval/request", |_| {
        (Vec::new(), Some(json!({ "decision": "yes" })))
    });
    let mut run = |params: Value| {
        let task = ask(&mut client, "pairwright/task/start", &params)["task"].clone();
        let is_end = |e: &Value| e["kind"] == "done" && e["session"] == task;
        let done = client
            .wait_for("pairwright/event", is_end, deadline())
            .unwrap();
        assert_eq!(done["reason"], "succeeded", "{params}: {done}");
        let listed = ask(&mut client, "pairwright/diff/list", &json!({}));
        let n_files = listed["files"].as_array().unwrap().len();
        (task.as_str().unwrap().to_owned(), n_files)
    };
    let branches = || {
        git(&stage.world.root(), &["branch", "--list", "agent/*"])
            .lines()
            .count()
    };
    let (task, n_files) = run(json!({ "prompt": "Fix it." }));
    assert_eq!((n_files, branches()), (0, 1));
    check_branch(&stage, &task);
    // A mode that changes nothing gets none, and neither does who asks for none.
    assert_eq!(
        (
            run(json!({ "prompt": "Look.", "mode": "plan" })).1,
            branches()
        ),
        (0, 1)
    );
    assert_eq!(
        (
            run(json!({ "prompt": "Fix it.", "worktree": false })).1,
            branches()
        ),
        (1, 1)
    );
    client.leave().unwrap();
    let (_, code) = stage
        .start(&["--worktree=false", "Fix it."])
        .until_it_ends();
    assert_eq!((code, branches()), (0, 1));
    let (_, code) = stage.start(&["Fix it."]).until_it_ends();
    assert_eq!((code, branches()), (0, 2));
    assert_eq!(users(&stage.world.root()), before);
    stage.stop();
}

#[test]
fn a_task_that_was_killed_goes_on_on_its_branch_and_commits_once() {
    let stage = stage();
    let before = users(&stage.world.root());
    let prompt = stage.script.prompt.clone().unwrap();
    let mut task = stage.start(&["--worktree", &prompt]);
    let is_edit = |e: &Value| e["kind"] == "tool_result" && e["tool"] == "edit";
    while !is_edit(&task.next().unwrap()) {}
    let id = task.task();
    task.kill();
    let (events, code) = stage.start(&["--resume", &id]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    check_branch(&stage, &id);
    assert_eq!(users(&stage.world.root()), before);
    stage.stop();
}

#[test]
fn what_changes_nothing_or_has_no_commit_to_begin_at_gets_no_branch() {
    let script = "[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";
    let script = || toml::from_str(script).unwrap();
    let stage = Stage::with(script(), World::new(&[("a.txt", "one\n")]));
    let refused = |arguments: &[&str], why: &str| {
        let output = stage.command(&[&["task", "--worktree"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    refused(&["Do it."], "is in no git repository");
    refused(&["--mode", "plan", "Do it."], "needs no branch");
    let root = stage.world.root();
    git(&root, &["init", "-q", "-b", "main"]);
    refused(&["Do it."], "has no commit yet");
    assert_eq!(stage.server.log().completions().len(), 0);
    git(&root, &["add", "-A"]);
    git(&root, &["commit", "-q", "-m", "First"]);
    let before = users(&root);
    let (events, code) = stage.start(&["--worktree", "Do it."]).until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    assert!(
        notice(&events).contains("Nothing was changed"),
        "{events:#?}"
    );
    assert_eq!(users(&root), before);
    assert_eq!(git(&root, &["branch", "--list", "agent/*"]), "");
    assert_eq!(git(&root, &["worktree", "list"]).lines().count(), 1);
    stage.stop();
}

#[test]
fn a_task_is_of_higher_risk_where_a_branch_is_protected_and_it_works_there() {
    let stage = stage();
    let root = stage.world.root();
    let rules = stage.world.home().join(".config/pairwright/policy.toml");
    fs::write(rules, "protected_branches = [\"main\"]\n").unwrap();
    let risk = |arguments: &[&str]| {
        let (events, _) = stage.start(arguments).until_it_ends();
        let intake = events.iter().find(|e| e["kind"] == "intake").unwrap();
        intake["risk"].as_str().unwrap().to_owned()
    };
    assert_eq!(risk(&["Add it."]), "high");
    assert_eq!(risk(&["--worktree", "Add it."]), "medium");
    git(&root, &["checkout", "-q", "-b", "experiment"]);
    assert_eq!(risk(&["Add it."]), "medium");
    stage.stop();
}

#[test]
fn what_is_applied_without_being_asked_for_is_not_on_a_protected_branch() {
    let stage = stage();
    let root = stage.world.root();
    let rules = stage.world.home().join(".config/pairwright/policy.toml");
    fs::write(rules, "protected_branches = [\"main\", \"release/*\"]\n").unwrap();
    let auto = ["task", "--json", "--mode", "auto", "Fix it."];
    for branch in ["main", "release/1.0"] {
        git(&root, &["checkout", "-q", "-B", branch]);
        let refused = stage.command(&auto);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let why = format!("every change on the branch {branch}");
        assert!(!refused.status.success() && said.contains(&why), "{said}");
    }
    assert_eq!(stage.server.log().completions().len(), 0);
    // Asked where it may be, it ends where it may not.
    git(&root, &["checkout", "-q", "-b", "experiment"]);
    let before = files(&root);
    let mut task = stage.start(&["--mode", "auto", "Fix it."]);
    while task.next().unwrap()["kind"] != "tool_result" {}
    git(&root, &["checkout", "-q", "main"]);
    let (events, code) = task.until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let told = notice(&events);
    assert!(told.contains("every change on the branch main"), "{told}");
    assert_eq!(files(&root), before);
    git(&root, &["checkout", "-q", "experiment"]);
    let (_, code) = stage.start(&["--mode", "auto", "Fix it."]).until_it_ends();
    assert_eq!(code, 0);
    assert!(files(&root)["shapes.py"].contains("side * side"));
    stage.stop();
}

#[test]
fn a_task_whose_working_tree_is_gone_is_ended_and_not_told_of_any_more() {
    let stage = stage();
    let id = killed(&stage);
    fs::remove_dir_all(worktree(&stage, &id)).unwrap();
    let resumed = stage.command(&["task", "--resume", &id]);
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(said.contains("cannot be worked in"), "{said}");
    let stopped = stage.command(&["task", "--stop", &id]);
    let said = String::from_utf8_lossy(&stopped.stdout).into_owned();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(said.contains("cannot be presented"), "{said}");
    let other = stage.command(&["task", "--mode", "read-only", "Look."]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!said.contains("not finished"), "{said}");
    // What is over stays so.
    let again = stage.command(&["task", "--stop", &id]);
    assert!(again.status.success(), "{again:?}");
    stage.stop();
}

#[test]
fn a_task_that_was_left_is_ended_with_the_commit_of_what_it_did() {
    let stage = stage();
    let id = killed(&stage);
    let stopped = stage.command(&["task", "--stop", &id]);
    let said = String::from_utf8_lossy(&stopped.stdout).into_owned();
    assert!(said.contains(&format!("git merge agent/{id}")), "{said}");
    let branch = format!("agent/{id}");
    let told = git(
        &stage.world.root(),
        &["log", "-1", "--format=%(trailers:only)", &branch],
    );
    assert!(told.contains("Agent-Outcome: cancelled"), "{told}");
    stage.stop();
}
