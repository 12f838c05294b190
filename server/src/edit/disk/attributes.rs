//! What a file has besides bytes and mode: its owner, access lists and other attributes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Gid, Uid, XattrFlags, fchown, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

/// Largest list of names and largest value that Linux allows.
const MAX_XATTR: usize = 64 << 10;

/// Makes `new` a file of the owner of `old`, with its attributes, as far as the user may.
pub(super) fn copy(old: &File, new: &File) -> io::Result<()> {
    let (was, is) = (old.metadata()?, new.metadata()?);
    if was.gid() != is.gid() {
        match fchown(new, None, Some(Gid::from_raw(was.gid()))) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(why) => return Err(why.into()),
        }
    }
    if was.uid() != is.uid() {
        fchown(new, Some(Uid::from_raw(was.uid())), None)?;
    }
    copy_xattrs(old, new)
}

fn copy_xattrs(old: &File, new: &File) -> io::Result<()> {
    let mut names = vec![0_u8; MAX_XATTR];
    let n_bytes = match flistxattr(old, &mut names) {
        Ok(n_bytes) => n_bytes,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
        Err(why) => return Err(why.into()),
    };
    let mut value = vec![0_u8; MAX_XATTR];
    for name in names[..n_bytes]
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
    {
        let n_bytes = match fgetxattr(old, name, &mut value) {
            Ok(n_bytes) => n_bytes,
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
            Err(why) => return Err(why.into()),
        };
        // The system's own attributes are for it to set; what the user may not keep is lost to
        // any editor that saves.
        match fsetxattr(new, name, &value[..n_bytes], XattrFlags::empty()) {
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}
