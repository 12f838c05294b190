//! What was changed in the workspace: the layer that took the writes, as data.
//!
//! The caller walks it, one level at a time, and asks for the contents it wants. Not here: any
//! judgement of paths, kinds or contents; whoever receives them trusts none of it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{Body, Outcome, Refusal};
use crate::wire::{Base64, Change, ChangeKind, Changes, ListChanges};

/// Entries in one answer.
const ENTRIES: usize = 20_000;
const CHUNK: usize = 64 << 10;

/// The upper directory of the workspace's overlay.
#[derive(Debug, Clone)]
pub(super) struct Layer(Arc<OwnedFd>);

impl Layer {
    pub(super) fn new(upper: OwnedFd) -> Self {
        Self(Arc::new(upper))
    }

    /// Opens something of the layer, following no link.
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() {
            b".".as_slice()
        } else {
            path
        };
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        rustix::fs::openat2(
            &*self.0,
            path,
            flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    pub(super) fn list(&self, asked: &ListChanges) -> Outcome<Changes> {
        let mut changes = Changes::default();
        for Base64(path) in &asked.directories {
            // Removed since it was listed.
            let Ok(directory) = self.open(path, OFlags::DIRECTORY) else {
                continue;
            };
            for entry in Dir::read_from(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if changes.entries.len() == ENTRIES {
                    changes.truncated = true;
                    return Ok(changes);
                }
                let Some(kind) = kind(&directory, name) else {
                    continue;
                };
                let mut whole = path.clone();
                if !whole.is_empty() {
                    whole.push(b'/');
                }
                whole.extend_from_slice(name.to_bytes());
                let path = Base64(whole);
                changes.entries.push(Change { path, kind });
            }
        }
        Ok(changes)
    }

    /// Streams contents in the order asked. Each is a `u64` length and that many bytes; what is no
    /// regular file, or cannot be read, has the length [`u64::MAX`] and no bytes.
    pub(super) fn contents(&self, asked: ListChanges) -> Response<Body> {
        let (mut sender, channel) = Channel::new(4);
        let layer = self.clone();
        tokio::spawn(async move {
            if let Err(Refusal { message, .. }) = layer.send(asked, &mut sender).await {
                sender.abort(io::Error::other(message));
            }
        });
        Response::new(Either::Right(channel))
    }

    async fn send(&self, asked: ListChanges, to: &mut Sender<Bytes, io::Error>) -> Outcome<()> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        for Base64(path) in asked.directories {
            if chunk.len() >= CHUNK {
                pass_on(&mut chunk, to).await?;
            }
            self.content(&path, &mut chunk, to).await?;
        }
        pass_on(&mut chunk, to).await
    }

    /// Adds a file to what is sent. Small ones share a piece: a reader that is slow takes many small
    /// pieces of HTTP/2 for an attack.
    async fn content(
        &self,
        path: &[u8],
        chunk: &mut BytesMut,
        to: &mut Sender<Bytes, io::Error>,
    ) -> Outcome<()> {
        let file = self.open(path, OFlags::empty()).ok();
        let file = file.and_then(|file| {
            let found = rustix::fs::fstat(&file).ok()?;
            let regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
            regular.then_some((file, u64::try_from(found.st_size).unwrap_or_default()))
        });
        let Some((file, size)) = file else {
            chunk.put_u64(u64::MAX);
            return Ok(());
        };
        chunk.put_u64(size);
        let mut left = size;
        while left > 0 {
            if chunk.len() >= CHUNK {
                pass_on(chunk, to).await?;
            }
            let room = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            let start = chunk.len();
            chunk.resize(start + room, 0);
            let n = rustix::io::read(&file, &mut chunk[start..])?;
            chunk.truncate(start + n);
            if n == 0 {
                return Err(Refusal::new("internal", "a file shrank while it was read"));
            }
            left -= n as u64;
        }
        Ok(())
    }
}

async fn pass_on(chunk: &mut BytesMut, to: &mut Sender<Bytes, io::Error>) -> Outcome<()> {
    let sent = to.send_data(chunk.split().freeze()).await;
    sent.map_err(|_| Refusal::new("internal", "nobody reads"))
}

/// What an entry of the layer says. `None` when it is gone.
fn kind(directory: &OwnedFd, name: &CStr) -> Option<ChangeKind> {
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => ChangeKind::File {
            size: u64::try_from(found.st_size).unwrap_or_default(),
            mode: found.st_mode & 0o7777,
        },
        FileType::Directory => match look_into(directory, name) {
            Ok(opened) => ChangeKind::Directory {
                opaque: is_opaque(&opened),
            },
            Err(Errno::ACCESS) => ChangeKind::Closed,
            Err(_) => return None,
        },
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new()).ok()?;
            ChangeKind::Symlink {
                target: Base64(target.into_bytes()),
            }
        }
        FileType::CharacterDevice if is_whiteout(&found) => ChangeKind::Deleted,
        _ => ChangeKind::Special,
    })
}

/// How an overlay marks what was removed.
fn is_whiteout(found: &Stat) -> bool {
    found.st_rdev == 0
}

/// Opens a directory that can be listed, and whose entries can be looked at.
fn look_into(directory: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::fs::statat(&opened, c".", AtFlags::empty())?;
    Ok(opened)
}

/// How an overlay marks a directory that replaces another.
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    matches!(
        rustix::fs::fgetxattr(directory, c"user.overlay.opaque", &mut value),
        Ok(1)
    ) && value == *b"y"
}
