//! What a machine sees of this one, by disk: what all machines see, and what is one sandbox's.
//!
//! Holds: a path that a sandbox hides is on none of its disks with its contents.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandbox_agent::spec::{self, Access, Disk, Mount, OnDisk, Spec};

use super::image::Image;
use super::tree::{Owner, Shown, Tree};
use crate::service::host::is_system;

/// How long an image is taken for current without a look.
const FRESH: Duration = Duration::from_secs(10);

/// Images that all machines of a service share.
#[derive(Debug, Default)]
pub(super) struct Images {
    system: Mutex<Option<Cached>>,
    toolchains: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    image: Arc<Image>,
    looked: Instant,
}

/// What is on the disk that a machine boots with.
#[derive(Debug)]
pub(super) struct System {
    pub(super) image: Arc<Image>,
    /// Whether it is what every machine has.
    pub(super) is_usual: bool,
}

/// What is on the disks that a machine gets when it is woken.
#[derive(Debug)]
pub(super) struct View {
    pub(super) toolchains: Option<Arc<Image>>,
    pub(super) own: Option<Arc<Image>>,
    /// What is shown of them.
    pub(super) shown: Vec<OnDisk>,
}

fn is_shown(mount: &&Mount) -> bool {
    matches!(mount.access, Access::ReadOnly | Access::Scratch)
}

impl Images {
    /// Lists what `spec` shows of the system, as far as it is not known. `host` is what all sandboxes
    /// see.
    ///
    /// # Errors
    /// When it is not there, or is too much.
    pub(super) fn system(&self, host: &[Mount], spec: &Spec) -> io::Result<System> {
        let system = host.iter().filter(is_shown);
        let system: Vec<&Mount> = system.filter(|mount| is_system(&mount.path)).collect();
        let masks: HashSet<PathBuf> = spec.masks.iter().cloned().collect();
        let is_usual = !masks.iter().any(|mask| is_system(mask));
        let image = match is_usual {
            true => shared(&self.system, || of_system(&system, &HashSet::new()))?,
            false => Arc::new(of_system(&system, &masks)?),
        };
        Ok(System { image, is_usual })
    }

    /// Lists the rest of what `spec` shows, as far as it is not known.
    ///
    /// # Errors
    /// When what it names is not there, or is too much.
    pub(super) fn view(&self, host: &[Mount], spec: &Spec) -> io::Result<View> {
        let toolchains = host.iter().filter(is_shown);
        let toolchains: Vec<&Mount> = toolchains.filter(|mount| !is_system(&mount.path)).collect();
        let named = spec.mounts.iter().filter(|mount| !host.contains(mount));
        let named = named.filter(is_shown).map(|mount| &mount.path);
        let mut own: Vec<&PathBuf> = named.chain(&spec.workspace).collect();
        let masks: HashSet<PathBuf> = spec.masks.iter().cloned().collect();
        // Where the two meet, they are one.
        let meet = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
        let is_apart = !toolchains.iter().any(|mount| {
            let mut all = own.iter().copied().chain(&masks);
            all.any(|path| meet(path, &mount.path))
        });
        let mut shown = Vec::new();
        let toolchains = match is_apart {
            true if toolchains.is_empty() => None,
            true => {
                let paths: Vec<&PathBuf> = toolchains.iter().map(|mount| &mount.path).collect();
                shown.extend(topmost(&paths, Disk::Toolchains));
                Some(shared(&self.toolchains, || of(&paths, &HashSet::new()))?)
            }
            false => {
                own.splice(0..0, toolchains.iter().map(|mount| &mount.path));
                None
            }
        };
        shown.extend(topmost(&own, Disk::Own));
        shown.sort_by(|a, b| a.path.cmp(&b.path));
        let own = match own.is_empty() {
            true => None,
            false => Some(Arc::new(of(&own, &masks)?)),
        };
        Ok(View {
            toolchains,
            own,
            shown,
        })
    }
}

/// Those that are not below another.
fn topmost(paths: &[&PathBuf], disk: Disk) -> Vec<OnDisk> {
    let mut sorted = paths.to_vec();
    sorted.sort();
    sorted.dedup_by(|path, above| path.starts_with(&**above));
    let shown = sorted.into_iter().map(|path| OnDisk {
        disk,
        path: path.clone(),
    });
    shown.collect()
}

/// The image that is there, if it is still right. Whoever comes meanwhile waits.
fn shared(
    cached: &Mutex<Option<Cached>>,
    make: impl FnOnce() -> io::Result<Image>,
) -> io::Result<Arc<Image>> {
    let mut cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = &mut *cached {
        let is_fresh = known.looked.elapsed() < FRESH;
        if is_fresh || known.image.is_current() {
            if !is_fresh {
                known.looked = Instant::now();
            }
            return Ok(Arc::clone(&known.image));
        }
    }
    let looked = Instant::now();
    let image = Arc::new(make()?);
    *cached = Some(Cached {
        image: Arc::clone(&image),
        looked,
    });
    Ok(image)
}

fn of_system(mounts: &[&Mount], masks: &HashSet<PathBuf>) -> io::Result<Image> {
    let shown = Shown {
        owner: Owner::Root,
        masks,
    };
    let mut tree = Tree::new();
    for mount in mounts {
        tree.add(&mount.path, shown)?;
    }
    for name in spec::ETC {
        let path = Path::new("/etc").join(name);
        if path.symlink_metadata().is_ok() {
            tree.add(&path, shown)?;
        }
    }
    Image::of(tree)
}

fn of(paths: &[&PathBuf], masks: &HashSet<PathBuf>) -> io::Result<Image> {
    let mut tree = Tree::new();
    for path in paths {
        let owner = match is_system(path) {
            true => Owner::Root,
            false => Owner::User,
        };
        tree.add(path, Shown { owner, masks })?;
    }
    Image::of(tree)
}
