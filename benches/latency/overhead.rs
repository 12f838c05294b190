//! What we add to the model's own time: from writing the key and the request to the model having
//! all of it, and from the model's last byte to reading the answer.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_server::Answer;
use pairwright::driver::PATIENCE;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::input::Input;
use crate::stage::{Page, SAID, Stage, Wire, suggested, wait_until};
use crate::table::{Table, Times, ms};

/// Keys before the measured ones, and measured ones.
const WARM_UP: usize = 20;
const KEYS: usize = 300;
/// Between two keys: slow enough that none is taken for part of a burst.
const APART: Duration = Duration::from_millis(80);

pub(crate) fn run(input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let wires = [
        (Wire::H2c, ""),
        (
            Wire::Http2Tls,
            "another server, HTTP/2 + TLS: 43.5–48.6 / 54–90",
        ),
        (
            Wire::Http1,
            "0.8–0.9 / 5–8 (27.8 / 54 and 451 / 473 with two others)",
        ),
    ];
    for (wire, others) in wires {
        let mut stage = Stage::new(wire, input.root(), "", |_| Answer::text(SAID))?;
        let added = added_on(&mut stage, input)?;
        table.row(
            format!(
                "added to the model's time, {} (median / p99 / worst)",
                wire.name()
            ),
            format!(
                "{}; {} to the model, {} back",
                added.whole,
                ms(added.there.quantile(0.5)),
                ms(added.back.quantile(0.5))
            ),
            "≤ 1 / ≤ 5 ms",
            others,
        );
        if wire == Wire::H2c {
            let asking = asking_directly(&stage)?;
            table.row(
                "the same of a client that asks the same model by itself, h2c".to_owned(),
                format!(
                    "{}; {} to the model, {} back",
                    asking.whole,
                    ms(asking.there.quantile(0.5)),
                    ms(asking.back.quantile(0.5))
                ),
                "",
                "",
            );
        }
    }
    Ok(())
}

/// What asking takes without us: the last question once more, by nothing but a connection from here.
fn asking_directly(stage: &Stage) -> anyhow::Result<Added> {
    let asked = stage.asked();
    let last = asked.last().context("nothing was asked")?;
    let uri = format!("{}{}", stage.model.url(), last.path);
    let times = Handle::current().block_on(async {
        let stream = TcpStream::connect(stage.model.address()).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut times = Vec::new();
        let started = Instant::now();
        for nth in 0..(WARM_UP + KEYS) {
            tokio::time::sleep_until((started + APART * u32::try_from(nth)?).into()).await;
            let question = Request::post(uri.as_str())
                .header("content-type", "application/json")
                .body(Full::new(last.body.clone()))?;
            let written = Instant::now();
            let answer = sender.send_request(question).await?;
            answer.into_body().collect().await?;
            times.push((written, Instant::now()));
        }
        anyhow::Ok(times)
    })?;
    sum_up(stage, asked.len(), &times)
}

/// How often the keys are typed again while the workspace is not built yet.
const ROUNDS: usize = 4;

/// The same while the workspace is learnt and indexed for the first time.
pub(crate) fn while_building(input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let mut stage = Stage::begin(Wire::H2c, input.root(), "", |_| Answer::text(SAID))?;
    for _ in 0..ROUNDS {
        let added = added_on(&mut stage, input)?;
        let status = stage.request("pairwright/index/status", &Value::Null)?;
        let [phase, indexed, to_come] =
            ["phase", "nFiles", "pending"].map(|name| status[0][name].to_string());
        table.row(
            format!(
                "added to the model's time, h2c, while the workspace is built ({phase}: {indexed} files, {to_come} to come)"
            ),
            added.whole.to_string(),
            "p99 ≤ 10 ms",
            "",
        );
        if phase == "\"ready\"" {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
pub(crate) struct Added {
    there: Times,
    back: Times,
    pub(crate) whole: Times,
}

/// Types on a stage whose model says [`SAID`] to whoever wants ghost text.
pub(crate) fn added_on(stage: &mut Stage, input: &Input) -> anyhow::Result<Added> {
    let before = stage.asked().len();
    let (path, text, at) = input.middle_of_a_file()?;
    let mut page = Page::open(&mut stage.client, &path, &text[..at], at)?;
    let mut keys = Vec::new();
    let started = Instant::now();
    // What is typed is the rest of the file.
    for (nth, key) in (0_u32..).zip(text[at..].chars().take(WARM_UP + KEYS)) {
        wait_until(started + APART * nth);
        let written = Instant::now();
        page.key(&mut stage.client, key)?;
        let sent = Instant::now();
        let id = page.ask(&mut stage.client)?;
        let reply = stage.client.answer(id)?;
        let of_model = suggested(&reply).is_some_and(|text| text.contains(SAID));
        anyhow::ensure!(of_model, "key {nth} was answered with {:?}", reply.result);
        keys.push((written, sent + reply.took));
    }
    page.close(&mut stage.client)?;
    sum_up(stage, before, &keys)
}

/// Compares when each question was written and its answer read with what the model saw, which had been
/// asked for `before` others.
fn sum_up(stage: &Stage, before: usize, keys: &[(Instant, Instant)]) -> anyhow::Result<Added> {
    // The last answer may be read before its end is on record.
    let deadline = Instant::now() + PATIENCE;
    let asked = loop {
        let asked = stage.asked().split_off(before);
        if asked.iter().all(|seen| seen.ended.is_some()) || Instant::now() > deadline {
            break asked;
        }
        std::thread::yield_now();
    };
    anyhow::ensure!(asked.len() == keys.len(), "not one request for each key");
    let mut added = Added::default();
    for ((written, read), seen) in keys.iter().zip(&asked).skip(WARM_UP) {
        let Some((ended, _)) = seen.ended else {
            anyhow::bail!("a request without end");
        };
        let there = seen.arrived.duration_since(*written);
        let back = read.saturating_duration_since(ended);
        added.there.add(there);
        added.back.add(back);
        added.whole.add(there + back);
    }
    Ok(added)
}
