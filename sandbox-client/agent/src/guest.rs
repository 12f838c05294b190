//! Process 1 of a virtual machine, before the walls: a root from the host's image, and a way to
//! the host.
//!
//! The host sends the image of what it shows on a read-only disk, and the agent's bytes through a
//! serial port; there is no network device. Once the root is in place this program starts itself
//! as the agent of an ordinary sandbox ([`crate::jail`]), as a user without powers: so commands
//! meet the same walls as outside a machine, and the machine's around them.
//!
//! Holds: when the agent ends, the machine does. What fails is said on the console, which the host
//! reads. Not here: the walls, and anything the service decides.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::ARGUMENT;
use crate::jail::{Step, at};
use crate::spec::USER;

/// Where the initial file system has the kernel's modules, in the order to load them.
const MODULES: &str = "/modules";
/// The disk with what the host shows.
const DISK: &str = "/dev/vda";
/// The port to the host; `virtio_console` names it by its bus and number.
const PORT: &str = "/dev/vport";
/// Devices that have not come by then will not.
const DEVICES: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);
const CHUNK: usize = 64 << 10;

/// Runs the machine. `now` is the time, in seconds since 1970.
pub(crate) fn init(now: Option<&OsStr>) -> ExitCode {
    if let Err(step) = run(now) {
        let _ = writeln!(io::stderr(), "the guest could not {step}");
    }
    rustix::fs::sync();
    // Process 1 must not return: the kernel would call that a panic.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    ExitCode::FAILURE
}

fn run(now: Option<&OsStr>) -> Step<()> {
    for (kind, on) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        let _ = fs::create_dir(on);
        at(&format!("mount {on}"), pseudo(kind, Path::new(on)))?;
    }
    set_clock(now);
    let missing = load_modules()?;
    let disk = await_device(|| Path::new(DISK).exists().then(|| PathBuf::from(DISK)));
    let disk = disk.ok_or_else(|| format!("find its disk{missing}"))?;
    let port = await_device(port).ok_or_else(|| format!("find its port to the host{missing}"))?;
    let port = File::options().read(true).write(true).open(port);
    let port = at("open its port to the host", port)?;
    at("mount the host's image", enter_image(&disk)).map_err(|step| step + &missing)?;
    serve(&port)
}

fn pseudo(kind: &str, on: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    Ok(mount(kind, on, kind, flags, None::<&std::ffi::CStr>)?)
}

/// A machine may have no clock of its own that is right.
fn set_clock(now: Option<&OsStr>) {
    let seconds = now.and_then(OsStr::to_str).and_then(|now| now.parse().ok());
    if let Some(tv_sec) = seconds {
        // Programs run with a wrong time too.
        let _ = clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 });
    }
}

/// Loads every module there is. Returns words about those that could not be, to end a message.
fn load_modules() -> Step<String> {
    let Ok(modules) = fs::read_dir(MODULES) else {
        return Ok(String::new());
    };
    let modules: Result<Vec<_>, _> = modules.map(|entry| entry.map(|e| e.path())).collect();
    let mut modules = at("list its modules", modules)?;
    modules.sort();
    let failed = modules.iter().filter_map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let error = load(path).err()?;
        Some(format!("; the module {name} could not be loaded: {error}"))
    });
    Ok(failed.collect())
}

#[expect(unsafe_code, reason = "no library loads compressed modules")]
fn load(path: &Path) -> io::Result<()> {
    /// The file is compressed, and the kernel can read that.
    const COMPRESSED: libc::c_int = 4;
    let module = File::open(path)?;
    let is_plain = path.extension().is_some_and(|suffix| suffix == "ko");
    let flags = if is_plain { 0 } else { COMPRESSED };
    // SAFETY: the descriptor is open and the parameters are text that ends in a zero.
    let done = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            module.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Drivers find their devices soon after they are loaded.
fn await_device(look: impl Fn() -> Option<PathBuf>) -> Option<PathBuf> {
    let deadline = Instant::now() + DEVICES;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing tells process 1 of a new device without a netlink socket"
        )]
        std::thread::sleep(PAUSE);
    }
}

fn port() -> Option<PathBuf> {
    let devices = fs::read_dir("/dev").ok()?;
    let mut paths = devices.flatten().map(|entry| entry.path());
    paths.find(|path| path.to_string_lossy().starts_with(PORT))
}

/// Makes the image the root. It has empty directories for what is mounted here.
fn enter_image(disk: &Path) -> io::Result<()> {
    let root = Path::new("/root");
    let _ = fs::create_dir(root);
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount(disk, root, "erofs", flags, None::<&std::ffi::CStr>)?;
    for name in ["dev", "proc"] {
        mount_move(Path::new("/").join(name), root.join(name))?;
    }
    rustix::process::chdir(root)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Runs the agent and passes bytes between it and the host until it ends.
fn serve(port: &File) -> Step<()> {
    let (own, agents) = at("make a socket", UnixStream::pair())?;
    #[expect(
        clippy::disallowed_methods,
        reason = "starts this program again, as the agent"
    )]
    let mut agent = Command::new("/proc/self/exe");
    agent
        .arg(ARGUMENT)
        .env_clear()
        .uid(USER)
        .gid(USER)
        .stdin(OwnedFd::from(agents));
    let mut running = at("start the agent", agent.spawn())?;
    // It holds the other end of the socket, which must close when the agent ends.
    drop(agent);
    let copy = |file: &File| at("copy a descriptor", file.try_clone());
    let socket = File::from(OwnedFd::from(at("copy a socket", own.try_clone())?));
    for (from, to) in [(copy(port)?, copy(&socket)?), (copy(&socket)?, copy(port)?)] {
        let socket = at("copy a socket", own.try_clone())?;
        std::thread::spawn(move || pass_on(from, to, &socket));
    }
    at("wait for the agent", running.wait()).map(drop)
}

/// Copies until either end closes, and closes the agent's socket then.
fn pass_on(mut from: File, mut to: File, socket: &UnixStream) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
}
