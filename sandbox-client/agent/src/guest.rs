//! Process 1 of a virtual machine, before the walls: a root from the host's image, and a way to
//! the host.
//!
//! The host shows its programs on a read-only disk, and speaks through serial ports; there is no
//! network device. When that disk is in place this program starts itself as the agent of an ordinary
//! sandbox ([`crate::jail`]), as a user without powers: so commands meet the same walls as outside a
//! machine, and the machine's around them. The agent builds what of its walls is the same for
//! everyone; then the machine says that it has booted, and waits ([`Wake`]). It may be written down
//! then, and go on many times elsewhere; so what is one machine's alone comes with waking: the time,
//! randomness, the other disks, and what is left of the walls. Whatever can be done before is:
//! where a machine is emulated, its first thread after waking takes it 45 ms.
//!
//! Holds: when the agent ends, the machine does. What fails is said on the console, which the host
//! reads. Not here: the walls, and anything the service decides.

pub(crate) mod outward;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::ARGUMENT;
use crate::handover::take_over;
use crate::jail::{HOST, Step, at};
use crate::spec::{self, Boot, Disk, OnDisk, Told, USER, Verdict, Wake};

/// Where the initial file system has the kernel's modules, in the order to load them.
const MODULES: &str = "/modules";
/// A port to the host; `virtio_console` names it by its bus and number.
const PORT: &str = "vport";
/// Where disks are, of which parts are shown at their own paths.
const DISKS: &str = "disks";
/// Directories that are not the image's.
const OWN: [&str; 5] = ["dev", "proc", "sys", "tmp", "disks"];
/// What nearly every command needs, read before the machine is written down: clones have it in
/// memory then. One that is not there is no loss.
const WARM: [&str; 9] = [
    "/bin/sh",
    "/bin/bash",
    "/bin/true",
    "/usr/bin/env",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libtinfo.so.6",
    "/lib64/libc.so.6",
    "/lib64/libtinfo.so.6",
];
/// Devices that have not come by then will not.
const DEVICES: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);
const CHUNK: usize = 64 << 10;

/// Runs the machine.
pub(crate) fn init() -> ExitCode {
    if let Err(step) = run() {
        let _ = writeln!(io::stderr(), "the guest could not {step}");
    }
    power_off();
    ExitCode::FAILURE
}

/// Ends the machine. Process 1 must not return: the kernel would call that a panic.
fn power_off() {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
}

fn run() -> Step<()> {
    for (kind, on) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        let _ = fs::create_dir(on);
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        let mounted = mount(kind, on, kind, flags, None::<&std::ffi::CStr>);
        at(&format!("mount {on}"), mounted)?;
    }
    let missing = load_modules()?;
    for disk in Disk::ALL {
        let path = device(Path::new("/"), disk);
        await_device(|| path.exists().then_some(()))
            .ok_or_else(|| format!("find its disk {}{missing}", disk.device()))?;
    }
    let open = |number| -> Step<File> {
        let path = await_device(|| port(number));
        let path = path.ok_or_else(|| format!("find its port {number} to the host{missing}"))?;
        let port = File::options().read(true).write(true).open(path);
        at("open a port to the host", port)
    };
    let mut channel = open(spec::AGENT_PORT)?;
    let outward = open(spec::OUTWARD_PORT)?;
    at("mount the host's image", enter_image()).map_err(|step| step + &missing)?;
    let boot: Boot = at("learn what to show", spec::read_frame(&mut channel))?;
    let (mut agent, proxy) = Agent::prepare(boot)?;
    for path in WARM {
        let _ = fs::read(path);
    }
    let generator = File::options().write(true).open("/dev/urandom");
    let generator = at("open the generator of randomness", generator)?;
    at("see what the agent sees", agent.enter_mounts())?;
    let copy = at("copy a descriptor", channel.try_clone())?;
    let socket = agent.begin(copy)?;
    std::thread::spawn(move || outward::carry_by_port(proxy, outward));
    at("say that it has booted", channel.write_all(&[spec::BOOTED]))?;

    let wake: Wake = at("learn whose it is", spec::read_frame(&mut channel))?;
    at("take new randomness", reseed(&generator, &wake.seed.0))?;
    let now = Timespec {
        tv_sec: wake.seconds,
        tv_nsec: wake.nanoseconds.into(),
    };
    at("set its clock", clock_settime(ClockId::Realtime, now))?;
    at("show what is on its disks", show(&wake.shown))?;
    pass_on(channel, &socket, &socket);
    at("wait for the agent", agent.process.wait()).map(drop)
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
fn await_device<T>(look: impl Fn() -> Option<T>) -> Option<T> {
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

/// A disk's device, below `root`.
fn device(root: &Path, disk: Disk) -> PathBuf {
    root.join("dev").join(disk.device())
}

fn port(number: u8) -> Option<PathBuf> {
    let end = format!("p{number}");
    let devices = fs::read_dir("/dev").ok()?;
    let mut paths = devices.flatten().map(|entry| entry.path());
    paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PORT) && name.ends_with(&end)
    })
}

/// Makes a root in memory, with everything of the host's image at its own path.
fn enter_image() -> io::Result<()> {
    let root = Path::new("/root");
    let _ = fs::create_dir(root);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = c"mode=0755,size=4m,nr_inodes=64k";
    mount("tmpfs", root, "tmpfs", flags, options)?;
    for name in OWN {
        fs::create_dir(root.join(name))?;
    }
    for name in ["dev", "proc"] {
        mount_move(Path::new("/").join(name), root.join(name))?;
    }
    rustix::process::chdir(root)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;

    let image = mount_disk(Path::new("/"), Disk::System)?;
    for entry in fs::read_dir(&image)? {
        let entry = entry?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        let (from, to) = (entry.path(), Path::new("/").join(name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&to)?;
            mount_bind(&from, &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        }
    }
    Ok(())
}

/// Mounts a disk where disks are below `root`, and returns where that is.
fn mount_disk(root: &Path, disk: Disk) -> io::Result<PathBuf> {
    let on = root.join(DISKS).join(disk.device());
    fs::create_dir(&on)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        device(root, disk),
        &on,
        "erofs",
        flags,
        None::<&std::ffi::CStr>,
    )?;
    Ok(on)
}

/// Process 1 begins with its root and directory in common with threads of the kernel, whose would
/// change with its own.
#[expect(unsafe_code, reason = "a system call that the library calls unsafe")]
fn leave_kernel_threads() -> io::Result<()> {
    // SAFETY: no descriptor and no memory changes.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// Mixes new bytes into the kernel's generator and makes it begin anew with them.
#[expect(unsafe_code, reason = "no library has these requests without unsafe")]
fn reseed(generator: &File, seed: &[u8]) -> io::Result<()> {
    const ADD: libc::Ioctl = 0x4008_5203;
    const BEGIN_ANEW: libc::Ioctl = 0x5207;
    const MOST: usize = 64;
    /// `rand_pool_info` of `linux/random.h`.
    #[repr(C)]
    struct Pool {
        bits: libc::c_int,
        bytes: libc::c_int,
        seed: [u8; MOST],
    }
    let n = seed.len().min(MOST);
    let size = libc::c_int::try_from(n).unwrap_or_default();
    let mut pool = Pool {
        bits: size * 8,
        bytes: size,
        seed: [0; MOST],
    };
    pool.seed[..n].copy_from_slice(&seed[..n]);
    // SAFETY: the pool says how many of its bytes are to be read, and outlives the call.
    let added = unsafe { libc::ioctl(generator.as_raw_fd(), ADD, &raw const pool) };
    if added != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the request has no argument.
    let began = unsafe { libc::ioctl(generator.as_raw_fd(), BEGIN_ANEW) };
    match began {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The agent, from before it is known whose sandbox it builds.
struct Agent {
    /// Its first process.
    process: Child,
    socket: UnixStream,
}

impl Agent {
    /// Starts it, and has it build what of the walls does not depend on whose they are. Returns with it
    /// where programs inside connect to, to reach something outside.
    fn prepare(boot: Boot) -> Step<(Self, TcpListener)> {
        let (mut socket, agents) = at("make a socket", UnixStream::pair())?;
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
        let process = at("start the agent", agent.spawn())?;
        // It holds the other end of the socket, which must close when the agent ends.
        drop(agent);
        let told = socket
            .write_all(&[1])
            .and_then(|()| spec::write_frame(&mut socket, &Told::Prepare(boot)));
        at("tell the agent to begin", told)?;
        match at("hear from the agent", spec::read_frame(&mut socket))? {
            Verdict::Ready { .. } => {}
            Verdict::Failed { step } => return Err(step),
        }
        let proxy = at("take over the way out", take_over(&socket))?;
        let proxy = proxy.ok_or("take over the way out: there is none")?;
        Ok((Self { process, socket }, proxy.into()))
    }

    /// Goes where the agent has its own mounts, among them this machine's root: what is mounted
    /// elsewhere from now on does not come there.
    fn enter_mounts(&self) -> io::Result<()> {
        let first = self.process.id();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
        let second: u32 = children
            .trim()
            .parse()
            .map_err(|_| io::Error::other("the agent has no process 1"))?;
        let mounts = File::open(format!("/proc/{second}/ns/mnt"))?;
        leave_kernel_threads()?;
        let kind = Some(LinkNameSpaceType::Mount);
        Ok(move_into_link_name_space(mounts.as_fd(), kind)?)
    }

    /// Begins to pass on what it says, until it ends; then the machine does. Returns the socket to
    /// it.
    fn begin(&self, channel: File) -> Step<UnixStream> {
        let socket = || at("copy a socket", self.socket.try_clone());
        let (from, to) = (socket()?, socket()?);
        std::thread::spawn(move || {
            pass_on(&from, channel, &from);
            power_off();
        });
        Ok(to)
    }
}

/// Shows directories of the disks that only this sandbox has, where the agent sees them.
fn show(shown: &[OnDisk]) -> io::Result<()> {
    let root = Path::new(HOST);
    let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let mut mounted: Vec<(Disk, PathBuf)> = Vec::new();
    for shown in shown {
        let there = mounted.iter().find(|(disk, _)| *disk == shown.disk);
        let on = match there {
            Some((_, on)) => on.clone(),
            None => {
                let on = mount_disk(root, shown.disk)?;
                mounted.push((shown.disk, on.clone()));
                on
            }
        };
        let from = on.join(shown.path.strip_prefix("/").unwrap_or(&shown.path));
        let to = below(&shown.path);
        fs::create_dir_all(&to)?;
        mount_bind(from, to)?;
    }
    Ok(())
}

/// Copies until either end closes, and closes the socket then.
fn pass_on(mut from: impl Read, mut to: impl Write, socket: &UnixStream) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
}
