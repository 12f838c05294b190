//! Edits, requests and cancels in any order: no answer may be of another version than the one it
//! was asked on. Line and answer both carry the number of the version.

use model_server::{Answer, Hole, Seen};

use crate::stage::{Page, Stage, Wire, cancel, suggested};
use crate::table::Table;

pub(crate) fn run(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    let root = Stage::empty()?;
    let script = |seen: &Seen| {
        let hole = Hole::of(seen);
        let line = hole.prefix.rsplit('\n').next().unwrap_or_default();
        let number: String = line.chars().filter(char::is_ascii_digit).collect();
        let delay = std::time::Duration::from_millis(seen.nth as u64 % 4);
        Answer::text(&format!("answer_{number}")).after(delay)
    };
    let settings = "[local]\nenabled = false\n";
    let mut stage = Stage::new(Wire::H2c, root.path(), settings, script)?;
    let mut page = Page::open(&mut stage.client, &root.path().join("page.py"), "", 0)?;
    let mut random = fastrand::Rng::with_seed(20);
    let mut open = Vec::new();
    let (mut answered, mut stale) = (0, 0);
    for round in 0..rounds {
        if random.u32(..3) > 0 {
            let line = format!("version_{} = ", page.version() + 1);
            page.rewrite(&mut stage.client, &line)?;
        }
        open.push((page.ask(&mut stage.client)?, page.version()));
        if random.u32(..10) == 0 {
            cancel(&mut stage.client, open[random.usize(..open.len())].0)?;
        }
        // Now and then the answer comes before the next key, as when the user looks.
        if random.u32(..20) == 0 || round + 1 == rounds {
            for (id, version) in open.drain(..) {
                let reply = stage.client.answer(id)?;
                let Some(text) = suggested(&reply) else {
                    continue;
                };
                answered += 1;
                let right = format!("version_{version} = answer_{version}");
                stale += usize::from(text != right);
            }
        }
    }
    table.row(
        format!("answers of another version, of {answered} texts in {rounds} edits and requests"),
        stale.to_string(),
        "0",
        "",
    );
    Ok(())
}
