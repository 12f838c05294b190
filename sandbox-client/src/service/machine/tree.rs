//! What a virtual machine sees of this one, by name: files, directories and links, as they are when
//! they are listed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use sandbox_agent::spec::USER;

/// Files, directories and links of one tree.
const MOST: usize = 3_000_000;

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
pub(super) struct Node {
    pub(super) parent: u32,
    pub(super) name: Box<[u8]>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// The numbers of what is in it.
    Directory(Vec<u32>),
    /// Its size.
    File(u64),
    /// What it says.
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

/// Files by name; each has a number.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// The root is the first.
    pub(super) nodes: Vec<Node>,
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
    /// A root without anything.
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::directory(0, &[])],
            whole: HashSet::new(),
        }
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
            let is_new =
                matches!(&self.nodes[number as usize].kind, Kind::Directory(c) if c.is_empty());
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
    fn merge(
        &mut self,
        parent: u32,
        path: &Path,
        found: &Metadata,
        shown: Shown<'_>,
    ) -> Option<u32> {
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
    fn enter(
        &mut self,
        parent: u32,
        path: &Path,
        found: &Metadata,
        shown: Shown<'_>,
    ) -> Option<u32> {
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

    /// Whether every directory that was listed has the time that it had then.
    pub(super) fn is_current(&self) -> bool {
        (0..).zip(&self.nodes).all(|(number, node)| {
            // One without a time only leads to others.
            let is_listed = matches!(node.kind, Kind::Directory(_))
                && (node.seconds, node.nanoseconds) != (0, 0);
            !is_listed
                || fs::symlink_metadata(Path::new("/").join(self.path(number))).is_ok_and(|now| {
                    now.is_dir()
                        && now.mtime() == node.seconds
                        && now.mtime_nsec() == i64::from(node.nanoseconds)
                })
        })
    }

    /// Where a file is on this machine, below `/`.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        let (mut names, mut at) = (Vec::new(), number);
        while at != 0 {
            let node = &self.nodes[at as usize];
            names.push(OsStr::from_bytes(&node.name));
            at = node.parent;
        }
        names.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_whole_also_where_a_part_of_it_was_added_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("tool/bin")).unwrap();
        fs::create_dir(at("hidden")).unwrap();
        for name in ["tool/bin/cc", "tool/own", "a.txt", "hidden/key", ".env"] {
            fs::write(at(name), "text").unwrap();
        }
        let masks = HashSet::from([at(".env"), at("hidden")]);
        let shown = |owner| Shown {
            owner,
            masks: &masks,
        };
        let mut tree = Tree::new();
        tree.add(&at("tool/bin"), shown(Owner::Root)).unwrap();
        // Made since: what was added stays as it was.
        fs::write(at("tool/bin/later"), "text").unwrap();
        tree.add(folder.path(), shown(Owner::User)).unwrap();
        tree.add(&at("a.txt"), shown(Owner::Root)).unwrap();
        let below = |number: u32| {
            let path = Path::new("/").join(tree.path(number));
            let path = path.strip_prefix(folder.path()).ok()?.to_str()?.to_owned();
            let node = &tree.nodes[number as usize];
            let what = match node.kind {
                Kind::File(size) => size.to_string(),
                Kind::Directory(_) => "directory".to_owned(),
                Kind::Link(_) => "link".to_owned(),
            };
            Some(format!("{path} {what} {}", node.uid))
        };
        let mut all: Vec<_> = (0..tree.nodes.len() as u32).filter_map(below).collect();
        all.sort();
        let expected = [
            " directory 1000",
            ".env 0 1000",
            "a.txt 4 1000",
            "hidden directory 1000",
            "tool directory 1000",
            "tool/bin directory 0",
            "tool/bin/cc 4 0",
            "tool/own 4 1000",
        ];
        assert_eq!(all, expected);
    }
}
