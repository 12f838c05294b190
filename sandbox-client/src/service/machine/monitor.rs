//! QEMU, in a sandbox of its own: how it is found, told what to be, and given its open files.
//!
//! Holds: it has no network and no files but those it is sent; the walls around it let it open
//! nothing that is outside, not even by a descriptor, so what it reads comes in files without names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use sandbox_agent::spec::{
    self, AGENT_PORT, Access, Boot, Disk, FIRST_DESCRIPTOR, Mount, OUTWARD_PORT, Program, Spec,
};
use tokio::process::Child;

use super::disk::{self, Contents};
use super::faults::Fault;
use super::image::Image;
use super::qmp::Qmp;
use super::{KVM, Shape};
use crate::service::cgroup::Groups;
use crate::service::console::Console;
use crate::service::host::{Host, find_program};
use crate::service::sandbox::{self, Agreed, LaunchError};
use crate::service::{Limits, Options};
use crate::tier::Tier;

/// Programs that are QEMU for this processor.
const MONITORS: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];
/// What QEMU needs beside the machine's memory: itself, and what it translated.
const MEMORY: u64 = 512 << 20;
/// What QEMU may write to one file; the state of a machine's devices has a third of a MiB.
const WRITES: u64 = 16 << 20;
/// How long QEMU may take for one step of what it is told.
const PATIENCE: Duration = Duration::from_secs(20);

/// Finds QEMU.
///
/// # Errors
/// Why there is none, with what would help.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    let found = find_program(named, &MONITORS)?;
    found.ok_or_else(|| match named {
        Some(path) => format!("QEMU is not at {}", path.display()),
        None => {
            "QEMU is not installed: install qemu-system-x86 (Debian) or name it with --qemu".into()
        }
    })
}

/// A file that has no name, which QEMU opens by its number.
pub(super) fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("machine", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// The limits of QEMU as a whole, for a machine with these. A page of its memory that nothing was ever
/// written to counts twice for the clone that first writes it: the kernel makes one for the template's
/// file, which stays for all clones, and the clone's copy of that.
pub(super) fn around(limits: &Limits) -> Limits {
    Limits {
        memory_bytes: 2 * limits.memory_bytes + MEMORY,
        ..*limits
    }
}

/// How a machine's memory comes to be.
pub(super) enum Memory {
    /// Empty, for the machine to boot in.
    Empty,
    /// Empty, and the machine's is the file's.
    Kept(OwnedFd),
    /// The file's, of which the machine changes a copy. The state of all else is in another.
    Copied { memory: OwnedFd, state: OwnedFd },
}

/// What QEMU is started with.
pub(super) struct Start {
    pub(super) program: PathBuf,
    pub(super) shape: Shape,
    pub(super) memory: Memory,
    /// A clone's are only like those of the machine that booted.
    pub(super) kernel: OwnedFd,
    pub(super) initramfs: OwnedFd,
    pub(super) system: Arc<Image>,
}

/// A machine that runs or is about to.
pub(super) struct Monitor {
    process: Child,
    /// To process 1 around QEMU; the machine ends when it closes.
    control: UnixStream,
    console: Console,
    qmp: Option<Qmp>,
    /// To the agent's port, until it is given away.
    channel: UnixStream,
    outward: UnixStream,
    toolchains: Contents,
    own: Contents,
}

/// What is left to hold of a machine whose agent was given its spec.
pub(super) struct Running {
    pub(super) process: Child,
    pub(super) control: UnixStream,
    pub(super) outward: UnixStream,
    pub(super) agreed: Agreed,
}

/// Why a machine does not answer, in words.
pub(super) type Why = String;

impl Monitor {
    /// Starts QEMU, and its machine unless that goes on from a copy.
    pub(super) async fn start(
        options: &Options,
        groups: &Groups,
        start: Start,
    ) -> Result<Self, LaunchError> {
        let pair = || UnixStream::pair().map_err(LaunchError::Start);
        let (console, their_console) = pair()?;
        let (channel, their_channel) = pair()?;
        let (outward, their_outward) = pair()?;
        let (qmp, their_qmp) = pair()?;
        let console = Console::follow(console);
        let disks: [Contents; 3] = Default::default();
        let mut their_disks = Vec::new();
        for contents in disks.clone() {
            let (own, theirs) = pair()?;
            // Ends when QEMU does. A machine that breaks the protocol has lost its disk.
            std::thread::spawn(move || disk::serve(&contents, own));
            their_disks.push(theirs);
        }
        let [system, toolchains, own] = disks;
        system.put(Arc::clone(&start.system));

        let mut files = vec![
            their_console.as_fd(),
            their_channel.as_fd(),
            their_outward.as_fd(),
            their_qmp.as_fd(),
        ];
        files.extend(their_disks.iter().map(AsFd::as_fd));
        files.extend([start.kernel.as_fd(), start.initramfs.as_fd()]);
        match &start.memory {
            Memory::Empty => {}
            Memory::Kept(memory) => files.push(memory.as_fd()),
            Memory::Copied { memory, state } => files.extend([memory.as_fd(), state.as_fd()]),
        }
        let jail = jail(&start, groups, files.len());
        let (process, around) = sandbox::start(options, groups, jail).await?;
        let control = around.channel;
        sandbox::send(&control, &files).map_err(LaunchError::Start)?;
        // QEMU has the only other ends when this returns, so its end is seen here.
        Ok(Self {
            process,
            control,
            console,
            qmp: Some(Qmp::new(qmp)),
            channel,
            outward,
            toolchains,
            own,
        })
    }

    /// Waits until the machine has booted. It is as `boot` says then.
    pub(super) async fn booted(&mut self, boot: Boot, patience: Duration) -> Result<(), Why> {
        let channel = self.channel.try_clone();
        let said = tokio::task::spawn_blocking(move || {
            let mut channel = channel?;
            channel.set_read_timeout(Some(patience))?;
            channel.set_write_timeout(Some(patience))?;
            spec::write_frame(&mut channel, &boot)?;
            let mut byte = [0];
            channel.read_exact(&mut byte)?;
            io::Result::Ok(byte == [spec::BOOTED])
        });
        match said.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Err(error)) if is_silence(&error) => Err(self.silent(patience).await),
            Ok(Ok(false) | Err(_)) | Err(_) => Err(self.ended().await),
        }
    }

    /// Tells QEMU something.
    pub(super) async fn tell(
        &mut self,
        what: impl FnOnce(&mut Qmp) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Fault> {
        let qmp = self.qmp.take();
        let done = tokio::task::spawn_blocking(move || {
            let mut qmp = qmp.ok_or(io::ErrorKind::NotConnected)?;
            qmp.open(PATIENCE)?;
            what(&mut qmp)?;
            io::Result::Ok(qmp)
        });
        match done.await {
            Ok(Ok(qmp)) => {
                self.qmp = Some(qmp);
                Ok(())
            }
            Ok(Err(error)) if is_silence(&error) => {
                let (said, limit) = (self.console.said().await, PATIENCE.as_secs());
                let why = format!("QEMU did not answer within {limit} s{said}");
                Err(Fault::Silent(why))
            }
            Ok(Err(error)) => {
                let said = self.console.said().await;
                let why = format!("QEMU did not do as it was told: {error}{said}");
                Err(Fault::Broken(why))
            }
            Err(_) => Err(Fault::Broken("QEMU was told nothing".to_owned())),
        }
    }

    /// Waits until QEMU has ended, which it was told to.
    pub(super) async fn over(mut self) {
        self.console.over(PATIENCE).await;
        let _ = self.process.kill().await;
    }

    /// Ends the machine.
    pub(super) async fn end(mut self) {
        let _ = self.process.kill().await;
    }

    /// Puts something on the disks that were empty.
    pub(super) fn put(&self, toolchains: Option<Arc<Image>>, own: Option<Arc<Image>>) {
        for (contents, image) in [(&self.toolchains, toolchains), (&self.own, own)] {
            if let Some(image) = image {
                contents.put(image);
            }
        }
    }

    /// Wakes the machine, and waits for the agent in it, which gets `spec`.
    pub(super) async fn wake(
        mut self,
        wake: spec::Wake,
        spec: Spec,
        patience: Duration,
    ) -> Result<Running, Fault> {
        let copy = self.channel.try_clone();
        let Ok(mut channel) = copy else {
            return Err(Fault::Broken("its channel was lost".to_owned()));
        };
        let told = tokio::task::spawn_blocking(move || {
            channel.set_write_timeout(Some(patience))?;
            spec::write_frame(&mut channel, &wake)?;
            io::Result::Ok(channel)
        });
        let agreed = match told.await {
            Ok(Ok(channel)) => sandbox::agree(channel, spec, patience).await,
            Ok(Err(error)) if is_silence(&error) => Err(LaunchError::Silent(patience)),
            Ok(Err(_)) | Err(_) => Err(LaunchError::Ended),
        };
        match agreed {
            Ok(agreed) => Ok(Running {
                process: self.process,
                control: self.control,
                outward: self.outward,
                agreed,
            }),
            Err(LaunchError::Refused(step)) => Err(Fault::Broken(format!("could not {step}"))),
            Err(LaunchError::Silent(limit)) => Err(Fault::Silent(self.silent(limit).await)),
            Err(_) => Err(Fault::Broken(self.ended().await)),
        }
    }

    async fn silent(&mut self, limit: Duration) -> Why {
        let said = self.console.said().await;
        format!("it did not answer within {} s{said}", limit.as_secs())
    }

    async fn ended(&mut self) -> Why {
        let said = self.console.said().await;
        format!("it ended before it answered{said}")
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The sandbox that QEMU runs in.
fn jail(start: &Start, groups: &Groups, descriptors: usize) -> Spec {
    let mut mounts = Host::system();
    if start.shape.tier == Tier::Vm {
        mounts.push(Mount {
            path: PathBuf::from(KVM),
            access: Access::Device,
        });
    }
    Spec {
        workspace: None,
        mounts,
        masks: Vec::new(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        limits: spec::Limits {
            disk_bytes: WRITES,
            files: 1 << 10,
            processes: 256,
            open_files: 256,
            data_bytes: (!groups.limits_memory).then_some(start.shape.memory_bytes + MEMORY),
            command_ms: 0,
        },
        proxy: None,
        keep: Some(Program {
            program: start.program.clone(),
            arguments: arguments(start.shape, &start.memory),
            descriptors,
            bundle: None,
        }),
        restricted: None,
    }
}

/// The number that a clone's QEMU has the state by.
pub(super) const STATE: i32 = FIRST_DESCRIPTOR + 10;

/// QEMU's command line. Its open files are, in order: console, the agent's port, the outward port,
/// its own protocol, three disks, kernel, initramfs, memory, state.
fn arguments(shape: Shape, memory: &Memory) -> Vec<String> {
    let [console, port, outward, qmp] = [0, 1, 2, 3].map(|n| FIRST_DESCRIPTOR + n);
    let first_disk = FIRST_DESCRIPTOR + 4;
    let [kernel, initramfs, file] = [7, 8, 9].map(|n| FIRST_DESCRIPTOR + n);
    // Emulation translates a program anew wherever it lies, so a command takes five times as long
    // where each lies elsewhere.
    // A fifth level of page tables is one more to walk.
    let (accelerator, processor, layout) = match shape.tier {
        Tier::Vm => ("kvm", "host", ""),
        Tier::Landlock | Tier::Namespace | Tier::Gvisor | Tier::VmEmulated | Tier::Remote => {
            ("tcg,tb-size=128", "max,la57=off", " norandmaps")
        }
    };
    // Security modules that have no rules here, and what is counted for nobody, are code that each clone
    // translates and each command runs. Landlock is what commands are confined with.
    const LEAN: &str = "lsm=landlock,yama audit=0 psi=0 tsc=nowatchdog";
    const MACHINE: &str = "q35,hpet=off,usb=off,sata=off,smbus=off,graphics=off,vmport=off";
    let size = shape.memory_bytes >> 20;
    let in_a_file = |share: &str| {
        format!(
            "memory-backend-file,id=memory,size={size}M,mem-path=/proc/self/fd/{file},share={share}"
        )
    };
    let (backend, machine) = match memory {
        Memory::Empty => (None, MACHINE.to_owned()),
        Memory::Kept(_) => (
            Some(in_a_file("on")),
            format!("{MACHINE},memory-backend=memory"),
        ),
        Memory::Copied { .. } => (
            Some(in_a_file("off")),
            format!("{MACHINE},memory-backend=memory"),
        ),
    };
    let mut words: Vec<(&str, String)> = vec![
        ("-machine", machine),
        ("-accel", accelerator.into()),
        ("-cpu", processor.into()),
        ("-smp", shape.processors.to_string()),
        ("-m", size.to_string()),
        (
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
        ),
        ("-chardev", format!("socket,id=console,fd={console}")),
        ("-serial", "chardev:console".into()),
        ("-chardev", format!("socket,id=qmp,fd={qmp}")),
        ("-mon", "chardev=qmp,mode=control".into()),
        ("-device", "virtio-serial-pci".into()),
    ];
    words.extend(backend.map(|backend| ("-object", backend)));
    for (number, descriptor) in [(AGENT_PORT, port), (OUTWARD_PORT, outward)] {
        words.push((
            "-chardev",
            format!("socket,id=port{number},fd={descriptor}"),
        ));
        words.push((
            "-device",
            format!("virtserialport,chardev=port{number},nr={number}"),
        ));
    }
    for (disk, descriptor) in Disk::ALL.iter().zip(first_disk..) {
        let name = disk.device();
        words.push((
            "-blockdev",
            format!(
                "driver=nbd,node-name={name},read-only=on,server.type=fd,server.str={descriptor}"
            ),
        ));
        words.push(("-device", format!("virtio-blk-pci,drive={name}")));
    }
    words.push(("-kernel", format!("/proc/self/fd/{kernel}")));
    words.push(("-initrd", format!("/proc/self/fd/{initramfs}")));
    words.push((
        "-append",
        format!(
            "console=ttyS0 loglevel=3 panic=-1 random.trust_cpu=on {LEAN}{layout} rdinit=/init -- {}",
            sandbox_agent::GUEST_ARGUMENT
        ),
    ));
    if let Memory::Copied { .. } = memory {
        words.push(("-incoming", "defer".into()));
    }
    let fixed = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ];
    let words = words
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    fixed.map(str::to_owned).into_iter().chain(words).collect()
}
