//! Where commands run: in a sandbox of this machine, or of the service that the settings name.
//!
//! Holds: a sandbox of this machine is no weaker than the settings accept; secret files are empty in
//! it, git's settings with a password among them, and of one elsewhere they never leave this machine.
//! Where there is no sandbox there is an error with the next step, and no command runs. A sandbox
//! elsewhere that nobody waits for any more is ended.
//! Not here: what runs in it (`agent::sandbox`, `cli`), how sandboxes are built (`sandbox-client`).

#[cfg(target_os = "linux")]
mod secrets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use sandbox_client::changes::{self, Bounds, Changes};
use sandbox_client::client::{Address, Addressing, Client, ClientError, Endpoint, Sandbox};
use sandbox_client::copy::{self, Copied};
use sandbox_client::protocol::{Create, LocalCreate};
#[cfg(target_os = "linux")]
use sandbox_client::service::{
    Agent, EgressOptions, Host, Key, Limits, Machines, Options, Service, Workspaces,
};
#[cfg(target_os = "linux")]
use sandbox_client::tier::Tier;

#[cfg(target_os = "linux")]
use self::secrets::{Secrets, secrets_of};
#[cfg(target_os = "linux")]
use crate::config::Isolation;
use crate::config::{self, SandboxAddressing};
use crate::error::{Kind, UserError};
use crate::secret;
use crate::shown::printable;
use crate::{model, models};

/// Seconds that a sandbox elsewhere lives before somebody is known to have it.
const UNCLAIMED: u64 = 300;
/// How a user accepts the tier that is never taken unasked.
#[cfg(target_os = "linux")]
const WEAKER: &str = "; where it has the tier landlock, `sandbox.minIsolation = \"landlock\"` in \
    your own settings accepts that: it shares the kernel, processes and other host state";
/// Files that a label names.
const SHOWN: usize = 3;

/// A service of sandboxes on this machine, for this user alone.
#[cfg(target_os = "linux")]
pub fn options(workspaces: Workspaces, key: Key) -> Options {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let path = std::env::var_os("PATH");
    Options {
        agent: Agent::this_program(),
        key,
        host: Host::find(home.as_deref(), path.as_deref()),
        machines: Machines::default(),
        workspaces,
        min_isolation: Tier::Namespace,
        limits: Limits::default(),
        egress: EgressOptions::default(),
        state: config::sources::Directories::find().state,
        sandboxes: 64,
        ready: 0,
    }
}

/// What the settings say of where commands run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub sandbox: config::Sandbox,
    /// Files of certificate authorities that a service elsewhere is believed by, too.
    pub authorities: Vec<PathBuf>,
}

impl From<&config::Settings> for Settings {
    fn from(settings: &config::Settings) -> Self {
        Self {
            sandbox: settings.sandbox.clone(),
            authorities: settings.network.ca_certificates.clone(),
        }
    }
}

/// A sandbox of a service elsewhere, where it would live until its time is over: dropping this
/// ends it, in a task of its own. Whoever can wait calls [`end`](Self::end).
struct Rented(Option<Sandbox>);

impl Rented {
    /// Makes one, in a task of its own: who stops waiting for it may not have heard of it yet.
    async fn make(client: Client, create: Create) -> Result<Self, ClientError> {
        let (give, taken) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let made = client.create(create).await;
            // Dropped where nobody takes it.
            let _ = give.send(made.map(|sandbox| Self(Some(sandbox))));
        });
        taken.await.unwrap_or(Err(ClientError::Gone))
    }

    async fn end(mut self) {
        if let Some(sandbox) = self.0.take() {
            kill(&sandbox).await;
        }
    }
}

impl Drop for Rented {
    fn drop(&mut self) {
        if let Some(sandbox) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { kill(&sandbox).await });
        }
    }
}

async fn kill(sandbox: &Sandbox) {
    if let Err(error) = sandbox.kill().await {
        tracing::warn!(%error, "a sandbox elsewhere runs until its time is over");
    }
}

/// A sandbox with a folder in it. Dropping it ends it.
pub struct Place {
    root: PathBuf,
    pub sandbox: Sandbox,
    /// `None` for one of this machine, which ends with its service.
    rented: Option<Rented>,
    /// The folder, where the sandbox cannot see the one of this machine, or must not write it.
    copied: Option<Copied>,
    /// Settings of git that are empty in it.
    #[cfg(target_os = "linux")]
    emptied: Vec<PathBuf>,
    #[cfg(target_os = "linux")]
    service: Option<Service>,
}

impl Place {
    /// Makes a sandbox as the settings say, over the folder that `local` names.
    ///
    /// # Errors
    /// When there is none so strong, or the service elsewhere does not make one, with the reason.
    pub async fn open(
        settings: &Settings,
        create: Create,
        local: LocalCreate,
    ) -> anyhow::Result<Self> {
        let Settings {
            sandbox: settings,
            authorities,
        } = settings;
        if let Some(remote) = &settings.remote {
            return Self::elsewhere(remote, authorities, create, local).await;
        }
        #[cfg(target_os = "linux")]
        {
            let weakest = weakest(settings.min_isolation);
            let local = LocalCreate {
                min_isolation: Some(weakest),
                strongest: true,
                ..local
            };
            let key = Key::generate().context("no key could be made")?;
            let mut options = options(Workspaces::OfThisMachine, key);
            options.min_isolation = weakest;
            options.machines = Machines {
                monitor: settings.qemu.clone(),
                kernel: settings.kernel.clone(),
                runsc: settings.runsc.clone(),
            };
            let place = Self::here(options, create, local).await;
            place.map_err(|why| {
                let weaker = match settings.min_isolation {
                    Isolation::Namespace => WEAKER,
                    _ => "",
                };
                anyhow::anyhow!(
                    "{why:#}; `pairwright sandbox doctor` says what this machine can do{weaker}"
                )
            })
        }
        #[cfg(not(target_os = "linux"))]
        Err(nowhere().into())
    }

    /// Makes a sandbox of this machine.
    ///
    /// # Errors
    /// When this machine cannot, with the reason.
    #[cfg(target_os = "linux")]
    pub async fn here(
        options: Options,
        create: Create,
        local: LocalCreate,
    ) -> anyhow::Result<Self> {
        let root = local.workspace.clone().unwrap_or_default();
        let Secrets { files, git } = {
            let (root, reads) = (root.clone(), local.read_roots.clone());
            tokio::task::spawn_blocking(move || secrets_of(&root, &reads)).await??
        };
        let masks = files.into_iter().chain(git.iter().cloned()).collect();
        let create = Create {
            pairwright: Some(LocalCreate { masks, ..local }),
            ..create
        };
        let service =
            Service::start_private(options).context("the sandbox service could not be started")?;
        let client = Client::new(service.endpoint().clone())?;
        let sandbox = client.create(create).await?;
        // It has no layer that could take the writes.
        let copied = match sandbox.tier() {
            Tier::Landlock => Some(copied(&sandbox, &root).await?),
            _ => None,
        };
        Ok(Self {
            root,
            sandbox,
            rented: None,
            emptied: match copied {
                Some(_) => Vec::new(),
                None => git,
            },
            copied,
            service: Some(service),
        })
    }

    /// Makes a sandbox of a service elsewhere, and copies the folder there.
    ///
    /// # Errors
    /// When there is no key, the service does not make one, or the folder cannot be copied.
    pub async fn elsewhere(
        remote: &config::RemoteSandbox,
        authorities: &[PathBuf],
        create: Create,
        local: LocalCreate,
    ) -> anyhow::Result<Self> {
        let client = client(remote, authorities).await?;
        let lifetime = create.timeout;
        let create = Create {
            template_id: remote.template.clone(),
            // An answer that is lost leaves one that nobody can end.
            timeout: Some(lifetime.map_or(UNCLAIMED, |all| all.min(UNCLAIMED))),
            // Nothing of what this machine looks like.
            pairwright: Some(LocalCreate {
                limits: local.limits,
                ..LocalCreate::default()
            }),
            ..create
        };
        let rented = Rented::make(client, create).await?;
        let sandbox = rented.0.clone().context("a sandbox that was ended")?;
        let root = local.workspace.unwrap_or_default();
        let filled = async {
            if let Some(seconds) = lifetime {
                let lifetime = Duration::from_secs(seconds);
                sandbox.set_lifetime(lifetime).await?;
            }
            copied(&sandbox, &root).await
        };
        match filled.await {
            Ok(copied) => Ok(Self {
                root,
                sandbox,
                rented: Some(rented),
                copied: Some(copied),
                #[cfg(target_os = "linux")]
                emptied: Vec::new(),
                #[cfg(target_os = "linux")]
                service: None,
            }),
            Err(error) => {
                rented.end().await;
                Err(error)
            }
        }
    }

    /// What separates commands from the machine, in the words users see.
    pub fn label(&self) -> String {
        let mut label = self.sandbox.label();
        if let Some(copied) = &self.copied {
            label.push_str(", with a copy of the folder");
            let left_out = copied.left_out();
            if !left_out.is_empty() {
                let shown = left_out[..left_out.len().min(SHOWN)].join(", ");
                let shown = printable(&shown);
                label.push_str(&format!(" without {} files: {shown}", left_out.len()));
            }
        }
        #[cfg(target_os = "linux")]
        if !self.emptied.is_empty() {
            let shown = self.emptied.iter().take(SHOWN);
            let shown = shown.map(|path| path.strip_prefix(&self.root).unwrap_or(path));
            let shown: Vec<_> = shown.map(|path| path.display().to_string()).collect();
            let (n, shown) = (self.emptied.len(), printable(&shown.join(", ")));
            label.push_str(&format!(
                ", without {n} files of git's settings, which have a password: {shown}"
            ));
        }
        label
    }

    /// Where the folder is inside, if it is not where it is on this machine.
    pub fn directory(&self) -> Option<&str> {
        self.copied.as_ref().map(Copied::directory)
    }

    /// The path inside of one below the folder.
    pub fn inside(&self, path: &str) -> String {
        match self.directory() {
            Some(directory) => format!("{directory}/{path}"),
            None => self.root.join(path).to_string_lossy().into_owned(),
        }
    }

    /// What runs lines inside. The rules of tasks read a line as bash does.
    pub fn shell(&self) -> &str {
        match &self.copied {
            Some(copied) => copied.shell(),
            None if Path::new("/bin/bash").exists() => "/bin/bash",
            None => "/bin/sh",
        }
    }

    /// What commands changed in the folder.
    ///
    /// # Errors
    /// When the sandbox does not tell.
    pub async fn changes(&self, bounds: Bounds) -> Result<Changes, ClientError> {
        match &self.copied {
            Some(copied) => {
                changes::collect_copied(&self.sandbox, &self.root, copied, bounds).await
            }
            None => changes::collect(&self.sandbox, &self.root, bounds).await,
        }
    }

    /// Destroys the sandbox.
    pub async fn close(self) {
        #[cfg(target_os = "linux")]
        if let Some(service) = self.service {
            return service.stop().await;
        }
        if let Some(rented) = self.rented {
            rented.end().await;
        }
    }
}

/// Copies a folder into a sandbox that cannot see it, without its secret files.
async fn copied(sandbox: &Sandbox, root: &Path) -> anyhow::Result<Copied> {
    let is_secret = |path: &Path| secret::is_path(&path.to_string_lossy());
    let copied = Copied::bring(sandbox, root, is_secret, copy::Bounds::default()).await;
    copied.map_err(|why| anyhow::Error::new(why).context("the folder could not be copied"))
}

#[cfg(target_os = "linux")]
fn weakest(isolation: Isolation) -> Tier {
    match isolation {
        Isolation::Landlock => Tier::Landlock,
        Isolation::Namespace => Tier::Namespace,
        Isolation::Gvisor => Tier::Gvisor,
        Isolation::VmEmulated => Tier::VmEmulated,
        Isolation::Vm => Tier::Vm,
    }
}

/// Why no command runs on a machine without sandboxes.
#[cfg(not(target_os = "linux"))]
pub fn nowhere() -> UserError {
    UserError::new(
        Kind::Workspace,
        "Pairwright makes sandboxes on Linux only, so commands cannot run here.",
    )
    .with_hint("Name a service that makes them, by `sandbox.remote.url` in the settings: E2B's, or `pairwright sandboxd` on a Linux machine.")
}

/// Asks the service that the settings name which sandboxes run: how many.
///
/// # Errors
/// When it has no key, or does not answer.
pub async fn look(
    remote: &config::RemoteSandbox,
    authorities: &[PathBuf],
) -> anyhow::Result<usize> {
    let client = client(remote, authorities).await?;
    Ok(client.list().await?.len())
}

/// A client of the service that the settings name.
async fn client(remote: &config::RemoteSandbox, authorities: &[PathBuf]) -> anyhow::Result<Client> {
    let authorities = model::authorities(authorities)?;
    Ok(Client::believing(endpoint(remote).await?, authorities)?)
}

/// The service that the settings name, with its key.
async fn endpoint(remote: &config::RemoteSandbox) -> anyhow::Result<Endpoint> {
    let source = models::key(remote.api_key_env.as_ref(), remote.api_key_command.as_ref());
    let key = match source {
        Some(source) => model::read_key(&source).await.map_err(|why| {
            let what = format!("The key of the sandbox service could not be read: {why}.");
            UserError::new(Kind::Settings, what)
                .with_hint("Check `sandbox.remote.apiKeyEnv` or `sandbox.remote.apiKeyCommand`.")
        })?,
        None => bail!("the sandbox service has no key: set `sandbox.remote.apiKeyEnv`"),
    };
    let url = remote.url.trim_end_matches('/').to_owned();
    Ok(Endpoint {
        addressing: addressing(remote.addressing, &url),
        address: Address::Url(url),
        key: key.expose().to_owned(),
    })
}

/// How requests name a sandbox, where the settings do not say: by the host, of a service at
/// `https://api.DOMAIN` as E2B's is, and else by headers.
fn addressing(asked: Option<SandboxAddressing>, url: &str) -> Addressing {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let domain = host.strip_prefix("api.");
    match (asked, domain) {
        (Some(SandboxAddressing::Header), _) | (None, None) => Addressing::Header,
        (Some(SandboxAddressing::Path), _) => Addressing::Path,
        (Some(SandboxAddressing::Subdomain) | None, domain) => {
            Addressing::Subdomain(domain.unwrap_or(host).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who stops waiting, as a task that is stopped does, leaves nothing that costs money.
    #[tokio::test]
    async fn a_sandbox_elsewhere_whose_user_left_while_it_was_made_or_filled_is_ended() {
        for is_made in [false, true] {
            left_while(is_made).await;
        }
    }

    /// Leaves before the service says that it made one, or while the folder is copied there.
    async fn left_while(is_made: bool) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        const MADE: &str = r#"{"sandboxID":"abc"}"#;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let remote = config::RemoteSandbox {
            url,
            api_key_command: Some(vec!["echo".to_owned(), "key".to_owned()]),
            ..config::RemoteSandbox::default()
        };
        let mut opening = tokio::spawn(async move {
            let create = Create {
                timeout: Some(3_600),
                ..Create::default()
            };
            Place::elsewhere(&remote, &[], create, LocalCreate::default()).await
        });
        let mut asked = Vec::new();
        let seen = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                // Whole, with its body, where it says what it makes.
                while !request.contains("\r\n\r\n")
                    || request.starts_with("POST /sandboxes ") && !request.ends_with("}}")
                {
                    let mut piece = vec![0; 4096];
                    let n = stream.read(&mut piece).await.unwrap();
                    assert!(n > 0, "{request}");
                    request.push_str(&String::from_utf8_lossy(&piece[..n]));
                }
                let line = request.lines().next().unwrap_or_default().to_owned();
                asked.push(line.clone());
                let body = match line.as_str() {
                    "POST /sandboxes HTTP/1.1" => {
                        // Not for the hour that a task may take.
                        assert!(request.contains("\"timeout\":300"), "{request}");
                        if !is_made {
                            opening.abort();
                            assert!((&mut opening).await.is_err());
                        }
                        MADE
                    }
                    "POST /sandboxes/abc/timeout HTTP/1.1" => "",
                    line if line.starts_with("DELETE ") => return line.to_owned(),
                    // The first command in it is never answered.
                    _ => {
                        opening.abort();
                        continue;
                    }
                };
                let n = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
        assert_eq!(seen.as_deref(), Ok("DELETE /sandboxes/abc HTTP/1.1"));
        let n_asked = if is_made { 4 } else { 2 };
        assert_eq!(asked.len(), n_asked, "{asked:?}");
    }

    #[test]
    fn sandboxes_are_addressed_as_the_service_does_it() {
        let subdomain = |domain: &str| Addressing::Subdomain(domain.to_owned());
        let by = |asked, url| addressing(asked, url);
        assert_eq!(
            by(None, "https://api.example.com"),
            subdomain("example.com")
        );
        assert_eq!(by(None, "http://10.0.0.5:3000"), Addressing::Header);
        let asked = Some(SandboxAddressing::Subdomain);
        assert_eq!(
            by(asked, "https://boxes.example.com"),
            subdomain("boxes.example.com")
        );
        let asked = Some(SandboxAddressing::Header);
        assert_eq!(by(asked, "https://api.example.com"), Addressing::Header);
    }
}
