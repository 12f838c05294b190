//! What the service tells the agent, and what the agent answers before it speaks HTTP.
//!
//! On the socket, in order: the service sends one byte when limits from outside (control groups)
//! are in place; then frames with [`Told`], each answered by a frame with [`Verdict`]. After that to
//! one which asks for a way to the proxy the agent hands that over ([`crate::handover`]). A frame is a
//! big-endian `u32` length and JSON.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::wire::Base64;

/// No frame is longer.
const FRAME_BYTES: u32 = 1 << 20;
/// The home directory inside.
pub const HOME: &str = "/home/user";
/// The user inside, and its group.
pub const USER: u32 = 1000;

/// What programs need of the host's `/etc`: no accounts, keys or addresses. Of directories that hold
/// private keys beside certificates it is parts, as a service of root can read them all.
pub const ETC: [&str; 23] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "pki/ca-trust",
    "pki/java",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/ct_log_list.cnf",
    "pki/tls/openssl.cnf",
    "pki/tls/openssl.d",
    "protocols",
    "services",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// What the agent is told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// Build what of the walls does not depend on whose sandbox it becomes. Not more than once.
    Prepare(Boot),
    /// Build the walls, or what is left of them.
    Build(Box<Spec>),
}

/// A sandbox, in full. What is not named here does not exist inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Seen at its own path; writes go to memory and are what [`crate::wire::Changes`] lists.
    pub workspace: Option<PathBuf>,
    /// Other parts of the host's file system, each at its own path. Parents come before children.
    pub mounts: Vec<Mount>,
    /// Files that are empty and directories that have nothing, whatever is mounted there.
    pub masks: Vec<PathBuf>,
    /// The whole environment of a command, before what the command adds.
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
    /// The port on the loopback inside at which the service answers as a proxy. The agent opens it
    /// and hands the listening socket over behind [`Verdict::Ready`].
    #[serde(default)]
    pub proxy: Option<u16>,
    /// A program to keep inside instead of serving commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Program>,
    /// For an agent without namespaces: a directory of its own, below which [`HOME_NAME`] and
    /// [`TEMPORARY_NAME`] are all that can be written. It is removed with the sandbox. There is
    /// neither a workspace nor anything hidden then, and what may be read is read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restricted: Option<PathBuf>,
}

impl Spec {
    /// The home directory inside.
    pub fn home(&self) -> PathBuf {
        match &self.restricted {
            Some(own) => own.join(HOME_NAME),
            None => HOME.into(),
        }
    }
}

/// The home directory of a sandbox without namespaces, in its own directory.
pub const HOME_NAME: &str = "home";
/// What takes the place of `/tmp` there.
pub const TEMPORARY_NAME: &str = "tmp";

/// A program that runs behind the walls for as long as the socket is open: a virtual machine's
/// monitor.
///
/// After [`Verdict::Ready`] the service sends one byte with `descriptors` open files, which the
/// program finds as its descriptors from [`FIRST_DESCRIPTOR`] on. The first is its output too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// No more than [`MOST_DESCRIPTORS`].
    pub descriptors: usize,
    /// For a program that builds walls of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
}

/// How a program is kept that builds walls of its own, inside these: gVisor's `runsc`.
///
/// It wears neither Landlock nor seccomp, has the powers of the user namespace that owns the mounts,
/// and can make one more. Its streams are the first three open files it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// An empty directory of [`Spec::mounts`].
    pub directory: PathBuf,
    /// What its file `config.json` says.
    pub config: String,
}

/// The number of the first open file that a kept program is given. Process 1 itself has fewer.
pub const FIRST_DESCRIPTOR: i32 = 32;
/// Open files that a kept program may be given.
pub const MOST_DESCRIPTORS: usize = 16;

/// A part of the host's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    pub path: PathBuf,
    pub access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// The host's, and cannot be written.
    ReadOnly,
    /// The host's below, writes go to memory and are forgotten.
    Scratch,
    /// An empty directory in memory; the host's is not read.
    Empty,
    /// A device of the host, which can be used.
    Device,
}

/// Limits that hold inside. Memory, processors and processes of all commands together are limited
/// from outside, where control groups can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// All that is written, together. Memory holds it.
    pub disk_bytes: u64,
    /// Files, directories and links that can be made.
    pub files: u64,
    /// Processes and threads of the sandbox, process 1 included.
    pub processes: u64,
    pub open_files: u64,
    /// Memory of one process; `None` where that of all together is limited from outside.
    pub data_bytes: Option<u64>,
    /// No command lives longer, whatever it asked for.
    pub command_ms: u64,
}

/// The agent's answer to [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The walls stand.
    Ready {
        /// Whether Landlock restricts commands too; not every kernel has it.
        landlock: bool,
        /// What programs of today ask of a kernel and this one does not know.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lacks: Vec<String>,
    },
    /// The step that failed and why.
    Failed { step: String },
}

/// What process 1 of a virtual machine sends when it has booted, all that can be is prepared, and it
/// waits for [`Wake`].
pub const BOOTED: u8 = 1;
/// The port of a machine that carries the socket of its agent.
pub const AGENT_PORT: u8 = 1;
/// The port of a machine that carries what goes out of its sandbox.
pub const OUTWARD_PORT: u8 = 2;

/// What is the same in every sandbox of a machine. The first frame on the port of its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boot {
    /// What of its first disk every sandbox shows; read-only.
    pub mounts: Vec<Mount>,
    /// The port on the loopback inside that leads to the service's proxy.
    pub proxy: u16,
}

/// What makes a machine that has booted, or was cloned from one that had, the machine of one
/// sandbox. A frame on its agent's port; the agent's own bytes follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wake {
    /// The time since 1970.
    pub seconds: i64,
    pub nanoseconds: u32,
    /// Random bytes that no other machine gets: clones have the same generator.
    pub seed: Base64,
    /// What the disks have, each at its own path. Parents come before children.
    pub shown: Vec<OnDisk>,
}

/// A directory of the host that is on a disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnDisk {
    pub disk: Disk,
    pub path: PathBuf,
}

/// Disks of a machine, in the order of their devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Disk {
    /// The host's programs, which a machine has before it is woken.
    System,
    /// Toolchains of a home directory.
    Toolchains,
    /// The workspace, and what else only this sandbox sees.
    Own,
}

impl Disk {
    pub const ALL: [Self; 3] = [Self::System, Self::Toolchains, Self::Own];

    /// The machine's name for it.
    pub fn device(self) -> &'static str {
        match self {
            Self::System => "vda",
            Self::Toolchains => "vdb",
            Self::Own => "vdc",
        }
    }
}

/// Reads one frame.
///
/// # Errors
/// When the socket ends or fails, or the frame is too long or is not a `T`.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Writes one frame.
///
/// # Errors
/// When the socket fails or `frame` is too long.
pub fn write_frame<T: Serialize>(to: &mut impl Write, frame: &T) -> io::Result<()> {
    let body = serde_json::to_vec(frame)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|n| *n <= FRAME_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    to.write_all(&[&length.to_be_bytes(), body.as_slice()].concat())
}
