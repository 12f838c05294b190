//! Every ceiling asks before it is passed: yes goes on with twice as much, no ends the task.

use std::fs;

use serde_json::Value;

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
