//! Fifty keys a second for minutes, half of the requests cancelled.

use std::time::{Duration, Instant};

use model_server::{Answer, Hole, Seen};

use crate::input::Input;
use crate::stage::{Page, Stage, Wire, cancel, proc_status, suggested, wait_until};
use crate::table::{Table, Times};

const APART: Duration = Duration::from_millis(20);
const MODEL: Duration = Duration::from_millis(120);
/// Keys before the user looks up, in the second run, and for how long.
const LOOK_EVERY: usize = 25;
const LOOK: Duration = Duration::from_millis(250);

pub(crate) fn run(input: &Input, seconds: usize, table: &mut Table) -> anyhow::Result<()> {
    for (name, looks) in [
        ("without pause", false),
        ("with a look after each 25", true),
    ] {
        let seen = typed(input, Duration::from_secs(seconds as u64), looks)?;
        let what = |of: &str| format!("50 keys/s for {seconds} s {name}: {of}");
        table.row(
            what("key → answer"),
            seen.answers.to_string(),
            "p99 < 200 ms",
            "",
        );
        table.row(
            what("key → ghost text"),
            format!("{}; {} of the model", seen.texts, seen.of_model),
            "p99 < 200 ms",
            "",
        );
        table.row(
            what("keys / requests of the model / connections"),
            format!("{} / {} / {}", seen.keys, seen.asked, seen.connections),
            "1 connection",
            "",
        );
        table.row(
            what("memory at a fifth of the time → at the end"),
            format!("{:.1} → {:.1} MiB", seen.rss_early, seen.rss_late),
            "no growth",
            "",
        );
    }
    Ok(())
}

struct Run {
    answers: Times,
    texts: Times,
    of_model: usize,
    keys: usize,
    asked: usize,
    connections: usize,
    rss_early: f64,
    rss_late: f64,
}

fn typed(input: &Input, time: Duration, looks: bool) -> anyhow::Result<Run> {
    let (path, text, at) = input.middle_of_a_file()?;
    // A model that knows the file: it goes on with the line as the file does.
    let known = text.clone();
    let script = move |seen: &Seen| {
        let hole = Hole::of(seen);
        let line = hole.prefix.rsplit('\n').next().unwrap_or_default();
        let rest = known.lines().find_map(|whole| whole.strip_prefix(line));
        Answer::text(rest.unwrap_or_default()).after(MODEL)
    };
    let mut stage = Stage::new(Wire::H2c, input.root(), "", script)?;
    let mut page = Page::open(&mut stage.client, &path, &text[..at], at)?;
    let process = stage.client.process_id();
    let rss = || anyhow::Ok(proc_status(process, "VmRSS")? as f64 / 1024.0);
    let mut run = Run {
        answers: Times::default(),
        texts: Times::default(),
        of_model: 0,
        keys: 0,
        asked: 0,
        connections: 0,
        rss_early: 0.0,
        rss_late: 0.0,
    };
    let started = Instant::now();
    let mut next = started;
    let mut wanted = Vec::new();
    let mut previous = None;
    // The text is typed again and again; its end is like its beginning to who types it.
    for (nth, key) in text[at..].chars().cycle().enumerate() {
        if started.elapsed() >= time {
            break;
        }
        wait_until(next);
        next += APART;
        if let Some(id) = previous.take() {
            cancel(&mut stage.client, id)?;
        }
        page.key(&mut stage.client, key)?;
        let id = page.ask(&mut stage.client)?;
        run.keys += 1;
        // Every second request is taken back with the next key.
        if nth % 2 == 0 {
            wanted.push(id);
        } else {
            previous = Some(id);
        }
        if looks && nth % LOOK_EVERY == LOOK_EVERY - 1 {
            previous = None;
            wanted.push(id);
            next += LOOK;
        }
        if run.rss_early == 0.0 && started.elapsed() >= time / 5 {
            run.rss_early = rss()?;
        }
    }
    run.rss_late = rss()?;
    wanted.dedup();
    for id in wanted {
        let reply = stage.client.answer(id)?;
        run.answers.add(reply.took);
        if suggested(&reply).is_some() {
            run.texts.add(reply.took);
        }
    }
    let metrics = stage
        .client
        .request("pairwright/metrics/get", &serde_json::Value::Null)?;
    let metrics = metrics.result.map_err(|error| anyhow::anyhow!("{error}"))?;
    run.of_model = metrics["answeredByModel"].as_u64().unwrap_or_default() as usize;
    run.asked = stage.asked().len();
    run.connections = stage.model.log().connections.len();
    Ok(run)
}
