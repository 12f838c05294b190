//! What a command gets on top of the namespaces: Landlock and seccomp.
//!
//! Both are prepared by process 1 and put on by the child between fork and exec, with system calls
//! alone; most filters may be inherited from process 1 instead. Seccomp says "not permitted" or "no such call" rather than killing, so that programs can
//! do without. It is a list of what is refused, not of what is allowed: the kernel shows what it
//! shows to any user, and the list takes away what has let users become more than that.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    path_beneath_rules,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

use super::{Step, at};
use crate::spec::{Access, HOME, Spec};

/// The newest Landlock this was written for; older kernels do what they can.
pub(crate) const LANDLOCK: ABI = ABI::V5;

/// Refused with "operation not permitted".
const NOT_PERMITTED: [libc::c_long; 48] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_writev,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Calls that change another process, with the argument that names it. Commands are the same user as
/// process 1, which could otherwise be given limits that end it.
pub(crate) const OF_A_PROCESS: [(libc::c_long, u8); 7] = [
    (libc::SYS_ioprio_set, 1),
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
];

/// Every flag of `clone` that makes a namespace.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The part of it that is the same in every sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    /// What refuses nothing that process 1 does itself to start a command, which may wear it then.
    first: Arc<[BpfProgram]>,
    /// The rest: process 1 makes the namespaces that mark commands.
    last: Arc<[BpfProgram]>,
}

impl Filters {
    pub(crate) fn prepare() -> Step<Self> {
        Self::of(Refused::everywhere())
    }

    pub(crate) fn of(refused: Result<Refused, BackendError>) -> Step<Self> {
        let first = refused.and_then(Refused::programs);
        let unshare = Rules::from([(libc::SYS_unshare, Vec::new())]);
        let last = program(unshare, errno(libc::EPERM));
        Ok(Self {
            first: at("prepare seccomp", first)?.into(),
            last: Arc::new([at("prepare seccomp", last)?]),
        })
    }
}

/// Put on by each command.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    filters: Filters,
    /// `None` where the kernel has no Landlock.
    landlock: Option<Arc<OwnedFd>>,
}

impl Confinement {
    pub(super) fn prepare(filters: Filters, spec: &Spec) -> Step<Self> {
        let landlock = at("prepare Landlock", landlock(spec))?;
        Ok(Self {
            filters,
            landlock: landlock.map(Arc::new),
        })
    }

    /// Of a kernel that has no Landlock.
    pub(crate) fn by_filters(filters: Filters) -> Self {
        Self {
            filters,
            landlock: None,
        }
    }

    /// Of rules that are made already.
    pub(crate) fn by_rules(filters: Filters, landlock: OwnedFd) -> Self {
        Self {
            filters,
            landlock: Some(Arc::new(landlock)),
        }
    }

    pub(super) fn has_landlock(&self) -> bool {
        self.landlock.is_some()
    }

    /// Puts the first filters on this thread, for good, and so on all that it starts. The kernel takes a
    /// third of a millisecond for them, and an emulated machine's three.
    pub(crate) fn begin(&self) -> io::Result<()> {
        apply(&self.filters.first)
    }

    /// Restricts this process for good. Allocates nothing, as it runs between fork and exec.
    pub(crate) fn put_on(&self) -> io::Result<()> {
        self.restrict()?;
        apply(&self.filters.first)?;
        apply(&self.filters.last)
    }

    /// The same for one that a thread started which had begun.
    pub(crate) fn put_on_rest(&self) -> io::Result<()> {
        self.restrict()?;
        apply(&self.filters.last)
    }

    fn restrict(&self) -> io::Result<()> {
        self.landlock.as_deref().map_or(Ok(()), restrict)
    }
}

fn apply(filters: &[BpfProgram]) -> io::Result<()> {
    let mut filters = filters.iter();
    filters.try_for_each(|filter| {
        seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error())
    })
}

/// Puts a ruleset on this thread and what it starts, for good.
#[expect(unsafe_code, reason = "no library puts on a prepared ruleset")]
pub(crate) fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes two numbers; the descriptor is open.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reading everything that is there; writing where writing is meant.
fn landlock(spec: &Spec) -> Result<Option<OwnedFd>, landlock::RulesetError> {
    let writable = spec
        .mounts
        .iter()
        .filter(|mount| mount.access != Access::ReadOnly)
        .map(|mount| mount.path.as_path())
        .chain(spec.workspace.as_deref())
        .chain([HOME, "/tmp", "/var/tmp", "/dev", "/proc"].map(std::path::Path::new));
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(LANDLOCK)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(LANDLOCK)))?;
    Ok(ruleset.into())
}

/// By system call, any of these; always where there is none.
pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// System calls that commands are refused, by what they are told.
pub(crate) struct Refused {
    /// "Operation not permitted".
    pub(crate) calls: Rules,
    /// "No such call".
    pub(crate) absent: Rules,
    /// "No such family of addresses".
    pub(crate) families: Rules,
}

impl Refused {
    /// What is refused in every sandbox.
    pub(crate) fn everywhere() -> Result<Self, BackendError> {
        let mut calls: Rules = NOT_PERMITTED
            .into_iter()
            .map(|call| (call, Vec::new()))
            .collect();
        let namespaces = (0..32)
            .map(|bit| 1u64 << bit)
            .filter(|bit| u64::from(NAMESPACES.cast_unsigned()) & bit != 0)
            .map(|bit| rule(0, SeccompCmpOp::MaskedEq(bit), bit))
            .collect::<Result<_, _>>()?;
        calls.insert(libc::SYS_clone, namespaces);
        // Typing for the user, and pasting for them.
        let terminal = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCCONS]
            .into_iter()
            .map(|request| rule(1, SeccompCmpOp::Eq, request))
            .collect::<Result<_, _>>()?;
        calls.insert(libc::SYS_ioctl, terminal);
        let not_default = vec![SeccompRule::new(vec![
            condition(0, SeccompCmpOp::Ne, 0)?,
            condition(0, SeccompCmpOp::Ne, 0xffff_ffff)?,
        ])?];
        calls.insert(libc::SYS_personality, not_default);
        for (call, argument) in OF_A_PROCESS {
            calls.insert(call, vec![rule(argument, SeccompCmpOp::Eq, 1)?]);
        }
        let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6]
            .into_iter()
            .map(|family| condition(0, SeccompCmpOp::Ne, u64::from(family.cast_unsigned())))
            .collect::<Result<Vec<_>, _>>()?;
        // Asking for a family is enough for the kernel to load what it is made of.
        let families = vec![SeccompRule::new(families)?];
        Ok(Self {
            calls,
            // A `clone3` hides its flags behind a pointer; without it, programs use `clone`.
            absent: Rules::from([(libc::SYS_clone3, Vec::new())]),
            families: Rules::from([
                (libc::SYS_socket, families.clone()),
                (libc::SYS_socketpair, families),
            ]),
        })
    }

    fn programs(self) -> Result<Vec<BpfProgram>, BackendError> {
        [
            (self.calls, errno(libc::EPERM)),
            (self.absent, errno(libc::ENOSYS)),
            (self.families, errno(libc::EAFNOSUPPORT)),
        ]
        .into_iter()
        .map(|(rules, action)| program(rules, action))
        .chain([Ok(other_numbering())])
        .collect()
    }
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.cast_unsigned())
}

/// A filter of this machine's own calls; those of another architecture kill.
pub(crate) fn program(rules: Rules, action: SeccompAction) -> Result<BpfProgram, BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

pub(crate) fn rule(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(argument, operator, value)?])
}

/// Refuses the calls of the x32 numbering, which are the same calls by numbers the rules above do
/// not name. (32-bit calls have another architecture, for which those filters kill.)
fn other_numbering() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let code = |class: u32| u16::try_from(class).unwrap_or_default();
    let step = |class: u32, jt: u8, k: u32| sock_filter {
        code: code(class),
        jt,
        jf: 0,
        k,
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    vec![
        // The call's number is the first word of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET | libc::BPF_K, 0, refuse),
    ]
}
