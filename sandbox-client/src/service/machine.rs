//! Virtual machines: a kernel of their own around the walls, by QEMU.
//!
//! One driver for two tiers: with KVM the processor separates the machine (`vm`), without it QEMU
//! emulates one (`vm-emulated`), which QEMU's makers do not call a boundary. Either way QEMU itself
//! runs in a sandbox of the namespace tier, without a network and with five open files: a console,
//! a port to the agent, a disk that can be read ([`disk`]), a kernel ([`kernel`]) and what it
//! starts ([`initramfs`]).
//!
//! Holds: a machine is one that answered. That KVM's device opens proves nothing: each start has a
//! time limit, and says what the console said when it ends without an answer. Not here: snapshots
//! of a started machine, so each one boots.

mod disk;
mod image;
mod initramfs;
mod kernel;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sandbox_agent::spec::{self, Access, FIRST_DESCRIPTOR, MOST_DESCRIPTORS, Mount, Program, Spec};
use tokio::process::Child;
use tokio::sync::oneshot;

use self::image::Image;
use self::kernel::Kernel;
use self::tree::{Owner, Shown, Tree};
use super::cgroup::Groups;
use super::host::{Host, is_system};
use super::sandbox::{self, Agreed, LaunchError};
use super::{Limits, Options};
use crate::tier::Tier;

/// Programs that are QEMU for this processor.
const MONITORS: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];
/// Where distributions put them, also where no search path leads.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/libexec"];
/// A machine of less memory does not start.
pub(super) const LEAST_MEMORY: u64 = 256 << 20;
/// What QEMU needs beside the machine's memory: itself, and what it translated.
const MONITOR_MEMORY: u64 = 512 << 20;
/// A machine that has not answered by then is stuck.
const BOOT: Duration = Duration::from_secs(10);
/// The same where each instruction is emulated.
const EMULATED_BOOT: Duration = Duration::from_secs(60);
/// What is kept of the console.
const CONSOLE_BYTES: usize = 4 << 10;
const CONSOLE_LINES: usize = 3;
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Directories that the guest mounts on.
const EMPTY: [&str; 4] = ["dev", "proc", "sys", "tmp"];
const KVM: &str = "/dev/kvm";

/// What virtual machines are made of, where that is not to be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machines {
    /// QEMU.
    pub monitor: Option<PathBuf>,
    /// A kernel's image. Its modules are looked for beside it and in `/lib/modules`.
    pub kernel: Option<PathBuf>,
}

/// What is ready before QEMU starts.
struct Prepared {
    monitor: PathBuf,
    kernel: Kernel,
    kernel_image: OwnedFd,
    initramfs: OwnedFd,
    image: Image,
}

/// A machine that answered.
pub(super) struct Machine {
    pub(super) process: Child,
    /// With the agent inside.
    pub(super) agreed: Agreed,
    /// To process 1 around QEMU; the machine ends when it closes.
    pub(super) control: UnixStream,
    pub(super) notes: Vec<String>,
}

fn refused(tier: Tier, why: impl Into<String>) -> LaunchError {
    LaunchError::Machine {
        tier,
        why: why.into(),
    }
}

/// The limits of QEMU as a whole, for a machine with these.
pub(super) fn around(limits: &Limits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes + MONITOR_MEMORY,
        ..*limits
    }
}

/// Starts a machine and waits for the agent in it, which gets `spec`.
pub(super) async fn start(
    options: &Options,
    tier: Tier,
    limits: &Limits,
    groups: &Groups,
    spec: Spec,
) -> Result<Machine, LaunchError> {
    if limits.memory_bytes < LEAST_MEMORY {
        let least = LEAST_MEMORY >> 20;
        let why = format!("a virtual machine needs {least} MiB of memory or more");
        return Err(LaunchError::Asked(why));
    }
    let preparing = {
        let (options, spec) = (options.clone(), spec.clone());
        tokio::task::spawn_blocking(move || prepare(&options, tier, &spec))
    };
    let prepared = preparing.await.map_err(|_| LaunchError::Ended)?;
    let prepared = prepared.map_err(|why| refused(tier, why))?;
    let mut notes = Vec::new();
    if !prepared.kernel.replaces_directories() {
        notes.push(format!(
            "its kernel {} is older than 6.6: a directory that was removed cannot be made again",
            prepared.kernel.version
        ));
    }

    let pair = || UnixStream::pair().map_err(LaunchError::Start);
    let ((console, their_console), (channel, their_channel), (own_disk, their_disk)) =
        (pair()?, pair()?, pair()?);
    let console = Console::follow(console);
    let image = prepared.image;
    // Ends when QEMU does. A machine that breaks the protocol has lost its disk.
    std::thread::spawn(move || disk::serve(image, own_disk));

    let files = [
        their_console.as_fd(),
        their_channel.as_fd(),
        their_disk.as_fd(),
        prepared.kernel_image.as_fd(),
        prepared.initramfs.as_fd(),
    ];
    let jail = jail(&prepared.monitor, tier, limits, groups, files.len());
    let (process, around) = sandbox::start(options, groups, jail).await?;
    let control = around.channel;
    send(&control, &files).map_err(LaunchError::Start)?;
    // QEMU has the only other ends now, so its end is seen here.
    drop((their_console, their_channel, their_disk));

    let patience = match tier {
        Tier::VmEmulated => EMULATED_BOOT,
        Tier::Namespace | Tier::Vm | Tier::Remote => BOOT,
    };
    match sandbox::agree(channel, spec, patience).await {
        Ok(agreed) => Ok(Machine {
            process,
            agreed,
            control,
            notes,
        }),
        Err(LaunchError::Refused(step)) => Err(refused(tier, format!("could not {step}"))),
        Err(LaunchError::Silent(limit)) => {
            let seconds = limit.as_secs();
            let why = format!(
                "it did not answer within {seconds} s{}",
                console.said().await
            );
            Err(refused(tier, why))
        }
        Err(_) => Err(refused(
            tier,
            format!("it ended before it answered{}", console.said().await),
        )),
    }
}

/// That it opens does not mean that a machine starts with it.
pub(super) fn open_kvm() -> io::Result<File> {
    File::options().read(true).write(true).open(KVM)
}

/// QEMU and the kernel that machines would be made of, where they are found.
pub(super) fn files(machines: &Machines) -> (Option<PathBuf>, Option<PathBuf>) {
    let kernel = kernel::find(machines.kernel.as_deref()).ok();
    let monitor = monitor(machines.monitor.as_deref()).ok();
    (monitor, kernel.map(|kernel| kernel.image))
}

/// Finds and makes what a machine needs.
fn prepare(options: &Options, tier: Tier, spec: &Spec) -> Result<Prepared, String> {
    if tier == Tier::Vm {
        open_kvm()
            .map_err(|error| format!("{KVM}: {error}; it needs KVM, and this user in its group"))?;
    }
    let monitor = monitor(options.machines.monitor.as_deref())?;
    let kernel = kernel::find(options.machines.kernel.as_deref())?;
    let unreadable = |error: io::Error| format!("the kernel {}: {error}", kernel.image.display());
    // The walls around QEMU let it open nothing that is outside, not even by a descriptor.
    let kernel_image = std::fs::read(&kernel.image)
        .and_then(|bytes| in_memory(&bytes))
        .map_err(unreadable)?;
    let initramfs = initramfs::build(&options.agent.program, &kernel)
        .and_then(|bytes| in_memory(&bytes))
        .map_err(|error| format!("what the kernel starts could not be made: {error}"))?;
    let image = shown(spec).map_err(|error| format!("its disk could not be made: {error}"))?;
    Ok(Prepared {
        monitor,
        kernel_image,
        kernel,
        initramfs,
        image,
    })
}

fn monitor(named: Option<&Path>) -> Result<PathBuf, String> {
    let found = match named {
        Some(path) => path.is_file().then(|| path.to_owned()),
        None => {
            let search = std::env::var_os("PATH").unwrap_or_default();
            let places = std::env::split_paths(&search).chain(PLACES.map(PathBuf::from));
            let mut all =
                places.flat_map(|place| MONITORS.map(|name| Path::new(&place).join(name)));
            all.find(|path| path.is_absolute() && path.is_file())
        }
    };
    let found = found.ok_or_else(|| match named {
        Some(path) => format!("QEMU is not at {}", path.display()),
        None => {
            "QEMU is not installed: install qemu-system-x86 (Debian) or name it with --qemu".into()
        }
    })?;
    let real = found
        .canonicalize()
        .map_err(|error| format!("{}: {error}", found.display()))?;
    if !is_system(&real) {
        let path = real.display();
        return Err(format!(
            "{path} is outside the system's directories, so it cannot be run in a sandbox"
        ));
    }
    Ok(real)
}

/// A file that has no name, which QEMU opens by its number.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("machine", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// An image of all that `spec` names of this machine.
fn shown(spec: &Spec) -> io::Result<Image> {
    let masks: HashSet<PathBuf> = spec.masks.iter().cloned().collect();
    let mut tree = Tree::new(&EMPTY);
    let of_this_machine = spec
        .mounts
        .iter()
        .filter(|mount| matches!(mount.access, Access::ReadOnly | Access::Scratch));
    let shown = |owner| Shown {
        owner,
        masks: &masks,
    };
    for Mount { path, .. } in of_this_machine {
        let owner = match is_system(path) {
            true => Owner::Root,
            false => Owner::User,
        };
        tree.add(path, shown(owner))?;
    }
    if let Some(workspace) = &spec.workspace {
        tree.add(workspace, shown(Owner::User))?;
    }
    for name in spec::ETC {
        let path = Path::new("/etc").join(name);
        if path.symlink_metadata().is_ok() {
            tree.add(&path, shown(Owner::Root))?;
        }
    }
    Image::of(tree)
}

/// The sandbox that QEMU runs in.
fn jail(monitor: &Path, tier: Tier, limits: &Limits, groups: &Groups, descriptors: usize) -> Spec {
    let mut mounts = Host::system();
    if tier == Tier::Vm {
        mounts.push(Mount {
            path: PathBuf::from(KVM),
            access: Access::Device,
        });
    }
    let outer = around(limits);
    Spec {
        workspace: None,
        mounts,
        masks: Vec::new(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        limits: spec::Limits {
            disk_bytes: 1 << 20,
            files: 1 << 10,
            processes: 256,
            open_files: 256,
            data_bytes: (!groups.limits_memory).then_some(outer.memory_bytes),
            command_ms: 0,
        },
        proxy: None,
        keep: Some(Program {
            program: monitor.to_owned(),
            arguments: arguments(tier, limits),
            descriptors,
        }),
    }
}

/// QEMU's command line. Its open files are, in order: console, port, disk, kernel, initramfs.
fn arguments(tier: Tier, limits: &Limits) -> Vec<String> {
    let [console, port, disk, kernel, initramfs] = [0, 1, 2, 3, 4].map(|n| FIRST_DESCRIPTOR + n);
    let (accelerator, processor) = match tier {
        Tier::Vm => ("kvm", "host"),
        Tier::Namespace | Tier::VmEmulated | Tier::Remote => ("tcg,tb-size=128", "max"),
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let words: [(&str, String); 15] = [
        (
            "-machine",
            "q35,hpet=off,usb=off,sata=off,smbus=off,graphics=off,vmport=off".into(),
        ),
        ("-accel", accelerator.into()),
        ("-cpu", processor.into()),
        ("-smp", limits.processors.to_string()),
        ("-m", (limits.memory_bytes >> 20).to_string()),
        (
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
        ),
        ("-chardev", format!("socket,id=console,fd={console}")),
        ("-serial", "chardev:console".into()),
        ("-chardev", format!("socket,id=port,fd={port}")),
        ("-device", "virtio-serial-pci".into()),
        ("-device", "virtserialport,chardev=port".into()),
        (
            "-blockdev",
            format!("driver=nbd,node-name=disk,read-only=on,server.type=fd,server.str={disk}"),
        ),
        ("-device", "virtio-blk-pci,drive=disk".into()),
        ("-kernel", format!("/proc/self/fd/{kernel}")),
        ("-initrd", format!("/proc/self/fd/{initramfs}")),
    ];
    let fixed = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).to_vec();
    all.extend(
        words
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]),
    );
    all.push("-append".to_owned());
    all.push(format!(
        "console=ttyS0 loglevel=3 panic=-1 random.trust_cpu=on rdinit=/init -- {} {now}",
        sandbox_agent::GUEST_ARGUMENT
    ));
    all
}

/// Sends open files to the process around QEMU.
fn send(to: &UnixStream, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        to,
        &[IoSlice::new(&[1])],
        &mut ancillary,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// The last of what QEMU and the guest's kernel said.
struct Console {
    kept: Arc<Mutex<Vec<u8>>>,
    over: oneshot::Receiver<()>,
}

impl Console {
    /// Reads until QEMU ends, so that nothing waits for room to speak.
    fn follow(mut from: UnixStream) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (ended, over) = oneshot::channel();
        let console = Self {
            kept: Arc::clone(&kept),
            over,
        };
        std::thread::spawn(move || {
            let _ended = ended;
            let mut chunk = [0; 1 << 10];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..n]);
                let over = kept.len().saturating_sub(CONSOLE_BYTES);
                kept.drain(..over);
            }
        });
        console
    }

    /// Its last lines, to end a message. Waits for them where QEMU is ending.
    async fn said(self) -> String {
        let _ = tokio::time::timeout(LAST_WORDS, self.over).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept).into_owned();
        let lines = text.lines().rev().map(|line| {
            let plain: String = line.chars().filter(|c| !c.is_control()).collect();
            plain.trim().to_owned()
        });
        let lines = lines.filter(|line| !line.is_empty()).take(CONSOLE_LINES);
        let mut lines: Vec<String> = lines.collect();
        lines.reverse();
        match lines.is_empty() {
            true => String::new(),
            false => format!("; it said: {}", lines.join(" | ")),
        }
    }
}
