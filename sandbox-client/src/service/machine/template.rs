//! A machine that has booted, written down: others go on from it.
//!
//! Its memory is a file that has no name and can no longer be written; each clone maps it, and has
//! copies of the pages that it changes. The state of its devices is a third of a MiB beside it. A
//! template has seen no workspace, no command and no toolchain of a home directory: it waits for
//! [`sandbox_agent::spec::Wake`], which brings what is one machine's alone. What clones do share is
//! where the kernel and process 1 lie in memory.
//!
//! Not here: where templates are kept between services ([`super::kept`]).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals};

use super::faults::Fault;
use super::image::Image;
use super::kernel::Loaded;
use super::monitor::{self, Memory, Monitor, STATE, Start, Why, in_memory};
use super::{Parts, boot_of, boot_patience, refused};
use crate::service::cgroup::Groups;
use crate::service::sandbox::LaunchError;
use crate::service::{Limits, Options};

/// How long the last page of a machine that has ended may be held.
const LET_GO: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What clones go on from.
#[derive(Debug)]
pub(super) struct Template {
    /// As large as a clone's memory; cannot be written.
    pub(super) memory: OwnedFd,
    pub(super) state: Vec<u8>,
    /// What QEMU takes for a kernel, so that it has the devices that go with one. It is not run.
    pub(super) kernel: Vec<u8>,
}

/// Why there is no template.
pub(super) enum NoTemplate {
    /// There is no machine at all.
    Launch(LaunchError),
    /// A machine boots, and cannot be written down or go on.
    Copy(Why),
}

impl Template {
    /// Boots a machine and writes it down.
    pub(super) async fn make(
        options: &Options,
        parts: &Parts,
        limits: &Limits,
        groups: &Groups,
        system: Arc<Image>,
    ) -> Result<Self, NoTemplate> {
        let launch = |error| NoTemplate::Launch(error);
        let lost = |error: io::Error| NoTemplate::Copy(format!("its memory: {error}"));
        let memory = empty(limits.memory_bytes).map_err(lost)?;
        let copy = memory.try_clone().map_err(lost)?;
        let (start, loaded) = parts
            .start(system, Memory::Kept(copy))
            .await
            .map_err(launch)?;
        let mut monitor = Monitor::start(options, groups, start)
            .await
            .map_err(launch)?;
        let tier = parts.shape.tier;
        let booted = monitor.booted(boot_of(options), boot_patience(tier)).await;
        booted.map_err(|why| launch(refused(tier, why)))?;
        let state = in_memory(&[]).map_err(lost)?;
        let to = state.try_clone().map_err(lost)?;
        let written = monitor.tell(move |qmp| {
            qmp.write_down(to.as_fd())?;
            // It may end before it can say so.
            let _ = qmp.quit();
            Ok(())
        });
        let written = written.await.map_err(Fault::why);
        written.map_err(NoTemplate::Copy)?;
        monitor.over().await;
        seal(&memory).await.map_err(lost)?;
        let state = read(&File::from(state)).map_err(lost)?;
        Ok(Self {
            memory,
            state,
            kernel: stand_in(&loaded),
        })
    }

    /// Starts a machine that goes on from here, as far as it does. It stands still until it is told
    /// to.
    pub(super) async fn clone_it(
        &self,
        options: &Options,
        parts: &Parts,
        groups: &Groups,
        system: Arc<Image>,
    ) -> Result<Result<Monitor, Fault>, NoTemplate> {
        let copied = || -> io::Result<(Memory, OwnedFd, OwnedFd)> {
            let memory = Memory::Copied {
                memory: self.memory.try_clone()?,
                // Each clone has its own, as an open file has one place to read at.
                state: rewound(in_memory(&self.state)?)?,
            };
            Ok((memory, in_memory(&self.kernel)?, in_memory(&[0])?))
        };
        let (memory, kernel, initramfs) =
            copied().map_err(|error| NoTemplate::Copy(error.to_string()))?;
        let start = Start {
            program: parts.monitor.clone(),
            shape: parts.shape,
            memory,
            kernel,
            initramfs,
            system,
        };
        let monitor = Monitor::start(options, groups, start).await;
        let mut monitor = monitor.map_err(NoTemplate::Launch)?;
        let restored = monitor.tell(|qmp| qmp.read_back(STATE)).await;
        Ok(restored.map(|()| monitor))
    }
}

/// A file without a name, of a size, that can be sealed.
pub(super) fn empty(bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("machine", flags)?;
    rustix::fs::ftruncate(&memory, bytes)?;
    Ok(memory)
}

/// Makes memory what nobody can change. QEMU may have it mapped for a moment after it ended.
pub(super) async fn seal(memory: &OwnedFd) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    let sealed = async {
        loop {
            match fcntl_add_seals(memory, seals) {
                Err(rustix::io::Errno::BUSY) => tokio::time::sleep(LOOK_AGAIN).await,
                sealed => return sealed,
            }
        }
    };
    match tokio::time::timeout(LET_GO, sealed).await {
        Ok(sealed) => Ok(sealed?),
        Err(_) => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

fn rewound(file: OwnedFd) -> io::Result<OwnedFd> {
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The least that QEMU takes for a kernel of the same kind, for which it has the same devices.
fn stand_in(kernel: &Loaded) -> Vec<u8> {
    /// As much of it as QEMU looks at.
    const HEAD: usize = 64 << 10;
    let put = |to: &mut [u8], at: usize, bytes: &[u8]| {
        to[at..at + bytes.len()].copy_from_slice(bytes);
    };
    match kernel {
        Loaded::Packed(bytes) => bytes[..bytes.len().min(HEAD)].to_vec(),
        Loaded::Unpacked(_) => {
            const HEADER: usize = 64;
            const ENTRY: usize = 56;
            const BODY: usize = HEADER + 2 * ENTRY;
            const ADDRESS: u64 = 16 << 20;
            let mut elf = vec![0; 8 << 10];
            put(&mut elf, 0, b"\x7fELF\x02\x01\x01");
            // A program for x86-64, with two entries in its table.
            for (at, short) in [(16, 2u16), (18, 62), (20, 1), (52, 64), (54, 56), (56, 2)] {
                put(&mut elf, at, &short.to_le_bytes());
            }
            put(&mut elf, 24, &ADDRESS.to_le_bytes());
            put(&mut elf, 32, &(HEADER as u64).to_le_bytes());
            for (n, kind) in [1u32, 4].into_iter().enumerate() {
                let at = HEADER + n * ENTRY;
                put(&mut elf, at, &kind.to_le_bytes());
                for (field, value) in [
                    (8, BODY as u64),
                    (16, ADDRESS),
                    (24, ADDRESS),
                    (32, 20),
                    (40, 20),
                ] {
                    put(&mut elf, at + field, &u64::to_le_bytes(value));
                }
                put(&mut elf, at + 48, &4u64.to_le_bytes());
            }
            // The note with the address to begin at.
            for (n, word) in [4u32, 4, 18].into_iter().enumerate() {
                put(&mut elf, BODY + 4 * n, &word.to_le_bytes());
            }
            put(&mut elf, BODY + 12, b"Xen\0");
            put(&mut elf, BODY + 16, &(ADDRESS as u32).to_le_bytes());
            elf
        }
    }
}

/// The limits that hold around QEMU while it is made.
pub(super) fn groups(id: &str, limits: &Limits) -> Groups {
    Groups::make(id, &monitor::around(limits))
}
