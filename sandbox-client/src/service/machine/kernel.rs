//! The kernel of virtual machines: one that is on this machine already.
//!
//! None comes with Pairwright. A distribution's kernel has its drivers as modules beside it; those
//! that a machine here needs are sent along.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;

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

/// A kernel's bytes, as the monitor takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loaded {
    /// As it came: it unpacks itself first, which takes seconds where that is emulated.
    Packed(Vec<u8>),
    /// A program that is started directly. It lies at the same address each time, as it is the
    /// unpacking that moves it; machines cloned from one would share that address anyway.
    Unpacked(Vec<u8>),
}

/// No kernel is larger.
const MOST_BYTES: u64 = 512 << 20;

impl Loaded {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Packed(bytes) | Self::Unpacked(bytes) => bytes,
        }
    }

    /// Unpacks a kernel where that can be done: packed by zstd, as most are, and made to be started
    /// directly.
    fn of(packed: Vec<u8>) -> Self {
        match unpack(&packed) {
            Some(unpacked) => Self::Unpacked(unpacked),
            None => Self::Packed(packed),
        }
    }
}

/// Source: `Documentation/arch/x86/boot.rst` of Linux.
fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    const SECTOR: usize = 512;
    /// The first version that tells where the payload is.
    const VERSION: u64 = 0x208;
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
    if packed.get(0x202..0x206)? != b"HdrS" || number(packed, 0x206, 2)? < VERSION {
        return None;
    }
    let n_sectors = match packed[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let offset = number(packed, 0x248, 4)? as usize;
    let start = ((n_sectors + 1) * SECTOR).checked_add(offset)?;
    let payload = packed.get(start..start.checked_add(number(packed, 0x24c, 4)? as usize)?)?;
    // Its last four bytes are its size when it is unpacked.
    let payload = payload.get(..payload.len().checked_sub(4)?)?;
    if !payload.starts_with(ZSTD) {
        return None;
    }
    let mut unpacked = Vec::new();
    let mut decoder = StreamingDecoder::new(payload).ok()?.take(MOST_BYTES);
    decoder.read_to_end(&mut unpacked).ok()?;
    can_be_started(&unpacked)?.then_some(unpacked)
}

/// Whether it is an ELF file with the note that says where such a start begins. Source:
/// `xen/include/public/elfnote.h`, `XEN_ELFNOTE_PHYS32_ENTRY`.
fn can_be_started(elf: &[u8]) -> Option<bool> {
    const NOTES: u64 = 4;
    const ENTRY: u64 = 18;
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size) = (number(elf, 32, 8)? as usize, number(elf, 54, 2)? as usize);
    for n in 0..number(elf, 56, 2)? as usize {
        let at = table.checked_add(n * size)?;
        if number(elf, at, 4)? != NOTES {
            continue;
        }
        let from = number(elf, at.checked_add(8)?, 8)? as usize;
        let until = from.checked_add(number(elf, at.checked_add(32)?, 8)? as usize)?;
        let mut notes = elf.get(from..until)?;
        while notes.len() >= 12 {
            let round = |size: u64| (size as usize).next_multiple_of(4);
            let (name, data) = (number(notes, 0, 4)?, number(notes, 4, 4)?);
            if number(notes, 8, 4)? == ENTRY && notes.get(12..16) == Some(b"Xen\0") {
                return Some(true);
            }
            let next = 12usize.checked_add(round(name))?.checked_add(round(data))?;
            notes = notes.get(next..).unwrap_or_default();
        }
    }
    Some(false)
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

impl Kernel {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than any kernel.
    pub(super) fn load(&self) -> io::Result<Loaded> {
        let mut packed = Vec::new();
        let file = fs::File::open(&self.image)?;
        file.take(MOST_BYTES).read_to_end(&mut packed)?;
        if packed.len() as u64 == MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Loaded::of(packed))
    }

    /// Whether a layer in its memory can say that a directory was replaced, which needs extended
    /// attributes there: since Linux 6.6.
    pub(super) fn replaces_directories(&self) -> bool {
        let numbers = numbers(&self.version);
        numbers.is_empty() || numbers >= vec![6, 6]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packed kernel whose payload is `payload`.
    fn packed(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
        image.extend(payload);
        image.extend([0; 4]);
        image
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// An ELF file with one note.
    fn elf(name: &[u8; 4], kind: u32) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32..40].copy_from_slice(&64u64.to_le_bytes());
        elf[54..56].copy_from_slice(&56u16.to_le_bytes());
        elf[56..58].copy_from_slice(&1u16.to_le_bytes());
        elf[64..68].copy_from_slice(&4u32.to_le_bytes());
        elf[72..80].copy_from_slice(&120u64.to_le_bytes());
        elf[96..104].copy_from_slice(&20u64.to_le_bytes());
        for word in [4, 4, kind] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(name);
        elf.extend([0; 4]);
        elf
    }

    #[test]
    fn only_a_kernel_that_can_be_started_directly_is_unpacked() {
        let direct = elf(b"Xen\0", 18);
        assert_eq!(
            Loaded::of(packed(&zstd(&direct))),
            Loaded::Unpacked(direct.clone())
        );
        let mut cut = packed(&zstd(&direct));
        cut.truncate(1030);
        for image in [
            packed(&zstd(&elf(b"Xen\0", 17))),
            packed(&zstd(&elf(b"GNU\0", 18))),
            packed(&zstd(b"text")),
            packed(&direct),
            cut,
            direct,
            Vec::new(),
        ] {
            assert_eq!(Loaded::of(image.clone()), Loaded::Packed(image));
        }
    }
}
