//! Starting, and doing nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use model_server::Answer;
use pairwright::driver::Client;

use crate::input::Input;
use crate::stage::{
    SAID, Stage, Wire, indexed, initialize, learnt, number_in, proc_status, start, wait_until,
    write_settings,
};
use crate::table::{Table, Times};

const STARTS: usize = 30;
/// How long nothing is done.
const WATCHED: Duration = Duration::from_secs(20);
/// After the last thing that was done: what follows from it is over.
const SETTLED: Duration = Duration::from_secs(3);

pub(crate) fn run(input: &Input, table: &mut Table) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut times = Times::default();
    for _ in 0..STARTS {
        let mut client = start(home.path())?;
        times.add(initialize(&mut client, input.root())?);
        client.leave()?;
    }
    table.row(
        "program started → `initialize` answered",
        times.to_string(),
        "≤ 20 ms",
        "5 / 12–37 / 370–590 / 1700",
    );

    let bare = tempfile::tempdir()?;
    let nothing = "[local]\nenabled = false\n[index]\nenabled = false\n";
    write_settings(bare.path(), nothing)?;
    let mut client = start(bare.path())?;
    initialize(&mut client, input.root())?;
    report("idle, nothing learnt", &client, table)?;
    client.leave()?;

    write_settings(bare.path(), "[local]\nenabled = false\n")?;
    let mut client = start(bare.path())?;
    initialize(&mut client, input.root())?;
    indexed(&mut client)?;
    report("idle, index just built", &client, table)?;
    client.leave()?;
    let mut client = start(bare.path())?;
    initialize(&mut client, input.root())?;
    indexed(&mut client)?;
    report("idle, index found on disk", &client, table)?;
    client.leave()?;

    let mut client = start(home.path())?;
    initialize(&mut client, input.root())?;
    learnt(&mut client)?;
    report(&format!("idle, {input} learnt"), &client, table)?;
    client.leave()?;

    let stage = Stage::new(Wire::H2c, bare.path(), "", |_| Answer::text(SAID))?;
    report("idle, connected to a model over h2c", &stage.client, table)?;
    anyhow::ensure!(stage.home().is_dir(), "the home is gone");
    Ok(())
}

fn report(what: &str, client: &Client, table: &mut Table) -> anyhow::Result<()> {
    wait_until(Instant::now() + SETTLED);
    let process = client.process_id();
    let rss = proc_status(process, "VmRSS")? as f64 / 1024.0;
    let (before, cpu) = (wake_ups(process)?, cpu_ticks(process)?);
    wait_until(Instant::now() + WATCHED);
    // Threads that ended meanwhile were not idle before, and are no sign of anything periodic.
    let woken: u64 = wake_ups(process)?
        .into_iter()
        .map(|(thread, times)| times - before.get(&thread).copied().unwrap_or(0))
        .sum();
    let cpu = cpu_ticks(process)? - cpu;
    table.row(
        format!("{what}: memory"),
        format!("{rss:.1} MiB"),
        "≤ 40 MiB before it has learnt",
        "9.1–60.7; 247 by one",
    );
    table.row(
        format!("{what}: wake-ups of all threads in {} s", WATCHED.as_secs()),
        format!("{woken}, {cpu} ticks of CPU"),
        "0",
        "192 / 0 / 0 a second",
    );
    Ok(())
}

/// How often each thread of `process` was woken.
fn wake_ups(process: u32) -> anyhow::Result<HashMap<OsString, u64>> {
    let mut woken = HashMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?;
        let status = thread.path().join("status");
        let times = number_in(&status.to_string_lossy(), "voluntary_ctxt_switches")?;
        woken.insert(thread.file_name(), times);
    }
    Ok(woken)
}

/// Time on a processor, in ticks of 10 ms.
fn cpu_ticks(process: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let tick = |nth: usize| Ok::<u64, anyhow::Error>(fields.get(nth).unwrap_or(&"").parse()?);
    Ok(tick(11)? + tick(12)?)
}
