//! One task from a folder: `repo/` is the workspace, `script.toml` what the model and the user do.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;

use model_server::{Answer, Call, Log, ModelServer, Seen, Turn, broken_prefix};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::world::World;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Script {
    /// Arguments of `pairwright task` besides the prompt.
    pub(super) arguments: Vec<String>,
    pub(super) prompt: Option<String>,
    /// Answers to questions, in order: fields of the answer.
    pub(super) answers: Vec<toml::Table>,
    pub(super) turn: Vec<ScriptTurn>,
    /// Texts that must not be in anything the model is sent.
    pub(super) never_sent: Vec<String>,
    /// Accept all hunks at the end, and then roll back.
    pub(super) accept: bool,
    /// Links in the workspace, and what they lead to.
    pub(super) links: BTreeMap<String, PathBuf>,
    /// Tokens of the model's window.
    pub(super) window: Option<u32>,
    /// Added to the user's settings.
    pub(super) settings: String,
    /// Turns, from 0, that the model answers only when it is asked for the second time.
    pub(super) stalls: Vec<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ScriptTurn {
    pub(super) text: String,
    pub(super) call: Vec<ScriptCall>,
    /// Say it this many times.
    pub(super) repeat: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptCall {
    pub(super) name: String,
    #[serde(default)]
    pub(super) arguments: toml::Table,
    /// What the model writes instead of arguments.
    pub(super) raw: Option<String>,
    pub(super) id: Option<String>,
}

pub(super) fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/cases/agent")
        .join(name)
}

pub(super) fn script(folder: &Path) -> Script {
    let text = fs::read_to_string(folder.join("script.toml")).unwrap();
    toml::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
}

/// The model's side: its nth answer is the nth turn of the script, whatever it is asked.
pub(super) struct Stage {
    runtime: Runtime,
    pub(super) server: ModelServer,
    pub(super) world: World,
    pub(super) script: Script,
}

impl Stage {
    pub(super) fn of(folder: &Path) -> Self {
        Self::changed(folder, |_| {})
    }

    /// Of a folder whose script is another in something.
    pub(super) fn changed(folder: &Path, change: impl FnOnce(&mut Script)) -> Self {
        let mut script = script(folder);
        change(&mut script);
        let world = World::new(&[]);
        copy(&folder.join("repo"), &world.root());
        for (name, target) in &script.links {
            std::os::unix::fs::symlink(target, world.root().join(name)).unwrap();
        }
        Self::with(script, world)
    }

    pub(super) fn with(script: Script, world: World) -> Self {
        Self::untrusted(script, world.trusted())
    }

    /// In a folder that nobody said anything of.
    pub(super) fn untrusted(script: Script, world: World) -> Self {
        let runtime = Runtime::new().unwrap();
        let turns: Vec<ScriptTurn> = script
            .turn
            .iter()
            .flat_map(|t| std::iter::repeat_n(t.clone(), t.repeat.unwrap_or(1)))
            .collect();
        let stalls = Mutex::new(script.stalls.clone());
        let answer = move |seen: &Seen| answer(&turns, &mut stalls.lock().unwrap(), seen);
        let server = runtime.block_on(ModelServer::start(answer));
        let window = script
            .window
            .map_or_else(String::new, |n| format!("contextTokens = {n}\n"));
        world.write_settings(&format!(
            "[models.agent]\nurl = '{}'\nmodel = 'scripted'\n{window}{}",
            server.url(),
            script.settings
        ));
        Self {
            runtime,
            server,
            world,
            script,
        }
    }

    /// Adds to the user's settings.
    pub(super) fn add_settings(&self, toml: &str) {
        let mut settings = fs::read_to_string(self.world.user_file()).unwrap();
        settings.push_str(toml);
        self.world.write_settings(&settings);
    }

    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.world.command(&["task", "--json"]);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running {
            lines: Box::new(lines.map_while(Result::ok)),
            child,
            answers: self.script.answers.clone().into(),
            known: 0,
            events: Vec::new(),
        }
    }

    /// Takes a task up whose first `known` events were heard.
    pub(super) fn resume(&self, task: &str, known: usize) -> Running {
        Running {
            known,
            ..self.start(&["--resume", task])
        }
    }

    /// Starts the script's task.
    pub(super) fn task(&self) -> Running {
        let prompt = self.script.prompt.as_deref().unwrap_or("Do the task.");
        let arguments = self.script.arguments.iter().map(String::as_str);
        self.start(&arguments.chain([prompt]).collect::<Vec<_>>())
    }

    pub(super) fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.world.command(arguments).output().unwrap()
    }

    /// Waits until the model was asked `n` times.
    pub(super) fn wait_until_asked(&self, n: usize) {
        let asked = |log: &Log| (log.completions().len() >= n).then_some(());
        self.runtime
            .block_on(self.server.wait("enough requests", asked));
    }

    /// Checks what holds of every request the model saw.
    pub(super) fn check_requests(&self) {
        let log = self.server.log();
        assert!(!log.completions().is_empty());
        let is_compacted = self.script.window.is_some();
        assert!(
            is_compacted || broken_prefix(&log).is_none(),
            "{:?}",
            broken_prefix(&log)
        );
        for seen in log.completions() {
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            for never in &self.script.never_sent {
                assert!(!body.contains(never), "the model was sent {never}");
            }
            check_calls(&seen.json());
        }
    }

    pub(super) fn stop(self) {
        self.runtime.block_on(self.server.stop());
    }
}

/// Every call has exactly one result, before anybody else speaks.
fn check_calls(request: &Value) {
    let mut open: Vec<String> = Vec::new();
    for message in request["messages"].as_array().unwrap() {
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().unwrap();
            let at = open.iter().position(|o| o == id);
            open.remove(at.unwrap_or_else(|| panic!("a result of no call: {message}")));
            continue;
        }
        assert!(open.is_empty(), "calls without results: {open:?}");
        let calls = message["tool_calls"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        open = calls
            .iter()
            .map(|c| c["id"].as_str().unwrap().to_owned())
            .collect();
    }
    assert!(open.is_empty(), "calls without results: {open:?}");
}

/// Which turn it is, by the answers the request tells of; a shortened conversation tells of fewer,
/// so calls count by their numbers.
fn answer(turns: &[ScriptTurn], stalls: &mut Vec<usize>, seen: &Seen) -> Answer {
    let request = seen.json();
    let said = request["messages"].as_array().map_or(0, |messages| {
        let first_call = messages.iter().rev().find_map(|m| {
            let id = m["tool_calls"][0]["id"].as_str()?;
            id.strip_prefix('c')?.parse::<usize>().ok()
        });
        let with_call = first_call.and_then(|first| {
            let mut n_calls = 0;
            turns.iter().position(|turn| {
                n_calls += turn.call.len();
                n_calls >= first
            })
        });
        let answers = messages.iter().filter(|m| m["role"] == "assistant").count();
        with_call.map_or(answers, |n| answers.max(n + 1))
    });
    if let Some(at) = stalls.iter().position(|turn| *turn == said) {
        stalls.remove(at);
        return Answer::never();
    }
    let Some(turn) = turns.get(said) else {
        return Answer::turn(Turn::calls(
            "",
            [Call::new(
                "turn999_0",
                "finish",
                &json!({ "summary": "the script is over", "succeeded": false }),
            )],
        ));
    };
    let calls = turn.call.iter().enumerate().map(|(idx, call)| {
        let id = call
            .id
            .clone()
            .unwrap_or_else(|| format!("turn{said}_{idx}"));
        let arguments = match &call.raw {
            Some(raw) => raw.clone(),
            None => serde_json::to_string(&call.arguments).unwrap(),
        };
        Call::new(&id, &call.name, &arguments)
    });
    Answer::turn(Turn::calls(&turn.text, calls))
}

pub(super) struct Running {
    child: Child,
    lines: Box<dyn Iterator<Item = String> + Send>,
    answers: VecDeque<toml::Table>,
    /// Questions among the first events were asked before.
    known: usize,
    pub(super) events: Vec<Value>,
}

impl Running {
    /// Reads the next event, answering it if it is a question.
    pub(super) fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?;
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        if event["kind"] == "approval" && self.events.len() >= self.known {
            match self.answers.pop_front() {
                Some(answer) => {
                    let mut answer = serde_json::to_value(answer).unwrap();
                    answer["approval"] = event["approval"].clone();
                    // A program that was killed does not read.
                    let _ = writeln!(self.child.stdin.as_ref().unwrap(), "{answer}");
                }
                // Nobody is there any more.
                None => drop(self.child.stdin.take()),
            }
        }
        self.events.push(event.clone());
        Some(event)
    }

    pub(super) fn task(&self) -> String {
        self.events[0]["session"].as_str().unwrap().to_owned()
    }

    /// Runs to the end. Questions beyond the script's answers find nobody.
    pub(super) fn until_it_ends(mut self) -> (Vec<Value>, i32) {
        while self.next().is_some() {}
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output
            .status
            .code()
            .unwrap_or_else(|| panic!("killed: {said}"));
        assert!(!self.events.is_empty(), "{said}");
        (self.events, code)
    }

    /// Hears and answers until `is_time` returns, and kills the program then.
    pub(super) fn kill_when(mut self, is_time: impl FnOnce()) -> Vec<Value> {
        let process = Pid::from_child(&self.child);
        let hearing = std::thread::spawn(move || {
            while self.next().is_some() {}
            self
        });
        is_time();
        kill_process(process, Signal::KILL).unwrap();
        hearing.join().unwrap().kill()
    }

    /// Kills the program on the spot.
    pub(super) fn kill(mut self) -> Vec<Value> {
        // It may be dead.
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.events
    }
}

/// Everything in a folder, by path; git's own and generated files aside.
pub(super) fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if name == ".git" {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(name, format!("-> {}", target.display()));
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, text) in files(from) {
        // Folders of cases cannot hold files that git or tools would take for their own.
        let path = to.join(name.replace("_dot_", "."));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
