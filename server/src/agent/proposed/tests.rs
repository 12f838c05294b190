use std::sync::Arc;

use super::*;
use crate::edit::disk::Root;
use crate::edit::parse::Parser;
use crate::edit::plan::{Options, plan};
use crate::edit::workspace::{Choice, Workspace};
use crate::edit::worlds::NoDocuments;
use crate::store::events::{Durability, EventKind, EventLog, Target};

struct Folder {
    _directory: tempfile::TempDir,
    root: Root,
    log: EventLog,
}

fn folder(files: &[(&str, &str)]) -> Folder {
    let directory = tempfile::tempdir().unwrap();
    let (work, state) = (
        directory.path().join("work"),
        directory.path().join("state"),
    );
    std::fs::create_dir(&work).unwrap();
    for (name, text) in files {
        std::fs::write(work.join(name), text).unwrap();
    }
    let store = Arc::new(Store::open(&state).unwrap());
    Folder {
        root: Root::open(&work, Some(&state)).unwrap(),
        log: EventLog::new(store),
        _directory: directory,
    }
}

/// Works out edits, as a tool call writes them.
fn planned(folder: &Folder, proposed: &Proposed, call: &str) -> Plan {
    let worlds = Worlds::new(&folder.root, &NoDocuments);
    let mut parser = Parser::new(Format::ToolCall);
    parser.push(call);
    let edits = parser.finish().unwrap();
    plan(&edits, &proposed.over(worlds), &Options::default()).unwrap()
}

/// Does edits, as a tool call writes them, and writes down their rows.
fn edit(folder: &Folder, proposed: &mut Proposed, call: &str) {
    let plan = planned(folder, proposed, call);
    let rows = proposed.take(plan).unwrap();
    let target = Target {
        session: "t",
        turn: 1,
        lease: None,
    };
    let done = EventKind::Message {
        text: "done".into(),
    };
    folder
        .log
        .append_with(target, vec![done], Durability::Synced, &|t| {
            rows.iter().try_for_each(|row| row.write(t, "t"))
        })
        .unwrap();
}

const THERE: &str = r#"{"path": "a.txt", "old_string": "one", "new_string": "two"}"#;
const BACK: &str = r#"{"path": "a.txt", "old_string": "two", "new_string": "one"}"#;
const NEW: &str = r#"{"path": "b/new.txt", "content": "new\n"}"#;

#[test]
fn what_was_written_down_is_what_is_read_after_a_crash() {
    let folder = folder(&[("a.txt", "one\n")]);
    let mut proposed = Proposed::default();
    edit(&folder, &mut proposed, THERE);
    edit(&folder, &mut proposed, NEW);
    let read = Proposed::load(folder.log.store(), "t").unwrap();
    assert_eq!(read, proposed);
    assert_eq!(read.state(), proposed.state());
    let other = Proposed::load(folder.log.store(), "other").unwrap();
    assert_eq!(other, Proposed::default());
    let on_disk = std::fs::read_to_string(folder.root.path().join("a.txt")).unwrap();
    assert_eq!(on_disk, "one\n");
    let paths: Vec<String> = read.summary().into_iter().map(|f| f.path).collect();
    assert_eq!(paths, ["a.txt", "b/new.txt"]);
}

#[test]
fn a_file_that_is_again_as_it_was_is_not_proposed() {
    let folder = folder(&[("a.txt", "one\n")]);
    let mut proposed = Proposed::default();
    let empty = proposed.state();
    edit(&folder, &mut proposed, THERE);
    assert_ne!(proposed.state(), empty);
    edit(&folder, &mut proposed, BACK);
    assert_eq!(proposed.state(), empty);
    assert_eq!(proposed.plan(), None);
    let read = Proposed::load(folder.log.store(), "t").unwrap();
    assert_eq!(read, Proposed::default());
}

#[test]
fn the_base_is_what_was_there_at_first_whatever_the_user_does() {
    let folder = folder(&[("a.txt", "one\nrest\n")]);
    let mut proposed = Proposed::default();
    edit(&folder, &mut proposed, THERE);
    std::fs::write(folder.root.path().join("a.txt"), "one\nrest of the user\n").unwrap();
    edit(
        &folder,
        &mut proposed,
        r#"{"path": "a.txt", "old_string": "two", "new_string": "three"}"#,
    );
    let path = RepoPath::parse("a.txt").unwrap();
    let file = proposed.get(&path).unwrap();
    assert_eq!(file.base.as_deref(), Some(&b"one\nrest\n"[..]));
    assert_eq!(file.now.as_deref(), Some(&b"three\nrest\n"[..]));
}

#[test]
fn what_the_user_does_while_a_change_waits_for_a_yes_is_not_part_of_it() {
    let folder = folder(&[("a.txt", "one\nrest\n")]);
    let mut proposed = Proposed::default();
    let waiting = planned(&folder, &proposed, THERE);
    std::fs::write(folder.root.path().join("a.txt"), "one\nrest of the user\n").unwrap();
    proposed.take(waiting).unwrap();
    let file = proposed.get(&RepoPath::parse("a.txt").unwrap()).unwrap();
    assert_eq!(file.base.as_deref(), Some(&b"one\nrest\n"[..]));
    assert_eq!(file.now.as_deref(), Some(&b"two\nrest\n"[..]));
}

#[test]
fn a_file_that_a_task_moves_and_changes_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder(&[("a.txt", "one\nsecret\n")]);
    let root = folder.root.path().to_owned();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(root.join("a.txt"), private).unwrap();
    let mut proposed = Proposed::default();
    for (from, to, old, new) in [
        ("a.txt", "b.txt", "one", "1"),
        ("b.txt", "in/c.txt", "1", "two"),
    ] {
        let patch = format!(
            "*** Begin Patch\n*** Update File: {from}\n*** Move to: {to}\n@@\n-{old}\n+{new}\n*** End Patch\n"
        );
        let mut parser = Parser::new(Format::ApplyPatch);
        parser.push(&patch);
        let edits = parser.finish().unwrap();
        let tree = proposed.over(Worlds::new(&folder.root, &NoDocuments));
        let plan = plan(&edits, &tree, &Options::default()).unwrap();
        proposed.take(plan).unwrap();
    }
    let state = root.with_file_name("review");
    let workspace = Workspace::open(&root, &state).unwrap();
    let plan = proposed.plan().unwrap();
    workspace.propose_plan(plan, "p_t", "task", None).unwrap();
    let choice = Choice::Proposal("p_t".into());
    workspace.accept(&NoDocuments, &choice, None).unwrap();
    let moved = root.join("in/c.txt");
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "two\nsecret\n");
    assert_eq!(
        std::fs::metadata(&moved).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!root.join("a.txt").exists() && !root.join("b.txt").exists());
}
