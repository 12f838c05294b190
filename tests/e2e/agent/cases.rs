//! Every folder of `tests/cases/agent`: what happens, event by event, and what is left.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::run::{Stage, case, files};

/// Renders an event as a line; `None` for running text and the record of messages.
fn line(event: &Value) -> Option<String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    Some(match event["kind"].as_str().unwrap() {
        "intake" => format!(
            "intake {} {} risk {}",
            text("mode"),
            text("scenario"),
            text("risk")
        ),
        "tool_call" => format!("call {} {}", text("tool"), text("effect")),
        "tool_started" => "started".to_owned(),
        "tool_result" => {
            let said = text("text");
            let first = said
                .lines()
                .find(|l| !l.starts_with("<data-"))
                .unwrap_or_default();
            let place = if event["tier"].is_string() {
                " in a sandbox"
            } else {
                ""
            };
            format!(
                "result {} {}{place}: {first}",
                text("tool"),
                text("outcome")
            )
        }
        "diff" => {
            let mut line = "diff".to_owned();
            for file in event["files"].as_array().unwrap() {
                write!(
                    line,
                    " {} +{} -{}",
                    file["path"].as_str().unwrap(),
                    file["added"],
                    file["removed"]
                )
                .unwrap();
            }
            if event["proposal"].is_string() {
                line.push_str(" proposed");
            }
            if event["rollbackToken"].is_string() {
                line.push_str(" applied");
            }
            line
        }
        "plan" => format!("plan of {}", event["items"].as_array().unwrap().len()),
        "approval" => format!(
            "asked {}: {}",
            event["subject"]["type"].as_str().unwrap(),
            text("reason")
        ),
        "decided" => format!(
            "decided {} {} by {}",
            text("decision"),
            text("scope"),
            text("by")
        ),
        "denied" => format!("denied {}: {}", text("what"), text("why")),
        "grant" => format!("grant {} {}", event["allows"], text("scope")),
        "compaction" => "compaction".to_owned(),
        "notice" => format!("notice {}", text("text")),
        "steer" => format!("steer {}", text("text")),
        "mode" => format!("mode {}: {}", text("mode"), text("why")),
        "status" => match event["why"].as_str() {
            Some(why) => format!("status {}: {why}", text("state")),
            None => format!("status {}", text("state")),
        },
        "done" => format!("done {}: {}", text("reason"), text("summary")),
        "entry" | "message" | "thought" | "writing" | "tool_output" | "usage" => return None,
        other => panic!("{other} is not known here"),
    })
}

fn play(folder: &Path) -> String {
    let stage = Stage::of(folder);
    let before = files(&stage.world.root());
    let (events, code) = stage.task().until_it_ends();
    stage.check_requests();
    let mut story: String = events.iter().filter_map(line).map(|l| l + "\n").collect();
    writeln!(story, "exit {code}").unwrap();
    let after = files(&stage.world.root());
    let is_applied = events.iter().any(|e| e["rollbackToken"].is_string());
    if !is_applied {
        assert_eq!(
            before, after,
            "the user's files changed without being asked for"
        );
    }
    if stage.script.accept {
        let task = events[0]["session"].as_str().unwrap();
        let accepted = stage.command(&["task", "--accept", task]);
        let said = String::from_utf8_lossy(&accepted.stdout).into_owned();
        let token = said.split_whitespace().last().expect("a token").to_owned();
        for (path, text) in files(&stage.world.root()) {
            if before.get(&path) != Some(&text) {
                writeln!(story, "--- {path}\n{text}").unwrap();
            }
        }
        let undone = stage.command(&["rollback", &token]);
        assert!(
            undone.status.success(),
            "{}",
            String::from_utf8_lossy(&undone.stderr)
        );
        assert_eq!(
            files(&stage.world.root()),
            before,
            "rolling back did not bring all back"
        );
    }
    let verified = stage.command(&["audit", "verify"]);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    let root = stage.world.root().canonicalize().unwrap();
    let task = events[0]["session"].as_str().unwrap();
    let story = story.replace(root.to_str().unwrap(), "ROOT");
    let story = story.replace(task, "TASK");
    stage.stop();
    story
}

/// `PAIRWRIGHT_UPDATE_CASES=1` writes what happens instead, to be read before it is kept.
#[test]
fn every_case_happens_as_it_is_written() {
    let mut wrong = Vec::new();
    let mut folders: Vec<_> = fs::read_dir(case(""))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 12);
    for folder in folders {
        let story = play(&folder);
        let kept = folder.join("expected.events");
        if std::env::var_os("PAIRWRIGHT_UPDATE_CASES").is_some() {
            fs::write(&kept, &story).unwrap();
        }
        let expected = fs::read_to_string(&kept).unwrap_or_default();
        if story != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}\nhappened:\n{story}",
                folder.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn hunks_that_are_not_applied_are_told_of_with_the_way_to_decide_them() {
    let stage = Stage::of(&case("022_auto_after_a_question"));
    let mut task = stage.task();
    while task.next().is_some_and(|event| event["kind"] != "diff") {}
    let file = stage.world.root().join("shapes.py");
    fs::write(&file, "def area_of_square(s, unit): # typed\n").unwrap();
    let (events, _) = task.until_it_ends();
    let notice = events.iter().rfind(|e| e["kind"] == "notice");
    let text = notice.expect("a notice")["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(text.contains("were not applied"), "{text}");
    assert!(text.contains("pairwright task --review t_"), "{text}");
    assert!(events.iter().all(|e| !e["rollbackToken"].is_string()));
    let now = fs::read_to_string(&file).unwrap();
    assert_eq!(now, "def area_of_square(s, unit): # typed\n");
    stage.stop();
}
