//! The program at a prompt.

use std::io::Write;
use std::process::{Output, Stdio};

use model_server::{Answer, Listen, ModelServer};
use pairwright::edit::workspace::directory_of;
use serde_json::{Value, json};

use crate::world::{END, TYPED, World};

fn run(world: &World, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
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
        .write_all(input.as_ref())
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
        case("closed", &format!("{TYPED})\n"), END.0, END.1),
    ]
    .join("\n");
    // A line that is not UTF-8 is a line like others.
    let input = [b"\xff\n", input.as_bytes()].concat();
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
    assert_eq!(by_id("closed")["insertText"], "PI, square(radius)");
    let complaints: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["error"].as_str())
        .collect();
    assert!(complaints[0].contains("line 1"), "{complaints:?}");
    assert!(complaints[1].contains("line 4"), "{complaints:?}");
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
fn what_a_file_holds_is_shown_in_a_terminal_and_not_obeyed() {
    let world = World::knowing().with_variable("CLICOLOR_FORCE", "1");
    let line = format!("def f(radius):\n{TYPED}").replace("result", "\u{1b}]52;c;eA==\u{7}");
    world.write("new.py", &line);
    let shown = stdout(&run(&world, &["complete", "new.py"], ""));
    assert!(shown.contains("]52;c;eA==") && shown.contains("multiply("));
    assert!(!shown.contains("\u{1b}]") && !shown.contains('\u{7}'));
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

    world.write_settings(
        "[models.chat]\nurl = 'http://127.0.0.1:9'\nmodel = 'm'\n\
         [outbound]\ncommand = ['/no/such/program']\n",
    );
    let output = run(&world, &["doctor"], "");
    let said = stdout(&output);
    let why =
        "could not be looked at before: the command \"/no/such/program\" could not be started";
    assert!(said.contains(why), "{said}");
    assert!(
        said.contains("correct `outbound` in your settings"),
        "{said}"
    );
}

#[test]
fn doctor_looks_at_the_folder_that_is_named_its_index_and_its_trust() {
    let world = World::knowing();
    let nowhere = run(&world, &["doctor", "--root", "/no/such"], "");
    assert!(!nowhere.status.success());
    let said = String::from_utf8_lossy(&nowhere.stderr);
    assert!(said.contains("/no/such cannot be read"), "{said}");

    let output = run(&world, &["doctor", "--json"], "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let index = &report["index"];
    let counts = (&index["files"], &index["indexed"], &index["faults"]);
    assert_eq!(counts, (&json!(2), &json!(2), &json!(0)), "{index}");
    assert_eq!(index["state"], "ready");
    assert_eq!(
        (&index["isBehind"], &index["isFollower"]),
        (&json!(false), &json!(false))
    );
    let shown = stdout(&run(&world, &["doctor"], ""));
    assert!(shown.contains("2 files known, 2 indexed"), "{shown}");

    world.write(".pairwright.toml", "[complete]\nenabled = false\n");
    let shown = stdout(&run(&world, &["doctor"], ""));
    assert!(shown.contains("run `pairwright trust` here"), "{shown}");
    assert!(!shown.contains("Correct it there"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_shows_a_chat_model_its_key() {
    let server = ModelServer::listen(Listen::default(), |seen| {
        match (seen.method.as_str(), seen.header("authorization")) {
            ("GET", Some("Bearer good")) => {
                Answer::bytes("application/json", [r#"{"data":[{"id":"m"}]}"#])
            }
            ("GET", Some("Bearer silent")) => Answer::error(404, "no such route"),
            _ => Answer::error(401, "who are you?"),
        }
    })
    .await
    .unwrap();
    let settings = format!(
        "[models.chat]\nurl = '{}'\nmodel = 'm'\nhttp = 'h2c'\napiKeyEnv = 'OUR_KEY'\n",
        server.url()
    );
    for (key, wrong) in [
        (None, Some("OUR_KEY is not set")),
        (Some("bad"), Some("did not accept the key")),
        (Some("good"), None),
        // Not every server says which models it has.
        (Some("silent"), None),
    ] {
        let mut world = World::knowing();
        if let Some(key) = key {
            world = world.with_variable("OUR_KEY", key);
        }
        world.write_settings(&settings);
        let output = run(&world, &["doctor", "--json"], "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = report["problems"].as_array().unwrap();
        match wrong {
            None => assert!(problems.is_empty(), "{key:?}: {problems:?}"),
            Some(wrong) => {
                assert_eq!(problems.len(), 1, "{key:?}: {problems:?}");
                let message = problems[0]["message"].as_str().unwrap();
                assert!(message.contains(wrong), "{key:?}: {message}");
            }
        }
        assert_eq!(output.status.success(), wrong.is_none(), "{key:?}");
    }
    assert!(
        server.log().completions().is_empty(),
        "that would cost money"
    );
}

#[test]
fn what_a_newer_version_has_kept_is_refused_with_what_to_do_and_left_as_it_is() {
    let world = World::new(&[("a.txt", "a\n")]);
    let answer = "a.txt\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n";
    let applied = run(&world, &["apply", "--write"], answer);
    assert!(applied.status.success(), "{applied:?}");
    let healthy = run(&world, &["doctor"], "");
    assert!(healthy.status.success(), "{healthy:?}");

    let folder = world.root().canonicalize().unwrap();
    let state = world.home().join(".local/state/pairwright");
    let file = directory_of(&folder, &state).join("pairwright.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let doctor = run(&world, &["doctor"], "");
    assert!(!doctor.status.success());
    assert!(stdout(&doctor).contains("update this one"), "{doctor:?}");
    let rollback = run(&world, &["rollback"], "");
    assert!(!rollback.status.success());
    let said = String::from_utf8_lossy(&rollback.stderr);
    assert!(said.contains("update this one"), "{said}");
    let text = std::fs::read_to_string(folder.join("a.txt")).unwrap();
    assert_eq!(text, "b\n", "nothing is taken back");
    let database = rusqlite::Connection::open(&file).unwrap();
    let kept: u32 = database
        .query_row("SELECT count(*) FROM transactions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    let world = World::new(&[]);
    let written = run(&world, &["man", "pages"], "");
    assert!(written.status.success(), "{written:?}");
    let page = |name: &str| std::fs::read_to_string(world.root().join("pages").join(name)).unwrap();
    let whole = page("pairwright.1");
    let help = stdout(&run(&world, &["--help"], ""));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .map_while(|line| line.strip_prefix("  "))
        .filter_map(|line| {
            line.split_whitespace()
                .next()
                .filter(|_| !line.starts_with(' '))
        })
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let name = command.replace('-', "\\-");
        assert!(whole.contains(&name), "{command} is in the list");
        assert!(page(&format!("pairwright-{command}.1")).contains(".SH SYNOPSIS"));
    }
    assert_eq!(stdout(&run(&world, &["man"], "")), whole);
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
