//! What a virtual machine sees of this one: an EROFS image that is written nowhere.
//!
//! Names, sizes and modes are read when it is made and held in memory, about 150 bytes a file.
//! Contents are read from the real files when the machine asks for their blocks, so making the
//! image of a whole toolchain takes as long as listing it. A file that grew since is cut, one that
//! shrank ends in zeros, one that is gone cannot be read.
//!
//! Holds: nothing outside the directories that were added can be read, whatever becomes of them
//! meanwhile: no link is followed. Format: `fs/erofs/erofs_fs.h` of Linux, without compression.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use sandbox_agent::spec::USER;

pub(super) const BLOCK: usize = 4096;
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
/// Files, directories and links of one image.
const MOST: usize = 3_000_000;
/// Blocks of one image: their numbers have 32 bits.
const MOST_BLOCKS: u64 = u32::MAX as u64;
/// Files kept open for the next read.
const OPEN: usize = 64;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Whose files are in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The system's, all of them: as others see them.
    Root,
    /// Those of this service's user are the machine's user's.
    User,
}

#[derive(Debug, Clone)]
struct Node {
    parent: u32,
    name: Box<[u8]>,
    mode: u32,
    uid: u32,
    seconds: i64,
    nanoseconds: u32,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Directory(Vec<u32>),
    File(u64),
    Link(Box<[u8]>),
}

impl Node {
    /// An empty directory of the system.
    fn directory(parent: u32, name: &[u8]) -> Self {
        Self {
            parent,
            name: name.into(),
            mode: S_IFDIR | 0o755,
            uid: 0,
            seconds: 0,
            nanoseconds: 0,
            kind: Kind::Directory(Vec::new()),
        }
    }

    /// Takes over what is known of a file.
    fn describe(&mut self, found: &Metadata, owner: Owner) {
        const FORMAT: u32 = 0o170_000;
        let own = owner == Owner::User && found.uid() == rustix::process::geteuid().as_raw();
        self.mode = self.mode & FORMAT | found.mode() & 0o777;
        self.uid = if own { USER } else { 0 };
        self.seconds = found.mtime();
        self.nanoseconds = u32::try_from(found.mtime_nsec()).unwrap_or_default();
    }
}

/// Files by name, before they have a place in an image.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// The root is the first.
    nodes: Vec<Node>,
    /// Those that were added, with all that is below them.
    whole: HashSet<u32>,
}

/// How directories are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'m> {
    pub(super) owner: Owner,
    /// Of these only the names are there.
    pub(super) masks: &'m HashSet<PathBuf>,
}

impl Tree {
    /// A root with empty directories of these names.
    pub(super) fn new(empty: &[&str]) -> Self {
        let mut tree = Self {
            nodes: vec![Node::directory(0, &[])],
            whole: HashSet::new(),
        };
        for name in empty {
            tree.directory(0, name.as_bytes());
        }
        tree
    }

    fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let Kind::Directory(children) = &self.nodes[parent as usize].kind else {
            return None;
        };
        let mut children = children.iter().copied();
        children.find(|child| *self.nodes[*child as usize].name == *name)
    }

    fn push(&mut self, node: Node) -> u32 {
        let (number, parent) = (self.nodes.len() as u32, node.parent as usize);
        self.nodes.push(node);
        if let Kind::Directory(children) = &mut self.nodes[parent].kind {
            children.push(number);
        }
        number
    }

    fn directory(&mut self, parent: u32, name: &[u8]) -> u32 {
        let there = self.child(parent, name);
        there.unwrap_or_else(|| self.push(Node::directory(parent, name)))
    }

    /// Adds a file, a link, or a directory with all that is below it, at its own path. What was
    /// added before stays as it is; what cannot be listed is left out.
    ///
    /// # Errors
    /// When it is not there, or there are too many files.
    pub(super) fn add(&mut self, path: &Path, shown: Shown<'_>) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        let mut at = 0;
        for component in path.parent().into_iter().flat_map(Path::components) {
            if let Component::Normal(name) = component {
                at = self.directory(at, name.as_bytes());
            }
            if self.whole.contains(&at) {
                return Ok(());
            }
        }
        let Some(top) = self.merge(at, path, &found, shown) else {
            return Ok(());
        };
        let mut directories = vec![(top, path.to_owned())];
        while let Some((number, path)) = directories.pop() {
            let Ok(entries) = fs::read_dir(&path) else {
                continue;
            };
            let is_new = matches!(&self.nodes[number as usize].kind, Kind::Directory(c) if c.is_empty());
            for entry in entries.flatten() {
                let Ok(found) = entry.metadata() else {
                    continue;
                };
                if self.nodes.len() >= MOST {
                    let why = format!("more than {MOST} files to show");
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
                }
                let path = entry.path();
                let directory = match is_new {
                    true => self.enter(number, &path, &found, shown),
                    false => self.merge(number, &path, &found, shown),
                };
                directories.extend(directory.map(|directory| (directory, path)));
            }
        }
        self.whole.insert(top);
        Ok(())
    }

    /// Adds one file, link or directory where there may be one of its name. Returns the directory
    /// whose contents are to be added.
    fn merge(&mut self, parent: u32, path: &Path, found: &Metadata, shown: Shown<'_>) -> Option<u32> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let Some(there) = self.child(parent, name) else {
            return self.enter(parent, path, found, shown);
        };
        let node = &mut self.nodes[there as usize];
        let is_way = matches!(node.kind, Kind::Directory(_)) && !self.whole.contains(&there);
        if !is_way || !found.is_dir() {
            return None;
        }
        // So far it only led to what was added below it.
        node.describe(found, shown.owner);
        (!shown.masks.contains(path)).then_some(there)
    }

    /// Adds one that is new. Returns the directory whose contents are to be added.
    fn enter(&mut self, parent: u32, path: &Path, found: &Metadata, shown: Shown<'_>) -> Option<u32> {
        let hidden = shown.masks.contains(path);
        let kind = found.file_type();
        let (mode, kind) = if kind.is_dir() {
            (S_IFDIR, Kind::Directory(Vec::new()))
        } else if kind.is_symlink() {
            let target = fs::read_link(path).ok()?.into_os_string().into_vec();
            (S_IFLNK, Kind::Link(target.into()))
        } else if kind.is_file() {
            let size = if hidden { 0 } else { found.len() };
            (S_IFREG, Kind::File(size))
        } else {
            // Sockets, pipes and devices mean nothing in another machine.
            return None;
        };
        let is_directory = matches!(kind, Kind::Directory(_));
        let mut node = Node {
            mode,
            kind,
            ..Node::directory(parent, path.file_name().unwrap_or_default().as_bytes())
        };
        node.describe(found, shown.owner);
        let number = self.push(node);
        (is_directory && !hidden).then_some(number)
    }

    /// Gives everything its place.
    ///
    /// # Errors
    /// When there is more than an image holds.
    pub(super) fn layout(mut self) -> io::Result<Image> {
        self.sort();
        let n_nodes = self.nodes.len();
        // The first slots stay empty, so that no inode has the number 0.
        let metadata = (n_nodes + 1) * INODE;
        let mut next = 1 + metadata.div_ceil(BLOCK) as u64;
        let mut head = vec![0; BLOCK + metadata.next_multiple_of(BLOCK)];
        let mut extents = Vec::new();
        for number in 0..n_nodes {
            let node = &self.nodes[number];
            let (size, source) = match &node.kind {
                Kind::File(size) => (*size, Source::File(number as u32)),
                Kind::Link(target) => (target.len() as u64, Source::Bytes(target.clone())),
                Kind::Directory(_) => {
                    let bytes = self.entries(number as u32);
                    (bytes.len() as u64, Source::Bytes(bytes.into()))
                }
            };
            let n_links = match &node.kind {
                Kind::Directory(children) => {
                    let below = |child: &&u32| {
                        matches!(self.nodes[**child as usize].kind, Kind::Directory(_))
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
                let path = Path::new("/").join(self.path(number as u32));
                let why = format!("{} is too large: 16 TiB can be shown", path.display());
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
        }
        superblock(&mut head[SUPERBLOCK..], n_nodes as u64, next as u32);
        Ok(Image {
            tree: self,
            head,
            extents,
            n_blocks: next,
            open: VecDeque::new(),
        })
    }

    /// Entries are found by halving, so they are in the order of their bytes.
    fn sort(&mut self) {
        for number in 0..self.nodes.len() {
            let Kind::Directory(children) = &mut self.nodes[number].kind else {
                continue;
            };
            let mut children = std::mem::take(children);
            children.sort_by(|a, b| {
                let name = |child: &u32| &self.nodes[*child as usize].name;
                name(a).cmp(name(b))
            });
            self.nodes[number].kind = Kind::Directory(children);
        }
    }

    /// The blocks of a directory.
    fn entries(&self, number: u32) -> Vec<u8> {
        let node = &self.nodes[number as usize];
        let Kind::Directory(children) = &node.kind else {
            return Vec::new();
        };
        let mut all: Vec<(&[u8], u32)> = vec![(b".", number), (b"..", node.parent)];
        all.extend(children.iter().map(|child| {
            let name = &self.nodes[*child as usize].name;
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
                let kind = match self.nodes[*child as usize].kind {
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

    fn path(&self, number: u32) -> PathBuf {
        let (mut names, mut at) = (Vec::new(), number);
        while at != 0 {
            let node = &self.nodes[at as usize];
            names.push(OsStr::from_bytes(&node.name));
            at = node.parent;
        }
        names.into_iter().rev().collect()
    }
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

/// An image, to be read by anyone who has it.
#[derive(Debug)]
pub(super) struct Image {
    tree: Tree,
    /// Superblock and inodes.
    head: Vec<u8>,
    /// By their first blocks, which follow the head.
    extents: Vec<Extent>,
    n_blocks: u64,
    open: VecDeque<(u32, Arc<File>)>,
}

impl Image {
    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.n_blocks * BLOCK as u64
    }

    /// Reads a piece. What lies outside is zeros.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn read(&mut self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        to.fill(0);
        let end = offset.saturating_add(to.len() as u64);
        let head = self.head.len() as u64;
        if offset < head {
            let from = &self.head[offset as usize..end.min(head) as usize];
            to[..from.len()].copy_from_slice(from);
        }
        let block = BLOCK as u64;
        let mut at = self
            .extents
            .partition_point(|extent| extent.first * block + extent.size <= offset);
        while let Some(extent) = self.extents.get(at) {
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
            self.tree.path(number),
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
