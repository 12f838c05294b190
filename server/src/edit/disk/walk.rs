//! From a path to an opened directory and a name in it, never outside the root.
//!
//! Links are followed by hand, one component at a time from opened descriptors, as the `openat2`
//! of Linux would with `RESOLVE_BENEATH`, but on any Unix and with a look at every directory that
//! is really entered.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::{DiskError, FileId, Result, Root};
use crate::edit::faults::{self, Step};
use crate::edit::path::{RepoPath, check_name};

/// Links followed at most, as Linux does.
const MAX_LINKS: usize = 40;

/// A name in an opened directory.
#[derive(Debug, Clone)]
pub struct Spot {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: OsString,
    /// As the workspace knows it.
    pub(super) path: RepoPath,
}

/// What is at the end of a path.
#[derive(Debug)]
pub enum Place {
    File(Spot),
    Directory,
    /// Nothing. `missing` directories, outermost first, are to be made for a file to be put here;
    /// they are paths below the root with links resolved.
    Missing {
        missing: Vec<String>,
    },
}

impl Root {
    /// Finds what is at `path`.
    ///
    /// # Errors
    /// [`DiskError`] when the path leads where no edit may go, or cannot be followed.
    pub fn find(&self, path: &RepoPath) -> Result<Place> {
        let mut walk = Walk::new(self, path);
        walk.run()?;
        Ok(match walk.end {
            End::File => Place::File(walk.spot()?),
            End::Directory => Place::Directory,
            End::Missing => Place::Missing {
                missing: walk.missing(),
            },
        })
    }

    /// Returns where `path` leads when links are followed; what is not there yet stays as written.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn resolve(&self, path: &RepoPath) -> Result<RepoPath> {
        let mut walk = Walk::new(self, path);
        walk.run()?;
        let entered = walk.entered.iter().map(|(_, name)| name);
        let last = (walk.end != End::Directory).then_some(&walk.last);
        let names: Vec<_> = entered
            .chain(last)
            .chain(&walk.todo)
            .map(|name| name.to_string_lossy())
            .collect();
        // A link to the root has no name of its own.
        Ok(RepoPath::parse(&names.join("/")).unwrap_or_else(|_| path.clone()))
    }

    /// Finds the name at the end of `path`, where there may be a file or nothing; makes the
    /// directories that are missing on the way.
    ///
    /// # Errors
    /// As [`find`](Self::find), and when a directory cannot be made.
    pub fn spot(&self, path: &RepoPath, directories: Directories) -> Result<Option<Spot>> {
        let mut walk = Walk::new(self, path);
        walk.directories = directories;
        walk.run()?;
        match walk.end {
            End::Directory => Err(DiskError::IsDirectory {
                path: path.to_string(),
            }),
            End::Missing if !walk.todo.is_empty() => Ok(None),
            End::File | End::Missing => walk.spot().map(Some),
        }
    }

    /// Removes a directory that was made for an edit, if it is empty.
    pub fn remove_directory(&self, path: &str) {
        let Ok(path) = RepoPath::parse(path) else {
            return;
        };
        let mut walk = Walk::new(self, &path);
        if let (Ok(()), End::Directory) = (walk.run(), walk.end)
            && let Some((_, name)) = walk.entered.pop()
        {
            let parent = walk.current();
            // Not empty: something else is in it by now.
            let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
            let _ = rustix::fs::fsync(parent);
        }
    }
}

/// What to do about directories that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directories {
    Make,
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    File,
    Directory,
    Missing,
}

struct Walk<'r> {
    root: &'r Root,
    path: &'r RepoPath,
    directories: Directories,
    entered: Vec<(Arc<OwnedFd>, OsString)>,
    todo: VecDeque<OsString>,
    last: OsString,
    n_links: usize,
    end: End,
}

impl<'r> Walk<'r> {
    fn new(root: &'r Root, path: &'r RepoPath) -> Self {
        Self {
            root,
            path,
            directories: Directories::Leave,
            entered: Vec::new(),
            todo: path.components().map(OsString::from).collect(),
            last: OsString::new(),
            n_links: 0,
            end: End::Directory,
        }
    }

    fn run(&mut self) -> Result<()> {
        while let Some(name) = self.todo.pop_front() {
            match name.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    if self.entered.pop().is_none() {
                        return Err(self.escapes());
                    }
                    self.end = End::Directory;
                    continue;
                }
                _ => {}
            }
            let shown = name.to_string_lossy();
            check_name(&shown).map_err(|why| DiskError::Denied {
                path: self.path.to_string(),
                why,
            })?;
            let found = statat(self.current(), &name, AtFlags::SYMLINK_NOFOLLOW);
            match found.map(|f| FileType::from_raw_mode(f.st_mode)) {
                Ok(FileType::Directory) => self.enter(name)?,
                Ok(FileType::Symlink) => self.follow(&name)?,
                Ok(FileType::RegularFile) if self.todo.is_empty() => {
                    self.last = name;
                    self.end = End::File;
                    return Ok(());
                }
                Ok(FileType::RegularFile) | Err(Errno::NOTDIR) => {
                    return Err(DiskError::NotADirectory {
                        path: self.path.to_string(),
                    });
                }
                Ok(_) => {
                    return Err(DiskError::NotRegular {
                        path: self.path.to_string(),
                    });
                }
                Err(Errno::NOENT)
                    if self.directories == Directories::Make && !self.todo.is_empty() =>
                {
                    self.make(&name)?;
                    self.enter(name)?;
                }
                Err(Errno::NOENT) => {
                    self.check_rest()?;
                    self.last = name;
                    self.end = End::Missing;
                    return Ok(());
                }
                Err(why) => return Err(self.failed("looking at", why)),
            }
        }
        Ok(())
    }

    /// What is left of the path does not exist yet, but must be allowed all the same.
    fn check_rest(&self) -> Result<()> {
        for name in &self.todo {
            if name == ".." {
                return Err(self.escapes());
            }
            check_name(&name.to_string_lossy()).map_err(|why| DiskError::Denied {
                path: self.path.to_string(),
                why,
            })?;
        }
        Ok(())
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.entered
            .last()
            .map_or_else(|| self.root.dir.as_fd(), |(dir, _)| dir.as_fd())
    }

    fn enter(&mut self, name: OsString) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(self.current(), &name, flags, Mode::empty())
            .map_err(|why| self.failed("opening", why))?;
        let found = fstat(&dir).map_err(|why| self.failed("looking at", why))?;
        if self.root.forbidden.contains(&id_of(&found)) {
            return Err(DiskError::Ours {
                path: self.path.to_string(),
            });
        }
        self.entered.push((Arc::new(dir), name));
        self.end = End::Directory;
        Ok(())
    }

    fn make(&self, name: &OsStr) -> Result<()> {
        faults::at(Step::MakeDirectory).map_err(|why| DiskError::Io {
            path: self.path.to_string(),
            doing: "making a directory",
            why,
        })?;
        match mkdirat(self.current(), name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {
                let _ = rustix::fs::fsync(self.current());
                Ok(())
            }
            Err(why) => Err(self.failed("making a directory", why)),
        }
    }

    fn follow(&mut self, name: &OsStr) -> Result<()> {
        self.n_links += 1;
        if self.n_links > MAX_LINKS {
            return Err(self.failed("following links", Errno::LOOP));
        }
        let target = readlinkat(self.current(), name, Vec::new())
            .map_err(|why| self.failed("reading a link", why))?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        let inside = if target.is_absolute() {
            let inside = target
                .strip_prefix(&self.root.path)
                .map_err(|_| self.escapes())?;
            self.entered.clear();
            inside
        } else {
            target
        };
        for component in inside.as_os_str().as_bytes().split(|&b| b == b'/').rev() {
            self.todo
                .push_front(OsStr::from_bytes(component).to_owned());
        }
        self.end = End::Directory;
        Ok(())
    }

    fn spot(&self) -> Result<Spot> {
        let dir = match self.entered.last() {
            Some((dir, _)) => Arc::clone(dir),
            None => Arc::new(self.root.dir.try_clone().map_err(|why| DiskError::Io {
                path: self.path.to_string(),
                doing: "opening",
                why,
            })?),
        };
        Ok(Spot {
            dir,
            name: self.last.clone(),
            path: self.path.clone(),
        })
    }

    fn missing(&self) -> Vec<String> {
        if self.todo.is_empty() {
            return Vec::new();
        }
        let mut so_far: Vec<String> = self
            .entered
            .iter()
            .map(|(_, name)| name.to_string_lossy().into_owned())
            .collect();
        let mut missing = Vec::new();
        let n_rest = self.todo.len() - 1;
        for name in std::iter::once(&self.last).chain(self.todo.iter().take(n_rest)) {
            so_far.push(name.to_string_lossy().into_owned());
            missing.push(so_far.join("/"));
        }
        missing
    }

    fn escapes(&self) -> DiskError {
        DiskError::Escapes {
            path: self.path.to_string(),
        }
    }

    fn failed(&self, doing: &'static str, why: Errno) -> DiskError {
        DiskError::Io {
            path: self.path.to_string(),
            doing,
            why: why.into(),
        }
    }
}

#[expect(clippy::unnecessary_cast, reason = "the types differ between systems")]
pub(super) fn id_of(found: &rustix::fs::Stat) -> FileId {
    FileId(found.st_dev as u64, found.st_ino as u64)
}
