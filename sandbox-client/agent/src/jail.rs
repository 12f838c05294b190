//! The walls: namespaces, a file system of what was named, and nothing to get out with.
//!
//! In two processes, because whoever unshares the process namespace is not in it: [`enter`] has
//! new user, mount, process, network, IPC, host-name and control-group namespaces and starts
//! [`init`], which is process 1. Process 1 builds the file system with the powers of the outer
//! user namespace, forbids further ones, and moves into an inner user namespace as an ordinary
//! user: no process after that owns any mount or network. Commands also get Landlock and seccomp
//! when they are started ([`confine`]).
//!
//! Holds: process 1 cannot be read, traced or signalled from inside (not dumpable; the kernel
//! spares process 1). Whatever of this the kernel refuses is a failure that names the step; no
//! sandbox starts with less.

pub(crate) mod confine;
mod keep;
mod root;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs, unshare_unsafe,
};

pub(crate) use self::confine::{Confinement, Filters};
pub(crate) use self::root::HOST;
use self::root::Root;
use crate::INIT_ARGUMENT;
use crate::handover::hand_over;
use crate::spec::{Boot, Limits, Mount, Spec, Told, USER, Verdict, read_frame, write_frame};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What process 1 has when the walls stand.
pub(crate) struct Jail {
    pub(crate) spec: Spec,
    /// The socket to the service.
    pub(crate) channel: UnixStream,
    /// The layer that holds what was changed in the workspace. Has no path inside.
    pub(crate) upper: Option<OwnedFd>,
    pub(crate) confinement: Confinement,
    pub(crate) marks: Marks,
}

/// What marks the processes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// A host-name namespace of theirs.
    Namespaces,
    /// A group that they are in besides their own, where `/proc` does not tell namespaces.
    Groups,
    /// A limit of theirs that they cannot change, where they can be given neither.
    Limits,
}

/// A step that failed, in words.
pub(crate) type Step<T> = Result<T, String>;

/// Names the step of a failure.
pub(crate) fn at<T, E: std::fmt::Display>(step: &str, outcome: Result<T, E>) -> Step<T> {
    outcome.map_err(|error| format!("{step}: {error}"))
}

/// The first process: unshares, starts process 1 and waits for it.
pub(crate) fn enter() -> ExitCode {
    let Ok(mut channel) = channel() else {
        return ExitCode::from(2);
    };
    // Control groups are in place when this byte comes.
    if channel.read_exact(&mut [0]).is_err() {
        return ExitCode::FAILURE;
    }
    match unshare_and_start() {
        Ok(code) => code,
        Err(step) => {
            // What a socket still holds when it closes takes along what was said through it.
            let _ = read_frame::<Told>(&mut channel);
            let _ = write_frame(&mut channel, &Verdict::Failed { step });
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn channel() -> std::io::Result<UnixStream> {
    let stdin = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    Ok(UnixStream::from(stdin))
}

fn unshare_and_start() -> Step<ExitCode> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(
        UnshareFlags::NEWUSER
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWCGROUP,
    )
    .map_err(|error| format!("make user, mount, process and network namespaces: {error}"))?;
    map_user(0, uid.as_raw(), gid.as_raw())?;
    #[expect(
        clippy::disallowed_methods,
        reason = "starts this program again, as process 1"
    )]
    let mut init = Command::new("/proc/self/exe");
    let status = at("start process 1", init.arg(INIT_ARGUMENT).status())?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

#[expect(unsafe_code, reason = "a system call that the library calls unsafe")]
fn unshare(namespaces: UnshareFlags) -> std::io::Result<()> {
    // SAFETY: open files stay shared, so no descriptor changes its meaning.
    unsafe { unshare_unsafe(namespaces) }.map_err(Into::into)
}

/// Makes the user outside be `inside` in the user namespace just made.
fn map_user(inside: u32, uid: u32, gid: u32) -> Step<()> {
    let write = |file: &str, text: String| at(&format!("write {file}"), std::fs::write(file, text));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{inside} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{inside} {gid} 1"))
}

/// Process 1: builds the walls, answers, and serves until the socket closes.
pub(crate) fn init() -> ExitCode {
    let Ok(mut channel) = channel() else {
        return ExitCode::from(2);
    };
    let mut prepared = None;
    let spec = loop {
        match read_frame(&mut channel) {
            Ok(Told::Build(spec)) => break *spec,
            Ok(Told::Prepare(boot)) if prepared.is_none() => {
                let Ok(outcome) = prepare(&mut channel, boot) else {
                    return ExitCode::FAILURE;
                };
                prepared = Some(outcome);
            }
            Ok(Told::Prepare(_)) | Err(_) => return ExitCode::FAILURE,
        }
    };
    let prepared = prepared.map_or_else(|| Prepared::prepare(Vec::new()), Ok);
    let built = prepared.and_then(|prepared| prepared.build(&spec));
    let verdict = match &built {
        Ok(built) => Verdict::Ready {
            landlock: built.confinement.has_landlock(),
            lacks: Vec::new(),
        },
        Err(step) => Verdict::Failed { step: step.clone() },
    };
    let answered = write_frame(&mut channel, &verdict).and_then(|()| channel.flush());
    let (Ok(built), Ok(())) = (built, answered) else {
        return ExitCode::FAILURE;
    };
    let Built {
        upper,
        confinement,
        proxy,
    } = built;
    if let Some(proxy) = proxy
        && hand_over(&channel, &proxy).is_err()
    {
        return ExitCode::FAILURE;
    }
    if let Some(program) = &spec.keep {
        return keep::keep(program, &spec.env, channel, confinement, upper);
    }
    let jail = Jail {
        spec,
        channel,
        upper,
        confinement,
        marks: Marks::Namespaces,
    };
    match crate::envd::serve(jail) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Builds what is the same in every sandbox of a machine, and hands over the way to the proxy.
fn prepare(channel: &mut UnixStream, boot: Boot) -> std::io::Result<Prepared> {
    let prepared = Prepared::prepare(boot.mounts).and_then(|p| Ok((p, listen(boot.proxy)?)));
    let verdict = match &prepared {
        Ok(_) => Verdict::Ready {
            landlock: false,
            lacks: Vec::new(),
        },
        Err(step) => Verdict::Failed { step: step.clone() },
    };
    write_frame(channel, &verdict)?;
    let (prepared, proxy) = prepared.map_err(std::io::Error::other)?;
    hand_over(channel, &proxy)?;
    Ok(prepared)
}

/// The way to the service's proxy, before anything inside could take its place.
pub(crate) fn listen(port: u16) -> Step<TcpListener> {
    at("listen for the proxy", TcpListener::bind((LOOPBACK, port)))
}

/// The walls as they were built.
struct Built {
    upper: Option<OwnedFd>,
    confinement: Confinement,
    proxy: Option<TcpListener>,
}

/// What of the walls stands before it is known whose they are.
struct Prepared {
    root: Root,
    filters: Filters,
}

impl Prepared {
    fn prepare(mounts: Vec<Mount>) -> Step<Self> {
        at("set the host name", rustix::system::sethostname(b"sandbox"))?;
        raise_loopback()?;
        Ok(Self {
            root: root::prepare(mounts)?,
            filters: Filters::prepare()?,
        })
    }

    fn build(self, spec: &Spec) -> Step<Built> {
        let proxy = spec.proxy.map(listen).transpose()?;
        let upper = self.root.finish(spec)?;
        match spec.keep.as_ref().and_then(|kept| kept.bundle.as_ref()) {
            None => {
                enter_inner_user()?;
                limit(&spec.limits)?;
                limit_to(Resource::Fsize, spec.limits.disk_bytes)?;
            }
            Some(bundle) => {
                keep::lay_out(bundle)?;
                shut()?;
                limit(&spec.limits)?;
            }
        }
        let confinement = Confinement::prepare(self.filters, spec)?;
        Ok(Built {
            upper,
            confinement,
            proxy,
        })
    }
}

/// Leaves the user namespace that owns the mounts for one that owns nothing.
///
/// The outer one then has as many descendants as it may have, so no process inside can make
/// another and be mighty in it. Root has set that limit in [`root::prepare`].
fn enter_inner_user() -> Step<()> {
    at(
        "make the inner user namespace",
        unshare(UnshareFlags::NEWUSER),
    )?;
    map_user(USER, 0, 0)?;
    // What is kept is worth nothing outside the inner namespace, which owns nothing but processes:
    // to give each command a namespace that marks it, to read the marks, and to kill by them.
    let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE | CapabilitySet::KILL;
    at("drop capabilities", hold(kept))?;
    shut()
}

/// Drops all powers but these.
pub(crate) fn hold(kept: CapabilitySet) -> rustix::io::Result<()> {
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

/// Lets nothing that process 1 starts become more than it, read it, or outlive the first process.
pub(crate) fn shut() -> Step<()> {
    close()?;
    // Changing users forgets this, so it comes last.
    at(
        "die with the first process",
        set_parent_process_death_signal(Some(Signal::KILL)),
    )
}

/// The same, but for outliving.
pub(crate) fn close() -> Step<()> {
    at("forbid new privileges", set_no_new_privs(true))?;
    at(
        "forbid reading process 1",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )
}

/// Limits this process, but for how long files can be.
pub(crate) fn limit(limits: &Limits) -> Step<()> {
    limit_to(Resource::Core, 0)?;
    limit_to(Resource::Nproc, limits.processes)?;
    limit_to(Resource::Nofile, limits.open_files)?;
    if let Some(bytes) = limits.data_bytes {
        limit_to(Resource::Data, bytes)?;
    }
    limit_to(Resource::Memlock, 64 << 10)?;
    limit_to(Resource::Msgqueue, 1 << 20)
}

pub(crate) fn limit_to(what: Resource, most: u64) -> Step<()> {
    // What is stricter already stays.
    let most = getrlimit(what).maximum.map_or(most, |own| own.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    at(&format!("limit {what:?}"), setrlimit(what, limit))
}

/// Brings up the loopback of the new network, which has nothing else: test suites use it.
#[expect(unsafe_code, reason = "no library has this request without unsafe")]
fn raise_loopback() -> Step<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    use std::os::fd::AsRawFd;

    let socket = at(
        "open a socket",
        socket(AddressFamily::INET, SocketType::DGRAM, None),
    )?;
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the request is a whole `ifreq` with a name that ends in a zero, and outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    match done {
        0 => Ok(()),
        _ => at(
            "bring up the loopback",
            Err(std::io::Error::last_os_error()),
        ),
    }
}
