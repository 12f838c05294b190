//! Emulated virtual machines: the first, which makes the template, and its clones.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox_client::changes::{self, Bounds};
use sandbox_client::client::{Client, Sandbox};
use sandbox_client::protocol::LimitsAsked;
use sandbox_client::service::Service;
use sandbox_client::tier::Tier;

use super::{Outcome, Times, create_in, run, since};

/// Clones made one after the other.
const IN_TURN: usize = 20;
/// Clones that run at once when memory is looked at.
const AT_ONCE: usize = 6;
/// Enough for a clone to be made in the place of one that waited.
const REPLACED: Duration = Duration::from_secs(3);

/// `holding` is a service that holds one clone ready.
pub(crate) async fn measure(client: &Client, holding: Service, root: &Path) -> Outcome<()> {
    let started = Instant::now();
    machine(client, root).await?.kill().await?;
    Times(vec![since(started)]).row("the first machine: listed, booted, written down, cloned")?;

    let names = [
        "machine ready (a clone)",
        "its first `true`",
        "machine destroyed",
    ];
    let mut times = names.map(|_| Times(Vec::new()));
    for _ in 0..IN_TURN {
        let started = Instant::now();
        let sandbox = machine(client, root).await?;
        times[0].0.push(since(started));
        let started = Instant::now();
        run(&sandbox, &["/bin/true"], root).await?;
        times[1].0.push(since(started));
        let started = Instant::now();
        sandbox.kill().await?;
        times[2].0.push(since(started));
    }
    for (name, times) in names.iter().zip(&times) {
        times.row(name)?;
    }
    parts(client, &Client::new(holding.endpoint().clone())?, root).await?;
    holding.stop().await;

    let sandbox = machine(client, root).await?;
    let mut inside = Times(Vec::new());
    for _ in 0..100 {
        let started = Instant::now();
        run(&sandbox, &["/bin/true"], root).await?;
        inside.0.push(since(started));
    }
    inside.row("`true`, in a machine that has run some")?;
    // What of that is the machine's own: the same without us.
    let started = Instant::now();
    let loops = "n=0; while [ $n -lt 50 ]; do /bin/true; n=$((n+1)); done";
    run(&sandbox, &["/bin/sh", "-c", loops], root).await?;
    Times(vec![since(started) / 50.0]).row("`true`, 50 by one shell in the machine")?;
    let mut asks = Times(Vec::new());
    for _ in 0..50 {
        let started = Instant::now();
        let absent = sandbox.read_file("/none", 1).await;
        if absent.is_ok() {
            return Err("/none is there".into());
        }
        asks.0.push(since(started));
    }
    asks.row("asking the agent for a file that is not there")?;
    let edit = "for n in $(seq 20); do echo changed > d0/f$n; done";
    run(&sandbox, &["/bin/sh", "-c", edit], root).await?;
    let mut diffs = Times(Vec::new());
    for _ in 0..10 {
        let started = Instant::now();
        let changes = changes::collect(&sandbox, root, Bounds::default()).await?;
        if changes.files.len() != 20 {
            return Err(format!("{} changes, not 20", changes.files.len()).into());
        }
        diffs.0.push(since(started));
    }
    diffs.row("changes of 20 files out")?;
    let mut reads = Times(Vec::new());
    let started = Instant::now();
    run(&sandbox, &["/bin/sh", "-c", "cat d*/* >/dev/null"], root).await?;
    reads.0.push(since(started));
    reads.row("the whole workspace read once")?;
    sandbox.kill().await?;

    let mut all = Vec::new();
    for _ in 0..AT_ONCE {
        let sandbox = machine(client, root).await?;
        run(&sandbox, &["/bin/true"], root).await?;
        all.push(sandbox);
    }
    for name in ["Rss:", "Pss:", "Private_Dirty:"] {
        let times = Times(monitors(name)?);
        times.row(&format!("{name} of QEMU, MiB, each of {AT_ONCE} clones"))?;
    }
    for sandbox in all {
        sandbox.kill().await?;
    }
    Ok(())
}

/// Where the time until a machine is ready goes: the same without a part of it. One with nothing to
/// list, one that was started and restored before, and one of which only waking it is left.
async fn parts(client: &Client, ready: &Client, root: &Path) -> Outcome<()> {
    let empty = tempfile::tempdir()?;
    let empty = empty.path().canonicalize()?;
    // From here on there is one that waits.
    machine(ready, root).await?.kill().await?;
    for (name, client, root) in [
        ("machine ready, empty folder", client, empty.as_path()),
        ("machine ready, of a clone that waited", ready, root),
        (
            "machine ready, of a clone that waited, empty folder",
            ready,
            empty.as_path(),
        ),
    ] {
        let mut times = Times(Vec::new());
        for _ in 0..5 {
            // Nothing says when the next one waits.
            tokio::time::sleep(REPLACED).await;
            let started = Instant::now();
            let sandbox = machine(client, root).await?;
            times.0.push(since(started));
            sandbox.kill().await?;
        }
        times.row(name)?;
    }
    Ok(())
}

async fn machine(client: &Client, root: &Path) -> Outcome<Sandbox> {
    let limits = LimitsAsked {
        memory_bytes: Some(512 << 20),
        disk_bytes: Some(256 << 20),
        processors: Some(1),
        command_seconds: Some(600),
    };
    let sandbox = create_in(client, root, limits, Tier::VmEmulated).await?;
    if let Some(note) = sandbox.notes().iter().find(|note| note.contains("booted")) {
        writeln!(std::io::stdout(), "{note}")?;
    }
    Ok(sandbox)
}

/// What the kernel says of the memory of each QEMU that runs, in MiB.
fn monitors(what: &str) -> Outcome<Vec<f64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if !name.starts_with("qemu-system") {
            continue;
        }
        let memory = std::fs::read_to_string(entry.path().join("smaps_rollup"))?;
        let line = memory.lines().find_map(|line| line.strip_prefix(what));
        let number = line.and_then(|line| line.split_whitespace().next());
        found.push(number.ok_or("no such line")?.parse::<f64>()? / 1024.0);
    }
    Ok(found)
}
