//! `pairwright index`: builds the index of a folder and says what is in it; opens it for the other
//! commands that ask it.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indexer::{Footprint, Index, Options, Phase, RepoPath, Role, Status, Watching};
use serde::Serialize;

use super::style;
use crate::config::sources::Directories;
use crate::index::cache_dir;

/// A first look at a very large repository takes minutes; after this, answers are given from what
/// there is.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Between two drawings of the progress bar.
const REDRAW: Duration = Duration::from_millis(80);
const BAR: usize = 24;

#[derive(Debug, clap::Args)]
pub(super) struct IndexCommand {
    /// Folder to index
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Say what is in the index, without looking at the files first
    #[arg(long, conflicts_with = "clean")]
    stats: bool,
    /// Remove the index of the folder from disk
    #[arg(long)]
    clean: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    footprint: Footprint,
    #[serde(flatten)]
    status: Status,
    seconds: f64,
}

impl IndexCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = folder(&self.root)?;
        let cache = cache_dir(&Directories::find())?;
        if self.clean {
            return clean(&cache, &root, self.json);
        }
        let started = Instant::now();
        let index = if self.stats {
            Index::open(options(&root, &cache))?
        } else {
            settled(&root)?
        };
        let report = Report {
            status: index.status(),
            seconds: started.elapsed().as_secs_f64(),
            footprint: Index::footprint(&cache, &root),
        };
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            print(&mut out, &report)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report {
        footprint,
        status,
        seconds,
    } = report;
    let mut line = |name: &str, value: String| {
        writeln!(
            out,
            "{} {value}",
            style::paint(style::FAINT, format!("{name:9}"))
        )
    };
    line(
        "files",
        format!("{} known, {} indexed", status.n_files, status.n_indexed),
    )?;
    line(
        "pieces",
        format!(
            "{} chunks, {} defined names",
            status.n_chunks, status.n_names
        ),
    )?;
    let commit = |commit: &Option<String>| match commit {
        Some(id) => id[..id.len().min(12)].to_owned(),
        None => "no commit".to_owned(),
    };
    let branch = status.head.branch.as_deref().unwrap_or("no branch");
    line(
        "git",
        format!(
            "{} on {branch}, {} commits read",
            commit(&status.head.commit),
            status.n_commits
        ),
    )?;
    if status.indexed_commit != status.head.commit {
        line(
            "behind",
            format!(
                "indexed at {}, {} files wait",
                commit(&status.indexed_commit),
                status.pending
            ),
        )?;
    }
    if status.role == Role::Follower {
        line("shared", "another process keeps it up to date".to_owned())?;
    }
    let mib = footprint.bytes as f64 / f64::from(1 << 20);
    line(
        "on disk",
        format!("{mib:.1} MiB in {}", footprint.dir.display()),
    )?;
    line("took", format!("{seconds:.2} s"))?;
    for fault in status.faults.iter().take(10) {
        let place = if fault.path.is_empty() {
            "index"
        } else {
            &fault.path
        };
        line(
            "fault",
            style::paint(style::WARN, format!("{place:?}: {}", fault.message)),
        )?;
    }
    if status.n_faults > 10 {
        line("fault", format!("and {} more", status.n_faults - 10))?;
    }
    Ok(())
}

fn clean(cache: &Path, root: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(bytes) = Index::clean(cache, root)? else {
        bail!(
            "another process is using the index of {}; end it first",
            root.display()
        );
    };
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "freedBytes": bytes }))?;
    } else {
        writeln!(out, "freed {:.1} MiB", bytes as f64 / f64::from(1 << 20))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the index of `root` and waits until all of it is current, showing progress in a terminal.
pub(super) fn settled(root: &Path) -> anyhow::Result<Index> {
    let cache = cache_dir(&Directories::find())?;
    let mut options = options(root, &cache);
    if io::stderr().is_terminal() {
        options.on_status = Box::new(progress());
    }
    let index = Index::open(options)?;
    let done = index.wait_until_settled(Instant::now() + PATIENCE);
    if io::stderr().is_terminal() {
        write!(anstream::stderr(), "\r\x1b[K")?;
    }
    if !done {
        writeln!(
            anstream::stderr(),
            "{} is not all indexed yet; answering from what is",
            root.display()
        )?;
    }
    Ok(index)
}

pub(super) fn options(root: &Path, cache: &Path) -> Options {
    Options {
        watch: Watching::Off,
        ..Options::new(root, cache)
    }
}

/// Returns what draws the progress bar, now and then.
fn progress() -> impl Fn(&Status) + Send {
    let drawn = std::cell::Cell::new(None::<Instant>);
    move |status| {
        if status.phase == Phase::Ready || drawn.get().is_some_and(|at| at.elapsed() < REDRAW) {
            return;
        }
        drawn.set(Some(Instant::now()));
        let done = status.n_files.saturating_sub(status.pending);
        let total = status.n_files.max(done + status.pending).max(1);
        let filled = BAR * done / total;
        let bar = format!("{}{}", "━".repeat(filled), "─".repeat(BAR - filled));
        // A terminal that went away is no reason to stop indexing.
        let _ = write!(
            anstream::stderr(),
            "\r\x1b[Kindexing {bar} {} files wait",
            status.pending
        );
    }
}

/// Returns `path` as a folder that exists, with links resolved.
pub(super) fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    let root = path
        .canonicalize()
        .with_context(|| format!("{} cannot be read", path.display()))?;
    if !root.is_dir() {
        bail!("{} is not a folder", root.display());
    }
    Ok(root)
}

/// Returns files given on the command line as the index knows them.
pub(super) fn repo_paths(root: &Path, files: &[PathBuf]) -> anyhow::Result<Vec<RepoPath>> {
    let repo_path = |file: &PathBuf| {
        // Relative to where the user is, else to the root.
        let here = file.canonicalize().unwrap_or_else(|_| root.join(file));
        RepoPath::below(root, &here)
            .with_context(|| format!("{} is not in {}", file.display(), root.display()))
    };
    files.iter().map(repo_path).collect()
}
