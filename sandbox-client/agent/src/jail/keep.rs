//! A program of ours behind the walls, in place of commands: the monitor of a virtual machine.
//!
//! Holds: it has the open files it was sent and no others, wears what commands wear, and dies with
//! process 1, which ends when the service closes the socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::confine::Confinement;
use crate::spec::{FIRST_DESCRIPTOR, MOST_DESCRIPTORS, Program};

/// Runs the program until it ends or the socket closes.
pub(super) fn keep(
    program: &Program,
    env: &BTreeMap<String, String>,
    channel: &UnixStream,
    confinement: Confinement,
) -> ExitCode {
    let Ok(output) = receive(channel, program.descriptors) else {
        return ExitCode::FAILURE;
    };
    let mut said = File::from(output);
    match start(program, env, channel, &said, confinement) {
        Ok(code) => code,
        Err(error) => {
            let program = program.program.display();
            let _ = writeln!(said, "{program} could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(unsafe_code, reason = "the program is confined between fork and exec")]
fn start(
    program: &Program,
    env: &BTreeMap<String, String>,
    mut channel: &UnixStream,
    output: &File,
    confinement: Confinement,
) -> io::Result<ExitCode> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this program is what the sandbox is for"
    )]
    let mut command = Command::new(&program.program);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    // SAFETY: system calls only; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || confinement.put_on());
    }
    let mut child = command.spawn()?;
    std::thread::spawn(move || {
        let ended = child.wait().is_ok_and(|status| status.success());
        // Ends the thread that waits for the service.
        std::process::exit(i32::from(!ended));
    });
    // The service says nothing more: an end of file is the end.
    let _ = channel.read(&mut [0]);
    Ok(ExitCode::SUCCESS)
}

/// Receives open files and gives them their numbers. Returns a copy of the first.
fn receive(channel: &UnixStream, wanted: usize) -> io::Result<OwnedFd> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(
        channel,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(wrong());
    }
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            files.extend(sent);
        }
    }
    let first = files.first().ok_or_else(wrong)?.try_clone()?;
    if files.len() != wanted {
        return Err(wrong());
    }
    for (number, file) in (FIRST_DESCRIPTOR..).zip(files) {
        // Kept for the program: this copy stays open across its start.
        let kept = fcntl_dupfd_cloexec(&file, number)?;
        fcntl_setfd(&kept, FdFlags::empty())?;
        if kept.as_raw_fd() != number {
            return Err(wrong());
        }
        let _ = kept.into_raw_fd();
    }
    Ok(first)
}
