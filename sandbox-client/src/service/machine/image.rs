//! What a virtual machine sees of this one: an EROFS image that is written nowhere.
//!
//! Names, sizes and modes are read when it is made and held in memory, about 150 bytes a file.
//! Contents are read from the real files when the machine asks for their blocks, so making the
//! image of a whole toolchain takes as long as listing it. A file that grew since is cut, one that
//! shrank ends in zeros, one that is gone cannot be read.
//!
//! Holds: nothing outside the directories that were added can be read, whatever becomes of them
//! meanwhile: no link is followed. Format: `fs/erofs/erofs_fs.h` of Linux, without compression.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::tree::{Kind, Tree};

const BLOCK: usize = 4096;
const BLOCK_BITS: u8 = 12;
/// Where the superblock is in the first block.
const SUPERBLOCK: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;
/// Bytes of an extended inode.
const INODE: usize = 64;
/// An inode's number counts slots of this size.
const SLOT: usize = 32;
/// Bytes of a directory entry without its name.
const ENTRY: usize = 12;
/// Blocks of one image: their numbers have 32 bits.
const MOST_BLOCKS: u64 = u32::MAX as u64;
/// No image is larger, in bytes.
pub(super) const MOST_BYTES: u64 = MOST_BLOCKS * BLOCK as u64;
/// Files kept open for the next read.
const OPEN: usize = 64;

#[derive(Debug)]
enum Source {
    Bytes(Box<[u8]>),
    /// A node that is a file.
    File(u32),
}

/// Blocks in a row that belong to one inode.
#[derive(Debug)]
struct Extent {
    first: u64,
    size: u64,
    source: Source,
}

/// An image, to be read by anyone who has it, through a [`Reader`].
#[derive(Debug)]
pub(super) struct Image {
    tree: Tree,
    /// Superblock and inodes.
    head: Vec<u8>,
    /// By their first blocks, which follow the head.
    extents: Vec<Extent>,
    digest: OnceLock<blake3::Hash>,
}

/// Someone who reads an image.
#[derive(Debug)]
pub(super) struct Reader {
    image: Arc<Image>,
    /// Files kept open for the next read.
    open: VecDeque<(u32, Arc<File>)>,
}

impl Image {
    /// Gives everything its place.
    ///
    /// # Errors
    /// When there is more than an image holds.
    pub(super) fn of(mut tree: Tree) -> io::Result<Self> {
        sort(&mut tree);
        let n_nodes = tree.nodes.len();
        // The first slots stay empty, so that no inode has the number 0.
        let metadata = (n_nodes + 1) * INODE;
        let mut next = 1 + metadata.div_ceil(BLOCK) as u64;
        let mut head = vec![0; BLOCK + metadata.next_multiple_of(BLOCK)];
        let mut extents = Vec::new();
        for number in 0..n_nodes {
            let node = &tree.nodes[number];
            let (size, source) = match &node.kind {
                Kind::File(size) => (*size, Source::File(number as u32)),
                Kind::Link(target) => (target.len() as u64, Source::Bytes(target.clone())),
                Kind::Directory(_) => {
                    let bytes = entries(&tree, number as u32);
                    (bytes.len() as u64, Source::Bytes(bytes.into()))
                }
            };
            let n_links = match &node.kind {
                Kind::Directory(children) => {
                    let below = |child: &&u32| {
                        matches!(tree.nodes[**child as usize].kind, Kind::Directory(_))
                    };
                    2 + children.iter().filter(below).count() as u32
                }
                Kind::File(_) | Kind::Link(_) => 1,
            };
            let inode = Inode {
                mode: node.mode,
                size,
                block: next as u32,
                number: number as u32 + 1,
                uid: node.uid,
                seconds: node.seconds,
                nanoseconds: node.nanoseconds,
                n_links,
            };
            let place = BLOCK + (number + 1) * INODE;
            inode.write(&mut head[place..place + INODE]);
            if size > 0 {
                extents.push(Extent {
                    first: next,
                    size,
                    source,
                });
                next += size.div_ceil(BLOCK as u64);
            }
            if next > MOST_BLOCKS {
                let path = Path::new("/").join(tree.path(number as u32));
                let why = format!("{} is too large: 16 TiB can be shown", path.display());
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
        }
        superblock(&mut head[SUPERBLOCK..], n_nodes as u64, next as u32);
        Ok(Self {
            tree,
            head,
            extents,
            digest: OnceLock::new(),
        })
    }

    /// Tells images apart by all that is in them but the contents of files.
    pub(super) fn digest(&self) -> blake3::Hash {
        *self.digest.get_or_init(|| {
            let mut digest = blake3::Hasher::new();
            digest.update(&self.head);
            for extent in &self.extents {
                if let Source::Bytes(bytes) = &extent.source {
                    digest.update(bytes);
                }
            }
            digest.finalize()
        })
    }

    /// Whether no directory has changed since it was made: nothing was added, removed or renamed.
    /// A file that was written in place is read as it is now.
    pub(super) fn is_current(&self) -> bool {
        self.tree.is_current()
    }
}

impl Reader {
    pub(super) fn new(image: Arc<Image>) -> Self {
        Self {
            image,
            open: VecDeque::new(),
        }
    }

    /// Reads a piece. What lies outside is zeros.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn read(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        to.fill(0);
        let end = offset.saturating_add(to.len() as u64);
        let image = Arc::clone(&self.image);
        let head = image.head.len() as u64;
        if offset < head {
            let from = &image.head[offset as usize..end.min(head) as usize];
            to[..from.len()].copy_from_slice(from);
        }
        let block = BLOCK as u64;
        let mut at = image
            .extents
            .partition_point(|extent| extent.first * block + extent.size <= offset);
        while let Some(extent) = image.extents.get(at) {
            let start = extent.first * block;
            if start >= end {
                break;
            }
            let (from, until) = (offset.max(start), end.min(start + extent.size));
            let piece = &mut to[(from - offset) as usize..(until - offset) as usize];
            match &extent.source {
                Source::Bytes(bytes) => {
                    let from = (from - start) as usize;
                    piece.copy_from_slice(&bytes[from..from + piece.len()]);
                }
                Source::File(number) => {
                    let number = *number;
                    let file = self.file(number)?;
                    read_what_is_there(&file, from - start, piece)?;
                }
            }
            at += 1;
        }
        Ok(())
    }

    fn file(&mut self, number: u32) -> io::Result<Arc<File>> {
        if let Some((_, file)) = self.open.iter().find(|(open, _)| *open == number) {
            return Ok(Arc::clone(file));
        }
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let opened = rustix::fs::openat2(
            root,
            self.image.tree.path(number),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH,
        )?;
        let file = File::from(opened);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Arc::new(file);
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        self.open.push_back((number, Arc::clone(&file)));
        Ok(file)
    }
}

/// Reads until the file or the room ends.
fn read_what_is_there(file: &File, offset: u64, mut to: &mut [u8]) -> io::Result<()> {
    let mut at = offset;
    while !to.is_empty() {
        match file.read_at(to, at) {
            Ok(0) => break,
            Ok(n) => {
                at += n as u64;
                to = &mut to[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Entries are found by halving, so they are in the order of their bytes.
fn sort(tree: &mut Tree) {
    for number in 0..tree.nodes.len() {
        let Kind::Directory(children) = &mut tree.nodes[number].kind else {
            continue;
        };
        let mut children = std::mem::take(children);
        children.sort_by(|a, b| {
            let name = |child: &u32| &tree.nodes[*child as usize].name;
            name(a).cmp(name(b))
        });
        tree.nodes[number].kind = Kind::Directory(children);
    }
}

/// The blocks of a directory.
fn entries(tree: &Tree, number: u32) -> Vec<u8> {
    let node = &tree.nodes[number as usize];
    let Kind::Directory(children) = &node.kind else {
        return Vec::new();
    };
    let mut all: Vec<(&[u8], u32)> = vec![(b".", number), (b"..", node.parent)];
    all.extend(children.iter().map(|child| {
        let name = &tree.nodes[*child as usize].name;
        (name.as_ref(), *child)
    }));
    all.sort_unstable();
    let (mut bytes, mut rest) = (Vec::new(), all.as_slice());
    while !rest.is_empty() {
        let mut room = BLOCK;
        let fits = rest.iter().take_while(|(name, _)| {
            let need = ENTRY + name.len();
            let fits = need <= room;
            room = room.saturating_sub(need);
            fits
        });
        let (block, left) = rest.split_at(fits.count().max(1));
        rest = left;
        // All blocks but the last are whole.
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut name_at = block.len() * ENTRY;
        for (name, child) in block {
            let kind = match tree.nodes[*child as usize].kind {
                Kind::File(_) => 1,
                Kind::Directory(_) => 2,
                Kind::Link(_) => 7,
            };
            bytes.extend(nid(*child).to_le_bytes());
            bytes.extend((name_at as u16).to_le_bytes());
            bytes.extend([kind, 0]);
            name_at += name.len();
        }
        for (name, _) in block {
            bytes.extend(*name);
        }
    }
    bytes
}

/// The number of an inode.
fn nid(node: u32) -> u64 {
    (u64::from(node) + 1) * (INODE / SLOT) as u64
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn superblock(to: &mut [u8], n_inodes: u64, n_blocks: u32) {
    put(to, 0, &MAGIC.to_le_bytes());
    to[12] = BLOCK_BITS;
    put(to, 14, &(nid(0) as u16).to_le_bytes());
    put(to, 16, &n_inodes.to_le_bytes());
    put(to, 36, &n_blocks.to_le_bytes());
    // The block that the first inode's number counts from.
    put(to, 40, &1u32.to_le_bytes());
}

struct Inode {
    mode: u32,
    size: u64,
    block: u32,
    number: u32,
    uid: u32,
    seconds: i64,
    nanoseconds: u32,
    n_links: u32,
}

impl Inode {
    fn write(&self, to: &mut [u8]) {
        /// An extended inode, whose contents are blocks in a row.
        const FORMAT: u16 = 1;
        put(to, 0, &FORMAT.to_le_bytes());
        put(to, 4, &(self.mode as u16).to_le_bytes());
        put(to, 8, &self.size.to_le_bytes());
        put(to, 16, &self.block.to_le_bytes());
        put(to, 20, &self.number.to_le_bytes());
        put(to, 24, &self.uid.to_le_bytes());
        put(to, 28, &self.uid.to_le_bytes());
        put(to, 32, &self.seconds.to_le_bytes());
        put(to, 40, &self.nanoseconds.to_le_bytes());
        put(to, 44, &self.n_links.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
