//! What the kernel starts: the agent as `/init`, the libraries it needs, and the kernel's modules.
//!
//! The agent is this program where it is no file of its own, so there is no second file to find
//! and none of another version; of it only what is loaded is sent, without its symbols. Format:
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux, uncompressed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::kernel::Kernel;

/// Where programs find their libraries without being told.
const LIBRARIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Builds it.
///
/// # Errors
/// When the agent, a library or a module cannot be read, or the agent is no program for this
/// processor.
pub(super) fn build(agent: &Path, kernel: &Kernel) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    let agent = Program::read(agent)?;
    archive.file(Path::new("/init"), 0o755, &agent.bytes);
    if let Some(path) = agent.interpreter {
        archive.file(&path, 0o755, &Program::read(&path)?.bytes);
    }
    let mut names = agent.libraries;
    let mut sent = BTreeSet::new();
    while let Some(name) = names.pop() {
        if !sent.insert(name.clone()) {
            continue;
        }
        let mut paths = LIBRARIES.iter().map(|d| Path::new(d).join(&name));
        let path = paths.find(|path| path.is_file()).ok_or_else(|| {
            let why = format!("the agent needs {name}, which is not where libraries are");
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
        let library = Program::read(&path)?;
        archive.file(&path, 0o755, &library.bytes);
        names.extend(library.libraries);
    }
    for (n, module) in kernel.modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(module)?;
        archive.file(Path::new(&format!("/modules/{n:02}-{name}")), 0o644, &bytes);
    }
    Ok(archive.finish())
}

/// Files in a row, with the directories they are in.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<PathBuf>,
    n_entries: u32,
}

impl Archive {
    fn file(&mut self, path: &Path, mode: u32, contents: &[u8]) {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
        parents.reverse();
        for parent in parents {
            if parent != Path::new("/") && self.directories.insert(parent.to_owned()) {
                self.entry(parent, 0o040_755, 2, &[]);
            }
        }
        self.entry(path, 0o100_000 | mode, 1, contents);
    }

    fn entry(&mut self, path: &Path, mode: u32, n_links: u32, contents: &[u8]) {
        let name = path.strip_prefix("/").unwrap_or(path);
        let name = name.as_os_str().as_bytes();
        self.n_entries += 1;
        let (size, name_size) = (contents.len() as u32, name.len() as u32 + 1);
        let fields = [
            self.n_entries,
            mode,
            0,
            0,
            n_links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, 1, &[]);
        self.bytes
    }
}

/// A program or library, as far as it is loaded.
#[derive(Debug)]
struct Program {
    bytes: Vec<u8>,
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
}

/// A part of a program's file, and where it is in memory.
struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    size: usize,
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// Tags of the dynamic section.
const NEEDED: u64 = 1;
const STRINGS: u64 = 5;

impl Program {
    /// Reads an ELF file for x86-64 (`elf(5)`).
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        Self::parse(bytes).ok_or_else(|| {
            let why = format!("{} is no program for x86-64", path.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }

    fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        const X86_64: u64 = 62;
        if bytes.get(..6)? != b"\x7fELF\x02\x01" || number(&bytes, 18, 2)? != X86_64 {
            return None;
        }
        let table = number(&bytes, 32, 8)? as usize;
        let (size, n_segments) = (number(&bytes, 54, 2)? as usize, number(&bytes, 56, 2)?);
        let mut segments = Vec::new();
        for n in 0..n_segments as usize {
            let at = table.checked_add(n.checked_mul(size)?)?;
            segments.push(Segment {
                kind: number(&bytes, at, 4)? as u32,
                offset: number(&bytes, at + 8, 8)? as usize,
                address: number(&bytes, at + 16, 8)?,
                size: number(&bytes, at + 32, 8)? as usize,
            });
        }
        let of = |kind: u32| segments.iter().find(|segment| segment.kind == kind);
        let interpreter = match of(INTERPRETER) {
            Some(segment) => Some(PathBuf::from(text(&bytes, segment.offset)?)),
            None => None,
        };
        let libraries = match of(DYNAMIC) {
            Some(segment) => libraries(&bytes, &segments, segment)?,
            None => Vec::new(),
        };
        let ends = segments
            .iter()
            .filter(|segment| segment.kind == LOAD)
            .map(|segment| segment.offset.checked_add(segment.size));
        let end = ends.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        bytes.truncate(end);
        // The table of sections is gone.
        bytes.get_mut(40..48)?.fill(0);
        bytes.get_mut(60..64)?.fill(0);
        Some(Self {
            bytes,
            interpreter,
            libraries,
        })
    }
}

fn libraries(bytes: &[u8], segments: &[Segment], dynamic: &Segment) -> Option<Vec<String>> {
    let tags = (0..dynamic.size / 16).map(|n| {
        let at = dynamic.offset.checked_add(n * 16)?;
        Some((number(bytes, at, 8)?, number(bytes, at + 8, 8)?))
    });
    let tags: Vec<(u64, u64)> = tags.collect::<Option<_>>()?;
    let (_, address) = tags.iter().find(|(tag, _)| *tag == STRINGS)?;
    let strings = segments.iter().find_map(|segment| {
        let inside = address.checked_sub(segment.address)? as usize;
        let holds = segment.kind == LOAD && inside < segment.size;
        holds.then_some(segment.offset.checked_add(inside)?)
    })?;
    let needed = tags.iter().filter(|(tag, _)| *tag == NEEDED);
    needed
        .map(|(_, name)| text(bytes, strings.checked_add(*name as usize)?))
        .collect()
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// Text that ends in a zero.
fn text(bytes: &[u8], at: usize) -> Option<String> {
    let text = bytes.get(at..)?.split(|b| *b == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}
