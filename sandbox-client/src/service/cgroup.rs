//! Limits of memory, processors and processes for a whole sandbox, where this machine lets us.
//!
//! Control groups of either version, below the one this service is in. Where none can be made, the
//! sandbox has only the limits of single processes, and says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Limits;

/// How our groups are named: this, the service's process, the sandbox.
const PREFIX: &str = "pairwright-";
/// A group can be removed when the kernel has let go of its last process.
const EMPTY: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The groups of one sandbox.
#[derive(Debug)]
pub(super) struct Groups {
    directories: Vec<PathBuf>,
    /// Whether the memory of the whole sandbox is limited.
    pub(super) limits_memory: bool,
    pub(super) limits_processes: bool,
    pub(super) limits_processors: bool,
}

/// A hierarchy of control groups, and this process's place in it.
struct Hierarchy {
    own: PathBuf,
    controllers: Vec<String>,
    unified: bool,
}

/// Finds the hierarchies from the kernel's own account of them.
fn hierarchies() -> Vec<Hierarchy> {
    let (Ok(mounts), Ok(own)) = (
        fs::read_to_string("/proc/self/mountinfo"),
        fs::read_to_string("/proc/self/cgroup"),
    ) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(on), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else {
            continue;
        };
        let options: Vec<&str> = after
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .split(',')
            .collect();
        let place = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let is_this = match kind {
                "cgroup2" => controllers.is_empty(),
                "cgroup" => {
                    !controllers.is_empty() && controllers.split(',').all(|c| options.contains(&c))
                }
                _ => false,
            };
            is_this.then(|| {
                (
                    controllers.to_owned(),
                    path.trim_start_matches('/').to_owned(),
                )
            })
        });
        let Some((controllers, path)) = place else {
            continue;
        };
        let unified = kind == "cgroup2";
        let own = Path::new(on).join(path);
        let controllers = match unified {
            true => fs::read_to_string(own.join("cgroup.subtree_control")).unwrap_or_default(),
            false => controllers.replace(',', " "),
        };
        found.push(Hierarchy {
            own,
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            unified,
        });
    }
    found
}

impl Groups {
    /// Makes the groups of a sandbox, with what can be limited.
    pub(super) fn make(id: &str, limits: &Limits) -> Self {
        let mut groups = Self {
            directories: Vec::new(),
            limits_memory: false,
            limits_processes: false,
            limits_processors: false,
        };
        let name = format!("{PREFIX}{}-{id}", std::process::id());
        for hierarchy in hierarchies() {
            let offers = |controller: &str| hierarchy.controllers.iter().any(|c| c == controller);
            if !(offers("memory") || offers("pids") || offers("cpu")) {
                continue;
            }
            let directory = hierarchy.own.join(&name);
            if fs::create_dir(&directory).is_err() {
                continue;
            }
            let set = |file: &str, value: String| fs::write(directory.join(file), value).is_ok();
            if offers("memory") {
                let bytes = limits.memory_bytes.to_string();
                groups.limits_memory |= match hierarchy.unified {
                    true => {
                        set("memory.swap.max", "0".to_owned());
                        set("memory.oom.group", "0".to_owned());
                        set("memory.max", bytes)
                    }
                    false => {
                        let limited = set("memory.limit_in_bytes", bytes.clone());
                        set("memory.memsw.limit_in_bytes", bytes);
                        limited
                    }
                };
            }
            if offers("pids") {
                groups.limits_processes |= set("pids.max", limits.processes.to_string());
            }
            if offers("cpu") {
                let quota = u64::from(limits.processors) * 100_000;
                groups.limits_processors |= match hierarchy.unified {
                    true => set("cpu.max", format!("{quota} 100000")),
                    false => {
                        set("cpu.cfs_period_us", "100000".to_owned())
                            && set("cpu.cfs_quota_us", quota.to_string())
                    }
                };
            }
            groups.directories.push(directory);
        }
        groups
    }

    /// Puts a process, and what it starts from now on, in the groups.
    ///
    /// # Errors
    /// When the kernel refuses: then the limits do not hold.
    pub(super) fn take(&self, pid: u32) -> io::Result<()> {
        for directory in &self.directories {
            fs::write(directory.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Removes the groups when their processes are gone.
    pub(super) async fn remove(&self) {
        let removed = async {
            for directory in &self.directories {
                while !is_removed(directory) {
                    kill(directory);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        // What is left is tried once more when it is dropped.
        let _ = tokio::time::timeout(EMPTY, removed).await;
    }
}

fn is_removed(directory: &Path) -> bool {
    !fs::remove_dir(directory).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
}

impl Drop for Groups {
    /// What was dropped rather than destroyed has processes that still die: a sandbox whose creator
    /// has left, a clone that nobody wants any more.
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.directories);
        left.retain(|directory| !is_removed(directory));
        if left.is_empty() {
            return;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "no kernel tells when a group of version 1 is empty, and there may be no runtime"
        )]
        let remove = move || {
            let until = Instant::now() + EMPTY;
            for directory in &left {
                while !is_removed(directory) && Instant::now() < until {
                    std::thread::sleep(LOOK_AGAIN);
                }
            }
        };
        // What is left is swept by the next service.
        let _ = std::thread::Builder::new().spawn(remove);
    }
}

/// Kills what is left in a group: nothing, unless a sandbox without namespaces has lost the process
/// that does so.
fn kill(directory: &Path) {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let left = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in left
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
    {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Removes the groups of services that are no more. Their processes died with them, or do now.
pub(super) fn sweep() {
    for hierarchy in hierarchies() {
        let Ok(entries) = fs::read_dir(&hierarchy.own) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let service = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
            let Some(service) = service.and_then(|pid| pid.parse::<u32>().ok()) else {
                continue;
            };
            if !Path::new(&format!("/proc/{service}")).exists() {
                kill(&entry.path());
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}
