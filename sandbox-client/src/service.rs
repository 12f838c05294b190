//! A sandbox service on this machine: an E2B control plane and the way to each sandbox's `envd`,
//! on one address.
//!
//! Holds: every request shows a key; a request to a sandbox shows that sandbox's token; both are
//! compared in constant time. A sandbox ends when it is deleted, when its time is over, when its
//! process 1 does, or when the service does, by whatever death. What is asked for and cannot be
//! done is refused with words, never done by half.
//!
//! Not here: the walls (`sandbox_agent`), and what may come back to a workspace
//! ([`crate::changes`]).

mod cgroup;
mod console;
mod egress;
mod gvisor;
mod host;
mod key;
mod machine;
mod restricted;
mod route;
mod sandbox;
mod tls;
mod verdicts;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use self::egress::{Caps, EgressOptions, Names};
pub use self::host::Host;
pub use self::key::Key;
pub use self::machine::Machines;
use self::machine::Stock;
pub use self::sandbox::LaunchError;
use self::sandbox::Sandbox;
pub use self::tls::Certificate;
use crate::client::{Address, Addressing, Endpoint};
use crate::protocol::LimitsAsked;
use crate::tier::Tier;

/// How the directories of private sockets are named, before the service's process.
const SOCKETS: &str = "pairwright-sandboxd-";

/// How a service is set up.
#[derive(Debug, Clone)]
pub struct Options {
    pub agent: Agent,
    /// Whoever has it may do everything here.
    pub key: Key,
    pub host: Host,
    pub machines: Machines,
    pub workspaces: Workspaces,
    /// The weakest sandbox that is made, whatever callers find acceptable.
    pub min_isolation: Tier,
    pub limits: Limits,
    pub egress: EgressOptions,
    /// A directory of this user in which it is kept which tiers did not start; `None` to try each
    /// time.
    pub state: Option<PathBuf>,
    /// Sandboxes at one time.
    pub sandboxes: usize,
    /// Clones of virtual machines that may wait for someone at one time. How many do follows from
    /// how often one is asked for; none do before the first, and when nobody came for two minutes.
    pub ready: usize,
}

/// The program that becomes process 1, and how it is told to.
#[derive(Debug, Clone)]
pub struct Agent {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Agent {
    /// This program, which must call [`sandbox_agent::main_if_asked`] first.
    pub fn this_program() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![sandbox_agent::ARGUMENT.into()],
        }
    }
}

/// Whether callers may name directories of this machine to see inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspaces {
    /// Callers are this machine's user, and may show what they can read.
    OfThisMachine,
    /// Callers may be anyone with the key, and see nothing of this machine.
    None,
}

/// The limits of a sandbox where its creator names none; nobody gets more than [`Limits::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub processors: u32,
    pub processes: u64,
    pub command_seconds: u64,
    /// From creation to destruction.
    pub lifetime_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            disk_bytes: 1 << 30,
            processors: 1,
            processes: 512,
            command_seconds: 60,
            lifetime_seconds: 300,
        }
    }
}

impl Limits {
    pub const MOST: Self = Self {
        memory_bytes: 64 << 30,
        disk_bytes: 64 << 30,
        processors: 64,
        processes: 4096,
        command_seconds: 3_600,
        lifetime_seconds: 24 * 3_600,
    };

    fn with(self, asked: LimitsAsked) -> Self {
        let most = Self::MOST;
        let pick = |asked: Option<u64>, own: u64, most: u64| asked.unwrap_or(own).min(most);
        Self {
            memory_bytes: pick(asked.memory_bytes, self.memory_bytes, most.memory_bytes),
            disk_bytes: pick(asked.disk_bytes, self.disk_bytes, most.disk_bytes),
            processors: asked
                .processors
                .unwrap_or(self.processors)
                .clamp(1, most.processors),
            command_seconds: pick(
                asked.command_seconds,
                self.command_seconds,
                most.command_seconds,
            ),
            ..self
        }
    }
}

/// A running service. Dropping it destroys its sandboxes.
pub struct Service {
    state: Arc<State>,
    endpoint: Endpoint,
    serving: JoinSet<()>,
    /// Removed with the service, before its directory.
    _socket: Option<Socket>,
    /// Where the private socket is; removed with the service.
    _directory: Option<tempfile::TempDir>,
}

/// The file of a socket that is listened on.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What all requests share.
struct State {
    options: Options,
    stock: Arc<Stock>,
    sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    /// Counted up with `sandboxes` locked.
    n_starting: AtomicUsize,
}

impl State {
    fn sandboxes(&self) -> MutexGuard<'_, HashMap<String, Arc<Sandbox>>> {
        self.sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Serves on a socket that only this user can reach.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start_private(options: Options) -> io::Result<Self> {
        // The runtime directory is this user's own, and short enough for a socket's name.
        let parent = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let parent = parent
            .filter(|own| own.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        sweep(&parent, SOCKETS);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{SOCKETS}{}-", std::process::id()))
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let path = directory.path().join("sandboxd");
        let mut service = Self::start_unix(path, options)?;
        service._directory = Some(directory);
        Ok(service)
    }

    /// Serves on a socket at `path`, with access as its directory has it and no more than 0600.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start_unix(path: PathBuf, options: Options) -> io::Result<Self> {
        // One that nobody listens on is left of a service that was killed.
        let is_left = std::fs::symlink_metadata(&path).is_ok_and(|f| f.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(&path)
                .is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused);
        if is_left {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        let socket = Socket(path.clone());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let state = State::new(options);
        let mut serving = JoinSet::new();
        serving.spawn(route::serve_unix(Arc::clone(&state), listener));
        let mut service = Self::new(state, Address::Unix(path), serving);
        service._socket = Some(socket);
        Ok(service)
    }

    /// Serves on a TCP address. No encryption: meant for loopback, or behind something that has it.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start_tcp(address: SocketAddr, options: Options) -> io::Result<Self> {
        Self::listen(address, None, options).await
    }

    /// The same over TLS, for callers from other machines.
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate and its key cannot be used.
    pub async fn start_tls(
        address: SocketAddr,
        certificate: &Certificate,
        options: Options,
    ) -> io::Result<Self> {
        Self::listen(address, Some(certificate.acceptor()?), options).await
    }

    async fn listen(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        options: Options,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = Address::Url(format!("{scheme}://{}", listener.local_addr()?));
        let state = State::new(options);
        let mut serving = JoinSet::new();
        serving.spawn(route::serve_tcp(Arc::clone(&state), listener, tls));
        Ok(Self::new(state, address, serving))
    }

    fn new(state: Arc<State>, address: Address, serving: JoinSet<()>) -> Self {
        let endpoint = Endpoint {
            address,
            key: state.options.key.reveal().to_owned(),
            addressing: Addressing::Header,
        };
        Self {
            state,
            endpoint,
            serving,
            _socket: None,
            _directory: None,
        }
    }

    /// How a client reaches it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Destroys every sandbox and stops.
    pub async fn stop(mut self) {
        self.serving.shutdown().await;
        let all: Vec<_> = self.state.sandboxes().drain().collect();
        for (_, sandbox) in all {
            sandbox.destroy().await;
        }
        self.state.stock.close().await;
    }
}

/// Removes the directories of services that are no more, whose names begin so.
fn sweep(parent: &std::path::Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let service = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if service.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl State {
    fn new(options: Options) -> Arc<Self> {
        cgroup::sweep();
        restricted::sweep();
        Arc::new(Self {
            options,
            stock: Arc::default(),
            sandboxes: Mutex::default(),
            n_starting: AtomicUsize::new(0),
        })
    }
}

/// Makes a sandbox of a tier, waits for its answer and destroys it: whether this machine can.
/// Returns where it is weaker than its tier's name says.
///
/// # Errors
/// The step that this machine refuses.
pub async fn probe(options: &Options, tier: Tier) -> Result<Vec<String>, LaunchError> {
    let made = Sandbox::launch(&Arc::default(), options, sandbox::Asked::probe(tier)).await;
    if tier > Tier::Namespace {
        let problem = made.as_ref().err().map(ToString::to_string);
        verdicts::keep(options, tier, &options.limits, problem.as_deref()).await;
    }
    let sandbox = made?;
    let notes = sandbox.notes().to_vec();
    sandbox.destroy().await;
    Ok(notes)
}
