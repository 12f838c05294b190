//! Whether virtual machines can be tested here, with which kernel, and what limits them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian has it.
const MONITOR: &str = "/usr/bin/qemu-system-x86_64";

/// The kernel that `tests/run` puts below `target/tools`, or this machine's own. `None` without
/// one, or without QEMU: the test is to do nothing then. In CI that is a failure.
pub(crate) fn kernel() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut below = above.map(|directory| directory.join("target/tools/kernel/boot"));
    let kernel = below.find_map(|boot| kernel_in(&boot));
    let kernel = kernel.or_else(|| kernel_in(Path::new("/boot")));
    let missing = match kernel {
        Some(kernel) if Path::new(MONITOR).exists() => return Some(kernel),
        Some(_) => "QEMU",
        None => "a kernel",
    };
    assert!(std::env::var_os("CI").is_none(), "there is not {missing}");
    eprintln!("not tested: there is not {missing}; tests/run installs it");
    None
}

/// The control groups of the sandboxes of a service in this process, in each hierarchy.
pub(crate) fn groups(service: u32) -> Vec<PathBuf> {
    let prefix = format!("pairwright-{service}-");
    let mut found = Vec::new();
    let mut level = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = level.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                level.push(entry.path());
            }
        }
    }
    found
}

fn kernel_in(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| path.to_string_lossy().contains("/vmlinuz-"))
}
