//! One sandbox: the agent's process, the connection to it, and its end.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sandbox_agent::spec::{self, Access, Mount, Spec, Verdict};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cgroup::Groups;
use super::host::is_plain_directory;
use super::key::{Key, random_hex};
use super::machine;
use super::{Limits, Options, Workspaces};
use crate::protocol::{Create, LocalCreate};
use crate::service::route::Forwarded;
use crate::tier::Tier;

/// The agent builds the walls in milliseconds; a machine that needs longer than this is stuck.
const LAUNCH: Duration = Duration::from_secs(10);
/// Memory of one process, where that of all cannot be limited.
const OPEN_FILES: u64 = 4096;
/// Files are held in memory; each costs about a kilobyte.
const BYTES_A_FILE: u64 = 4 << 10;
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
    #[error("a sandbox of at least the tier {wanted} was asked for; that would be {has}", wanted = .wanted.name(), has = .has.name())]
    TooWeak { has: Tier, wanted: Tier },
    #[error("{0}")]
    Asked(String),
}

/// What a creator asked for, checked.
#[derive(Debug)]
pub(super) struct Asked {
    tier: Tier,
    template: String,
    metadata: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    local: LocalCreate,
    lifetime: Option<Duration>,
}

impl Asked {
    /// The least there is.
    pub(super) fn probe(tier: Tier) -> Self {
        Self {
            tier,
            template: "base".to_owned(),
            metadata: BTreeMap::new(),
            env: BTreeMap::new(),
            local: LocalCreate::default(),
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
        if create
            .network
            .as_ref()
            .is_some_and(|n| !n.allow_out.is_empty())
        {
            return refuse(
                "this sandbox has no network, so nothing of it can be allowed; leave allowOut empty"
                    .into(),
            );
        }
        let local = create.pairwright.unwrap_or_default();
        let wanted = local.min_isolation.unwrap_or(Tier::Namespace);
        let has = local.tier.unwrap_or(wanted.min(Tier::Vm));
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
            if !is_plain_directory(path) || path.parent().is_none() {
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
            template: create.template_id,
            metadata: create.metadata,
            env: create.env_vars,
            local,
            lifetime: create.timeout.map(Duration::from_secs),
        })
    }

    fn spec(&self, options: &Options, limits: &Limits, groups: &Groups) -> Spec {
        let mut mounts = options.host.mounts.clone();
        mounts.extend(self.local.read_roots.iter().map(|path| Mount {
            path: path.clone(),
            access: Access::ReadOnly,
        }));
        let mut env = options.host.env.clone();
        env.extend(self.env.clone());
        let limits_memory = groups.limits_memory || self.tier != Tier::Namespace;
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
            keep: None,
        }
    }
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
    envd: SendRequest<Forwarded>,
    end: watch::Sender<Instant>,
    /// Gone when it is destroyed.
    process: tokio::sync::Mutex<Option<Child>>,
    /// A machine ends when it closes.
    _control: Option<UnixStream>,
    groups: Groups,
}

impl Sandbox {
    /// Builds the walls and waits until they stand.
    pub(super) async fn launch(options: &Options, asked: Asked) -> Result<Self, LaunchError> {
        let id = random_hex().map_err(LaunchError::Start)?;
        let token = random_hex().map_err(LaunchError::Start)?;
        let limits = options.limits.with(asked.local.limits.unwrap_or_default());
        let groups = match asked.tier {
            Tier::Namespace | Tier::Remote => Groups::make(&id, &limits),
            Tier::VmEmulated | Tier::Vm => Groups::make(&id, &machine::around(&limits)),
        };
        let launched = Launched::launch(options, &asked, &limits, &groups).await;
        let Launched {
            process,
            channel,
            control,
            landlock,
            mut notes,
        } = match launched {
            Ok(launched) => launched,
            Err(error) => {
                groups.remove().await;
                return Err(error);
            }
        };
        let channel = tokio::net::UnixStream::from_std(channel).map_err(LaunchError::Start)?;
        let (envd, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(channel))
            .await
            .map_err(|_| LaunchError::Ended)?;
        // Ends when either side does; whoever waits for answers then sees it.
        tokio::spawn(connection);
        notes.insert(0, "no network".to_owned());
        // A machine has the memory and the processors that it has, and its users are its own.
        let is_machine = asked.tier != Tier::Namespace;
        for (holds, what) in [
            (
                groups.limits_memory || is_machine,
                "memory limit: best effort (per process)",
            ),
            (
                groups.limits_processes || is_machine,
                "process limit: best effort (per user)",
            ),
            (groups.limits_processors || is_machine, "no processor limit"),
            (landlock, "without Landlock"),
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
            envd,
            end,
            process: tokio::sync::Mutex::new(Some(process)),
            _control: control,
            groups,
        })
    }

    /// Where it is weaker than its tier's name says.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn envd(&self) -> SendRequest<Forwarded> {
        self.envd.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.envd.is_closed()
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
        if let Some(mut process) = self.process.lock().await.take() {
            // Process 1 dies with its parent, and takes the rest along.
            let _ = process.kill().await;
        }
        self.groups.remove().await;
    }
}

fn most_lifetime() -> Duration {
    Duration::from_secs(Limits::MOST.lifetime_seconds)
}

/// A sandbox that answered, before it is anyone's.
struct Launched {
    process: Child,
    channel: UnixStream,
    control: Option<UnixStream>,
    landlock: bool,
    notes: Vec<String>,
}

impl Launched {
    async fn launch(
        options: &Options,
        asked: &Asked,
        limits: &Limits,
        groups: &Groups,
    ) -> Result<Self, LaunchError> {
        let spec = asked.spec(options, limits, groups);
        if asked.tier != Tier::Namespace {
            let machine = machine::start(options, asked.tier, limits, groups, spec).await?;
            return Ok(Self {
                process: machine.process,
                channel: machine.channel,
                control: Some(machine.control),
                landlock: machine.landlock,
                notes: machine.notes,
            });
        }
        let (process, channel, landlock) = start(options, groups, spec).await?;
        Ok(Self {
            process,
            channel,
            control: None,
            landlock,
            notes: Vec::new(),
        })
    }
}

/// Starts the agent, limits it from outside, and tells it what to build.
pub(super) async fn start(
    options: &Options,
    groups: &Groups,
    spec: Spec,
) -> Result<(Child, UnixStream, bool), LaunchError> {
    let (own, theirs) = UnixStream::pair().map_err(LaunchError::Start)?;
    let process = Command::new(&options.agent.program)
        .args(&options.agent.arguments)
        .env_clear()
        .current_dir(PathBuf::from("/"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(LaunchError::Start)?;
    if let Some(pid) = process.id() {
        groups.take(pid).map_err(LaunchError::Start)?;
    }
    let (channel, landlock) = agree(own, spec, LAUNCH).await?;
    Ok((process, channel, landlock))
}

/// Tells the agent at the other end what to build, and waits until it has.
pub(super) async fn agree(
    mut channel: UnixStream,
    spec: Spec,
    patience: Duration,
) -> Result<(UnixStream, bool), LaunchError> {
    let answered = tokio::task::spawn_blocking(move || {
        channel.set_read_timeout(Some(patience))?;
        channel.set_write_timeout(Some(patience))?;
        channel.write_all(&[1])?;
        spec::write_frame(&mut channel, &spec)?;
        let verdict: Verdict = spec::read_frame(&mut channel)?;
        channel.set_read_timeout(None)?;
        channel.set_write_timeout(None)?;
        channel.set_nonblocking(true)?;
        Ok::<_, std::io::Error>((channel, verdict))
    });
    let answered = answered.await.map_err(|_| LaunchError::Ended)?;
    let (channel, verdict) = answered.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            LaunchError::Silent(patience)
        }
        _ => LaunchError::Ended,
    })?;
    match verdict {
        Verdict::Ready { landlock } => Ok((channel, landlock)),
        Verdict::Failed { step } => Err(LaunchError::Refused(step)),
    }
}
