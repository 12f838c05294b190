//! The weakest tier: an ordinary process without namespaces, kept by Landlock and seccomp alone.
//!
//! It sees no workspace: there is no layer that could take the writes. Whoever wants one inside copies
//! it ([`crate::copy`]), to the sandbox's own directory, which is all that can be written. There is no
//! network, as Landlock knows ports and no hosts.
//!
//! Holds: the agent's first process ends everything and removes that directory when the socket closes,
//! however the service ends. Directories that are left nevertheless are swept by the next service.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sandbox_agent::spec::{Access, HOME_NAME, Spec, TEMPORARY_NAME};

/// How directories of sandboxes are named, before the service's process.
const DIRECTORIES: &str = "pairwright-restricted-";
/// Why no host can be allowed.
pub(super) const NO_NETWORK: &str = "a sandbox of the tier landlock reaches no network: name no \
    hosts, or use another tier or sandbox.remote";

/// Makes a sandbox's directory, and of `spec` one that goes without namespaces.
pub(super) fn prepare(spec: Spec) -> io::Result<(tempfile::TempDir, Spec)> {
    let own = tempfile::Builder::new()
        .prefix(&format!("{DIRECTORIES}{}-", std::process::id()))
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(std::env::temp_dir().canonicalize()?)?;
    let root = own.path().to_owned();
    let (home, temporary) = (root.join(HOME_NAME), root.join(TEMPORARY_NAME));
    for directory in [&home, &temporary] {
        fs::DirBuilder::new().mode(0o700).create(directory)?;
    }
    let mut spec = spec;
    // What is empty elsewhere, with parts of it shown, is one of its own here, with links to the parts.
    let empty = spec
        .mounts
        .iter()
        .filter(|mount| mount.access == Access::Empty);
    let empty: Vec<PathBuf> = empty.map(|mount| mount.path.clone()).collect();
    for from in &empty {
        let to = home.join(from.file_name().unwrap_or_default());
        for mount in &spec.mounts {
            let below = mount.path.strip_prefix(from).ok();
            if let Some(below) = below.filter(|below| !below.as_os_str().is_empty()) {
                link(&mount.path, &to.join(below))?;
            }
        }
        for value in spec
            .env
            .values_mut()
            .filter(|value| Path::new(value) == from)
        {
            *value = to.to_string_lossy().into_owned();
        }
    }
    for (name, value) in [("HOME", &home), ("TMPDIR", &temporary)] {
        let value = value.to_string_lossy().into_owned();
        spec.env.insert(name.to_owned(), value);
    }
    let is_read = |access| matches!(access, Access::ReadOnly | Access::Scratch);
    spec.mounts.retain(|mount| is_read(mount.access));
    spec.workspace = None;
    spec.masks = Vec::new();
    spec.restricted = Some(root);
    Ok((own, spec))
}

fn link(to: &Path, at: &Path) -> io::Result<()> {
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(to, at)
}

/// Removes the directories of services that are no more.
pub(super) fn sweep() {
    super::sweep(&std::env::temp_dir(), DIRECTORIES);
}
