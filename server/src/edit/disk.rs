//! Files of one workspace root: found without leaving it, replaced whole or not at all.
//!
//! Holds: a path is walked directory by directory on opened descriptors, links are followed by
//! hand, and every directory on the way is checked: it is below the root, not of version control,
//! not our own state. What is opened that way is what is read and written, so swapping a link in
//! between gains nothing. New bytes become a file by rename after they are on the disk; the file
//! they replace is looked at after it was moved out of the way, so a write that came between is
//! noticed and put back.
//! Not here: what is written and when (`transaction`), and what becomes of it after a crash
//! (`journal`).

mod attributes;
mod walk;

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, fsync, openat, renameat_with};
use rustix::io::Errno;

use super::faults::{self, Step};
use super::path::{Denied, RepoPath};
use super::text::MAX_FILE;

pub use walk::{Directories, Place, Spot};

/// A workspace folder, held open.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    dir: OwnedFd,
    /// Directories below which nothing is edited, wherever the workspace holds them.
    forbidden: Vec<FileId>,
}

/// Which file it is, whatever it is called: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(u64, u64);

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    pub id: FileId,
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{path}: {why}")]
    Denied { path: String, why: Denied },
    #[error("{path}: leads out of the workspace by a link")]
    Escapes { path: String },
    #[error("{path}: is in Pairwright's own state directory")]
    Ours { path: String },
    #[error("{path}: is not a regular file")]
    NotRegular { path: String },
    #[error("{path}: a part of the path is a file, not a directory")]
    NotADirectory { path: String },
    #[error("{path}: is a directory")]
    IsDirectory { path: String },
    #[error("{path}: is read-only")]
    ReadOnly { path: String },
    #[error("{path}: is larger than {} MiB", MAX_FILE >> 20)]
    TooLarge { path: String },
    #[error("{path}: was changed by something else in this moment")]
    Moved { path: String },
    #[error("{path}: {doing} failed: {why}")]
    Io {
        path: String,
        doing: &'static str,
        why: io::Error,
    },
}

pub type Result<T> = std::result::Result<T, DiskError>;

impl Root {
    /// Opens a folder. `state` is where Pairwright keeps its own files, which no edit may touch.
    ///
    /// # Errors
    /// When it is not a directory that can be read.
    pub fn open(path: &Path, state: Option<&Path>) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty())?;
        let mut forbidden = Vec::new();
        if let Some(state) = state {
            match std::fs::metadata(state) {
                Ok(found) => forbidden.push(FileId(found.dev(), found.ino())),
                Err(why) if why.kind() == io::ErrorKind::NotFound => {}
                Err(why) => return Err(why),
            }
        }
        Ok(Self {
            path,
            dir,
            forbidden,
        })
    }

    /// Where the folder is, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder at `path`, links followed, is this one: it may have been moved away, and
    /// another one be there.
    pub fn is_at(&self, path: &Path) -> bool {
        let found = std::fs::metadata(path).map(|found| FileId(found.dev(), found.ino()));
        let ours = rustix::fs::fstat(&self.dir).map(|ours| walk::id_of(&ours));
        matches!((found, ours), (Ok(found), Ok(ours)) if found == ours)
    }

    /// Reads what is at `path`.
    ///
    /// # Errors
    /// [`DiskError`] when it may not or cannot be read.
    pub fn read(&self, path: &RepoPath) -> Result<Content> {
        match self.find(path)? {
            Place::Missing { .. } => Ok(Content::Missing),
            Place::Directory => Ok(Content::Directory),
            Place::File(spot) => Ok(Content::File(spot.read()?)),
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Missing,
    Directory,
    File(Stored),
}

impl Spot {
    /// Opens the file here; a link put in its place is not followed.
    fn open(&self, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(
            openat(&self.dir, &self.name, flags, Mode::empty())
                .map_err(|why| self.failed("opening", why))?,
        );
        let found = file
            .metadata()
            .map_err(|why| self.failed("looking at", why))?;
        if !found.is_file() {
            return Err(DiskError::NotRegular { path: self.shown() });
        }
        Ok(file)
    }

    /// Reads the file here.
    pub fn read(&self) -> Result<Stored> {
        let file = self.open(OFlags::RDONLY)?;
        let found = file
            .metadata()
            .map_err(|why| self.failed("looking at", why))?;
        let limit = MAX_FILE as u64;
        if found.len() > limit {
            return Err(DiskError::TooLarge { path: self.shown() });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default());
        (&file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|why| self.failed("reading", why))?;
        if bytes.len() > MAX_FILE {
            return Err(DiskError::TooLarge { path: self.shown() });
        }
        Ok(Stored {
            bytes,
            mode: found.mode() & 0o7777,
            id: FileId(found.dev(), found.ino()),
        })
    }

    /// Checks that the file may be written, without writing.
    pub fn check_writable(&self) -> Result<()> {
        let file = self.open(OFlags::RDONLY)?;
        let found = file
            .metadata()
            .map_err(|why| self.failed("looking at", why))?;
        if found.mode() & 0o222 == 0 {
            return Err(DiskError::ReadOnly { path: self.shown() });
        }
        match self.open(OFlags::WRONLY) {
            Ok(_) => Ok(()),
            Err(DiskError::Io { why, .. }) if is_permission(&why) => {
                Err(DiskError::ReadOnly { path: self.shown() })
            }
            Err(why) => Err(why),
        }
    }

    /// Writes `bytes` as a new file beside this one, under the name `temp`, with the mode and
    /// attributes the file will have. `like` is the file it takes after.
    /// [`sync_temp`](Self::sync_temp) has to follow.
    pub fn stage(&self, temp: &str, bytes: &[u8], mode: u32, like: Option<&Self>) -> Result<()> {
        let failed = |doing, why: io::Error| self.failed(doing, why);
        faults::at(Step::CreateTemp).map_err(|why| failed("creating a temporary file", why))?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temp = openat(&self.dir, temp, flags, Mode::from_raw_mode(0o600))
            .map_err(|why| failed("creating a temporary file", why.into()))?;
        let mut temp = File::from(temp);
        let half = bytes.len() / 2;
        temp.write_all(&bytes[..half])
            .and_then(|()| faults::at(Step::WriteTemp))
            .and_then(|()| temp.write_all(&bytes[half..]))
            .map_err(|why| failed("writing", why))?;
        if let Some(like) = like {
            let old = like.open(OFlags::RDONLY)?;
            attributes::copy(&old, &temp).map_err(|why| failed("copying attributes", why))?;
        }
        temp.set_permissions(Permissions::from_mode(mode))
            .map_err(|why| failed("setting the mode", why))?;
        Ok(())
    }

    /// Makes the bytes of a staged file last through a power cut.
    pub fn sync_temp(&self, temp: &str) -> Result<()> {
        let file = self.beside(temp).open(OFlags::RDONLY)?;
        file.sync_all()
            .map_err(|why| self.failed("writing to the disk", why))
    }

    /// Whether a file of another owner can be replaced by one of ours that looks the same.
    pub fn can_be_replaced(&self) -> Result<bool> {
        let file = self.open(OFlags::RDONLY)?;
        let found = file
            .metadata()
            .map_err(|why| self.failed("looking at", why))?;
        let is_ours = found.uid() == rustix::process::geteuid().as_raw();
        Ok(found.nlink() == 1 && (is_ours || rustix::process::geteuid().is_root()))
    }

    /// Puts the staged file in place of the one here, which must hold `expected`. The old file is
    /// under the name `temp` afterwards where the system can exchange names, and gone elsewhere.
    pub fn swap(&self, temp: &str, expected: &[u8]) -> Result<()> {
        let now = self.read()?;
        if now.bytes != expected {
            return Err(DiskError::Moved { path: self.shown() });
        }
        faults::at(Step::Swap).map_err(|why| self.failed("replacing", why))?;
        let exchanged = renameat_with(
            &self.dir,
            temp,
            &self.dir,
            &self.name,
            RenameFlags::EXCHANGE,
        );
        match exchanged {
            Ok(()) => {
                let old = self.beside(temp).read()?;
                if old.bytes != expected {
                    // Somebody wrote between the look and the exchange: theirs goes back.
                    renameat_with(
                        &self.dir,
                        temp,
                        &self.dir,
                        &self.name,
                        RenameFlags::EXCHANGE,
                    )
                    .map_err(|why| self.failed("putting back", why))?;
                    return Err(DiskError::Moved { path: self.shown() });
                }
                Ok(())
            }
            Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => self.replace_with(temp),
            Err(why) => Err(self.failed("replacing", why)),
        }
    }

    /// Renames `temp` over whatever is here.
    pub fn replace_with(&self, temp: &str) -> Result<()> {
        rustix::fs::renameat(&self.dir, temp, &self.dir, &self.name)
            .map_err(|why| self.failed("replacing", why))
    }

    /// Gives the staged file this name, where nothing may be.
    pub fn place_new(&self, temp: &str) -> Result<()> {
        faults::at(Step::PlaceNew).map_err(|why| self.failed("creating", why))?;
        self.rename_free(temp, &self.name).map_err(|why| match why {
            Errno::EXIST => DiskError::Moved { path: self.shown() },
            why => self.failed("creating", why),
        })
    }

    /// Moves the file here, which must hold `expected`, to the name `temp` beside it.
    pub fn take_away(&self, temp: &str, expected: &[u8]) -> Result<()> {
        faults::at(Step::TakeAway).map_err(|why| self.failed("removing", why))?;
        let name = std::ffi::OsStr::new(temp);
        rename_free(&self.dir, &self.name, name).map_err(|why| self.failed("removing", why))?;
        let taken = self.beside(temp).read()?;
        if taken.bytes != expected {
            self.rename_free(temp, &self.name)
                .map_err(|why| self.failed("putting back", why))?;
            return Err(DiskError::Moved { path: self.shown() });
        }
        Ok(())
    }

    /// Writes over the file's bytes, for files with several names or another owner.
    pub fn write_in_place(&self, bytes: &[u8], expected: Option<&[u8]>, mode: u32) -> Result<()> {
        let failed = |why: io::Error| self.failed("writing", why);
        let mut file = self.open(OFlags::RDWR)?;
        if let Some(expected) = expected {
            let mut now = Vec::new();
            (&file)
                .take(MAX_FILE as u64 + 1)
                .read_to_end(&mut now)
                .map_err(failed)?;
            if now != expected {
                return Err(DiskError::Moved { path: self.shown() });
            }
        }
        let half = bytes.len() / 2;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(&bytes[..half])
            .and_then(|()| faults::at(Step::WriteInPlace))
            .and_then(|()| file.write_all_at(&bytes[half..], half as u64))
            .and_then(|()| file.set_len(bytes.len() as u64))
            .map_err(failed)?;
        let has_mode = file.metadata().map_err(failed)?.mode() & 0o7777 == mode;
        if !has_mode {
            file.set_permissions(Permissions::from_mode(mode))
                .map_err(failed)?;
        }
        file.sync_all().map_err(failed)
    }

    /// Removes the file under the name `temp` beside this one, if there is one.
    pub fn unlink_temp(&self, temp: &str) -> Result<()> {
        faults::at(Step::Unlink).map_err(|why| self.failed("cleaning up", why))?;
        match rustix::fs::unlinkat(&self.dir, temp, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(why) => Err(self.failed("cleaning up", why)),
        }
    }

    /// Removes the file here.
    pub fn unlink(&self) -> Result<()> {
        faults::at(Step::Unlink).map_err(|why| self.failed("removing", why))?;
        rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty())
            .map_err(|why| self.failed("removing", why))
    }

    /// Makes renames in the file's directory last through a power cut.
    pub fn sync_directory(&self) -> Result<()> {
        faults::at(Step::SyncDirectory).map_err(|why| self.failed("writing to the disk", why))?;
        match fsync(self.dir.as_fd()) {
            // Some file systems cannot, and do not need to.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(why) => Err(self.failed("writing to the disk", why)),
        }
    }

    /// The file of another name in the same directory.
    pub fn beside(&self, name: &str) -> Self {
        Self {
            dir: self.dir.clone(),
            name: OsString::from(name),
            path: self.path.clone(),
        }
    }

    fn rename_free(&self, from: &str, to: &std::ffi::OsStr) -> rustix::io::Result<()> {
        rename_free(&self.dir, std::ffi::OsStr::new(from), to)
    }

    pub(super) fn failed(&self, doing: &'static str, why: impl Into<io::Error>) -> DiskError {
        DiskError::Io {
            path: self.shown(),
            doing,
            why: why.into(),
        }
    }

    fn shown(&self) -> String {
        self.path.to_string()
    }
}

/// Renames where the new name is free, or fails with `EXIST`.
fn rename_free(
    dir: &impl AsFd,
    from: &std::ffi::OsStr,
    to: &std::ffi::OsStr,
) -> rustix::io::Result<()> {
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => {
            rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            rustix::fs::unlinkat(dir, from, AtFlags::empty())
        }
        done => done,
    }
}

fn is_permission(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::ExecutableFileBusy
    )
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

#[cfg(test)]
mod tests;
