//! What chat adds: until a question is taken, and to each piece of an answer on its way through.

use std::time::{Duration, Instant, SystemTime};

use model_server::{Answer, Ending, NOW, Seen, Turn};
use pairwright::driver::{Notice, PATIENCE};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::input::Input;
use crate::stage::{SAID, Stage, Wire, indexed, is_turn};
use crate::table::{Table, Times};

const SETTINGS: &str = "[models.chat]\nurl = '{model}'\nmodel = 'scripted'\nhttp = 'h2c'\n";
const QUESTIONS: usize = 20;
/// Pieces of one answer, as fast as a quick model writes tokens.
const PIECES: usize = 60;
const GAP: Duration = Duration::from_millis(10);
/// A question that is never answered to its end.
const ENDLESS: &str = "How long is the longest?";

pub(crate) fn run(input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let mut stage = Stage::new(Wire::H2c, input.root(), SETTINGS, |seen| match seen {
        seen if !is_turn(seen) => Answer::text(SAID),
        seen if asks(seen, ENDLESS) => Answer::turn(Turn::text("It is ").ending(Ending::Hang)),
        _ => {
            let piece = format!("{NOW} ");
            Answer::turn(Turn::pieces(vec![piece; PIECES]).with_gap(GAP))
        }
    })?;
    indexed(&mut stage.client)?;
    let (mut taken, mut first, mut passed) = (Times::default(), Times::default(), Times::default());
    for nth in 0..QUESTIONS {
        let (session, _) = ask(&mut stage, "How is a file opened here?", &mut taken)?;
        let done = ended(&mut stage, &session)?;
        anyhow::ensure!(done["reason"] == "answered", "question {nth}: {done}");
        let notices = stage.client.notices();
        let late = notices
            .iter()
            .filter_map(|notice| lateness(notice, &session));
        let late: Vec<Vec<Duration>> = late.collect();
        let all = late.concat();
        anyhow::ensure!(all.len() == PIECES, "{} of {PIECES} pieces came", all.len());
        first.add(all[0]);
        all.into_iter().for_each(|late| passed.add(late));
    }
    table.row("`chat/send` answered", taken.to_string(), "≤ 10 ms", "");
    table.row(
        "first piece of an answer: sent by the model → read by the editor",
        first.to_string(),
        "≤ 5 ms",
        "",
    );
    table.row(
        "every piece of an answer, the same",
        passed.to_string(),
        "p99 ≤ 5 ms",
        "",
    );

    let mut cancelled = Times::default();
    for _ in 0..QUESTIONS {
        let begun = stage.turns().len();
        let (session, turn) = ask(&mut stage, ENDLESS, &mut Times::default())?;
        let is_message = |event: &Value| event["kind"] == "message" && event["session"] == *session;
        let deadline = Instant::now() + PATIENCE;
        stage
            .client
            .wait_for("pairwright/event", is_message, deadline)?;
        let told = Instant::now();
        let params = json!({ "session": session, "turn": turn });
        stage.client.request("pairwright/turn/cancel", &params)?;
        let reset = |log: &model_server::Log| {
            let turns = log.requests.iter().filter(|seen| is_turn(seen));
            turns.skip(begun).find_map(|seen| seen.ended)
        };
        let (at, _) = Handle::current().block_on(stage.model.wait("a reset", reset));
        cancelled.add(at.saturating_duration_since(told));
        ended(&mut stage, &session)?;
    }
    table.row(
        "`turn/cancel` → the model is told",
        cancelled.to_string(),
        "≤ 50 ms",
        "",
    );
    Ok(())
}

fn asks(seen: &Seen, question: &str) -> bool {
    String::from_utf8_lossy(&seen.body).contains(question)
}

/// Asks in a session of its own; returns the session and the turn.
fn ask(stage: &mut Stage, question: &str, taken: &mut Times) -> anyhow::Result<(String, Value)> {
    let session = stage.request("pairwright/session/new", &json!({}))?;
    let session = session["session"].as_str().unwrap_or_default().to_owned();
    let started = Instant::now();
    let params = json!({ "session": session, "text": question });
    let sent = stage.request("pairwright/chat/send", &params)?;
    taken.add(started.elapsed());
    Ok((session, sent["turn"].clone()))
}

/// Waits for the end of what goes on in a session; returns the last event.
pub(crate) fn ended(stage: &mut Stage, session: &str) -> anyhow::Result<Value> {
    let is_end = |event: &Value| event["kind"] == "done" && event["session"] == *session;
    let deadline = Instant::now() + 3 * PATIENCE;
    stage.client.wait_for("pairwright/event", is_end, deadline)
}

/// How long after each of its pieces was sent an event was read.
fn lateness(notice: &Notice, session: &str) -> Option<Vec<Duration>> {
    let event = &notice.params;
    if event["kind"] != "message" || event["session"] != *session {
        return None;
    }
    let read = SystemTime::now() - notice.at.elapsed();
    let text = event["text"].as_str()?;
    let sent = text
        .split_whitespace()
        .filter_map(|stamp| stamp.parse().ok());
    let late = sent.map(|micros| {
        let sent = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        read.duration_since(sent).unwrap_or_default()
    });
    Some(late.collect())
}
