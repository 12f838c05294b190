//! `pairwright task` as a script starts it: nobody to ask, streams that are somebody else's.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::run::{Script, Stage};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

fn stage(script: &str) -> Stage {
    let script: Script = toml::from_str(script).unwrap();
    Stage::with(script, World::new(&[("a.txt", "one\n")]))
}

/// Waits for the end of a program; one that goes on for too long is killed.
fn ended(child: Child) -> Option<Output> {
    let process = Pid::from_child(&child);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output().unwrap()));
    let output = told.recv_timeout(PATIENCE).ok();
    if output.is_none() {
        let _ = kill_process(process, Signal::KILL);
    }
    output
}

#[test]
fn a_task_that_is_to_ask_nothing_leaves_the_callers_input_alone_and_its_hunks_undecided() {
    let stage = stage(
        "[[turn]]\n[[turn.call]]\nname = 'edit'\n\
         arguments = { path = 'a.txt', oldString = 'one', newString = 'two' }\n\
         [[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n",
    );
    let rules = stage.world.home().join("yes.toml");
    fs::write(&rules, "").unwrap();
    let (mut input, mut caller) = std::io::pipe().unwrap();
    caller.write_all(b"y\n").unwrap();
    let mut command =
        stage
            .world
            .command(&["task", "--yes-policy", rules.to_str().unwrap(), "Do it."]);
    let child = command
        .stdin(input.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(command);
    let output = ended(child).expect("it waits for an answer");
    let (shown, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}");
    assert!(shown.contains("+two"), "{shown}");
    assert!(said.contains("decide later with: pairwright task --review "));
    assert!(!said.contains("accept h_"), "{said}");
    let text = fs::read_to_string(stage.world.root().join("a.txt")).unwrap();
    assert_eq!(text, "one\n");
    drop(caller);
    let mut left = String::new();
    input.read_to_string(&mut left).unwrap();
    assert_eq!(left, "y\n", "it is the caller's");
    stage.stop();
}

#[test]
fn a_task_whose_reader_leaves_is_broken_off_and_does_not_say_that_it_succeeded() {
    let stage = stage(
        "[[turn]]\n[[turn.call]]\nname = 'ask_user'\n\
         arguments = { question = 'Which?', options = ['this', 'that'] }\n\
         [[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n",
    );
    let mut command = stage.world.command(&["task", "--json", "Ask."]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let asked = lines
        .by_ref()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
        .find(|event| event["kind"] == "approval")
        .unwrap();
    drop(lines);
    let answer = json!({ "approval": asked["approval"], "decision": "yes", "text": "this" });
    writeln!(child.stdin.as_ref().unwrap(), "{answer}").unwrap();
    let output = ended(child).expect("nobody hears it, and it goes on");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("error:"), "{said}");
    stage.stop();
}
