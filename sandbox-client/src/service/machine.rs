//! Virtual machines: a kernel of their own around the walls, by QEMU.
//!
//! One driver for two tiers: with KVM the processor separates the machine (`vm`), without it QEMU
//! emulates one (`vm-emulated`), which QEMU's makers do not call a boundary. Either way QEMU itself
//! runs in a sandbox of the namespace tier, without a network and with a few open files
//! ([`monitor`]): ports to the agent, disks that can be read ([`disk`]), a kernel ([`kernel`]) and
//! what it starts ([`initramfs`]).
//!
//! A machine boots once. It is written down then ([`template`]), and each sandbox is a clone that
//! goes on from there, with disks of its own ([`view`]). Where that cannot be done the machine boots
//! for itself, and says why.
//!
//! Holds: a machine is one that answered. That KVM's device opens proves nothing: each start has a
//! time limit, and says what the console said when it ends without an answer.

mod disk;
mod faults;
mod image;
mod initramfs;
mod kept;
mod kernel;
mod monitor;
mod qmp;
mod stock;
mod template;
mod tree;
mod view;
mod warm;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::rand::{GetRandomFlags, getrandom};
use sandbox_agent::spec::{Boot, Spec, Wake};
use sandbox_agent::wire::Base64;
use serde::Serialize;
use tokio::process::Child;

use self::faults::{Fault, Next};
use self::image::Image;
use self::kernel::{Kernel, Loaded};
use self::monitor::{Memory, Monitor, Running, Start, Why, in_memory};
use self::qmp::Qmp;
pub(super) use self::stock::Stock;
use self::stock::{Cloned, Copied, Key, Wanted};
use self::template::NoTemplate;
use self::view::{System, View};
use super::cgroup::Groups;
use super::egress;
use super::sandbox::{Agreed, LaunchError};
use super::{Limits, Options};
use crate::tier::Tier;

/// A machine of less memory does not start.
pub(super) const LEAST_MEMORY: u64 = 256 << 20;
/// A machine that has not answered by then is stuck.
const BOOT: Duration = Duration::from_secs(10);
/// The same where each instruction is emulated.
const EMULATED_BOOT: Duration = Duration::from_secs(60);
const KVM: &str = "/dev/kvm";
/// Clones that are tried for one sandbox: one that waited, two of a template, two of the next.
const TRIES: usize = 5;
/// Of randomness that a machine begins with.
const SEED: usize = 64;

/// What sandboxes with a kernel of their own are made of, where that is not to be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machines {
    /// QEMU.
    pub monitor: Option<PathBuf>,
    /// A kernel's image. Its modules are looked for beside it and in `/lib/modules`.
    pub kernel: Option<PathBuf>,
    /// gVisor's `runsc`, which needs neither.
    pub runsc: Option<PathBuf>,
}

/// What a machine is from outside. Those of one shape and one template are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Shape {
    tier: Tier,
    processors: u32,
    memory_bytes: u64,
}

/// What machines of a shape are made of.
#[derive(Debug, Clone)]
struct Parts {
    shape: Shape,
    monitor: PathBuf,
    kernel: Kernel,
    agent: PathBuf,
}

/// A machine that answered.
pub(super) struct Machine {
    pub(super) process: Child,
    /// With the agent inside.
    pub(super) agreed: Agreed,
    /// To process 1 around QEMU; the machine ends when it closes.
    pub(super) control: UnixStream,
    /// What comes out of its sandbox.
    pub(super) outward: UnixStream,
    pub(super) groups: Groups,
    pub(super) notes: Vec<String>,
}

fn refused(tier: Tier, why: impl Into<String>) -> LaunchError {
    LaunchError::Machine {
        tier,
        why: why.into(),
    }
}

fn boot_patience(tier: Tier) -> Duration {
    match tier {
        Tier::VmEmulated => EMULATED_BOOT,
        Tier::Landlock | Tier::Namespace | Tier::Gvisor | Tier::Vm | Tier::Remote => BOOT,
    }
}

/// Makes a machine and waits for the agent in it, which gets `spec`.
pub(super) async fn start(
    stock: &Arc<Stock>,
    options: &Options,
    tier: Tier,
    limits: &Limits,
    spec: Spec,
) -> Result<Machine, LaunchError> {
    if limits.memory_bytes < LEAST_MEMORY {
        let least = LEAST_MEMORY >> 20;
        let why = format!("a virtual machine needs {least} MiB of memory or more");
        return Err(LaunchError::Asked(why));
    }
    let shape = Shape {
        tier,
        processors: limits.processors,
        memory_bytes: limits.memory_bytes,
    };
    let lost = |_| LaunchError::Ended;
    let unshown = move |error| LaunchError::Unshown { tier, error };
    let preparing = {
        let (stock, options, spec) = (Arc::clone(stock), options.clone(), spec.clone());
        tokio::task::spawn_blocking(move || {
            let parts = Parts::find(&options, shape).map_err(|why| refused(tier, why))?;
            let system = stock.images.system(&options.host.mounts, &spec);
            let system = system.map_err(unshown)?;
            let key = Key::of(&options, &parts, &system.image);
            Ok((parts, system, key))
        })
    };
    // A clone needs none of it before it is woken.
    let listing = {
        let (stock, options, spec) = (Arc::clone(stock), options.clone(), spec.clone());
        tokio::task::spawn_blocking(move || stock.images.view(&options.host.mounts, &spec))
    };
    let listed = async { listing.await.map_err(lost)?.map_err(unshown) };
    let prepared: Result<(Parts, System, Key), LaunchError> = preparing.await.map_err(lost)?;
    let (parts, system, key) = prepared?;
    let mut notes = Vec::new();
    if !parts.kernel.replaces_directories() {
        notes.push(format!(
            "its kernel {} is older than 6.6: a directory that was removed cannot be made again",
            parts.kernel.version
        ));
    }

    let wanted = Wanted {
        options: options.clone(),
        parts,
        limits: *limits,
        key,
        system: system.image,
    };
    let taking = async {
        Ok(match system.is_usual {
            true => stock.take(&wanted).await,
            false => Err(NoTemplate::Copy(
                "a file that is hidden is among the system's".to_owned(),
            )),
        })
    };
    let (first, view) = tokio::try_join!(taking, listed)?;
    let cloned = clone(stock, &wanted, first, &view, &spec, &mut notes).await;
    let made = match cloned {
        Ok(made) => made,
        Err(NoTemplate::Launch(error)) => return Err(error),
        Err(NoTemplate::Copy(why)) => {
            notes.push(format!("booted, not cloned: {why}"));
            boot(&wanted, &view, spec).await?
        }
    };
    let (running, groups) = made;
    let Running {
        process,
        control,
        outward,
        agreed,
    } = running;
    Ok(Machine {
        process,
        agreed,
        control,
        outward,
        groups,
        notes,
    })
}

/// A machine that goes on from a template: the first that was taken, or another. What went wrong
/// before one did is in its notes.
async fn clone(
    stock: &Arc<Stock>,
    wanted: &Wanted,
    first: Result<Cloned<Copied>, NoTemplate>,
    view: &View,
    spec: &Spec,
    notes: &mut Vec<String>,
) -> Result<(Running, Groups), NoTemplate> {
    let mut why = None;
    let mut first = Some(first);
    for _ in 0..TRIES {
        let taken = match first.take() {
            Some(first) => first,
            None => stock.take(wanted).await,
        };
        let (generation, fault, has_waited) = match taken? {
            Ok(copied) => {
                let (generation, has_waited) = (copied.generation, copied.has_waited);
                match go_on(copied, wanted, view, spec).await {
                    Ok(made) => {
                        stock.went_on(&wanted.key, generation);
                        return Ok(made);
                    }
                    Err(fault) => (generation, fault, has_waited),
                }
            }
            Err((generation, fault)) => (generation, fault, false),
        };
        // What happened to one while it waited says nothing of its template; others may be as it is.
        let next = match (&fault, has_waited) {
            (Fault::Broken(_), true) => {
                stock.close().await;
                Next::Again
            }
            _ => stock.judge(wanted, generation, &fault).await,
        };
        let words = fault.why();
        match next {
            Next::Again => {}
            Next::Remake => notes.push(format!("its template was made again: {words}")),
            Next::Boot => {
                let why = format!("{words}; the template is kept");
                return Err(NoTemplate::Copy(why));
            }
            Next::GiveUp => return Err(NoTemplate::Copy(words)),
        }
        why = Some(words);
    }
    Err(NoTemplate::Copy(why.unwrap_or_default()))
}

/// Lets a clone go on.
async fn go_on(
    copied: Copied,
    wanted: &Wanted,
    view: &View,
    spec: &Spec,
) -> Result<(Running, Groups), Fault> {
    let Copied {
        mut monitor,
        groups,
        ..
    } = copied;
    let woken = async {
        monitor.tell(Qmp::go_on).await?;
        wake(monitor, wanted.parts.shape.tier, view, spec.clone()).await
    };
    match woken.await {
        Ok(running) => Ok((running, groups)),
        Err(fault) => {
            groups.remove().await;
            Err(fault)
        }
    }
}

/// A machine that boots for itself.
async fn boot(wanted: &Wanted, view: &View, spec: Spec) -> Result<(Running, Groups), LaunchError> {
    let Wanted { options, parts, .. } = wanted;
    let groups = stock::groups(&wanted.limits)?;
    let tier = parts.shape.tier;
    let booted = async {
        let system = Arc::clone(&wanted.system);
        let (start, _) = parts.start(system, Memory::Empty).await?;
        let mut monitor = Monitor::start(options, &groups, start).await?;
        let booted = monitor.booted(boot_of(options), boot_patience(tier)).await;
        booted.map_err(|why| refused(tier, why))?;
        let woken = wake(monitor, tier, view, spec).await;
        woken.map_err(|fault| refused(tier, fault.why()))
    };
    match booted.await {
        Ok(running) => Ok((running, groups)),
        Err(why) => {
            groups.remove().await;
            Err(why)
        }
    }
}

/// What every sandbox of a machine has.
fn boot_of(options: &Options) -> Boot {
    Boot {
        mounts: options.host.system_mounts(),
        proxy: egress::PORT,
    }
}

/// Gives a machine what is its own.
async fn wake(monitor: Monitor, tier: Tier, view: &View, spec: Spec) -> Result<Running, Fault> {
    monitor.put(view.toolchains.clone(), view.own.clone());
    let mut seed = vec![0; SEED];
    match getrandom(&mut seed, GetRandomFlags::empty()) {
        Ok(SEED) => {}
        Ok(_) | Err(_) => {
            return Err(Fault::Broken("there is no randomness for it".to_owned()));
        }
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let wake = Wake {
        seconds: i64::try_from(now.as_secs()).unwrap_or_default(),
        nanoseconds: now.subsec_nanos(),
        seed: Base64(seed),
        shown: view.shown.clone(),
    };
    // It listens since it booted.
    let spec = Spec {
        proxy: None,
        ..spec
    };
    monitor.wake(wake, spec, boot_patience(tier)).await
}

/// That it opens does not mean that a machine starts with it.
pub(super) fn open_kvm() -> io::Result<File> {
    File::options().read(true).write(true).open(KVM)
}

/// QEMU and the kernel that machines would be made of, where they are found.
pub(super) fn files(machines: &Machines) -> (Option<PathBuf>, Option<PathBuf>) {
    let kernel = kernel::find(machines.kernel.as_deref()).ok();
    let monitor = monitor::find(machines.monitor.as_deref()).ok();
    (monitor, kernel.map(|kernel| kernel.image))
}

impl Parts {
    fn find(options: &Options, shape: Shape) -> Result<Self, Why> {
        if shape.tier == Tier::Vm {
            open_kvm().map_err(|error| {
                format!("{KVM}: {error}; it needs KVM, and this user in its group")
            })?;
        }
        Ok(Self {
            shape,
            monitor: monitor::find(options.machines.monitor.as_deref())?,
            kernel: kernel::find(options.machines.kernel.as_deref())?,
            agent: options.agent.program.clone(),
        })
    }

    /// Reads and makes what a machine boots with.
    async fn start(
        &self,
        system: Arc<Image>,
        memory: Memory,
    ) -> Result<(Start, Loaded), LaunchError> {
        let parts = self.clone();
        let tier = self.shape.tier;
        let made = tokio::task::spawn_blocking(move || {
            let unreadable =
                |error| format!("the kernel {}: {error}", parts.kernel.image.display());
            let loaded = parts.kernel.load().map_err(unreadable)?;
            let kernel = in_memory(loaded.bytes()).map_err(unreadable)?;
            let initramfs = initramfs::build(&parts.agent, &parts.kernel)
                .and_then(|bytes| in_memory(&bytes))
                .map_err(|error| format!("what the kernel starts could not be made: {error}"))?;
            let start = Start {
                program: parts.monitor,
                shape: parts.shape,
                memory,
                kernel,
                initramfs,
                system,
            };
            Ok((start, loaded))
        });
        let made = made.await.map_err(|_| LaunchError::Ended)?;
        made.map_err(|why: Why| refused(tier, why))
    }
}
