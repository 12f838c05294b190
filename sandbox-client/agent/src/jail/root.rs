//! The file system inside: what was named, at its own path, and an `/etc` of our own.
//!
//! Everything that can be written lies in one memory file system of a fixed size. Paths from the
//! service are canonical; a symbolic link among them is copied as a link.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::process::pivot_root;

use super::{Step, at};
use crate::spec::{Access, ETC, HOME, Mount, Spec};

/// Where the host's file system is while the new one is built.
pub(crate) const HOST: &str = "/old";
/// Where the new one is built.
const NEW: &str = "/new";
/// All that can be written.
const SCRATCH: &str = "/scratch";
/// A fixed place for what overlays lie on, as their options cannot name every path.
const LOWER: &str = "/lower";

const ETC_FILES: [(&str, &str); 6] = [
    (
        "passwd",
        "root:x:0:0:root:/:/usr/sbin/nologin\nuser:x:1000:1000:user:/home/user:/bin/bash\n\
         nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
    ("hostname", "sandbox\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    ),
    ("resolv.conf", ""),
];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Of `/proc`, what acts on the whole machine: read-only, also for a user who is root outside.
const PROC_READ_ONLY: [&str; 6] = ["acpi", "bus", "fs", "irq", "scsi", "sys"];
/// Of `/proc`, what shows or does things to the whole machine: empty.
const PROC_EMPTY: [&str; 19] = [
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "sched_debug",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "vmallocinfo",
];

/// A file system that is being built beside the host's.
pub(super) struct Root {
    /// What is shown already.
    shown: Vec<Mount>,
    overlays: u32,
}

/// Begins with what every sandbox has, and with `mounts`, which are read-only.
pub(super) fn prepare(mounts: Vec<Mount>) -> Step<Root> {
    leave_host()?;
    etc()?;
    at("make /dev", devices())?;
    proc()?;
    let mut root = Root {
        shown: Vec::new(),
        overlays: 0,
    };
    for mount in mounts {
        if mount.access == Access::ReadOnly {
            root.show(&mount)?;
            root.shown.push(mount);
        }
    }
    Ok(root)
}

impl Root {
    /// Adds what one sandbox has, and makes all of it the root. Returns the workspace's layer of
    /// changes.
    pub(super) fn finish(mut self, spec: &Spec) -> Step<Option<OwnedFd>> {
        scratch(spec)?;
        for mount in &spec.mounts {
            if !self.shown.contains(mount) {
                self.show(mount)?;
            }
        }
        let upper = match &spec.workspace {
            None => None,
            Some(path) => {
                let mut step = format!("lay a layer over {}", path.display());
                let upper = overlay(path, &mut self.overlays);
                if upper.is_err()
                    && let Some(mount) = mounted_in(path)
                {
                    let mount = mount.display();
                    step += &format!(
                        ", in which {mount} is mounted: unmount that, or take a \
                         tier that reads or copies the folder (vm, vm-emulated, landlock)"
                    );
                }
                let upper = at(&step, upper)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Some(at(&step, rustix::fs::open(&upper, flags, Mode::empty()))?)
            }
        };
        for path in &spec.masks {
            at(&format!("hide {}", path.display()), mask(&inside(path)))?;
        }
        let sealed = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        at("seal the root", mount_remount(NEW, sealed, ""))?;
        at("enter the root", enter())?;
        Ok(upper)
    }

    fn show(&mut self, mount: &Mount) -> Step<()> {
        let step = format!("show {}", mount.path.display());
        at(&step, show(mount, &mut self.overlays))
    }
}

/// Makes a memory file system the root, with the host's at [`HOST`].
fn leave_host() -> Step<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    at("keep mounts to itself", mount_change("/", private))?;
    let base = tmpfs("/tmp", "mode=0755,size=64k");
    at("mount a memory file system", base)?;
    for name in ["old", "new", "scratch", "lower"] {
        at(
            "make a directory",
            fs::create_dir(Path::new("/tmp").join(name)),
        )?;
    }
    at("leave the host's root", pivot_root("/tmp", "/tmp/old"))?;
    at("leave the host's directory", rustix::process::chdir("/"))?;
    at(
        "mount the new root",
        tmpfs(NEW, "mode=0755,size=2m,nr_inodes=8k"),
    )
}

fn tmpfs(on: &str, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", on, "tmpfs", flags, options.as_c_str())?)
}

fn scratch(spec: &Spec) -> Step<()> {
    let (bytes, files) = (spec.limits.disk_bytes, spec.limits.files);
    let options = format!("mode=0755,size={bytes},nr_inodes={files}");
    at("mount the scratch space", tmpfs(SCRATCH, &options))?;
    for (name, path, mode) in [
        ("home", HOME, 0o755),
        ("tmp", "/tmp", 0o1777),
        ("var-tmp", "/var/tmp", 0o1777),
        ("shm", "/dev/shm", 0o1777),
    ] {
        let from = Path::new(SCRATCH).join(name);
        let made = fs::DirBuilder::new()
            .mode(mode)
            .create(&from)
            .and_then(|()| fs::set_permissions(&from, fs::Permissions::from_mode(mode)))
            .and_then(|()| directory(Path::new(path)))
            .and_then(|to| Ok(mount_bind(&from, &to)?));
        at(&format!("make {path}"), made)?;
    }
    Ok(())
}

fn under(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn host(path: &Path) -> PathBuf {
    under(HOST, path)
}

fn inside(path: &Path) -> PathBuf {
    under(NEW, path)
}

/// Makes a directory of the new root, and returns where it is now.
fn directory(path: &Path) -> io::Result<PathBuf> {
    let to = inside(path);
    fs::create_dir_all(&to)?;
    Ok(to)
}

/// Makes something to mount `from` on.
fn place_for(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        return fs::create_dir_all(to);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if !to.exists() {
        File::create(to)?;
    }
    Ok(())
}

fn show(mount: &Mount, overlays: &mut u32) -> io::Result<()> {
    let (from, to) = (host(&mount.path), inside(&mount.path));
    match mount.access {
        Access::Scratch => overlay(&mount.path, overlays).map(drop),
        Access::Empty => {
            let own = scratch_directory(overlays)?;
            directory(&mount.path)?;
            Ok(mount_bind(&own, &to)?)
        }
        Access::ReadOnly if from.is_symlink() => link(&fs::read_link(&from)?, &to),
        Access::ReadOnly => read_only(&from, &to),
        Access::Device => {
            place_for(&from, &to)?;
            Ok(mount_bind(&from, &to)?)
        }
    }
}

fn link(target: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(target, to)
}

fn read_only(from: &Path, to: &Path) -> io::Result<()> {
    place_for(from, to)?;
    mount_bind_recursive(from, to)?;
    seal(to)
}

/// Forbids writing, devices and set-user-ID in a mount and all below it.
#[expect(unsafe_code, reason = "no library has this system call")]
fn seal(path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends in a zero; the size is that of the structure; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn scratch_directory(overlays: &mut u32) -> io::Result<PathBuf> {
    let own = Path::new(SCRATCH).join(format!("layer-{overlays}"));
    *overlays += 1;
    fs::create_dir(&own)?;
    Ok(own)
}

/// Shows the host's directory under a layer that takes the writes. Returns that layer.
fn overlay(path: &Path, overlays: &mut u32) -> io::Result<PathBuf> {
    let own = scratch_directory(overlays)?;
    let (upper, work) = (own.join("upper"), own.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let lower = Path::new(LOWER).join(own.file_name().unwrap_or_default());
    fs::create_dir(&lower)?;
    mount_bind(host(path), &lower)?;
    let to = directory(path)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", &to, "overlay", flags, options.as_c_str())?;
    Ok(upper)
}

/// What is mounted below a directory of the host. It is locked to what it is mounted on, so the kernel
/// makes no lower layer of that.
fn mounted_in(path: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string(inside(Path::new("/proc/self/mountinfo"))).ok()?;
    let place = host(path);
    // The fifth field is where it is, with the characters that would end it in octal.
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut places = places.map(|at| at.replace("\\040", " "));
    let found = places.find(|at| Path::new(at).starts_with(&place) && Path::new(at) != place)?;
    let below = Path::new(&found).strip_prefix(HOST).ok()?;
    Some(Path::new("/").join(below))
}

fn etc() -> Step<()> {
    let etc = at("make /etc", directory(Path::new("/etc")))?;
    for (name, text) in ETC_FILES {
        at(
            &format!("write /etc/{name}"),
            fs::write(etc.join(name), text),
        )?;
    }
    for name in ETC {
        let from = host(Path::new("/etc")).join(name);
        let to = etc.join(name);
        // A link may lead anywhere in the host's `/etc`; only what it says is copied.
        let shown = match fs::read_link(&from) {
            Ok(target) => link(&target, &to),
            Err(_) if from.exists() => read_only(&from, &to),
            Err(_) => Ok(()),
        };
        at(&format!("show /etc/{name}"), shown)?;
    }
    Ok(())
}

fn devices() -> io::Result<()> {
    let dev = directory(Path::new("/dev"))?;
    for name in DEVICES {
        let from = host(Path::new("/dev")).join(name);
        File::create(dev.join(name))?;
        mount_bind(&from, dev.join(name))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    let pts = dev.join("pts");
    fs::create_dir(&pts)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    Ok(mount("devpts", &pts, "devpts", flags, options)?)
}

/// Shows the processes inside, and nothing that acts on the machine.
fn proc() -> Step<()> {
    let proc = at("make /proc", directory(Path::new("/proc")))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    at(
        "mount /proc",
        mount("proc", &proc, "proc", flags, None::<&std::ffi::CStr>),
    )?;
    // One more than there is: the inner namespace of process 1.
    at(
        "forbid user namespaces",
        fs::write(proc.join("sys/user/max_user_namespaces"), "1"),
    )?;
    for name in PROC_READ_ONLY {
        let path = proc.join(name);
        if path.exists() {
            at(&format!("seal /proc/{name}"), read_only(&path, &path))?;
        }
    }
    for name in PROC_EMPTY {
        at(&format!("hide /proc/{name}"), mask(&proc.join(name)))?;
    }
    Ok(())
}

/// Puts nothing over something, if it is there.
fn mask(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => {
            let options = c"mode=0555,size=4k,nr_inodes=2";
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
            Ok(mount("tmpfs", path, "tmpfs", flags, options)?)
        }
        // A mount follows the link; what it leads to has its own rule.
        Ok(found) if found.is_symlink() => Ok(()),
        Ok(_) => Ok(mount_bind(host(Path::new("/dev/null")), path)?),
    }
}

/// Makes the new root the only one.
fn enter() -> io::Result<()> {
    rustix::process::chdir(NEW)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
