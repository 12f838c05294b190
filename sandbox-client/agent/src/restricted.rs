//! Without namespaces: an ordinary process that has given up what it could, for machines that let
//! nobody make any.
//!
//! Two processes. The first, the keeper, takes away its own powers, says that signals go no
//! further than to what it starts, and forks the agent. It then waits for the agent's end or for the
//! service's, kills everything that is left, and removes the sandbox's directory. The agent wears
//! what of the file system commands may use, as it follows paths of theirs; commands wear that once
//! more, with less, and filters ([`rules`]). What Landlock knows nothing of (modes and times of files)
//! a thread of the agent does for them, below the sandbox's own directory alone ([`metadata`]).
//!
//! Holds: nothing can be written but below that directory, nothing be read but what was named, no
//! socket be made, and no process outside be signalled; whatever of this the kernel refuses is a failure
//! that names the step. Nothing outlives the keeper: it adopts what its descendants leave behind.
//! Not here: other processes' names and numbers, names and sizes of files elsewhere, and what
//! else one kernel tells every program. There is no wall before those.

mod metadata;
mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getppid, kill_process,
    kill_process_group, pidfd_open, set_child_subreaper, setrlimit, test_kill_process, wait,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, NanosleepRelativeResult, nanosleep,
    remove_capability_from_bounding_set, set_capabilities_secure_bits,
};
use rustix::time::Timespec;

use crate::jail::confine::restrict;
use crate::jail::{
    Confinement, Filters, Jail, Marks, Step, at, channel, close, hold, limit, limit_to, shut,
};
use crate::spec::{HOME_NAME, Spec, TEMPORARY_NAME, Told, Verdict, read_frame, write_frame};

/// The oldest Landlock that keeps files from being cut short.
const LEAST: i32 = 3;
/// The oldest that keeps signals in.
const SCOPES: i32 = 6;
/// Between two looks at what does not die at once.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};
/// Between two looks at what is written, and how often as long as one of them takes.
const LOOK: Duration = Duration::from_millis(250);
const RESTS: u32 = 20;
/// Rounds of killing, by whoever is not alone with what it kills.
const ROUNDS: usize = 20_000;
/// Commands of one sandbox. A limit that the kernel gives is never lower.
const MARKS: u64 = 1 << 19;

/// Whether this process can signal nothing but what it has started. Unset where it can.
static IS_SCOPED: OnceLock<()> = OnceLock::new();
static NEXT_LIMIT: AtomicU64 = AtomicU64::new(1);

/// The first process.
pub(crate) fn enter() -> ExitCode {
    let Ok(mut channel) = channel() else {
        return ExitCode::from(2);
    };
    // Control groups are in place when this byte comes.
    if channel.read_exact(&mut [0]).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(Told::Build(spec)) = read_frame(&mut channel) else {
        return ExitCode::FAILURE;
    };
    match keep(&channel, *spec) {
        Ok(()) => ExitCode::SUCCESS,
        Err(step) => {
            let _ = write_frame(&mut channel, &Verdict::Failed { step });
            ExitCode::FAILURE
        }
    }
}

fn keep(channel: &UnixStream, spec: Spec) -> Step<()> {
    let own = spec.restricted.clone();
    let own = own.ok_or_else(|| "know its own directory".to_owned())?;
    let abi = rules::abi()?;
    give_up_powers()?;
    // The terminal's keys are not for it: it would end before what it keeps.
    at("leave the session", rustix::process::setsid())?;
    close()?;
    at("adopt orphans", set_child_subreaper(Some(Pid::INIT)))?;
    if abi >= SCOPES {
        keep_signals_in(&rules::scope()?)?;
    }
    match fork()? {
        None => {
            let Ok(channel) = channel.try_clone() else {
                std::process::exit(1);
            };
            let ended = agent(channel, spec, abi);
            std::process::exit(i32::from(ended.is_err()))
        }
        Some(agent) => {
            await_end(channel, agent);
            kill_descendants();
            remove(&own);
            Ok(())
        }
    }
}

/// Waits until the agent has ended, or the service has closed its end, or somebody asks.
fn await_end(channel: &UnixStream, agent: Pid) {
    let Ok(agent) = pidfd_open(agent, PidfdFlags::empty()) else {
        return;
    };
    end_on_signals();
    // A socket tells of its other end's end without being asked.
    let mut waited = [
        PollFd::new(channel, PollFlags::empty()),
        PollFd::new(&agent, PollFlags::IN),
    ];
    let _ = poll(&mut waited, None);
}

/// Lets a request to end interrupt the wait rather than end this process before what it keeps.
#[expect(unsafe_code, reason = "no library sets a handler that does nothing")]
fn end_on_signals() {
    extern "C" fn interrupt(_: libc::c_int) {}
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let handler = interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler does nothing, so it may run at any time.
        unsafe {
            let _ = libc::signal(signal, handler);
        }
    }
}

#[expect(unsafe_code, reason = "no library forks")]
fn fork() -> Step<Option<Pid>> {
    // SAFETY: this process has one thread, so the child has all of it.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        -1 => at("start the agent", Err(io::Error::last_os_error())),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Drops all powers, also those that root is given with each program.
fn give_up_powers() -> Step<()> {
    // Users without powers have none to give up, and may not say so.
    let secure = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED;
    let _ = set_capabilities_secure_bits(secure);
    for power in CapabilitySet::all().iter() {
        let _ = remove_capability_from_bounding_set(power);
    }
    at("drop capabilities", hold(CapabilitySet::empty()))?;
    let left = at(
        "look at its capabilities",
        rustix::thread::capabilities(None),
    )?;
    match (left.effective | left.permitted | left.inheritable).is_empty() {
        true => Ok(()),
        false => Err("drop capabilities: some are left".to_owned()),
    }
}

/// Makes signals go no further than to what this process starts, and makes sure that they do not:
/// [`kill_all`] would otherwise kill all that the user has.
fn keep_signals_in(ruleset: &OwnedFd) -> Step<()> {
    at("put on Landlock", restrict(ruleset))?;
    let parent = getppid().ok_or_else(|| "know its parent".to_owned())?;
    match test_kill_process(parent) {
        Err(Errno::PERM) => {
            let _ = IS_SCOPED.set(());
            Ok(())
        }
        _ => Err("keep signals in: its parent can be signalled".to_owned()),
    }
}

/// The second process: serves until the socket closes.
fn agent(mut channel: UnixStream, spec: Spec, abi: i32) -> io::Result<()> {
    let built = build(&spec, abi);
    let verdict = match &built {
        Ok(_) => Verdict::Ready {
            landlock: true,
            lacks: lacks(abi),
        },
        Err(step) => Verdict::Failed { step: step.clone() },
    };
    write_frame(&mut channel, &verdict).and_then(|()| channel.flush())?;
    let confinement = built.map_err(io::Error::other)?;
    crate::envd::serve(Jail {
        spec,
        channel,
        upper: None,
        confinement,
        marks: Marks::Limits,
    })
}

fn build(spec: &Spec, abi: i32) -> Step<Confinement> {
    let own = spec.restricted.as_deref().unwrap_or(Path::new("/"));
    // The keeper is its parent, and this ends with it.
    shut()?;
    at("adopt orphans", set_child_subreaper(Some(Pid::INIT)))?;
    for name in [HOME_NAME, TEMPORARY_NAME] {
        let made = fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(own.join(name));
        at("make its own directories", made)?;
    }
    let (agents, commands) = (
        rules::files(spec, abi, true)?,
        rules::files(spec, abi, false)?,
    );
    match IS_SCOPED.get() {
        Some(()) => keep_signals_in(&agents)?,
        None => at("put on Landlock", restrict(&agents))?,
    }
    // Those of the user that run outside count, too.
    let mut limits = spec.limits;
    limits.processes += threads_of_user();
    limit(&limits)?;
    limit_to(Resource::Fsize, limits.disk_bytes)?;
    metadata::start(own)?;
    let filters = Filters::of(rules::refused(IS_SCOPED.get().is_some()))?;
    Ok(Confinement::by_rules(filters, commands))
}

/// What this machine's Landlock does not limit, and is refused altogether instead.
fn lacks(abi: i32) -> Vec<String> {
    let mut lacks = vec![format!("by Landlock {abi}")];
    if abi < SCOPES {
        lacks.push("commands can signal no process, not their own either".to_owned());
    }
    lacks
}

/// The next mark of a command's processes.
pub(crate) fn next_limit() -> io::Result<u64> {
    let next = NEXT_LIMIT.fetch_add(1, Ordering::Relaxed);
    match next < MARKS {
        true => Ok(next),
        false => Err(io::Error::other("the sandbox has run too many commands")),
    }
}

/// Puts a mark on this process and all it starts: a limit of queues, which it cannot make. Seccomp keeps
/// it. It ends with the agent, too. Between fork and exec, so system calls alone.
pub(crate) fn wear(limit: u64) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    Ok(setrlimit(Resource::Msgqueue, limit)?)
}

/// The living descendants of this process that have a mark.
pub(crate) fn marked(limit: u64) -> Vec<Pid> {
    let limit = limit.to_string();
    let has_it = |pid: &Pid| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero()));
        let limits = limits.unwrap_or_default();
        let mut lines = limits.lines();
        let found = lines.find_map(|line| line.strip_prefix("Max msgqueue size"));
        found.and_then(|line| line.split_whitespace().next()) == Some(limit.as_str())
    };
    descendants().into_iter().filter(has_it).collect()
}

/// The living descendants of this process.
fn descendants() -> Vec<Pid> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut children: BTreeMap<i32, Vec<(i32, bool)>> = BTreeMap::new();
    for entry in all.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // A name may have anything in it, brackets too.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' '));
        let Some(mut fields) = fields else { continue };
        let is_over = matches!(fields.next(), Some("Z" | "X"));
        let parent = fields.next().and_then(|parent| parent.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push((pid, is_over));
        }
    }
    let mut found = Vec::new();
    let mut next = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        for (pid, is_over) in children.remove(&parent).unwrap_or_default() {
            next.push(pid);
            found.extend(Pid::from_raw(pid).filter(|_| !is_over));
        }
    }
    found
}

/// Kills what this process has started, and what that has: at once where signals go no further.
pub(crate) fn kill_all() {
    if IS_SCOPED.get().is_some() {
        // To the kernel this is every process that may be signalled.
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
        return;
    }
    for pid in descendants() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Kills until no descendant is left.
fn kill_descendants() {
    for _ in 0..ROUNDS {
        kill_all();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        let _: NanosleepRelativeResult = nanosleep(&PAUSE);
    }
}

/// Removes a directory that nobody uses any more, however deep and shut its directories are: each is
/// moved to the top before it is looked into. What cannot be removed stays.
fn remove(own: &Path) {
    let mut next = vec![own.to_owned()];
    let mut n_moved = 0;
    while let Some(directory) = next.pop() {
        // All of them first: they are moved to where they are listed.
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries.collect::<Vec<_>>() {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = fs::remove_file(path);
                continue;
            }
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
            let to = own.join(format!("gone-{n_moved}"));
            n_moved += 1;
            if fs::rename(&path, &to).is_ok() {
                next.push(to);
            }
        }
        let _ = fs::remove_dir(&directory);
    }
    let _ = fs::remove_dir(own);
}

/// Waits until more is written than may be, and still more comes: there is no quota for a directory. For ever where the file
/// system itself has a limit. What lies too deep or in shut directories is not seen.
pub(crate) fn full(spec: &Spec) -> impl Future<Output = ()> + Send + use<> {
    let own = spec.restricted.clone();
    let (bytes, files) = (spec.limits.disk_bytes, spec.limits.files);
    async move {
        let Some(own) = own else {
            return std::future::pending().await;
        };
        let (mut pause, mut before) = (LOOK, None);
        loop {
            tokio::time::sleep(pause).await;
            let own = own.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let started = Instant::now();
                (Written::below(&own), started.elapsed())
            });
            let Ok((now, took)) = looked.await else {
                return;
            };
            // Who removes some of it is let go on.
            let grows = before.is_some_and(|before: Written| {
                now.bytes > before.bytes || now.files > before.files
            });
            if grows && (now.bytes > bytes || now.files > files) {
                return;
            }
            before = Some(now);
            pause = LOOK.max(took * RESTS);
        }
    }
}

/// What is in a directory, itself left out.
#[derive(Clone, Copy, Default)]
struct Written {
    bytes: u64,
    /// Directories and links, too.
    files: u64,
}

impl Written {
    fn below(own: &Path) -> Self {
        /// What the kernel counts in.
        const BLOCK: u64 = 512;
        let mut written = Self::default();
        // The agent can read no more of it than commands can.
        let mut next: Vec<PathBuf> = [HOME_NAME, TEMPORARY_NAME]
            .map(|name| own.join(name))
            .into();
        while let Some(directory) = next.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                written.files += 1;
                written.bytes += found.blocks() * BLOCK;
                if found.is_dir() {
                    next.push(entry.path());
                }
            }
        }
        written
    }
}

/// Threads of this user.
fn threads_of_user() -> u64 {
    let user = rustix::process::getuid().as_raw();
    let of = |entry: fs::DirEntry| {
        let is_users = entry.metadata().is_ok_and(|found| found.uid() == user);
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name is left out; of what comes after it, the eighteenth.
        let threads = stat.rsplit_once(") ")?.1.split(' ').nth(17)?;
        threads.parse::<u64>().ok().filter(|_| is_users)
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(of).sum()
}
