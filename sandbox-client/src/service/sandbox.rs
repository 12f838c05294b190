//! One sandbox: the agent's process, the connection to it, and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sandbox_agent::RESTRICTED_ARGUMENT;
use sandbox_agent::handover::take_over;
use sandbox_agent::spec::{self, Access, Mount, Spec, Told, Verdict};
use sandbox_agent::wire::{CONNECTION_WINDOW, STREAM_WINDOW};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cgroup::Groups;
use super::egress::{self, Egress, Outlet, Policy};
use super::gvisor;
use super::host::is_plain_directory;
use super::key::{Key, random_hex};
use super::machine::{self, Stock};
use super::restricted;
use super::verdicts;
use super::{Limits, Options, Workspaces};
use crate::protocol::{Create, LocalCreate};
use crate::service::route::Forwarded;
use crate::tier::Tier;

/// The agent builds the walls in milliseconds; a machine that needs longer than this is stuck.
const LAUNCH: Duration = Duration::from_secs(10);
/// How long what has no namespaces may need to end and to remove its files.
const END: Duration = Duration::from_secs(30);
/// Of one process.
const OPEN_FILES: u64 = 4096;
/// Files are held in memory; each costs about a kilobyte.
const BYTES_A_FILE: u64 = 4 << 10;
/// Directories that a sandbox has of its own.
const OWN: [&str; 2] = ["/proc", "/sys"];
/// Paths that one sandbox may hide.
const MASKS: usize = 4_000;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("the sandbox's process could not be started: {0}")]
    Start(#[source] std::io::Error),
    #[error("this machine does not allow a sandbox: could not {0}")]
    Refused(String),
    #[error("the sandbox did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the sandbox ended before it answered")]
    Ended,
    #[error("there is no sandbox of the tier {tier}: {why}", tier = .tier.name())]
    Machine { tier: Tier, why: String },
    #[error("a sandbox of the tier {tier} cannot show what was asked for: {error}", tier = .tier.name())]
    Unshown {
        tier: Tier,
        #[source]
        error: std::io::Error,
    },
    #[error("a sandbox of at least the tier {wanted} was asked for; that would be {has}", wanted = .wanted.name(), has = .has.name())]
    TooWeak { has: Tier, wanted: Tier },
    #[error("{0}")]
    Asked(String),
}

/// What a creator asked for, checked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    tier: Tier,
    /// What to take in its place where there is none of it.
    weaker: Vec<Tier>,
    /// Whether one with whose kernel programs of today have trouble is none.
    only_fit: bool,
    template: String,
    metadata: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    local: LocalCreate,
    network: Policy,
    lifetime: Option<Duration>,
}

impl Asked {
    /// The least there is.
    pub(super) fn probe(tier: Tier) -> Self {
        Self {
            tier,
            weaker: Vec::new(),
            only_fit: false,
            template: "base".to_owned(),
            metadata: BTreeMap::new(),
            env: BTreeMap::new(),
            local: LocalCreate::default(),
            network: Policy::default(),
            lifetime: None,
        }
    }

    pub(super) fn check(create: Create, options: &Options) -> Result<Self, LaunchError> {
        let refuse = |why: String| Err(LaunchError::Asked(why));
        if !["base", "code-interpreter-v1", ""].contains(&create.template_id.as_str()) {
            let name: String = create.template_id.chars().take(80).collect();
            return refuse(format!("there is no template '{name}'; there is 'base'"));
        }
        let bad = |name: &String| name.is_empty() || name.contains(['=', '\0']);
        if create.env_vars.keys().any(bad) || create.env_vars.values().any(|v| v.contains('\0')) {
            return refuse("an environment variable has a name or value that cannot be".into());
        }
        let network = create.network.unwrap_or_default();
        let network = Policy::read(&network).map_err(LaunchError::Asked)?;
        let local = create.pairwright.unwrap_or_default();
        let wanted = local.min_isolation.unwrap_or(Tier::Namespace);
        let wanted = wanted.max(options.min_isolation);
        let memory = local.limits.and_then(|limits| limits.memory_bytes);
        let is_small = memory.is_some_and(|bytes| bytes < machine::LEAST_MEMORY);
        let mut weaker = match (local.tier, local.strongest) {
            (Some(tier), _) => vec![tier],
            (None, false) => vec![wanted.min(Tier::Vm)],
            (None, true) => strongest(wanted, !is_small),
        };
        let has = weaker.remove(0);
        if has < wanted {
            return Err(LaunchError::TooWeak { has, wanted });
        }
        if has == Tier::Remote {
            return refuse("sandboxes of this service are on its own machine".into());
        }
        let named = local.workspace.iter().chain(&local.read_roots);
        for path in named {
            if options.workspaces == Workspaces::None {
                return refuse("this service shows no directories of its machine".into());
            }
            let is_own = OWN.iter().any(|own| path.starts_with(own));
            if is_own || !is_plain_directory(path) || path.parent().is_none() {
                let path = path.display();
                return refuse(format!(
                    "{path} cannot be shown: it must be a directory below /, named without links"
                ));
            }
        }
        if local.masks.len() > MASKS {
            return refuse(format!("more than {MASKS} paths to hide"));
        }
        Ok(Self {
            tier: has,
            weaker,
            only_fit: false,
            template: create.template_id,
            metadata: create.metadata,
            env: create.env_vars,
            local,
            network,
            lifetime: create.timeout.map(Duration::from_secs),
        })
    }

    fn spec(&self, options: &Options, limits: &Limits, limits_memory: bool) -> Spec {
        let mut mounts = options.host.mounts.clone();
        mounts.extend(self.local.read_roots.iter().map(|path| Mount {
            path: path.clone(),
            access: Access::ReadOnly,
        }));
        let mut env = options.host.env.clone();
        let has_network = self.tier != Tier::Landlock;
        if has_network {
            env.extend(proxy_variables(&options.egress.local));
        }
        env.extend(self.env.clone());
        Spec {
            workspace: self.local.workspace.clone(),
            mounts,
            masks: self.local.masks.clone(),
            env,
            limits: spec::Limits {
                disk_bytes: limits.disk_bytes,
                files: (limits.disk_bytes / BYTES_A_FILE).max(1 << 10),
                processes: limits.processes,
                open_files: OPEN_FILES,
                data_bytes: (!limits_memory).then_some(limits.memory_bytes),
                command_ms: limits.command_seconds * 1_000,
            },
            proxy: has_network.then_some(egress::PORT),
            keep: None,
            restricted: None,
        }
    }
}

/// The tiers to try, strongest first, where at least `wanted` is demanded; one at least. An emulated
/// machine is too slow to be the choice of anyone who accepts less.
fn strongest(wanted: Tier, fits_a_machine: bool) -> Vec<Tier> {
    match wanted {
        Tier::Landlock => {
            let mut tiers = strongest(Tier::Namespace, fits_a_machine);
            tiers.push(Tier::Landlock);
            tiers
        }
        Tier::Namespace if fits_a_machine => vec![Tier::Vm, Tier::Gvisor, Tier::Namespace],
        Tier::Namespace => vec![Tier::Gvisor, Tier::Namespace],
        Tier::Gvisor if fits_a_machine => vec![Tier::Vm, Tier::Gvisor],
        Tier::Gvisor => vec![Tier::Gvisor],
        Tier::VmEmulated => vec![Tier::Vm, Tier::VmEmulated],
        Tier::Vm | Tier::Remote => vec![Tier::Vm],
    }
}

/// How programs find the proxy. What is inside they reach without it, but for addresses of the
/// service's own machine that its user has named.
fn proxy_variables(named: &BTreeSet<SocketAddr>) -> impl Iterator<Item = (String, String)> {
    const AROUND: [&str; 2] = ["NO_PROXY", "no_proxy"];
    const INSIDE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
    let is_named = |name: &&str| {
        named
            .iter()
            .any(|address| address.ip().to_string() == **name)
    };
    let inside: Vec<&str> = INSIDE.into_iter().filter(|name| !is_named(name)).collect();
    let inside = inside.join(",");
    const THROUGH: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    let proxy = format!("http://127.0.0.1:{}", egress::PORT);
    let through = THROUGH.map(|name| (name.to_owned(), proxy.clone()));
    let around = AROUND.map(|name| (name.to_owned(), inside.clone()));
    through.into_iter().chain(around)
}

/// A running sandbox.
pub(super) struct Sandbox {
    pub(super) id: String,
    /// What it really is.
    pub(super) tier: Tier,
    pub(super) token: Key,
    pub(super) template: String,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) limits: Limits,
    pub(super) started: SystemTime,
    notes: Vec<String>,
    pub(super) egress: Egress,
    envd: Envd,
    /// Who says what was changed, where `envd` cannot.
    layer: Option<Envd>,
    end: watch::Sender<Instant>,
    /// Gone when it is destroyed. A machine, and what has no namespaces, ends when the leash does.
    process: tokio::sync::Mutex<Option<(Child, Option<Leash>)>>,
    groups: Groups,
}

/// A socket that closes when this is dropped, whoever else has it open.
struct Leash(UnixStream);

impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Sandbox {
    /// Makes a sandbox of the tier asked for, or of the next that may take its place where this
    /// computer has no such machine. What it has not is in the notes.
    pub(super) async fn launch(
        stock: &Arc<Stock>,
        options: &Options,
        mut asked: Asked,
    ) -> Result<Self, LaunchError> {
        let limits = options.limits.with(asked.local.limits.unwrap_or_default());
        let mut missing = Vec::new();
        let weaker = std::mem::take(&mut asked.weaker);
        asked.only_fit = true;
        for weaker in weaker {
            let why = match verdicts::recall(options, asked.tier, &limits).await {
                Some(why) => why,
                None => match Self::build(stock, options, asked.clone()).await {
                    Err(error @ LaunchError::Machine { .. }) => {
                        let why = error.to_string();
                        verdicts::keep(options, asked.tier, &limits, Some(&why)).await;
                        why
                    }
                    // It is this workspace's fault, and the next may be another; or nobody may make
                    // namespaces here, which is told at once and can be changed.
                    Err(error @ (LaunchError::Unshown { .. } | LaunchError::Refused(_))) => {
                        error.to_string()
                    }
                    made => return made.map(|sandbox| sandbox.with_notes(missing)),
                },
            };
            missing.push(why);
            asked.tier = weaker;
        }
        asked.only_fit = false;
        let made = Self::build(stock, options, asked).await;
        made.map(|sandbox| sandbox.with_notes(missing))
    }

    fn with_notes(mut self, mut before: Vec<String>) -> Self {
        before.append(&mut self.notes);
        self.notes = before;
        self
    }

    /// Builds the walls and waits until they stand.
    async fn build(
        stock: &Arc<Stock>,
        options: &Options,
        asked: Asked,
    ) -> Result<Self, LaunchError> {
        let id = random_hex().map_err(LaunchError::Start)?;
        let token = random_hex().map_err(LaunchError::Start)?;
        let limits = options.limits.with(asked.local.limits.unwrap_or_default());
        let Launched {
            process,
            agreed,
            control,
            outlet,
            layer,
            groups,
            mut notes,
        } = Launched::launch(stock, options, &asked, &limits, &id).await?;
        let Agreed {
            channel, landlock, ..
        } = agreed;
        let egress = Egress::start(outlet, options.egress.clone(), asked.network);
        let egress = egress.map_err(LaunchError::Start)?;
        let envd = speak(channel).await?;
        let layer = match layer {
            Some(layer) => Some(speak(layer).await?),
            None => None,
        };
        // A machine has the memory and the processors that it has, and its users are its own.
        // gVisor's kernel counts processes, and says for itself what of memory it does.
        let (is_machine, is_gvisor) = (asked.tier.is_machine(), asked.tier == Tier::Gvisor);
        let has_own_kernel = is_machine || is_gvisor;
        for (holds, what) in [
            (
                groups.limits_memory || has_own_kernel,
                "memory limit: best effort (per process)",
            ),
            (
                groups.limits_processes || has_own_kernel,
                "process limit: best effort (per user)",
            ),
            (groups.limits_processors || is_machine, "no processor limit"),
            (landlock || is_gvisor, "without Landlock"),
        ] {
            if !holds {
                notes.push(what.to_owned());
            }
        }
        let lifetime = Duration::from_secs(limits.lifetime_seconds);
        let lifetime = asked.lifetime.unwrap_or(lifetime);
        let (end, _) = watch::channel(Instant::now() + lifetime.min(most_lifetime()));
        Ok(Self {
            id,
            tier: asked.tier,
            token: Key::from_text(token),
            template: asked.template,
            metadata: asked.metadata,
            limits,
            started: SystemTime::now(),
            notes,
            egress,
            envd,
            layer,
            end,
            process: tokio::sync::Mutex::new(Some((process, control.map(Leash)))),
            groups,
        })
    }

    /// Where it is weaker than its tier's name says.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Who answers requests for a path.
    pub(super) fn envd(&self, path: &str) -> Envd {
        let layer = self.layer.as_ref().filter(|_| path.starts_with("/x/"));
        layer.unwrap_or(&self.envd).clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.envd.has_ended() || self.layer.as_ref().is_some_and(Envd::has_ended)
    }

    /// Sets when it is destroyed.
    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        self.end
            .send_replace(Instant::now() + lifetime.min(most_lifetime()));
    }

    pub(super) fn ends_in(&self) -> Duration {
        let end = *self.end.borrow();
        end.saturating_duration_since(Instant::now())
    }

    /// Waits until its time is over or its process has ended. Does not keep it: `None` when it is
    /// gone before that.
    pub(super) fn over(self: &Arc<Self>) -> impl Future<Output = Option<Arc<Self>>> + Send + use<> {
        let (sandbox, mut changed) = (Arc::downgrade(self), self.end.subscribe());
        async move {
            let mut looks = tokio::time::interval(Duration::from_secs(1));
            loop {
                let end = *changed.borrow_and_update();
                tokio::select! {
                    () = tokio::time::sleep_until(end) => return sandbox.upgrade(),
                    told = changed.changed() => if told.is_err() { return None },
                    _ = looks.tick() => {
                        let own = sandbox.upgrade()?;
                        if own.is_over() {
                            return Some(own);
                        }
                    }
                }
            }
        }
    }

    /// Kills everything in it and waits until it is gone.
    pub(super) async fn destroy(&self) {
        if let Some((mut process, leash)) = self.process.lock().await.take() {
            drop(leash);
            // Without namespaces the first process kills the others, one by one if need be.
            if self.tier == Tier::Landlock {
                let _ = tokio::time::timeout(END, process.wait()).await;
            }
            // Process 1 dies with its parent, and takes the rest along.
            let _ = process.kill().await;
        }
        self.groups.remove().await;
    }
}

/// A connection to an agent.
#[derive(Clone)]
pub(super) struct Envd {
    requests: SendRequest<Forwarded>,
    /// Of who carries them out, and is gone when the connection is.
    carrier: watch::Receiver<()>,
}

impl Envd {
    fn has_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// Passes a request on. `None` when there is no answer, also where the connection ends in the moment
    /// in which it is passed on: such a request may lie where nobody reads it and nobody says so.
    pub(super) async fn ask(mut self, request: Request<Forwarded>) -> Option<Response<Incoming>> {
        tokio::select! {
            biased;
            answer = self.requests.send_request(request) => answer.ok(),
            _ = self.carrier.changed() => None,
        }
    }
}

/// Begins HTTP/2 with an agent.
async fn speak(channel: UnixStream) -> Result<Envd, LaunchError> {
    let channel = tokio::net::UnixStream::from_std(channel).map_err(LaunchError::Start)?;
    let (requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(channel))
        .await
        .map_err(|_| LaunchError::Ended)?;
    let (carries, carrier) = watch::channel(());
    tokio::spawn(async move {
        // Ends when either side does; whoever waits for answers then sees it.
        let _ = connection.await;
        drop(carries);
    });
    Ok(Envd { requests, carrier })
}

fn most_lifetime() -> Duration {
    Duration::from_secs(Limits::MOST.lifetime_seconds)
}

/// A sandbox that answered, before it is anyone's.
struct Launched {
    process: Child,
    agreed: Agreed,
    control: Option<UnixStream>,
    outlet: Outlet,
    layer: Option<UnixStream>,
    groups: Groups,
    notes: Vec<String>,
}

/// What an agent whose walls stand has answered.
pub(super) struct Agreed {
    pub(super) channel: UnixStream,
    pub(super) landlock: bool,
    /// What programs of today ask of its kernel and do not get.
    pub(super) lacks: Vec<String>,
    /// The sandbox's end of its way out. A machine keeps it to itself.
    pub(super) proxy: Option<TcpListener>,
}

impl Launched {
    async fn launch(
        stock: &Arc<Stock>,
        options: &Options,
        asked: &Asked,
        limits: &Limits,
        id: &str,
    ) -> Result<Self, LaunchError> {
        if asked.tier.is_machine() {
            let spec = asked.spec(options, limits, true);
            let machine = machine::start(stock, options, asked.tier, limits, spec).await?;
            return Ok(Self {
                process: machine.process,
                agreed: machine.agreed,
                control: Some(machine.control),
                outlet: Outlet::Port(machine.outward),
                layer: None,
                groups: machine.groups,
                notes: machine.notes,
            });
        }
        if asked.tier == Tier::Gvisor {
            let spec = asked.spec(options, limits, true);
            let made = gvisor::start(options, limits, id, spec).await?;
            let mut notes = vec![match made.groups.limits_memory {
                true => "more memory than its limit ends it".to_owned(),
                false => "no memory limit".to_owned(),
            }];
            if !made.agreed.lacks.is_empty() {
                let lacks = made.agreed.lacks.join(", ");
                let why = format!("this gVisor is too old for {lacks}: install a newer one");
                if asked.only_fit {
                    let tier = asked.tier;
                    made.end().await;
                    return Err(LaunchError::Machine { tier, why });
                }
                notes.push(why);
            }
            return Ok(Self {
                process: made.process,
                agreed: made.agreed,
                control: None,
                outlet: Outlet::Port(made.outward),
                layer: Some(made.control),
                groups: made.groups,
                notes,
            });
        }
        let groups = Groups::make(id, limits);
        let spec = asked.spec(options, limits, groups.limits_memory);
        if asked.tier == Tier::Landlock {
            return Self::restricted(options, asked, groups, spec).await;
        }
        match start(options, &groups, spec).await {
            Ok((process, mut agreed)) => Ok(Self {
                process,
                outlet: Outlet::Listener(agreed.proxy.take().ok_or(LaunchError::Ended)?),
                agreed,
                control: None,
                layer: None,
                groups,
                notes: Vec::new(),
            }),
            Err(why) => {
                groups.remove().await;
                Err(why)
            }
        }
    }

    /// One without namespaces.
    async fn restricted(
        options: &Options,
        asked: &Asked,
        groups: Groups,
        spec: Spec,
    ) -> Result<Self, LaunchError> {
        if !asked.network.names().is_empty() {
            return Err(LaunchError::Asked(restricted::NO_NETWORK.to_owned()));
        }
        let roots = &asked.local.read_roots;
        let is_read = |mask: &PathBuf| roots.iter().any(|root| mask.starts_with(root));
        if asked.local.masks.iter().any(is_read) {
            let why = "a sandbox of the tier landlock hides nothing of what it can read";
            return Err(LaunchError::Asked(why.to_owned()));
        }
        let (own, spec) = restricted::prepare(spec).map_err(LaunchError::Start)?;
        let (process, agreed) = start(options, &groups, spec).await?;
        let control = agreed.channel.try_clone().map_err(LaunchError::Start)?;
        // Its first process removes it, when nothing uses it any more.
        let _ = own.keep();
        let mut notes = agreed.lacks.clone();
        notes.push("disk limit: best effort (looked at while commands run)".to_owned());
        Ok(Self {
            process,
            agreed,
            control: Some(control),
            outlet: Outlet::Nothing,
            layer: None,
            groups,
            notes,
        })
    }
}

/// Starts the agent, limits it from outside, and tells it what to build.
pub(super) async fn start(
    options: &Options,
    groups: &Groups,
    spec: Spec,
) -> Result<(Child, Agreed), LaunchError> {
    let (own, theirs) = UnixStream::pair().map_err(LaunchError::Start)?;
    let restricted = [OsString::from(RESTRICTED_ARGUMENT)];
    let arguments = match spec.restricted {
        Some(_) => restricted.as_slice(),
        None => options.agent.arguments.as_slice(),
    };
    let process = Command::new(&options.agent.program)
        .args(arguments)
        .env_clear()
        .current_dir(PathBuf::from("/"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Without namespaces it ends everything when its socket closes, and must live to do so.
        .kill_on_drop(spec.restricted.is_none())
        .spawn()
        .map_err(LaunchError::Start)?;
    if let Some(pid) = process.id() {
        groups.take(pid).map_err(LaunchError::Start)?;
    }
    let told = own.try_clone().and_then(|mut own| own.write_all(&[1]));
    told.map_err(LaunchError::Start)?;
    let agreed = agree(own, spec, LAUNCH).await?;
    Ok((process, agreed))
}

/// Tells the agent at the other end what to build, and waits until it has.
pub(super) async fn agree(
    mut channel: UnixStream,
    spec: Spec,
    patience: Duration,
) -> Result<Agreed, LaunchError> {
    let has_proxy = spec.proxy.is_some();
    let answered = tokio::task::spawn_blocking(move || {
        channel.set_read_timeout(Some(patience))?;
        channel.set_write_timeout(Some(patience))?;
        spec::write_frame(&mut channel, &Told::Build(Box::new(spec)))?;
        let verdict: Verdict = spec::read_frame(&mut channel)?;
        let proxy = match verdict {
            Verdict::Ready { .. } if has_proxy => take_over(&channel)?.map(TcpListener::from),
            Verdict::Ready { .. } | Verdict::Failed { .. } => None,
        };
        channel.set_read_timeout(None)?;
        channel.set_write_timeout(None)?;
        channel.set_nonblocking(true)?;
        Ok::<_, std::io::Error>((channel, verdict, proxy))
    });
    let answered = answered.await.map_err(|_| LaunchError::Ended)?;
    let (channel, verdict, proxy) = answered.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            LaunchError::Silent(patience)
        }
        _ => LaunchError::Ended,
    })?;
    match verdict {
        Verdict::Ready { landlock, lacks } => Ok(Agreed {
            channel,
            landlock,
            lacks,
            proxy,
        }),
        Verdict::Failed { step } => Err(LaunchError::Refused(step)),
    }
}

/// Sends open files to an agent that keeps a program.
pub(super) fn send(to: &UnixStream, files: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(spec::MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let byte = [IoSlice::new(&[1])];
    sendmsg(to, &byte, &mut ancillary, SendFlags::empty())?;
    Ok(())
}
