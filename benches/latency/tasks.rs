//! What tasks add: a step, a stop, going on after a kill, and what twenty of them cost.

use std::time::{Duration, Instant};

use model_server::{Answer, Call, Ending, Seen, Turn};
use pairwright::store::Store;
use pairwright::store::events::{Durability, EventKind, EventLog, Target, new_id};
use serde_json::json;
use tokio::runtime::Handle;

use crate::chat::ended;
use crate::input::Input;
use crate::overhead::added_on;
use crate::stage::{SAID, Stage, Wire, indexed, is_turn, proc_status};
use crate::table::{Table, Times, ms};

const SETTINGS: &str = "[models.agent]\nurl = '{model}'\nmodel = 'scripted'\nhttp = 'h2c'\n";
/// Steps of a measured task: few enough that its conversation is never shortened, by which the
/// script counts.
const STEPS: usize = 20;
const REPEATED: usize = 10;
/// Tasks that are begun to see how long that takes, after the first.
const BEGUN: usize = 100;
const AT_ONCE: usize = 20;
/// A quick model's time for one step of the tasks that run beside typing.
const THINKING: Duration = Duration::from_millis(500);
const EVENTS: usize = 20_000;
/// Prompts, by which the script tells tasks apart.
const STEADY: &str = "Read the files one by one.";
const STUCK: &str = "Think it over.";
const BESIDE: &str = "Read beside the typing.";

pub(crate) fn run(input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let files = input.some_files(STEPS)?;
    let script = move |seen: &Seen| match seen {
        seen if !is_turn(seen) => Answer::text(SAID),
        seen if says(seen, STUCK) => Answer::turn(Turn::text("Well ").ending(Ending::Hang)),
        seen => {
            let done = said_by_model(seen);
            let turn = match files.get(done) {
                Some(path) => {
                    let path = json!({ "path": path });
                    Turn::calls("", [Call::new(&format!("call_{done}"), "read_file", &path)])
                }
                None => {
                    let end = json!({ "summary": "All were read.", "succeeded": true });
                    Turn::calls("", [Call::new("call_end", "finish", &end)])
                }
            };
            let pace = if says(seen, BESIDE) {
                THINKING
            } else {
                Duration::ZERO
            };
            Answer::turn(turn).after(pace)
        }
    };
    let mut stage = Stage::new(Wire::H2c, input.root(), SETTINGS, script)?;
    indexed(&mut stage.client)?;
    begins(&mut stage, table)?;
    steps(&mut stage, table)?;
    stops(&mut stage, input, table)?;
    many(&mut stage, input, table)?;
    log(table)
}

fn says(seen: &Seen, prompt: &str) -> bool {
    String::from_utf8_lossy(&seen.body).contains(prompt)
}

/// Messages of the model that a conversation has so far.
fn said_by_model(seen: &Seen) -> usize {
    let body = seen.json();
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    messages
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count()
}

fn start(stage: &mut Stage, prompt: &str) -> anyhow::Result<String> {
    let started = stage.request("pairwright/task/start", &json!({ "prompt": prompt }))?;
    Ok(started["task"].as_str().unwrap_or_default().to_owned())
}

/// Starting, in a folder that the user trusts; the first one of a server opens what the others use.
fn begins(stage: &mut Stage, table: &mut Table) -> anyhow::Result<()> {
    let mut first = None;
    let mut started = Times::default();
    for _ in 0..=BEGUN {
        let before = stage.turns().len();
        let asked = Instant::now();
        let task = start(stage, STUCK)?;
        match first {
            None => first = Some(asked.elapsed()),
            Some(_) => started.add(asked.elapsed()),
        }
        asked_again(stage, before);
        stage.request("pairwright/task/stop", &json!({ "task": task }))?;
        ended(stage, &task)?;
    }
    table.row("`task/start` answered", started.to_string(), "≤ 10 ms", "");
    table.row(
        "the same, the first of a server",
        format!("{} ms", ms(first.unwrap_or_default())),
        "",
        "",
    );
    Ok(())
}

/// Time between two steps that is neither the model's nor, but for reading a file, a tool's.
fn steps(stage: &mut Stage, table: &mut Table) -> anyhow::Result<()> {
    let mut between = Times::default();
    for _ in 0..REPEATED {
        let before = stage.turns().len();
        let task = start(stage, STEADY)?;
        let done = ended(stage, &task)?;
        anyhow::ensure!(done["reason"] == "succeeded", "{done}");
        let turns = stage.turns().split_off(before);
        anyhow::ensure!(turns.len() == STEPS + 1, "{} steps", turns.len());
        for pair in turns.windows(2) {
            if let Some((ended, _)) = pair[0].ended {
                between.add(pair[1].arrived.saturating_duration_since(ended));
            }
        }
    }
    table.row(
        "a step that reads a file: end of the model's answer → its next request",
        between.to_string(),
        "median ≤ 20 ms",
        "",
    );
    Ok(())
}

/// Stopping, and going on after the server was killed.
fn stops(stage: &mut Stage, input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let (mut stopped, mut resumed) = (Times::default(), Times::default());
    for _ in 0..REPEATED {
        let before = stage.turns().len();
        let task = start(stage, STUCK)?;
        asked_again(stage, before);
        let told = Instant::now();
        stage.request("pairwright/task/stop", &json!({ "task": task }))?;
        stopped.add(turn_ended(stage, before).saturating_duration_since(told));
        ended(stage, &task)?;
    }
    for _ in 0..REPEATED {
        let before = stage.turns().len();
        let task = start(stage, STUCK)?;
        asked_again(stage, before);
        stage.kill_and_restart(input.root())?;
        let told = Instant::now();
        stage.request("pairwright/task/resume", &json!({ "task": task }))?;
        let arrived = asked_again(stage, before + 1);
        resumed.add(arrived.saturating_duration_since(told));
        stage.request("pairwright/task/stop", &json!({ "task": task }))?;
        ended(stage, &task)?;
    }
    table.row(
        "`task/stop` → the model is told",
        stopped.to_string(),
        "≤ 50 ms",
        "",
    );
    table.row(
        "server killed and started: `task/resume` → the model is asked",
        resumed.to_string(),
        "≤ 500 ms",
        "",
    );
    Ok(())
}

/// Waits until there are more than `before` turns; returns when the next one came.
fn asked_again(stage: &Stage, before: usize) -> Instant {
    let arrived = |log: &model_server::Log| {
        let mut turns = log.requests.iter().filter(|seen| is_turn(seen));
        turns.nth(before).map(|seen| seen.arrived)
    };
    Handle::current().block_on(stage.model.wait("a turn", arrived))
}

fn turn_ended(stage: &Stage, nth: usize) -> Instant {
    let over = |log: &model_server::Log| {
        let mut turns = log.requests.iter().filter(|seen| is_turn(seen));
        turns.nth(nth).and_then(|seen| seen.ended)
    };
    Handle::current()
        .block_on(stage.model.wait("its end", over))
        .0
}

/// Typing and memory while [`AT_ONCE`] tasks run.
fn many(stage: &mut Stage, input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let alone = added_on(stage, input)?;
    let process = stage.client.process_id();
    let idle = proc_status(process, "VmRSS")?;
    let tasks = (0..AT_ONCE).map(|_| start(stage, BESIDE));
    let tasks: Vec<String> = tasks.collect::<anyhow::Result<_>>()?;
    let beside = added_on(stage, input)?;
    let busy = proc_status(process, "VmRSS")?;
    for task in &tasks {
        // Those that are over already have nothing to be stopped.
        let _ = stage.request("pairwright/task/stop", &json!({ "task": task }));
    }
    table.row(
        format!("ghost text beside {AT_ONCE} tasks, added to the model's time"),
        format!("{}; alone {}", beside.whole, alone.whole),
        "p99 ≤ 10 ms",
        "",
    );
    table.row(
        format!("memory with {AT_ONCE} tasks over idle"),
        format!("{:.1} MiB", busy.saturating_sub(idle) as f64 / 1024.0),
        "≤ 150 MiB",
        "",
    );
    Ok(())
}

/// Events of a tool's output, one at a time, and those that must be on disk before going on.
fn log(table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let log = EventLog::new(std::sync::Arc::new(Store::open(folder.path())?));
    let session = new_id('c');
    let target = Target {
        session: &session,
        turn: 1,
        lease: None,
    };
    let event = |nth: usize| EventKind::ToolOutput {
        call: "call".to_owned(),
        text: format!("line {nth} of what a tool printed"),
    };
    let started = Instant::now();
    for nth in 0..EVENTS {
        log.append(target, vec![event(nth)], Durability::Soon)?;
    }
    let rate = EVENTS as f64 / started.elapsed().as_secs_f64();
    let mut synced = Times::default();
    for nth in 0..EVENTS / 100 {
        let started = Instant::now();
        log.append(target, vec![event(nth)], Durability::Synced)?;
        synced.add(started.elapsed());
    }
    table.row(
        "events written, one by one",
        format!("{rate:.0} a second"),
        "≥ 2,000",
        "",
    );
    table.row(
        "an event that must be on disk (median only)",
        format!("{} ms", ms(synced.quantile(0.5))),
        "",
        "",
    );
    Ok(())
}
