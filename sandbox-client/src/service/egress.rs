//! The one way out of a sandbox: a proxy on its loopback that this service answers.
//!
//! A sandbox has no network device. Process 1 opens a listening socket on the loopback inside and
//! hands it to the service, which accepts and decides outside: `CONNECT` for TLS, absolute-form
//! requests for plain HTTP ([`proxy`]). A virtual machine keeps the socket and carries what it
//! accepts to the service as streams of HTTP/2 on a port; the rest is the same.
//!
//! Holds: nothing is reached that the [`policy`] does not name; names are resolved here, and only
//! names that may be reached are; of the addresses found, those that are not global are refused
//! ([`address`]) and the connection goes to the very address that was checked. A tunnel carries TLS
//! whose server name is the host it was opened for ([`tunnel`]); a plain request goes to the host
//! it names ([`plain`]). Connections and bytes are counted, and every wait has an end. Whatever is
//! refused is a [`Denial`]. A policy that is replaced holds at once, for what is open too.
//! Not here: what a host that may be reached is told. An allowed host can be a way to carry data
//! out, also for names that share its servers.

mod address;
mod denials;
mod dial;
mod plain;
mod policy;
mod proxy;
mod tunnel;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::denials::Denials;
pub(super) use self::policy::Policy;
use self::policy::Target;
use crate::protocol::{Denial, DenialOp, DenialReason};

/// Where the proxy is inside, on 127.0.0.1.
pub(super) const PORT: u16 = 3128;

/// How every sandbox of a service reaches out, whatever its policy allows.
#[derive(Debug, Clone, Default)]
pub struct EgressOptions {
    pub names: Names,
    /// Addresses that may be reached although they are not global: servers on this machine or its
    /// network that its user named. A policy must allow them too.
    pub local: BTreeSet<SocketAddr>,
    /// For hosts to which the proxy speaks TLS itself; the machine's authorities when not given.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub caps: Caps,
}

/// What one sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// At one time.
    pub connections: usize,
    /// Of all connections together, both ways.
    pub bytes: u64,
    /// Until a request's head, and the beginning of TLS, must have come.
    pub beginning: Duration,
    /// Without a byte either way.
    pub idle: Duration,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            connections: 64,
            bytes: 4 << 30,
            beginning: Duration::from_secs(10),
            idle: Duration::from_secs(120),
        }
    }
}

/// Looks up a name.
type LookUp = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// How names become addresses.
#[derive(Clone, Default)]
pub enum Names {
    /// As for every program of this machine.
    #[default]
    System,
    /// By a function, which must not wait.
    Given(Arc<LookUp>),
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Given(_) => "Given",
        })
    }
}

/// The proxy of one sandbox. Dropping it closes every connection.
#[derive(Debug)]
pub(super) struct Egress {
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

/// What all connections of a sandbox share.
#[derive(Debug)]
struct Shared {
    options: EgressOptions,
    policy: watch::Sender<Arc<Policy>>,
    denials: Denials,
    /// Bytes passed on so far.
    n_bytes: AtomicU64,
}

/// Where connections come from.
#[derive(Debug)]
pub(super) enum Outlet {
    /// A socket of the sandbox's own network.
    Listener(std::net::TcpListener),
    /// A machine's port.
    Port(std::os::unix::net::UnixStream),
    /// There is no way out, whatever is allowed.
    Nothing,
}

impl Egress {
    /// Answers on a sandbox's way out.
    pub(super) fn start(
        outlet: Outlet,
        options: EgressOptions,
        policy: Policy,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            options,
            policy: watch::Sender::new(Arc::new(policy)),
            denials: Denials::default(),
            n_bytes: AtomicU64::new(0),
        });
        let mut serving = JoinSet::new();
        match outlet {
            Outlet::Listener(listener) => {
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                serving.spawn(proxy::serve(Arc::clone(&shared), listener));
            }
            Outlet::Port(port) => {
                port.set_nonblocking(true)?;
                let port = UnixStream::from_std(port)?;
                serving.spawn(proxy::serve_machine(Arc::clone(&shared), port));
            }
            Outlet::Nothing => {}
        }
        Ok(Self {
            shared,
            _serving: serving,
        })
    }

    /// Replaces what may be reached, also by connections that are open.
    pub(super) fn set(&self, policy: Policy) {
        self.shared.policy.send_replace(Arc::new(policy));
    }

    /// What may be reached, in words.
    pub(super) fn allowed(&self) -> Vec<String> {
        self.shared.policy.borrow().names()
    }

    /// Denials after number `after`; waits for one, but no longer than `patience`.
    pub(super) async fn denials(&self, after: u64, patience: Duration) -> Vec<Denial> {
        self.shared.denials.since(after, patience).await
    }
}

impl Shared {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Writes down that something was refused.
    fn deny(&self, op: DenialOp, target: &str, reason: DenialReason, allowed_by: Option<String>) {
        self.denials.push(op, target, reason, allowed_by);
    }

    /// Counts bytes that are passed on. `false` when they are too many.
    fn count(&self, n: usize) -> bool {
        let before = self.n_bytes.fetch_add(n as u64, Ordering::Relaxed);
        before.saturating_add(n as u64) <= self.options.caps.bytes
    }

    /// Waits until the policy no longer allows what is open to `address`.
    async fn forbidden(&self, target: &Target, address: IpAddr) {
        let mut changes = self.policy.subscribe();
        loop {
            let allows = changes.borrow_and_update().allows(target, address);
            if !allows || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether `target` may be resolved and connected to.
    fn judge(&self, target: &Target) -> Result<(), DenialReason> {
        if let Some(address) = target.literal() {
            let known = SocketAddr::new(address, target.port());
            if !self.options.local.contains(&known) && address::refusal(address).is_some() {
                return Err(DenialReason::NotGlobal);
            }
        }
        self.policy().judge(target)
    }
}
