//! Which processes a command started, however they hid: daemons with their own session included.
//!
//! Each command runs in a host-name namespace of its own, which its descendants inherit and cannot
//! leave: seccomp refuses the calls and they have no power to make another. So the namespace marks
//! them all. Process 1 makes the namespace before it forks, so that there is no moment without it.
//! gVisor's `/proc` tells no namespaces. There the mark is a group of its own, which they cannot leave
//! either; the child enters it before it runs anything. Where there can be neither ([`restricted`]) it
//! is a limit of the child's, of what it cannot use, which seccomp keeps as it is; it counts only
//! among the descendants of the agent, as others' may have it by chance.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::thread::UnshareFlags;

use crate::jail::Marks;
use crate::restricted;

/// Rounds of killing before everything in the sandbox is killed.
const ROUNDS: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// The mark of one command's processes.
#[derive(Debug, Clone)]
pub(super) enum Mark {
    Namespace {
        path: PathBuf,
        /// While it is open, no other command gets the same number.
        _held: Arc<File>,
    },
    Group(u32),
    Limit(u64),
}

/// What a child puts on to have its mark.
#[derive(Debug, Clone, Copy)]
pub(super) enum Worn {
    Nothing,
    Group(u32),
    Limit(u64),
}

/// Groups of commands begin here; none that a system gives out is so high.
const FIRST_GROUP: u32 = 0x4000_0000;
static NEXT_GROUP: AtomicU32 = AtomicU32::new(FIRST_GROUP);

impl Mark {
    /// Makes a new mark. What this thread forks from now on has it, unless it is one to be worn.
    pub(super) fn take(marks: Marks) -> io::Result<Self> {
        match marks {
            Marks::Namespaces => Self::namespace(),
            Marks::Groups => Ok(Self::Group(NEXT_GROUP.fetch_add(1, Ordering::Relaxed))),
            Marks::Limits => restricted::next_limit().map(Self::Limit),
        }
    }

    pub(super) fn worn(&self) -> Worn {
        match self {
            Self::Namespace { .. } => Worn::Nothing,
            Self::Group(group) => Worn::Group(*group),
            Self::Limit(limit) => Worn::Limit(*limit),
        }
    }

    #[expect(unsafe_code, reason = "a system call that the library calls unsafe")]
    fn namespace() -> io::Result<Self> {
        // SAFETY: a new host-name namespace changes no descriptor and no memory.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUTS)? };
        let own = "/proc/thread-self/ns/uts";
        Ok(Self::Namespace {
            path: std::fs::read_link(own)?,
            _held: Arc::new(File::open(own)?),
        })
    }

    /// The living processes that have it. One that cannot be looked at counts: it is hiding.
    fn processes(&self) -> Vec<Pid> {
        if let Self::Limit(limit) = self {
            return restricted::marked(*limit);
        }
        let Ok(all) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let number = |entry: io::Result<std::fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            Pid::from_raw(name.to_str()?.parse().ok()?).filter(|pid| *pid != Pid::INIT)
        };
        all.filter_map(number)
            .filter(|pid| self.is_on(*pid))
            .collect()
    }

    fn is_on(&self, pid: Pid) -> bool {
        let own = |file| format!("/proc/{}/{file}", pid.as_raw_nonzero());
        match self {
            Self::Namespace { path, .. } => match std::fs::read_link(own("ns/uts")) {
                Ok(found) => found == *path,
                Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            },
            Self::Group(group) => std::fs::read_to_string(own("status")).is_ok_and(|status| {
                let is_over = |line: &str| line.starts_with("State:") && line.contains('Z');
                let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
                let mut groups = groups.unwrap_or_default().split_whitespace();
                groups.any(|found| found == group.to_string()) && !status.lines().any(is_over)
            }),
            // These are not looked for one by one.
            Self::Limit(_) => false,
        }
    }

    /// Sends a signal to all of them, once.
    pub(super) fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills until none is left.
    ///
    /// A process that forks faster than it can be listed is met by killing everything in the
    /// sandbox but process 1, which the kernel does at once.
    pub(super) async fn kill(&self) {
        for _ in 0..ROUNDS {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for pid in processes {
                let _ = kill_process(pid, Signal::KILL);
            }
            tokio::time::sleep(PAUSE).await;
        }
        match self {
            Self::Limit(_) => restricted::kill_all(),
            // The group of process 1, to the kernel, is every process that may be signalled.
            _ => drop(kill_process_group(Pid::INIT, Signal::KILL)),
        }
    }
}
