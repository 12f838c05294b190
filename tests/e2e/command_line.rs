//! The program at a prompt.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::world::{END, TYPED, World};

fn run(world: &World, arguments: &[&str], input: &str) -> Output {
    let mut command = world.command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_batch_is_answered_line_by_line_from_the_text_given() {
    let world = World::knowing();
    world.write("held/out.py", &"theta.iota(kappa)\n".repeat(9));
    let case = |id: &str, text: &str, line: u32, character: u32| {
        json!({ "id": id, "path": "b.py", "text": text, "line": line, "character": character })
            .to_string()
    };
    let input = [
        case("known", TYPED, END.0, END.1),
        case("unseen", "theta.io", 0, 8),
        "not json".to_owned(),
        case("outside", "x", 900, 900),
        String::new(),
        case("end", "# 😀\n    result = mul", 1, 16),
    ]
    .join("\n");
    let root = world.root();
    let root = root.to_str().unwrap();
    let output = run(
        &world,
        &[
            "complete",
            "--root",
            root,
            "--exclude",
            "held/**",
            "--batch",
        ],
        &input,
    );
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let by_id = |id: &str| {
        lines
            .iter()
            .find(|line| line["id"] == id)
            .unwrap_or_else(|| panic!("{id}: {lines:?}"))
    };
    assert_eq!(by_id("known")["insertText"], "PI, square(radius))");
    assert_eq!(by_id("known")["source"], "local");
    assert!(by_id("known")["ms"].is_number() && by_id("known")["confidence"].is_number());
    assert_eq!(
        by_id("unseen")["insertText"],
        Value::Null,
        "excluded from learning"
    );
    assert_eq!(by_id("end")["insertText"], "tiply(PI, square(radius))");
    let complaint = lines
        .iter()
        .find_map(|line| line["error"].as_str())
        .unwrap();
    assert!(complaint.contains("line 3"), "{complaint}");
}

#[test]
fn the_tour_shows_ghost_text_for_a_folder_and_says_what_is_wrong_with_an_empty_one() {
    let world = World::knowing();
    let output = run(&world, &["tour", world.root().to_str().unwrap()], "");
    let shown = stdout(&output);
    assert!(output.status.success(), "{output:?}");
    for part in [
        "Ghost text",
        "Typing along",
        "Taking it back",
        "Search and map",
        "Chat and a task",
        "a link to shapes.sh:2",
        "run `sh test.sh`?",
        "echo $(($1 * $1))",
        "rolled back",
        "Status",
        "square(radius)",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colour where nobody sees it");

    let empty = World::new(&[]);
    let output = run(&empty, &["tour"], "");
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no code"),
        "{output:?}"
    );
}

#[test]
fn doctor_names_what_is_wrong_and_the_next_step() {
    let world = World::knowing();
    let healthy = run(&world, &["doctor"], "");
    assert!(healthy.status.success(), "{healthy:?}");

    world.write_settings("[models.complete]\nurl = 'http://127.0.0.1:9'\nmodel = 'm'\n");
    let output = run(&world, &["doctor", "--json"], "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success());
    assert!(
        report.to_string().contains("refused the connection"),
        "{report}"
    );
    let output = run(&world, &["doctor"], "");
    assert!(
        stdout(&output).contains("refused the connection"),
        "{output:?}"
    );
}

#[test]
fn every_command_explains_itself() {
    let world = World::new(&[]);
    for arguments in [
        &["--help"][..],
        &["lsp", "--help"],
        &["tour", "--help"],
        &["complete", "--help"],
        &["serve-completions", "--help"],
        &["doctor", "--help"],
    ] {
        let output = run(&world, arguments, "");
        assert!(
            output.status.success() && stdout(&output).contains("Usage"),
            "{arguments:?}"
        );
    }
    let output = run(&world, &["completions", "bash"], "");
    assert!(stdout(&output).contains("pairwright"));
    let output = run(&world, &["compleet"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("complete"),
        "{output:?}"
    );
}
