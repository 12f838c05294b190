//! A program of ours behind the walls, in place of commands: the monitor of a virtual machine, or
//! gVisor.
//!
//! Holds: it has the open files it was sent and no others, and dies with process 1, which ends when
//! the service closes the socket. It wears what commands wear, unless it builds walls of its own
//! ([`Bundle`]). For such a program process 1 answers meanwhile what was
//! changed in the workspace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use rustix::thread::CapabilitySet;

use super::confine::Confinement;
use super::{Step, at, hold};
use crate::spec::{Bundle, FIRST_DESCRIPTOR, MOST_DESCRIPTORS, Program};

/// Runs the program until it ends or the socket closes.
pub(super) fn keep(
    program: &Program,
    env: &BTreeMap<String, String>,
    channel: UnixStream,
    confinement: Confinement,
    upper: Option<OwnedFd>,
) -> ExitCode {
    let received = receive(&channel, program);
    let streams = received.and_then(|files| Streams::of(program, &files));
    let Ok(streams) = streams else {
        return ExitCode::FAILURE;
    };
    let said = streams.errors.try_clone();
    let started = start(program, env, streams, confinement).and_then(|child| {
        if program.bundle.is_some() {
            hold(CapabilitySet::empty())?;
        }
        await_end(child);
        match program.bundle {
            // How the connection ends is of no interest: it is the end.
            Some(_) => drop(crate::envd::serve_layer(channel, upper)),
            // The service says nothing more: an end of file is the end.
            None => drop((&channel).read(&mut [0])),
        }
        Ok(())
    });
    match (started, said) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(_), Err(_)) => ExitCode::FAILURE,
        (Err(error), Ok(mut said)) => {
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
    streams: Streams,
    confinement: Confinement,
) -> io::Result<Child> {
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
        .stdin(streams.input)
        .stdout(streams.output)
        .stderr(streams.errors);
    if program.bundle.is_none() {
        // SAFETY: system calls only; nothing is allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || confinement.put_on());
        }
    }
    command.spawn()
}

/// Ends this process with the program.
fn await_end(mut child: Child) {
    std::thread::spawn(move || {
        let ended = child.wait().is_ok_and(|status| status.success());
        // Ends the thread that waits for the service.
        std::process::exit(i32::from(!ended));
    });
}

/// What the program reads and says.
struct Streams {
    input: Stdio,
    output: File,
    errors: File,
}

impl Streams {
    fn of(program: &Program, files: &[OwnedFd]) -> io::Result<Self> {
        let copy = |file: &OwnedFd| file.try_clone().map(File::from);
        match (&program.bundle, files) {
            (Some(_), [input, output, errors, ..]) => Ok(Self {
                input: copy(input)?.into(),
                output: copy(output)?,
                errors: copy(errors)?,
            }),
            (None, [output, ..]) => Ok(Self {
                input: Stdio::null(),
                output: copy(output)?,
                errors: copy(output)?,
            }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Writes a program's bundle.
pub(super) fn lay_out(bundle: &Bundle) -> Step<()> {
    let file = bundle.directory.join("config.json");
    at(
        "lay out what a program is started with",
        fs::write(file, &bundle.config),
    )
}

/// Receives open files and gives them their numbers, if they are not the program's streams.
fn receive(channel: &UnixStream, program: &Program) -> io::Result<Vec<OwnedFd>> {
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
    if files.len() != program.descriptors {
        return Err(wrong());
    }
    if program.bundle.is_some() {
        return Ok(files);
    }
    for (number, file) in (FIRST_DESCRIPTOR..).zip(&files) {
        // Kept for the program: this copy stays open across its start.
        let kept = fcntl_dupfd_cloexec(file, number)?;
        fcntl_setfd(&kept, FdFlags::empty())?;
        if kept.as_raw_fd() != number {
            return Err(wrong());
        }
        let _ = kept.into_raw_fd();
    }
    Ok(files)
}
