//! Modes and times of files, which Landlock lets every user change of all their files.
//!
//! The calls that change them wait in the kernel until a thread of the agent has answered. It reads
//! what is asked from the caller's memory once, opens that file without using it, looks where it is,
//! and below the sandbox's own directory changes it itself, through what it has opened. So it makes no
//! difference what the caller changes meanwhile.
//!
//! Not here: owners and attributes, which no command changes (`rules`).

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, openat, utimensat};
use rustix::io::Errno;
use rustix::process::Pid;
use seccompiler::{BpfProgram, SeccompAction};

use crate::jail::confine::{Rules, program};
use crate::jail::{Step, at};
use crate::spec::{HOME_NAME, TEMPORARY_NAME};

/// The kernel's longest path, with its end.
const PATH: usize = 4_096;
/// Memory can be read up to the end of a page, whatever comes after.
const PAGE: u64 = 4_096;
/// Stands in a filter for waiting for an answer, which the library does not know.
const MARK: u32 = 1;

const CALLS: [libc::c_long; 3] = [libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_utimensat];
#[cfg(target_arch = "x86_64")]
const OLD: [libc::c_long; 1] = [libc::SYS_chmod];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [libc::c_long; 0] = [];

/// Has this thread, and all it starts from now on, change modes and times below `own` alone.
pub(super) fn start(own: &Path) -> Step<()> {
    let (tell, told) = mpsc::sync_channel::<OwnedFd>(1);
    let roots = [HOME_NAME, TEMPORARY_NAME].map(|name| own.join(name));
    // Begun before the filter, which it is not to wear: nobody would answer it.
    let answering = std::thread::Builder::new().spawn(move || {
        if let Ok(listener) = told.recv() {
            answer_all(&listener, &roots);
        }
    });
    at("answer for files", answering)?;
    let listener = at(
        "wait for calls",
        filter().and_then(|filter| listen(&filter)),
    )?;
    at("wait for calls", tell.send(listener))
}

/// Makes the calls wait.
fn filter() -> io::Result<BpfProgram> {
    let rules: Rules = CALLS
        .into_iter()
        .chain(OLD)
        .map(|call| (call, Vec::new()))
        .collect();
    let mut filter = program(rules, SeccompAction::Trace(MARK)).map_err(io::Error::other)?;
    for step in &mut filter {
        if u32::from(step.code) == libc::BPF_RET && step.k == libc::SECCOMP_RET_TRACE | MARK {
            step.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
    Ok(filter)
}

#[expect(unsafe_code, reason = "no library has this flag")]
fn listen(filter: &BpfProgram) -> io::Result<OwnedFd> {
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies the filter, which is as long as said and outlives the call.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match RawFd::try_from(listener) {
        // SAFETY: the kernel has just made it, for this process.
        Ok(listener) if listener >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(listener) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Answers for as long as anyone can ask.
#[expect(unsafe_code, reason = "no library has these requests")]
fn answer_all(listener: &OwnedFd, roots: &[PathBuf]) {
    loop {
        // SAFETY: all-zero bytes are a valid one, and the kernel wants it so.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request fills in the structure that it is made for.
        let received = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut asked,
            )
        };
        if received != 0 {
            match io::Error::last_os_error().raw_os_error() {
                // The caller was killed, or this was interrupted.
                Some(libc::ENOENT | libc::EINTR) => continue,
                _ => return,
            }
        }
        let error = match answer(listener, &asked, roots) {
            Ok(()) => 0,
            Err(why) => -why.raw_os_error(),
        };
        let response = libc::seccomp_notif_resp {
            id: asked.id,
            val: 0,
            error,
            flags: 0,
        };
        // SAFETY: the request reads the structure that it is made for. Who is gone is not answered.
        unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw const response,
            )
        };
    }
}

/// What is to be changed.
enum Change {
    Mode(Mode),
    Times(Timestamps),
}

/// Carries a call out.
fn answer(
    listener: &OwnedFd,
    asked: &libc::seccomp_notif,
    roots: &[PathBuf],
) -> rustix::io::Result<()> {
    let caller = Caller::of(asked.pid)?;
    let [a, b, c, d, ..] = asked.data.args;
    let call = libc::c_long::from(asked.data.nr);
    let mode = |bits: u64| Change::Mode(Mode::from_raw_mode(low(bits).cast_unsigned() & 0o1777));
    let (file, change) = match call {
        libc::SYS_fchmod => (caller.open(low(a), None, 0)?, mode(b)),
        libc::SYS_fchmodat => (caller.open(low(a), Some(b), 0)?, mode(c)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => (caller.open(libc::AT_FDCWD, Some(a), 0)?, mode(b)),
        libc::SYS_utimensat => {
            let times = Change::Times(caller.times(c)?);
            let path = Some(b).filter(|path| *path != 0);
            (caller.open(low(a), path, low(d))?, times)
        }
        _ => return Err(Errno::NOSYS),
    };
    // Else it may be another process's memory and files that were looked at.
    still_waits(listener, asked.id)?;
    let here = format!("/proc/self/fd/{}", file.as_raw_fd());
    let is_at = rustix::fs::readlink(&here, Vec::new())?;
    let is_at = Path::new(OsStr::from_bytes(is_at.as_bytes()));
    if !roots.iter().any(|root| is_at.starts_with(root)) {
        return Err(Errno::PERM);
    }
    match change {
        Change::Mode(mode) => rustix::fs::chmod(&here, mode),
        Change::Times(times) => utimensat(&file, "", &times, AtFlags::EMPTY_PATH),
    }
}

/// The lower half of an argument, which is an `int` to the kernel.
fn low(argument: u64) -> i32 {
    u32::try_from(argument & u64::from(u32::MAX))
        .unwrap_or_default()
        .cast_signed()
}

#[expect(unsafe_code, reason = "no library has this request")]
fn still_waits(listener: &OwnedFd, id: u64) -> rustix::io::Result<()> {
    // SAFETY: the request reads one number.
    let waits = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    match waits {
        0 => Ok(()),
        _ => Err(Errno::SRCH),
    }
}

/// A thread that waits for an answer.
struct Caller(Pid);

impl Caller {
    fn of(pid: u32) -> rustix::io::Result<Self> {
        Pid::from_raw(pid.cast_signed())
            .map(Self)
            .ok_or(Errno::SRCH)
    }

    /// Opens what a call is about, without using it: a file of the caller's by number, or a path from
    /// there.
    fn open(&self, from: i32, path: Option<u64>, flags: i32) -> rustix::io::Result<OwnedFd> {
        let path = path.map(|path| self.path(path)).transpose()?;
        let own = |what: String| CString::new(what).map_err(|_| Errno::INVAL);
        let pid = self.0.as_raw_nonzero();
        let place = match from {
            libc::AT_FDCWD => own(format!("/proc/{pid}/cwd"))?,
            number if number >= 0 => own(format!("/proc/{pid}/fd/{number}"))?,
            _ => return Err(Errno::BADF),
        };
        let look = OFlags::PATH | OFlags::CLOEXEC;
        let begin = || {
            let opened = openat(CWD, place.as_c_str(), look, Mode::empty());
            opened.map_err(|why| {
                if why == Errno::NOENT {
                    Errno::BADF
                } else {
                    why
                }
            })
        };
        let link = match flags & libc::AT_SYMLINK_NOFOLLOW {
            0 => look,
            _ => look | OFlags::NOFOLLOW,
        };
        match path {
            None => begin(),
            Some(path) if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 => begin(),
            Some(path) if path.as_bytes().starts_with(b"/") => {
                openat(CWD, &path, link, Mode::empty())
            }
            Some(path) => openat(begin()?, &path, link, Mode::empty()),
        }
    }

    /// A path, with what is the caller's own in it by its number: here it would be this process's.
    fn path(&self, at: u64) -> rustix::io::Result<CString> {
        let mut bytes = Vec::with_capacity(PATH);
        while bytes.len() < PATH {
            let next = at + bytes.len() as u64;
            let mut page = vec![0; usize::try_from(PAGE - next % PAGE).unwrap_or_default()];
            let n = self.read(next, &mut page)?;
            bytes.extend_from_slice(&page[..n]);
            if let Ok(path) = CStr::from_bytes_until_nul(&bytes) {
                let own = path.to_bytes().strip_prefix(b"/proc/self/");
                return match own {
                    Some(rest) => {
                        let mut named = format!("/proc/{}/", self.0.as_raw_nonzero()).into_bytes();
                        named.extend_from_slice(rest);
                        CString::new(named).map_err(|_| Errno::INVAL)
                    }
                    None => Ok(path.to_owned()),
                };
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    /// The two times of a call: now, if it names none.
    fn times(&self, at: u64) -> rustix::io::Result<Timestamps> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_NOW,
        };
        if at == 0 {
            return Ok(Timestamps {
                last_access: now,
                last_modification: now,
            });
        }
        let mut bytes = [0; 32];
        if self.read(at, &mut bytes)? != bytes.len() {
            return Err(Errno::FAULT);
        }
        let number = |n: usize| {
            let bytes = bytes[8 * n..8 * n + 8].try_into();
            i64::from_ne_bytes(bytes.unwrap_or_default())
        };
        let time = |n| Timespec {
            tv_sec: number(n),
            tv_nsec: number(n + 1),
        };
        Ok(Timestamps {
            last_access: time(0),
            last_modification: time(2),
        })
    }

    #[expect(unsafe_code, reason = "no library reads another process's memory")]
    fn read(&self, at: u64, to: &mut [u8]) -> rustix::io::Result<usize> {
        let local = libc::iovec {
            iov_base: to.as_mut_ptr().cast(),
            iov_len: to.len(),
        };
        let remote = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(
                usize::try_from(at).map_err(|_| Errno::FAULT)?,
            ),
            iov_len: to.len(),
        };
        let pid = self.0.as_raw_nonzero().get();
        // SAFETY: the kernel writes no more than the slice has, and takes any address of the other's.
        let n =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(n) {
            Ok(0) => Err(Errno::FAULT),
            Ok(n) => Ok(n),
            Err(_) => {
                Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::FAULT))
            }
        }
    }
}
