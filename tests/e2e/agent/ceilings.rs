//! Every ceiling asks before it is passed: yes goes on with twice as much, no ends the task.

use std::fs;

use serde_json::{Value, json};

use super::kill::recorded;
use super::lsp::{ask, deadline, open};
use super::run::{Script, Stage};
use crate::world::World;

const YES: &str = "{ decision = 'yes' }";
const NO: &str = "{ decision = 'no' }";

/// A task that looks twice, runs a command and finishes, under the user's `limits`.
fn play(limits: &str, answers: &[&str]) -> (Vec<Value>, i32) {
    let call = |name: &str, arguments: &str| {
        format!("[[turn]]\n[[turn.call]]\nname = '{name}'\nraw = '''{arguments}'''\n")
    };
    let script = [
        &format!("answers = [{}]\n", answers.join(", ")),
        &call("list", "{}"),
        // Until the clock has moved on.
        &call("run", r#"{"command":"python3 -m unittest -q"}"#),
        &call("grep", r#"{"pattern":"one"}"#),
        &call("finish", r#"{"summary":"Done."}"#),
    ]
    .map(String::as_str)
    .concat();
    let script: Script = toml::from_str(&script).unwrap();
    let slow = "import time\nimport unittest\n\n\nclass Slow(unittest.TestCase):\n    def test(self):\n        end = time.monotonic() + 1.1\n        while time.monotonic() < end:\n            pass\n";
    let stage = Stage::with(
        script,
        World::new(&[("a.txt", "one\n"), ("test_slow.py", slow)]),
    );
    let settings = fs::read_to_string(stage.world.user_file()).unwrap();
    stage.world.write_settings(&format!(
        "{settings}prices = {{ input = 1000.0, output = 1000.0 }}\n"
    ));
    let rules = stage.world.home().join(".config/pairwright/policy.toml");
    fs::write(rules, format!("[limits]\n{limits}\n")).unwrap();
    let ended = stage.task().until_it_ends();
    stage.check_requests();
    stage.stop();
    ended
}

fn asked(events: &[Value]) -> Vec<&str> {
    let asked = events.iter().filter(|e| e["kind"] == "approval");
    asked
        .map(|e| e["subject"]["what"].as_str().unwrap_or("something else"))
        .collect()
}

#[test]
fn a_task_at_a_ceiling_asks_goes_on_with_a_yes_and_ends_with_a_no() {
    for (limits, what) in [
        ("steps = 2", "the steps a task may take"),
        ("tokens = 70", "the tokens a task may take"),
        ("wall_seconds = 1", "the time a task may take"),
        ("cost = 0.06", "the money a task may cost"),
        ("tool_seconds = 1", "the time tools may take"),
        ("output_bytes = 20", "the output tools may print"),
    ] {
        let (events, code) = play(limits, &[YES; 16]);
        let reached = asked(&events);
        assert_eq!(code, 0, "{limits}: {events:#?}");
        assert!(
            !reached.is_empty() && reached.iter().all(|r| *r == what),
            "{limits}: {reached:?}"
        );
        let (events, code) = play(limits, &[NO]);
        assert_eq!(
            (code, asked(&events)),
            (1, vec![what]),
            "{limits}: {events:#?}"
        );
        let done = events.last().unwrap();
        assert_eq!(done["reason"], format!("it reached {what}"), "{limits}");
    }
}

#[test]
fn a_task_below_its_ceilings_asks_nothing() {
    let limits = "steps = 5\ntokens = 100000\nwall_seconds = 600\ncost = 1000.0\ntool_seconds = 300\noutput_bytes = 1000000";
    let (events, code) = play(limits, &[]);
    assert_eq!((code, asked(&events)), (0, vec![]), "{events:#?}");
}

/// A task that may take two turns and wants five.
fn of_two_turns() -> Stage {
    let look = "[[turn]]\n[[turn.call]]\nname = 'grep'\narguments = { pattern = 'N' }\n";
    let looks = ["one", "two", "three", "four"].map(|word| look.replace('N', word));
    let end = "[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";
    let script = format!("{}{end}", looks.concat());
    let stage = Stage::with(
        toml::from_str(&script).unwrap(),
        World::new(&[("a.txt", "one\n")]),
    );
    let config = stage.world.home().join(".config/pairwright");
    fs::write(config.join("policy.toml"), "[limits]\nsteps = 2\n").unwrap();
    fs::write(config.join("yes.toml"), "").unwrap();
    stage
}

fn n_asked(stage: &Stage) -> usize {
    stage.server.log().completions().len()
}

/// Each question and who decided it.
fn decisions(events: &[Value]) -> Vec<(&str, &str)> {
    let of = |kind: &'static str| events.iter().filter(move |e| e["kind"] == kind);
    let asked = of("approval").map(|e| e["approval"].as_str().unwrap());
    let by = |id: &str| {
        let mut decided = of("decided").filter(|e| e["approval"] == id);
        let by = decided.next().map_or("", |e| e["by"].as_str().unwrap());
        assert_eq!(decided.count(), 0, "{id} was decided twice");
        by
    };
    asked.map(|id| (id, by(id))).collect()
}

#[test]
fn a_task_at_a_ceiling_with_nobody_to_ask_pauses_until_somebody_takes_it_up() {
    // Told to ask nobody, and asking where nobody answers.
    for is_told in [true, false] {
        let mut stage = of_two_turns();
        let file = stage.world.home().join(".config/pairwright/yes.toml");
        let nobody = match is_told {
            true => vec!["--yes-policy", file.to_str().unwrap()],
            false => Vec::new(),
        };
        let (events, code) = stage
            .start(&[&nobody[..], &["Look."]].concat())
            .until_it_ends();
        let last = events.last().unwrap();
        assert_eq!((code, &last["state"]), (1, &json!("paused")), "{last}");
        assert_eq!(
            last["why"],
            "it reached the steps a task may take, and nobody is there to be asked"
        );
        assert_eq!(n_asked(&stage), 2);
        // Taken up by nobody, it asks no model, and says again how to go on.
        let task = events[0]["session"].as_str().unwrap();
        let again = stage.command(&[&["task", "--resume", task][..], &nobody[..]].concat());
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(!again.status.success(), "{said}");
        let hint = format!("go on with: pairwright task --resume {task}");
        assert!(said.contains(&hint), "{said}");
        assert_eq!(n_asked(&stage), 2);
        let n_added = recorded(&stage, task).len() - events.len();
        assert!(n_added < 10, "{n_added} events of nothing");
        // Somebody says yes to twice as much, and to that again.
        let yes: toml::Table = toml::from_str("decision = 'yes'").unwrap();
        stage.script.answers = vec![yes; 2];
        let known = recorded(&stage, task).len();
        let (events, code) = stage.resume(task, known).until_it_ends();
        assert_eq!(code, 0, "{events:#?}");
        let all = recorded(&stage, task);
        let by: Vec<&str> = decisions(&all).iter().map(|(_, by)| *by).collect();
        assert_eq!(by, ["nobody", "nobody", "user", "user"]);
        assert_eq!(n_asked(&stage), 5);
        stage.check_requests();
        stage.stop();
    }
}

#[test]
fn a_task_that_waits_at_a_ceiling_as_its_editor_ends_is_decided_in_the_next() {
    for is_crash in [true, false] {
        let stage = of_two_turns();
        let can = json!({ "events": true, "approvals": true });
        let mut first = open(&stage, &can);
        first.on_request("pairwright/approval/request", |_| (Vec::new(), None));
        let start = json!({ "prompt": "Look." });
        let task = ask(&mut first, "pairwright/task/start", &start)["task"].clone();
        let is_asked = |e: &Value| e["kind"] == "status" && e["state"] == "waiting_approval";
        first
            .wait_for("pairwright/event", is_asked, deadline())
            .unwrap();
        match is_crash {
            true => first.hang_up().map(drop).unwrap(),
            false => first.leave().map(drop).unwrap(),
        }
        let id = task.as_str().unwrap();
        let waiting = recorded(&stage, id);
        assert!(matches!(decisions(&waiting)[..], [(_, "")]), "{waiting:#?}");
        assert_eq!(n_asked(&stage), 2);
        let mut second = open(&stage, &can);
        second.on_request("pairwright/approval/request", |asked| {
            assert_eq!(asked["subject"]["type"], "budget");
            (Vec::new(), Some(json!({ "decision": "yes" })))
        });
        ask(
            &mut second,
            "pairwright/task/resume",
            &json!({ "task": task }),
        );
        let is_end = |e: &Value| e["kind"] == "done";
        let done = second
            .wait_for("pairwright/event", is_end, deadline())
            .unwrap();
        assert_eq!(done["reason"], "succeeded");
        let budget = ask(
            &mut second,
            "pairwright/budget/get",
            &json!({ "task": task }),
        );
        let steps = (&budget["ceilings"]["steps"], &budget["spent"]["steps"]);
        assert_eq!(steps, (&json!(8), &json!(5)), "each yes doubled it");
        second.leave().unwrap();
        let all = recorded(&stage, id);
        // The first question is the one that was asked before.
        assert_eq!(decisions(&all)[0], (decisions(&waiting)[0].0, "user"));
        assert_eq!(decisions(&all).len(), 2);
        stage.check_requests();
        stage.stop();
    }
}
