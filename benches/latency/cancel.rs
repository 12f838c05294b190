//! How soon the model is told that nobody waits any more, with 64 requests in flight.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model_server::{Answer, End, Hole};

use crate::stage::{Page, Stage, Wire, cancel, wait_until};
use crate::table::{Table, Times};

const IN_FLIGHT: usize = 64;
/// Between two cancels.
const APART: Duration = Duration::from_millis(2);
/// RST_STREAM code of a request nobody wants.
const CANCEL: End = End::Reset(8);

pub(crate) fn run(cancels: usize, table: &mut Table) -> anyhow::Result<()> {
    for wire in [Wire::H2c, Wire::Http2Tls] {
        let found = resets(wire, cancels)?;
        let name = wire.name();
        let others = if wire == Wire::H2c {
            "0.56 / 8.2 (closes); two others never"
        } else {
            "0.73 / 12.4; two others never"
        };
        table.row(
            format!("`$/cancelRequest` → RST_STREAM(CANCEL), {name}, {IN_FLIGHT} in flight"),
            found.cancelled.to_string(),
            "p99 ≤ 10 ms",
            others,
        );
        table.row(
            format!("edit of the text asked about → RST_STREAM(CANCEL), {name}"),
            found.superseded.to_string(),
            "p99 ≤ 10 ms",
            "never (0/10); 2.0 ms by one",
        );
        table.row(
            format!("TCP connections for {cancels} cancels, {name}"),
            format!("{} ({} resets)", found.connections, found.resets),
            "1",
            "",
        );
    }
    Ok(())
}

struct Found {
    cancelled: Times,
    superseded: Times,
    connections: usize,
    resets: usize,
}

/// One document and its request in flight.
struct Asking {
    page: Page,
    id: i64,
    mark: String,
}

fn resets(wire: Wire, cancels: usize) -> anyhow::Result<Found> {
    let root = Stage::empty()?;
    // Requests stay in flight until they are cancelled, not until the deadline of typing.
    let settings = "[complete]\ndeadlineMs = 10000\n[local]\nenabled = false\n";
    let mut stage = Stage::new(wire, root.path(), settings, |_| Answer::never())?;
    let mut asking = Vec::new();
    for nth in 0..IN_FLIGHT {
        let path: PathBuf = root.path().join(format!("page_{nth}.py"));
        let mut page = Page::open(&mut stage.client, &path, "", 0)?;
        let mark = format!("start_{nth} = ");
        page.rewrite(&mut stage.client, &mark)?;
        let id = page.ask(&mut stage.client)?;
        asking.push(Asking { page, id, mark });
    }
    let mut ended = HashMap::new();
    let started = Instant::now();
    for (step, nth) in (0..IN_FLIGHT).cycle().take(cancels).enumerate() {
        wait_until(started + APART * u32::try_from(step)?);
        let Asking { page, id, mark } = &mut asking[nth];
        let by_cancel = (step / IN_FLIGHT).is_multiple_of(2);
        let next = format!("step_{step} = ");
        ended.insert(
            std::mem::replace(mark, next.clone()),
            (Instant::now(), by_cancel),
        );
        if by_cancel {
            cancel(&mut stage.client, *id)?;
        }
        page.rewrite(&mut stage.client, &next)?;
        *id = page.ask(&mut stage.client)?;
    }
    let all = |log: &model_server::Log| (log.ended(CANCEL) >= cancels).then_some(());
    tokio::runtime::Handle::current().block_on(stage.model.wait("all resets", all));

    let log = stage.model.log();
    let mut found = Found {
        cancelled: Times::default(),
        superseded: Times::default(),
        connections: log.connections.len(),
        resets: log.ended(CANCEL),
    };
    for seen in log.completions() {
        let hole = Hole::of(seen);
        let mark = hole.prefix.rsplit('\n').next().unwrap_or_default();
        let (Some((told, by_cancel)), Some((at, CANCEL))) = (ended.get(mark), seen.ended) else {
            continue;
        };
        let times = if *by_cancel {
            &mut found.cancelled
        } else {
            &mut found.superseded
        };
        times.add(at.saturating_duration_since(*told));
    }
    Ok(found)
}
