//! The kernel of virtual machines: one that is on this machine already.
//!
//! None comes with Pairwright. A distribution's kernel has its drivers as modules beside it; those
//! that a machine here needs are sent along.

use std::fs;
use std::path::{Path, PathBuf};

/// Where distributions put kernels.
const BOOT: &str = "/boot";
const IMAGE: &str = "vmlinuz-";

/// What a machine needs, each after what it needs itself. A kernel that has one built in, or has
/// none of it, has no such file. Names are as in Linux 5.15 to 6.18.
const MODULES: [&str; 14] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "crc32c_generic",
    "libcrc32c",
    "netfs",
    "fscache",
    "cachefiles",
    "erofs",
    "overlay",
];
/// Suffixes of modules; the kernel opens the compressed ones.
const SUFFIXES: [&str; 4] = ["ko", "ko.xz", "ko.zst", "ko.gz"];

/// A kernel and what is to be loaded into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// Empty where the name does not say.
    pub(super) version: String,
    /// In the order to load them.
    pub(super) modules: Vec<PathBuf>,
}

/// Finds a kernel: the one named, or the newest that can be read.
///
/// # Errors
/// Why there is none, with what would help.
pub(super) fn find(named: Option<&Path>) -> Result<Kernel, String> {
    if let Some(image) = named {
        return match fs::File::open(image) {
            Ok(_) => Ok(with_modules(image.to_owned())),
            Err(error) => Err(format!("the kernel {}: {error}", image.display())),
        };
    }
    let entries = fs::read_dir(BOOT).into_iter().flatten().flatten();
    let mut images: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| version(path).is_some())
        .collect();
    images.sort_by_key(|path| std::cmp::Reverse(version(path).map(numbers)));
    let unreadable = images.first().cloned();
    let mut readable = images.into_iter().filter(|p| fs::File::open(p).is_ok());
    match (readable.next(), unreadable) {
        (Some(image), _) => Ok(with_modules(image)),
        (None, Some(image)) => Err(format!(
            "the kernel {} cannot be read by this user: copy it and name the copy with --kernel",
            image.display()
        )),
        (None, None) => Err(format!(
            "there is no kernel in {BOOT}: install one (Debian: linux-image-cloud-amd64) or name \
             one with --kernel"
        )),
    }
}

fn version(image: &Path) -> Option<&str> {
    image.file_name()?.to_str()?.strip_prefix(IMAGE)
}

/// The numbers of a version, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn with_modules(image: PathBuf) -> Kernel {
    let version = version(&image).unwrap_or_default().to_owned();
    // A package that was only unpacked has its modules beside its `boot`.
    let beside = image
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    let roots = [beside.join("lib/modules"), beside.join("usr/lib/modules")];
    let roots = roots.into_iter().chain([PathBuf::from("/lib/modules")]);
    let directory = roots
        .map(|root| root.join(&version))
        .find(|directory| !version.is_empty() && directory.is_dir());
    let found = directory.map(|directory| modules_below(&directory.join("kernel")));
    let found = found.unwrap_or_default();
    let modules = MODULES.iter().filter_map(|name| {
        let is_it = |path: &&PathBuf| {
            let file = path.file_name().and_then(|file| file.to_str());
            file.and_then(|file| file.split_once('.'))
                .is_some_and(|(stem, suffix)| {
                    stem.replace('-', "_") == *name && SUFFIXES.contains(&suffix)
                })
        };
        found.iter().find(is_it).cloned()
    });
    Kernel {
        modules: modules.collect(),
        image,
        version,
    }
}

fn modules_below(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

impl Kernel {
    /// Whether a layer in its memory can say that a directory was replaced, which needs extended
    /// attributes there: since Linux 6.6.
    pub(super) fn replaces_directories(&self) -> bool {
        let numbers = numbers(&self.version);
        numbers.is_empty() || numbers >= vec![6, 6]
    }
}
