//! Process 1 under gVisor's kernel: the inside half of E2B's protocol, in walls built outside.
//!
//! Around gVisor's programs an agent has built what separates every sandbox ([`crate::jail`]), and
//! its file system is what commands see here, layers and masks included; that agent also says what
//! was changed. gVisor's kernel keeps commands from that of the machine.
//!
//! The user outside is root here, as the only one there is. So process 1 calls itself another, and
//! commands are that user in a namespace of their own where they are called [`USER`]: they own what
//! the user owns, have no powers, and cannot signal, trace or read process 1 (gVisor's kernel spares
//! none for its number).
//!
//! Holds: commands wear the filters that they wear everywhere. Not here: Landlock, which gVisor
//! has not.

use std::ffi::CStr;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::process::{DumpableBehavior, Gid, Resource, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_uid,
    unshare_unsafe,
};

use crate::guest::outward;
use crate::jail::{Confinement, Filters, Jail, Marks, Step, at, channel, hold, limit_to, listen};
use crate::spec::{Limits, Spec, Told, Verdict, read_frame, write_frame};

/// Whom process 1 calls itself: nobody that owns a file.
const OWN: u32 = 1;
/// The user outside.
const USERS: Uid = Uid::ROOT;
/// What a command's user namespace has: [`crate::spec::USER`] is the user outside.
const MAP: &[u8] = b"1000 0 1";

/// Serves until the socket on its input closes.
pub(crate) fn init() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(step) => {
            let _ = writeln!(io::stderr(), "process 1 could not {step}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Step<()> {
    let mut channel = at("have its socket", channel())?;
    let outward = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3);
    let outward = UnixStream::from(at("have its way out", outward)?);
    let spec = match at("learn what to be", read_frame(&mut channel))? {
        Told::Build(spec) => *spec,
        Told::Prepare(_) => return Err("be prepared: it is not a machine".to_owned()),
    };
    let built = build(&spec);
    let verdict = match &built {
        Ok(_) => Verdict::Ready {
            landlock: false,
            lacks: lacks(),
        },
        Err(step) => Verdict::Failed { step: step.clone() },
    };
    at("answer", write_frame(&mut channel, &verdict))?;
    let (confinement, listener) = built?;
    if let Some(listener) = listener {
        // Where others send a socket along, which would mean nothing outside.
        at("answer", channel.write_all(&[1]))?;
        std::thread::spawn(move || outward::carry(listener, outward));
    }
    let jail = Jail {
        spec,
        channel,
        upper: None,
        confinement,
        marks: Marks::Groups,
    };
    at("serve", crate::envd::serve(jail))
}

fn build(spec: &Spec) -> Step<(Confinement, Option<TcpListener>)> {
    let listener = spec.proxy.map(listen).transpose()?;
    limit(&spec.limits)?;
    let own = Uid::from_raw(OWN);
    // Its files are the user's still: those are made by the effective user.
    at("be another user", set_thread_res_uid(own, USERS, own))?;
    // What is kept is for commands: to be in the group that marks them, and in a namespace.
    let kept = CapabilitySet::SETGID | CapabilitySet::SETUID;
    at("drop capabilities", hold(kept))?;
    at("forbid new privileges", set_no_new_privs(true))?;
    at(
        "forbid reading process 1",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;
    Ok((Confinement::by_filters(Filters::prepare()?), listener))
}

/// Limits what gVisor's kernel counts. Disk is limited by the file system, all memory from outside.
fn limit(limits: &Limits) -> Step<()> {
    limit_to(Resource::Core, 0)?;
    limit_to(Resource::Nproc, limits.processes)?;
    limit_to(Resource::Nofile, limits.open_files)?;
    limit_to(Resource::Fsize, limits.disk_bytes)?;
    limit_to(Resource::Memlock, 64 << 10)
}

/// What programs of today ask of a kernel and this one does not know.
fn lacks() -> Vec<String> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let asked = rustix::fs::statx(rustix::fs::CWD, c"/", flags, StatxFlags::TYPE);
    match asked {
        Ok(_) => Vec::new(),
        Err(_) => vec!["`ls -l`, `stat` and others of coreutils 9".to_owned()],
    }
}

/// Makes a child a command's: its user, in its group, without powers. Between fork and exec, so
/// system calls alone.
#[expect(unsafe_code, reason = "a system call that the library calls unsafe")]
pub(crate) fn become_user(group: u32) -> io::Result<()> {
    set_thread_groups(&[Gid::from_raw(group)])?;
    set_thread_res_uid(USERS, USERS, USERS)?;
    // SAFETY: a new user namespace changes no descriptor and no memory.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER)? };
    write(c"/proc/self/uid_map", MAP)?;
    write(c"/proc/self/gid_map", MAP)?;
    Ok(hold(CapabilitySet::empty())?)
}

fn write(path: &CStr, text: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}
