//! A conversation that is shortened before every turn: what must survive does, and so it is after a
//! kill.

use regex::Regex;
use serde_json::Value;

use super::branch::git;
use super::kill::{play_killed, recorded};
use super::run::{Script, Stage, case, files};
use crate::world::World;

const CASE: &str = "025_shortened_at_every_step";
const FIX: &str = "Fix the area of squares";
const NAME: &str = "Name rectangles in the README";

/// The messages of each request, without what is another in every task. One that was sent again
/// after a kill counts once.
fn conversations(stage: &Stage) -> Vec<Value> {
    let mark = Regex::new("data-[0-9a-f]{12}").unwrap();
    let log = stage.server.log();
    let of = log.completions().into_iter().map(|seen| {
        let text = seen.json()["messages"].to_string();
        serde_json::from_str(&mark.replace_all(&text, "data-x")).unwrap()
    });
    let mut all: Vec<Value> = of.collect();
    all.dedup();
    all
}

fn text(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

#[test]
fn what_is_wanted_what_was_done_and_what_is_left_survive_shortening_at_every_step() {
    let stage = Stage::of(&case(CASE));
    let prompt = stage.script.prompt.clone().unwrap();
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.check_requests();
    let conversations = conversations(&stage);
    let n_turns = stage.script.turn.len();
    assert_eq!(conversations.len(), n_turns);
    let n_shortened = events.iter().filter(|e| e["kind"] == "compaction").count();
    assert_eq!(n_shortened, n_turns - 2, "before all but the first two");
    for (turn, messages) in conversations.iter().enumerate() {
        let messages = messages.as_array().unwrap();
        let told = messages.iter().find(|m| m["role"] == "user").unwrap();
        let told = text(told);
        let has = |what: &str| assert!(told.contains(what), "{what}, turn {turn}: {told}");
        has(&prompt);
        if turn < 2 {
            continue;
        }
        // The turn before is told as it was, all others by the summary.
        let said = messages.iter().filter(|m| m["role"] == "assistant");
        assert_eq!(said.count(), 1, "turn {turn}");
        let last = messages.last().unwrap();
        assert_eq!(last["role"], "tool", "turn {turn}");
        let (fix, name) = match turn < 6 {
            true => ("now", "open"),
            false => ("done", "now"),
        };
        has(&format!("plan, {fix}: {FIX}"));
        has(&format!("plan, {name}: {NAME}"));
        has("plan, open: Leave the rest alone");
        if turn >= 4 {
            has("-> FAILED: ");
            has("changed by you: shapes.py (+1 -1)");
        }
        if turn >= 7 {
            has("changed by you: README.md (+1 -1)");
        }
        let (_, summary) = told.split_once("What happened so far").unwrap();
        assert_eq!(summary.matches("state now:").count(), 1, "turn {turn}");
    }
    // It does not grow with the task.
    let sizes: Vec<usize> = conversations.iter().map(|c| c.to_string().len()).collect();
    assert!(sizes[n_turns - 1] < sizes[2] + 4_000, "{sizes:?}");
    stage.stop();
}

#[test]
fn a_task_that_is_killed_around_shortening_is_told_the_same_and_ends_the_same() {
    let folder = case(CASE);
    let whole = Stage::of(&folder);
    let (events, _) = whole.task().until_it_ends();
    let expected = conversations(&whole);
    let task = events[0]["session"].as_str().unwrap();
    assert!(whole.command(&["task", "--accept", task]).status.success());
    let left = files(&whole.world.root());
    whole.stop();
    let each: Vec<usize> = (1..expected.len()).collect();
    for stalls in [each, vec![2], vec![5]] {
        let stage = Stage::changed(&folder, |script| script.stalls.clone_from(&stalls));
        let (task, events) = play_killed(&stage, &stalls);
        assert_eq!(events.last().unwrap()["reason"], "succeeded", "{stalls:?}");
        stage.check_requests();
        let told = conversations(&stage);
        assert_eq!(told.len(), expected.len(), "killed at {stalls:?}");
        for (turn, (told, expected)) in told.iter().zip(&expected).enumerate() {
            assert_eq!(told, expected, "turn {turn}, killed at {stalls:?}");
        }
        let all = recorded(&stage, &task);
        let n_shortened = all.iter().filter(|e| e["kind"] == "compaction").count();
        assert_eq!(n_shortened, expected.len() - 2, "killed at {stalls:?}");
        assert!(stage.command(&["task", "--accept", &task]).status.success());
        assert_eq!(files(&stage.world.root()), left, "killed at {stalls:?}");
        stage.stop();
    }
}

#[test]
fn after_thirty_calls_the_model_is_told_again_what_it_is_about() {
    let call =
        |n: usize| format!("[[turn.call]]\nname = 'grep'\narguments = {{ pattern = 'word{n}' }}\n");
    let turn = |from: usize| {
        format!(
            "[[turn]]\n{}",
            (from..from + 11).map(call).collect::<String>()
        )
    };
    let plan = "[[turn]]\n[[turn.call]]\nname = 'plan'\narguments = { items = [{ text = 'Look', state = 'done' }, { text = 'Change it', state = 'pending' }] }\n";
    let end = "[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";
    let text = format!(
        "prompt = 'Find the word.'\n{plan}{}{}{}{end}",
        turn(0),
        turn(11),
        turn(22)
    );
    let script: Script = toml::from_str(&text).unwrap();
    let stage = Stage::with(script, World::new(&[("a.txt", "one\n")]));
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let results = events.iter().filter(|e| e["kind"] == "tool_result");
    let reminded: Vec<(usize, &str)> = results
        .map(|e| e["text"].as_str().unwrap())
        .enumerate()
        .filter(|(_, text)| text.contains("may have faded"))
        .collect();
    let [(29, said)] = reminded[..] else {
        panic!("{reminded:?}");
    };
    assert!(said.contains("The task is still:\nFind the word.\nleft to do: Change it\n"));
    stage.stop();
}

#[test]
fn an_agents_file_that_nobody_looks_after_is_told_of_to_the_user_and_the_model() {
    let end = "[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";
    let files = [
        ("AGENTS.md", "Begin at `src/old.py`.\n"),
        ("src/new.py", "one = 1\n"),
    ];
    let stage = Stage::with(toml::from_str(end).unwrap(), World::new(&files));
    let root = stage.world.root();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "-A"]);
    git(
        &root,
        &[
            "commit",
            "-q",
            "-m",
            "First",
            "--date",
            "2020-01-02T00:00:00Z",
        ],
    );
    let told = "names what is not there: src/old.py (line 1)";
    let doctor = || {
        let output = stage.command(&["doctor", "--json", "--root", root.to_str().unwrap()]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        doctor().contains(&format!("AGENTS.md {told}")),
        "{}",
        doctor()
    );
    assert!(
        !doctor().contains("was not changed for"),
        "nothing else was either"
    );
    stage.world.write("src/new.py", "one = 2\n");
    git(&root, &["commit", "-q", "-a", "-m", "Second"]);
    assert!(
        doctor().contains("days and 1 commits and names"),
        "{}",
        doctor()
    );
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let asked = stage.server.log().completions()[0].json()["messages"].to_string();
    assert!(
        asked.contains("That file may be out of date") && asked.contains(told),
        "{asked}"
    );
    stage.world.write("src/old.py", "");
    stage
        .world
        .write("AGENTS.md", "Begin at `src/old.py`, truly.\n");
    git(&root, &["add", "-A"]);
    git(&root, &["commit", "-q", "-m", "Third"]);
    stage.world.write("src/new.py", "one = 3\n");
    git(&root, &["commit", "-q", "-a", "-m", "Fourth"]);
    assert!(!doctor().contains("AGENTS.md"), "{}", doctor());
    stage.stop();
}
