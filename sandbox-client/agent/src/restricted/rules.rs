//! What commands may do where nothing but rules keeps them: of the file system by Landlock, of
//! everything else by seccomp.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use seccompiler::{BackendError, SeccompCmpOp};

use super::{LEAST, SCOPES};
use crate::jail::confine::{LANDLOCK, OF_A_PROCESS, Refused, rule};
use crate::jail::{Step, at};
use crate::spec::{Access, ETC, HOME_NAME, Spec, TEMPORARY_NAME};

/// Of `/dev`, what has nothing of the machine in it.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Of `/proc`, what tells of the machine and of no process.
const PROC: [&str; 11] = [
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "sys/kernel/cap_last_cap",
    "sys/kernel/osrelease",
    "sys/kernel/pid_max",
    "sys/vm/overcommit_memory",
    "uptime",
    "version",
];

/// Calls that reach past what Landlock knows: queues and memory that all processes of a user share,
/// owners and attributes of files, what becomes of files elsewhere, other processes.
const NOT_PERMITTED: [libc::c_long; 28] = [
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_process_vm_readv,
    libc::SYS_ptrace,
    libc::SYS_removexattr,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    libc::SYS_process_madvise,
];
/// The same, of processors that have had them for long.
#[cfg(target_arch = "x86_64")]
const OLD: [libc::c_long; 2] = [libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [libc::c_long; 0] = [];

/// Calls that newer or older ones stand in for, which are carried out (`super::metadata`) or refused: by
/// number, as not every library has them. `statmount`, `listmount`, `setxattrat`, `removexattrat`,
/// `file_setattr`, `fchmodat2`.
const ABSENT: [libc::c_long; 6] = [457, 458, 463, 466, 469, 452];
#[cfg(target_arch = "x86_64")]
const ABSENT_OLD: [libc::c_long; 3] = [libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const ABSENT_OLD: [libc::c_long; 0] = [];

/// Calls that signal others, for a kernel that does not say whom.
const SIGNALS: [libc::c_long; 6] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// The Landlock of this kernel.
///
/// # Errors
/// When there is none, or it is too old to keep files whole.
pub(super) fn abi() -> Step<i32> {
    judge(version())
}

#[expect(unsafe_code, reason = "the library does not tell the version")]
fn version() -> io::Result<i32> {
    /// Asks for the version and makes nothing.
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel takes no attributes.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    match i32::try_from(abi) {
        Ok(abi) if abi > 0 => Ok(abi),
        _ => Err(io::Error::last_os_error()),
    }
}

fn judge(found: io::Result<i32>) -> Step<i32> {
    const NEEDED: &str = "it takes Linux 6.2 with Landlock switched on";
    match found {
        Ok(abi) if abi < LEAST => Err(format!(
            "restrict files: this kernel's Landlock is version {abi}; {NEEDED}"
        )),
        Ok(abi) => Ok(abi),
        Err(why) => Err(format!(
            "restrict files: there is no Landlock ({why}); {NEEDED}"
        )),
    }
}

/// Keeps signals in, and nothing else. Moving files between directories is what every ruleset forbids
/// that does not say otherwise.
pub(super) fn scope() -> Step<OwnedFd> {
    let made = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::from_all(ABI::V6))
        .and_then(|ruleset| ruleset.handle_access(AccessFs::Refer))
        .and_then(Ruleset::create)
        .and_then(|made| made.add_rules(path_beneath_rules(["/"], AccessFs::Refer)));
    made_whole(made)
}

/// What of the file system may be used. The agent's also has `/proc`, where it looks for processes.
pub(super) fn files(spec: &Spec, abi: i32, is_agents: bool) -> Step<OwnedFd> {
    made_whole(ruleset(spec, abi, is_agents))
}

fn made_whole(made: Result<RulesetCreated, RulesetError>) -> Step<OwnedFd> {
    let made: Option<OwnedFd> = at("prepare Landlock", made)?.into();
    made.ok_or_else(|| "prepare Landlock: the kernel has none".to_owned())
}

fn ruleset(spec: &Spec, abi: i32, is_agents: bool) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::from_read(LANDLOCK);
    let see: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let use_device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mounts = spec.mounts.iter();
    let readable =
        mounts.filter(|mount| matches!(mount.access, Access::ReadOnly | Access::Scratch));
    let readable = readable.map(|mount| mount.path.clone());
    let below = |parent: &'static str| move |name: &&str| Path::new(parent).join(name);
    let own = spec.restricted.as_deref().unwrap_or(Path::new("/nowhere"));
    let processes = is_agents.then(|| PathBuf::from("/proc"));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V3))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(ABI::V4))?;
    if abi >= SCOPES {
        ruleset = ruleset
            .set_compatibility(CompatLevel::HardRequirement)
            .scope(Scope::from_all(ABI::V6))?
            .set_compatibility(CompatLevel::BestEffort);
    }
    ruleset
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(ETC.iter().map(below("/etc")), read))?
        .add_rules(path_beneath_rules(PROC.iter().map(below("/proc")), see))?
        .add_rules(path_beneath_rules(processes, read))?
        .add_rules(path_beneath_rules(
            DEVICES.iter().map(below("/dev")),
            use_device,
        ))?
        .add_rules(path_beneath_rules(
            [HOME_NAME, TEMPORARY_NAME].map(|name| own.join(name)),
            AccessFs::from_all(LANDLOCK),
        ))
}

/// What commands are refused. `is_scoped` where the kernel keeps their signals in.
pub(super) fn refused(is_scoped: bool) -> Result<Refused, BackendError> {
    let mut refused = Refused::everywhere()?;
    let equal =
        |argument, value: i32| rule(argument, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()));
    let other =
        |argument, value: i32| rule(argument, SeccompCmpOp::Ne, u64::from(value.cast_unsigned()));
    let masked = |argument, mask, value| rule(argument, SeccompCmpOp::MaskedEq(mask), value);

    let always = NOT_PERMITTED.into_iter().chain(OLD);
    let always = always.chain(SIGNALS.into_iter().filter(|_| !is_scoped));
    refused.calls.extend(always.map(|call| (call, Vec::new())));
    let absent = ABSENT.into_iter().chain(ABSENT_OLD);
    refused.absent.extend(absent.map(|call| (call, Vec::new())));

    // Of no process but the caller's own: the user's others are outside.
    for (call, argument) in OF_A_PROCESS {
        refused.calls.insert(call, vec![other(argument, 0)?]);
    }
    /// Of one process, rather than of a group or a user.
    const PRIO_PROCESS: i32 = 0;
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let mut also = |call, rules: Vec<_>| {
        refused.calls.entry(call).or_default().extend(rules);
    };
    also(libc::SYS_setpriority, vec![other(0, PRIO_PROCESS)?]);
    also(libc::SYS_ioprio_set, vec![other(0, IOPRIO_WHO_PROCESS)?]);
    // The limit that marks a command's processes.
    let queues = i32::try_from(libc::RLIMIT_MSGQUEUE).unwrap_or_default();
    also(libc::SYS_prlimit64, vec![equal(1, queues)?]);
    also(libc::SYS_setrlimit, vec![equal(0, queues)?]);
    // Who is told of what happens to a file, by a signal.
    /// `F_SETOWN_EX` of `asm-generic/fcntl.h`.
    const F_SETOWN_EX: i32 = 15;
    also(
        libc::SYS_fcntl,
        vec![equal(1, libc::F_SETOWN)?, equal(1, F_SETOWN_EX)?],
    );
    let mut requests = vec![
        rule(1, SeccompCmpOp::Eq, 0x8901)?,
        rule(1, SeccompCmpOp::Eq, 0x8902)?,
    ];
    // Requests of file systems, which act on what is only open for reading: those of most, of XFS, of Btrfs.
    for kind in [b'f', b'X', 0x94] {
        requests.push(masked(1, 0xff00, u64::from(kind) << 8)?);
    }
    also(libc::SYS_ioctl, requests);

    // A socket of the user's is found by its path, and Landlock does not say which may be.
    refused.families.insert(libc::SYS_socket, Vec::new());
    // A pair is no way out, but for one without a connection, which sends to any address.
    const CONNECTED: [i32; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
    let mut pairs = vec![other(0, libc::AF_UNIX)?];
    for kind in (0..16).filter(|kind| !CONNECTED.contains(kind)) {
        pairs.push(masked(1, 0xf, u64::from(kind.cast_unsigned()))?);
    }
    refused.families.insert(libc::SYS_socketpair, pairs);
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landlock_that_cannot_keep_files_whole_is_none() {
        assert_eq!(judge(Ok(3)), Ok(3));
        for (found, words) in [
            (Ok(2), "version 2"),
            (
                Err(io::Error::from_raw_os_error(libc::ENOSYS)),
                "no Landlock",
            ),
            (
                Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
                "no Landlock",
            ),
        ] {
            let why = judge(found).unwrap_err();
            assert!(why.contains(words) && why.contains("Linux 6.2"), "{why}");
        }
    }

    /// Filters are for kernels that cannot be had here, too.
    #[test]
    fn signals_are_refused_where_they_cannot_be_kept_in() {
        let of = |is_scoped| refused(is_scoped).unwrap().calls;
        assert!(!of(true).contains_key(&libc::SYS_kill));
        for call in SIGNALS {
            assert_eq!(of(false).get(&call).map(Vec::len), Some(0), "{call}");
        }
    }
}
