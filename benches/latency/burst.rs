//! Ten quick keys, and typing along with what is shown.

use std::time::{Duration, Instant};

use model_server::Answer;

use crate::input::Input;
use crate::stage::{Page, SAID, Stage, Wire, suggested, wait_until};
use crate::table::{Table, Times};

const BURSTS: u32 = 20;
const KEYS: &str = "whole_sum=";
const APART: Duration = Duration::from_millis(30);
const PAUSE: Duration = Duration::from_millis(600);
/// What the model takes for an answer.
const MODEL: Duration = Duration::from_millis(120);

pub(crate) fn run(input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let mut stage = Stage::new(Wire::H2c, input.root(), "", |_| {
        Answer::text(SAID).after(MODEL)
    })?;
    let (path, text, at) = input.middle_of_a_file()?;
    let mut page = Page::open(&mut stage.client, &path, &text[..at], at)?;
    let mut counts = Vec::new();
    let (mut last, mut beyond, mut along) = (Times::default(), Times::default(), Times::default());
    let mut asked_along = 0;
    for _ in 0..BURSTS {
        let before = stage.asked().len();
        let started = Instant::now() + PAUSE;
        let mut ids = Vec::new();
        let (mut written, mut sent) = (started, started);
        for (nth, key) in (0_u32..).zip(KEYS.chars()) {
            wait_until(started + APART * nth);
            written = Instant::now();
            page.key(&mut stage.client, key)?;
            sent = Instant::now();
            ids.push(page.ask(&mut stage.client)?);
        }
        let Some(id) = ids.pop() else { continue };
        let reply = stage.client.answer(id)?;
        let of_model = suggested(&reply).is_some_and(|text| text.ends_with(SAID));
        anyhow::ensure!(
            of_model,
            "the last key was answered with {:?}",
            reply.result
        );
        for id in ids {
            stage.client.answer(id)?.result.ok();
        }
        let asked = stage.asked();
        counts.push(asked.len() - before);
        let took = (sent + reply.took).duration_since(written);
        last.add(took);
        let model = asked
            .last()
            .and_then(|seen| Some(seen.ended?.0 - seen.arrived));
        beyond.add(took.saturating_sub(model.unwrap_or(MODEL)));

        for key in SAID.chars().take(10) {
            page.key(&mut stage.client, key)?;
            let id = page.ask(&mut stage.client)?;
            let reply = stage.client.answer(id)?;
            let kept = suggested(&reply).is_some_and(|text| text.ends_with(SAID));
            anyhow::ensure!(kept, "typing along was answered with {:?}", reply.result);
            along.add(reply.took);
        }
        asked_along += stage.asked().len() - asked.len();
        page.key(&mut stage.client, '\n')?;
    }
    counts.sort_unstable();
    table.row(
        format!(
            "model requests for ten keys {} ms apart, median and most of {BURSTS} bursts",
            APART.as_millis()
        ),
        format!("{}, {}", counts[counts.len() / 2], counts[counts.len() - 1]),
        "≤ 2",
        "50 keys: 5 / 50 / 50",
    );
    table.row(
        "last key → last answer, model of 120 ms",
        last.to_string(),
        "≤ model + 30 ms",
        "model of 150 ms: 210 / 261 / 1309",
    );
    table.row(
        "… beyond the time the model took",
        beyond.to_string(),
        "≤ 30 ms",
        "",
    );
    table.row(
        "typing along with what is shown",
        along.to_string(),
        "≤ 2 ms",
        "",
    );
    table.row(
        format!("model requests for {} keys typed along", along.len()),
        asked_along.to_string(),
        "0",
        "",
    );
    Ok(())
}
