//! Process 1 of a sandbox.
//!
//! The service starts this program with a socket as its standard input. It unshares every
//! namespace ([`jail`]), becomes process 1 in them, builds a file system of exactly what it was
//! told, drops what it no longer needs, and from then on speaks HTTP/2 on that socket, as the
//! `envd` of an E2B sandbox does ([`envd`]). When the socket closes it exits, and the kernel kills
//! everything else: nothing outlives the service.
//!
//! In a virtual machine the program is process 1 of the machine first ([`guest`]): it mounts what
//! the host shows, and starts itself as above, with a socket whose other end it passes on to the
//! host. Under gVisor's kernel it is process 1 of that ([`gvisor`]), in walls that another agent
//! has built. Where no user may make namespaces it is an ordinary process ([`restricted`]).
//!
//! Holds: nothing read from the sandbox decides anything here except the answer to the request
//! that read it. Not here: routing, keys, lifetimes and what comes back to the user's files.

#[cfg(target_os = "linux")]
mod envd;
pub mod frame;
#[cfg(target_os = "linux")]
mod guest;
#[cfg(target_os = "linux")]
mod gvisor;
#[cfg(target_os = "linux")]
pub mod handover;
#[cfg(target_os = "linux")]
mod jail;
#[cfg(target_os = "linux")]
mod restricted;
pub mod spec;
pub mod wire;

use std::process::ExitCode;

/// The argument with which a program that contains the agent is started to be the agent.
pub const ARGUMENT: &str = "sandbox-agent";
/// The argument with which it is process 1 of a virtual machine.
pub const GUEST_ARGUMENT: &str = "sandbox-agent-guest";
/// The argument with which it is process 1 under gVisor's kernel.
pub const GVISOR_ARGUMENT: &str = "sandbox-agent-gvisor";
/// The argument with which it makes no namespaces.
pub const RESTRICTED_ARGUMENT: &str = "sandbox-agent-restricted";
/// The argument of the second start, which is process 1.
#[cfg(target_os = "linux")]
const INIT_ARGUMENT: &str = "sandbox-agent-init";

/// Runs the agent when `arguments` (without the program's name) ask for it.
///
/// To be called first in `main`, before any thread exists: a process with threads cannot enter a
/// user namespace. Returns `None` when this process is meant to be something else.
#[cfg(target_os = "linux")]
pub fn main_if_asked(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<ExitCode> {
    let first = arguments.next()?;
    if first == ARGUMENT {
        Some(jail::enter())
    } else if first == INIT_ARGUMENT {
        Some(jail::init())
    } else if first == RESTRICTED_ARGUMENT {
        Some(restricted::enter())
    } else if first == GUEST_ARGUMENT && std::process::id() == 1 {
        Some(guest::init())
    } else if first == GVISOR_ARGUMENT && std::process::id() == 1 {
        Some(gvisor::init())
    } else {
        None
    }
}

/// There are no such namespaces here.
#[cfg(not(target_os = "linux"))]
pub fn main_if_asked(_: impl Iterator<Item = std::ffi::OsString>) -> Option<ExitCode> {
    None
}
