//! What a sandbox costs beside running the same thing plainly, in one run.
//!
//! `cargo bench -p sandbox-agent --bench sandbox [-- DIRECTORY COMMAND…]`: with a directory and a
//! command, that command is compared too, in turns, and its changes are collected. With
//! `PAIRWRIGHT_KERNEL=FILE` emulated virtual machines with that kernel are measured instead.

mod machines;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandbox_client::changes::{self, Bounds};
use sandbox_client::client::{Client, Command, Sandbox, Stdin};
use sandbox_client::output::Cap;
use sandbox_client::protocol::{Create, LimitsAsked, LocalCreate};
use sandbox_client::service::{
    Agent, EgressOptions, Host, Key, Limits, Machines, Options, Service, Workspaces,
};
use sandbox_client::tier::Tier;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Of one kind of thing.
struct Times(Vec<f64>);

impl Times {
    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last as f64 * part) as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }

    fn row(&self, what: &str) -> std::io::Result<()> {
        let (median, late) = (self.at(0.5), self.at(0.95));
        writeln!(
            std::io::stdout(),
            "| {what} | {} | {median:.2} | {late:.2} |",
            self.0.len()
        )
    }
}

fn since(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure(&arguments))
}

async fn measure(arguments: &[String]) -> Outcome<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let options = Options {
        agent: Agent {
            program: env!("CARGO_BIN_EXE_sandbox-agent").into(),
            arguments: vec![sandbox_agent::ARGUMENT.into()],
        },
        key: Key::generate()?,
        host: Host::find(home.as_deref(), std::env::var_os("PATH").as_deref()),
        machines: Machines::default(),
        workspaces: Workspaces::OfThisMachine,
        limits: Limits::default(),
        egress: EgressOptions::default(),
        state: None,
        sandboxes: 64,
        min_isolation: Tier::Namespace,
        ready: 0,
    };
    let mut options = options;
    options.machines.kernel = std::env::var_os("PAIRWRIGHT_KERNEL").map(PathBuf::from);
    let emulated = options.machines.kernel.is_some();
    let kept = tempfile::tempdir()?;
    options.state = emulated.then(|| kept.path().to_owned());
    let service = Service::start_private(options.clone())?;
    let client = Client::new(service.endpoint().clone())?;
    let workspace = tempfile::tempdir()?;
    let root = workspace.path().canonicalize()?;
    for n in 0..1_400 {
        let directory = root.join(format!("d{}", n / 50));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("f{n}")), vec![b'x'; 40_000])?;
    }
    writeln!(
        std::io::stdout(),
        "| ms | n | p50 | p95 |\n|---|---|---|---|"
    )?;

    if emulated {
        let holding = Service::start_private(Options {
            ready: 1,
            ..options
        })?;
        machines::measure(&client, holding, &root).await?;
        service.stop().await;
        return Ok(());
    }
    let (mut ready, mut gone) = (Times(Vec::new()), Times(Vec::new()));
    for _ in 0..40 {
        let started = Instant::now();
        let sandbox = create(&client, &root, None).await?;
        ready.0.push(since(started));
        let started = Instant::now();
        sandbox.kill().await?;
        gone.0.push(since(started));
    }
    ready.row("sandbox ready, with a workspace of 1,400 files, 56 MB")?;
    gone.row("sandbox destroyed")?;

    let sandbox = create(&client, &root, None).await?;
    let (mut plain, mut inside) = (Times(Vec::new()), Times(Vec::new()));
    for _ in 0..300 {
        let started = Instant::now();
        tokio::process::Command::new("/bin/true").status().await?;
        plain.0.push(since(started));
        let started = Instant::now();
        run(&sandbox, &["/bin/true"], &root).await?;
        inside.0.push(since(started));
    }
    plain.row("`true`, plain")?;
    inside.row("`true`, in the sandbox")?;

    let edit = "for n in $(seq 20); do echo changed > d0/f$n; done";
    run(&sandbox, &["/bin/sh", "-c", edit], &root).await?;
    let mut diffs = Times(Vec::new());
    for _ in 0..20 {
        let started = Instant::now();
        let changes = changes::collect(&sandbox, &root, Bounds::default()).await?;
        if changes.files.len() != 20 {
            return Err(format!("{} changes, not 20", changes.files.len()).into());
        }
        diffs.0.push(since(started));
    }
    diffs.row("changes of 20 files out")?;

    let mut flood = Times(Vec::new());
    let before = memory()?;
    for _ in 0..3 {
        let started = Instant::now();
        run(
            &sandbox,
            &["/usr/bin/head", "-c", "100000000", "/dev/zero"],
            &root,
        )
        .await?;
        flood.0.push(since(started));
    }
    flood.row("100 MB of output, kept 128 KiB")?;
    let grown = memory()?.saturating_sub(before);
    sandbox.kill().await?;

    let started = Instant::now();
    let all = (0..50).map(|_| {
        let (client, root) = (client.clone(), root.clone());
        tokio::spawn(async move {
            let sandbox = create(&client, &root, None)
                .await
                .map_err(|e| e.to_string())?;
            let ran = run(&sandbox, &["/bin/true"], &root).await;
            ran.map_err(|e| e.to_string())?;
            sandbox.kill().await.map_err(|e| e.to_string())
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await??;
    }
    Times(vec![since(started)]).row("50 sandboxes made, used and destroyed at once")?;
    writeln!(
        std::io::stdout(),
        "\nservice and client grew by {grown} KiB during the output"
    )?;

    if let [directory, command @ ..] = arguments
        && !command.is_empty()
    {
        compare(&client, Path::new(directory), command).await?;
    }
    service.stop().await;
    Ok(())
}

/// A real command, plain and in a sandbox, in turns.
async fn compare(client: &Client, root: &Path, command: &[String]) -> Outcome<()> {
    let root = root.canonicalize()?;
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let sandbox = create(client, &root, Some(8 << 30)).await?;
    let (mut plain, mut inside) = (Times(Vec::new()), Times(Vec::new()));
    for _ in 0..7 {
        let started = Instant::now();
        tokio::process::Command::new(words[0])
            .args(&words[1..])
            .current_dir(&root)
            .output()
            .await?;
        plain.0.push(since(started));
        let started = Instant::now();
        run(&sandbox, &words, &root).await?;
        inside.0.push(since(started));
    }
    plain.row(&format!("`{}`, plain", words.join(" ")))?;
    inside.row(&format!("`{}`, in the sandbox", words.join(" ")))?;
    sandbox.kill().await?;
    Ok(())
}

async fn create(client: &Client, root: &Path, bytes: Option<u64>) -> Outcome<Sandbox> {
    let limits = LimitsAsked {
        memory_bytes: bytes,
        disk_bytes: bytes,
        // As many as the plain command has.
        processors: Some(2),
        command_seconds: Some(600),
    };
    create_in(client, root, limits, Tier::Namespace).await
}

async fn create_in(
    client: &Client,
    root: &Path,
    limits: LimitsAsked,
    tier: Tier,
) -> Outcome<Sandbox> {
    let create = Create {
        template_id: "base".to_owned(),
        timeout: Some(3_600),
        pairwright: Some(LocalCreate {
            workspace: Some(root.to_owned()),
            tier: Some(tier),
            limits: Some(limits),
            ..LocalCreate::default()
        }),
        ..Create::default()
    };
    Ok(client.create(create).await?)
}

async fn run(sandbox: &Sandbox, words: &[&str], root: &Path) -> Outcome<()> {
    let command = Command {
        program: words[0].to_owned(),
        arguments: words[1..].iter().map(|&word| word.to_owned()).collect(),
        directory: Some(root.to_string_lossy().into_owned()),
        env: BTreeMap::new(),
        input: Stdin::Nothing,
        timeout: Duration::from_secs(600),
    };
    let finished = sandbox.run(command, Cap(64 << 10)).await?;
    match finished.end {
        sandbox_client::client::End::Exited(0) => Ok(()),
        end => Err(format!("{words:?}: {end:?} {}", finished.stderr.text()).into()),
    }
}

/// Resident memory of this process, in KiB.
fn memory() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}
