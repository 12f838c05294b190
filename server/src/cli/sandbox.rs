//! `pairwright sandbox`: a command in a sandbox of this machine, tried by hand.

mod capacity;
mod doctor;
mod network;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::builder::RangedU64ValueParser;
use sandbox_client::changes::{self, Bounds, Changes, Class, FileChange, Kind, Original};
use sandbox_client::client::{ClientError, Command, End, Event, Stdin};
use sandbox_client::protocol::{Create, LimitsAsked, LocalCreate};
use sandbox_client::service::{Key, Limits, Machines, Workspaces};
use sandbox_client::tier::Tier;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::capacity::Capacity;
use self::doctor::Doctor;
use self::network::Denials;
use super::style::{self, harmless, paint};
use crate::config::current::Current;
use crate::config::sources::Directories;
use crate::edit::diff::unified;
use crate::error::{Kind as ErrorKind, UserError};
use crate::sandbox::Place;
pub(super) use crate::sandbox::options;

/// What `timeout(1)` exits with.
const TIMED_OUT: u8 = 124;
/// A command killed by a signal has no code; shells say 128 and the signal's number, which the
/// protocol does not tell.
const KILLED: u8 = 128;
/// Seconds that the sandbox gives commands of ours, which copy the folder and look at it.
const OUR_OWN: u64 = 60;
/// What shells say of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// How long a sandbox that is still being made is waited for then, to be ended.
const LEAVING: Duration = Duration::from_secs(10);
/// How long one look for denials waits.
const LOOK: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct SandboxCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Run a command in a sandbox, and show what it would change; nothing is written
    Run(Run),
    /// Say whether this machine can run sandboxes, and why not
    Doctor(Doctor),
    /// Compute how many virtual machines a service needs, running and ready, and how much memory
    Capacity(Capacity),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Folder that the command sees as it is; what it writes there stays in the sandbox
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// What separates the command from this machine; never less than what is named
    #[arg(long, value_name = "TIER", default_value = "namespace")]
    tier: TierName,
    #[command(flatten)]
    machines: MachineFiles,
    /// More folders of this machine that the command can read
    #[arg(long, value_name = "DIR")]
    read: Vec<PathBuf>,
    /// Seconds until the command and all it started are killed
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = up_to::<u64>(Limits::MOST.command_seconds))]
    timeout: u64,
    /// Memory of all that runs, in MiB; what is written counts too
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = up_to::<u64>(Limits::MOST.memory_bytes >> 20))]
    memory: u64,
    /// How much may be written, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = up_to::<u64>(Limits::MOST.disk_bytes >> 20))]
    disk: u64,
    /// Processors that all that runs may use together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to::<u32>(Limits::MOST.processors.into()))]
    processors: u32,
    /// What it may reach, through a proxy: none, registries (of the languages of DIR, as this
    /// machine's package managers have them), HOST, *.HOST, HOST:PORT, an address or a range
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "none"
    )]
    net: Vec<String>,
    /// A server of this machine or its network that it may reach too; no other way leads there
    #[arg(long, value_name = "ADDRESS:PORT")]
    net_local: Vec<SocketAddr>,
    /// A header that requests to http://HOST get outside, where they go on over TLS. Its value is
    /// read from an environment variable here and never seen inside
    #[arg(long, value_name = "HOST=HEADER:VARIABLE")]
    credential: Vec<String>,
    /// Print JSON lines: output and denials as they come, then the end and the changes
    #[arg(long)]
    json: bool,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The sandboxes of this machine.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum TierName {
    /// The first that starts: a virtual machine by KVM, gVisor, namespaces
    Auto,
    /// No namespaces: a process that may read and write what is named, in a copy of DIR, without a
    /// network; shares kernel, processes and other host state
    Landlock,
    /// Namespaces, under this machine's kernel
    Namespace,
    /// The same with gVisor's kernel between
    Gvisor,
    /// A virtual machine that QEMU emulates: a kernel of its own, slow, no hardware boundary
    VmEmulated,
    /// A virtual machine by KVM
    Vm,
    /// The service that the settings name (`sandbox.remote`), with a copy of DIR
    Remote,
}

impl TierName {
    /// `None` for the strongest there is.
    pub(super) fn tier(self) -> Option<Tier> {
        match self {
            Self::Auto => None,
            Self::Landlock => Some(Tier::Landlock),
            Self::Namespace => Some(Tier::Namespace),
            Self::Gvisor => Some(Tier::Gvisor),
            Self::VmEmulated => Some(Tier::VmEmulated),
            Self::Vm => Some(Tier::Vm),
            Self::Remote => Some(Tier::Remote),
        }
    }
}

/// What sandboxes with a kernel of their own are made of.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct MachineFiles {
    /// QEMU, where it is not on the search path
    #[arg(long, value_name = "FILE", env = "PAIRWRIGHT_QEMU")]
    qemu: Option<PathBuf>,
    /// Kernel of virtual machines, where there is none in /boot; its modules are looked for beside it
    #[arg(long, value_name = "FILE", env = "PAIRWRIGHT_KERNEL")]
    kernel: Option<PathBuf>,
    /// gVisor, where it is not on the search path
    #[arg(long, value_name = "FILE", env = "PAIRWRIGHT_RUNSC")]
    runsc: Option<PathBuf>,
}

impl From<MachineFiles> for Machines {
    fn from(files: MachineFiles) -> Self {
        Self {
            monitor: files.qemu,
            kernel: files.kernel,
            runsc: files.runsc,
        }
    }
}

/// A number from 1; more than `most` is an error rather than less than was asked for.
fn up_to<N: TryFrom<u64>>(most: u64) -> RangedU64ValueParser<N> {
    RangedU64ValueParser::new().range(1..=most)
}

impl SandboxCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = super::runtime()?;
        let code = match self.what {
            What::Run(run) => runtime.block_on(run.run()),
            What::Doctor(doctor) => runtime.block_on(doctor.run()),
            What::Capacity(capacity) => capacity.run(),
        };
        runtime.shutdown_background();
        code
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let root = real_directory(&self.root)?;
        let read_roots = self
            .read
            .iter()
            .map(|path| real_directory(path))
            .collect::<anyhow::Result<_>>()?;
        let create = Create {
            template_id: "base".to_owned(),
            timeout: Some(self.lifetime().as_secs()),
            network: Some(self.network(&root).await?),
            ..Create::default()
        };
        let local = LocalCreate {
            workspace: Some(root.clone()),
            read_roots,
            limits: Some(LimitsAsked {
                memory_bytes: Some(self.memory << 20),
                disk_bytes: Some(self.disk << 20),
                processors: Some(self.processors),
                command_seconds: Some(self.timeout.max(OUR_OWN)),
            }),
            ..LocalCreate::default()
        };
        let mut making = std::pin::pin!(async {
            match self.tier {
                TierName::Remote => elsewhere(create, local).await,
                TierName::Auto
                | TierName::Landlock
                | TierName::Namespace
                | TierName::Gvisor
                | TierName::VmEmulated
                | TierName::Vm => self.here(create, local).await,
            }
        });
        let place = tokio::select! {
            place = &mut making => place?,
            _ = tokio::signal::ctrl_c() => {
                if let Ok(Ok(place)) = tokio::time::timeout(LEAVING, making).await {
                    place.close().await;
                }
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        let directory = std::env::current_dir().ok();
        let directory = directory.and_then(|at| at.strip_prefix(&root).map(Path::to_owned).ok());
        let directory = directory.map(|below| place.inside(&below.to_string_lossy()));
        let directory = directory.or_else(|| place.directory().map(str::to_owned));
        let outcome = tokio::select! {
            outcome = self.show(&place, &root, directory) => outcome.map_err(|why| self.explain(why)),
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        };
        place.close().await;
        outcome
    }

    /// How long the sandbox stays when nobody asks for more.
    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.timeout + 60)
    }

    async fn here(&self, create: Create, local: LocalCreate) -> anyhow::Result<Place> {
        let key = Key::generate().context("no key could be made")?;
        let mut options = options(Workspaces::OfThisMachine, key);
        options.egress.local.extend(&self.net_local);
        options.machines = self.machines.clone().into();
        let tier = self.tier.tier();
        options.min_isolation = tier.unwrap_or(options.min_isolation);
        let local = LocalCreate {
            tier,
            min_isolation: tier,
            strongest: true,
            ..local
        };
        let place = Place::here(options, create, local).await.map_err(|error| {
            let what = format!("There is no sandbox: {error:#}.");
            UserError::new(ErrorKind::Workspace, what)
                .with_hint("`pairwright sandbox doctor` says what this machine can do.")
        })?;
        Ok(place)
    }

    /// Says what may have ended a sandbox before its command.
    fn explain(&self, why: anyhow::Error) -> anyhow::Error {
        if !matches!(why.downcast_ref(), Some(ClientError::Gone)) {
            return why;
        }
        let what = "The sandbox ended before the command did; nothing of it was kept.";
        let hint = format!(
            "Where it ran out of memory, give it more than these {} MiB with --memory.",
            self.memory
        );
        UserError::new(ErrorKind::Workspace, what)
            .with_hint(hint)
            .into()
    }

    async fn show(
        &self,
        place: &Place,
        root: &Path,
        directory: Option<String>,
    ) -> anyhow::Result<ExitCode> {
        let sandbox = &place.sandbox;
        let (program, arguments) = self.command.split_first().context("a command is needed")?;
        let command = Command {
            program: program.clone(),
            arguments: arguments.to_vec(),
            directory,
            env: BTreeMap::new(),
            input: Stdin::Nothing,
            timeout: Duration::from_secs(self.timeout),
        };
        if !self.json {
            let label = paint(style::FAINT, place.label());
            writeln!(anstream::stderr(), "{label}")?;
        }
        let started = Instant::now();
        let mut denials = Denials::new(self.json);
        let (tell, mut told) = mpsc::channel(1);
        let watched = sandbox.clone();
        let _watching = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut after = 0;
            while let Ok(found) = watched.denials(after, LOOK).await {
                after = found.last().map_or(after, |last| last.seq);
                if tell.send(found).await.is_err() {
                    return;
                }
            }
        }));
        // Whoever reads the output in a pager may take longer than the command.
        let (lasting, lifetime) = (sandbox.clone(), self.lifetime());
        let _lasting = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let _ = lasting.set_lifetime(lifetime).await;
            }
        }));
        let mut running = sandbox.start(command).await?;
        let end = loop {
            let event = tokio::select! {
                event = running.next() => event?,
                Some(found) = told.recv() => {
                    denials.show(&found)?;
                    continue;
                }
            };
            match event {
                Event::Stdout(bytes) if self.json => said("stdout", &bytes)?,
                Event::Stderr(bytes) if self.json => said("stderr", &bytes)?,
                Event::Stdout(bytes) => pass_on(io::stdout().lock(), &bytes)?,
                Event::Stderr(bytes) => pass_on(io::stderr().lock(), &bytes)?,
                Event::End(end) => break end,
            }
        };
        let took = started.elapsed();
        denials.show(&sandbox.denials(denials.last, Duration::ZERO).await?)?;
        let changes = place.changes(Bounds::default()).await?;
        if self.json {
            let ended = Ended {
                end: &end,
                tier: sandbox.tier(),
                notes: sandbox.notes(),
                ms: took.as_secs_f64() * 1e3,
                changes: &changes,
            };
            writeln!(io::stdout(), "{}", serde_json::to_string(&ended)?)?;
        } else {
            print(&changes, root)?;
            let how = match &end {
                End::Exited(0) => "done".to_owned(),
                End::Exited(code) => format!("exited with {code}"),
                End::Killed(how) => how.clone(),
                End::TimedOut => format!("killed after {} s", self.timeout),
            };
            let note = format!("{how} in {:.2} s", took.as_secs_f64());
            writeln!(anstream::stderr(), "{}", paint(style::FAINT, note))?;
        }
        Ok(match end {
            End::Exited(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
            End::Killed(_) => ExitCode::from(KILLED),
            End::TimedOut => ExitCode::from(TIMED_OUT),
        })
    }
}

/// A sandbox of the service that the settings name.
async fn elsewhere(create: Create, local: LocalCreate) -> anyhow::Result<Place> {
    let current = Current::load(Directories::find());
    let resolved = current.get();
    let settings = &resolved.settings;
    let Some(remote) = &settings.sandbox.remote else {
        let why = "The settings name no service of sandboxes.";
        return Err(UserError::new(ErrorKind::Settings, why)
            .with_hint("Set `sandbox.remote.url` and `sandbox.remote.apiKeyEnv` in ~/.config/pairwright/config.toml.")
            .into());
    };
    Place::elsewhere(remote, &settings.network.ca_certificates, create, local).await
}

fn real_directory(path: &Path) -> anyhow::Result<PathBuf> {
    let real = path
        .canonicalize()
        .with_context(|| format!("{} cannot be read", path.display()))?;
    if !real.is_dir() {
        bail!("{} is not a folder", real.display());
    }
    Ok(real)
}

/// One piece of output, as JSON.
fn said(stream: &str, bytes: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(bytes);
    writeln!(io::stdout(), "{}", serde_json::json!({ stream: text }))
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    end: &'a End,
    tier: Tier,
    notes: &'a [String],
    ms: f64,
    changes: &'a Changes,
}

/// Passes output on as it is, except to a terminal, which must not obey it.
fn pass_on(mut to: impl Write + IsTerminal, bytes: &[u8]) -> io::Result<()> {
    if to.is_terminal() {
        to.write_all(harmless(&String::from_utf8_lossy(bytes)).as_bytes())?;
    } else {
        to.write_all(bytes)?;
    }
    to.flush()
}

fn print(changes: &Changes, root: &Path) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    for file in &changes.files {
        print_file(&mut out, file, root)?;
    }
    for refused in &changes.refused {
        let line = format!("not offered: {}: {}", refused.path, refused.reason);
        writeln!(out, "{}", paint(style::WARN, line))?;
    }
    if changes.truncated {
        let line = "there are more changes than can be shown";
        writeln!(out, "{}", paint(style::WARN, line))?;
    }
    Ok(())
}

fn print_file(out: &mut impl Write, file: &FileChange, root: &Path) -> anyhow::Result<()> {
    let runs = match file.class {
        Class::Ordinary => String::new(),
        Class::RunsOnYourMachine => format!(" {}", paint(style::BAD, "runs on your machine")),
    };
    let path = harmless(&file.path);
    let original = changes::original(root, &file.path, Bounds::default().file_bytes);
    let is_too_large = original.is_none() && root.join(&file.path).is_file();
    let (what, after) = match &file.kind {
        Kind::Link { target } => {
            writeln!(
                out,
                "{} → {}{runs}",
                paint(style::TITLE, path),
                harmless(target)
            )?;
            return Ok(());
        }
        Kind::Deleted => ("deleted", &[][..]),
        Kind::Written { contents, .. } if is_too_large => ("changed", contents.as_ref()),
        Kind::Written {
            contents,
            executable,
        } => (
            written(original.as_ref(), contents, *executable),
            contents.as_ref(),
        ),
    };
    let before = original
        .map(|original| original.contents)
        .unwrap_or_default();
    writeln!(out, "{} {what}{runs}", paint(style::TITLE, path))?;
    if is_too_large {
        writeln!(out, "{}", paint(style::FAINT, "too large to compare"))?;
        return Ok(());
    }
    let (Ok(before), Ok(after)) = (str::from_utf8(&before), str::from_utf8(after)) else {
        writeln!(out, "{}", paint(style::FAINT, "not text"))?;
        return Ok(());
    };
    for line in unified(before, after).lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => style::GOOD,
            Some(b'-') => style::BAD,
            Some(b'@') => style::FAINT,
            _ => anstyle::Style::new(),
        };
        writeln!(out, "{}", paint(style, harmless(line)))?;
    }
    Ok(())
}

/// What was done to a file that is there now.
fn written(original: Option<&Original>, contents: &[u8], executable: bool) -> &'static str {
    match (original, executable) {
        (None, false) => "new",
        (None, true) => "new, executable",
        (Some(original), _) if original.executable == executable => "changed",
        (Some(original), true) if original.contents == contents => "executable now",
        (Some(original), false) if original.contents == contents => "no longer executable",
        (Some(_), true) => "changed, executable now",
        (Some(_), false) => "changed, no longer executable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_to_a_file_is_said_in_full() {
        let was = |executable| Original {
            contents: b"old".to_vec(),
            executable,
        };
        let empty = Original {
            contents: Vec::new(),
            executable: false,
        };
        for (original, contents, executable, said) in [
            (None, "new", false, "new"),
            (None, "new", true, "new, executable"),
            (Some(was(false)), "new", false, "changed"),
            (Some(was(false)), "old", true, "executable now"),
            (Some(was(true)), "old", false, "no longer executable"),
            (Some(was(false)), "new", true, "changed, executable now"),
            (
                Some(was(true)),
                "new",
                false,
                "changed, no longer executable",
            ),
            (Some(empty), "new", false, "changed"),
        ] {
            let written = written(original.as_ref(), contents.as_bytes(), executable);
            assert_eq!(written, said);
        }
    }

    #[test]
    fn a_terminal_is_given_nothing_to_obey() {
        let hostile = "\u{1b}]52;c;eA==\u{7} a\rb \u{9b}6n \u{202e}x\tok\n";
        let shown = "\\u{1b}]52;c;eA==\\u{7} ab \\u{9b}6n \\u{202e}x\tok\n";
        assert_eq!(harmless(hostile), shown);
    }
}
