//! Tiers that this machine was found not to have, so that not everyone who would rather have one
//! waits for it.
//!
//! That a machine hangs is known only by waiting. What was found holds while all that it depends
//! on is the same (this start of the computer, this program, QEMU, the kernel for machines, gVisor, whether
//! KVM can be opened, the machine's memory and processors), and for a day at most: a busy computer can be too slow once. That there is a
//! tier is not written down, as it shows when a sandbox of it answers.
//!
//! Holds: what is written here decides only between tiers that a creator accepts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Limits, Options, gvisor, machine};
use crate::tier::Tier;

const FILE: &str = "sandbox-tiers.json";
/// The file is not read further.
const BYTES: u64 = 64 << 10;
const HOLDS: Duration = Duration::from_secs(24 * 3_600);

type Verdicts = BTreeMap<Tier, Verdict>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    why: String,
    /// Seconds since 1970.
    found: u64,
    under: Circumstances,
}

/// What a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Circumstances {
    /// The kernel's name for this start of the computer.
    boot: String,
    program: Option<Known>,
    monitor: Option<Known>,
    kernel: Option<Known>,
    #[serde(default)]
    runsc: Option<Known>,
    kvm: bool,
    /// One that is too large for this computer says nothing of others.
    memory_bytes: u64,
    processors: u32,
}

/// A file, as far as its contents can be told apart without reading them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Known {
    fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let found = path.metadata().ok()?;
        Some(Self {
            path,
            bytes: found.len(),
            modified: found.modified().ok(),
        })
    }
}

impl Circumstances {
    fn now(options: &Options, limits: &Limits) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let (monitor, kernel) = machine::files(&options.machines);
        Self {
            boot: boot.unwrap_or_default().trim().to_owned(),
            program: Known::of(&options.agent.program),
            monitor: monitor.as_deref().and_then(Known::of),
            kernel: kernel.as_deref().and_then(Known::of),
            runsc: gvisor::find(&options.machines)
                .ok()
                .as_deref()
                .and_then(Known::of),
            kvm: machine::open_kvm().is_ok(),
            memory_bytes: limits.memory_bytes,
            processors: limits.processors,
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A file that is not there or not ours is one that says nothing.
fn read(directory: &Path) -> Verdicts {
    let read = || -> io::Result<Verdicts> {
        let mut bytes = Vec::new();
        let file = File::open(directory.join(FILE))?;
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    read().unwrap_or_default()
}

/// Why there is no sandbox of a tier, if that was found before and still holds.
pub(super) async fn recall(options: &Options, tier: Tier, limits: &Limits) -> Option<String> {
    let (options, limits) = (options.clone(), *limits);
    let recalled = tokio::task::spawn_blocking(move || {
        let verdict = read(options.state.as_deref()?).remove(&tier)?;
        let age = now().checked_sub(verdict.found)?;
        let holds = age < HOLDS.as_secs() && verdict.under == Circumstances::now(&options, &limits);
        holds.then_some(verdict.why)
    });
    recalled.await.ok().flatten()
}

/// Writes down what came of trying a tier. What cannot be written is tried again.
pub(super) async fn keep(options: &Options, tier: Tier, limits: &Limits, problem: Option<&str>) {
    let (options, limits) = (options.clone(), *limits);
    let problem = problem.map(str::to_owned);
    let kept = tokio::task::spawn_blocking(move || -> io::Result<()> {
        let Some(directory) = &options.state else {
            return Ok(());
        };
        let mut verdicts = read(directory);
        let before = verdicts.remove(&tier);
        if let Some(why) = problem {
            let under = Circumstances::now(&options, &limits);
            let found = now();
            verdicts.insert(tier, Verdict { why, found, under });
        } else if before.is_none() {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        let file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer(&file, &verdicts)?;
        file.persist(directory.join(FILE))?;
        Ok(())
    });
    let _ = kept.await;
}
