//! Which processes a command started, however they hid: daemons with their own session included.
//!
//! Each command runs in a host-name namespace of its own, which its descendants inherit and cannot
//! leave: seccomp refuses the calls and they have no power to make another. So the namespace marks
//! them all. Process 1 makes the namespace before it forks, so that there is no moment without it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::thread::UnshareFlags;

/// Rounds of killing before everything in the sandbox is killed.
const ROUNDS: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// The mark of one command's processes.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    namespace: PathBuf,
    /// While it is open, no other command gets the same number.
    _held: Arc<File>,
}

impl Mark {
    /// Gives this thread, and what it forks from now on, a new mark.
    #[expect(unsafe_code, reason = "a system call that the library calls unsafe")]
    pub(super) fn take() -> io::Result<Self> {
        // SAFETY: a new host-name namespace changes no descriptor and no memory.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUTS)? };
        let own = "/proc/thread-self/ns/uts";
        Ok(Self {
            namespace: std::fs::read_link(own)?,
            _held: Arc::new(File::open(own)?),
        })
    }

    /// The living processes that have it. One that cannot be looked at counts: it is hiding.
    fn processes(&self) -> Vec<Pid> {
        let Ok(all) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let number = |entry: io::Result<std::fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            Pid::from_raw(name.to_str()?.parse().ok()?).filter(|pid| *pid != Pid::INIT)
        };
        all.filter_map(number)
            .filter(|pid| {
                let namespace = format!("/proc/{}/ns/uts", pid.as_raw_nonzero());
                match std::fs::read_link(namespace) {
                    Ok(found) => found == self.namespace,
                    Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
                }
            })
            .collect()
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
        // The group of process 1, to the kernel, is every process that may be signalled.
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
    }
}
