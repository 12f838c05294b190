//! `pairwright apply`, `rollback` and `edits` on real folders.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::world::World;

const ANSWER: &str = "a.txt\n<<<<<<< SEARCH\nb\n=======\nB\n>>>>>>> REPLACE\n";

fn run(world: &World, arguments: &[&str], input: &str) -> Output {
    let mut command = world.command(arguments);
    let streams = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut program = streams.spawn().unwrap();
    let mut stdin = program.stdin.take().unwrap();
    // A program that refuses early does not read all of it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    program.wait_with_output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn read(world: &World, path: &str) -> String {
    fs::read_to_string(world.root().join(path)).unwrap()
}

#[test]
fn an_answer_is_previewed_then_written_then_taken_back() {
    let world = World::new(&[("a.txt", "a\nb\nc\n")]);
    let preview = run(&world, &["apply"], ANSWER);
    let text = String::from_utf8(preview.stdout).unwrap();
    assert!(text.contains("-b\n+B\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours outside a terminal");
    assert_eq!(read(&world, "a.txt"), "a\nb\nc\n");
    assert_eq!(
        json(&run(&world, &["edits", "--json"], "")),
        serde_json::json!([])
    );

    let written = json(&run(&world, &["apply", "--write", "--json"], ANSWER));
    assert_eq!(read(&world, "a.txt"), "a\nB\nc\n");
    let token = written["rollbackToken"].as_str().unwrap();
    assert_eq!(
        json(&run(&world, &["edits", "--json"], ""))[0]["token"],
        token
    );
    assert!(run(&world, &["rollback", token], "").status.success());
    assert_eq!(read(&world, "a.txt"), "a\nb\nc\n");
    assert!(
        run(&world, &["rollback", token], "").status.success(),
        "twice is once"
    );
    let edits = json(&run(&world, &["edits", "--json"], ""));
    assert_eq!(edits[1]["undoneBy"], edits[0]["token"]);
}

#[test]
fn a_refused_answer_says_why_and_writes_nothing() {
    let world = World::new(&[("a.txt", "a\n")]);
    let refused = run(&world, &["apply", "--write"], ANSWER);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(
        why.contains("a.txt") && why.contains("not in the file"),
        "{why}"
    );
    assert_eq!(read(&world, "a.txt"), "a\n");
}

#[test]
fn an_answer_without_end_is_refused_politely() {
    let world = World::new(&[("a.txt", "a\n")]);
    let endless = "a.txt\n<<<<<<< SEARCH\n".to_owned() + &"line\n".repeat(21 << 20);
    let refused = run(&world, &["apply", "--write"], &endless);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("MiB"), "{why}");
}

#[test]
fn nothing_outside_the_folder_is_written_whatever_links_say() {
    let world = World::new(&[("a.txt", "a\n"), (".git/config", "config\n")]);
    let outside = world.home().join("secret");
    fs::write(&outside, "secret\n").unwrap();
    for (link, target) in [
        ("link", "../home"),
        ("git", ".git"),
        ("file", "../home/secret"),
    ] {
        symlink(target, world.root().join(link)).unwrap();
    }
    let state = world.home().join(".local/state/pairwright");
    run(&world, &["edits"], "");
    symlink(&state, world.root().join("state")).unwrap();
    for path in [
        "link/secret",
        "git/config",
        "file",
        "state/x",
        "link/new",
        "git/hooks/x",
    ] {
        let whole = format!("*** Begin Patch\n*** Add File: {path}\n+evil\n*** End Patch\n");
        let edit = format!("{path}\n<<<<<<< SEARCH\nsecret\n=======\nevil\n>>>>>>> REPLACE\n");
        for answer in [whole, edit] {
            let refused = run(&world, &["apply", "--write", "--json"], &answer);
            assert_eq!(refused.status.code(), Some(1), "{path}");
            assert_eq!(
                json(&refused)["refused"][0]["kind"],
                "path_denied",
                "{path}"
            );
        }
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret\n");
    assert_eq!(read(&world, ".git/config"), "config\n");
    assert!(!world.home().join("new").exists());
}
