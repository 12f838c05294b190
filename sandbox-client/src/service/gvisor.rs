//! gVisor: a kernel of its own, as a program, between a command and this machine's.
//!
//! `runsc` runs in a sandbox like those of the namespace tier, as QEMU does: with its namespaces, file
//! system, layers, masks and limits, and without a network. It builds walls of its own there (an empty
//! root, a user namespace, system call filters), starts the agent as process 1 of its kernel
//! ([`sandbox_agent::GVISOR_ARGUMENT`]), and serves it the file system that the sandbox around shows.
//! The agent speaks on its standard input and carries what goes out on its standard output. What was
//! changed is told by process 1 around, which gVisor's kernel has no part in.
//!
//! Holds: nothing of it is outside that sandbox, so nothing outlives the service, and there is nothing
//! to sweep.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_agent::GVISOR_ARGUMENT;
use sandbox_agent::spec::{self, Access, Bundle, Mount, Program, Spec};
use serde_json::json;
use tokio::process::Child;

use super::cgroup::Groups;
use super::console::Console;
use super::host::find_program;
use super::sandbox::{self, Agreed, LaunchError};
use super::{Limits, Machines, Options};
use crate::tier::Tier;

const PROGRAM: [&str; 1] = ["runsc"];
/// Where `runsc` has its bundle and the state that it keeps. Commands see an empty directory there.
const OWN: &str = "/run/gvisor";
/// A kernel that has not answered by then is stuck.
const START: Duration = Duration::from_secs(15);
/// What gVisor needs beside what commands do.
const MEMORY: u64 = 256 << 20;
/// The machine's threads for each process that its kernel allows, and for itself.
const THREADS: u64 = 8;
const OWN_THREADS: u64 = 2_048;
const OPEN_FILES: u64 = 1 << 16;

/// A sandbox under gVisor's kernel that answered.
pub(super) struct Made {
    pub(super) process: Child,
    /// With process 1 around, which says what was changed. All ends when it closes.
    pub(super) control: UnixStream,
    pub(super) agreed: Agreed,
    /// What comes out of the sandbox.
    pub(super) outward: UnixStream,
    pub(super) groups: Groups,
}

impl Made {
    pub(super) async fn end(mut self) {
        let _ = self.process.kill().await;
        self.groups.remove().await;
    }
}

/// Finds gVisor.
///
/// # Errors
/// Why there is none, with what would help.
pub(super) fn find(machines: &Machines) -> Result<PathBuf, String> {
    let named = machines.runsc.as_deref();
    find_program(named, &PROGRAM)?.ok_or_else(|| match named {
        Some(path) => format!("gVisor is not at {}", path.display()),
        None => "gVisor is not installed: install runsc or name it with --runsc".to_owned(),
    })
}

/// Makes a sandbox and waits for the agent in it, which gets what of `spec` is not file system.
pub(super) async fn start(
    options: &Options,
    limits: &Limits,
    id: &str,
    spec: Spec,
) -> Result<Made, LaunchError> {
    let refused = |why| LaunchError::Machine {
        tier: Tier::Gvisor,
        why,
    };
    let runsc = find(&options.machines).map_err(refused)?;
    let agent = fs::canonicalize(&options.agent.program).map_err(LaunchError::Start)?;
    let pair = || UnixStream::pair().map_err(LaunchError::Start);
    let (channel, their_channel) = pair()?;
    let (outward, their_outward) = pair()?;
    let (console, their_console) = pair()?;
    let groups = Groups::make(id, &around(limits));
    let started = sandbox::start(options, &groups, jail(runsc, &agent, &spec)).await;
    let (mut process, control) = match started {
        Ok((process, agreed)) => (process, agreed.channel),
        Err(why) => {
            groups.remove().await;
            return Err(why);
        }
    };
    let files = [
        their_channel.as_fd(),
        their_outward.as_fd(),
        their_console.as_fd(),
    ];
    let sent = sandbox::send(&control, &files);
    // gVisor has the only other ends then, so its end is seen here.
    drop((their_channel, their_outward, their_console));
    let mut console = Console::follow(console);
    let agreed = match sent {
        Ok(()) => sandbox::agree(channel, inside(spec), START).await,
        Err(error) => Err(LaunchError::Start(error)),
    };
    let why = match agreed {
        Ok(agreed) => {
            return Ok(Made {
                process,
                control,
                agreed,
                outward,
                groups,
            });
        }
        Err(LaunchError::Refused(step)) => format!("could not {step}"),
        Err(LaunchError::Silent(limit)) => {
            let said = console.said().await;
            format!("it did not answer within {} s{said}", limit.as_secs())
        }
        Err(_) => format!("it ended before it answered{}", console.said().await),
    };
    let _ = process.kill().await;
    groups.remove().await;
    Err(refused(why))
}

fn threads(processes: u64) -> u64 {
    THREADS * processes + OWN_THREADS
}

/// The limits of all of gVisor, for a sandbox with these. Its kernel counts processes itself.
fn around(limits: &Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes + MEMORY,
        processes: threads(limits.processes),
        ..*limits
    }
}

/// The sandbox that gVisor runs in.
fn jail(runsc: PathBuf, agent: &Path, spec: &Spec) -> Spec {
    let mut mounts = spec.mounts.clone();
    let is_shown = mounts
        .iter()
        .any(|mount| mount.access == Access::ReadOnly && agent.starts_with(&mount.path));
    if !is_shown {
        mounts.push(Mount {
            path: agent.to_owned(),
            access: Access::ReadOnly,
        });
    }
    mounts.push(Mount {
        path: OWN.into(),
        access: Access::Empty,
    });
    let state = format!("--root={OWN}/state");
    let arguments = [
        &state,
        "--rootless",
        "--ignore-cgroups",
        "--network=none",
        "--file-access=shared",
        "--overlay2=none",
        "run",
        "--bundle",
        OWN,
        "sandbox",
    ];
    Spec {
        workspace: spec.workspace.clone(),
        mounts,
        masks: spec.masks.clone(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        limits: spec::Limits {
            processes: threads(spec.limits.processes),
            open_files: OPEN_FILES,
            data_bytes: None,
            command_ms: 0,
            ..spec.limits
        },
        proxy: None,
        keep: Some(Program {
            program: runsc,
            arguments: arguments.map(str::to_owned).into(),
            descriptors: 3,
            bundle: Some(Bundle {
                directory: OWN.into(),
                config: bundle(agent),
            }),
        }),
        restricted: None,
    }
}

/// What the agent under gVisor's kernel is told. What it sees was built around it.
fn inside(spec: Spec) -> Spec {
    Spec {
        mounts: Vec::new(),
        masks: Vec::new(),
        ..spec
    }
}

/// What `runsc` is to run, as the Open Container Initiative's runtime specification has it.
fn bundle(agent: &Path) -> String {
    // For process 1 alone, to be another user and to mark commands.
    let powers = ["CAP_SETGID", "CAP_SETUID"];
    // Else gVisor would keep these in memory that no limit of the disk counts.
    let shared = ["/tmp", "/dev/shm"].map(|path| {
        json!({ "destination": path, "type": "bind", "source": path, "options": ["rbind", "rw"] })
    });
    let [tmp, shm] = shared;
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    let proc = json!({ "destination": "/proc", "type": "proc", "source": "proc" });
    let hidden = json!({
        "destination": OWN, "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=0555"],
    });
    let config = json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": [agent, GVISOR_ARGUMENT],
            "env": [],
            "cwd": "/",
            "capabilities": { "bounding": powers, "effective": powers, "permitted": powers },
            "noNewPrivileges": true,
        },
        "root": { "path": "/" },
        "hostname": "sandbox",
        "mounts": [proc, hidden, tmp, shm],
        "linux": { "namespaces": namespaces },
    });
    config.to_string()
}
